//! Groups that WhatsApp has suspended: they can be read and left, and nothing else.

use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;

use super::group::{Group, group_user};
use super::{State, World};
use crate::SimulatorError;
use crate::stanza::empty;

/// The details of a suspension by WhatsApp.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Suspension {
    /// An appeal may be made without anybody asking for it.
    pub can_auto_file: bool,
    /// How the appeal stands: `none`, `in_review`, `approved`, `rejected`, or a word that clients do not know.
    pub appeal: Option<String>,
    /// Time of the appeal's last change, in seconds since 1970.
    pub appeal_updated_at: Option<u64>,
}

impl Suspension {
    /// The children of `<group>`.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let suspended = NodeBuilder::new("suspended");
        let suspended = if self.can_auto_file { suspended.attr("can_auto_file", "true") } else { suspended };
        let appeal = self.appeal.as_deref().map(|appeal| NodeBuilder::new("appeal_status").attr("type", appeal));
        let updated_at = self.appeal_updated_at;
        let updated =
            updated_at.map(|updated_at| NodeBuilder::new("appeal_update_time").attr("value", updated_at.to_string()));
        [Some(suspended), appeal, updated].into_iter().flatten().map(NodeBuilder::build).collect()
    }
}

impl World {
    /// WhatsApp suspends a group, or ends the suspension with `None`. All members are notified; nobody is named as the
    /// author.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn set_suspension(&self, gid: &str, suspension: Option<Suspension>) -> Result<(), SimulatorError> {
        let mut state = self.lock();
        let id = group_user(gid);
        let group = state.groups.get_mut(id).ok_or_else(|| SimulatorError::UnknownGroup(gid.to_owned()))?;
        let action = if suspension.is_some() { "suspended" } else { "unsuspended" };
        group.suspension = suspension;
        let members = group.phones();
        let notice = state.notice_by(id, None, members, empty(action));
        state.publish(notice.as_slice(), None);
        Ok(())
    }
}

impl State {
    /// Whether WhatsApp has suspended the group.
    pub(crate) fn is_suspended(&self, group: &str) -> bool {
        self.groups.get(group).is_some_and(Group::is_suspended)
    }
}
