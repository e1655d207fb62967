//! Linking a new device: what the server keeps about a waiting client, and how the phone vouches for it.
//!
//! `qr` and `code` differ in how phone and client agree on a secret. From there on both do the same: the phone
//! signs the client's identity (ADV), the server passes that on as `pair-success`, the client countersigns with
//! `pair-device-sign`, and only then the device exists. Known from whatsapp-rust's `pair.rs` and wacore's `pair.rs`.

mod code;
mod passkey;
mod qr;

use std::time::Duration;

use buffa::Message as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::RngExt as _;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use waproto::whatsapp as wa;

use crate::SimulatorError;
use crate::prekeys::KeyBundle;
use crate::signal::{public_bytes, sign};
use crate::stanza::{attr, bytes, iq_result, leaf, now, server_jid};
use crate::world::account::{Device, DeviceRef};
use crate::world::{Outbound, Outbox, State};

/// QR codes that a client gets; it shows each for 20 s, the first for 60 s, and then gives up.
const QR_REFS: usize = 6;
/// The prefixes of the phone's ADV signatures: over a device, and over the list of devices.
const ADV_PREFIX_DEVICE: [u8; 2] = [6, 0];
const ADV_PREFIX_KEY_INDEX_LIST: [u8; 2] = [6, 2];

/// A connected client that is not linked yet.
pub(crate) struct PendingLink {
    pub(crate) outbox: Outbox,
    pub(crate) refs: Vec<String>,
    pub(crate) noise_key: [u8; 32],
    pub(crate) keys: KeyBundle,
    /// Set when the client shows a pairing code.
    code: Option<code::CodeLink>,
    /// Set when the phone's account asks for a passkey.
    passkey: Option<passkey::PasskeyGate>,
    /// Set when a phone has vouched for the client; the client's own signature is still to come.
    promised: Option<Promise>,
}

fn send_later(outbox: Outbox, stanza: Node, after: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        // The client may be gone.
        let _ = outbox.send(Outbound::Stanzas(vec![stanza]));
    });
}

struct Promise {
    device: DeviceRef,
    key_index: u32,
}

impl State {
    /// A client registers: it gets the refs for its QR codes.
    pub(crate) fn register(
        &mut self,
        connection: u64,
        outbox: Outbox,
        noise_key: [u8; 32],
        registration: &wa::client_payload::DevicePairingRegistrationData,
    ) {
        let refs: Vec<String> =
            (0..QR_REFS).map(|_| format!("2@{:032x}{:08x}", self.rng.random::<u128>(), connection)).collect();
        let nodes = refs.iter().map(|reference| leaf("ref", reference.as_str()));
        let pair_device = NodeBuilder::new("pair-device").children(nodes).build();
        let request = self.request_to_client("md", pair_device);
        let keys = KeyBundle {
            registration: registration.e_regid.clone().unwrap_or_default(),
            identity: registration.e_ident.clone().unwrap_or_default(),
            signed_prekey_id: registration.e_skey_id.clone().unwrap_or_default(),
            signed_prekey: registration.e_skey_val.clone().unwrap_or_default(),
            signed_prekey_signature: registration.e_skey_sig.clone().unwrap_or_default(),
            one_time: Default::default(),
        };
        let _ = outbox.send(Outbound::Stanzas(vec![request]));
        self.links.insert(
            connection,
            PendingLink { outbox, refs, noise_key, keys, code: None, passkey: None, promised: None },
        );
    }

    fn request_to_client(&mut self, namespace: &'static str, child: Node) -> Node {
        NodeBuilder::new("iq")
            .attr("from", server_jid())
            .attr("type", "set")
            .attr("id", self.next_id().to_string())
            .attr("t", now().to_string())
            .attr("xmlns", namespace)
            .children([child])
            .build()
    }

    /// The phone vouches for the client with the secret that both know, and the server tells the client, `after` a while.
    fn vouch(
        &mut self,
        phone: &str,
        connection: u64,
        secret: &[u8],
        after: Option<Duration>,
    ) -> Result<(), SimulatorError> {
        self.ensure_account(phone);
        let account = self.accounts.get_mut(phone).ok_or(SimulatorError::UnknownQr)?;
        let link = self.links.get_mut(&connection).ok_or(SimulatorError::UnknownQr)?;
        account.devices_linked += 1;
        let device = account.devices_linked;
        let key_index = u32::from(device);
        let (mut pn, mut lid) = (account.pn_jid(), account.lid_jid());
        (pn.device, lid.device) = (device, device);
        let phone_keys = account.signal().ok_or_else(|| SimulatorError::crypto("no keys"))?.identity();

        let details = wa::ADVDeviceIdentity {
            raw_id: Some(1),
            timestamp: Some(now()),
            key_index: Some(key_index),
            ..Default::default()
        }
        .encode_to_vec();
        let signature = sign(phone_keys, &[&ADV_PREFIX_DEVICE[..], &details, &link.keys.identity].concat())?;
        let identity = wa::ADVSignedDeviceIdentity {
            details: Some(details),
            account_signature_key: Some(public_bytes(phone_keys)),
            account_signature: Some(signature),
            ..Default::default()
        }
        .encode_to_vec();
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret).map_err(SimulatorError::crypto)?;
        mac.update(&identity);
        let sealed = wa::ADVSignedDeviceIdentityHMAC {
            details: Some(identity),
            hmac: Some(mac.finalize().into_bytes().to_vec()),
            ..Default::default()
        };
        let success = NodeBuilder::new("pair-success").children([
            leaf("device-identity", sealed.encode_to_vec()),
            NodeBuilder::new("device").attr("jid", pn).attr("lid", lid).build(),
            NodeBuilder::new("platform").attr("name", "android").build(),
        ]);
        link.refs.clear();
        link.promised = Some(Promise { device: DeviceRef { phone: phone.to_owned(), device }, key_index });
        let outbox = link.outbox.clone();
        let request = self.request_to_client("md", success.build());
        if let Some(after) = after {
            send_later(outbox, request, after);
            return Ok(());
        }
        outbox.send(Outbound::Stanzas(vec![request])).map_err(|_| SimulatorError::UnknownQr)
    }

    /// A stanza of a client that is not linked. Returns true once it is: the stream is to be restarted.
    pub(crate) fn on_stanza_of_unlinked(&mut self, connection: u64, stanza: &Node) -> bool {
        if stanza.tag != "iq" {
            return false;
        }
        if let Some(identity) =
            stanza.get_optional_child("pair-device-sign").and_then(|sign| sign.get_optional_child("device-identity"))
        {
            return self.complete_link(connection, bytes(identity));
        }
        if let Some(answer) = self.on_passkey_request(connection, stanza) {
            self.answer_unlinked(connection, answer);
        } else if let Some(step) = stanza.get_optional_child("link_code_companion_reg") {
            self.on_code_request(connection, stanza, step);
        } else if attr(stanza, "type").as_deref() == Some("get") {
            self.answer_unlinked(connection, iq_result(stanza, vec![]));
        }
        false
    }

    fn answer_unlinked(&mut self, connection: u64, answer: Node) {
        if let Some(link) = self.links.get(&connection) {
            // A closed outbox means the connection is about to be forgotten.
            let _ = link.outbox.send(Outbound::Stanzas(vec![answer]));
        }
    }

    fn complete_link(&mut self, connection: u64, identity: Vec<u8>) -> bool {
        let Some(link) = self.links.remove(&connection) else { return false };
        let Some(promise) = link.promised else { return false };
        let Some(account) = self.accounts.get_mut(&promise.device.phone) else { return false };
        let device = Device::new(link.noise_key, promise.key_index, identity, link.keys);
        account.devices.insert(promise.device.device, device);
        self.tell_of_device(&promise.device, promise.key_index, true);
        true
    }

    /// The phone's signed list of its devices, as others see it.
    pub(crate) fn key_index_list(&mut self, phone: &str) -> Option<Vec<u8>> {
        let account = self.accounts.get_mut(phone)?;
        let valid: Vec<u32> = std::iter::once(0).chain(account.devices.values().map(|d| d.key_index)).collect();
        let details = wa::ADVKeyIndexList {
            raw_id: Some(1),
            timestamp: Some(now()),
            current_index: valid.iter().copied().max(),
            valid_indexes: valid,
            ..Default::default()
        }
        .encode_to_vec();
        let keys = account.signal()?.identity();
        let signature = sign(keys, &[&ADV_PREFIX_KEY_INDEX_LIST[..], &details].concat()).ok()?;
        let list = wa::ADVSignedKeyIndexList {
            details: Some(details),
            account_signature: Some(signature),
            account_signature_key: Some(public_bytes(keys)),
        };
        Some(list.encode_to_vec())
    }
}
