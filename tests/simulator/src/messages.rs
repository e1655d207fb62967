//! Messages between people. The recipient's phone reads a message and keeps it for tests; linked devices get it as it
//! is.
//!
//! Only messages to one person. Those to groups are acknowledged and dropped.

use tracing::debug;
use wacore::messages::decode_plaintext;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, JidExt as _, Node};
use waproto::whatsapp as wa;

use crate::SimulatorError;
use crate::groups::Outcome;
use crate::peer::{PADDING_VERSION, device_address};
use crate::stanza::{ack, attr, bytes, children, jid_attr, now};
use crate::world::account::DeviceRef;
use crate::world::{State, World};

/// Messages that one phone keeps; the oldest are dropped beyond that.
const RECEIVED_MAX: usize = 10_000;

/// A message that somebody's phone has got and read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct ReceivedMessage {
    /// Phone number of the sender.
    pub sender: String,
    /// The id that the sender's device gave it.
    pub id: String,
    /// Its text; `None` when it is not a text.
    pub text: Option<String>,
    /// The invitation to a group; `None` when it is none.
    pub invitation: Option<ReceivedInvitation>,
}

/// An invitation to a group, as it comes in a message.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct ReceivedInvitation {
    /// The group's id with `@g.us`.
    pub group: String,
    /// The code with which the recipient may join.
    pub code: String,
    /// The end of its validity, in seconds since 1970.
    pub expiration: i64,
    /// The group's subject.
    pub group_name: String,
    /// What the sender wrote with it.
    pub caption: Option<String>,
    /// The group's picture, made small; empty when there is none.
    pub jpeg_thumbnail_bytes: usize,
}

impl World {
    /// The messages that this account's phone has got, in the order they came. Messages that its own devices sent to
    /// others are not among them.
    pub fn messages(&self, phone: &str) -> Vec<ReceivedMessage> {
        self.lock().accounts.get(phone).map(|account| account.messages.iter().cloned().collect()).unwrap_or_default()
    }
}

impl State {
    /// A device sends a message.
    pub(crate) fn on_message(&mut self, me: &DeviceRef, message: &Node) {
        let to = jid_attr(message, "to").filter(|to| !to.is_group()).and_then(|to| self.phone_of(&to));
        if to.as_ref() == Some(&me.phone) && message.get_optional_child("participants").is_none() {
            self.send(me, vec![ack(message, None)]);
            return self.on_peer_message(me, message);
        }
        self.handle(me, message, |state| {
            if let Some(to) = to {
                state.pass_on(me, &to, message);
            }
            Outcome::from(ack(message, None))
        });
    }

    /// Each device that the message is encrypted for gets its part of it.
    fn pass_on(&mut self, me: &DeviceRef, to: &str, message: &Node) {
        let parts = message.get_optional_child("participants").map(children).unwrap_or_default();
        for part in parts {
            let Some(jid) = jid_attr(part, "jid") else { continue };
            let (Some(phone), Some(enc)) = (self.phone_of(&jid), part.get_optional_child("enc")) else { continue };
            let device = DeviceRef { phone, device: jid.device };
            if device.device == 0 {
                self.read_on_phone(me, &device.phone, message, enc);
            } else if let Some(stanza) = self.relayed(me, to, &jid, message, enc) {
                self.deliver(&device, vec![stanza]);
            }
        }
    }

    /// The sender's own phone reads its copy too: its session would be out of step otherwise.
    fn read_on_phone(&mut self, me: &DeviceRef, phone: &str, message: &Node, enc: &Node) {
        let read = match self.decrypt_on_phone(me, phone, enc) {
            Ok(read) => read,
            Err(error) => return debug!(%error, "a phone could not read a message"),
        };
        if *phone == me.phone {
            return;
        }
        let id = attr(message, "id").unwrap_or_default();
        let Some(account) = self.account_mut(phone) else { return };
        account.messages.push_back(received(me.phone.clone(), id, read));
        if account.messages.len() > RECEIVED_MAX {
            account.messages.pop_front();
        }
    }

    fn decrypt_on_phone(&mut self, me: &DeviceRef, phone: &str, enc: &Node) -> Result<wa::Message, SimulatorError> {
        let kind = attr(enc, "type").unwrap_or_default();
        let signal = self.phone_signal(phone).ok_or_else(|| SimulatorError::crypto("no keys"))?;
        let plaintext = signal.decrypt(&device_address(me), &kind, &bytes(enc))?;
        decode_plaintext(&plaintext, PADDING_VERSION).map_err(SimulatorError::protocol)
    }

    /// The stanza that a linked device gets. The sender is named as the device itself was: by phone number or by LID.
    fn relayed(&self, me: &DeviceRef, to: &str, device: &Jid, message: &Node, enc: &Node) -> Option<Node> {
        let sender = self.accounts.get(&me.phone)?;
        let (mut pn, mut lid) = (sender.pn_jid(), sender.lid_jid());
        (pn.device, lid.device) = (me.device, me.device);
        let mut stanza = NodeBuilder::new("message")
            .attr("id", attr(message, "id")?)
            .attr("type", attr(message, "type").unwrap_or_else(|| "text".to_owned()))
            .attr("t", now().to_string())
            .attr("notify", sender.name.as_str());
        stanza = match device.is_lid() {
            true => stanza.attr("from", lid).attr("sender_pn", sender.pn_jid()),
            false => stanza.attr("from", pn).attr("sender_lid", sender.lid_jid()),
        };
        if self.phone_of(device).as_ref() == Some(&me.phone) {
            let recipient = self.accounts.get(to)?;
            stanza = stanza.attr("recipient", if device.is_lid() { recipient.lid_jid() } else { recipient.pn_jid() });
        }
        let identity = message.get_optional_child("device-identity").cloned();
        Some(stanza.children(std::iter::once(enc.clone()).chain(identity)).build())
    }
}

fn received(sender: String, id: String, message: wa::Message) -> ReceivedMessage {
    let extended = message.extended_text_message.as_option().and_then(|text| text.text.clone());
    let invitation = message.group_invite_message.as_option().map(|invite| ReceivedInvitation {
        group: invite.group_jid.clone().unwrap_or_default(),
        code: invite.invite_code.clone().unwrap_or_default(),
        expiration: invite.invite_expiration.unwrap_or_default(),
        group_name: invite.group_name.clone().unwrap_or_default(),
        caption: invite.caption.clone(),
        jpeg_thumbnail_bytes: invite.jpeg_thumbnail.as_ref().map_or(0, Vec::len),
    });
    ReceivedMessage { sender, id, text: message.conversation.clone().or(extended), invitation }
}
