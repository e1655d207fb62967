//! Messages between a phone and its own devices: the app-state key, requests for it, and for messages that could not be read.

use tracing::debug;
use wacore::messages::{MessageUtils, decode_plaintext};
use wacore::types::jid::JidExt as _;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};
use waproto::whatsapp as wa;

use crate::SimulatorError;
use crate::signal::prekey_bundle;
use crate::stanza::{attr, bytes, children, jid_attr, now};
use crate::world::account::DeviceRef;
use crate::world::{Addressing, State};

/// The only padding version there is.
pub(crate) const ENC_VERSION: &str = "2";
pub(crate) const PADDING_VERSION: u8 = 2;

impl State {
    /// Once a new device's pre-keys are there, its phone shares the app-state key with it, and then tells it about the past.
    pub(crate) fn share_app_state_key(&mut self, to: &DeviceRef) {
        let due = self.device_mut(to).is_some_and(|device| std::mem::take(&mut device.key_share_due));
        let told = |state: &mut Self| state.send_app_state_key(to).and_then(|()| state.tell_history(to));
        if due && let Err(error) = told(self) {
            debug!(%error, "the phone could not share its app-state key");
        }
    }

    fn send_app_state_key(&mut self, to: &DeviceRef) -> Result<(), SimulatorError> {
        let account = self.accounts.get_mut(&to.phone).ok_or_else(|| SimulatorError::crypto("the account is gone"))?;
        let message = account.app_state.key_share(&account.name, &mut self.rng);
        self.send_to_own_device(to, &message)
    }

    /// The phone writes to a device of its own, with a new session.
    pub(crate) fn send_to_own_device(&mut self, to: &DeviceRef, message: &wa::Message) -> Result<(), SimulatorError> {
        let gone = || SimulatorError::crypto("the account is gone");
        let account = self.accounts.get_mut(&to.phone).ok_or_else(gone)?;
        let device = account.devices.get_mut(&to.device).ok_or_else(gone)?;
        let one_time = device.keys.one_time.pop_front();
        let bundle = prekey_bundle(to.device, &device.keys, one_time.as_ref())?;
        let from = account.lid_jid();
        let address = device_address(to);
        let signal = account.signal().ok_or_else(gone)?;
        signal.open_session(&address, &bundle)?;
        let (kind, ciphertext) = signal.encrypt(&address, &MessageUtils::encode_and_pad(message))?;

        let enc = NodeBuilder::new("enc").attr("v", ENC_VERSION).attr("type", kind).bytes(ciphertext).build();
        let id = format!("3EB0{:016X}", self.next_id());
        let stanza = NodeBuilder::new("message")
            .attr("from", from)
            .attr("id", id)
            .attr("type", "text")
            .attr("category", "peer")
            .attr("t", now().to_string())
            .children([enc])
            .build();
        self.deliver(to, vec![stanza]);
        Ok(())
    }

    /// A device writes to its own phone, or to another device of its account. The phone understands requests for the app-state
    /// key, and for messages that the device could not read.
    pub(crate) fn on_peer_message(&mut self, from: &DeviceRef, to: &Jid, stanza: &Node) {
        if self.phone_of(to).as_ref() != Some(&from.phone) {
            return;
        }
        if to.device != 0 {
            return self.relay_to_own_device(from, to, stanza);
        }
        let id = attr(stanza, "id").unwrap_or_default();
        let done = self.read_peer_message(from, to, stanza).and_then(|message| self.obey(from, &id, &message));
        if let Err(error) = done {
            debug!(%error, "the phone could not read what its device wrote, or not do it");
        }
    }

    fn obey(&mut self, from: &DeviceRef, id: &str, message: &wa::Message) -> Result<(), SimulatorError> {
        let Some(protocol) = message.protocol_message.as_option() else { return Ok(()) };
        if protocol.app_state_sync_key_request.is_set() {
            return self.send_app_state_key(from);
        }
        match protocol.peer_data_operation_request_message.as_option() {
            Some(request) if !request.placeholder_message_resend_request.is_empty() => {
                self.resend_placeholders(from, id, request)
            }
            _ => Ok(()),
        }
    }

    fn relay_to_own_device(&mut self, from: &DeviceRef, to: &Jid, stanza: &Node) {
        let Some(sender) = self.jid_of_device(from, Addressing::Lid) else { return };
        let mut relayed = stanza.clone();
        relayed.attrs.0.retain(|(name, _)| name != "to");
        relayed.attrs.insert("from", sender);
        relayed.attrs.insert("t", now().to_string());
        self.deliver(&DeviceRef { phone: from.phone.clone(), device: to.device }, vec![relayed]);
    }

    fn read_peer_message(&mut self, from: &DeviceRef, to: &Jid, stanza: &Node) -> Result<wa::Message, SimulatorError> {
        let direct = stanza.get_optional_child("enc");
        let parts = stanza.get_optional_child("participants").map(children).unwrap_or_default();
        let own = parts.iter().find(|part| jid_attr(part, "jid").is_some_and(|jid| jid.device == to.device));
        let enc = direct.or_else(|| own?.get_optional_child("enc"));
        let enc = enc.ok_or_else(|| SimulatorError::protocol("nothing encrypted"))?;
        let kind = attr(enc, "type").unwrap_or_default();
        let phone = self.phone_signal(&from.phone).ok_or_else(|| SimulatorError::crypto("no keys"))?;
        let plaintext = phone.decrypt(&device_address(from), &kind, &bytes(enc))?;
        let message = decode_plaintext(&plaintext, PADDING_VERSION).map_err(SimulatorError::protocol)?;
        // Some clients wrap it like a copy of what they sent to others.
        let wrapped = message.device_sent_message.as_option().and_then(|copy| copy.message.as_option());
        Ok(wrapped.cloned().unwrap_or(message))
    }
}

/// The name under which the phone keeps its session with a device. Nobody else sees this name.
pub(crate) fn device_address(device: &DeviceRef) -> wacore_libsignal::protocol::ProtocolAddress {
    Jid::pn_device(device.phone.as_str(), device.device).to_protocol_address()
}
