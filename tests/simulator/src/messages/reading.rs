//! How phones read messages: after the server has acknowledged them, one message after the other. A phone that is switched off
//! keeps them, and reads them when it is switched on. Whoever asks for what phones have got waits until they have read all.

use std::collections::VecDeque;
use std::sync::Arc;

use buffa::Message as _;
use parking_lot::MutexGuard;
use tokio::sync::Notify;
use tracing::debug;
use wacore::messages::{MessageUtils, decode_plaintext};
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use waproto::whatsapp as wa;

use super::{Chat, Envelope, ReceivedMessage};
use crate::SimulatorError;
use crate::peer::{PADDING_VERSION, device_address};
use crate::stanza::{attr, bytes};
use crate::world::account::DeviceRef;
use crate::world::group::group_user;
use crate::world::{State, World};

/// Messages that wait for a phone that is switched off.
const UNREAD_MAX: usize = 20_000;
/// Messages that wait for all phones together; each further one has a phone read one at once, so that senders wait.
const WAITING_MAX: usize = 100_000;

/// A message that a phone has not read yet.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Unread {
    sender: DeviceRef,
    chat: Chat,
    /// `<message>` with the phone's parts alone.
    #[serde(with = "crate::world::state_file::stanza")]
    message: Node,
    /// The content, where another phone wrote it.
    clear: Option<Vec<u8>>,
}

/// The phones that have something to read, one entry for each message.
#[derive(Default)]
pub(crate) struct Readers {
    waiting: VecDeque<String>,
    wake: Arc<Notify>,
}

impl World {
    /// Has the phones read what comes, until the task ends. Connections get their turn after each message.
    pub(crate) async fn let_phones_read(self) {
        let wake = self.lock().readers.wake.clone();
        loop {
            match self.let_one_read() {
                true => tokio::task::yield_now().await,
                false => wake.notified().await,
            }
        }
    }

    fn let_one_read(&self) -> bool {
        let mut state = self.lock();
        let read_one = state.read_next();
        MutexGuard::unlock_fair(state);
        read_one
    }

    /// The world after the phones have read all that came.
    pub(crate) fn settled(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while state.read_next() {}
        state
    }

    /// The messages that this account's phone has got, in the order they came. Messages that its own devices sent to
    /// others are not among them.
    pub fn messages(&self, phone: &str) -> Vec<ReceivedMessage> {
        self.settled().accounts.get(phone).map(|account| account.messages.iter().cloned().collect()).unwrap_or_default()
    }

    /// The copies that this account's phone has got of what the account's devices sent to others.
    pub fn sent_messages(&self, phone: &str) -> Vec<ReceivedMessage> {
        self.settled().accounts.get(phone).map(|account| account.copies.iter().cloned().collect()).unwrap_or_default()
    }

    /// Switches a phone off or on. While it is off, messages wait for it, and it tells nobody that it has them.
    pub fn switch_phone(&self, phone: &str, on: bool) {
        let mut state = self.settled();
        state.ensure_account(phone);
        let Some(account) = state.account_mut(phone) else { return };
        account.is_off = !on;
        state.read_all_on(phone);
    }
}

impl World {
    /// A phone loses the keys of a group's writers, as after it was restored from a backup: it has to ask for their next messages
    /// once more.
    pub fn lose_sender_keys(&self, phone: &str, gid: &str) {
        if let Some(signal) = self.settled().phone_signal(phone) {
            signal.forget_keys_of_others(group_user(gid));
        }
    }

    /// Whether this account's phone could read the last message to a group if it came to the phone in some way, with the keys
    /// that the phone has. `None` when nothing was written to the group.
    #[must_use]
    pub fn could_read_last(&self, phone: &str, gid: &str) -> Option<bool> {
        let mut state = self.settled();
        let group = group_user(gid);
        let (sender, ciphertext) = state.groups.get(group)?.last_message.clone()?;
        let address = device_address(&sender);
        Some(state.phone_signal(phone)?.could_decrypt_from_group(group, address.as_str(), &ciphertext))
    }
}

impl State {
    /// A phone gets its parts of a message.
    pub(super) fn take_on_phone(&mut self, envelope: &Envelope<'_>, phone: &str, encs: Vec<Node>) {
        let mut message = NodeBuilder::new("message");
        for name in ["id", "edit", "type"] {
            if let Some(value) = attr(envelope.message, name) {
                message = message.attr(name, value);
            }
        }
        let message = message.children(encs).build();
        let (sender, chat) = (envelope.sender.clone(), envelope.chat.clone());
        self.bring_to_phone(phone, Unread { sender, chat, message, clear: None });
    }

    /// A phone gets a message from another phone.
    pub(super) fn give_to_phone(
        &mut self,
        sender: &DeviceRef,
        chat: &Chat,
        phone: &str,
        message: &Node,
        content: &wa::Message,
    ) {
        let (sender, chat, clear) = (sender.clone(), chat.clone(), Some(content.encode_to_vec()));
        self.bring_to_phone(phone, Unread { sender, chat, message: message.clone(), clear });
    }

    fn bring_to_phone(&mut self, phone: &str, unread: Unread) {
        let Some(account) = self.account_mut(phone) else { return };
        account.unread.push_back(unread);
        drop_oldest(&mut account.unread, UNREAD_MAX);
        if account.is_off {
            return;
        }
        if self.readers.waiting.len() >= WAITING_MAX {
            self.read_next();
        }
        self.readers.waiting.push_back(phone.to_owned());
        self.readers.wake.notify_one();
    }

    /// A phone that is switched on reads all that came to it.
    pub(crate) fn read_all_on(&mut self, phone: &str) {
        if self.accounts.get(phone).is_some_and(|account| !account.is_off) {
            while self.read_one_on(phone) {}
        }
    }

    /// One phone reads one message. Returns whether one was left to be read.
    fn read_next(&mut self) -> bool {
        let Some(phone) = self.readers.waiting.pop_front() else { return false };
        if self.accounts.get(&phone).is_some_and(|account| !account.is_off) {
            self.read_one_on(&phone);
        }
        true
    }

    fn read_one_on(&mut self, phone: &str) -> bool {
        let next = self.account_mut(phone).and_then(|account| account.unread.pop_front());
        let Some(Unread { sender, chat, message, clear }) = next else { return false };
        match clear.and_then(|clear| wa::Message::decode_from_slice(&clear).ok()) {
            Some(content) => self.keep_on_phone(&sender, chat, phone, &message, content),
            None => self.read_on_phone(&sender, chat, phone, &message),
        }
        true
    }

    fn read_on_phone(&mut self, sender: &DeviceRef, chat: Chat, phone: &str, message: &Node) {
        match self.decrypt_on_phone(sender, &chat, phone, message) {
            Ok(Some(content)) => self.keep_on_phone(sender, chat, phone, message, content),
            Ok(None) => {}
            Err(error) => {
                debug!(%error, "a phone could not read a message");
                self.ask_again(sender, &chat, phone, message);
            }
        }
    }

    /// The content; `None` when there are keys only.
    fn decrypt_on_phone(
        &mut self,
        sender: &DeviceRef,
        chat: &Chat,
        phone: &str,
        message: &Node,
    ) -> Result<Option<wa::Message>, SimulatorError> {
        let signal = self.phone_signal(phone).ok_or_else(|| SimulatorError::crypto("no keys"))?;
        let address = device_address(sender);
        let mut content = None;
        for enc in message.get_children_by_tag("enc") {
            let kind = attr(enc, "type").unwrap_or_default();
            let plaintext = match (kind.as_str(), chat) {
                ("skmsg", Chat::Group(group)) => signal.decrypt_from_group(group, address.as_str(), &bytes(enc))?,
                _ => signal.decrypt(&address, &kind, &bytes(enc))?,
            };
            let mut read = decode_plaintext(&plaintext, PADDING_VERSION).map_err(SimulatorError::protocol)?;
            if let (Some(key), Chat::Group(group)) = (read.sender_key_distribution_message.take(), chat) {
                let key = key.axolotl_sender_key_distribution_message.unwrap_or_default();
                signal.take_sender_key(group, address.as_str(), &key)?;
            }
            if read != wa::Message::default() {
                content = Some(read);
            }
        }
        Ok(content)
    }

    /// The phone keeps a message, and tells the sender's devices that it has it. A message that it has already is counted.
    fn keep_on_phone(&mut self, sender: &DeviceRef, chat: Chat, phone: &str, message: &Node, mut content: wa::Message) {
        let id = attr(message, "id").unwrap_or_default();
        let is_own = sender.phone == phone;
        if is_own && let Some(copy) = content.device_sent_message.take().and_then(|mut copy| copy.message.take()) {
            content = copy;
        }
        // In the recipient's phone, the chat with the sender is meant.
        let place = match chat {
            Chat::Person(_) if !is_own => Chat::Person(sender.phone.clone()),
            chat => chat,
        };
        let Some(account) = self.account_mut(phone) else { return };
        let kept = if is_own { &mut account.copies } else { &mut account.messages };
        kept.keep(ReceivedMessage::new(&place, sender, &id, attr(message, "edit"), &content));
        if !is_own {
            let me = DeviceRef { phone: phone.to_owned(), device: 0 };
            self.tell_author(&me, &place, &sender.phone, &[id], None);
        }
    }
}

/// The text of a message as bytes, with the padding that WhatsApp asks for.
pub(super) fn padded(message: &wa::Message) -> Vec<u8> {
    MessageUtils::encode_and_pad(message)
}

pub(super) fn drop_oldest<T>(queue: &mut VecDeque<T>, max: usize) {
    while queue.len() > max {
        queue.pop_front();
    }
}
