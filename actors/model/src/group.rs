//! Groups, and WhatsApp's results for their participants. Never does IO.

use std::sync::Arc;
use std::time::Duration;

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use super::{GroupId, GroupSettings, ParticipantId};

/// A group with its participants, as `GET /groups/{gid}` answers it. Field order is part of the contract.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// The group's id.
    pub id: GroupId,
    /// The subject.
    #[schema(example = "Project Team")]
    pub name: String,
    /// The description, when it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "Where the project is talked about")]
    pub description: Option<String>,
    /// Who created it, when WhatsApp says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub owner: Option<ParticipantId>,
    /// Unix seconds of its creation, when WhatsApp says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 1_700_000_000)]
    pub created_at: Option<u64>,
    /// Equals `isAnnounce`.
    #[schema(example = false)]
    pub is_read_only: bool,
    /// Only admins may send messages: equals `announce`.
    #[schema(example = false)]
    pub is_announce: bool,
    /// What is set in it.
    #[serde(flatten)]
    pub settings: GroupSettings,
    /// The community it belongs to; `null` outside one.
    #[serde(rename = "linkedParentJID")]
    #[schema(value_type = Option<String>, required, example = json!(null))]
    pub linked_parent_jid: Option<GroupId>,
    /// Whether it is a community: a group that holds other groups together.
    #[schema(example = false)]
    pub is_community: bool,
    /// WhatsApp did not tell all of it, or nothing of it lately: what is here is what is known. Left out when it is whole.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false, example = false)]
    pub incomplete: bool,
    /// Everyone in it, this session's account included.
    pub participants: Vec<Participant>,
}

/// One member of a group. In JSON also `number`, the digits of `id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Participant {
    /// By phone number when known, else by LID.
    pub id: ParticipantId,
    /// The person's name, when known.
    pub name: Option<Arc<str>>,
    /// Admin or super admin.
    pub is_admin: bool,
    /// The group's owner in WhatsApp's eyes.
    pub is_super_admin: bool,
}

/// The fields of [`Participant`] in JSON, for the API's document.
#[derive(ToSchema)]
#[schema(as = Participant, rename_all = "camelCase", description = "One member of a group.")]
#[expect(dead_code, reason = "only its schema is used")]
struct ParticipantFields {
    /// By phone number when known, else by LID.
    id: ParticipantId,
    /// The digits of `id`.
    #[schema(example = "15550100001")]
    number: String,
    /// The person's name, when known.
    #[schema(nullable = false, example = "Alice")]
    name: Option<String>,
    /// Admin or super admin.
    is_admin: bool,
    /// The group's owner in WhatsApp's eyes.
    is_super_admin: bool,
}

impl PartialSchema for Participant {
    fn schema() -> RefOr<Schema> {
        ParticipantFields::schema()
    }
}

impl ToSchema for Participant {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        ParticipantFields::schemas(schemas);
    }
}

impl Serialize for Participant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = serializer.serialize_struct("Participant", 5)?;
        json.serialize_field("id", &self.id)?;
        json.serialize_field("number", &format_args!("{}", self.id.digits()))?;
        match &self.name {
            Some(name) => json.serialize_field("name", &**name)?,
            None => json.skip_field("name")?,
        }
        json.serialize_field("isAdmin", &self.is_admin)?;
        json.serialize_field("isSuperAdmin", &self.is_super_admin)?;
        json.end()
    }
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupSummary {
    /// The group's id.
    pub id: GroupId,
    /// The subject.
    #[schema(example = "Project Team")]
    pub name: String,
    /// How many people are in it.
    #[schema(example = 12)]
    pub participants_count: u32,
    /// Whether this session's account is an admin of it.
    pub is_admin: bool,
    /// The community it belongs to; `null` outside one.
    #[serde(rename = "linkedParentJID")]
    #[schema(value_type = Option<String>, required, example = json!(null))]
    pub linked_parent_jid: Option<GroupId>,
    /// Whether it is a community: a group that holds other groups together.
    #[schema(example = false)]
    pub is_community: bool,
    /// WhatsApp did not tell all of it, or nothing of it lately: what is here is what is known. Left out when it is whole.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false, example = false)]
    pub incomplete: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over like this")]
pub(super) fn is_false(value: &bool) -> bool {
    !value
}

/// A new group, and what became of each person it was to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct CreatedGroup {
    /// The group; people whom WhatsApp refused are not counted.
    #[serde(flatten)]
    pub summary: GroupSummary,
    /// One entry per requested person, in the order of the request.
    pub results: Vec<ParticipantResult>,
}

/// A change of participants.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum ParticipantChange {
    /// Becomes a member.
    Add,
    /// Is a member no longer.
    Remove,
    /// Becomes an admin.
    Promote,
    /// Is an admin no longer.
    Demote,
}

impl ParticipantChange {
    /// As a noun phrase that can start a sentence.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Add => "Adding participants",
            Self::Remove => "Removing participants",
            Self::Promote => "Promoting participants",
            Self::Demote => "Demoting participants",
        }
    }
}

/// An admin's decision about people who asked to be let in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MembershipDecision {
    /// They become members.
    Approve,
    /// They do not.
    Reject,
}

impl MembershipDecision {
    /// As a noun phrase that can start a sentence.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Approve => "Approving membership requests",
            Self::Reject => "Rejecting membership requests",
        }
    }
}

/// Somebody who asked to be let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MembershipRequest {
    /// Who wants to become a member.
    pub participant_id: ParticipantId,
    /// The member who proposed them, when it was not their own idea.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub added_by_id: Option<ParticipantId>,
    /// How they asked, when WhatsApp says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub method: Option<RequestMethod>,
    /// Unix seconds of the request, when WhatsApp says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 1_700_000_000)]
    pub requested_at: Option<u64>,
}

/// How somebody asked to be let in.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestMethod {
    /// By following the invite link.
    InviteLink,
    /// As a member of the community.
    LinkedGroupJoin,
    /// A member who is no admin proposed them.
    NonAdminAdd,
}

/// What an invite code tells about its group before one joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinInfo {
    /// The group's id.
    pub id: GroupId,
    /// The subject.
    #[schema(example = "Project Team")]
    pub name: String,
    /// The description, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "Where the project is talked about")]
    pub description: Option<String>,
    /// Who created it, when WhatsApp says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub owner: Option<ParticipantId>,
    /// Unix seconds of its creation, when WhatsApp says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 1_700_000_000)]
    pub created_at: Option<u64>,
    /// How many people are in it, when WhatsApp says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 12)]
    pub participant_count: Option<u32>,
}

/// The result of a join by invite code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The group.
    pub group: GroupId,
    /// An admin has to approve the join first: the account is not in the group yet.
    pub pending_approval: bool,
    /// The account was in the group before.
    pub already_member: bool,
}

/// A value that may be out of date.
#[derive(Clone, Debug)]
pub struct Aged<T> {
    /// The value that was read.
    pub value: T,
    /// For how long the session has not heard from WhatsApp; `None`: the session is ready, so the value is current.
    pub stale_for: Option<Duration>,
}

/// A value with the tag that shows whether the value changed; without the value when the caller has it already.
#[derive(Clone, Debug)]
pub struct Tagged<T> {
    /// Equal tags mean equal values; the same over restarts.
    pub tag: u64,
    /// The value; `None` when the caller knows this tag already.
    pub value: Option<Arc<T>>,
}

/// What WhatsApp did for one requested person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({ "id": "15550100002@c.us", "success": true, "status": 200, "code": "added" }))]
pub struct ParticipantResult {
    /// The person: by phone number when known, else by LID.
    pub id: ParticipantId,
    /// The participant as the request names them, where this text is neither `id` nor its digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub requested: Option<String>,
    /// Whether the request is now true of that person because of this call.
    pub success: bool,
    /// WhatsApp's own number, when it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub status: Option<u16>,
    /// Our closed word for it.
    pub code: ResultCode,
    /// A sentence for people; left out on success.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub message: Option<String>,
}

/// The closed set of outcomes for one participant.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResultCode {
    /// Now a member.
    Added,
    /// No longer a member.
    Removed,
    /// Now an admin.
    Promoted,
    /// No longer an admin.
    Demoted,
    /// Was a member before.
    AlreadyMember,
    /// Is not a member of the group.
    NotMember,
    /// The number has no WhatsApp account.
    NotOnWhatsapp,
    /// Let into the group on their request.
    Approved,
    /// Their request was turned down.
    Rejected,
    /// Privacy settings: may only be invited.
    InviteRequired,
    /// May only be invited, and WhatsApp's private invitation was sent.
    InviteSent,
    /// An admin has to let them in: the request for that was made.
    ApprovalPending,
    /// Did not ask to be let in.
    NoRequest,
    /// Left the group a short time ago and cannot be added back yet.
    RecentlyLeft,
    /// Blocks this account or is blocked by it.
    Blocked,
    /// The group has as many members as WhatsApp allows.
    GroupFull,
    /// WhatsApp does not allow this for this person.
    NotAllowed,
    /// WhatsApp restricts this account: it may not reach out to people whom it has no chat with.
    ReachoutTimelock,
    /// WhatsApp's rate limit was reached.
    RateLimited,
    /// Anything else; `status` has WhatsApp's number.
    Failed,
    /// The result for this person is unknown: the change may have been made.
    OutcomeUnknown,
}
