//! Reads a session from the store. This blocks, for seconds with thousands of groups, so no actor does it (S-1).

use std::collections::BTreeMap;
use std::str::FromStr;

use super::record::{Link, SessionRecord, StoredSession};
use crate::group_cache::{GroupCache, Names, Numbers};
use crate::journal::{Base, GroupWrite, Journal, is_large};
use crate::session_log::{RedoGroup, SessionLog};
use rookery_model::{GroupDelta, GroupRecord, Timestamp, unread_settings};
use rookery_store::{SessionNumber, Store, StoreError, Table, layout, scan_parts_each};
use serde::de::DeserializeOwned;

/// The stored state of a session: its actor starts with it.
pub(crate) struct Loaded {
    pub(super) record: SessionRecord,
    pub(super) cache: GroupCache,
    pub(super) journal: Journal,
}

impl Loaded {
    /// The state of a session that was just created: a record and nothing else.
    pub(crate) fn new(record: SessionRecord) -> Self {
        let journal = Journal::new(record.id, 0, BTreeMap::new());
        Self { record, cache: GroupCache::default(), journal }
    }

    #[cfg(test)]
    pub(crate) fn cache(&mut self) -> &mut GroupCache {
        &mut self.cache
    }

    /// The number of the latest event.
    #[cfg(test)]
    pub(crate) fn last_event(&self) -> u64 {
        self.journal.last_event()
    }

    #[cfg(test)]
    pub(crate) fn push_name(&self) -> Option<&str> {
        self.record.push_name.as_deref()
    }

    /// Reads a session. Blocks.
    ///
    /// # Errors
    /// The store or the session's record cannot be read.
    pub(crate) fn read(store: &dyn Store, log: &SessionLog, number: SessionNumber) -> Result<Self, StoreError> {
        let StoredSession::Readable(record) = SessionRecord::load(store, number)? else {
            return Err(StoreError::Failed("the session's record cannot be read".to_owned()));
        };
        let mut record = *record;
        let log = log.load(store)?;
        let redo = log.redo.unwrap_or_default();
        let newer = redo.record.filter(|newer| newer.last_event > record.last_event);
        let is_record_behind = newer.is_some();
        record = newer.map_or(record, |newer| *newer);
        // The session's deletion was given up, or there would be no actor.
        record.deleting = false;
        // Records of older versions name no account.
        record.account = record.account.or_else(|| (record.link == Link::Linked).then(|| record.me()));
        let stored = scan_parts_each(store, number, Table::Groups, b"")?;
        let count = stored.len();
        let (mut groups, mut unread) = (Vec::<GroupRecord>::with_capacity(count), Vec::new());
        let (mut deltas, mut bases, mut are_deltas_read) = (load_deltas(store, number)?, BTreeMap::new(), true);
        for (key, json) in stored {
            // A group whose record cannot be read is read from WhatsApp again before the session is ready (K-3).
            let read = json.ok().and_then(|json| Some((serde_json::from_slice::<GroupRecord>(&json).ok()?, json)));
            let Some((mut group, json)) = read else { continue };
            let of_group = deltas.remove(&key).unwrap_or_default();
            if is_large(&group) || !of_group.is_empty() {
                let checksum = crc32fast::hash(&json);
                // Deltas after an unreadable one are not used.
                let read = of_group.iter().map_while(|(_, delta)| delta.as_ref());
                are_deltas_read &= of_group.iter().all(|(_, delta)| delta.is_some());
                // Deltas of an earlier record are void.
                read.filter(|delta| delta.is_of(checksum)).for_each(|delta| delta.apply(&mut group));
                let places = of_group.last().map_or(0, |(place, _)| place.saturating_add(1));
                bases.insert(group.id.clone(), Base { checksum, deltas: places });
            }
            let settings = unread_settings(&json);
            if !settings.is_empty() {
                unread.push((group.id.clone(), settings));
            }
            groups.push(group);
        }
        let filled = record.link == Link::Linked && record.groups_stored && groups.len() == count && are_deltas_read;
        for RedoGroup { id, write } in &redo.groups {
            let at = groups.iter().position(|group| group.id == *id);
            match (write, at) {
                (GroupWrite::Whole(record), Some(at)) => groups[at] = GroupRecord::clone(record),
                (GroupWrite::Whole(record), None) => groups.push(GroupRecord::clone(record)),
                // A delta of another record than the stored one is in that record.
                (GroupWrite::Delta(delta), Some(at))
                    if bases.get(id).is_some_and(|base| delta.is_of(base.checksum)) =>
                {
                    delta.apply(&mut groups[at]);
                }
                (GroupWrite::Gone, Some(at)) => drop(groups.remove(at)),
                (GroupWrite::Delta(_) | GroupWrite::Gone, _) => {}
            }
        }
        let names = Names::restore(load_learnt(store, number, Table::Names)?);
        let mut cache = GroupCache::restore(record.me(), groups, names, filled);
        cache.numbers = Numbers::restore(load_learnt(store, number, Table::Numbers)?, Timestamp::now());
        for (group, settings) in unread {
            cache.note_unread_settings(group, settings);
        }
        let mut journal = Journal::new(record.id, log.last, bases);
        journal.take_behind(redo.groups, &mut cache);
        if is_record_behind {
            journal.note_record(record.is_removal());
        }
        Ok(Self { record, cache, journal })
    }
}

/// Deltas of one group by their places; `None`: the delta cannot be read.
type Deltas = Vec<(u8, Option<GroupDelta>)>;

/// Changes of large groups since their records were stored, by the groups' keys.
fn load_deltas(store: &dyn Store, number: SessionNumber) -> Result<BTreeMap<Vec<u8>, Deltas>, StoreError> {
    let mut deltas = BTreeMap::<Vec<u8>, Deltas>::new();
    for (key, json) in store.scan_prefix(number, Table::GroupDeltas, b"")? {
        let Some((group, place)) = layout::split_group_delta(&key) else { continue };
        deltas.entry(group.to_vec()).or_default().push((place, serde_json::from_slice(&json).ok()));
    }
    Ok(deltas)
}

/// Names or phone numbers of a session as they are stored: a row each, under its key as text.
fn load_learnt<K: FromStr, V: DeserializeOwned>(
    store: &dyn Store,
    number: SessionNumber,
    table: Table,
) -> Result<impl Iterator<Item = (K, V)> + use<K, V>, StoreError> {
    let rows = store.scan_prefix(number, table, b"")?;
    // A row that cannot be read is learnt again.
    Ok(rows.into_iter().filter_map(|(key, json)| {
        Some((std::str::from_utf8(&key).ok()?.parse().ok()?, serde_json::from_slice(&json).ok()?))
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use rookery_model::AllGroups;
    use rookery_store::{Batch, EventLog, open_memory, put_parts};

    const ALICE: SessionNumber = SessionNumber(1);

    fn all(groups: Vec<GroupRecord>) -> AllGroups {
        AllGroups { groups, unreadable: 0 }
    }

    /// What a start would read of the session.
    fn read(store: &dyn Store) -> Loaded {
        let events = EventLog::open_memory();
        let log = SessionLog::new(&events, rookery_model::SessionId::random(), ALICE);
        Loaded::read(store, &log, ALICE).unwrap()
    }

    fn group() -> GroupRecord {
        serde_json::from_value(json!({ "id": "120363000000000001@g.us", "members": [[15_550_100_001_u64, 0, "s"]] }))
            .unwrap()
    }

    /// A session that is linked and has this group.
    fn store_with(group: &Value) -> std::sync::Arc<dyn Store> {
        let store = open_memory();
        let mut record = SessionRecord::new("alice".parse().unwrap());
        (record.link, record.groups_stored) = (Link::Linked, true);
        drop(record.save(&*store, ALICE));
        let mut batch = Batch::new();
        put_parts(&*store, &mut batch, ALICE, Table::Groups, b"120363000000000001", group.to_string().as_bytes())
            .unwrap();
        drop(store.commit(batch));
        store
    }

    #[test]
    fn a_setting_that_was_never_stored_is_no_news_and_what_changed_besides_is() {
        let mut stored = serde_json::to_value(group()).unwrap();
        stored["settings"].as_object_mut().unwrap().remove("announce").unwrap();
        let mut cache = read(&*store_with(&stored)).cache;
        let mut read = group();
        (read.settings.announce, read.settings.locked) = (true, true);
        cache.apply_read_all(cache.sequence(), all(vec![read.clone()]));
        let news = cache.take_diffs();
        assert_eq!(news.len(), 1, "{news:?}");
        assert_eq!(news[0].changes.clone().map(Value::Object), Some(json!({ "locked": true })));
        // From then on `announce` is a setting like any other.
        read.settings.announce = false;
        cache.apply_read_all(cache.sequence(), all(vec![read]));
        assert_eq!(cache.take_diffs()[0].changes.clone().map(Value::Object), Some(json!({ "announce": false })));
    }

    #[test]
    fn one_group_whose_record_is_torn_costs_only_that_group() {
        let store = store_with(&serde_json::to_value(group()).unwrap());
        let mut batch = Batch::new();
        batch.put(ALICE, Table::Groups, [b"120363000000000002", &[0xFF, 0][..]].concat(), "torn");
        drop(store.commit(batch));
        let mut cache = read(&*store).cache;
        assert_eq!(cache.summaries().len(), 1);
        cache.apply_read_all(cache.sequence(), all(Vec::new()));
        assert!(cache.take_diffs().is_empty(), "what is known is not all that there was");
    }
}
