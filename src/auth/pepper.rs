//! The pepper: a secret beside the store, without which the hashes in the store say nothing about the keys. Kept in a
//! file of its own (mode 0600), so that a copy of the store alone is not enough to check guesses or to make hashes.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::Path;

use hex::FromHex;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::files::{self, SecretFileError};

/// The text whose hash identifies the pepper.
const FINGERPRINT_OF: &[u8] = b"rookery api keys";

/// The secret that all hashes are keyed with. In backups it is hex.
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Pepper([u8; 32]);

/// The stored hash of a key: the HMAC-SHA256, keyed with the pepper, of its SHA-256. Compared in constant time, also as
/// a key of a map.
#[derive(Copy, Clone, Eq)]
pub(super) struct KeyHash([u8; 32]);

impl Pepper {
    /// A new random pepper.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The pepper in this file, `None` when there is no such file.
    ///
    /// # Errors
    /// The errors of any secret's file.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, SecretFileError> {
        Ok(files::read_secret(path)?.map(Self))
    }

    /// Writes the pepper to a new file for its owner alone; it is on disk when this returns.
    ///
    /// # Errors
    /// When the file cannot be made or written.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        files::write_secret(path, &hex::encode(self.0))
    }

    /// Identifies the pepper of a store's hashes, and reveals nothing else.
    pub(super) fn fingerprint(&self) -> KeyHash {
        self.keyed(FINGERPRINT_OF)
    }

    pub(super) fn hash(&self, secret: &str) -> KeyHash {
        self.keyed(&Sha256::digest(secret.as_bytes()))
    }

    /// The hash of a key whose SHA-256 the first version kept.
    pub(super) fn hash_of_plain(&self, sha256: [u8; 32]) -> KeyHash {
        self.keyed(&sha256)
    }

    fn keyed(&self, bytes: &[u8]) -> KeyHash {
        // A key shorter than a block is filled up with zeros (RFC 2104).
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(bytes);
        KeyHash(mac.finalize().into_bytes().into())
    }
}

impl From<Pepper> for String {
    fn from(pepper: Pepper) -> Self {
        hex::encode(pepper.0)
    }
}

impl TryFrom<String> for Pepper {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        FromHex::from_hex(text).map(Self).map_err(|_| "not 32 bytes in hex")
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(..)")
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The first half of a SHA-256 is as good a hash as the whole of it.
        state.write(&self.0[..16]);
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        FromHex::from_hex(text).map(Self).map_err(|_| serde::de::Error::custom("not 32 bytes in hex"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_hash_depends_on_the_pepper_and_is_read_back_as_it_was_written() {
        let (pepper, other) = (Pepper([1; 32]), Pepper([2; 32]));
        let hash = pepper.hash("abc");
        assert!(hash != other.hash("abc") && hash != pepper.hash("abd") && hash == pepper.hash("abc"));
        let text = serde_json::to_string(&hash).unwrap();
        assert!(serde_json::from_str::<KeyHash>(&text).unwrap() == hash);
        assert!(serde_json::from_str::<KeyHash>("\"ba78\"").is_err());
        assert!(hash == pepper.hash_of_plain(Sha256::digest("abc").into()));
        assert_eq!(format!("{pepper:?} {hash:?}"), "Pepper(..) KeyHash(..)");
    }

    #[test]
    fn a_pepper_is_kept_in_a_file_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pepper");
        assert!(Pepper::read(&path).unwrap().is_none());
        let pepper = Pepper::generate().unwrap();
        pepper.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Pepper::read(&path).unwrap().unwrap().fingerprint() == pepper.fingerprint());
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(Pepper::read(&path), Err(SecretFileError::Content)));
    }
}
