//! How phones write messages. A phone encrypts for linked devices as devices do for each other. Another phone takes the
//! message as it is: both live in the same simulator.

use std::collections::{BTreeMap, BTreeSet};

use buffa::MessageField;
use rand::RngExt as _;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use waproto::whatsapp as wa;

use super::reading::{drop_oldest, padded};
use super::{Chat, Envelope};
use crate::SimulatorError;
use crate::peer::{ENC_VERSION, device_address};
use crate::signal::prekey_bundle;
use crate::world::account::DeviceRef;
use crate::world::group::group_user;
use crate::world::{Addressing, State, World};

/// Messages of its own that a phone keeps, so that it can send them again.
const SENT_MAX: usize = 20_000;

/// A message to be sent by a phone.
#[derive(Debug, Clone, Default)]
pub struct Mail {
    /// What is sent.
    pub message: wa::Message,
    /// Its id; one is made up when `None`.
    pub id: Option<String>,
    /// The `edit` attribute of the stanza: 1 edit, 2 pin, 7 revocation by the sender, 8 revocation by an admin.
    pub edit: Option<&'static str>,
    /// The phone takes a new key for the group, and the key is lost on the way to all devices: they have to ask for the message
    /// once more.
    pub lose_key: bool,
}

impl Mail {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        wa::Message { conversation: Some(text.into()), ..Default::default() }.into()
    }
}

impl From<wa::Message> for Mail {
    fn from(message: wa::Message) -> Self {
        Self { message, ..Self::default() }
    }
}

/// A message that a phone has sent.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct SentByPhone {
    pub(crate) id: String,
    pub(crate) chat: Chat,
    pub(crate) edit: Option<String>,
    /// The message, encoded.
    pub(crate) content: Vec<u8>,
    pub(crate) time: u64,
}

impl World {
    /// The phone of `from` sends a message to a group (an id with `@g.us`) or to a person (a phone number). Returns the
    /// message's id. Accounts are made when missing.
    ///
    /// # Errors
    /// When there is no such group, or WhatsApp would refuse the message.
    pub fn send(&self, from: &str, to: &str, mail: Mail) -> Result<String, SimulatorError> {
        let mut state = self.lock();
        state.ensure_account(from);
        let chat = match to.contains('@') {
            true => Chat::Group(group_user(to).to_owned()),
            false => {
                state.ensure_account(to);
                Chat::Person(to.to_owned())
            }
        };
        state.send_from_phone(from, chat, mail)
    }
}

impl State {
    fn send_from_phone(&mut self, from: &str, chat: Chat, mail: Mail) -> Result<String, SimulatorError> {
        let id = mail.id.unwrap_or_else(|| format!("3A{:018X}", self.rng.random::<u64>()));
        let mut stanza =
            NodeBuilder::new("message").attr("id", id.as_str()).attr("type", kind_of_stanza(&mail.message));
        if let Some(edit) = mail.edit {
            stanza = stanza.attr("edit", edit);
        }
        let stanza = stanza.build();
        let people = self.people_of(from, &chat, &stanza)?;
        let sent = SentByPhone {
            id: id.clone(),
            chat: chat.clone(),
            edit: mail.edit.map(str::to_owned),
            content: buffa::Message::encode_to_vec(&mail.message),
            time: crate::stanza::now(),
        };
        let account = self.account_mut(from).ok_or_else(|| SimulatorError::crypto("no account"))?;
        account.sent.push_back(sent);
        drop_oldest(&mut account.sent, SENT_MAX);
        let me = DeviceRef { phone: from.to_owned(), device: 0 };
        match &chat {
            Chat::Group(group) => {
                if mail.lose_key {
                    self.lose_key(from, group, &people);
                }
                self.write_to_group(&me, group, &people, &stanza, &mail.message)?;
            }
            Chat::Person(person) => self.write_to_person(&me, person, &people, &stanza, &mail.message)?,
        }
        Ok(id)
    }

    /// The phone numbers of those who get the message, the sender included.
    fn people_of(&self, from: &str, chat: &Chat, stanza: &Node) -> Result<Vec<String>, SimulatorError> {
        match chat {
            Chat::Person(person) => {
                let both = BTreeSet::from([from.to_owned(), person.clone()]);
                let is_blocked = self.accounts.get(person).is_some_and(|account| account.blocked.contains(from));
                Ok(both.into_iter().filter(|one| one == from || !is_blocked).collect())
            }
            Chat::Group(group) => {
                let group = self.groups.get(group).ok_or_else(|| SimulatorError::UnknownGroup(group.clone()))?;
                super::refusal_of(group, from, stanza).map_err(SimulatorError::Refused)?;
                Ok(group.phones())
            }
        }
    }

    fn write_to_person(
        &mut self,
        me: &DeviceRef,
        person: &str,
        people: &[String],
        stanza: &Node,
        message: &wa::Message,
    ) -> Result<(), SimulatorError> {
        let copy = wa::message::DeviceSentMessage {
            destination_jid: self.accounts.get(person).map(|account| account.lid_jid().to_string()),
            message: MessageField::some(message.clone()),
            ..Default::default()
        };
        let copy = wa::Message { device_sent_message: MessageField::some(copy), ..Default::default() };
        let chat = Chat::Person(person.to_owned());
        for device in self.recipients(people, me) {
            if device.device == 0 {
                self.give_to_phone(me, &chat, &device.phone, stanza, message);
                continue;
            }
            let plaintext = padded(if device.phone == me.phone { &copy } else { message });
            let enc = self.encrypt_for(&me.phone, &device, &plaintext)?;
            self.relay_from_phone(me, &chat, &device, stanza, vec![enc]);
        }
        Ok(())
    }

    fn write_to_group(
        &mut self,
        me: &DeviceRef,
        group: &str,
        members: &[String],
        stanza: &Node,
        message: &wa::Message,
    ) -> Result<(), SimulatorError> {
        let devices = self.recipients(members, me);
        let mut keyed = self.keyed_devices(&me.phone, group, members);
        let signal = self.phone_signal(&me.phone).ok_or_else(|| SimulatorError::crypto("no keys"))?;
        let key = padded(&key_message(group, signal.sender_key(group)?));
        let shared = enc("skmsg", signal.encrypt_to_group(group, &padded(message))?);
        let chat = Chat::Group(group.to_owned());
        for device in devices {
            if device.device == 0 {
                self.give_to_phone(me, &chat, &device.phone, stanza, message);
                continue;
            }
            let mut encs = Vec::new();
            if keyed.insert((device.phone.clone(), device.device)) {
                encs.push(self.encrypt_for(&me.phone, &device, &key)?);
            }
            encs.push(shared.clone());
            self.relay_from_phone(me, &chat, &device, stanza, encs);
        }
        if let Some(account) = self.account_mut(&me.phone) {
            account.keyed.insert(group.to_owned(), keyed);
        }
        Ok(())
    }

    /// The phone takes a new key, and believes that all devices have it.
    fn lose_key(&mut self, phone: &str, group: &str, members: &[String]) {
        let devices = members.iter().flat_map(|member| self.devices_of(member));
        let keyed = devices.map(|device| (device.phone, device.device)).collect();
        let Some(account) = self.account_mut(phone) else { return };
        account.keyed.insert(group.to_owned(), keyed);
        if let Some(signal) = account.signal() {
            signal.forget_sender_key(group);
        }
    }

    /// The devices that have the phone's key in a group. When one of them belongs to somebody who is no member any more, the
    /// phone takes a new key, which nobody has.
    fn keyed_devices(&mut self, phone: &str, group: &str, members: &[String]) -> BTreeSet<(String, u16)> {
        let Some(account) = self.account_mut(phone) else { return BTreeSet::new() };
        let keyed = account.keyed.remove(group).unwrap_or_default();
        if keyed.iter().all(|(owner, _)| members.contains(owner)) {
            return keyed;
        }
        if let Some(signal) = account.signal() {
            signal.forget_sender_key(group);
        }
        BTreeSet::new()
    }

    /// Hands a device its parts of what a phone writes.
    pub(crate) fn relay_from_phone(
        &mut self,
        me: &DeviceRef,
        chat: &Chat,
        device: &DeviceRef,
        stanza: &Node,
        encs: Vec<Node>,
    ) {
        let envelope = Envelope { sender: me, chat: chat.clone(), message: stanza };
        let addressing = match chat {
            Chat::Group(group) => self.groups.get(group).map_or(Addressing::Lid, |group| group.addressing),
            Chat::Person(_) => Addressing::Lid,
        };
        let Some(named) = self.jid_of_device(device, addressing) else { return };
        if let Some(relayed) = self.relayed(&envelope, &device.phone, &named, encs) {
            self.deliver(device, vec![relayed]);
        }
    }

    /// Encrypts for one device with the session that the phone has with it, or with a new one.
    pub(crate) fn encrypt_for(
        &mut self,
        phone: &str,
        to: &DeviceRef,
        plaintext: &[u8],
    ) -> Result<Node, SimulatorError> {
        let address = device_address(to);
        let has_session = self.phone_signal(phone).is_some_and(|signal| signal.has_session(&address));
        if !has_session {
            let device = self.device_mut(to).ok_or_else(|| SimulatorError::crypto("the device is gone"))?;
            let one_time = device.keys.one_time.pop_front();
            let bundle = prekey_bundle(to.device, &device.keys, one_time.as_ref())?;
            let signal = self.phone_signal(phone).ok_or_else(|| SimulatorError::crypto("no keys"))?;
            signal.open_session(&address, &bundle)?;
        }
        let signal = self.phone_signal(phone).ok_or_else(|| SimulatorError::crypto("no keys"))?;
        let (kind, ciphertext) = signal.encrypt(&address, plaintext)?;
        Ok(enc(kind, ciphertext))
    }
}

fn enc(kind: &'static str, ciphertext: Vec<u8>) -> Node {
    NodeBuilder::new("enc").attr("v", ENC_VERSION).attr("type", kind).bytes(ciphertext).build()
}

/// The message that gives the phone's key in a group to a device.
fn key_message(group: &str, key: Vec<u8>) -> wa::Message {
    let key = wa::message::SenderKeyDistributionMessage {
        group_id: Some(format!("{group}@g.us")),
        axolotl_sender_key_distribution_message: Some(key),
    };
    wa::Message { sender_key_distribution_message: MessageField::some(key), ..Default::default() }
}

/// The `type` of a stanza.
fn kind_of_stanza(message: &wa::Message) -> &'static str {
    wacore::send::stanza_type_from_message(message)
}

/// The sender key that somebody's phone has given to devices, by group.
pub(crate) type KeyedDevices = BTreeMap<String, BTreeSet<(String, u16)>>;
