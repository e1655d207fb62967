//! Every key layout on disk, versioned as one: whoever changes one raises [`LAYOUT_VERSION`].
//!
//! A row's key in its tree is the session number (4 bytes, big-endian) and then the key as the tables below say.

use super::SessionNumber;

/// The layout this version reads and writes, kept in `Meta` under [`LAYOUT`].
pub const LAYOUT_VERSION: u32 = 1;

/// `Meta`: the layout version, as decimal text.
pub const LAYOUT: &[u8] = b"store.layout";

/// `Meta`: present while an import runs.
pub const IMPORTING: &[u8] = b"store.importing";

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

/// What the keys of all parts of a record begin with.
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
