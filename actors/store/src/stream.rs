//! The export stream: every row of a store, checksummed block by block, independent of the store's layout of rows.
//!
//! Magic, format version and layout version; then blocks: length (4 bytes), CRC-32 (4 bytes), payload. A payload is rows:
//! table name (1 byte of length), session (4), key (2 bytes of length), value (4 bytes of length). An empty block ends the
//! stream and is followed by the number of rows (8). Numbers are big-endian. No part of a block is used before its
//! checksum was verified.

use std::io::{Read, Write};

use super::{BATCH_OPERATIONS_MAX, Batch, SessionNumber, Store, StoreError, Table, Ticket, layout};

const MAGIC: &[u8; 15] = b"rookery-export\n";

const FORMAT_VERSION: u32 = 1;

/// A block is written once it holds this much: large enough that 8 bytes of head are nothing.
const BLOCK_BYTES: usize = 256 * 1024;

/// The largest block that is read. A block ends with the row that fills it, so it is one row longer at most.
const BLOCK_BYTES_MAX: usize = 2 * BLOCK_BYTES;

/// Batches on their way during an import: enough for the committer to merge, far from filling its queue.
const IMPORT_BATCHES_WAITING_MAX: usize = 32;

/// Writes the stream.
pub(super) struct Writer<'a> {
    to: &'a mut dyn Write,
    block: Vec<u8>,
    rows: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn begin(to: &'a mut dyn Write) -> Result<Self, StoreError> {
        to.write_all(MAGIC).map_err(stream_error)?;
        to.write_all(&FORMAT_VERSION.to_be_bytes()).map_err(stream_error)?;
        to.write_all(&layout::LAYOUT_VERSION.to_be_bytes()).map_err(stream_error)?;
        Ok(Self { to, block: Vec::with_capacity(BLOCK_BYTES), rows: 0 })
    }

    /// Adds a row; the store's own marks are left out, as the header stands for them.
    pub(super) fn row(
        &mut self,
        table: Table,
        session: SessionNumber,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StoreError> {
        if is_own_mark(table, session, key) {
            return Ok(());
        }
        let name = table.tree_name().as_bytes();
        self.block.push(u8::try_from(name.len()).map_err(|_| malformed())?);
        self.block.extend_from_slice(name);
        self.block.extend_from_slice(&session.0.to_be_bytes());
        self.block.extend_from_slice(&u16::try_from(key.len()).map_err(|_| malformed())?.to_be_bytes());
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(&u32::try_from(value.len()).map_err(|_| malformed())?.to_be_bytes());
        self.block.extend_from_slice(value);
        self.rows += 1;
        if self.block.len() < BLOCK_BYTES { Ok(()) } else { self.write_block() }
    }

    pub(super) fn end(mut self) -> Result<(), StoreError> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        self.block.clear();
        self.write_block()?;
        self.to.write_all(&self.rows.to_be_bytes()).map_err(stream_error)?;
        self.to.flush().map_err(stream_error)
    }

    fn write_block(&mut self) -> Result<(), StoreError> {
        let length = u32::try_from(self.block.len()).map_err(|_| malformed())?;
        self.to.write_all(&length.to_be_bytes()).map_err(stream_error)?;
        self.to.write_all(&crc32fast::hash(&self.block).to_be_bytes()).map_err(stream_error)?;
        self.to.write_all(&self.block).map_err(stream_error)?;
        self.block.clear();
        Ok(())
    }
}

/// Whether the row describes the store itself, so that it is neither exported nor imported.
pub(super) fn is_own_mark(table: Table, session: SessionNumber, key: &[u8]) -> bool {
    let marks = [layout::LAYOUT, layout::STORE_KEY, layout::IMPORTING, layout::TALLY];
    table == Table::Meta && session == SessionNumber::DAEMON && marks.contains(&key)
}

/// Commits every row of the stream. Until it returns `Ok` the store bears the mark [`layout::IMPORTING`].
pub(super) fn import(store: &dyn Store, from: &mut dyn Read) -> Result<(), StoreError> {
    check_header(from)?;
    let mut mark = Batch::new();
    mark.put(SessionNumber::DAEMON, Table::Meta, layout::IMPORTING, "");
    store.commit(mark).wait_blocking()?;
    let mut waiting: Vec<Ticket> = Vec::new();
    let mut rows = 0_u64;
    while let Some(block) = read_block(from)? {
        let mut rest = block.as_slice();
        while !rest.is_empty() {
            let mut batch = Batch::new();
            while !rest.is_empty() && batch.len() < BATCH_OPERATIONS_MAX {
                take_row(&mut rest, &mut batch).ok_or_else(malformed)??;
            }
            rows += batch.len() as u64;
            waiting.push(store.commit(batch));
        }
        if waiting.len() >= IMPORT_BATCHES_WAITING_MAX {
            waiting.drain(..).try_for_each(Ticket::wait_blocking)?;
        }
    }
    waiting.into_iter().try_for_each(Ticket::wait_blocking)?;
    if u64::from_be_bytes(read_array(from)?) != rows {
        return Err(StoreError::Stream("it does not hold as many rows as it says".to_owned()));
    }
    let mut done = Batch::new();
    done.delete(SessionNumber::DAEMON, Table::Meta, layout::IMPORTING);
    store.commit(done).wait_blocking()
}

fn check_header(from: &mut dyn Read) -> Result<(), StoreError> {
    if read_array::<{ MAGIC.len() }>(from)? != *MAGIC {
        return Err(StoreError::Stream("it is no export of a store".to_owned()));
    }
    let (format, layout) = (u32::from_be_bytes(read_array(from)?), u32::from_be_bytes(read_array(from)?));
    if format == FORMAT_VERSION && layout::is_known(layout) {
        return Ok(());
    }
    Err(StoreError::Stream(format!(
        "it has format {format} and layout {layout}, this version reads {FORMAT_VERSION} and {} to {}",
        layout::LAYOUT_VERSION_MIN,
        layout::LAYOUT_VERSION
    )))
}

/// The next block, `None` at the end of the stream.
fn read_block(from: &mut dyn Read) -> Result<Option<Vec<u8>>, StoreError> {
    let length = usize::try_from(u32::from_be_bytes(read_array(from)?)).map_err(|_| malformed())?;
    let checksum = u32::from_be_bytes(read_array(from)?);
    if length > BLOCK_BYTES_MAX {
        return Err(malformed());
    }
    let mut block = vec![0; length];
    from.read_exact(&mut block).map_err(stream_error)?;
    if crc32fast::hash(&block) != checksum {
        return Err(StoreError::Stream("a checksum does not match".to_owned()));
    }
    Ok((length > 0).then_some(block))
}

/// Moves one row from the block to the batch; `None` when the block ends within the row.
fn take_row(rest: &mut &[u8], batch: &mut Batch) -> Option<Result<(), StoreError>> {
    let name_length = *rest.split_off_first()?;
    let name = rest.split_off(..usize::from(name_length))?;
    let session = SessionNumber(u32::from_be_bytes(take_array(rest)?));
    let key_length = u16::from_be_bytes(take_array(rest)?);
    let key = rest.split_off(..usize::from(key_length))?;
    let value_length = u32::from_be_bytes(take_array(rest)?);
    let value = rest.split_off(..usize::try_from(value_length).ok()?)?;
    let Some(table) = std::str::from_utf8(name).ok().and_then(Table::from_tree_name) else {
        return Some(Err(StoreError::Stream("it names a table that this version does not have".to_owned())));
    };
    if is_own_mark(table, session, key) {
        return Some(Err(malformed()));
    }
    batch.put(session, table, key, value);
    Some(Ok(()))
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    rest.split_off(..N)?.try_into().ok()
}

fn read_array<const N: usize>(from: &mut dyn Read) -> Result<[u8; N], StoreError> {
    let mut array = [0; N];
    from.read_exact(&mut array).map_err(stream_error)?;
    Ok(array)
}

/// Imports a stream with these bytes as rows. Unless the stream is refused, exports the rows and imports them again.
///
/// # Panics
/// When a later step fails, or the second export differs from the first.
#[cfg(fuzzing)]
pub fn fuzz_rows(rows: &[u8]) {
    let mut counted = rows;
    let mut count = 0_u64;
    while !counted.is_empty() && take_row(&mut counted, &mut Batch::new()).is_some() {
        count += 1;
    }
    let mut stream = Vec::new();
    let mut writer = Writer::begin(&mut stream).expect("memory");
    writer.block.extend_from_slice(rows);
    writer.rows = count;
    writer.end().expect("memory");
    let store = super::open_memory();
    if store.import(&mut stream.as_slice()).is_ok() {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        store.export(&mut first).expect("memory");
        let again = super::open_memory();
        again.import(&mut first.as_slice()).expect("what was exported");
        again.export(&mut second).expect("memory");
        assert_eq!(first, second);
    }
}

fn malformed() -> StoreError {
    StoreError::Stream("it is malformed".to_owned())
}

fn stream_error(error: std::io::Error) -> StoreError {
    StoreError::Stream(match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "it ends too early".to_owned(),
        _ => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::open_memory;
    use super::*;

    /// A stream with one row of `Meta`.
    fn stream(session: SessionNumber, key: &[u8]) -> Vec<u8> {
        let mut stream = Vec::new();
        let mut writer = Writer::begin(&mut stream).unwrap();
        writer.row(Table::Names, SessionNumber(1), key, b"v").unwrap();
        let name =
            |table: Table| [&[u8::try_from(table.tree_name().len()).unwrap()], table.tree_name().as_bytes()].concat();
        let row = writer.block.split_off(name(Table::Names).len() + 4);
        writer.block = [name(Table::Meta), session.0.to_be_bytes().to_vec(), row].concat();
        writer.end().unwrap();
        stream
    }

    #[test]
    fn a_stream_cannot_bring_another_stores_marks() {
        let own = SessionNumber::DAEMON;
        for mark in [layout::LAYOUT, layout::STORE_KEY, layout::IMPORTING, layout::TALLY] {
            let refused = open_memory().import(&mut stream(own, mark).as_slice());
            assert!(matches!(refused, Err(StoreError::Stream(_))), "{refused:?}");
            assert_eq!(open_memory().import(&mut stream(SessionNumber(7), mark).as_slice()), Ok(()));
        }
        assert_eq!(open_memory().import(&mut stream(own, b"another").as_slice()), Ok(()));
    }
}
