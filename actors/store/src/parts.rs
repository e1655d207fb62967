//! Records larger than one value, stored in parts.
//!
//! The record is a header (length and CRC-32) followed by its bytes, cut into values of [`VALUE_BYTES_MAX`]. Part 0 holds
//! the header, so parts left over from a longer record are not read as parts of this one. One value is the usual case
//! and costs ten bytes. All parts of a record are in one batch: the record is never torn.

use std::collections::BTreeMap;

use super::{Batch, Row, SessionNumber, Store, StoreError, Table, VALUE_BYTES_MAX, layout};

/// Parts of one record: half a batch, so that a record always fits in one beside the rows that belong to it.
const PARTS_MAX: usize = super::BATCH_OPERATIONS_MAX / 2;

/// Length (4 bytes, big-endian) and CRC-32 (4 bytes, big-endian).
const HEADER_BYTES: usize = 8;

/// Bytes of the largest record: 1 MiB less its header. A group of 1,024 participants takes about 100 KiB.
pub const RECORD_BYTES_MAX: usize = PARTS_MAX * VALUE_BYTES_MAX - HEADER_BYTES;

/// How many operations [`put_parts`] adds for a record of this size where there was none, or a smaller one.
#[must_use]
pub const fn parts_in(record_bytes: usize) -> usize {
    (HEADER_BYTES + record_bytes).div_ceil(VALUE_BYTES_MAX)
}

/// Adds a record to the batch, and the removal of parts that an older, longer one left. Returns the operations added,
/// at most half a batch. Await the ticket of an earlier change of the same record first: parts that are still being
/// written are not seen, and one of them could be left over (unread, and removed with the next change).
///
/// # Errors
/// [`StoreError::RecordTooLarge`] over [`RECORD_BYTES_MAX`]; else as [`Store::scan_prefix`]. The batch is then unchanged.
pub fn put_parts(
    store: &dyn Store,
    batch: &mut Batch,
    session: SessionNumber,
    table: Table,
    key: &[u8],
    record: &[u8],
) -> Result<usize, StoreError> {
    if record.len() > RECORD_BYTES_MAX {
        return Err(StoreError::RecordTooLarge { table, bytes: record.len() });
    }
    let stored = part_numbers(store, session, table, key)?;
    let operations_before = batch.len();
    let written = put_new_parts(batch, session, table, key, record);
    for number in stored.into_iter().filter(|number| *number >= written) {
        batch.delete(session, table, layout::part(key, number));
    }
    Ok(batch.len() - operations_before)
}

/// Adds the parts of a record; returns how many there are.
fn put_new_parts(batch: &mut Batch, session: SessionNumber, table: Table, key: &[u8], record: &[u8]) -> u8 {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + record.len());
    bytes.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&crc32fast::hash(record).to_be_bytes());
    bytes.extend_from_slice(record);
    let mut written = 0;
    for part in bytes.chunks(VALUE_BYTES_MAX) {
        batch.put(session, table, layout::part(key, written), part);
        written += 1;
    }
    written
}

/// Adds the removal of a record to the batch. Returns the operations added: none when there is no such record.
///
/// # Errors
/// As [`Store::scan_prefix`].
pub fn delete_parts(
    store: &dyn Store,
    batch: &mut Batch,
    session: SessionNumber,
    table: Table,
    key: &[u8],
) -> Result<usize, StoreError> {
    let stored = part_numbers(store, session, table, key)?;
    for number in &stored {
        batch.delete(session, table, layout::part(key, *number));
    }
    Ok(stored.len())
}

/// Reads a record, `None` when there is none.
///
/// # Errors
/// [`StoreError::Failed`] when its parts do not fit together; else as [`Store::scan_prefix`].
pub fn get_parts(
    store: &dyn Store,
    session: SessionNumber,
    table: Table,
    key: &[u8],
) -> Result<Option<Vec<u8>>, StoreError> {
    let rows = store.scan_prefix(session, table, &layout::parts(key))?;
    Ok(assemble(table, rows)?.remove(key))
}

/// Reads all records of a session's table whose key begins with `prefix`, in the order of their keys.
///
/// # Errors
/// As [`get_parts`].
pub fn scan_parts(
    store: &dyn Store,
    session: SessionNumber,
    table: Table,
    prefix: &[u8],
) -> Result<Vec<Row>, StoreError> {
    Ok(assemble(table, store.scan_prefix(session, table, prefix)?)?.into_iter().collect())
}

/// The key of a record, and the record or its error.
pub type ReadRecord = (Vec<u8>, Result<Vec<u8>, StoreError>);

/// As [`scan_parts`], but a broken record has its error in its place, so that the other records can be read.
///
/// # Errors
/// As [`Store::scan_prefix`].
pub fn scan_parts_each(
    store: &dyn Store,
    session: SessionNumber,
    table: Table,
    prefix: &[u8],
) -> Result<Vec<ReadRecord>, StoreError> {
    Ok(assemble_each(table, store.scan_prefix(session, table, prefix)?).collect())
}

/// The numbers of a record's parts in the store, left-over ones included.
fn part_numbers(store: &dyn Store, session: SessionNumber, table: Table, key: &[u8]) -> Result<Vec<u8>, StoreError> {
    let rows = store.scan_prefix(session, table, &layout::parts(key))?;
    let numbers = rows.iter().filter_map(|(row, _)| layout::split_part(row));
    Ok(numbers.filter(|(owner, _)| *owner == key).map(|(_, number)| number).collect())
}

fn assemble(table: Table, rows: Vec<Row>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StoreError> {
    assemble_each(table, rows).map(|(key, record)| Ok((key, record?))).collect()
}

fn assemble_each(table: Table, rows: Vec<Row>) -> impl Iterator<Item = ReadRecord> {
    let mut found: BTreeMap<Vec<u8>, BTreeMap<u8, Vec<u8>>> = BTreeMap::new();
    for (row, value) in rows {
        if let Some((key, number)) = layout::split_part(&row) {
            found.entry(key.to_vec()).or_default().insert(number, value);
        }
    }
    // Parts without a part 0 were left over from a record that is gone.
    found.retain(|_, parts| parts.contains_key(&0));
    found.into_iter().map(move |(key, parts)| (key, join(table, parts)))
}

/// Puts the parts together and checks them against the header.
fn join(table: Table, parts: BTreeMap<u8, Vec<u8>>) -> Result<Vec<u8>, StoreError> {
    let broken = || StoreError::Failed(format!("a record in table `{}` does not fit together", table.tree_name()));
    let mut bytes = parts.into_values();
    let first = bytes.next().unwrap_or_default();
    let (header, begin) = first.split_first_chunk::<HEADER_BYTES>().ok_or_else(broken)?;
    let (length, checksum) = (u32_at(header, 0), u32_at(header, 4));
    let length = usize::try_from(length).map_err(|_| broken())?;
    let mut record = begin.to_vec();
    for part in bytes.take(parts_in(length).saturating_sub(1)) {
        record.extend_from_slice(&part);
    }
    if record.len() != length || crc32fast::hash(&record) != checksum {
        return Err(broken());
    }
    Ok(record)
}

fn u32_at(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&header[at..at + 4]);
    u32::from_be_bytes(number)
}
