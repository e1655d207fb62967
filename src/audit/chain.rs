//! Reading the log: pages of it, newest first, and the proof that nothing in it was changed. Blocks; never writes.

use rookery_actors::model::{GroupId, SessionId, Timestamp};
use rookery_actors::store::{SessionNumber, Store, Table};
use uuid::Uuid;

use super::AuditError;
use super::record::{
    AuditRecord, CHUNK, ChainHash, EXTENT_KEY, Extent, Outcome, chunk_prefix, key, number_of, split_value,
};

/// Which records are wanted; without any of it all are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AuditFilter {
    pub(crate) action: Option<String>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) session: Option<SessionId>,
    pub(crate) group: Option<GroupId>,
    pub(crate) api_key: Option<Uuid>,
    /// From then on.
    pub(crate) from: Option<Timestamp>,
    /// Until before then.
    pub(crate) to: Option<Timestamp>,
}

/// What a look at the whole chain came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Each record follows on the one before.
    Whole(Extent),
    /// This one does not; says why.
    Broken {
        /// The record's number.
        id: u64,
        /// What is wrong, as a clause about the record.
        why: &'static str,
    },
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

/// The extent that the store has, empty on a first start.
pub(super) fn extent(store: &dyn Store) -> Result<Extent, AuditError> {
    let value = store.get(SessionNumber::DAEMON, Table::Audit, EXTENT_KEY)?;
    Ok(value.map(|value| serde_json::from_slice(&value)).transpose()?.unwrap_or_default())
}

/// A page of the records that match, newest first, and how many match in all. Reads the whole log when there is a filter.
pub(super) fn page(
    store: &dyn Store,
    extent: Extent,
    filter: &AuditFilter,
    offset: usize,
    limit: usize,
) -> Result<(Vec<AuditRecord>, usize), AuditError> {
    let (mut page, mut total) = (Vec::new(), 0);
    let mut chunk = extent.next.div_ceil(CHUNK);
    while chunk > extent.first / CHUNK {
        chunk -= 1;
        let numbers = (chunk * CHUNK).max(extent.first)..((chunk + 1) * CHUNK).min(extent.next);
        let count = usize::try_from(numbers.end.saturating_sub(numbers.start)).unwrap_or(usize::MAX);
        // Without a filter it is known how many there are without reading them.
        if filter.is_all() && (total + count <= offset || page.len() >= limit) {
            total += count;
            continue;
        }
        let mut rows = store.scan_prefix(SessionNumber::DAEMON, Table::Audit, &chunk_prefix(chunk))?;
        rows.retain(|(key, _)| number_of(key).is_some_and(|number| numbers.contains(&number)));
        for (_, value) in rows.into_iter().rev() {
            let Some((_, json)) = split_value(&value) else { continue };
            let record: AuditRecord = serde_json::from_slice(json)?;
            if filter.matches(&record) {
                if total >= offset && page.len() < limit {
                    page.push(record);
                }
                total += 1;
            }
        }
    }
    Ok((page, total))
}

/// Follows the chain from its first record to its last.
pub(super) fn verify(store: &dyn Store) -> Result<Verdict, AuditError> {
    let extent = extent(store)?;
    let (mut expected, mut hash) = (extent.first, extent.before_first);
    for chunk in extent.first / CHUNK..extent.next.div_ceil(CHUNK) {
        for (key, value) in store.scan_prefix(SessionNumber::DAEMON, Table::Audit, &chunk_prefix(chunk))? {
            let number = number_of(&key).unwrap_or(u64::MAX);
            if number < extent.first {
                return Ok(Verdict::Broken { id: number, why: "is older than the log begins" });
            }
            if number > expected || number >= extent.next {
                let missing = number > expected && expected < extent.next;
                let id = if missing { expected } else { number };
                let why = if missing { "is missing" } else { "lies behind the end of the log" };
                return Ok(Verdict::Broken { id, why });
            }
            match check(hash, number, &value) {
                Ok(next) => hash = next,
                Err(why) => return Ok(Verdict::Broken { id: number, why }),
            }
            expected += 1;
        }
    }
    if expected != extent.next {
        return Ok(Verdict::Broken { id: expected, why: "is missing" });
    }
    if hash != extent.last {
        let id = extent.next.saturating_sub(1);
        return Ok(Verdict::Broken { id, why: "is not the one that the log says it ends with" });
    }
    Ok(Verdict::Whole(extent))
}

/// The hash of a record, `None` when it is not there.
pub(super) fn hash_of(store: &dyn Store, id: u64) -> Result<Option<ChainHash>, AuditError> {
    let value = store.get(SessionNumber::DAEMON, Table::Audit, &key(id))?;
    Ok(value.and_then(|value| Some(split_value(&value)?.0)))
}

/// The record's own hash, if it follows on `before` and says what it was written with.
fn check(before: ChainHash, number: u64, value: &[u8]) -> Result<ChainHash, &'static str> {
    let (hash, json) = split_value(value).ok_or("is cut short")?;
    if before.after(json) != hash {
        return Err("was changed, or the one before it was");
    }
    match serde_json::from_slice::<AuditRecord>(json) {
        Ok(record) if record.id == number => Ok(hash),
        Ok(_) => Err("stands in another one's place"),
        Err(_) => Err("cannot be read"),
    }
}
