//! What tests see of a group. Snapshots: they do not change afterwards.

/// A participant's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MemberView {
    /// Phone number, digits only.
    pub phone: String,
    /// The number of its LID.
    pub lid: String,
    /// Its role.
    pub role: Role,
}

/// A group as it is now.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
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
    /// Only admins may change subject and description.
    pub locked: bool,
    /// The code of its invite link.
    pub invite_code: String,
    /// Its participants, by phone number.
    pub participants: Vec<MemberView>,
    /// Version of the participant list, `p_v_id` on the wire. Increases with each add and remove.
    pub participant_version: u64,
    /// Version of the admin list, `a_v_id` on the wire. Increases with each promote and demote.
    pub admin_version: u64,
}
