//! Receipts: that a message was delivered, read or played. They go to all devices of the person who wrote it, and wait there
//! for those that are offline. Requests for another encryption come as receipts, too.

use std::collections::BTreeMap;

use wacore_binary::builder::NodeBuilder;
use wacore_binary::{JidExt as _, Node};

use crate::SimulatorError;
use crate::messages::Chat;
use crate::stanza::{ack, attr, children, empty, jid_attr, now};
use crate::world::account::DeviceRef;
use crate::world::group::group_user;
use crate::world::{Addressing, State, World};

/// Receipts that one phone keeps; the oldest are dropped beyond that.
const RECEIPTS_MAX: usize = 20_000;
/// The kinds that reach the person who wrote the message. A receipt without a kind says that it was delivered.
const PASSED_ON: [&str; 2] = ["read", "played"];

/// What a phone learns about a message of its account.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct ReceivedReceipt {
    /// The message's id.
    pub id: String,
    /// The group's id with `@g.us`, or the phone number of the person whom the chat is with.
    pub chat: String,
    /// Phone number of the person who has it.
    pub from: String,
    /// `delivered`, `read` or `played`.
    pub kind: String,
}

impl World {
    /// The receipts that this account's phone has got, in the order they came.
    pub fn receipts(&self, phone: &str) -> Vec<ReceivedReceipt> {
        self.settled().accounts.get(phone).map(|account| account.receipts.iter().cloned().collect()).unwrap_or_default()
    }

    /// Whether receipts and acknowledgements of an account's devices are lost on their way: what they are about comes once more
    /// with the next connection. They are not unless set.
    pub fn lose_receipts(&self, phone: &str, lost: bool) {
        let mut state = self.lock();
        state.ensure_account(phone);
        if let Some(account) = state.account_mut(phone) {
            account.loses_receipts = lost;
        }
    }

    /// The owner of a phone reads a chat: a group (an id with `@g.us`) or the chat with a person (a phone number). Returns the
    /// ids of the messages that were not read before.
    ///
    /// # Errors
    /// When there is no such account.
    pub fn read_chat(&self, phone: &str, chat: &str) -> Result<Vec<String>, SimulatorError> {
        let mut state = self.settled();
        let account = state.account_mut(phone).ok_or_else(|| SimulatorError::protocol("no such account"))?;
        let mut by_sender: BTreeMap<(String, u16), Vec<String>> = BTreeMap::new();
        for message in account.messages.iter_mut().filter(|message| message.chat == chat && !message.read) {
            message.read = true;
            by_sender.entry((message.sender.clone(), message.device)).or_default().push(message.id.clone());
        }
        let place = match chat.contains('@') {
            true => Chat::Group(group_user(chat).to_owned()),
            false => Chat::Person(chat.to_owned()),
        };
        let reader = DeviceRef { phone: phone.to_owned(), device: 0 };
        for ((sender, _), ids) in &by_sender {
            state.tell_author(&reader, &place, sender, ids, Some("read"));
            state.tell_own_devices(&reader, &place, ids, "read-self");
        }
        Ok(by_sender.into_values().flatten().collect())
    }
}

/// A device sends a receipt: what it is about waits no longer for the device.
pub(crate) fn on_receipt(state: &mut State, me: &DeviceRef, receipt: &Node) {
    let kind = attr(receipt, "type");
    state.count(&me.phone, &format!("receipt:{}", kind.as_deref().unwrap_or("delivered")));
    let ids = ids(receipt);
    if let Some(device) = state.device_mut(me) {
        for id in &ids {
            device.acknowledge(id, &["message", "call"]);
        }
    }
    state.send(me, vec![ack(receipt, None)]);
    match kind.as_deref() {
        Some("retry") => state.on_retry(me, receipt),
        Some("server-error") => state.on_media_retry(me, receipt),
        Some(kind @ ("read-self" | "played-self")) => {
            if let Some((chat, _)) = state.place_of(me, receipt) {
                state.tell_own_devices(me, &chat, &ids, kind);
            }
        }
        kind if kind.is_none_or(|kind| PASSED_ON.contains(&kind)) => {
            let Some((chat, author)) = state.place_of(me, receipt) else { return };
            state.tell_author(me, &chat, &author, &ids, kind);
            if kind == Some("read") {
                state.tell_own_devices(me, &chat, &ids, "read-self");
            }
        }
        // For the server alone: it needs to wait no longer.
        _ => {}
    }
}

/// The ids that a receipt is about.
fn ids(receipt: &Node) -> Vec<String> {
    let others = receipt.get_optional_child("list").map(children).unwrap_or_default();
    attr(receipt, "id").into_iter().chain(others.iter().filter_map(|item| attr(item, "id"))).collect()
}

impl State {
    /// Where the messages of a receipt are, and who wrote them. `None` for a receipt about something else.
    fn place_of(&self, me: &DeviceRef, receipt: &Node) -> Option<(Chat, String)> {
        let to = jid_attr(receipt, "to")?;
        if to.is_group() {
            let author = jid_attr(receipt, "participant").and_then(|author| self.phone_of(&author))?;
            return Some((Chat::Group(to.user.to_string()), author));
        }
        let author = self.phone_of(&to)?;
        (author != me.phone).then(|| (Chat::Person(author.clone()), author))
    }

    /// Tells the devices of the author that `reader` has the messages. `chat` is the chat as the reader sees it.
    pub(crate) fn tell_author(
        &mut self,
        reader: &DeviceRef,
        chat: &Chat,
        author: &str,
        ids: &[String],
        kind: Option<&str>,
    ) {
        let place = match chat {
            Chat::Person(_) => Chat::Person(reader.phone.clone()),
            Chat::Group(_) => chat.clone(),
        };
        if let Some(stanza) = self.receipt_from(reader, &place, ids, kind) {
            for device in self.devices_of(author) {
                self.deliver(&device, vec![stanza.clone()]);
            }
        }
        let Some(account) = self.account_mut(author) else { return };
        let kind = kind.unwrap_or("delivered");
        account.receipts.extend(ids.iter().map(|id| ReceivedReceipt {
            id: id.clone(),
            chat: place.name(),
            from: reader.phone.clone(),
            kind: kind.to_owned(),
        }));
        while account.receipts.len() > RECEIPTS_MAX {
            account.receipts.pop_front();
        }
    }

    /// Tells the reader's other devices that the messages were read.
    fn tell_own_devices(&mut self, reader: &DeviceRef, chat: &Chat, ids: &[String], kind: &str) {
        let stanza = match chat {
            Chat::Group(_) => self.receipt_from(reader, chat, ids, Some(kind)),
            Chat::Person(other) => self
                .receipt_from(reader, &Chat::Person(reader.phone.clone()), ids, Some(kind))
                .zip(self.accounts.get(other).map(|account| account.lid_jid()))
                .map(|(mut stanza, other)| {
                    stanza.attrs.insert("recipient", other);
                    stanza
                }),
        };
        let Some(stanza) = stanza else { return };
        for device in self.devices_of(&reader.phone) {
            if device != *reader {
                self.deliver(&device, vec![stanza.clone()]);
            }
        }
    }

    /// A receipt of `reader` as others get it.
    pub(crate) fn receipt_from(
        &self,
        reader: &DeviceRef,
        chat: &Chat,
        ids: &[String],
        kind: Option<&str>,
    ) -> Option<Node> {
        let (first, others) = ids.split_first()?;
        let account = self.accounts.get(&reader.phone)?;
        let mut stanza = NodeBuilder::new("receipt").attr("id", first.as_str()).attr("t", now().to_string());
        stanza = match chat {
            Chat::Person(_) => stanza.attr("from", self.jid_of_device(reader, Addressing::Lid)?),
            Chat::Group(group) => {
                let group = self.groups.get(group)?;
                let stanza =
                    stanza.attr("from", group.jid()).attr("participant", self.jid_of_device(reader, group.addressing)?);
                match group.addressing {
                    Addressing::Lid if !account.number_hidden => stanza.attr("participant_pn", account.pn_jid()),
                    _ => stanza,
                }
            }
        };
        if let Some(kind) = kind {
            stanza = stanza.attr("type", kind);
        }
        if !others.is_empty() {
            let items = others.iter().map(|id| NodeBuilder::new("item").attr("id", id.as_str()).build());
            stanza = stanza.children([NodeBuilder::new("list").children(items).build()]);
        }
        Some(stanza.build())
    }
}

/// `<retry>` for the first request.
pub(crate) fn retry(id: &str) -> Node {
    let mut retry = empty("retry");
    for (name, value) in [("count", "1"), ("v", "1"), ("id", id)] {
        retry.attrs.insert(name, value.to_owned());
    }
    retry.attrs.insert("t", now().to_string());
    retry
}
