//! Keys, and the phone as a Signal peer of its companions. Does no IO.
//!
//! The stores are plain maps and answer at once: their futures never wait, which is why [`ready`] may poll them
//! under the world's lock.

mod saved;
mod sender_keys;

use std::collections::HashMap;
use std::future::Future;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use rand::rngs::StdRng;
use wacore_libsignal::protocol::error::Result as SignalResult;
use wacore_libsignal::protocol::{
    CiphertextMessage, DeviceId, Direction, GenericSignedPreKey as _, IdentityChange, IdentityKey, IdentityKeyPair,
    IdentityKeyStore, KeyPair, PreKeyBundle, PreKeyId, PreKeyRecord, PreKeySignalMessage, PreKeyStore, ProtocolAddress,
    PublicKey, SessionRecord, SessionStore, SignalMessage, SignalProtocolError, SignedPreKeyId, SignedPreKeyRecord,
    SignedPreKeyStore, Timestamp, UsePQRatchet, message_decrypt, message_encrypt, process_prekey_bundle,
};

use crate::SimulatorError;
use crate::prekeys::KeyBundle;
use crate::stanza::now;
use sender_keys::SenderKeys;

/// The only signed pre-key a phone ever has.
const SIGNED_PREKEY_ID: u32 = 1;

pub(crate) fn random() -> StdRng {
    rand::make_rng()
}

pub(crate) fn new_keys() -> KeyPair {
    KeyPair::generate(&mut random())
}

/// The 32 bytes of a public key, without Signal's type byte.
pub(crate) fn public_bytes(keys: &KeyPair) -> Vec<u8> {
    keys.public_key.public_key_bytes().to_vec()
}

pub(crate) fn sign(keys: &KeyPair, message: &[u8]) -> Result<Vec<u8>, SimulatorError> {
    let signature = keys.private_key.calculate_signature(message, &mut random()).map_err(SimulatorError::crypto)?;
    Ok(signature.to_vec())
}

/// A phone's identity, its Signal sessions, and the sender keys of its groups.
#[derive(serde::Deserialize)]
#[serde(try_from = "saved::SavedSignal")]
pub(crate) struct PhoneSignal {
    identity: KeyPair,
    registration_id: u32,
    signed_prekey: SignedPreKeyRecord,
    signed_prekey_keys: KeyPair,
    signed_prekey_signature: Vec<u8>,
    sessions: Sessions,
    sender_keys: SenderKeys,
}

impl PhoneSignal {
    pub(crate) fn generate() -> Result<Self, SimulatorError> {
        let (identity, signed) = (new_keys(), new_keys());
        // Signal signs the 33-byte form, with the type byte in front.
        let signature = sign(&identity, &signed.public_key.serialize())?;
        Ok(Self::of(identity, rand::random_range(1..0x3fff), signed, signature))
    }

    fn of(identity: KeyPair, registration_id: u32, signed: KeyPair, signature: Vec<u8>) -> Self {
        let record = SignedPreKeyRecord::new(
            SIGNED_PREKEY_ID.into(),
            Timestamp::from_epoch_millis(now() * 1000),
            &signed,
            &signature,
        );
        Self {
            identity,
            registration_id,
            signed_prekey: record,
            signed_prekey_keys: signed,
            signed_prekey_signature: signature,
            sessions: Sessions::default(),
            sender_keys: SenderKeys::default(),
        }
    }

    pub(crate) fn identity(&self) -> &KeyPair {
        &self.identity
    }

    /// The keys that the server gives to senders. There are no one-time keys, like for a phone that ran out of them.
    pub(crate) fn bundle(&self) -> KeyBundle {
        KeyBundle {
            registration: self.registration_id.to_be_bytes().to_vec(),
            identity: public_bytes(&self.identity),
            signed_prekey_id: SIGNED_PREKEY_ID.to_be_bytes()[1..].to_vec(),
            signed_prekey: public_bytes(&self.signed_prekey_keys),
            signed_prekey_signature: self.signed_prekey_signature.clone(),
            one_time: Default::default(),
        }
    }

    /// Whether the phone has a session with a device.
    pub(crate) fn has_session(&self, address: &ProtocolAddress) -> bool {
        self.sessions.0.contains_key(address.as_str())
    }

    /// Opens a new session with a device.
    pub(crate) fn open_session(
        &mut self,
        address: &ProtocolAddress,
        bundle: &PreKeyBundle,
    ) -> Result<(), SimulatorError> {
        let mut identities = self.identities();
        ready(process_prekey_bundle(
            address,
            &mut self.sessions,
            &mut identities,
            bundle,
            &mut random(),
            UsePQRatchet::No,
        ))?;
        Ok(())
    }

    /// Encrypts to a device with which there is a session. Returns the `type` of `<enc>` and its content.
    pub(crate) fn encrypt(
        &mut self,
        address: &ProtocolAddress,
        plaintext: &[u8],
    ) -> Result<(&'static str, Vec<u8>), SimulatorError> {
        let mut identities = self.identities();
        match ready(message_encrypt(plaintext, address, &mut self.sessions, &mut identities))? {
            CiphertextMessage::PreKeySignalMessage(message) => Ok(("pkmsg", message.serialized().to_vec())),
            CiphertextMessage::SignalMessage(message) => Ok(("msg", message.serialized().to_vec())),
            _ => Err(SimulatorError::crypto("unexpected kind of ciphertext")),
        }
    }

    /// Decrypts what a device sent; `kind` is the `type` of `<enc>`.
    pub(crate) fn decrypt(
        &mut self,
        address: &ProtocolAddress,
        kind: &str,
        ciphertext: &[u8],
    ) -> Result<Vec<u8>, SimulatorError> {
        let message = match kind {
            "pkmsg" => PreKeySignalMessage::try_from(ciphertext).map(CiphertextMessage::PreKeySignalMessage),
            _ => SignalMessage::try_from(ciphertext).map(CiphertextMessage::SignalMessage),
        }
        .map_err(SimulatorError::crypto)?;
        let mut identities = self.identities();
        let mut one_time = NoOneTimeKeys;
        let signed = SignedPreKeys(self.signed_prekey.clone());
        let plain = ready(message_decrypt(
            &message,
            address,
            &mut self.sessions,
            &mut identities,
            &mut one_time,
            &signed,
            &mut random(),
            UsePQRatchet::No,
        ))?;
        Ok(plain.plaintext.to_vec())
    }

    fn identities(&self) -> Identities {
        Identities { own: self.identity.clone(), registration_id: self.registration_id }
    }
}

/// A device's keys in the form that opens a session; takes one one-time key when `one_time` has one.
pub(crate) fn prekey_bundle(
    device: u16,
    keys: &KeyBundle,
    one_time: Option<&(Vec<u8>, Vec<u8>)>,
) -> Result<PreKeyBundle, SimulatorError> {
    let public = |bytes: &[u8]| PublicKey::from_djb_public_key_bytes(bytes).map_err(SimulatorError::crypto);
    let one_time = match one_time {
        Some((id, key)) => Some((PreKeyId::from(big_endian(id)), public(key)?)),
        None => None,
    };
    PreKeyBundle::new(
        big_endian(&keys.registration),
        DeviceId::new(device.into()),
        one_time,
        SignedPreKeyId::from(big_endian(&keys.signed_prekey_id)),
        public(&keys.signed_prekey)?,
        keys.signed_prekey_signature.clone(),
        IdentityKey::new(public(&keys.identity)?),
    )
    .map_err(SimulatorError::crypto)
}

fn big_endian(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// The result of a future over stores that never wait.
fn ready<T>(future: impl Future<Output = SignalResult<T>>) -> Result<T, SimulatorError> {
    match future.now_or_never() {
        Some(result) => result.map_err(SimulatorError::crypto),
        None => Err(SimulatorError::crypto("a store in memory waited")),
    }
}

#[derive(Default)]
struct Sessions(HashMap<String, SessionRecord>);

#[async_trait]
impl SessionStore for Sessions {
    async fn load_session(&self, address: &ProtocolAddress) -> SignalResult<Option<SessionRecord>> {
        Ok(self.0.get(address.as_str()).cloned())
    }

    async fn has_session(&self, address: &ProtocolAddress) -> SignalResult<bool> {
        Ok(self.0.contains_key(address.as_str()))
    }

    async fn store_session(&mut self, address: &ProtocolAddress, record: SessionRecord) -> SignalResult<()> {
        self.0.insert(address.as_str().to_owned(), record);
        Ok(())
    }
}

/// The phone trusts every identity that the server names, like a phone that shows no security notices.
struct Identities {
    own: KeyPair,
    registration_id: u32,
}

#[async_trait]
impl IdentityKeyStore for Identities {
    async fn get_identity_key_pair(&self) -> SignalResult<IdentityKeyPair> {
        Ok(IdentityKeyPair::new(IdentityKey::new(self.own.public_key), self.own.private_key.clone()))
    }

    async fn get_local_registration_id(&self) -> SignalResult<u32> {
        Ok(self.registration_id)
    }

    async fn save_identity(
        &mut self,
        _address: &ProtocolAddress,
        _identity: &IdentityKey,
    ) -> SignalResult<IdentityChange> {
        Ok(IdentityChange::from_changed(false))
    }

    async fn is_trusted_identity(
        &self,
        _address: &ProtocolAddress,
        _identity: &IdentityKey,
        _direction: Direction,
    ) -> SignalResult<bool> {
        Ok(true)
    }

    async fn get_identity(&self, _address: &ProtocolAddress) -> SignalResult<Option<IdentityKey>> {
        Ok(None)
    }
}

struct SignedPreKeys(SignedPreKeyRecord);

#[async_trait]
impl SignedPreKeyStore for SignedPreKeys {
    async fn get_signed_pre_key(&self, _id: SignedPreKeyId) -> SignalResult<SignedPreKeyRecord> {
        Ok(self.0.clone())
    }

    async fn save_signed_pre_key(&mut self, _id: SignedPreKeyId, _record: &SignedPreKeyRecord) -> SignalResult<()> {
        Ok(())
    }
}

struct NoOneTimeKeys;

#[async_trait]
impl PreKeyStore for NoOneTimeKeys {
    async fn get_pre_key(&self, _id: PreKeyId) -> SignalResult<PreKeyRecord> {
        Err(SignalProtocolError::InvalidPreKeyId)
    }

    async fn save_pre_key(&mut self, _id: PreKeyId, _record: &PreKeyRecord) -> SignalResult<()> {
        Ok(())
    }

    async fn remove_pre_key(&mut self, _id: PreKeyId) -> SignalResult<()> {
        Ok(())
    }
}
