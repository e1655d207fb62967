//! Sender keys: with them a device encrypts a message to a group once for all its members. The phone has its own key for
//! each of its groups, and those of the devices that write there.

use std::collections::HashMap;

use async_trait::async_trait;
use wacore_libsignal::protocol::error::Result as SignalResult;
use wacore_libsignal::protocol::{
    SenderKeyDistributionMessage, SenderKeyRecord, SenderKeyStore, create_sender_key_distribution_message,
    group_decrypt, group_encrypt, process_sender_key_distribution_message,
};
use wacore_libsignal::store::sender_key_name::SenderKeyName;

use super::{PhoneSignal, random, ready};
use crate::SimulatorError;

/// The name of the phone's own key in a group; other keys are named after the devices that made them.
const OWN: &str = "own";

/// Serialized records, by the name of the key.
#[derive(Default, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct SenderKeys(HashMap<String, Vec<u8>>);

#[async_trait]
impl SenderKeyStore for SenderKeys {
    async fn store_sender_key(&mut self, name: &SenderKeyName, record: SenderKeyRecord) -> SignalResult<()> {
        self.0.insert(name.cache_key().to_owned(), record.serialize()?);
        Ok(())
    }

    async fn load_sender_key(&self, name: &SenderKeyName) -> SignalResult<Option<SenderKeyRecord>> {
        self.0.get(name.cache_key()).map(|record| SenderKeyRecord::deserialize(record)).transpose()
    }
}

impl PhoneSignal {
    /// The message that gives the phone's own key in a group to another device; makes the key when there is none.
    pub(crate) fn sender_key(&mut self, group: &str) -> Result<Vec<u8>, SimulatorError> {
        let name = SenderKeyName::from_parts(group, OWN);
        let message = ready(create_sender_key_distribution_message(&name, &mut self.sender_keys, &mut random()))?;
        Ok(message.serialized().to_vec())
    }

    /// The phone takes another key in this group for what it writes from now on.
    pub(crate) fn forget_sender_key(&mut self, group: &str) {
        self.sender_keys.0.remove(SenderKeyName::from_parts(group, OWN).cache_key());
    }

    /// Encrypts with the phone's own key in a group, which [`PhoneSignal::sender_key`] made.
    pub(crate) fn encrypt_to_group(&mut self, group: &str, plaintext: &[u8]) -> Result<Vec<u8>, SimulatorError> {
        let name = SenderKeyName::from_parts(group, OWN);
        let message = ready(group_encrypt(&mut self.sender_keys, &name, plaintext, &mut random()))?;
        Ok(message.serialized().to_vec())
    }

    /// Takes in the key of a device in a group.
    pub(crate) fn take_sender_key(&mut self, group: &str, device: &str, message: &[u8]) -> Result<(), SimulatorError> {
        let message = SenderKeyDistributionMessage::try_from(message).map_err(SimulatorError::crypto)?;
        let name = SenderKeyName::from_parts(group, device);
        ready(process_sender_key_distribution_message(&name, &message, &mut self.sender_keys))
    }

    /// Forgets the keys of all others in a group.
    pub(crate) fn forget_keys_of_others(&mut self, group: &str) {
        let own = SenderKeyName::from_parts(group, OWN);
        let prefix = own.cache_key().trim_end_matches(OWN).to_owned();
        self.sender_keys.0.retain(|name, _| name == own.cache_key() || !name.starts_with(&prefix));
    }

    /// Whether a message to a group can be decrypted; changes nothing.
    pub(crate) fn could_decrypt_from_group(&self, group: &str, device: &str, ciphertext: &[u8]) -> bool {
        let mut keys = self.sender_keys.clone();
        ready(group_decrypt(ciphertext, &mut keys, &SenderKeyName::from_parts(group, device))).is_ok()
    }

    /// Decrypts what a device wrote to a group.
    pub(crate) fn decrypt_from_group(
        &mut self,
        group: &str,
        device: &str,
        ciphertext: &[u8],
    ) -> Result<Vec<u8>, SimulatorError> {
        let name = SenderKeyName::from_parts(group, device);
        ready(group_decrypt(ciphertext, &mut self.sender_keys, &name))
    }
}
