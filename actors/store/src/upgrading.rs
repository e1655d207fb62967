//! Marks a store of an older layout as one of this version's, so that older versions do not open it any more.

use super::{Batch, SessionNumber, Store, StoreError, Table, layout};

/// Marks the store if it has an older layout. To be called before rows are moved. Blocks.
///
/// # Errors
/// Why the store could not be read or written.
pub fn mark_as_current(store: &dyn Store) -> Result<(), StoreError> {
    let Some(mark) = store.get(SessionNumber::DAEMON, Table::Meta, layout::LAYOUT)? else { return Ok(()) };
    let current = layout::version_text(layout::LAYOUT_VERSION, layout::is_encrypted(&mark));
    if mark == current.as_bytes() {
        return Ok(());
    }
    let mut batch = Batch::new();
    batch.put(SessionNumber::DAEMON, Table::Meta, layout::LAYOUT, current);
    store.commit(batch).wait_blocking()
}
