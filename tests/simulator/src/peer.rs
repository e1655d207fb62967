//! Messages between a phone and its own devices: the app-state key, and requests for it.

use tracing::debug;
use wacore::messages::{MessageUtils, decode_plaintext};
use wacore::types::jid::JidExt as _;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node};
use waproto::whatsapp as wa;

use crate::SimulatorError;
use crate::signal::prekey_bundle;
use crate::stanza::{attr, bytes, now};
use crate::world::State;
use crate::world::account::DeviceRef;

/// The only padding version there is.
const ENC_VERSION: &str = "2";
pub(crate) const PADDING_VERSION: u8 = 2;

impl State {
    /// Once a new device's pre-keys are there, its phone shares the app-state key with it.
    pub(crate) fn share_app_state_key(&mut self, to: &DeviceRef) {
        let due = self.device_mut(to).is_some_and(|device| std::mem::take(&mut device.key_share_due));
        if due && let Err(error) = self.send_app_state_key(to) {
            debug!(%error, "the phone could not share its app-state key");
        }
    }

    fn send_app_state_key(&mut self, to: &DeviceRef) -> Result<(), SimulatorError> {
        let gone = || SimulatorError::crypto("the account is gone");
        let account = self.accounts.get_mut(&to.phone).ok_or_else(gone)?;
        let name = account.name.clone();
        let message = account.app_state.key_share(&name, &mut self.rng);
        let plaintext = MessageUtils::encode_and_pad(&message);

        let device = account.devices.get_mut(&to.device).ok_or_else(gone)?;
        let one_time = device.keys.one_time.pop_front();
        let bundle = prekey_bundle(to.device, &device.keys, one_time.as_ref())?;
        let from = account.pn_jid();
        let address = device_address(to);
        let (kind, ciphertext) = account.signal().ok_or_else(gone)?.encrypt(&address, &bundle, &plaintext)?;

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

    /// A device wrote to its own phone. The phone understands one thing: a request for the app-state key.
    pub(crate) fn on_peer_message(&mut self, from: &DeviceRef, stanza: &Node) {
        match self.read_peer_message(from, stanza) {
            Ok(message) if asks_for_app_state_key(&message) => {
                if let Err(error) = self.send_app_state_key(from) {
                    debug!(%error, "the phone could not share its app-state key again");
                }
            }
            Ok(_) => {}
            Err(error) => debug!(%error, "the phone could not read what its device wrote"),
        }
    }

    fn read_peer_message(&mut self, from: &DeviceRef, stanza: &Node) -> Result<wa::Message, SimulatorError> {
        let enc = stanza.get_optional_child("enc").ok_or_else(|| SimulatorError::protocol("nothing encrypted"))?;
        let kind = attr(enc, "type").unwrap_or_default();
        let phone = self.phone_signal(&from.phone).ok_or_else(|| SimulatorError::crypto("no keys"))?;
        let plaintext = phone.decrypt(&device_address(from), &kind, &bytes(enc))?;
        decode_plaintext(&plaintext, PADDING_VERSION).map_err(SimulatorError::protocol)
    }
}

fn asks_for_app_state_key(message: &wa::Message) -> bool {
    let protocol = message.protocol_message.as_option();
    protocol.is_some_and(|protocol| protocol.app_state_sync_key_request.as_option().is_some())
}

/// The name under which the phone keeps its session with a device. Nobody else sees this name.
pub(crate) fn device_address(device: &DeviceRef) -> wacore_libsignal::protocol::ProtocolAddress {
    Jid::pn_device(device.phone.as_str(), device.device).to_protocol_address()
}
