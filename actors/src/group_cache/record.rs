//! What is known of one group, and its merge with a newer or older reading of it. Never does IO.

mod stored;

use std::num::NonZeroU64;

use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use stored::unread_settings;

use super::names::Names;
use crate::model::{Group, GroupId, GroupSettings, GroupSummary, Participant, ParticipantId, Setting};

/// A person by every id that is known: phone number, LID or both. 16 bytes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Person {
    pub(crate) phone: Option<NonZeroU64>,
    pub(crate) lid: Option<NonZeroU64>,
}

impl Person {
    /// Whether both are the same person by any of their ids.
    pub(crate) fn is(&self, other: &Self) -> bool {
        (self.phone.is_some() && self.phone == other.phone) || (self.lid.is_some() && self.lid == other.lid)
    }

    /// The one id that answers show: the phone number whenever known, else the LID.
    pub(crate) fn id(&self) -> Option<ParticipantId> {
        self.ids().next()
    }

    /// Every id that is known.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ParticipantId> + use<> {
        let phone = self.phone.map(|digits| ParticipantId::Phone(digits.get()));
        phone.into_iter().chain(self.lid.map(|digits| ParticipantId::Lid(digits.get())))
    }

    /// Takes over ids that the other knows of the same person.
    pub(crate) fn learn(&mut self, other: &Self) {
        self.phone = self.phone.or(other.phone);
        self.lid = self.lid.or(other.lid);
    }
}

impl From<ParticipantId> for Person {
    fn from(id: ParticipantId) -> Self {
        match id {
            ParticipantId::Phone(digits) => Self { phone: NonZeroU64::new(digits), lid: None },
            ParticipantId::Lid(digits) => Self { phone: None, lid: NonZeroU64::new(digits) },
        }
    }
}

/// What a member may do.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
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
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) person: Person,
    pub(crate) role: Role,
}

/// A group as the server describes it. Also the stored record: a field has a default there, so that versions with more and with
/// fewer of them read it (`record/stored.rs`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupRecord {
    pub(crate) id: GroupId,
    #[serde(default)]
    pub(crate) subject: String,
    /// Unix seconds of the last change of the subject.
    #[serde(default)]
    pub(crate) subject_at: u64,
    #[serde(default)]
    pub(crate) description: Option<String>,
    /// The server's token for the description: the next change has to name it.
    #[serde(default)]
    pub(crate) description_id: Option<String>,
    /// Unix seconds of the last change of the description.
    #[serde(default)]
    pub(crate) description_at: u64,
    #[serde(default)]
    pub(crate) owner: Option<Person>,
    #[serde(default)]
    pub(crate) created_at: Option<u64>,
    #[serde(default, with = "stored::settings")]
    pub(crate) settings: GroupSettings,
    /// Unix seconds of each setting's last known change, by [`Setting::index`].
    #[serde(default, with = "stored::settings_at")]
    pub(crate) settings_at: [u32; Setting::COUNT],
    #[serde(default)]
    pub(crate) linked_parent: Option<GroupId>,
    #[serde(default)]
    pub(crate) is_community: bool,
    /// Which part of its community it is, when it is a special one.
    #[serde(default, deserialize_with = "known_role")]
    pub(crate) community_role: CommunityRole,
    /// Members are addressed by LID, not by phone number.
    #[serde(default)]
    pub(crate) lid_addressing: bool,
    /// Version of the member list (`p_v_id`).
    #[serde(default)]
    pub(crate) participants_version: Option<u64>,
    /// Version of the admin list (`a_v_id`).
    #[serde(default)]
    pub(crate) admins_version: Option<u64>,
    #[serde(default, with = "stored_members")]
    pub(crate) members: Vec<Member>,
    /// How much of it is known.
    #[serde(default, skip_serializing_if = "Completeness::is_whole")]
    pub(crate) completeness: Completeness,
    /// How many members WhatsApp says that there are, where they are not all known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u32>,
}

/// How much of a group is known.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Completeness {
    /// All of it.
    #[default]
    Whole,
    /// All that could be read: somebody or something in it could not.
    Part,
    /// No more than that it is there.
    Stub,
    /// What was known before: the latest reading told no more than that it is there.
    Outdated,
}

impl Completeness {
    pub(crate) fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
}

/// What a group of a community is for.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CommunityRole {
    /// Nothing special.
    #[default]
    Plain,
    /// The community's admins write to everyone in it.
    Announcements,
    /// The general chat.
    GeneralChat,
}

/// One that only another version knows is nothing special, until the group is read.
fn known_role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CommunityRole, D::Error> {
    let stored = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(stored).unwrap_or_default())
}

/// Members as `[phone, LID, role]`, 0 where an id is not known: a third of what their field names would take on disk.
mod stored_members {
    use std::num::NonZeroU64;

    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::{Member, Person, Role};

    type Stored = (u64, u64, Role);

    pub(super) fn serialize<S: Serializer>(members: &[Member], serializer: S) -> Result<S::Ok, S::Error> {
        let digits = |id: Option<NonZeroU64>| id.map_or(0, NonZeroU64::get);
        serializer.collect_seq(members.iter().map(|m| (digits(m.person.phone), digits(m.person.lid), m.role)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Member>, D::Error> {
        let stored = Vec::<Stored>::deserialize(deserializer)?;
        let member = |(phone, lid, role)| Member {
            person: Person { phone: NonZeroU64::new(phone), lid: NonZeroU64::new(lid) },
            role,
        };
        let mut members: Vec<Member> = stored.into_iter().map(member).collect();
        // As when they come from WhatsApp: no room for members who are not there.
        members.shrink_to_fit();
        Ok(members)
    }
}

/// What came of the merge of a reading.
#[derive(Copy, Clone)]
pub(super) struct Absorbed {
    /// The group has to be read again.
    pub(super) again: bool,
    /// The participants are those of the reading.
    pub(super) participants: bool,
}

impl GroupRecord {
    /// The member with any of these ids.
    pub(crate) fn member(&self, person: &Person) -> Option<&Member> {
        self.members.iter().find(|member| member.person.is(person))
    }

    /// Adds a member, or learns more ids of one that is in the list.
    pub(crate) fn add(&mut self, new: Member) {
        match self.members.iter_mut().find(|member| member.person.is(&new.person)) {
            Some(member) => member.person.learn(&new.person),
            None => {
                // Groups are many and rarely grow: no room for members who are not there.
                self.members.reserve_exact(1);
                self.members.push(new);
            }
        }
    }

    /// A reading of this group that tells no more than that it is there.
    pub(crate) fn untold(&self) -> Self {
        Self { completeness: Completeness::Stub, size: None, ..self.clone() }
    }

    pub(crate) fn remove(&mut self, person: &Person) {
        self.members.retain(|member| !member.person.is(person));
    }

    /// Makes a member an admin or takes it back; the owner stays the owner on a promotion. False when there is no such
    /// member.
    pub(crate) fn set_admin(&mut self, person: &Person, admin: bool) -> bool {
        let Some(member) = self.members.iter_mut().find(|member| member.person.is(person)) else { return false };
        member.person.learn(person);
        member.role = match (admin, member.role) {
            (true, Role::SuperAdmin) => Role::SuperAdmin,
            (true, _) => Role::Admin,
            (false, _) => Role::Member,
        };
        true
    }

    /// Merges a reading of the same group. `touched_since`: something changed here after the reading was asked for.
    pub(super) fn absorb(&mut self, mut read: Self, touched_since: bool) -> Absorbed {
        if read.completeness == Completeness::Stub {
            if self.completeness != Completeness::Stub {
                self.completeness = Completeness::Outdated;
            }
            self.size = read.size.or(self.size);
            return Absorbed { again: false, participants: false };
        }
        (self.completeness, self.size) = (read.completeness, read.size);
        if read.completeness == Completeness::Part {
            read.keep_from(self);
        }
        let older = |read: Option<u64>, known: Option<u64>| read.is_some() && read < known;
        let versions_known = read.participants_version.is_some() && read.admins_version.is_some();
        let stale = older(read.participants_version, self.participants_version)
            || older(read.admins_version, self.admins_version);
        let mut again = touched_since && (stale || !versions_known);
        if !stale {
            self.participants_version = read.participants_version;
            self.admins_version = read.admins_version;
            self.lid_addressing = read.lid_addressing;
            self.members = read.members;
        }
        let wins = |read_at: u64, known_at: u64| read_at > known_at || (read_at == known_at && !touched_since);
        if wins(read.subject_at, self.subject_at) {
            self.subject = read.subject;
            self.subject_at = read.subject_at;
        } else {
            again |= touched_since && self.subject != read.subject;
        }
        if wins(read.description_at, self.description_at) || (read.description.is_none() && !touched_since) {
            self.description = read.description;
            self.description_id = read.description_id;
            self.description_at = read.description_at.max(self.description_at);
        } else {
            again |= touched_since && self.description != read.description;
        }
        if touched_since {
            again |= self.settings != read.settings;
        } else {
            self.settings = read.settings;
        }
        self.owner = read.owner.or(self.owner);
        self.created_at = read.created_at.or(self.created_at);
        self.linked_parent = read.linked_parent;
        self.is_community = read.is_community;
        self.community_role = read.community_role;
        Absorbed { again, participants: !stale }
    }

    /// Fills in what a reading that is not whole left out and was known before.
    fn keep_from(&mut self, known: &Self) {
        if self.subject.is_empty() {
            self.subject.clone_from(&known.subject);
            self.subject_at = known.subject_at;
        }
        if self.members.is_empty() {
            self.members.clone_from(&known.members);
        }
    }

    /// How many people are in it.
    fn participants_count(&self) -> u32 {
        let known = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        self.size.map_or(known, |size| size.max(known))
    }

    /// The group as API callers see it.
    pub(crate) fn to_model(&self, names: &Names) -> Group {
        let participants = self.members.iter().filter_map(|member| {
            Some(Participant {
                id: member.person.id()?,
                name: names.of(&member.person),
                is_admin: member.role != Role::Member,
                is_super_admin: member.role == Role::SuperAdmin,
            })
        });
        Group {
            id: self.id.clone(),
            name: self.subject.clone(),
            description: self.description.clone(),
            owner: self.owner.and_then(|owner| owner.id()),
            created_at: self.created_at,
            is_read_only: self.settings.announce,
            is_announce: self.settings.announce,
            settings: self.settings.clone(),
            linked_parent_jid: self.linked_parent.clone(),
            is_community: self.is_community,
            incomplete: !self.completeness.is_whole(),
            participants: participants.collect(),
        }
    }

    /// The group in a list, seen by `me`.
    pub(crate) fn to_summary(&self, me: &Person) -> GroupSummary {
        GroupSummary {
            id: self.id.clone(),
            name: self.subject.clone(),
            participants_count: self.participants_count(),
            is_admin: self.member(me).is_some_and(|member| member.role != Role::Member),
            linked_parent_jid: self.linked_parent.clone(),
            is_community: self.is_community,
            incomplete: !self.completeness.is_whole(),
        }
    }
}
