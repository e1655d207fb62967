//! One group: plain data, the rules about its members, and how it looks on the wire.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt as _;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};

use super::account::Account;
use super::view::{GroupView, MemberView, Role};
use super::{Addressing, GroupSpec, State, World};
use crate::stanza::{empty, leaf, now};

/// WhatsApp's own limit.
const PARTICIPANTS_MAX: usize = 1024;
/// The letters of an invite code, and how many it has.
const INVITE_LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const INVITE_CODE_LETTERS: usize = 22;

pub(crate) struct Description {
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) owner: String,
    pub(crate) time: u64,
}

/// Participants are kept by phone number; in which form they are shown is a matter of [`Addressing`].
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
    pub(crate) announce: bool,
    pub(crate) locked: bool,
    pub(crate) ephemeral_s: Option<u32>,
    pub(crate) approval: bool,
    pub(crate) member_add_mode: String,
    pub(crate) invite_code: String,
    pub(crate) revoked_codes: BTreeSet<String>,
    /// Those who left by themselves: adding them again answers 408.
    pub(crate) left: BTreeSet<String>,
    pub(crate) participants_max: usize,
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
            announce: false,
            locked: false,
            ephemeral_s: None,
            approval: false,
            member_add_mode: "admin_add".into(),
            invite_code: invite,
            revoked_codes: BTreeSet::new(),
            left: BTreeSet::new(),
            participants_max: PARTICIPANTS_MAX,
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

    /// The id by which this group names somebody.
    pub(crate) fn jid_of(&self, account: &Account) -> Jid {
        match self.addressing {
            Addressing::Pn => account.pn_jid(),
            Addressing::Lid => account.lid_jid(),
        }
    }

    pub(crate) fn addressing_mode(&self) -> &'static str {
        match self.addressing {
            Addressing::Pn => "pn",
            Addressing::Lid => "lid",
        }
    }

    /// `<participant>` with both of a person's ids, without a role.
    pub(crate) fn participant(&self, account: &Account) -> NodeBuilder {
        let participant = NodeBuilder::new("participant").attr("jid", self.jid_of(account));
        match self.addressing {
            Addressing::Pn => participant.attr("lid", account.lid_jid()),
            Addressing::Lid => participant.attr("phone_number", account.pn_jid()),
        }
    }

    /// `<group>` as metadata queries, lists and create notifications carry it. `refused` are participants that a
    /// create request named and that did not get in.
    pub(crate) fn node(&self, accounts: &BTreeMap<String, Account>, refused: Vec<Node>) -> Node {
        let mut content: Vec<Node> = self
            .members
            .iter()
            .filter_map(|(phone, role)| {
                let participant = self.participant(accounts.get(phone)?);
                Some(match role {
                    Role::Member => participant,
                    Role::Admin => participant.attr("type", "admin"),
                    Role::SuperAdmin => participant.attr("type", "superadmin"),
                })
            })
            .map(NodeBuilder::build)
            .collect();
        content.extend(refused);
        content.extend(self.setting_nodes());
        content.extend(self.description_node(accounts));
        let mut group = NodeBuilder::new("group")
            .attr("id", self.id.as_str())
            .attr("subject", self.subject.as_str())
            .attr("creation", self.created_at.to_string())
            .attr("addressing_mode", self.addressing_mode())
            .attr("size", self.members.len().to_string())
            .attr("p_v_id", self.participant_version.to_string())
            .attr("a_v_id", self.admin_version.to_string())
            .attr("s_t", self.subject_time.to_string());
        if let Some(creator) = accounts.get(&self.creator) {
            group = group.attr("creator", self.jid_of(creator)).attr("creator_pn", creator.pn_jid());
        }
        if let Some(owner) = accounts.get(&self.subject_owner) {
            group = group.attr("s_o", self.jid_of(owner)).attr("s_o_pn", owner.pn_jid());
        }
        group.children(content).build()
    }

    fn setting_nodes(&self) -> Vec<Node> {
        let mut settings = vec![leaf("member_add_mode", self.member_add_mode.as_str())];
        if self.announce {
            settings.push(empty("announcement"));
        }
        if self.locked {
            settings.push(empty("locked"));
        }
        if let Some(seconds) = self.ephemeral_s {
            settings.push(NodeBuilder::new("ephemeral").attr("expiration", seconds.to_string()).build());
        }
        if self.approval {
            let join = NodeBuilder::new("group_join").attr("state", "on").build();
            settings.push(NodeBuilder::new("membership_approval_mode").children([join]).build());
        }
        settings
    }

    fn description_node(&self, accounts: &BTreeMap<String, Account>) -> Option<Node> {
        let description = self.description.as_ref()?;
        let mut node =
            NodeBuilder::new("description").attr("id", description.id.as_str()).attr("t", description.time.to_string());
        if let Some(owner) = accounts.get(&description.owner) {
            node = node.attr("participant", self.jid_of(owner)).attr("participant_pn", owner.pn_jid());
        }
        Some(node.children([leaf("body", description.body.as_str())]).build())
    }

    pub(crate) fn view(&self, accounts: &BTreeMap<String, Account>) -> GroupView {
        let member = |(phone, role): (&String, &Role)| MemberView {
            phone: phone.clone(),
            lid: accounts.get(phone).map(|account| account.lid.clone()).unwrap_or_default(),
            role: *role,
        };
        GroupView {
            id: format!("{}@g.us", self.id),
            subject: self.subject.clone(),
            description: self.description.as_ref().map(|description| description.body.clone()),
            announce: self.announce,
            locked: self.locked,
            invite_code: self.invite_code.clone(),
            participants: self.members.iter().map(member).collect(),
            participant_version: self.participant_version,
            admin_version: self.admin_version,
        }
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
        if let Some(body) = spec.description {
            let id = format!("{:08X}", self.rng.random::<u32>());
            group.description = Some(Description { id, body, owner: spec.owner, time: now() });
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
        let letter = |_| char::from(INVITE_LETTERS[self.rng.random_range(0..INVITE_LETTERS.len())]);
        (0..INVITE_CODE_LETTERS).map(letter).collect()
    }
}

impl World {
    /// A group as it is now; `None` when there is none with this id.
    pub fn group(&self, gid: &str) -> Option<GroupView> {
        let state = self.lock();
        state.groups.get(group_user(gid)).map(|group| group.view(&state.accounts))
    }

    /// Lowers (or raises) how many participants fit into a group; who does not fit is refused with 419.
    pub fn set_participants_max(&self, gid: &str, participants_max: usize) {
        if let Some(group) = self.lock().groups.get_mut(group_user(gid)) {
            group.participants_max = participants_max;
        }
    }
}
