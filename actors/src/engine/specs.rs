//! Own requests where the engine's drop what WhatsApp answered: reads lose settings, a create loses refusals and
//! cannot be matched with its notification. They build the engine's own stanzas and parse the whole answer.

use wacore::iq::groups::{
    GroupCreateIq, GroupCreateOptions, GroupParticipantOptions, GroupParticipatingIq, GroupQueryIq,
};
use wacore::iq::spec::IqSpec;
use wacore::request::InfoQuery;
use wacore_binary::{Jid, NodeContent, NodeRef};

use super::convert;
use crate::group_cache::GroupRecord;

/// All groups of the account, with their members.
pub(super) struct ReadAllGroups;

impl IqSpec for ReadAllGroups {
    type Response = Vec<GroupRecord>;

    fn build_iq(&self) -> InfoQuery<'static> {
        GroupParticipatingIq::new().build_iq()
    }

    fn parse_response(&self, response: &NodeRef<'_>) -> anyhow::Result<Self::Response> {
        let groups =
            response.get_optional_child("groups").ok_or_else(|| anyhow::anyhow!("the answer has no <groups>"))?;
        groups.get_children_by_tag("group").map(convert::group_record).collect()
    }
}

/// One group with its members.
pub(super) struct ReadGroup(pub(super) Jid);

impl IqSpec for ReadGroup {
    type Response = GroupRecord;

    fn build_iq(&self) -> InfoQuery<'static> {
        GroupQueryIq::new(&self.0).build_iq()
    }

    fn parse_response(&self, response: &NodeRef<'_>) -> anyhow::Result<Self::Response> {
        convert::group_record(group_node(response)?)
    }
}

/// Makes a group. `key` comes back in the notification about it.
pub(super) struct CreateGroup {
    pub(super) subject: String,
    pub(super) participants: Vec<Jid>,
    pub(super) key: String,
}

/// A new group, and the people whom WhatsApp did not take: their ids and its number.
pub(super) struct Created {
    pub(super) record: GroupRecord,
    pub(super) refused: Vec<super::ParticipantAnswer>,
}

impl IqSpec for CreateGroup {
    type Response = Created;

    fn build_iq(&self) -> InfoQuery<'static> {
        let participants = self.participants.iter().cloned().map(GroupParticipantOptions::new).collect();
        let options = GroupCreateOptions::new(self.subject.clone()).with_participants(participants);
        let mut query = GroupCreateIq::new(options).build_iq();
        if let Some(NodeContent::Nodes(children)) = &mut query.content {
            for create in children.iter_mut().filter(|child| child.tag == "create") {
                create.attrs.insert("key", self.key.clone());
            }
        }
        query
    }

    fn parse_response(&self, response: &NodeRef<'_>) -> anyhow::Result<Self::Response> {
        let group = group_node(response)?;
        let refused = convert::participants(group).filter(|p| p.get_attr("error").is_some());
        Ok(Created {
            record: convert::group_record(group)?,
            refused: refused.filter_map(super::ParticipantAnswer::from_node).collect(),
        })
    }
}

fn group_node<'a, 'b>(response: &'a NodeRef<'b>) -> anyhow::Result<&'a NodeRef<'b>> {
    response.get_optional_child("group").ok_or_else(|| anyhow::anyhow!("the answer has no <group>"))
}
