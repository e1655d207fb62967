//! One API key: its secret, the hash that is kept of it, its record in the store and how often it was used.
//! Never keeps a secret beyond the answer that shows it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use rookery_actors::model::{SessionId, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::{AddressRange, Role};

/// Marks a key as one of ours, so that secret scanners and people recognise it.
const SECRET_PREFIX: &str = "rk_";
/// Randomness of a generated key.
const SECRET_BYTES: usize = 32;
/// Characters of a generated key that are shown for recognition: 20 of its 256 bits.
const SHOWN_CHARS: usize = SECRET_PREFIX.len() + 5;
/// Characters shown of a key that the operator chose: it may be guessable, so fewer.
const SHOWN_CHARS_CHOSEN: usize = 4;

/// An API key in plain text. Cannot be printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A new random key.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        Ok(Self(format!("{SECRET_PREFIX}{}", hex(&bytes))))
    }

    /// The key itself, for the one answer that shows it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The first characters, for recognition in lists.
    pub(super) fn shown_prefix(&self) -> String {
        let chars = if self.0.starts_with(SECRET_PREFIX) { SHOWN_CHARS } else { SHOWN_CHARS_CHOSEN };
        self.0.chars().take(chars).collect()
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The SHA-256 of a key: all that is kept of it. Compared in constant time, also as a key of a map.
#[derive(Copy, Clone, Eq)]
pub(super) struct KeyHash([u8; 32]);

impl KeyHash {
    pub(super) fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
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
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        unhex(&text).map(Self).ok_or_else(|| serde::de::Error::custom("not a SHA-256 in hex"))
    }
}

/// What the store keeps of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    /// Its public id.
    pub(crate) id: Uuid,
    /// What its owner calls it.
    pub(crate) name: String,
    /// The first characters of the key, for recognition.
    pub(crate) prefix: String,
    pub(super) hash: KeyHash,
    /// What it may do.
    pub(crate) role: Role,
    /// Where it may be used from; anywhere when empty.
    pub(crate) allowed_ips: Vec<AddressRange>,
    /// The sessions it may see and touch; all of them when empty.
    pub(crate) allowed_sessions: Vec<SessionId>,
    /// False once it was revoked.
    pub(crate) is_active: bool,
    /// From the configuration: it goes when another one takes its place there.
    #[serde(default)]
    pub(super) is_bootstrap: bool,
    /// When it ends by itself.
    pub(crate) expires_at: Option<Timestamp>,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it was last accepted, as of the last write of this record.
    pub(crate) last_used_at: Option<Timestamp>,
    /// How often it was accepted, as of the last write of this record.
    pub(crate) usage_count: u64,
}

/// A key in memory: its record, and its use since the daemon started, counted without a lock.
#[derive(Debug)]
pub(crate) struct Key {
    record: KeyRecord,
    usage_count: AtomicU64,
    /// Milliseconds since the epoch; 0 is never.
    last_used_ms: AtomicI64,
    usage_count_stored: AtomicU64,
}

impl Key {
    pub(super) fn new(record: KeyRecord) -> Self {
        Self {
            usage_count: AtomicU64::new(record.usage_count),
            last_used_ms: AtomicI64::new(record.last_used_at.map_or(0, |time| time.0)),
            usage_count_stored: AtomicU64::new(record.usage_count),
            record,
        }
    }

    pub(super) fn hash(&self) -> KeyHash {
        self.record.hash
    }

    /// The key's public id.
    #[must_use]
    pub(crate) fn id(&self) -> Uuid {
        self.record.id
    }

    /// Whether it came from the configuration.
    #[must_use]
    pub(super) fn is_bootstrap(&self) -> bool {
        self.record.is_bootstrap
    }

    /// Whether it ends by itself or is bound to addresses.
    #[must_use]
    pub(super) fn has_limits(&self) -> bool {
        self.record.expires_at.is_some() || !self.record.allowed_ips.is_empty()
    }

    /// What it may do.
    #[must_use]
    pub(crate) fn role(&self) -> Role {
        self.record.role
    }

    /// The record with its use up to now.
    #[must_use]
    pub(crate) fn record(&self) -> KeyRecord {
        let last_used_ms = self.last_used_ms.load(Ordering::Relaxed);
        KeyRecord {
            last_used_at: (last_used_ms != 0).then_some(Timestamp(last_used_ms)),
            usage_count: self.usage_count.load(Ordering::Relaxed),
            ..self.record.clone()
        }
    }

    /// Whether it may be used at all at this time.
    #[must_use]
    pub(crate) fn is_usable(&self, now: Timestamp) -> bool {
        self.record.is_active && self.record.expires_at.is_none_or(|end| now < end)
    }

    /// Whether it may be used from this address.
    #[must_use]
    pub(crate) fn allows_address(&self, address: IpAddr) -> bool {
        let ranges = &self.record.allowed_ips;
        ranges.is_empty() || ranges.iter().any(|range| range.contains(address))
    }

    /// Whether it may see and touch this session.
    #[must_use]
    pub(crate) fn allows_session(&self, session: SessionId) -> bool {
        !self.is_scoped() || self.record.allowed_sessions.contains(&session)
    }

    /// Whether it is limited to some sessions.
    #[must_use]
    pub(crate) fn is_scoped(&self) -> bool {
        !self.record.allowed_sessions.is_empty()
    }

    pub(super) fn note_use(&self, now: Timestamp) {
        self.usage_count.fetch_add(1, Ordering::Relaxed);
        self.last_used_ms.store(now.0, Ordering::Relaxed);
    }

    /// Whether it was used since its record was last written.
    pub(super) fn has_unwritten_use(&self) -> bool {
        self.usage_count.load(Ordering::Relaxed) != self.usage_count_stored.load(Ordering::Relaxed)
    }

    pub(super) fn note_written(&self, usage_count: u64) {
        self.usage_count_stored.store(usage_count, Ordering::Relaxed);
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_prefixed_long_and_new_each_time() {
        let (first, second) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_eq!(first.reveal().len(), 67);
        assert!(first.reveal().starts_with("rk_") && first != second);
        assert_eq!(first.shown_prefix().len(), 8);
        assert_eq!(Secret::from("a-key-that-the-operator-has-chosen").shown_prefix(), "a-ke");
    }

    #[test]
    fn a_secret_and_its_hash_cannot_be_printed() {
        let secret = Secret::from("rk_0123456789");
        let hash = KeyHash::of(secret.reveal());
        assert_eq!(format!("{secret:?} {hash:?}"), "Secret(..) KeyHash(..)");
    }

    #[test]
    fn a_hash_is_written_in_hex_and_read_back() {
        let hash = KeyHash::of("abc");
        let text = serde_json::to_string(&hash).unwrap();
        assert_eq!(text, "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"");
        assert!(serde_json::from_str::<KeyHash>(&text).unwrap() == hash);
        assert!(hash != KeyHash::of("abd"));
        assert!(serde_json::from_str::<KeyHash>("\"ba78\"").is_err());
    }
}
