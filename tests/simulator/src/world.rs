//! Everything the server knows: accounts with their phones and devices, groups, clients that wait to be linked.
//!
//! One lock around one plain struct. Each method locks inside and returns; the lock is never held across an await.

pub(crate) mod account;
mod changes;
mod communities;
pub(crate) mod group;
pub(crate) mod history;
mod joining;
mod numbers;
pub(crate) mod phone;
mod snapshot;
mod spec;
pub(crate) mod state_file;
pub(crate) mod suspending;
pub(crate) mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::mpsc::UnboundedSender;
use wacore_binary::{Jid, Node};

use crate::groups::{Answers, announce};
use crate::media::MediaStore;
use crate::messages::Readers;
use crate::pairing::PendingLink;
use crate::passkey::SoftwarePasskey;
use crate::signal::PhoneSignal;
use account::{Account, Device, DeviceRef, Waiting};
use group::Group;
use history::History;
use phone::Phone;

pub use spec::{AccountSpec, Addable, Addressing, CommunitySpec, Echo, GroupSpec};

/// Stanzas that wait for one device, like WhatsApp's offline queue; the oldest are dropped beyond that.
const INBOX_STANZAS_MAX: usize = 20_000;

/// Larger groups come without their participants when many are asked for at once. The default is more than fit into any
/// group.
const BATCH_PARTICIPANTS_MAX: usize = 100_000;

/// What is to be written to a connection.
pub(crate) enum Outbound {
    /// Stanzas that go out in one write.
    Stanzas(Vec<Node>),
    /// Nothing more: the server closes.
    Close,
    /// The connection breaks, without a close.
    Cut,
}

/// A handle to the simulated world. Cloning it is cheap; it outlives connections and the server's clients.
#[derive(Clone)]
pub struct World {
    state: Arc<Mutex<State>>,
}

pub(crate) struct State {
    pub(crate) seed: u64,
    pub(crate) rng: StdRng,
    pub(crate) echo: Echo,
    pub(crate) accounts: BTreeMap<String, Account>,
    phones_by_lid: HashMap<String, String>,
    pub(crate) groups: BTreeMap<String, Group>,
    /// The passkeys that the simulator made for accounts; gone when it ends.
    pub(crate) passkeys: HashMap<String, SoftwarePasskey>,
    pub(crate) links: BTreeMap<u64, PendingLink>,
    pub(crate) created_addressing: Addressing,
    /// Where pictures and files are served, without a path.
    pub(crate) media_url: String,
    pub(crate) media: MediaStore,
    pub(crate) join_answers_bare: bool,
    pub(crate) answers: Answers,
    pub(crate) batch_participants_max: usize,
    pub(crate) readers: Readers,
    ids_issued: u64,
    history: History,
    /// The world has been written to a file: nothing changes any more.
    pub(crate) closed: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(State::new(seed))
    }

    fn of(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Makes an account; one that exists keeps its keys, LID and devices and takes over name and privacy.
    pub fn add_account(&self, spec: AccountSpec) {
        self.lock().add_account(spec);
    }

    /// Makes a group, with accounts for those members who have none. Returns its id with `@g.us`. All its members'
    /// devices are notified, the owner's too, unless it is made quietly.
    pub fn add_group(&self, spec: GroupSpec) -> String {
        let mut state = self.lock();
        let (owner, quiet) = (spec.owner.clone(), spec.quiet);
        let gid = state.add_group(spec);
        if !quiet {
            let notices = announce(&mut state, &owner, group::group_user(&gid), None);
            state.publish(&notices, None);
        }
        gid
    }

    /// The phone of an account, which is made when missing.
    pub fn phone(&self, phone: &str) -> Phone {
        self.lock().ensure_account(phone);
        Phone::new(self.clone(), phone.to_owned())
    }

    /// A phone number that no account has.
    pub(crate) fn free_phone(&self) -> String {
        let mut state = self.lock();
        loop {
            let phone = format!("1555{:07}", state.rng.random_range(1_000_000..10_000_000));
            if !state.accounts.contains_key(&phone) {
                return phone;
            }
        }
    }

    /// Every group, ordered by id.
    pub fn groups(&self) -> Vec<view::GroupView> {
        let state = self.lock();
        state.groups.values().map(|group| group.view(&state.accounts)).collect()
    }

    /// Decides when an acting device gets the notification about its own change.
    pub fn set_echo(&self, echo: Echo) {
        self.lock().echo = echo;
    }

    /// How groups that clients create from now on name their participants. LID unless set.
    pub fn set_created_addressing(&self, addressing: Addressing) {
        self.lock().created_addressing = addressing;
    }

    /// Whether accepting an invitation message, and joining a subgroup, is answered with success and nothing more.
    /// WhatsApp Web expects no more. whatsapp-rust 0.7.0 takes such an answer for an error, so this is off unless set.
    pub fn set_join_answers_bare(&self, bare: bool) {
        self.lock().join_answers_bare = bare;
    }

    /// Groups with more participants come truncated when a client asks for many groups at once. None do unless set.
    pub fn set_batch_participants_max(&self, participants_max: usize) {
        self.lock().batch_participants_max = participants_max;
    }

    /// Drops the stanzas that wait for the devices of an account, as WhatsApp does with old ones.
    pub fn forget_waiting(&self, phone: &str) {
        let mut state = self.settled();
        let devices = state.account_mut(phone).into_iter().flat_map(|account| account.devices.values_mut());
        devices.for_each(|device| device.inbox.clear());
    }

    /// Requests received from the devices of this account: `w:g2:add`, `encrypt:count`, `login`, `handshake:ik`, ...
    pub fn requests(&self, phone: &str, kind: &str) -> u64 {
        self.lock().accounts.get(phone).and_then(|account| account.requests.get(kind).copied()).unwrap_or(0)
    }

    /// Connections that are logged in as the busiest device of this account: more than 1 is a fault of the client.
    pub fn live_connections(&self, phone: &str) -> usize {
        self.lock().accounts.get(phone).map_or(0, Account::live_connections)
    }

    /// The most connections that were ever logged in at once as one device of this account.
    pub fn live_connections_max(&self, phone: &str) -> usize {
        self.lock().accounts.get(phone).map_or(0, |account| account.connections_max)
    }
}

impl State {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            rng: StdRng::seed_from_u64(seed),
            echo: Echo::default(),
            accounts: BTreeMap::new(),
            phones_by_lid: HashMap::new(),
            groups: BTreeMap::new(),
            passkeys: HashMap::new(),
            links: BTreeMap::new(),
            created_addressing: Addressing::default(),
            media_url: String::new(),
            media: MediaStore::default(),
            join_answers_bare: false,
            answers: Answers::default(),
            batch_participants_max: BATCH_PARTICIPANTS_MAX,
            readers: Readers::default(),
            ids_issued: 0,
            history: History::default(),
            closed: false,
        }
    }

    /// A number that no other connection, stanza or group of this world has.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.ids_issued += 1;
        self.ids_issued
    }

    pub(crate) fn add_account(&mut self, spec: AccountSpec) {
        let lid = match spec.lid {
            Some(lid) => lid,
            None => self.free_lid(),
        };
        if let Some(account) = self.accounts.get_mut(&spec.phone) {
            account.addable = spec.addable;
            account.number_hidden = spec.number_hidden;
            account.spellings = spec.spellings;
            if let Some(name) = spec.name {
                account.name = name;
            }
            return;
        }
        let name = spec.name.unwrap_or_else(|| format!("User {}", spec.phone));
        self.phones_by_lid.insert(lid.clone(), spec.phone.clone());
        let mut account = Account::new(spec.phone.clone(), name, lid, spec.addable);
        account.number_hidden = spec.number_hidden;
        account.spellings = spec.spellings;
        self.accounts.insert(spec.phone, account);
    }

    pub(crate) fn ensure_account(&mut self, phone: &str) {
        if !self.accounts.contains_key(phone) {
            self.add_account(AccountSpec::new(phone));
        }
    }

    /// LIDs have 15 digits and nothing in common with the phone number.
    fn free_lid(&mut self) -> String {
        loop {
            let lid = self.rng.random_range(100_000_000_000_000_u64..1_000_000_000_000_000).to_string();
            if !self.phones_by_lid.contains_key(&lid) {
                return lid;
            }
        }
    }

    pub(crate) fn account_mut(&mut self, phone: &str) -> Option<&mut Account> {
        self.accounts.get_mut(phone)
    }

    pub(crate) fn device_mut(&mut self, me: &DeviceRef) -> Option<&mut Device> {
        self.accounts.get_mut(&me.phone)?.devices.get_mut(&me.device)
    }

    /// The phone's Signal side, made at its first use: most members of a group never need theirs.
    pub(crate) fn phone_signal(&mut self, phone: &str) -> Option<&mut PhoneSignal> {
        self.accounts.get_mut(phone)?.signal()
    }

    /// The phone number behind a JID of either kind, when that account exists.
    pub(crate) fn phone_of(&self, jid: &Jid) -> Option<String> {
        if jid.is_lid() {
            return self.phones_by_lid.get(jid.user.as_str()).cloned();
        }
        self.accounts.contains_key(jid.user.as_str()).then(|| jid.user.to_string())
    }

    /// The id that usync has for a number, which may be another spelling of an account's own.
    pub(crate) fn jid_spelt(&self, number: &str) -> Jid {
        let is_spelling = |account: &&Account| account.spellings.iter().any(|spelling| spelling == number);
        let account = self.accounts.get(number).or_else(|| self.accounts.values().find(is_spelling));
        account.map_or_else(|| Jid::pn(number), Account::pn_jid)
    }

    pub(crate) fn count(&mut self, phone: &str, kind: &str) {
        if let Some(account) = self.accounts.get_mut(phone) {
            match account.requests.get_mut(kind) {
                Some(count) => *count += 1,
                None => {
                    account.requests.insert(kind.to_owned(), 1);
                }
            }
        }
    }

    /// Hands stanzas to a device, in one write when it is there; they wait until it has acknowledged them.
    pub(crate) fn deliver(&mut self, to: &DeviceRef, stanzas: Vec<Node>) {
        let Some(device) = self.device_mut(to) else { return };
        for stanza in &stanzas {
            let Some(id) = crate::stanza::attr(stanza, "id") else { continue };
            device.inbox.push_back(Waiting { id, stanza: stanza.clone() });
        }
        while device.inbox.len() > INBOX_STANZAS_MAX {
            device.inbox.pop_front();
        }
        if device.active {
            device.send(Outbound::Stanzas(stanzas));
        }
    }

    /// The devices linked to an account.
    pub(crate) fn devices_of(&self, phone: &str) -> Vec<DeviceRef> {
        let devices = self.accounts.get(phone).into_iter().flat_map(|account| account.devices.keys());
        devices.map(|device| DeviceRef { phone: phone.to_owned(), device: *device }).collect()
    }

    /// The connection is gone: nobody waits there any more.
    pub(crate) fn forget_connection(&mut self, connection: u64, device: Option<&DeviceRef>) {
        self.links.remove(&connection);
        let Some(me) = device else { return };
        let Some(device) = self.device_mut(me) else { return };
        device.disconnected(connection);
        let is_alone = self.accounts.get(&me.phone).is_some_and(|account| account.live_connections() == 0);
        if is_alone && self.accounts.get(&me.phone).is_some_and(|account| account.is_available == Some(true)) {
            self.tell_watchers(&me.phone, false);
        }
    }
}

/// The sending half of a connection.
pub(crate) type Outbox = UnboundedSender<Outbound>;
