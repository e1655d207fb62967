//! Groups and what WhatsApp said about their participants. Never does IO.

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use super::{GroupId, ParticipantId};

/// A group with its participants, as `GET /groups/{gid}` answers it. Field order is part of the contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
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
    /// Only admins may send messages.
    #[schema(example = false)]
    pub is_announce: bool,
    /// Only admins may send messages.
    #[schema(example = false)]
    pub announce: bool,
    /// Only admins may edit subject, description and picture.
    #[schema(example = false)]
    pub locked: bool,
    /// Seconds after which messages disappear; left out when they stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 86_400)]
    pub ephemeral_seconds: Option<u32>,
    /// `admin_add` or `all_member_add`, when WhatsApp says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "admin_add")]
    pub member_add_mode: Option<String>,
    /// The community it belongs to; `null` outside one.
    #[serde(rename = "linkedParentJID")]
    #[schema(value_type = Option<String>, required, example = json!(null))]
    pub linked_parent_jid: Option<GroupId>,
    /// Everyone in it, this session's account included.
    pub participants: Vec<Participant>,
}

/// One member of a group. In JSON also `number`, the digits of `id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// By phone number when known, else by LID.
    pub id: ParticipantId,
    /// The person's name, when known.
    pub name: Option<String>,
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
            Some(name) => json.serialize_field("name", name)?,
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

/// What is to happen to participants.
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

/// What WhatsApp did for one requested person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({ "id": "15550100002@c.us", "success": true, "status": 200, "code": "added" }))]
pub struct ParticipantResult {
    /// The person: by phone number when known, else by LID.
    pub id: ParticipantId,
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
    /// Privacy settings: may only be invited.
    InviteRequired,
    /// Left the group a short time ago and cannot be added back yet.
    RecentlyLeft,
    /// Blocks this account or is blocked by it.
    Blocked,
    /// The group has as many members as WhatsApp allows.
    GroupFull,
    /// WhatsApp does not allow this for this person.
    NotAllowed,
    /// WhatsApp asks to slow down.
    RateLimited,
    /// Anything else; `status` has WhatsApp's number.
    Failed,
}
