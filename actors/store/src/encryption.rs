//! Encryption: every value on disk is encrypted with XChaCha20-Poly1305 and bound to its row, so that a reader of the
//! files learns no content, and a moved or changed value is noticed. Keys of rows, and the table `Meta`, stay readable.
//!
//! Values are encrypted with the store's own key. That key is in the store, encrypted with the operator's [`StoreKey`]:
//! a new [`StoreKey`] changes one row, not all of them.

use std::fmt;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};

use super::{SessionNumber, StoreError, Table};

pub(super) const KEY_BYTES: usize = 32;
/// Nonces are random, and so long that no two are ever the same.
const NONCE_BYTES: usize = 24;
pub(super) const TAG_BYTES: usize = 16;
/// Bytes of a key that is encrypted with another one.
pub(super) const WRAPPED_BYTES: usize = NONCE_BYTES + KEY_BYTES + TAG_BYTES;
/// The context that the store's own key is bound to when it is encrypted.
const WRAP_CONTEXT: &[u8] = b"rookery store key";

/// The operator's key: without it an encrypted store cannot be read.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreKey([u8; KEY_BYTES]);

impl StoreKey {
    /// A new random key.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, StoreError> {
        random().map(Self)
    }

    /// The key with these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Encrypts another key; `context` says what the other key is for.
    pub(super) fn wrap(&self, context: &[u8], key: &[u8; KEY_BYTES]) -> Result<Vec<u8>, StoreError> {
        encrypt(&cipher(&self.0), context, key)
    }

    /// The key that was encrypted with this one for this context; `None`: it was not, or was changed.
    pub(super) fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Option<[u8; KEY_BYTES]> {
        decrypt(&cipher(&self.0), context, wrapped)?.try_into().ok()
    }

    /// The key itself, for the file that keeps it.
    #[must_use]
    pub fn reveal(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(..)")
    }
}

/// Encrypts and decrypts the values of one store.
pub(super) struct ValueCipher {
    own_key: [u8; KEY_BYTES],
    cipher: XChaCha20Poly1305,
}

impl ValueCipher {
    /// A cipher with a new key for the store.
    pub(super) fn generate() -> Result<Self, StoreError> {
        random().map(Self::with)
    }

    fn with(own_key: [u8; KEY_BYTES]) -> Self {
        Self { own_key, cipher: cipher(&own_key) }
    }

    /// The store's own key, encrypted.
    pub(super) fn wrap(&self, key: &StoreKey) -> Result<Vec<u8>, StoreError> {
        key.wrap(WRAP_CONTEXT, &self.own_key)
    }

    /// The cipher with the store's own key; `None`: that was encrypted with another key, or changed.
    pub(super) fn unwrap(key: &StoreKey, wrapped: &[u8]) -> Option<Self> {
        key.unwrap(WRAP_CONTEXT, wrapped).map(Self::with)
    }

    /// A value as it is written into its row.
    pub(super) fn encrypt(
        &self,
        session: SessionNumber,
        table: Table,
        key: &[u8],
        value: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        encrypt(&self.cipher, &place(session, table, key), value)
    }

    /// The value of a row; `None` when it is not what was encrypted for this row.
    pub(super) fn decrypt(
        &self,
        session: SessionNumber,
        table: Table,
        key: &[u8],
        encrypted: &[u8],
    ) -> Option<Vec<u8>> {
        decrypt(&self.cipher, &place(session, table, key), encrypted)
    }
}

/// The place that a value is bound to: table, session and key.
fn place(session: SessionNumber, table: Table, key: &[u8]) -> Vec<u8> {
    // The table's name ends with a byte that no name holds.
    [table.tree_name().as_bytes(), &[0], &session.0.to_be_bytes(), key].concat()
}

/// Encrypts bytes with a key of their own, bound to a context.
pub(super) fn encrypt_with(key: &[u8; KEY_BYTES], context: &[u8], bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    encrypt(&cipher(key), context, bytes)
}

/// The bytes; `None`: they were not encrypted with this key for this context, or were changed.
pub(super) fn decrypt_with(key: &[u8; KEY_BYTES], context: &[u8], encrypted: &[u8]) -> Option<Vec<u8>> {
    decrypt(&cipher(key), context, encrypted)
}

fn cipher(key: &[u8; KEY_BYTES]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*key))
}

/// Nonce, then the encrypted bytes, then the tag.
fn encrypt(cipher: &XChaCha20Poly1305, context: &[u8], bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    let nonce: [u8; NONCE_BYTES] = random()?;
    let mut encrypted = Vec::with_capacity(NONCE_BYTES + bytes.len() + TAG_BYTES);
    encrypted.extend_from_slice(&nonce);
    encrypted.extend_from_slice(bytes);
    let tag = cipher.encrypt_inout_detached(&XNonce::from(nonce), context, (&mut encrypted[NONCE_BYTES..]).into());
    let tag = tag.map_err(|_| StoreError::Failed("a value could not be encrypted".to_owned()))?;
    encrypted.extend_from_slice(&tag);
    Ok(encrypted)
}

fn decrypt(cipher: &XChaCha20Poly1305, context: &[u8], encrypted: &[u8]) -> Option<Vec<u8>> {
    let (nonce, rest) = encrypted.split_first_chunk::<NONCE_BYTES>()?;
    let (encrypted, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
    let mut bytes = encrypted.to_vec();
    let nonce = XNonce::from(*nonce);
    cipher.decrypt_inout_detached(&nonce, context, bytes.as_mut_slice().into(), &(*tag).into()).ok()?;
    Some(bytes)
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Failed(format!("no randomness: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: SessionNumber = SessionNumber(1);

    #[test]
    fn a_value_is_opened_in_its_own_row_and_nowhere_else() {
        let value_cipher = ValueCipher::generate().unwrap();
        let encrypted = value_cipher.encrypt(ALICE, Table::Device, b"k", b"secret").unwrap();
        assert_eq!(value_cipher.decrypt(ALICE, Table::Device, b"k", &encrypted).as_deref(), Some(&b"secret"[..]));
        assert!(!encrypted.windows(6).any(|window| window == b"secret"));
        assert_ne!(
            value_cipher.encrypt(ALICE, Table::Device, b"k", b"secret").unwrap(),
            encrypted,
            "each has a nonce of its own"
        );
        for (session, table, key) in
            [(SessionNumber(2), Table::Device, &b"k"[..]), (ALICE, Table::PreKeys, b"k"), (ALICE, Table::Device, b"K")]
        {
            assert_eq!(value_cipher.decrypt(session, table, key, &encrypted), None);
        }
        assert_eq!(ValueCipher::generate().unwrap().decrypt(ALICE, Table::Device, b"k", &encrypted), None);
        for at in 0..encrypted.len() {
            let mut changed = encrypted.clone();
            changed[at] ^= 1;
            assert_eq!(value_cipher.decrypt(ALICE, Table::Device, b"k", &changed), None);
            assert_eq!(value_cipher.decrypt(ALICE, Table::Device, b"k", &encrypted[..at]), None);
        }
    }

    #[test]
    fn the_stores_own_key_is_opened_with_the_operators_and_outlives_it() {
        let (old, new) = (StoreKey::generate().unwrap(), StoreKey::generate().unwrap());
        let value_cipher = ValueCipher::generate().unwrap();
        let encrypted = value_cipher.encrypt(ALICE, Table::Device, b"k", b"").unwrap();
        let wrapped = value_cipher.wrap(&old).unwrap();
        assert!(ValueCipher::unwrap(&new, &wrapped).is_none());
        let wrapped = ValueCipher::unwrap(&old, &wrapped).unwrap().wrap(&new).unwrap();
        let value_cipher = ValueCipher::unwrap(&new, &wrapped).unwrap();
        assert_eq!(value_cipher.decrypt(ALICE, Table::Device, b"k", &encrypted).as_deref(), Some(&b""[..]));
        assert_eq!(format!("{new:?}"), "StoreKey(..)");
    }
}
