//! Linking an account that asks for its passkey: after the QR or the code, and before the phone vouches for the client.
//!
//! The server asks the client (`passkey_prologue_request`); the client answers with the passkey's signature and commits
//! itself to keys (`passkey_prologue`); the phone answers with keys of its own (`crsc_continuation`); the client opens its
//! commitment (`companion_nonce`), from which both have a code to compare; then the client sends the phone a new secret
//! (`encrypted_pairing_request`), with which the phone vouches. Known from whatsapp-rust's `passkey/flow.rs` and wacore's
//! `shortcake.rs`. That a refused answer gets 403, and a step out of order 400, is our own reading.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use buffa::Message as _;
use rand::RngExt as _;
use wacore::shortcake::ShortcakeUtils;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use wacore_libsignal::crypto::aes_256_gcm_decrypt;
use wacore_libsignal::protocol::KeyPair;
use waproto::whatsapp as wa;
use waproto::whatsapp::device_props::PlatformType;

use crate::SimulatorError;
use crate::passkey::{self, Credential, PasskeyManner, SoftwarePasskey};
use crate::signal::{new_keys, public_bytes, random};
use crate::stanza::{attr, bytes, child_bytes, iq_error, iq_result, leaf, now, server_jid};
use crate::world::{Outbound, State, World};

/// The phone's part takes a moment. A client that is told at once has not handled the answer before yet.
const PHONE_TIME: Duration = Duration::from_millis(60);

/// A client whose phone's account asks for its passkey.
pub(crate) struct PasskeyGate {
    phone: String,
    /// The secret of the QR or the code, which phone and client have.
    secret: Vec<u8>,
    challenge: String,
    /// The reference that the client asked for.
    reference: String,
    stage: Stage,
}

enum Stage {
    Asked,
    /// The passkey has signed; these are the keys of both sides. `is_known`: the client proved that it is the one that the
    /// phone accepted.
    Exchanging {
        client: ClientKeys,
        keys: KeyPair,
        nonce: [u8; 32],
        is_known: bool,
    },
    /// The phone shows this code; none where the client is known.
    Comparing {
        client: ClientKeys,
        keys: KeyPair,
        code: Option<String>,
    },
}

#[derive(Clone)]
struct ClientKeys {
    /// The client's message with its key.
    identity: Vec<u8>,
    public_key: [u8; 32],
    device_type: PlatformType,
    commitment: Vec<u8>,
}

impl World {
    /// From now on the account asks for this passkey when a device is linked; `None`: for none.
    pub fn require_passkey(&self, phone: &str, passkey: Option<&SoftwarePasskey>) {
        self.require_credential(phone, passkey.map(SoftwarePasskey::credential), PasskeyManner::default());
    }

    /// As [`Self::require_passkey`], with what happens then.
    pub fn require_credential(&self, phone: &str, credential: Option<Credential>, manner: PasskeyManner) {
        let mut state = self.lock();
        state.ensure_account(phone);
        if let Some(account) = state.account_mut(phone) {
            account.passkey = credential.map(|credential| passkey::AccountPasskey { credential, manner });
        }
    }

    /// Makes a passkey for an account, for [`Self::sign_with_passkey`]; it is not asked for yet.
    pub(crate) fn make_passkey(&self, phone: &str) -> Result<Credential, SimulatorError> {
        let passkey = SoftwarePasskey::generate()?;
        let credential = passkey.credential();
        self.lock().passkeys.insert(phone.to_owned(), passkey);
        Ok(credential)
    }

    /// Signs with the passkey that was made for an account.
    pub(crate) fn sign_with_passkey(&self, phone: &str, options: &str) -> Result<String, SimulatorError> {
        let state = self.lock();
        let passkey =
            state.passkeys.get(phone).ok_or_else(|| SimulatorError::protocol("no passkey was made for it"))?;
        passkey.sign(options)
    }

    /// The code that the phone shows, to be compared with the client's.
    #[must_use]
    pub fn passkey_code(&self, phone: &str) -> Option<String> {
        let state = self.lock();
        let gates = state.links.values().filter_map(|link| link.passkey.as_ref());
        gates.filter(|gate| gate.phone == phone).find_map(|gate| match &gate.stage {
            Stage::Comparing { code, .. } => code.clone(),
            _ => None,
        })
    }
}

impl State {
    /// The phone has accepted the client, with this secret: it vouches, unless its account asks for a passkey first.
    pub(super) fn accept(&mut self, phone: &str, connection: u64, secret: &[u8]) -> Result<(), SimulatorError> {
        self.ensure_account(phone);
        if self.accounts.get(phone).is_none_or(|account| account.passkey.is_none()) {
            return self.vouch(phone, connection, secret, None);
        }
        let challenge = URL_SAFE_NO_PAD.encode(self.rng.random::<[u8; 32]>());
        let reference = format!("4@{:032x}", self.rng.random::<u128>());
        let options = leaf("passkey_request_options", passkey::options(&challenge));
        let notification = self.notification_to_client("passkey_prologue_request", options);
        let link = self.links.get_mut(&connection).ok_or(SimulatorError::UnknownQr)?;
        // A QR is scanned once.
        link.refs.clear();
        link.passkey = Some(PasskeyGate {
            phone: phone.to_owned(),
            secret: secret.to_vec(),
            challenge,
            reference,
            stage: Stage::Asked,
        });
        let sent = link.outbox.send(Outbound::Stanzas(vec![notification]));
        self.count(phone, "passkey:asked");
        sent.map_err(|_| SimulatorError::UnknownQr)
    }

    fn notification_to_client(&mut self, kind: &'static str, child: Node) -> Node {
        NodeBuilder::new("notification")
            .attr("from", server_jid())
            .attr("type", kind)
            .attr("id", self.next_id().to_string())
            .attr("t", now().to_string())
            .children([child])
            .build()
    }

    /// A request of a client that waits at the gate; `None`: it is none of these.
    pub(super) fn on_passkey_request(&mut self, connection: u64, request: &Node) -> Option<Node> {
        let gate = self.links.get(&connection)?.passkey.as_ref()?;
        if attr(request, "xmlns").as_deref() != Some("md") {
            return None;
        }
        let child = |tag| request.get_optional_child(tag);
        if child("ref").is_some() {
            return Some(iq_result(request, vec![leaf("ref", gate.reference.clone())]));
        }
        if child("passkey_request_options").is_some() {
            let options = leaf("passkey_request_options", passkey::options(&gate.challenge));
            return Some(iq_result(request, vec![options]));
        }
        let done = if let Some(prologue) = child("passkey_prologue") {
            self.passkey_prologue(connection, prologue)
        } else if let Some(nonce) = child("companion_nonce") {
            self.companion_nonce(connection, &bytes(nonce))
        } else {
            self.pairing_request(connection, &bytes(child("encrypted_pairing_request")?))
        };
        Some(match done {
            Ok(()) => iq_result(request, vec![]),
            Err((code, why)) => {
                tracing::debug!(why, "a step of a link with a passkey was refused");
                iq_error(request, code, None)
            }
        })
    }

    fn passkey_prologue(&mut self, connection: u64, prologue: &Node) -> Result<(), (u16, &'static str)> {
        let link = self.links.get(&connection).ok_or((400, "no link"))?;
        let gate = link.passkey.as_ref().ok_or((400, "no gate"))?;
        let (phone, outbox) = (gate.phone.clone(), link.outbox.clone());
        let passkey =
            self.accounts.get(&phone).and_then(|account| account.passkey.clone()).ok_or((400, "no passkey"))?;
        let Stage::Asked = gate.stage else { return Err((400, "answered before")) };
        let (assertion, id) = (child_bytes(prologue, "webauthn_assertion"), child_bytes(prologue, "credential_id"));
        if let Err(why) = passkey::check(&assertion, &id, &gate.challenge, &passkey.credential) {
            self.count(&phone, "passkey:refused");
            return Err((403, why));
        }
        let payload = child_bytes(prologue, "prologue_payload");
        let client = client_keys(&payload, &gate.reference).ok_or((400, "keys"))?;
        let is_known = match prologue.get_optional_child("pairing_handoff_proof") {
            None => false,
            Some(proof) if is_proof(&bytes(proof), &gate.secret, &payload) => true,
            Some(_) => return Err((403, "the client does not have the phone's secret")),
        };
        let (keys, nonce) = (new_keys(), random().random::<[u8; 32]>());
        let mut told =
            wa::PrimaryEphemeralIdentity { public_key: Some(public_bytes(&keys)), nonce: Some(nonce.to_vec()) };
        if passkey.manner == PasskeyManner::Babbles {
            told.nonce = Some(vec![0]);
        }
        let told = leaf("primary_ephemeral_identity", told.encode_to_vec());
        let told = self.notification_to_client("crsc_continuation", told);
        if let Some(gate) = self.links.get_mut(&connection).and_then(|link| link.passkey.as_mut()) {
            gate.stage = Stage::Exchanging { client, keys, nonce, is_known };
        }
        if passkey.manner != PasskeyManner::StaysSilent {
            super::send_later(outbox, told, PHONE_TIME);
        }
        Ok(())
    }

    fn companion_nonce(&mut self, connection: u64, nonce: &[u8]) -> Result<(), (u16, &'static str)> {
        let gate = self.links.get_mut(&connection).and_then(|link| link.passkey.as_mut()).ok_or((400, "no gate"))?;
        let Stage::Exchanging { client, keys, nonce: phone_nonce, is_known } = &gate.stage else {
            return Err((400, "out of order"));
        };
        let nonce: &[u8; 32] = nonce.try_into().map_err(|_| (400, "a nonce has 32 bytes"))?;
        if ShortcakeUtils::commitment_hash(&client.identity, nonce)[..] != client.commitment {
            return Err((403, "the client is committed to another nonce"));
        }
        let public: [u8; 32] = public_bytes(keys).try_into().map_err(|_| (500, "a key has 32 bytes"))?;
        let code = ShortcakeUtils::derive_verification_code(nonce, &public, phone_nonce);
        let code = (!is_known).then_some(code);
        let (client, keys) = (client.clone(), keys.clone());
        gate.stage = Stage::Comparing { client, keys, code };
        Ok(())
    }

    fn pairing_request(&mut self, connection: u64, sealed: &[u8]) -> Result<(), (u16, &'static str)> {
        let link = self.links.get_mut(&connection).ok_or((400, "no link"))?;
        let gate = link.passkey.take().ok_or((400, "no gate"))?;
        let Stage::Comparing { client, keys, .. } = &gate.stage else { return Err((400, "out of order")) };
        let key = ShortcakeUtils::derive_encryption_key(keys, &client.public_key, client.device_type, &gate.reference)
            .map_err(|_| (400, "no key"))?;
        let sealed = wa::EncryptedPairingRequest::decode_from_slice(sealed).map_err(|_| (400, "no request"))?;
        let iv: [u8; 12] = sealed.iv.unwrap_or_default().try_into().map_err(|_| (400, "an IV has 12 bytes"))?;
        let mut opened = Vec::new();
        aes_256_gcm_decrypt(&key, &iv, b"", &sealed.encrypted_payload.unwrap_or_default(), &mut opened)
            .map_err(|_| (403, "the request is sealed with another key"))?;
        let request = wa::PairingRequest::decode_from_slice(&opened).map_err(|_| (400, "no request"))?;
        if request.companion_public_key.as_deref() != Some(&link.noise_key[..])
            || request.companion_identity_key.as_ref() != Some(&link.keys.identity)
        {
            return Err((403, "the request is about another client"));
        }
        let declines = self.accounts.get(&gate.phone).and_then(|account| account.passkey.as_ref());
        if declines.is_some_and(|passkey| passkey.manner == PasskeyManner::Declines) {
            return Ok(());
        }
        self.count(&gate.phone, "passkey:linked");
        let secret = request.adv_secret.unwrap_or_default();
        self.vouch(&gate.phone, connection, &secret, Some(PHONE_TIME)).map_err(|_| (500, "the phone could not vouch"))
    }
}

/// Whether the client has the secret that the phone knows of it.
fn is_proof(proof: &[u8], secret: &[u8], payload: &[u8]) -> bool {
    let key = secret.try_into().ok().and_then(|secret| ShortcakeUtils::derive_pairing_handoff_hmac_key(secret).ok());
    key.is_some_and(|key| ShortcakeUtils::compute_pairing_handoff_proof(&key, payload)[..] == *proof)
}

/// The client's keys in its prologue, if they are for this reference.
fn client_keys(prologue: &[u8], reference: &str) -> Option<ClientKeys> {
    let prologue = wa::ProloguePayload::decode_from_slice(prologue).ok()?;
    let identity = prologue.companion_ephemeral_identity?;
    let commitment = prologue.commitment.into_option()?.hash?;
    let told = wa::CompanionEphemeralIdentity::decode_from_slice(&identity).ok()?;
    let public_key = told.public_key?.try_into().ok()?;
    let is_whole = told.r#ref.as_deref() == Some(reference) && commitment.len() == 32;
    is_whole.then_some(ClientKeys {
        identity,
        public_key,
        device_type: told.device_type.unwrap_or_default(),
        commitment,
    })
}
