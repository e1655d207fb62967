//! Distinguishes a whole store from one that only looks whole.
//!
//! sled checks its pages, but over a damaged or cut file it silently opens an older state, or one that lacks rows in the
//! middle (seen: 2 of 8 truncations, and most flipped bytes in the newest segment). Rolled back Signal state reuses
//! message keys, so that must be noticed. Every transaction therefore counts itself and the rows (`Meta`,
//! [`layout::TALLY`]), and opening counts again. The number of transactions is also kept beside sled, in the file
//! [`WITNESS_FILE`]. It is written after the sync that made them durable, and never synced: it may lag after a power
//! cut but is never ahead.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::super::{SessionNumber, Table, layout};

/// Made with the store. Its presence also tells an emptied `db` from a new one.
const WITNESS_FILE: &str = "witness";

const TALLY_BYTES: usize = 24;

/// The counts of a store's transactions and rows, and a checksum of the rows.
#[derive(Copy, Clone, Default, Eq, PartialEq)]
pub(super) struct Tally {
    /// Transactions so far.
    pub(super) commits: u64,
    rows: u64,
    /// Sum of the rows' checksums: changed in step with the rows, whatever their order.
    sum: u64,
}

impl Tally {
    /// Takes the change of one row into account; `row` is the key in the tree.
    pub(super) fn change(&mut self, table: Table, row: &[u8], before: Option<&[u8]>, after: Option<&[u8]>) {
        if let Some(before) = before {
            self.rows = self.rows.wrapping_sub(1);
            self.sum = self.sum.wrapping_sub(checksum(table, row, before));
        }
        if let Some(after) = after {
            self.rows = self.rows.wrapping_add(1);
            self.sum = self.sum.wrapping_add(checksum(table, row, after));
        }
    }

    pub(super) fn encode(&self) -> [u8; TALLY_BYTES] {
        let mut bytes = [0; TALLY_BYTES];
        for (to, number) in bytes.chunks_exact_mut(8).zip([self.commits, self.rows, self.sum]) {
            to.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (commits, rest) = bytes.split_first_chunk()?;
        let (rows, rest) = rest.split_first_chunk()?;
        let (sum, _) = rest.split_first_chunk()?;
        let [commits, rows, sum] = [commits, rows, sum].map(|number| u64::from_be_bytes(*number));
        Some(Self { commits, rows, sum })
    }

    /// The tally that the store holds, `None` when it holds none.
    pub(super) fn stored(trees: &[::sled::Tree]) -> Result<Option<Self>, ::sled::Error> {
        let bytes = trees[Table::Meta.index()].get(row())?;
        Ok(bytes.and_then(|bytes| Self::decode(&bytes)))
    }

    /// Counts all rows, as if after `commits` transactions, and the bytes of their keys and values. Reads the whole store.
    pub(super) fn count(trees: &[::sled::Tree], commits: u64) -> Result<(Self, u64), ::sled::Error> {
        let own = row();
        let (mut tally, mut bytes) = (Self { commits, ..Self::default() }, 0);
        for (table, tree) in Table::ALL.iter().zip(trees) {
            walk(tree, |row, value| {
                bytes += (row.len() + value.len()) as u64;
                if *table != Table::Meta || *row != *own {
                    tally.change(*table, row, None, Some(value));
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok((tally, bytes))
    }
}

/// Visits every row of a tree, however large, in bounded memory.
///
/// sled evicts pages only after 64 accesses within one of its 256 cache shards, and an iterator makes one access for a
/// whole page: iterating alone held 145 MB of a 130 MB store, whatever the cache's size. So each value is got by its key.
pub(super) fn walk(
    tree: &::sled::Tree,
    mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> Result<(), ::sled::Error> {
    for row in tree.iter().keys() {
        let row = row?;
        if let Some(value) = tree.get(&row)?
            && visit(&row, &value).is_break()
        {
            break;
        }
    }
    Ok(())
}

/// The key of the tally's own row in the tree. The tally does not count it.
pub(super) fn row() -> Vec<u8> {
    layout::row(SessionNumber::DAEMON, layout::TALLY)
}

fn checksum(table: Table, row: &[u8], value: &[u8]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(table.tree_name().as_bytes());
    hasher.update(&[u8::MAX]);
    hasher.update(&row.len().to_be_bytes());
    hasher.update(row);
    hasher.update(value);
    u64::from(hasher.finalize())
}

/// The number of transactions, kept beside sled.
pub(super) struct Witness(File);

impl Witness {
    /// Opens the witness, `None` when this store has none yet.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        match OpenOptions::new().read(true).write(true).open(path.join(WITNESS_FILE)) {
            Ok(file) => Ok(Some(Self(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the witness. The caller syncs the directory.
    pub(super) fn make(path: &Path, commits: u64) -> io::Result<Self> {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let witness = Self(options.open(path.join(WITNESS_FILE))?);
        witness.write(commits)?;
        witness.0.sync_all()?;
        Ok(witness)
    }

    /// The number of transactions; 0 when the witness is unreadable: then it proves nothing.
    pub(super) fn read(&self) -> u64 {
        let mut bytes = [0; 12];
        let (commits, checksum) = match self.0.read_exact_at(&mut bytes, 0) {
            Ok(()) => bytes.split_at(8),
            Err(_) => return 0,
        };
        if crc32fast::hash(commits).to_be_bytes() != checksum {
            return 0;
        }
        commits.try_into().map_or(0, u64::from_be_bytes)
    }

    /// To be called once these transactions are durable.
    pub(super) fn write(&self, commits: u64) -> io::Result<()> {
        let commits = commits.to_be_bytes();
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&commits);
        bytes[8..].copy_from_slice(&crc32fast::hash(&commits).to_be_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}
