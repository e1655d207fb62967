//! The server's half of WhatsApp's Noise handshakes (XX, IK, XXfallback). Does no IO.
//!
//! `wacore-noise` has only the initiator, but its symmetric state is direction-neutral: the responder is the same
//! tokens with our keys. Specification: <https://noiseprotocol.org/noise.html>, sections 7.5 and 10.2.

use buffa::Message as _;
use wacore_binary::consts::{NOISE_PATTERN_IK, NOISE_PATTERN_XX, NOISE_PATTERN_XXFALLBACK, WA_CONN_HEADER};
use wacore_libsignal::protocol::KeyPair;
use wacore_noise::{NoiseCipher, NoiseHandshake};
use waproto::whatsapp::{self as wa, cert_chain::noise_certificate, handshake_message};

use crate::SimulatorError;
use crate::signal::{new_keys, public_bytes, sign};

/// 2023-11-14 and 2033-05-18: a client caches the chain only while it is valid.
const CERTIFICATE_VALID_S: (u64, u64) = (1_700_000_000, 2_000_000_000);

/// The key that clients pin, with a certificate chain signed by a root of its own.
pub(crate) struct ServerIdentity {
    static_keys: KeyPair,
    certificate_chain: Vec<u8>,
    root_key: Vec<u8>,
}

impl ServerIdentity {
    pub(crate) fn generate() -> Result<Self, SimulatorError> {
        let (root, intermediate_keys, static_keys) = (new_keys(), new_keys(), new_keys());
        let chain = wa::CertChain {
            leaf: buffa::MessageField::some(certificate(2, 1, &static_keys, &intermediate_keys)?),
            intermediate: buffa::MessageField::some(certificate(1, 0, &intermediate_keys, &root)?),
        };
        Ok(Self { static_keys, certificate_chain: chain.encode_to_vec(), root_key: public_bytes(&root) })
    }

    /// The 32 bytes of the key that signed the certificate chain, which clients that check the chain have to know.
    pub(crate) fn root_key(&self) -> &[u8] {
        &self.root_key
    }
}

fn certificate(
    serial: u32,
    issuer_serial: u32,
    keys: &KeyPair,
    issuer: &KeyPair,
) -> Result<wa::cert_chain::NoiseCertificate, SimulatorError> {
    let details = noise_certificate::Details {
        serial: Some(serial),
        issuer_serial: Some(issuer_serial),
        key: Some(public_bytes(keys)),
        not_before: Some(CERTIFICATE_VALID_S.0),
        not_after: Some(CERTIFICATE_VALID_S.1),
    }
    .encode_to_vec();
    Ok(wa::cert_chain::NoiseCertificate { signature: Some(sign(issuer, &details)?), details: Some(details) })
}

/// The result of a finished handshake.
pub(crate) struct Established {
    pub(crate) read: NoiseCipher,
    pub(crate) write: NoiseCipher,
    pub(crate) client: Client,
}

/// Who the client is, and what it wants.
pub(crate) struct Client {
    /// `xx`, `ik` or `xxfallback`.
    pub(crate) pattern: &'static str,
    pub(crate) noise_key: [u8; 32],
    pub(crate) payload: wa::ClientPayload,
}

/// The server's answer to the first message.
pub(crate) enum ServerHello {
    /// IK: the client knew our key, the handshake is done once this is sent.
    Done { answer: Vec<u8>, established: Box<Established> },
    /// XX and XXfallback: one more message of the client is due.
    Continue { answer: Vec<u8>, rest: Box<AwaitFinish> },
}

/// A handshake that waits for the client's last message.
pub(crate) struct AwaitFinish {
    pattern: &'static str,
    noise: NoiseHandshake,
    ephemeral: KeyPair,
}

/// Answers the client's first message.
pub(crate) fn answer_hello(identity: &ServerIdentity, frame: &[u8]) -> Result<ServerHello, SimulatorError> {
    let hello = wa::HandshakeMessage::decode_from_slice(frame)
        .map_err(SimulatorError::protocol)?
        .client_hello
        .into_option()
        .ok_or_else(|| SimulatorError::protocol("no client hello"))?;
    let client_ephemeral = hello.ephemeral.ok_or_else(|| SimulatorError::protocol("no ephemeral key"))?;
    let (Some(client_static), Some(payload)) = (hello.r#static, hello.payload) else {
        return answer_xx(identity, "xx", NOISE_PATTERN_XX, &client_ephemeral);
    };
    match answer_ik(identity, &client_ephemeral, &client_static, &payload) {
        Ok(done) => Ok(done),
        // The client pinned the key of another server: start over with the ephemeral it already sent.
        Err(_) => answer_xx(identity, "xxfallback", NOISE_PATTERN_XXFALLBACK, &client_ephemeral),
    }
}

fn answer_ik(
    identity: &ServerIdentity,
    client_ephemeral: &[u8],
    client_static: &[u8],
    payload: &[u8],
) -> Result<ServerHello, SimulatorError> {
    let ephemeral = new_keys();
    let mut noise = NoiseHandshake::new(NOISE_PATTERN_IK, &WA_CONN_HEADER).map_err(SimulatorError::crypto)?;
    noise.authenticate(&public_bytes(&identity.static_keys));
    noise.authenticate(client_ephemeral);
    mix(&mut noise, &identity.static_keys, client_ephemeral)?;
    let client_static = noise.decrypt(client_static).map_err(SimulatorError::crypto)?;
    mix(&mut noise, &identity.static_keys, &client_static)?;
    let payload = noise.decrypt(payload).map_err(SimulatorError::crypto)?;

    noise.authenticate(&public_bytes(&ephemeral));
    mix(&mut noise, &ephemeral, client_ephemeral)?;
    mix(&mut noise, &ephemeral, &client_static)?;
    let certificate = noise.encrypt(&identity.certificate_chain).map_err(SimulatorError::crypto)?;
    let answer = server_hello(&ephemeral, None, certificate);
    Ok(ServerHello::Done { answer, established: Box::new(established("ik", noise, &client_static, &payload)?) })
}

fn answer_xx(
    identity: &ServerIdentity,
    name: &'static str,
    pattern: &str,
    client_ephemeral: &[u8],
) -> Result<ServerHello, SimulatorError> {
    let ephemeral = new_keys();
    let mut noise = NoiseHandshake::new(pattern, &WA_CONN_HEADER).map_err(SimulatorError::crypto)?;
    noise.authenticate(client_ephemeral);
    noise.authenticate(&public_bytes(&ephemeral));
    mix(&mut noise, &ephemeral, client_ephemeral)?;
    let static_key = noise.encrypt(&public_bytes(&identity.static_keys)).map_err(SimulatorError::crypto)?;
    mix(&mut noise, &identity.static_keys, client_ephemeral)?;
    let certificate = noise.encrypt(&identity.certificate_chain).map_err(SimulatorError::crypto)?;
    let answer = server_hello(&ephemeral, Some(static_key), certificate);
    Ok(ServerHello::Continue { answer, rest: Box::new(AwaitFinish { pattern: name, noise, ephemeral }) })
}

impl AwaitFinish {
    /// Reads the client's last message of an XX handshake.
    pub(crate) fn finish(mut self, frame: &[u8]) -> Result<Established, SimulatorError> {
        let finish = wa::HandshakeMessage::decode_from_slice(frame)
            .map_err(SimulatorError::protocol)?
            .client_finish
            .into_option()
            .ok_or_else(|| SimulatorError::protocol("no client finish"))?;
        let (Some(client_static), Some(payload)) = (finish.r#static, finish.payload) else {
            return Err(SimulatorError::protocol("client finish without key or payload"));
        };
        let client_static = self.noise.decrypt(&client_static).map_err(SimulatorError::crypto)?;
        mix(&mut self.noise, &self.ephemeral, &client_static)?;
        let payload = self.noise.decrypt(&payload).map_err(SimulatorError::crypto)?;
        established(self.pattern, self.noise, &client_static, &payload)
    }
}

fn established(
    pattern: &'static str,
    noise: NoiseHandshake,
    client_static: &[u8],
    payload: &[u8],
) -> Result<Established, SimulatorError> {
    // Named from the initiator's side: what the client writes with, we read with.
    let (client_write, client_read) = noise.finish().map_err(SimulatorError::crypto)?;
    let client = Client {
        pattern,
        noise_key: client_static.try_into().map_err(SimulatorError::protocol)?,
        payload: wa::ClientPayload::decode_from_slice(payload).map_err(SimulatorError::protocol)?,
    };
    Ok(Established { read: client_write, write: client_read, client })
}

fn mix(noise: &mut NoiseHandshake, ours: &KeyPair, theirs: &[u8]) -> Result<(), SimulatorError> {
    noise.mix_shared_secret(ours.private_key.serialize(), theirs).map_err(SimulatorError::crypto)
}

fn server_hello(ephemeral: &KeyPair, static_key: Option<Vec<u8>>, payload: Vec<u8>) -> Vec<u8> {
    let hello = handshake_message::ServerHello {
        ephemeral: Some(public_bytes(ephemeral)),
        r#static: static_key,
        payload: Some(payload),
        ..Default::default()
    };
    wa::HandshakeMessage { server_hello: buffa::MessageField::some(hello), ..Default::default() }.encode_to_vec()
}
