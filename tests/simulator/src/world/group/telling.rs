//! How WhatsApp sends a group when it does not send it properly: as a stub, with attributes missing or odd, or so that
//! nobody can read it. The group itself does not change.

use std::collections::BTreeMap;

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::node::NodeContent;

use super::{Group, group_user};
use crate::SimulatorError;
use crate::world::World;

/// The attributes of a stub.
const STUB_ATTRIBUTES: [&str; 2] = ["id", "size"];

/// How one group is sent to clients. The default sends it whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telling {
    /// Where the group is sent like this; empty: everywhere.
    pub at: Vec<ToldAt>,
    /// With its id and its size alone: no subject, no participants, no settings.
    pub stub: bool,
    /// Without these attributes of `<group>`, and without its children of these tags: `creation`, `subject`,
    /// `addressing_mode`, `id`, `participant`, `description`, ...
    pub without: Vec<String>,
    /// With these attributes of `<group>`, in place of its own.
    pub attributes: BTreeMap<String, String>,
    /// With these children besides its own.
    pub children: Vec<ToldChild>,
}

/// Where a group is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToldAt {
    /// When a client asks for all its groups.
    Full,
    /// When a client asks for this one, for some by their ids, or for the one behind an invite code.
    Single,
    /// In notifications and in answers to changes.
    Notification,
}

/// A child of `<group>` as it is to be sent, sensible or not.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ToldChild {
    /// Its tag.
    pub tag: String,
    /// Its attributes. Ids of people are texts here, as they may be nonsense.
    pub attributes: BTreeMap<String, String>,
    /// Its content, as bytes.
    pub content: Option<String>,
}

impl ToldChild {
    fn node(&self) -> Node {
        let mut node = NodeBuilder::new_dynamic(self.tag.clone()).build();
        for (key, value) in &self.attributes {
            node.attrs.insert(key.clone(), value.as_str());
        }
        node.content = self.content.as_ref().map(|content| NodeContent::Bytes(content.clone().into_bytes()));
        node
    }
}

impl World {
    /// Decides how a group is sent from now on; the default sends it whole again.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn set_telling(&self, gid: &str, telling: Telling) -> Result<(), SimulatorError> {
        let mut state = self.lock();
        let group = state.groups.get_mut(group_user(gid));
        group.ok_or_else(|| SimulatorError::UnknownGroup(gid.to_owned()))?.telling = telling;
        Ok(())
    }
}

impl Group {
    /// `<group>` as it is sent at this place.
    pub(super) fn told(&self, mut node: Node, at: ToldAt) -> Node {
        let telling = &self.telling;
        if !telling.at.is_empty() && !telling.at.contains(&at) {
            return node;
        }
        if telling.stub {
            node.attrs.0.retain(|(key, _)| STUB_ATTRIBUTES.contains(&key.as_ref()));
            node.content = None;
        }
        let is_left_out = |name: &str| telling.without.iter().any(|without| without == name);
        node.attrs.0.retain(|(key, _)| !is_left_out(key));
        for (key, value) in &telling.attributes {
            node.attrs.insert(key.clone(), value.as_str());
        }
        let mut children = match node.content.take() {
            Some(NodeContent::Nodes(children)) => children,
            _ => Vec::new(),
        };
        children.retain(|child| !is_left_out(&child.tag));
        children.extend(telling.children.iter().map(ToldChild::node));
        node.content = (!children.is_empty()).then_some(NodeContent::Nodes(children));
        node
    }
}
