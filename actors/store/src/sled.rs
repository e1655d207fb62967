//! The store on disk: sled 0.34.7 behind its guards. This file reads; everything that writes is in `committer`.
//!
//! sled survives kill -9 and power cuts, but only with one committer, an fsync of our own, small batches and small
//! values: see "The store" in `actors/README.md` before changing anything here.

mod committer;
mod leftovers;
mod opening;
mod tally;

use std::fs::File;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;

use super::batch::Change;
use super::encryption::ValueCipher;
use super::guard;
use super::queue::{Queue, Queued};
use super::space::{SpaceUse, SpaceWatch};
use super::{
    Batch, Health, Row, SessionNumber, Store, StoreError, StoreKey, StoreOptions, Table, Ticket, layout, stream,
};
use committer::Committer;

pub(super) use opening::DATA_FILE;

/// The store's lock, and the name of the snapshot that keeps sled from opening the store; `None`: there is none.
pub(super) fn unreadable_snapshot(path: &Path, options: &StoreOptions) -> Result<Option<(File, String)>, StoreError> {
    let (lock, snapshot) = opening::prepare(path, options)?;
    Ok(lock.zip(snapshot))
}

impl Queued for Batch {
    /// A session awaits its tickets, so 5,000 sessions have about one each waiting.
    const WAITING_MAX: usize = 16_384;
    /// A usual batch has some 2 KiB.
    const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;
    /// Operations: eight full transactions.
    const ROUND_COST_MAX: usize = 1_024;

    fn bytes(&self) -> usize {
        Self::bytes(self)
    }

    fn cost(&self) -> usize {
        self.len()
    }
}

/// The state that the readers and the committer share.
struct Shared {
    path: PathBuf,
    queue: Queue<Batch>,
    space: SpaceWatch,
    /// Why the store has failed: the first reason that was seen; sticky.
    failure: OnceLock<String>,
    /// Held by the committer while it changes rows, and by a scan while it reads them: a scan shows no half batch.
    rows: RwLock<()>,
    /// Held by the committer, before `rows`, and by an export for all its time: scans go on during an export.
    writing: Mutex<()>,
}

impl Shared {
    /// The sticky error, if the store has failed.
    fn failed(&self) -> Option<StoreError> {
        self.failure.get().map(|reason| StoreError::Failed(reason.clone()))
    }

    fn fail(&self, reason: String) {
        let _ = self.failure.set(reason);
    }
}

/// One open store. Dropping it writes what is queued and closes the files.
pub(super) struct SledStore {
    shared: Arc<Shared>,
    /// One tree per table, in the order of [`Table::ALL`].
    trees: Vec<::sled::Tree>,
    /// Converts between the callers' values and those on disk; `None`: they are the same.
    value_cipher: Option<ValueCipher>,
    /// Bytes of all rows when the store was opened.
    live_bytes: u64,
    committer: Option<JoinHandle<()>>,
}

impl SledStore {
    pub(super) fn open(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let mut opened = opening::open(path, options)?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            queue: Queue::default(),
            space: SpaceWatch::new(path, options.free_space_min_bytes),
            failure: OnceLock::new(),
            rows: RwLock::new(()),
            writing: Mutex::new(()),
        });
        let (trees, value_cipher, live_bytes) = (opened.trees.clone(), opened.value_cipher.take(), opened.live_bytes);
        let committer = Committer::new(opened, Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("store-committer".to_owned())
            .spawn(move || committer.run())
            .map_err(|error| StoreError::Io { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Self { shared, trees, value_cipher, live_bytes, committer: Some(thread) })
    }

    /// Bytes of all rows, as they are on disk, when the store was opened.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Encrypts the store's own key with another key of the operator's.
    pub(super) fn rekey(&self, key: &StoreKey) -> Result<(), StoreError> {
        let value_cipher =
            self.value_cipher.as_ref().ok_or_else(|| StoreError::Unencrypted { path: self.shared.path.clone() })?;
        let mut batch = Batch::new();
        batch.put(SessionNumber::DAEMON, Table::Meta, layout::STORE_KEY, value_cipher.wrap(key)?);
        self.commit(batch).wait_blocking()
    }

    /// The cipher for the values of this table; `Meta` has none, as its rows have to be read before there is a key.
    fn value_cipher(&self, table: Table) -> Option<&ValueCipher> {
        self.value_cipher.as_ref().filter(|_| table != Table::Meta)
    }

    fn encrypted(&self, batch: Batch) -> Result<Batch, StoreError> {
        if self.value_cipher.is_none() {
            return Ok(batch);
        }
        let mut encrypted = batch.emptied();
        for Change { session, table, key, value } in batch.into_changes() {
            match (value, self.value_cipher(table)) {
                (Some(value), Some(value_cipher)) => {
                    let value = value_cipher.encrypt(session, table, &key, &value)?;
                    encrypted.put(session, table, key, value);
                }
                (Some(value), None) => encrypted.put(session, table, key, value),
                (None, _) => encrypted.delete(session, table, key),
            }
        }
        Ok(encrypted)
    }

    /// The caller's value for a value on disk. A value that was not encrypted for this row is damage, which is sticky.
    fn opened(&self, session: SessionNumber, table: Table, key: &[u8], value: &[u8]) -> Result<Vec<u8>, StoreError> {
        let Some(value_cipher) = self.value_cipher(table) else { return Ok(value.to_vec()) };
        value_cipher.decrypt(session, table, key, value).ok_or_else(|| {
            let reason =
                format!("a value in table `{}` is not the one that was encrypted for its row", table.tree_name());
            self.shared.fail(reason.clone());
            StoreError::Damaged { path: self.shared.path.clone(), reason }
        })
    }

    /// Runs a read of sled; an error or a panic in it means damage, which is sticky.
    fn read<T>(&self, read: impl FnOnce() -> Result<T, ::sled::Error>) -> Result<T, StoreError> {
        guard::run(read).map_err(|reason| {
            self.shared.fail(format!("it could not be read ({reason})"));
            StoreError::Damaged { path: self.shared.path.clone(), reason }
        })
    }

    fn scan(&self, row_prefix: &[u8], table: Table) -> Result<Vec<(::sled::IVec, ::sled::IVec)>, StoreError> {
        let _no_commit = self.shared.rows.read().unwrap_or_else(PoisonError::into_inner);
        self.read(|| self.trees[table.index()].scan_prefix(row_prefix).collect())
    }

    fn export_table(
        &self,
        table: Table,
        tree: &::sled::Tree,
        writer: &mut stream::Writer<'_>,
    ) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        self.read(|| {
            tally::walk(tree, |row, value| {
                let Some((session, key)) = layout::split_row(row) else { return ControlFlow::Continue(()) };
                outcome =
                    self.opened(session, table, key, value).and_then(|value| writer.row(table, session, key, &value));
                if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
        })?;
        outcome
    }

    /// Whether no table has a row, the store's own marks aside.
    fn is_empty(&self) -> Result<bool, StoreError> {
        for (table, tree) in Table::ALL.iter().zip(&self.trees) {
            let mut rows = tree.iter().keys();
            while let Some(row) = self.read(|| rows.next().transpose())? {
                let own =
                    layout::split_row(&row).is_some_and(|(session, key)| stream::is_own_mark(*table, session, key));
                if !own {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

impl Store for SledStore {
    fn commit(&self, batch: Batch) -> Ticket {
        if let Some(failed) = self.shared.failed() {
            return Ticket::decided(Err(failed));
        }
        match batch.check().and_then(|()| self.encrypted(batch)) {
            Ok(batch) => self.shared.queue.push(batch),
            Err(refused) => Ticket::decided(Err(refused)),
        }
    }

    fn get(&self, session: SessionNumber, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.read(|| self.trees[table.index()].get(layout::row(session, key)))?;
        value.map(|value| self.opened(session, table, key, &value)).transpose()
    }

    fn scan_prefix(&self, session: SessionNumber, table: Table, prefix: &[u8]) -> Result<Vec<Row>, StoreError> {
        let rows = self.scan(&layout::row(session, prefix), table)?;
        let rows = rows.iter().filter_map(|(row, value)| Some((layout::split_row(row)?.1, value)));
        rows.map(|(key, value)| Ok((key.to_vec(), self.opened(session, table, key, value)?))).collect()
    }

    fn scan_all(&self, table: Table) -> Result<Vec<(SessionNumber, Row)>, StoreError> {
        let rows = self.scan(&[], table)?;
        let rows = rows.iter().filter_map(|(row, value)| Some((layout::split_row(row)?, value)));
        let opened = |((session, key), value): ((SessionNumber, &[u8]), &::sled::IVec)| {
            Ok((session, (key.to_vec(), self.opened(session, table, key, value)?)))
        };
        rows.map(opened).collect()
    }

    fn export(&self, to: &mut dyn Write) -> Result<(), StoreError> {
        let _one_moment = self.shared.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut writer = stream::Writer::begin(to)?;
        for (table, tree) in Table::ALL.iter().zip(&self.trees) {
            self.export_table(*table, tree, &mut writer)?;
        }
        writer.end()
    }

    fn import(&self, from: &mut dyn Read) -> Result<(), StoreError> {
        if !self.is_empty()? {
            return Err(StoreError::NotEmpty);
        }
        stream::import(self, from)
    }

    fn health(&self) -> Health {
        if let Some(reason) = self.shared.failure.get() {
            return Health::Failed(reason.clone());
        }
        match self.shared.space.check() {
            Err(StoreError::LowSpace { free_bytes, needed_bytes }) => {
                let has_room_for_removals = self.shared.space.check_for(SpaceUse::Removing).is_ok();
                Health::LowSpace { free_bytes, needed_bytes, has_room_for_removals }
            }
            _ => Health::Ok,
        }
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(thread) = self.committer.take() {
            let _ = thread.join();
        }
        // The last tree closes the file; on a failed store sled may panic over it.
        let trees = std::mem::take(&mut self.trees);
        let _ = guard::run(|| {
            drop(trees);
            Ok(())
        });
    }
}
