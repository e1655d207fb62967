//! One phone number: its phone, the devices linked to it, and what was counted for them.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Instant;

use wacore_binary::{Jid, Node};

use super::{Addable, Outbound, Outbox};
use crate::app_state::AppState;
use crate::faults::Fault;
use crate::limits::{NewChatLimit, ReachoutLock};
use crate::messages::{KeptMessages, KeyedDevices, PhoneHistory, ReceivedMessage, SentByPhone, Unread};
use crate::passkey::AccountPasskey;
use crate::pictures::Picture;
use crate::prekeys::KeyBundle;
use crate::presence::Typing;
use crate::profile::About;
use crate::receipts::ReceivedReceipt;
use crate::signal::PhoneSignal;

/// A device, by phone number and device number; 0 is the phone itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct DeviceRef {
    pub(crate) phone: String,
    pub(crate) device: u16,
}

#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Account {
    pub(crate) phone: String,
    pub(crate) name: String,
    pub(crate) lid: String,
    pub(crate) addable: Addable,
    /// Groups in LID addressing do not show its phone number.
    pub(crate) number_hidden: bool,
    /// Other spellings of its phone number, which usync knows.
    #[serde(default)]
    pub(crate) spellings: Vec<String>,
    /// The passkey that it asks for when a device is linked.
    #[serde(default)]
    pub(crate) passkey: Option<AccountPasskey>,
    #[serde(default)]
    pub(crate) reachout_lock: Option<ReachoutLock>,
    #[serde(default)]
    pub(crate) new_chats: Option<NewChatLimit>,
    /// What its devices last said that it is to be shown as.
    #[serde(default)]
    pub(crate) is_available: Option<bool>,
    /// When that was, in seconds since 1970.
    #[serde(default)]
    pub(crate) seen_at: Option<u64>,
    #[serde(default)]
    pub(crate) about: About,
    #[serde(default)]
    pub(crate) picture: Option<Picture>,
    /// The values of privacy settings that are not the usual ones, by name.
    #[serde(default)]
    pub(crate) privacy: BTreeMap<String, String>,
    /// The timer of its new chats, in seconds; 0: none.
    #[serde(default)]
    pub(crate) default_timer_s: u32,
    /// The phone numbers that it has blocked.
    #[serde(default)]
    pub(crate) blocked: BTreeSet<String>,
    /// Messages to it need a token that it has given.
    #[serde(default)]
    pub(crate) requires_token: bool,
    /// The tokens that it has given, by phone number.
    #[serde(default)]
    pub(crate) tokens: BTreeMap<String, Vec<u8>>,
    /// The chats in which it types, or has typed just now.
    #[serde(skip)]
    pub(crate) typing: BTreeMap<String, (Typing, Instant)>,
    pub(crate) devices: BTreeMap<u16, Device>,
    pub(crate) devices_linked: u16,
    pub(crate) requests: BTreeMap<String, u64>,
    pub(crate) connections_max: usize,
    #[serde(skip)]
    pub(crate) faults: Vec<Fault>,
    pub(crate) app_state: AppState,
    /// The messages that its phone has got, the newest last.
    pub(crate) messages: KeptMessages,
    /// The copies that its phone has got of what its devices sent, the newest last.
    #[serde(default)]
    pub(crate) copies: KeptMessages,
    /// The messages that its phone has sent itself, the newest last.
    #[serde(default)]
    pub(crate) sent: VecDeque<SentByPhone>,
    /// The receipts that its phone has got, the newest last.
    #[serde(default)]
    pub(crate) receipts: VecDeque<ReceivedReceipt>,
    /// What its phone tells new devices about the past.
    #[serde(default)]
    pub(crate) history: PhoneHistory,
    /// Its phone is switched off.
    #[serde(default)]
    pub(crate) is_off: bool,
    /// Its phone does not answer those who ask for a message once more.
    #[serde(default)]
    pub(crate) is_deaf: bool,
    /// What its devices say of stanzas that they got is lost on its way.
    #[serde(default)]
    pub(crate) loses_receipts: bool,
    /// The messages that wait for its phone.
    #[serde(default)]
    pub(crate) unread: VecDeque<Unread>,
    /// The messages for which its phone has asked once more.
    #[serde(default)]
    pub(crate) asked_again: HashSet<String>,
    /// The devices that have the phone's sender key, by group.
    #[serde(default)]
    pub(crate) keyed: KeyedDevices,
    signal: Option<Box<PhoneSignal>>,
}

/// A stanza that the device has not acknowledged yet.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Waiting {
    pub(crate) id: String,
    #[serde(with = "super::state_file::stanza")]
    pub(crate) stanza: Node,
}

#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Device {
    pub(crate) noise_key: [u8; 32],
    pub(crate) key_index: u32,
    /// The `ADVSignedDeviceIdentity` with the device's own signature.
    pub(crate) identity: Vec<u8>,
    pub(crate) keys: KeyBundle,
    pub(crate) inbox: VecDeque<Waiting>,
    /// The phone has not shared its app-state key yet.
    pub(crate) key_share_due: bool,
    /// The newest connection has asked for the waiting stanzas, and gets new ones at once.
    #[serde(skip)]
    pub(crate) active: bool,
    /// The accounts about whose presence this connection is told, under the ids by which it named them.
    #[serde(skip)]
    pub(crate) watched: BTreeMap<String, Jid>,
    #[serde(skip)]
    newest: Option<(u64, Outbox)>,
    #[serde(skip)]
    connections: BTreeSet<u64>,
}

impl Account {
    /// What the phone keeps of both directions: what came, then the copies of what its devices sent.
    pub(crate) fn kept_messages(&self) -> impl DoubleEndedIterator<Item = &ReceivedMessage> {
        self.messages.iter().chain(self.copies.iter())
    }

    pub(crate) fn kept_message(&self, id: &str) -> Option<&ReceivedMessage> {
        self.kept_messages().rev().find(|message| message.id == id)
    }

    pub(crate) fn new(phone: String, name: String, lid: String, addable: Addable) -> Self {
        Self {
            phone,
            name,
            lid,
            addable,
            number_hidden: false,
            spellings: Vec::new(),
            passkey: None,
            reachout_lock: None,
            new_chats: None,
            is_available: None,
            seen_at: None,
            about: About::default(),
            picture: None,
            privacy: BTreeMap::new(),
            default_timer_s: 0,
            blocked: BTreeSet::new(),
            requires_token: false,
            tokens: BTreeMap::new(),
            typing: BTreeMap::new(),
            devices: BTreeMap::new(),
            devices_linked: 0,
            requests: BTreeMap::new(),
            connections_max: 0,
            faults: Vec::new(),
            app_state: AppState::default(),
            messages: KeptMessages::default(),
            copies: KeptMessages::default(),
            sent: VecDeque::new(),
            receipts: VecDeque::new(),
            history: PhoneHistory::default(),
            is_off: false,
            is_deaf: false,
            loses_receipts: false,
            unread: VecDeque::new(),
            asked_again: HashSet::new(),
            keyed: KeyedDevices::new(),
            signal: None,
        }
    }

    pub(crate) fn pn_jid(&self) -> Jid {
        Jid::pn(self.phone.as_str())
    }

    pub(crate) fn lid_jid(&self) -> Jid {
        Jid::lid(self.lid.as_str())
    }

    /// `None` only when keys cannot be made, which the key types do not let us rule out.
    pub(crate) fn signal(&mut self) -> Option<&mut PhoneSignal> {
        if self.signal.is_none() {
            self.signal = PhoneSignal::generate().ok().map(Box::new);
        }
        self.signal.as_deref_mut()
    }

    pub(crate) fn live_connections(&self) -> usize {
        self.devices.values().map(|device| device.connections.len()).max().unwrap_or(0)
    }
}

impl Device {
    pub(crate) fn new(noise_key: [u8; 32], key_index: u32, identity: Vec<u8>, keys: KeyBundle) -> Self {
        Self {
            noise_key,
            key_index,
            identity,
            keys,
            inbox: VecDeque::new(),
            key_share_due: true,
            active: false,
            watched: BTreeMap::new(),
            newest: None,
            connections: BTreeSet::new(),
        }
    }

    /// A connection logged in as this device. Returns the one that it replaces, and how many there are now.
    pub(crate) fn connected(&mut self, connection: u64, outbox: Outbox) -> (Option<Outbox>, usize) {
        let replaced = self.newest.replace((connection, outbox)).map(|(_, outbox)| outbox);
        self.connections.insert(connection);
        self.active = false;
        self.watched.clear();
        (replaced, self.connections.len())
    }

    pub(crate) fn disconnected(&mut self, connection: u64) {
        self.connections.remove(&connection);
        if self.is_served_by(connection) {
            self.release();
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        !self.connections.is_empty()
    }

    pub(crate) fn send(&self, outbound: Outbound) {
        if let Some((_, outbox)) = &self.newest {
            // A closed outbox means the connection is about to be forgotten.
            let _ = outbox.send(outbound);
        }
    }

    /// Whether this connection speaks for the device: false once the connection was replaced, ended or cut.
    pub(crate) fn is_served_by(&self, connection: u64) -> bool {
        self.newest.as_ref().is_some_and(|(newest, _)| *newest == connection)
    }

    /// Sends the reason, then closes the newest connection.
    pub(crate) fn end(&mut self, reason: Node) {
        self.send(Outbound::Stanzas(vec![reason]));
        self.send(Outbound::Close);
        self.release();
    }

    /// Cuts the newest connection without a close.
    pub(crate) fn cut(&mut self) {
        self.send(Outbound::Cut);
        self.release();
    }

    /// Stanzas that the connection still sends are ignored from now on.
    fn release(&mut self) {
        self.newest = None;
        self.active = false;
    }

    pub(crate) fn outbox(&self) -> Option<Outbox> {
        self.newest.as_ref().map(|(_, outbox)| outbox.clone())
    }

    /// The device has received the oldest stanza with this id and one of these tags: it waits no longer.
    pub(crate) fn acknowledge(&mut self, id: &str, tags: &[&str]) {
        let is_it = |waiting: &Waiting| waiting.id == id && tags.contains(&waiting.stanza.tag.as_ref());
        if let Some(index) = self.inbox.iter().position(is_it) {
            self.inbox.remove(index);
        }
    }
}
