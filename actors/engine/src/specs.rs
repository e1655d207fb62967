//! Our own requests, where the engine's lose a part of WhatsApp's answer: reads lose settings, a create loses refusals
//! and cannot be matched with its notification. Ours build the engine's stanzas and parse the whole answer.

use anyhow::anyhow;
use wacore::iq::groups::{
    GetGroupInviteInfoIq, GetMembershipRequestsIq, GroupCreateIq, GroupCreateOptions, GroupDescription,
    GroupParticipantOptions, GroupParticipatingIq, GroupQueryIq,
};
use wacore::iq::spec::IqSpec;
use wacore::request::{InfoQuery, RequestUtils};
use wacore_binary::{Jid, NodeContent, NodeRef};

use super::requests::{Applicant, NewGroup, NewGroupPlace};
use super::{group_node, ids, texts};
use rookery_model::{AllGroups, GroupRecord};
use rookery_model::{JoinInfo, MembershipRequest, RequestMethod};

/// All groups of the account, with their members.
pub(super) struct ReadAllGroups;

impl IqSpec for ReadAllGroups {
    type Response = AllGroups;

    fn build_iq(&self) -> InfoQuery<'static> {
        GroupParticipatingIq::new().build_iq()
    }

    fn parse_response(&self, response: &NodeRef<'_>) -> anyhow::Result<Self::Response> {
        let groups = response.get_optional_child("groups").ok_or_else(|| anyhow!("the answer has no <groups>"))?;
        Ok(group_node::all_groups(groups))
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
        record_in(response)
    }
}

/// Makes a group. Its `key` comes back in the notification about it.
pub(super) struct CreateGroup(pub(super) NewGroup);

/// A new group, and the people whom WhatsApp refused, with its status codes. Nobody is in both.
pub(super) struct CreateGroupResponse {
    pub(super) record: GroupRecord,
    pub(super) refused: Vec<super::ParticipantAnswer>,
}

impl IqSpec for CreateGroup {
    type Response = CreateGroupResponse;

    fn build_iq(&self) -> InfoQuery<'static> {
        let new = &self.0;
        let participants = new.participants.iter().copied().map(ids::jid).map(GroupParticipantOptions::new);
        let mut options = GroupCreateOptions::new(new.subject.clone()).with_participants(participants.collect());
        match &new.place {
            NewGroupPlace::Alone => {}
            NewGroupPlace::In(community) => options.linked_parent = Some(ids::group_jid(community)),
            NewGroupPlace::Community(community) => {
                options.is_parent = true;
                options.closed = community.membership_approval;
                options.allow_non_admin_sub_group_creation = community.members_may_add_groups;
                options.create_general_chat = community.general_chat;
                options.description = community.description.as_deref().and_then(|d| GroupDescription::new(d).ok());
            }
        }
        let mut query = GroupCreateIq::new(options).build_iq();
        if let Some(NodeContent::Nodes(children)) = &mut query.content {
            for create in children.iter_mut().filter(|child| child.tag == "create") {
                create.attrs.insert("key", new.key.clone());
            }
        }
        query
    }

    fn parse_response(&self, response: &NodeRef<'_>) -> anyhow::Result<Self::Response> {
        let record = record_in(response)?;
        let refused = group_node::participants(node_in(response)?).filter(|node| node.get_attr("error").is_some());
        let refused = refused.filter_map(super::ParticipantAnswer::from_node);
        // A person who is named by two ids is added by one id and refused by the other.
        let refused = refused.filter(|answer| record.member(&answer.person).is_none()).collect();
        Ok(CreateGroupResponse { record, refused })
    }
}

/// A request of the engine's with a user's text, such as a subject. The text is written as bytes
/// ([`texts`](super::texts)).
pub(super) struct WithText<S>(pub(super) S);

impl<S: IqSpec> IqSpec for WithText<S> {
    type Response = S::Response;

    fn build_iq(&self) -> InfoQuery<'static> {
        self.0.build_iq()
    }

    fn encode_iq_direct(&self, request_id: &str, out: &mut Vec<u8>) -> anyhow::Result<bool> {
        let requests = RequestUtils::new(String::new());
        texts::encode(&requests.build_iq_node(self.build_iq(), Some(request_id.to_owned())), out)?;
        Ok(true)
    }

    fn parse_response(&self, response: &NodeRef<'_>) -> anyhow::Result<Self::Response> {
        self.0.parse_response(response)
    }
}

/// A request of the engine's about participants. The answer is read as one result per participant, with all their ids.
pub(super) struct AboutParticipants<S>(pub(super) S);

impl<S: IqSpec> IqSpec for AboutParticipants<S> {
    type Response = Vec<super::ParticipantAnswer>;

    fn build_iq(&self) -> InfoQuery<'static> {
        self.0.build_iq()
    }

    fn parse_response(&self, response: &NodeRef<'_>) -> anyhow::Result<Self::Response> {
        let mut answers = Vec::new();
        collect_participants(response, &mut answers);
        Ok(answers)
    }
}

/// Reads the `<participant>` nodes, which stand in a node named after the request, or one deeper.
fn collect_participants(node: &NodeRef<'_>, answers: &mut Vec<super::ParticipantAnswer>) {
    for child in node.children().unwrap_or_default() {
        if child.tag == "participant" {
            answers.extend(super::ParticipantAnswer::from_node(child));
        } else {
            collect_participants(child, answers);
        }
    }
}

/// Reads the details of a group that its invite code shows.
pub(super) struct ReadInvite(pub(super) String);

impl IqSpec for ReadInvite {
    type Response = JoinInfo;

    fn build_iq(&self) -> InfoQuery<'static> {
        GetGroupInviteInfoIq::new(self.0.as_str()).build_iq()
    }

    fn parse_response(&self, response: &NodeRef<'_>) -> anyhow::Result<Self::Response> {
        let record = record_in(response)?;
        let size = node_in(response)?.attrs().optional_u64("size").and_then(|size| size.try_into().ok());
        let listed = u32::try_from(record.members.len()).ok().filter(|count| *count > 0);
        Ok(JoinInfo {
            id: record.id,
            name: record.subject,
            description: record.description,
            owner: record.owner.and_then(|owner| owner.id()),
            created_at: record.created_at,
            participant_count: size.or(listed),
        })
    }
}

/// Reads the people who asked to be let in. The engine's parser keeps neither their phone numbers nor their proposers.
pub(super) struct ReadMembershipRequests(pub(super) Jid);

impl IqSpec for ReadMembershipRequests {
    type Response = Vec<Applicant>;

    /// Adds `requestor_fetch`, with which WhatsApp Web asks for the proposers.
    fn build_iq(&self) -> InfoQuery<'static> {
        let mut query = GetMembershipRequestsIq::new(&self.0).build_iq();
        if let Some(NodeContent::Nodes(children)) = &mut query.content {
            for list in children {
                list.attrs.insert("requestor_fetch", "true");
            }
        }
        query
    }

    fn parse_response(&self, response: &NodeRef<'_>) -> anyhow::Result<Self::Response> {
        let list = response.get_optional_child("membership_approval_requests");
        let list = list.ok_or_else(|| anyhow!("the answer has no list of requests"))?;
        Ok(list.get_children_by_tag("membership_approval_request").filter_map(membership_request).collect())
    }
}

fn membership_request(node: &NodeRef<'_>) -> Option<Applicant> {
    let mut attrs = node.attrs();
    let (jid, phone) = (attrs.optional_jid("jid"), attrs.optional_jid("phone_number"));
    let (added_by, added_by_phone) = (attrs.optional_jid("requestor"), attrs.optional_jid("requestor_pn"));
    let person = ids::person_of([jid.as_ref(), phone.as_ref(), None])?;
    let added_by = ids::person_of([added_by.as_ref(), added_by_phone.as_ref(), None]);
    let method = match attrs.optional_string("request_method").as_deref() {
        Some("invite_link") => Some(RequestMethod::InviteLink),
        Some("linked_group_join") => Some(RequestMethod::LinkedGroupJoin),
        Some("non_admin_add") => Some(RequestMethod::NonAdminAdd),
        _ => None,
    };
    let request = MembershipRequest {
        participant_id: person.id()?,
        // Some servers name people who asked for themselves as their own requestors.
        added_by_id: added_by.filter(|added_by| !added_by.is(&person)).and_then(|added_by| added_by.id()),
        method,
        requested_at: attrs.optional_u64("request_time"),
    };
    Some(Applicant { person, request })
}

fn record_in(response: &NodeRef<'_>) -> anyhow::Result<GroupRecord> {
    group_node::group_record(node_in(response)?).ok_or_else(|| anyhow!("the answer names no group id"))
}

fn node_in<'a, 'b>(response: &'a NodeRef<'b>) -> anyhow::Result<&'a NodeRef<'b>> {
    let group = response.get_optional_child("group").or_else(|| response.get_optional_child("community"));
    group.ok_or_else(|| anyhow!("the answer has no <group>"))
}
