//! The known state of one group, as it is cached and stored. The group cache merges two reads. Never does IO.

mod delta;
mod stored;

use std::num::NonZeroU64;

use serde::{Deserialize, Deserializer, Serialize};

pub use delta::GroupDelta;
pub use stored::unread_settings;

use crate::{GroupId, GroupSettings, ParticipantId, Setting};

/// A person by every id that is known: phone number, LID or both. 16 bytes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ParticipantIds {
    /// The phone number's digits.
    pub phone: Option<NonZeroU64>,
    /// The digits of the LID.
    pub lid: Option<NonZeroU64>,
}

impl ParticipantIds {
    /// Whether both are the same person by any of their ids.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        (self.phone.is_some() && self.phone == other.phone) || (self.lid.is_some() && self.lid == other.lid)
    }

    /// The one id that answers show: the phone number whenever known, else the LID.
    #[must_use]
    pub fn id(&self) -> Option<ParticipantId> {
        self.ids().next()
    }

    /// Every id that is known.
    pub fn ids(&self) -> impl Iterator<Item = ParticipantId> + use<> {
        let phone = self.phone.map(|digits| ParticipantId::Phone(digits.get()));
        phone.into_iter().chain(self.lid.map(|digits| ParticipantId::Lid(digits.get())))
    }

    /// Adds the ids of `other`, which is the same person.
    pub fn learn(&mut self, other: &Self) {
        self.phone = self.phone.or(other.phone);
        self.lid = self.lid.or(other.lid);
    }
}

impl From<ParticipantId> for ParticipantIds {
    fn from(id: ParticipantId) -> Self {
        match id {
            ParticipantId::Phone(digits) => Self { phone: NonZeroU64::new(digits), lid: None },
            ParticipantId::Lid(digits) => Self { phone: None, lid: NonZeroU64::new(digits) },
        }
    }
}

/// The rights of a member.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// A plain member.
    #[serde(rename = "m")]
    Member,
    /// An admin.
    #[serde(rename = "a")]
    Admin,
    /// The owner.
    #[serde(rename = "s")]
    SuperAdmin,
}

/// One member of a group. 24 bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// The person.
    pub person: ParticipantIds,
    /// The person's rights.
    pub role: Role,
}

/// A group as the server describes it. Also the stored record: every field but `id` has a default, so that versions
/// with more and with fewer fields can read it (`group_record/stored.rs`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// The group.
    pub id: GroupId,
    /// Its name.
    #[serde(default)]
    pub subject: String,
    /// Unix seconds of the last change of the subject.
    #[serde(default)]
    pub subject_at: u64,
    /// Its description; `None` when it has none.
    #[serde(default)]
    pub description: Option<String>,
    /// The server's token for the description: the next change has to name it.
    #[serde(default)]
    pub description_id: Option<String>,
    /// Unix seconds of the last change of the description.
    #[serde(default)]
    pub description_at: u64,
    /// Who made it, when WhatsApp says so.
    #[serde(default)]
    pub owner: Option<ParticipantIds>,
    /// Unix seconds of its creation, when WhatsApp says so.
    #[serde(default)]
    pub created_at: Option<u64>,
    /// Its settings.
    #[serde(default, with = "stored::settings")]
    pub settings: GroupSettings,
    /// Unix seconds of each setting's last known change, by [`Setting::index`].
    #[serde(default, with = "stored::settings_at")]
    pub settings_at: [u32; Setting::COUNT],
    /// The community that it belongs to.
    #[serde(default)]
    pub linked_parent: Option<GroupId>,
    /// It is a community itself.
    #[serde(default)]
    pub is_community: bool,
    /// Which part of its community it is, when it is a special one.
    #[serde(default, deserialize_with = "known_role")]
    pub community_role: CommunityRole,
    /// Members are addressed by LID, not by phone number.
    #[serde(default)]
    pub lid_addressing: bool,
    /// Version of the member list (`p_v_id`).
    #[serde(default)]
    pub participants_version: Option<u64>,
    /// Version of the admin list (`a_v_id`).
    #[serde(default)]
    pub admins_version: Option<u64>,
    /// Its members, in WhatsApp's order.
    #[serde(default, with = "stored_members")]
    pub members: Vec<Member>,
    /// How much of it is known.
    #[serde(default, skip_serializing_if = "Completeness::is_whole")]
    pub completeness: Completeness,
    /// WhatsApp's count of the members, where not all of them are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
}

/// How much of a group is known.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Completeness {
    /// All of it.
    #[default]
    Whole,
    /// All that could be read: some member or value could not.
    Part,
    /// Only that the group exists.
    Stub,
    /// The state known before: the latest read showed only that the group exists.
    Outdated,
}

impl Completeness {
    /// Whether all of the group is known.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
}

/// The purpose of a group in its community.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommunityRole {
    /// Nothing special.
    #[default]
    Plain,
    /// The community's admins write to everyone in it.
    Announcements,
    /// The general chat.
    GeneralChat,
}

/// Reads a role that only another version knows as [`CommunityRole::Plain`]; the next read of the group corrects it.
fn known_role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CommunityRole, D::Error> {
    let stored = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(stored).unwrap_or_default())
}

/// Members as `[phone, LID, role]`, 0 where an id is not known: a third of what their field names would take on disk.
mod stored_members {
    use std::num::NonZeroU64;

    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::{Member, ParticipantIds, Role};

    type Stored = (u64, u64, Role);

    pub(super) fn serialize<S: Serializer>(members: &[Member], serializer: S) -> Result<S::Ok, S::Error> {
        let digits = |id: Option<NonZeroU64>| id.map_or(0, NonZeroU64::get);
        serializer.collect_seq(members.iter().map(|m| (digits(m.person.phone), digits(m.person.lid), m.role)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Member>, D::Error> {
        let stored = Vec::<Stored>::deserialize(deserializer)?;
        let member = |(phone, lid, role)| Member {
            person: ParticipantIds { phone: NonZeroU64::new(phone), lid: NonZeroU64::new(lid) },
            role,
        };
        let mut members: Vec<Member> = stored.into_iter().map(member).collect();
        // As for groups read from WhatsApp: no spare capacity is kept.
        members.shrink_to_fit();
        Ok(members)
    }
}

impl GroupRecord {
    /// The member with any of these ids.
    pub fn member(&self, person: &ParticipantIds) -> Option<&Member> {
        self.members.iter().find(|member| member.person.is(person))
    }

    /// Adds a member, or learns more ids of one that is in the list.
    pub fn add(&mut self, new: Member) {
        match self.members.iter_mut().find(|member| member.person.is(&new.person)) {
            Some(member) => member.person.learn(&new.person),
            None => {
                // Groups are many and rarely grow: no spare capacity is kept.
                self.members.reserve_exact(1);
                self.members.push(new);
            }
        }
    }

    /// This group as after a read that showed only that the group exists.
    pub fn untold(&self) -> Self {
        Self { completeness: Completeness::Stub, size: None, ..self.clone() }
    }

    /// Removes a member; nothing when there is no such member.
    pub fn remove(&mut self, person: &ParticipantIds) {
        self.members.retain(|member| !member.person.is(person));
    }

    /// Makes a member an admin or a plain member; the owner stays the owner on a promotion. False when there is no such
    /// member.
    pub fn set_admin(&mut self, person: &ParticipantIds, admin: bool) -> bool {
        let Some(member) = self.members.iter_mut().find(|member| member.person.is(person)) else { return false };
        member.person.learn(person);
        member.role = match (admin, member.role) {
            (true, Role::SuperAdmin) => Role::SuperAdmin,
            (true, _) => Role::Admin,
            (false, _) => Role::Member,
        };
        true
    }
}

impl Member {
    /// A member without rights.
    pub fn plain(person: ParticipantIds) -> Self {
        Self { person, role: Role::Member }
    }
}

/// The result of a read of all groups.
#[derive(Clone, Debug, Default)]
pub struct AllGroups {
    /// The groups that could be read.
    pub groups: Vec<GroupRecord>,
    /// How many further groups could not be read. If there are any, no group can be taken for gone.
    pub unreadable: usize,
}

impl AllGroups {
    /// How many of the groups are not whole.
    pub fn incomplete(&self) -> usize {
        self.groups.iter().filter(|group| !group.completeness.is_whole()).count()
    }
}
