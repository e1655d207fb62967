//! When somebody could not read a message: the retry receipt, the message encrypted anew for one device, and what a phone gives
//! its own devices when they ask it.

use buffa::{Message as _, MessageField};
use wacore_binary::{Jid, JidExt as _, Node};
use waproto::whatsapp as wa;
use waproto::whatsapp::message::peer_data_operation_request_response_message as response;
use waproto::whatsapp::message::protocol_message::Type as ProtocolType;

use crate::SimulatorError;
use crate::messages::{Chat, ReceivedMessage};
use crate::peer::device_address;
use crate::prekeys::KeyBundle;
use crate::receipts::retry;
use crate::signal::prekey_bundle;
use crate::stanza::{attr, child_bytes, jid_attr, leaf, now};
use crate::world::account::DeviceRef;
use crate::world::{State, World};

impl World {
    /// Whether a phone sends a message once more when a device asks for it. Phones do unless set.
    pub fn set_resends(&self, phone: &str, resends: bool) {
        let mut state = self.lock();
        state.ensure_account(phone);
        if let Some(account) = state.account_mut(phone) {
            account.is_deaf = !resends;
        }
    }
}

impl State {
    /// A phone asks the sender's device for the message once more. It asks once for each message.
    pub(crate) fn ask_again(&mut self, sender: &DeviceRef, chat: &Chat, phone: &str, message: &Node) {
        let id = attr(message, "id").unwrap_or_default();
        let asked = &mut match self.account_mut(phone) {
            Some(account) => account,
            None => return,
        }
        .asked_again;
        if sender.device == 0 || !asked.insert(format!("{}/{id}", sender.phone)) {
            return;
        }
        let me = DeviceRef { phone: phone.to_owned(), device: 0 };
        let place = match chat {
            Chat::Person(_) => Chat::Person(phone.to_owned()),
            Chat::Group(_) => chat.clone(),
        };
        let Some(mut receipt) = self.receipt_from(&me, &place, std::slice::from_ref(&id), Some("retry")) else {
            return;
        };
        let registration = self.phone_signal(phone).map(|signal| signal.bundle().registration).unwrap_or_default();
        let asks = vec![retry(&id), leaf("registration", registration)];
        receipt.content = Some(wacore_binary::NodeContent::Nodes(asks));
        self.deliver(sender, vec![receipt]);
    }

    /// A device asks for a message once more: its sender gets the request. Phones that were told so do not answer.
    pub(crate) fn on_retry(&mut self, me: &DeviceRef, receipt: &Node) {
        let Some(to) = jid_attr(receipt, "to") else { return };
        let named = if to.is_group() { jid_attr(receipt, "participant") } else { Some(to.clone()) };
        let Some((author, named)) = named.and_then(|named| Some((self.phone_of(&named)?, named))) else { return };
        let target = DeviceRef { phone: author, device: named.device };
        if target.device == 0 {
            if self.accounts.get(&target.phone).is_some_and(|account| account.is_deaf) {
                return;
            }
            if let Err(error) = self.send_again_from_phone(&target.phone, me, receipt) {
                tracing::debug!(%error, "a phone could not send a message again");
            }
            return;
        }
        let mut stanza = receipt.clone();
        stanza.attrs.0.retain(|(name, _)| !["to", "participant"].contains(&name.as_ref()));
        stanza.attrs.insert("t", now().to_string());
        let addressing = if named.is_lid() { crate::world::Addressing::Lid } else { crate::world::Addressing::Pn };
        let Some(requester) = self.jid_of_device(me, addressing) else { return };
        if to.is_group() {
            stanza.attrs.insert("from", to);
            stanza.attrs.insert("participant", requester);
        } else {
            stanza.attrs.insert("from", requester);
        }
        self.deliver(&target, vec![stanza]);
    }

    /// The phone encrypts a message of its own for this device alone, with a new session if the device brought keys for one.
    fn send_again_from_phone(&mut self, phone: &str, to: &DeviceRef, receipt: &Node) -> Result<(), SimulatorError> {
        let gone = || SimulatorError::protocol("the phone has no such message");
        let id = attr(receipt, "id").unwrap_or_default();
        let count = receipt.get_optional_child("retry").and_then(|retry| attr(retry, "count"));
        if let Some(keys) = receipt.get_optional_child("keys") {
            self.open_session_with(phone, to, receipt, keys)?;
        }
        let account = self.account_mut(phone).ok_or_else(gone)?;
        let sent = account.sent.iter().rev().find(|sent| sent.id == id).ok_or_else(gone)?;
        let (chat, edit) = (sent.chat.clone(), sent.edit.clone());
        let message = wa::Message::decode_from_slice(&sent.content).map_err(SimulatorError::protocol)?;
        if let Chat::Group(group) = &chat {
            // The device gets the key of the group with the next message.
            let keyed = account.keyed.get_mut(group);
            keyed.map(|keyed| keyed.remove(&(to.phone.clone(), to.device)));
        }
        let plaintext = wacore::messages::MessageUtils::encode_and_pad(&message);
        let mut enc = self.encrypt_for(phone, to, &plaintext)?;
        enc.attrs.insert("count", count.unwrap_or_else(|| "1".to_owned()));
        let mut stanza = wacore_binary::builder::NodeBuilder::new("message").attr("id", id);
        if let Some(edit) = edit {
            stanza = stanza.attr("edit", edit);
        }
        let me = DeviceRef { phone: phone.to_owned(), device: 0 };
        self.relay_from_phone(&me, &chat, to, &stanza.build(), vec![enc]);
        Ok(())
    }

    fn open_session_with(
        &mut self,
        phone: &str,
        to: &DeviceRef,
        receipt: &Node,
        keys: &Node,
    ) -> Result<(), SimulatorError> {
        let mut bundle = KeyBundle {
            registration: child_bytes(receipt, "registration"),
            identity: child_bytes(keys, "identity"),
            ..KeyBundle::default()
        };
        bundle.take_signed_prekey(keys);
        let one_time = keys.get_optional_child("key").map(|key| (child_bytes(key, "id"), child_bytes(key, "value")));
        let bundle = prekey_bundle(to.device, &bundle, one_time.as_ref())?;
        let signal = self.phone_signal(phone).ok_or_else(|| SimulatorError::crypto("no keys"))?;
        signal.open_session(&device_address(to), &bundle)
    }

    /// A device asks its own phone for messages that it could not read. The phone gives those that it has.
    pub(crate) fn resend_placeholders(
        &mut self,
        to: &DeviceRef,
        request_id: &str,
        request: &wa::message::PeerDataOperationRequestMessage,
    ) -> Result<(), SimulatorError> {
        self.count(&to.phone, "peer:placeholder_resend");
        self.read_all_on(&to.phone);
        let asked = request.placeholder_message_resend_request.iter().filter_map(|asked| asked.message_key.as_option());
        let results = asked
            .map(|key| {
                let found = self.message_with_key(&to.phone, key).map(|info| info.encode_to_vec());
                let answer = response::peer_data_operation_result::PlaceholderMessageResendResponse {
                    web_message_info_bytes: found,
                };
                response::PeerDataOperationResult {
                    placeholder_message_resend_response: MessageField::some(answer),
                    ..Default::default()
                }
            })
            .collect();
        let answer = wa::message::PeerDataOperationRequestResponseMessage {
            peer_data_operation_request_type: request.peer_data_operation_request_type,
            stanza_id: Some(request_id.to_owned()),
            peer_data_operation_result: results,
        };
        let protocol = wa::message::ProtocolMessage {
            r#type: Some(ProtocolType::PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE),
            peer_data_operation_request_response_message: MessageField::some(answer),
            ..Default::default()
        };
        let message = wa::Message { protocol_message: MessageField::some(protocol), ..Default::default() };
        self.send_to_own_device(to, &message)
    }

    fn message_with_key(&self, phone: &str, key: &wa::MessageKey) -> Option<wa::WebMessageInfo> {
        let account = self.accounts.get(phone)?;
        let id = key.id.as_deref()?;
        let message = account.kept_message(id)?;
        Some(self.web_message_info(phone, message))
    }

    /// A message as phones describe it to their devices.
    pub(crate) fn web_message_info(&self, phone: &str, message: &ReceivedMessage) -> wa::WebMessageInfo {
        let is_group = message.chat.contains('@');
        let participant =
            is_group.then(|| self.accounts.get(&message.sender).map(|account| account.lid_jid().to_string()));
        let remote = if is_group { message.chat.clone() } else { Jid::pn(message.chat.as_str()).to_string() };
        let key = wa::MessageKey {
            remote_jid: Some(remote),
            from_me: Some(message.sender == phone),
            id: Some(message.id.clone()),
            participant: participant.clone().flatten(),
        };
        wa::WebMessageInfo {
            key: MessageField::some(key),
            message: MessageField::some(message.message()),
            message_timestamp: Some(message.time),
            participant: participant.flatten(),
            push_name: self.accounts.get(&message.sender).map(|account| account.name.clone()),
            ..Default::default()
        }
    }
}
