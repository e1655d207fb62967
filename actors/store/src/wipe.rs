//! Removes a session's rows.

use super::{BATCH_OPERATIONS_MAX, Batch, SessionNumber, Store, StoreError, Table};

/// Deletes every row of this session in every per-session table, in batches within the cap, and returns when that is on
/// disk. The device goes first, so that what a crash in between leaves is no credential of use to anyone.
///
/// The session's engine and actor have to be gone (K-1): what they write meanwhile would stay. The row in
/// [`Table::Sessions`] is the caller's: mark it before, delete it after, and wipe again when a restart finds the mark.
///
/// # Errors
/// Why a row could not be read or a batch not be committed; wiping again continues. Nothing to undo when dropped.
pub async fn wipe_session(store: &dyn Store, session: SessionNumber) -> Result<(), StoreError> {
    let mut tables: Vec<Table> = Table::ALL.iter().copied().filter(|table| table.is_per_session()).collect();
    tables.sort_by_key(|table| *table != Table::Device);
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
