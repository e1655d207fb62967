//! Reading the log: pages of it, newest first, and the proof that nothing in it was changed. Blocks; never writes.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use rookery_model::{GroupId, SessionId, Timestamp};
use rookery_store::{SessionNumber, Store, Table};
use uuid::Uuid;

use super::AuditError;
use super::gaps::Gaps;
use super::record::{
    AuditRecord, CHUNK, ChainHash, EXTENT_KEY, Gap, LogBounds, Outcome, chunk_prefix, key, number_of, split_value,
};
use super::share::Known;

/// The filter of a search; an empty one matches all records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AuditFilter {
    pub(crate) action: Option<String>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) session: Option<SessionId>,
    pub(crate) group: Option<GroupId>,
    pub(crate) api_key: Option<Uuid>,
    /// Records from this time on.
    pub(crate) from: Option<Timestamp>,
    /// Records before this time.
    pub(crate) to: Option<Timestamp>,
}

/// The result of verifying the whole chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Each record follows on the one before, and each that is missing was removed by the daemon.
    Whole(Whole),
    /// This record does not follow on the one before, or is missing; with the reason.
    Broken {
        /// The record's number.
        id: u64,
        /// What is wrong, as a clause about the record.
        why: &'static str,
    },
}

/// A log that is intact.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) extent: LogBounds,
    /// Records that were removed.
    pub(crate) removed: u64,
    /// The newest record about a removal, which accounts for all removed records.
    pub(crate) last_removal: Option<u64>,
}

/// The result of looking up a record.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The record's hash.
    Hash(ChainHash),
    /// The record was removed, and its hash with it.
    Removed,
    /// There never was such a record.
    Nowhere,
}

impl Whole {
    /// How many records there are.
    pub(crate) fn records(&self) -> u64 {
        self.extent.next.saturating_sub(self.removed)
    }
}

impl AuditFilter {
    fn is_all(&self) -> bool {
        *self == Self::default()
    }

    fn matches(&self, record: &AuditRecord) -> bool {
        let entry = &record.entry;
        self.action.as_deref().is_none_or(|action| *entry.action == *action)
            && self.outcome.is_none_or(|outcome| entry.outcome == outcome)
            && self.session.is_none_or(|session| entry.session_id == Some(session))
            && self.group.as_ref().is_none_or(|group| entry.group_id.as_deref() == Some(&*group.to_string()))
            && self.api_key.is_none_or(|key| entry.api_key_id == Some(key))
            && self.from.is_none_or(|from| record.created_at >= from)
            && self.to.is_none_or(|to| record.created_at < to)
    }
}

/// The records that there are: those before `next` that are in no gap. Clones share the gaps.
#[derive(Clone)]
pub(super) struct Log {
    pub(super) next: u64,
    pub(super) gaps: Arc<RwLock<Gaps>>,
    /// Nobody waits for the result of reading the log any more.
    pub(super) is_ending: Arc<AtomicBool>,
}

impl Log {
    pub(super) fn gaps(&self) -> RwLockReadGuard<'_, Gaps> {
        self.gaps.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many records there are.
    pub(super) fn records(&self) -> u64 {
        self.next.saturating_sub(self.gaps().records())
    }

    fn has(&self, id: u64) -> bool {
        id < self.next && self.gaps().around(id).is_none()
    }
}

/// The extent that the store has, empty on a first start.
pub(super) fn extent(store: &dyn Store) -> Result<LogBounds, AuditError> {
    let value = store.get(SessionNumber::DAEMON, Table::Audit, EXTENT_KEY)?;
    Ok(value.map(|value| serde_json::from_slice(&value)).transpose()?.unwrap_or_default())
}

/// The gaps that the store has.
pub(super) fn gaps(store: &dyn Store, extent: &LogBounds) -> Result<Gaps, AuditError> {
    let mut gaps = Gaps::read(store)?;
    // A log from before there were gaps was cut at its beginning only.
    if extent.first > 0 && gaps.first() != Some(0) {
        gaps.insert(0, Gap { last: extent.first - 1, hash: extent.before_first });
    }
    Ok(gaps)
}

/// Shows every readable record, oldest first, until `show` breaks.
pub(super) fn for_each(
    store: &dyn Store,
    log: &Log,
    mut show: impl FnMut(u64, Known) -> ControlFlow<()>,
) -> Result<(), AuditError> {
    let mut id = log.gaps().next_kept(0);
    while id < log.next {
        if log.is_ending.load(Ordering::Relaxed) {
            return Err(AuditError::CutShort);
        }
        let chunk = id / CHUNK;
        for (key, value) in store.scan_prefix(SessionNumber::DAEMON, Table::Audit, &chunk_prefix(chunk))? {
            let Some(number) = number_of(&key).filter(|number| log.has(*number)) else { continue };
            let Some(Ok(known)) = split_value(&value).map(|(_, json)| serde_json::from_slice(json)) else { continue };
            if show(number, known).is_break() {
                return Ok(());
            }
        }
        id = log.gaps().next_kept((chunk + 1) * CHUNK);
    }
    Ok(())
}

/// A page of the records that match, newest first, and how many match in all. Reads the whole log when there is a filter.
pub(super) fn page(
    store: &dyn Store,
    log: &Log,
    filter: &AuditFilter,
    offset: usize,
    limit: usize,
) -> Result<(Vec<AuditRecord>, usize), AuditError> {
    let (mut page, mut total) = (Vec::new(), 0);
    let mut chunk = log.next.div_ceil(CHUNK);
    while chunk > 0 {
        chunk -= 1;
        let around = log.gaps().around(chunk * CHUNK + (CHUNK - 1));
        if let Some((first, _)) = around.filter(|(first, _)| *first <= chunk * CHUNK) {
            chunk = first.div_ceil(CHUNK);
            continue;
        }
        let mut rows = store.scan_prefix(SessionNumber::DAEMON, Table::Audit, &chunk_prefix(chunk))?;
        rows.retain(|(key, _)| number_of(key).is_some_and(|number| log.has(number)));
        for (_, value) in rows.into_iter().rev() {
            // Without a filter, the records before the page need not be parsed.
            if filter.is_all() && total < offset {
                total += 1;
                continue;
            }
            let Some((_, json)) = split_value(&value) else { continue };
            let record: AuditRecord = serde_json::from_slice(json)?;
            if filter.matches(&record) {
                if total >= offset && page.len() < limit {
                    page.push(record);
                }
                total += 1;
            }
        }
        // Nor those behind the page: their number is known.
        if filter.is_all() && page.len() >= limit {
            break;
        }
    }
    if filter.is_all() {
        total = usize::try_from(log.records()).unwrap_or(usize::MAX);
    }
    Ok((page, total))
}

/// Follows the chain from its first record to its last, and over its gaps.
pub(super) fn verify(store: &dyn Store) -> Result<Verdict, AuditError> {
    let extent = extent(store)?;
    let mut gaps = gaps(store, &extent)?;
    let (mut hash, mut newest) = (ChainHash::default(), None);
    let mut expected = over_gap(&gaps, 0, &mut hash);
    let mut chunk = expected / CHUNK;
    while chunk < extent.next.div_ceil(CHUNK) {
        for (key, value) in store.scan_prefix(SessionNumber::DAEMON, Table::Audit, &chunk_prefix(chunk))? {
            let number = number_of(&key).unwrap_or(u64::MAX);
            if number < extent.next && gaps.around(number).is_some() {
                return Ok(Verdict::Broken { id: number, why: "is there although it was removed" });
            }
            if number > expected || number >= extent.next {
                let missing = number > expected && expected < extent.next;
                let id = if missing { expected } else { number };
                let why = if missing { "is missing" } else { "lies behind the end of the log" };
                return Ok(Verdict::Broken { id, why });
            }
            let (own, record) = match check(hash, number, &value) {
                Ok(checked) => checked,
                Err(why) => return Ok(Verdict::Broken { id: number, why }),
            };
            hash = own;
            newest = record.entry.removal.map(|removal| (number, removal)).or(newest);
            expected = over_gap(&gaps, number + 1, &mut hash);
        }
        // Whole chunks may have been removed. Any other missing record is found in the next chunk.
        let next = (chunk + 1) * CHUNK;
        if expected < next.min(extent.next) {
            return Ok(Verdict::Broken { id: expected, why: "is missing" });
        }
        chunk = gaps.next_kept(next) / CHUNK;
    }
    if hash != extent.last {
        let id = extent.next.saturating_sub(1);
        return Ok(Verdict::Broken { id, why: "is not the one that the log says it ends with" });
    }
    let removed = gaps.records();
    match (&newest, gaps.first()) {
        (Some((_, removal)), _) if removal.missing == gaps.hash() => {}
        (None, None) => {}
        // A log from before there were gaps.
        (None, Some(0)) if removed == extent.first => {}
        (_, first) => {
            let id = first.or(newest.map(|(id, _)| id)).unwrap_or_default();
            return Ok(Verdict::Broken { id, why: "or another one was removed, and no record says so" });
        }
    }
    Ok(Verdict::Whole(Whole { extent, removed, last_removal: newest.map(|(id, _)| id) }))
}

/// The next record that must exist. If `id` is in a gap, the chain goes on from the hash of the gap's last record.
fn over_gap(gaps: &Gaps, id: u64, hash: &mut ChainHash) -> u64 {
    let Some((_, gap)) = gaps.around(id) else { return id };
    *hash = gap.hash;
    gap.last + 1
}

/// Looks up a record that was noted elsewhere.
pub(super) fn find(store: &dyn Store, id: u64) -> Result<Found, AuditError> {
    if let Some(value) = store.get(SessionNumber::DAEMON, Table::Audit, &key(id))? {
        return Ok(split_value(&value).map_or(Found::Nowhere, |(hash, _)| Found::Hash(hash)));
    }
    Ok(match gaps(store, &extent(store)?)?.around(id) {
        Some((_, gap)) if gap.last == id => Found::Hash(gap.hash),
        Some(_) => Found::Removed,
        None => Found::Nowhere,
    })
}

/// The record and its own hash, if it follows on `before` and is unchanged.
fn check(before: ChainHash, number: u64, value: &[u8]) -> Result<(ChainHash, AuditRecord), &'static str> {
    let (hash, json) = split_value(value).ok_or("is cut short")?;
    if before.after(json) != hash {
        return Err("was changed, or the one before it was");
    }
    match serde_json::from_slice::<AuditRecord>(json) {
        Ok(record) if record.id == number => Ok((hash, record)),
        Ok(_) => Err("stands in another one's place"),
        Err(_) => Err("cannot be read"),
    }
}
