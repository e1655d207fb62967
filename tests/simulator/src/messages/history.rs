//! What the phone tells a new device about the past: its chats, or that there is none.

use std::collections::BTreeMap;
use std::io::Write as _;

use buffa::{Message as _, MessageField};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use wacore_binary::Jid;
use waproto::whatsapp as wa;
use waproto::whatsapp::message::protocol_message::Type as ProtocolType;

use super::ReceivedMessage;
use crate::SimulatorError;
use crate::world::account::DeviceRef;
use crate::world::{State, World};

/// What a phone tells a new device about the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhoneHistory {
    /// The messages that the phone has, in the message itself.
    #[default]
    Chats,
    /// That there is no history.
    None,
    /// Not a word.
    Silent,
}

impl World {
    /// What the account's phone tells devices that are linked from now on.
    pub fn set_phone_history(&self, phone: &str, history: PhoneHistory) {
        let mut state = self.lock();
        state.ensure_account(phone);
        if let Some(account) = state.account_mut(phone) {
            account.history = history;
        }
    }
}

impl State {
    /// The phone tells a new device about the past.
    pub(crate) fn tell_history(&mut self, to: &DeviceRef) -> Result<(), SimulatorError> {
        self.read_all_on(&to.phone);
        let Some(account) = self.accounts.get(&to.phone) else { return Ok(()) };
        let mut notification = wa::message::HistorySyncNotification { chunk_order: Some(1), ..Default::default() };
        match account.history {
            PhoneHistory::Silent => return Ok(()),
            PhoneHistory::None => notification.sync_type = Some(wa::message::HistorySyncType::NO_HISTORY),
            PhoneHistory::Chats => {
                let packed = pack(&self.chats_of(&to.phone).encode_to_vec())?;
                notification.sync_type = Some(wa::message::HistorySyncType::INITIAL_BOOTSTRAP);
                notification.progress = Some(100);
                notification.initial_hist_bootstrap_inline_payload = Some(packed);
            }
        }
        let protocol = wa::message::ProtocolMessage {
            r#type: Some(ProtocolType::HISTORY_SYNC_NOTIFICATION),
            history_sync_notification: MessageField::some(notification),
            ..Default::default()
        };
        let message = wa::Message { protocol_message: MessageField::some(protocol), ..Default::default() };
        self.send_to_own_device(to, &message)
    }

    fn chats_of(&self, phone: &str) -> wa::HistorySync {
        let Some(account) = self.accounts.get(phone) else { return wa::HistorySync::default() };
        let mut chats: BTreeMap<&str, Vec<&ReceivedMessage>> = BTreeMap::new();
        for message in account.kept_messages() {
            chats.entry(&message.chat).or_default().push(message);
        }
        let conversations = chats.into_iter().map(|(chat, mut messages)| {
            messages.sort_by_key(|message| message.time);
            let messages = messages.iter().enumerate().map(|(order, message)| wa::HistorySyncMsg {
                message: MessageField::some(self.web_message_info(phone, message)),
                msg_order_id: Some(order as u64),
            });
            wa::Conversation { id: jid_of_chat(chat), messages: messages.collect(), ..Default::default() }
        });
        wa::HistorySync {
            sync_type: wa::history_sync::HistorySyncType::INITIAL_BOOTSTRAP,
            conversations: conversations.collect(),
            progress: Some(100),
            ..Default::default()
        }
    }
}

/// A chat as WhatsApp names it.
fn jid_of_chat(chat: &str) -> String {
    if chat.contains('@') { chat.to_owned() } else { Jid::pn(chat).to_string() }
}

fn pack(content: &[u8]) -> Result<Vec<u8>, SimulatorError> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).and_then(|()| encoder.finish()).map_err(SimulatorError::protocol)
}
