//! Linking by pairing code: eight letters that the person types on the phone protect an exchange of keys, and from
//! these keys both sides derive the secret.
//!
//! Three steps, relayed by the server: `companion_hello` (client), `primary_hello` (phone), `companion_finish`
//! (client). A mistyped code shows only at the last step; the phone then sends nothing more.
//! Known from wacore's `pair_code.rs`.

use wacore::crypto::hkdf_sha256;
use wacore::pair_code::PairCodeUtils;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use wacore_libsignal::crypto::aes_256_gcm_decrypt;
use wacore_libsignal::protocol::{KeyPair, PublicKey};

use rand::RngExt as _;

use crate::SimulatorError;
use crate::signal::{new_keys, public_bytes};
use crate::stanza::{attr, child_bytes, iq_error, iq_result, jid_attr, leaf, now, server_jid};
use crate::world::{Outbound, State, World};

/// Lengths inside the sealed bundle: salt and nonce in front; three keys in it.
const SALT_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const KEY_BYTES: usize = 32;
/// Browsers that WhatsApp knows.
const BROWSERS: [&str; 6] = ["Chrome", "Edge", "Firefox", "IE", "Opera", "Safari"];
/// Systems that WhatsApp knows; other clients send the last three.
const SYSTEMS: [&str; 8] = ["Windows", "Mac OS", "Linux", "Android", "iOS", "Ubuntu", "Fedora", "Mac"];

/// A client that shows a code.
pub(crate) struct CodeLink {
    phone: String,
    reference: Vec<u8>,
    /// The client's ephemeral key, sealed with the code.
    sealed_key: Vec<u8>,
    /// The keys for the exchange, once a code was typed on the phone.
    typed: Option<Typed>,
}

struct Typed {
    phone_ephemeral: KeyPair,
    client_ephemeral: [u8; KEY_BYTES],
}

impl World {
    /// Types a code on the phone. Takes some tenths of a second of computing, in which the world is not locked.
    pub(crate) fn enter_code(&self, phone: &str, code: &str) -> Result<(), SimulatorError> {
        let code: String = code.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase();
        let sealed_key = self.lock().code_link(phone)?.sealed_key.clone();
        let client_ephemeral =
            PairCodeUtils::decrypt_primary_ephemeral_pub(&sealed_key, &code).map_err(SimulatorError::protocol)?;
        let phone_ephemeral = new_keys();
        let public: [u8; KEY_BYTES] =
            public_bytes(&phone_ephemeral).try_into().map_err(|_| SimulatorError::crypto("key length"))?;
        let answer = PairCodeUtils::encrypt_ephemeral_pub(&public, &code);
        self.lock().primary_hello(phone, Typed { phone_ephemeral, client_ephemeral }, &answer)
    }
}

/// Whether the client says which browser and system it is, as WhatsApp demands of those that ask for a code: `Chrome (Linux)`.
fn names_a_browser(step: &Node) -> bool {
    let display = child_bytes(step, "companion_platform_display");
    let id = child_bytes(step, "companion_platform_id");
    let parts = std::str::from_utf8(&display).ok().and_then(|text| text.strip_suffix(')')?.split_once(" ("));
    parts.is_some_and(|(browser, system)| BROWSERS.contains(&browser) && SYSTEMS.contains(&system))
        && matches!(id.as_slice(), [b'1'..=b'9'])
}

impl State {
    /// The newest client that waits for this phone.
    fn code_link(&mut self, phone: &str) -> Result<&mut CodeLink, SimulatorError> {
        let mut links = self.links.values_mut().rev().filter_map(|link| link.code.as_mut());
        links.find(|code| code.phone == phone).ok_or(SimulatorError::NoPairingCode)
    }

    /// A `link_code_companion_reg` request of a client that is not linked.
    pub(super) fn on_code_request(&mut self, connection: u64, request: &Node, step: &Node) {
        match attr(step, "stage").as_deref() {
            Some("companion_hello") => self.companion_hello(connection, request, step),
            Some("companion_finish") => self.companion_finish(connection, request, step),
            _ => self.answer_unlinked(connection, iq_error(request, 400, None)),
        }
    }

    fn companion_hello(&mut self, connection: u64, request: &Node, step: &Node) {
        let phone = jid_attr(step, "jid").and_then(|jid| self.phone_of(&jid)).filter(|_| names_a_browser(step));
        let reference = format!("3@{:032x}", self.rng.random::<u128>()).into_bytes();
        let (Some(phone), Some(link)) = (phone, self.links.get_mut(&connection)) else {
            return self.answer_unlinked(connection, iq_error(request, 400, None));
        };
        link.code = Some(CodeLink {
            phone,
            reference: reference.clone(),
            sealed_key: child_bytes(step, "link_code_pairing_wrapped_companion_ephemeral_pub"),
            typed: None,
        });
        let answer = NodeBuilder::new("link_code_companion_reg")
            .attr("stage", "companion_hello")
            .children([leaf("link_code_pairing_ref", reference)]);
        self.answer_unlinked(connection, iq_result(request, vec![answer.build()]));
    }

    fn primary_hello(&mut self, phone: &str, typed: Typed, answer: &[u8]) -> Result<(), SimulatorError> {
        let id = self.next_id().to_string();
        let keys = self.phone_signal(phone).ok_or(SimulatorError::NoPairingCode)?;
        let identity = public_bytes(keys.identity());
        let link = self.links.values_mut().rev().find(|link| link.code.as_ref().is_some_and(|c| c.phone == phone));
        let link = link.ok_or(SimulatorError::NoPairingCode)?;
        let code = link.code.as_mut().ok_or(SimulatorError::NoPairingCode)?;
        code.typed = Some(typed);
        let step = NodeBuilder::new("link_code_companion_reg").attr("stage", "primary_hello").children([
            leaf("link_code_pairing_wrapped_primary_ephemeral_pub", answer),
            leaf("primary_identity_pub", identity),
            leaf("link_code_pairing_ref", code.reference.clone()),
        ]);
        let notification = NodeBuilder::new("notification")
            .attr("from", server_jid())
            .attr("type", "link_code_companion_reg")
            .attr("id", id)
            .attr("t", now().to_string())
            .children([step.build()]);
        let sent = link.outbox.send(Outbound::Stanzas(vec![notification.build()]));
        sent.map_err(|_| SimulatorError::NoPairingCode)
    }

    fn companion_finish(&mut self, connection: u64, request: &Node, step: &Node) {
        self.answer_unlinked(connection, iq_result(request, vec![]));
        let Some(code) = self.links.get_mut(&connection).and_then(|link| link.code.take()) else { return };
        let secret = self.shared_secret(&code, step);
        if let Err(error) = secret.and_then(|secret| self.accept(&code.phone, connection, &secret)) {
            tracing::debug!(%error, "the phone could not link by code");
            self.count(&code.phone, "pairing_code:refused");
        }
    }

    /// Opens the client's bundle and derives the secret.
    fn shared_secret(&mut self, code: &CodeLink, step: &Node) -> Result<Vec<u8>, SimulatorError> {
        let typed = code.typed.as_ref().ok_or(SimulatorError::NoPairingCode)?;
        let agree = |ours: &KeyPair, theirs: &[u8]| {
            let theirs = PublicKey::from_djb_public_key_bytes(theirs).map_err(SimulatorError::crypto)?;
            ours.calculate_agreement(&theirs).map_err(SimulatorError::crypto)
        };
        let ephemeral = agree(&typed.phone_ephemeral, &typed.client_ephemeral)?;
        let sealed = child_bytes(step, "link_code_pairing_wrapped_key_bundle");
        let too_short = || SimulatorError::protocol("the key bundle is too short");
        let (salt, rest) = sealed.split_at_checked(SALT_BYTES).ok_or_else(too_short)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(too_short)?;
        let key = hkdf(&ephemeral, Some(salt), b"link_code_pairing_key_bundle_encryption_key")?;
        let mut bundle = Vec::new();
        aes_256_gcm_decrypt(&key, nonce, b"", sealed, &mut bundle).map_err(SimulatorError::crypto)?;
        let [client_identity, phone_identity, random] = bundle.as_chunks::<KEY_BYTES>().0 else {
            return Err(SimulatorError::protocol("the key bundle has not three keys"));
        };
        let phone = self.phone_signal(&code.phone).ok_or(SimulatorError::NoPairingCode)?;
        if phone_identity[..] != public_bytes(phone.identity()) {
            return Err(SimulatorError::protocol("the key bundle is for another phone"));
        }
        let identity = agree(phone.identity(), client_identity)?;
        hkdf(&[ephemeral, identity, *random].concat(), None, b"adv_secret").map(|secret| secret.to_vec())
    }
}

fn hkdf(material: &[u8], salt: Option<&[u8]>, info: &[u8]) -> Result<[u8; KEY_BYTES], SimulatorError> {
    let output = hkdf_sha256(material, KEY_BYTES, salt, info).map_err(|_| SimulatorError::crypto("key derivation"))?;
    output.try_into().map_err(|_| SimulatorError::crypto("key length"))
}
