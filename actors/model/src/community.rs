//! Communities: groups of groups. Never does IO.

use serde::Serialize;
use utoipa::ToSchema;

use super::group::is_false;
use super::{GroupId, ParticipantId};

/// A community with its groups, as `GET /communities/{cid}` answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Community {
    /// The community's own group id: that of the group which holds the others together.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// Its description, when it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub description: Option<String>,
    /// Who created it, when WhatsApp says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub owner: Option<ParticipantId>,
    /// Unix seconds of its creation, when WhatsApp says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub created_at: Option<u64>,
    /// How many people are in it.
    pub participants_count: u32,
    /// Whether this session's account is an admin of it.
    pub is_admin: bool,
    /// WhatsApp did not tell all of it, or nothing of it lately: what is here is what is known. Left out when it is whole.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false, example = false)]
    pub incomplete: bool,
    /// Its groups, ordered by id; also those that this session's account is not in.
    pub groups: Vec<CommunityGroup>,
}

/// A group of a community.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CommunityGroup {
    /// The group's id.
    pub id: GroupId,
    /// The subject.
    pub name: String,
    /// How many people are in it, when WhatsApp says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub participants_count: Option<u32>,
    /// Whether it is the one in which the community's admins write to everyone.
    pub is_announcement_group: bool,
    /// Whether it is the community's general chat.
    pub is_general_chat: bool,
    /// Whether this session's account is in it.
    pub is_member: bool,
}

/// A community to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCommunity {
    /// Its name.
    pub name: String,
    /// Its description, if any.
    pub description: Option<String>,
    /// People who want to join have to be approved.
    pub membership_approval: bool,
    /// Members who are no admins may add groups to it.
    pub members_may_add_groups: bool,
    /// A general chat is made with it.
    pub general_chat: bool,
}

/// What WhatsApp did for one group that was to be linked or unlinked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LinkResult {
    /// The group.
    pub id: GroupId,
    /// Whether it is now as asked for.
    pub success: bool,
    /// WhatsApp's own number, when it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub status: Option<u16>,
    /// Our closed word for it.
    pub code: LinkCode,
    /// A sentence for people; left out on success.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = String)]
    pub message: Option<&'static str>,
}

/// The closed set of outcomes for one group of a link or unlink.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkCode {
    /// Belongs to the community now.
    Linked,
    /// Belongs to no community now.
    Unlinked,
    /// The group does not exist or is not this account's.
    NotFound,
    /// This account may not do that to this group.
    NotAllowed,
    /// The group belongs to a community already.
    AlreadyLinked,
    /// The group does not belong to the community.
    NotLinked,
    /// The community has as many groups as WhatsApp allows.
    CommunityFull,
    /// Anything else; `status` has WhatsApp's number.
    Failed,
}
