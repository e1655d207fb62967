//! Reading a session from the store. Blocks, with thousands of groups for seconds, so no actor does it (S-1).

use super::record::{Link, SessionRecord, StoredSession};
use crate::group_cache::{GroupCache, GroupRecord, Names};
use crate::store::{SessionNumber, Store, StoreError, Table, scan_parts};

/// What the store has of a session: its actor starts with it.
pub(crate) struct Loaded {
    pub(super) record: SessionRecord,
    pub(super) cache: GroupCache,
}

impl Loaded {
    /// Of a session that was just made: it has a record and nothing else.
    pub(crate) fn new(record: SessionRecord) -> Self {
        Self { record, cache: GroupCache::default() }
    }

    /// Reads it. Blocks.
    ///
    /// # Errors
    /// The store or the session's record cannot be read.
    pub(crate) fn read(store: &dyn Store, number: SessionNumber) -> Result<Self, StoreError> {
        let StoredSession::Readable(record) = SessionRecord::load(store, number)? else {
            return Err(StoreError::Failed("the session's record cannot be read".to_owned()));
        };
        let mut record = *record;
        // Its deletion was given up, or there would be no actor.
        record.deleting = false;
        // Records from before accounts were bound.
        record.account = record.account.or_else(|| (record.link == Link::Linked).then(|| record.me()));
        let stored = scan_parts(store, number, Table::Groups, b"")?;
        // A record that cannot be read is read from WhatsApp again before the session is ready (K-3).
        let count = stored.len();
        let groups: Vec<GroupRecord> =
            stored.into_iter().filter_map(|(_, json)| serde_json::from_slice(&json).ok()).collect();
        let filled = record.link == Link::Linked && record.groups_stored && groups.len() == count;
        let cache = GroupCache::restore(record.me(), groups, load_names(store, number)?, filled);
        Ok(Self { record, cache })
    }
}

/// The names of a session as they are stored: a row each, under the id as text.
fn load_names(store: &dyn Store, number: SessionNumber) -> Result<Names, StoreError> {
    let rows = store.scan_prefix(number, Table::Names, b"")?;
    // One that cannot be read is learnt again.
    let name = |(key, json): (Vec<u8>, Vec<u8>)| {
        Some((std::str::from_utf8(&key).ok()?.parse().ok()?, serde_json::from_slice(&json).ok()?))
    };
    Ok(Names::restore(rows.into_iter().filter_map(name)))
}
