//! Every key layout on disk, versioned as one: a change of any of them raises [`LAYOUT_VERSION`].
//!
//! A row's key in its tree is the session number (4 bytes, big-endian) and then the key as the tables below say.

use super::SessionNumber;

/// The layout this version writes, kept in `Meta` under [`LAYOUT`]. Layout 1 had the records of sessions and of idempotency keys
/// at [`SessionNumber::DAEMON`]; this version reads it, too, and the owners of those rows move them. Layout 3 has
/// the table [`super::Table::Numbers`]. In layout 4 a session may have a proxy, which older versions would leave out. Until then,
/// [`super::Table::Events`] had the events themselves; since layout 5 they are in the event log.
pub const LAYOUT_VERSION: u32 = 5;

/// The oldest layout that this version reads.
pub const LAYOUT_VERSION_MIN: u32 = 1;

/// `Meta`: the layout version, as decimal text.
pub const LAYOUT: &[u8] = b"store.layout";

/// Follows the layout version of an encrypted store, so that versions without encryption refuse the store.
const ENCRYPTED_MARK: &str = "-sealed";

/// The text in `Meta` under [`LAYOUT`].
pub(super) fn version_text(version: u32, is_encrypted: bool) -> String {
    format!("{version}{}", if is_encrypted { ENCRYPTED_MARK } else { "" })
}

/// Whether the values of a store with this text in `Meta` under [`LAYOUT`] are encrypted.
pub(super) fn is_encrypted(text: &[u8]) -> bool {
    text.ends_with(ENCRYPTED_MARK.as_bytes())
}

/// Whether this version reads a store with this text in `Meta` under [`LAYOUT`].
pub(super) fn is_known_version(text: &[u8]) -> bool {
    let version = std::str::from_utf8(text).ok().map(|text| text.strip_suffix(ENCRYPTED_MARK).unwrap_or(text));
    version.and_then(|version| version.parse().ok()).is_some_and(is_known)
}

/// Whether this version reads this layout.
pub(super) fn is_known(version: u32) -> bool {
    (LAYOUT_VERSION_MIN..=LAYOUT_VERSION).contains(&version)
}

/// `Sessions`: the one record of a session.
pub const SESSION: &[u8] = b"session";

/// `Events`: the key that the session's events are encrypted with, after the number of the first event that is (8 bytes,
/// big-endian).
pub const EVENT_KEY: &[u8] = b"key";

/// `Events`: the number up to which the session's rows show its events (8 bytes, big-endian).
pub const EVENTS_APPLIED: &[u8] = b"applied";

/// `Meta`: the key that hides positions in the whole event log from callers who may see some sessions only.
pub const EVENTS_CURSOR_KEY: &[u8] = b"events.cursor-key";

/// `Meta`: the epoch of the event log that belongs to the store, as decimal text.
pub const EVENTS_EPOCH: &[u8] = b"events.epoch";

/// `GroupDeltas`: the change of this group at this place in the order of changes since its record was written.
pub fn group_delta(group: &[u8], place: u8) -> Vec<u8> {
    part(group, place)
}

/// Splits a key of `GroupDeltas`.
pub fn split_group_delta(key: &[u8]) -> Option<(&[u8], u8)> {
    split_part(key)
}

/// `Meta`: the store's own key, encrypted with the operator's.
pub(super) const STORE_KEY: &[u8] = b"store.seal";

/// `Meta`: present while an import runs.
pub const IMPORTING: &[u8] = b"store.importing";

/// `Meta`: how many transactions and rows there are; changed with every transaction (`sled/tally.rs`).
pub(super) const TALLY: &[u8] = b"store.tally";

/// `Device`: the one record of a session.
pub const DEVICE: &[u8] = b"device";

/// `SyncKeys`: the id of the key that came last. No key of [`sync_key`] equals it.
pub const SYNC_KEY_LATEST: &[u8] = b"latest";

/// One-time pre-keys in one record of `PreKeys`. An upload of 812 keys is 13 rows of 5 KiB, not 812.
pub const PRE_KEYS_PER_RECORD: u32 = 64;

/// Between a record's key and the number of a part. No text key holds this byte.
const PART_MARK: u8 = 0xFF;

/// Bytes of the session number in front of every key.
const SESSION_BYTES: usize = 4;

/// The key in the tree.
pub(super) fn row(session: SessionNumber, key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(SESSION_BYTES + key.len());
    row.extend_from_slice(&session.0.to_be_bytes());
    row.extend_from_slice(key);
    row
}

/// Splits a key of the tree; `None` when it is too short to be one.
pub(super) fn split_row(row: &[u8]) -> Option<(SessionNumber, &[u8])> {
    let (number, key) = row.split_first_chunk::<SESSION_BYTES>()?;
    Some((SessionNumber(u32::from_be_bytes(*number)), key))
}

/// A key of several texts. All but the last are preceded by their length, so no text can pass for a part of another, and
/// the first ones are a prefix to scan by: `texts(&[chat, ""])` begins the keys of all rows of a chat.
pub fn texts(texts: &[&str]) -> Vec<u8> {
    let mut key = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        if at + 1 < texts.len() {
            // A text too long to count is over the limit of a key as well, and refused for that.
            key.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
        key.extend_from_slice(text.as_bytes());
    }
    key
}

/// `MutationMacs`: collection, then the MAC of the index.
pub fn mutation_mac(collection: &str, index_mac: &[u8]) -> Vec<u8> {
    let mut key = texts(&[collection, ""]);
    key.extend_from_slice(index_mac);
    key
}

/// `SyncKeys`: the key with this id.
pub fn sync_key(id: &[u8]) -> Vec<u8> {
    [b"k", id].concat()
}

/// `SignedPreKeys`: the key with this id; in the order of ids.
pub fn signed_pre_key(id: u32) -> [u8; 4] {
    id.to_be_bytes()
}

/// `PreKeys`: the record that holds the key with this id, and the key's place in it. In the order of ids.
pub fn pre_key(id: u32) -> ([u8; 4], u8) {
    let place = u8::try_from(id % PRE_KEYS_PER_RECORD).unwrap_or_default();
    ((id / PRE_KEYS_PER_RECORD).to_be_bytes(), place)
}

/// The prefix of the keys of all parts of a record.
pub(super) fn parts(key: &[u8]) -> Vec<u8> {
    let mut prefix = key.to_vec();
    prefix.push(PART_MARK);
    prefix
}

/// The key of one part.
pub(super) fn part(key: &[u8], number: u8) -> Vec<u8> {
    let mut part = parts(key);
    part.push(number);
    part
}

/// Splits the key of a part into the record's key and the part's number; `None` when it is no part.
pub(super) fn split_part(part: &[u8]) -> Option<(&[u8], u8)> {
    match part {
        [key @ .., PART_MARK, number] => Some((key, *number)),
        _ => None,
    }
}
