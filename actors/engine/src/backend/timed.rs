//! Records that are kept for a while: sent messages for retries, received ones until the daemon has them.
//!
//! A record: stored at (8 bytes, big-endian, Unix seconds), payload.

use std::sync::atomic::{AtomicI64, Ordering};

use wacore::store::error::Result;

use super::exclusive::Exclusive;
use super::rows::{Changes, Rows, unreadable};
use rookery_store::Table;

/// How long a write may take: a sweep assumes that a record missing from its scan is younger than this.
const IN_FLIGHT_SECONDS: i64 = 60;

/// One table of records that are kept for a while.
pub(super) struct TimedRecords {
    table: Table,
    taking: Exclusive,
    /// No record is older than this. The engine sweeps with every keepalive: most sweeps read only this number. Unknown
    /// at first, which is `i64::MIN`.
    oldest_at: AtomicI64,
}

impl TimedRecords {
    pub(super) fn new(table: Table) -> Self {
        Self { table, taking: Exclusive::default(), oldest_at: AtomicI64::new(i64::MIN) }
    }

    pub(super) fn put(&self, changes: &mut Changes<'_>, key: &[u8], payload: &[u8]) -> Result<()> {
        let now = wacore::time::now_secs();
        self.oldest_at.fetch_min(now, Ordering::Relaxed);
        changes.put_record(self.table, key, &[&now.to_be_bytes(), payload].concat())
    }

    pub(super) fn delete(&self, changes: &mut Changes<'_>, key: &[u8]) -> Result<()> {
        changes.delete_record(self.table, key)
    }

    pub(super) fn get(&self, rows: &Rows, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let record = rows.get_record(self.table, key)?;
        record.map(|record| Ok(self.split(&record)?.1.to_vec())).transpose()
    }

    /// Reads and deletes a record; of two calls only one gets it.
    pub(super) async fn take(&self, rows: &Rows, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut held = self.taking.lock(rows).await?;
        let Some(payload) = self.get(rows, key)? else { return Ok(None) };
        let mut changes = rows.changes();
        self.delete(&mut changes, key)?;
        held.commit(changes).await?;
        Ok(Some(payload))
    }

    /// Deletes the records that were stored before the cutoff (Unix seconds); returns how many.
    pub(super) async fn sweep(&self, rows: &Rows, cutoff: i64) -> Result<u32> {
        if self.oldest_at.load(Ordering::Relaxed) >= cutoff {
            return Ok(0);
        }
        let mut held = self.taking.lock(rows).await?;
        let mut oldest_at = wacore::time::now_secs() - IN_FLIGHT_SECONDS;
        let mut changes = rows.changes();
        let mut deleted = 0;
        for (key, record) in rows.scan_records(self.table, b"")? {
            let stored_at = self.split(&record)?.0;
            if stored_at < cutoff {
                self.delete(&mut changes, &key)?;
                deleted += 1;
            } else {
                oldest_at = oldest_at.min(stored_at);
            }
        }
        held.commit(changes).await?;
        self.oldest_at.store(oldest_at, Ordering::Relaxed);
        Ok(deleted)
    }

    fn split<'a>(&self, record: &'a [u8]) -> Result<(i64, &'a [u8])> {
        let (stored_at, payload) = record.split_first_chunk::<8>().ok_or_else(|| unreadable(self.table))?;
        Ok((i64::from_be_bytes(*stored_at), payload))
    }
}
