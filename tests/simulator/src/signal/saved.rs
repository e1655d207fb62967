//! A phone's keys and sessions as they are kept in a file.

use serde::{Deserialize, Serialize, Serializer};
use wacore_libsignal::protocol::{KeyPair, PrivateKey, SessionRecord};

use super::PhoneSignal;
use super::sender_keys::SenderKeys;
use crate::SimulatorError;

/// Private keys as their 32 bytes; sessions by address.
#[derive(Serialize, Deserialize)]
pub(super) struct SavedSignal {
    identity: Vec<u8>,
    registration_id: u32,
    signed_prekey: Vec<u8>,
    signed_prekey_signature: Vec<u8>,
    sessions: Vec<(String, Vec<u8>)>,
    #[serde(default)]
    sender_keys: SenderKeys,
}

impl Serialize for PhoneSignal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let session = |(address, record): (&String, &SessionRecord)| Ok((address.clone(), record.serialize()?));
        let sessions = self.sessions.0.iter().map(session).collect::<Result<_, _>>();
        let saved = SavedSignal {
            identity: self.identity.private_key.serialize().to_vec(),
            registration_id: self.registration_id,
            signed_prekey: self.signed_prekey_keys.private_key.serialize().to_vec(),
            signed_prekey_signature: self.signed_prekey_signature.clone(),
            sessions: sessions
                .map_err(|error: wacore_libsignal::protocol::SignalProtocolError| serde::ser::Error::custom(error))?,
            sender_keys: self.sender_keys.clone(),
        };
        saved.serialize(serializer)
    }
}

impl TryFrom<SavedSignal> for PhoneSignal {
    type Error = SimulatorError;

    fn try_from(saved: SavedSignal) -> Result<Self, SimulatorError> {
        let (identity, signed) = (keys(&saved.identity)?, keys(&saved.signed_prekey)?);
        let mut signal = Self::of(identity, saved.registration_id, signed, saved.signed_prekey_signature);
        for (address, record) in saved.sessions {
            signal.sessions.0.insert(address, SessionRecord::deserialize(&record).map_err(SimulatorError::crypto)?);
        }
        signal.sender_keys = saved.sender_keys;
        Ok(signal)
    }
}

fn keys(private: &[u8]) -> Result<KeyPair, SimulatorError> {
    let private = PrivateKey::deserialize(private).map_err(SimulatorError::crypto)?;
    KeyPair::try_from(private).map_err(SimulatorError::crypto)
}
