//! Messages: where a device's message goes, and who refuses it.
//!
//! A device encrypts a message for each device of its recipients, a message to a group once more with the sender's key for all
//! of them. The server hands each device its part, phones included.

mod files;
mod history;
mod kept;
mod reading;
mod received;
mod relay;
mod votes;
mod writing;

use std::collections::BTreeMap;

use wacore_binary::{Jid, JidExt as _, Node};

pub use files::FileWords;
pub use history::PhoneHistory;
pub(crate) use kept::KeptMessages;
pub(crate) use reading::{Readers, Unread};
pub(crate) use received::MediaPointer;
pub use received::{ReceivedInvitation, ReceivedMedia, ReceivedMessage};
pub(crate) use relay::Envelope;
pub use writing::Mail;
pub(crate) use writing::{KeyedDevices, SentByPhone};

use crate::groups::{Outcome, Refusable, SUSPENDED};
use crate::stanza::{ack, attr, bytes, children, jid_attr};
use crate::tokens::MISSING_TOKEN;
use crate::world::account::DeviceRef;
use crate::world::group::Group;
use crate::world::{Addressing, State};

/// The code for a message to a group that names its people in another way than the group does.
const STALE_ADDRESSING: u16 = 421;
/// The code for a message to nobody.
const UNKNOWN: u16 = 404;
/// The code for a message to a group from somebody who is no member, or who is no admin where only admins write.
const FORBIDDEN: u16 = 403;

/// Where a message belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(crate) enum Chat {
    /// The chat with a person, by phone number.
    Person(String),
    /// A group, by the part of its id before `@`.
    Group(String),
}

impl Chat {
    /// The phone number, or the group's id with `@g.us`.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Person(phone) => phone.clone(),
            Self::Group(group) => format!("{group}@g.us"),
        }
    }
}

/// The parts of a message that one device gets.
type Parts = BTreeMap<(String, u16), (Jid, Node)>;

impl State {
    /// A device sends a message.
    pub(crate) fn on_message(&mut self, me: &DeviceRef, message: &Node) {
        let Some(to) = jid_attr(message, "to") else { return };
        if attr(message, "category").as_deref() == Some("peer") {
            self.send(me, vec![ack(message, None)]);
            return self.on_peer_message(me, &to, message);
        }
        self.handle(me, message, |state| {
            let answer = match state.route(me, &to, message) {
                Ok(None) => ack(message, None),
                Ok(Some(participant_hash)) => {
                    let mut answer = ack(message, None);
                    answer.attrs.insert("phash", participant_hash);
                    answer
                }
                Err(code) => ack(message, Some(code)),
            };
            Outcome::from(answer)
        });
    }

    /// Hands the message on. Returns the server's hash of the recipients when the sender reckoned with others.
    fn route(&mut self, me: &DeviceRef, to: &Jid, message: &Node) -> Refusable<Option<String>> {
        if to.is_group() {
            return self.route_to_group(me, to, message);
        }
        let phone = self.phone_of(to).ok_or(UNKNOWN)?;
        let mut parts = self.parts(to, message);
        // Clients may encrypt for the device that sends, too.
        parts.remove(&(me.phone.clone(), me.device));
        let is_resend = message.get_optional_child("enc").is_some_and(|enc| attr(enc, "count").is_some());
        if !is_resend && self.lacks_token(&me.phone, &phone, message) {
            return Err(MISSING_TOKEN);
        }
        let is_blocked = self.accounts.get(&phone).is_some_and(|account| account.blocked.contains(&me.phone));
        // A device of the sender's own says to whom it asks for the message again.
        let other = match jid_attr(message, "recipient").and_then(|recipient| self.phone_of(&recipient)) {
            Some(other) if phone == me.phone => other,
            _ => phone.clone(),
        };
        let envelope = Envelope { sender: me, chat: Chat::Person(other), message };
        for ((owner, device), (jid, enc)) in &parts {
            let owners = [&phone, &me.phone];
            if owners.contains(&owner) && !(is_blocked && *owner == phone && phone != me.phone) {
                let device = DeviceRef { phone: owner.clone(), device: *device };
                self.hand_over(&envelope, &device, jid, vec![enc.clone()]);
            }
        }
        Ok((!is_resend).then(|| self.hash_of_others(me, &phone, &parts)).flatten())
    }

    fn route_to_group(&mut self, me: &DeviceRef, to: &Jid, message: &Node) -> Refusable<Option<String>> {
        let group = self.groups.get(to.user.as_str()).ok_or(UNKNOWN)?;
        refusal_of(group, &me.phone, message)?;
        let (members, addressing) = (group.phones(), group.addressing);
        let envelope = Envelope { sender: me, chat: Chat::Group(to.user.to_string()), message };
        if let Some(only) = jid_attr(message, "participant") {
            let Some(phone) = self.phone_of(&only).filter(|phone| members.contains(phone)) else { return Ok(None) };
            let device = DeviceRef { phone, device: only.device };
            let enc = message.get_optional_child("enc").cloned();
            self.hand_over(&envelope, &device, &only, enc.into_iter().collect());
            return Ok(None);
        }
        let parts = self.parts(to, message);
        let shared = message.get_optional_child("enc");
        if let Some(group) = self.groups.get_mut(to.user.as_str()) {
            group.last_message = shared.map(|shared| (me.clone(), bytes(shared)));
        }
        for device in self.recipients(&members, me) {
            let own = parts.get(&(device.phone.clone(), device.device)).map(|(_, enc)| enc);
            let encs = own.into_iter().chain(shared).cloned().collect();
            let Some(jid) = self.jid_of_device(&device, addressing) else { continue };
            self.hand_over(&envelope, &device, &jid, encs);
        }
        Ok(self.hash_of_group(&members, addressing).filter(|hash| {
            let theirs = attr(message, "phash");
            theirs.is_some_and(|theirs| theirs != *hash)
        }))
    }

    /// What is encrypted for each device, under the id by which the sender named it. A part outside the list is for the device
    /// that the message is addressed to: then the list, if there is one, repeats it.
    fn parts(&self, to: &Jid, message: &Node) -> Parts {
        let mut parts = Parts::new();
        let mut add = |jid: Jid, enc: Option<&Node>| {
            if let (Some(phone), Some(enc)) = (self.phone_of(&jid), enc) {
                parts.insert((phone, jid.device), (jid, enc.clone()));
            }
        };
        let own = message.get_optional_child("enc").filter(|_| !to.is_group());
        if own.is_some() {
            add(to.clone(), own);
            return parts;
        }
        for part in message.get_optional_child("participants").map(children).unwrap_or_default() {
            if let Some(jid) = jid_attr(part, "jid") {
                add(jid, part.get_optional_child("enc"));
            }
        }
        parts
    }

    /// All devices of these people, phones included, except the one that sends.
    pub(crate) fn recipients(&self, phones: &[String], sender: &DeviceRef) -> Vec<DeviceRef> {
        let all = phones.iter().flat_map(|phone| {
            let phone_itself = DeviceRef { phone: phone.clone(), device: 0 };
            std::iter::once(phone_itself).chain(self.devices_of(phone))
        });
        all.filter(|device| device != sender).collect()
    }

    fn hand_over(&mut self, envelope: &Envelope<'_>, to: &DeviceRef, named: &Jid, encs: Vec<Node>) {
        if to.device == 0 {
            self.take_on_phone(envelope, &to.phone, encs);
        } else if let Some(stanza) = self.relayed(envelope, &to.phone, named, encs) {
            self.deliver(to, vec![stanza]);
        }
    }
}

/// Whether a group takes a message from this person.
fn refusal_of(group: &Group, phone: &str, message: &Node) -> Refusable<()> {
    if !group.members.contains_key(phone) || (group.settings.announce && !group.is_admin(phone)) {
        return Err(FORBIDDEN);
    }
    if group.is_suspended() {
        return Err(SUSPENDED);
    }
    let mode = attr(message, "addressing_mode");
    if mode.is_some_and(|mode| mode != group.addressing_mode()) {
        return Err(STALE_ADDRESSING);
    }
    Ok(())
}

impl State {
    /// A device by the kind of id that a group in this addressing uses.
    pub(crate) fn jid_of_device(&self, device: &DeviceRef, addressing: Addressing) -> Option<Jid> {
        let account = self.accounts.get(&device.phone)?;
        let mut jid = match addressing {
            Addressing::Pn => account.pn_jid(),
            Addressing::Lid => account.lid_jid(),
        };
        jid.device = device.device;
        Some(jid)
    }
}
