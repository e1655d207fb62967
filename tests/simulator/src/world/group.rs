//! One group: plain data, and the rules about its members.

pub(crate) mod node;
pub(crate) mod settings;
pub(crate) mod telling;

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt as _;
use wacore_binary::Jid;

use super::account::DeviceRef;
use super::suspending::Suspension;
use super::view::{GroupView, JoinMethod, Role};
use super::{Addressing, GroupSpec, State, World};
use crate::pictures::Picture;
use crate::stanza::now;
use settings::Settings;
use telling::Telling;

/// The age of a group that a test adds to the world.
const AGE_S: u64 = 3_600;
/// WhatsApp's own limit.
const PARTICIPANTS_MAX: usize = 1024;
/// The letters of an invite code, and how many it has.
const INVITE_LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const INVITE_CODE_LETTERS: usize = 22;
/// The code of an invitation message is shorter, so that one can be told from the other.
const INVITATION_CODE_LETTERS: usize = 16;

#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Description {
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) owner: String,
    pub(crate) time: u64,
}

/// The properties that only communities have.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Community {
    /// People who want to join have to be let in by an admin.
    pub(crate) closed: bool,
    /// Members may make subgroups, not only admins.
    pub(crate) members_create_groups: bool,
}

/// A request to be let in.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct JoinRequest {
    /// Phone number of the requestor: the person who waits, or a member who wanted to add that person.
    pub(crate) requestor: String,
    pub(crate) method: JoinMethod,
    pub(crate) time: u64,
}

/// A code with which one person may join, as an invitation message carries it.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Invitation {
    pub(crate) code: String,
    /// Seconds since 1970.
    pub(crate) expires_at: u64,
    /// Phone number of the admin who wanted to add that person.
    pub(crate) admin: String,
}

/// Participants are kept by phone number; in which form they are shown is a matter of [`Addressing`].
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Group {
    pub(crate) id: String,
    pub(crate) subject: String,
    pub(crate) subject_owner: String,
    pub(crate) subject_time: u64,
    pub(crate) description: Option<Description>,
    pub(crate) creator: String,
    pub(crate) created_at: u64,
    pub(crate) addressing: Addressing,
    pub(crate) members: BTreeMap<String, Role>,
    pub(crate) settings: Settings,
    /// Set when WhatsApp has suspended the group.
    pub(crate) suspension: Option<Suspension>,
    pub(crate) telling: Telling,
    pub(crate) picture: Option<Picture>,
    /// Set for a community: a group of which others are subgroups.
    pub(crate) community: Option<Community>,
    /// The id of the community that the group is linked to.
    pub(crate) parent: Option<String>,
    /// The group is its community's announcement group.
    pub(crate) default_sub_group: bool,
    /// The group is its community's general chat.
    pub(crate) general_chat: bool,
    /// The requests to be let in, by the phone number of the person who waits.
    pub(crate) join_requests: BTreeMap<String, JoinRequest>,
    /// Invitations from refused adds, which may be sent as messages, by the phone number of the person.
    pub(crate) invitations: BTreeMap<String, Invitation>,
    pub(crate) invite_code: String,
    pub(crate) revoked_codes: BTreeSet<String>,
    /// People who left by themselves: adding them again answers 408.
    pub(crate) left: BTreeSet<String>,
    pub(crate) participants_max: usize,
    /// The last message that a linked device wrote, as all members get it.
    #[serde(skip)]
    pub(crate) last_message: Option<(DeviceRef, Vec<u8>)>,
    pub(crate) participant_version: u64,
    pub(crate) admin_version: u64,
    versions_issued: u64,
}

impl Group {
    pub(crate) fn new(id: String, subject: String, creator: String, addressing: Addressing, invite: String) -> Self {
        let time = now();
        // Versions look like times in microseconds, as WhatsApp's do, but only their order means anything.
        let version = time * 1_000_000;
        Self {
            id,
            subject,
            subject_owner: creator.clone(),
            subject_time: time,
            description: None,
            members: BTreeMap::from([(creator.clone(), Role::SuperAdmin)]),
            creator,
            created_at: time,
            addressing,
            settings: Settings::default(),
            suspension: None,
            telling: Telling::default(),
            picture: None,
            community: None,
            parent: None,
            default_sub_group: false,
            general_chat: false,
            join_requests: BTreeMap::new(),
            invitations: BTreeMap::new(),
            invite_code: invite,
            revoked_codes: BTreeSet::new(),
            left: BTreeSet::new(),
            participants_max: PARTICIPANTS_MAX,
            last_message: None,
            participant_version: version,
            admin_version: version,
            versions_issued: version,
        }
    }

    pub(crate) fn jid(&self) -> Jid {
        Jid::group(self.id.as_str())
    }

    /// The phone numbers of all participants.
    pub(crate) fn phones(&self) -> Vec<String> {
        self.members.keys().cloned().collect()
    }

    pub(crate) fn is_admin(&self, phone: &str) -> bool {
        self.members.get(phone).is_some_and(|role| *role != Role::Member)
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspension.is_some()
    }

    /// People who join by themselves have to be let in by an admin.
    pub(crate) fn asks_admins(&self) -> bool {
        self.settings.approval || self.community.as_ref().is_some_and(|community| community.closed)
    }

    /// The next version of the participant list, and the one before.
    pub(crate) fn next_participant_version(&mut self) -> (u64, u64) {
        self.versions_issued += 1;
        (self.versions_issued, std::mem::replace(&mut self.participant_version, self.versions_issued))
    }

    /// The next version of the admin list, and the one before.
    pub(crate) fn next_admin_version(&mut self) -> (u64, u64) {
        self.versions_issued += 1;
        (self.versions_issued, std::mem::replace(&mut self.admin_version, self.versions_issued))
    }
}

/// The part of a group's id before `@`.
pub(crate) fn group_user(gid: &str) -> &str {
    gid.split('@').next().unwrap_or(gid)
}

impl State {
    pub(crate) fn add_group(&mut self, spec: GroupSpec) -> String {
        let id = match &spec.id {
            Some(id) => group_user(id).to_owned(),
            None => self.free_group_id(),
        };
        let invite = self.new_invite_code();
        let mut group = Group::new(id.clone(), spec.subject, spec.owner.clone(), spec.addressing, invite);
        let members = spec.participants.into_iter().map(|phone| (phone, Role::Member));
        let admins = spec.admins.into_iter().map(|phone| (phone, Role::Admin));
        for (phone, role) in members.chain(admins).filter(|(phone, _)| *phone != spec.owner) {
            self.ensure_account(&phone);
            group.members.insert(phone, role);
        }
        self.ensure_account(&spec.owner);
        // The group was made a while ago, so that a change now has a later second.
        group.created_at -= AGE_S;
        group.subject_time -= AGE_S;
        if let Some(body) = spec.description {
            let id = format!("{:08X}", self.rng.random::<u32>());
            group.description = Some(Description { id, body, owner: spec.owner, time: now() - AGE_S });
        }
        self.groups.insert(id.clone(), group);
        format!("{id}@g.us")
    }

    pub(crate) fn free_group_id(&mut self) -> String {
        loop {
            let id = format!("120363{}", self.rng.random_range(100_000_000_000_u64..1_000_000_000_000));
            if !self.groups.contains_key(&id) {
                return id;
            }
        }
    }

    pub(crate) fn new_invite_code(&mut self) -> String {
        self.new_code(INVITE_CODE_LETTERS)
    }

    /// The code of an invitation that one person may use.
    pub(crate) fn new_invitation_code(&mut self) -> String {
        self.new_code(INVITATION_CODE_LETTERS)
    }

    fn new_code(&mut self, letters: usize) -> String {
        let letter = |_| char::from(INVITE_LETTERS[self.rng.random_range(0..INVITE_LETTERS.len())]);
        (0..letters).map(letter).collect()
    }
}

impl State {
    /// The subgroups of a community.
    pub(crate) fn subgroups(&self, community: &str) -> impl Iterator<Item = &Group> {
        self.groups.values().filter(move |group| group.parent.as_deref() == Some(community))
    }
}

impl World {
    /// A group as it is now; `None` when there is none with this id.
    pub fn group(&self, gid: &str) -> Option<GroupView> {
        let state = self.lock();
        state.groups.get(group_user(gid)).map(|group| group.view(&state.accounts))
    }

    /// Lowers (or raises) how many participants fit into a group. People who do not fit are refused with 419.
    pub fn set_participants_max(&self, gid: &str, participants_max: usize) {
        if let Some(group) = self.lock().groups.get_mut(group_user(gid)) {
            group.participants_max = participants_max;
        }
    }
}
