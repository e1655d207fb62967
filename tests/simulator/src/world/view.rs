//! What tests see of a group. Snapshots: they do not change afterwards.

/// A participant's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// An ordinary member.
    Member,
    /// An admin.
    Admin,
    /// The owner, whom other admins can neither demote nor remove.
    SuperAdmin,
}

/// One participant.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MemberView {
    /// Phone number, digits only.
    pub phone: String,
    /// The number of its LID.
    pub lid: String,
    /// Its role.
    pub role: Role,
}

/// How a request to be let in was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinMethod {
    /// By following the invite link.
    InviteLink,
    /// A member who is no admin wanted to add that person.
    NonAdminAdd,
    /// From the community that the group is linked to.
    LinkedGroupJoin,
}

impl JoinMethod {
    /// The word in `request_method`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::InviteLink => "invite_link",
            Self::NonAdminAdd => "non_admin_add",
            Self::LinkedGroupJoin => "linked_group_join",
        }
    }
}

/// Somebody who waits to be let in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct JoinRequestView {
    /// Phone number of the person who waits.
    pub phone: String,
    /// Phone number of the requestor: the person who waits, or a member.
    pub requestor: String,
    /// How the request was made.
    pub method: JoinMethod,
}

/// A group as it is now.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct GroupView {
    /// Its id with `@g.us`.
    pub id: String,
    /// Its subject.
    pub subject: String,
    /// Its description; `None` when it has none.
    pub description: Option<String>,
    /// Only admins may send messages.
    pub announce: bool,
    /// Only admins may change subject, description and picture.
    pub locked: bool,
    /// After how many seconds messages disappear; `None`: they stay.
    pub ephemeral_s: Option<u32>,
    /// People who follow the invite link have to be let in by an admin.
    pub approval: bool,
    /// All members may add people.
    pub members_add: bool,
    /// All members may see the invite code.
    pub members_link: bool,
    /// All members may share the history with new members.
    pub members_share_history: bool,
    /// Messages may not be exported or used elsewhere.
    pub limit_sharing: bool,
    /// Messages that were forwarded often are not let in.
    pub no_frequently_forwarded: bool,
    /// Members may report messages to the admins.
    pub admin_reports: bool,
    /// New members get the recent messages.
    pub group_history: bool,
    /// WhatsApp has suspended the group.
    pub suspended: bool,
    /// The id of its picture; `None` when it has none.
    pub picture_id: Option<String>,
    /// The group is a community.
    pub is_community: bool,
    /// The id, with `@g.us`, of the community that the group is linked to.
    pub parent: Option<String>,
    /// The group is its community's announcement group.
    pub default_sub_group: bool,
    /// The group is its community's general chat.
    pub general_chat: bool,
    /// The code of its invite link.
    pub invite_code: String,
    /// Its participants, by phone number.
    pub participants: Vec<MemberView>,
    /// The people who wait to be let in, by phone number.
    pub join_requests: Vec<JoinRequestView>,
    /// Version of the participant list, `p_v_id` on the wire. Increases with each add, remove and change of a phone
    /// number.
    pub participant_version: u64,
    /// Version of the admin list, `a_v_id` on the wire. Increases with each promote and demote.
    pub admin_version: u64,
}
