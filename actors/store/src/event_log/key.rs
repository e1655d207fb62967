//! The key that a session's events are encrypted with. Without it they cannot be read: destroying it removes them.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::super::encryption::{KEY_BYTES, decrypt_with, encrypt_with, random};
use super::super::{SessionNumber, StoreError};

/// The context that events are bound to when they are encrypted, before session and number.
const EVENT: &[u8] = b"event";
/// Before the parts of a name that is hidden.
const TAG: &[u8] = b"tag";
/// The same for what an append has beside its events.
const REDO: &[u8] = b"redo";

/// A session's key.
#[derive(Clone, PartialEq, Eq)]
pub struct EventKey([u8; KEY_BYTES]);

impl EventKey {
    /// A new random key.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, StoreError> {
        random().map(Self)
    }

    /// The key with these bytes; `None`: there are too few or too many.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The key itself, for its row in the store.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// Encrypts an event, bound to its session and number.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn encrypt(&self, session: SessionNumber, number: u64, event: &[u8]) -> Result<Vec<u8>, StoreError> {
        encrypt_with(&self.0, &place(EVENT, session, number), event)
    }

    /// The event; `None`: it was not encrypted with this key for this place, or was changed.
    #[must_use]
    pub fn decrypt(&self, session: SessionNumber, number: u64, encrypted: &[u8]) -> Option<Vec<u8>> {
        decrypt_with(&self.0, &place(EVENT, session, number), encrypted)
    }

    /// A number in the place of a name, which says nothing of the name without the key ([`IndexRow`](super::IndexRow)). Two names have the same number
    /// hardly ever.
    #[must_use]
    pub fn tag(&self, name: &[&[u8]]) -> u64 {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return 0 };
        mac.update(TAG);
        for part in name {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let mac = mac.finalize().into_bytes();
        mac.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
    }

    /// Encrypts the redo of an append, bound to its session and the number of its last event.
    ///
    /// # Errors
    /// As [`Self::encrypt`].
    pub fn encrypt_redo(&self, session: SessionNumber, last: u64, redo: &[u8]) -> Result<Vec<u8>, StoreError> {
        encrypt_with(&self.0, &place(REDO, session, last), redo)
    }

    /// The redo; `None` as [`Self::decrypt`].
    #[must_use]
    pub fn decrypt_redo(&self, session: SessionNumber, last: u64, encrypted: &[u8]) -> Option<Vec<u8>> {
        decrypt_with(&self.0, &place(REDO, session, last), encrypted)
    }
}

fn place(kind: &[u8], session: SessionNumber, number: u64) -> Vec<u8> {
    [kind, &[0], &session.0.to_be_bytes(), &number.to_be_bytes()].concat()
}

impl fmt::Debug for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventKey(..)")
    }
}
