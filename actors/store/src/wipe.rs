//! Removes a session's rows.

use super::{BATCH_OPERATIONS_MAX, Batch, SessionNumber, Store, StoreError, Table};

/// How much of a session is wiped.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Wipe {
    /// The data of the account that was linked: credentials, groups, names.
    Account,
    /// All of it. The row in [`Table::Sessions`] goes last: a restart that finds a mark in it wipes again.
    Session,
}

impl Wipe {
    fn includes(self, table: Table) -> bool {
        match self {
            Self::Account => table.is_per_account(),
            Self::Session => table.is_per_session(),
        }
    }
}

/// Deletes the rows of this session, in batches within the cap, and returns when that is on disk. The device goes first, so that
/// a crash in between leaves no usable credentials.
///
/// The session's engine and actor have to be gone (K-1): rows that they write meanwhile would stay.
///
/// # Errors
/// Why a row could not be read or a batch not be committed; wiping again continues. Nothing to undo when dropped.
pub async fn wipe_session(store: &dyn Store, session: SessionNumber, wipe: Wipe) -> Result<(), StoreError> {
    let mut tables: Vec<Table> = Table::ALL.iter().copied().filter(|table| wipe.includes(*table)).collect();
    tables.sort_by_key(|table| (*table == Table::Sessions, *table != Table::Device));
    for table in tables {
        let rows = store.scan_prefix(session, table, b"")?;
        let mut tickets = Vec::new();
        for chunk in rows.chunks(BATCH_OPERATIONS_MAX) {
            let mut batch = Batch::for_removal();
            for (key, _) in chunk {
                batch.delete(session, table, key.as_slice());
            }
            tickets.push(store.commit(batch));
        }
        for ticket in tickets {
            ticket.await?;
        }
    }
    Ok(())
}
