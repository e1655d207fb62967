//! Which records of the log are removed: those that are too old and, when there are too many, the oldest of the largest
//! shares, so that no caller can push out the records of others. Reads the store and blocks; never writes.

use std::collections::HashMap;
use std::ops::ControlFlow;

use rookery_model::Timestamp;
use rookery_store::Store;

use super::AuditError;
use super::chain::{Log, for_each};
use super::record::Because;
use super::share::Share;

/// How long records are kept.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Days.
    pub days: u32,
    /// Records; above this number, the oldest of the largest shares are removed.
    pub records_max: u64,
}

impl Default for Retention {
    fn default() -> Self {
        // A record is half a kilobyte: 50 MB of the disk, and a third of a second to search.
        Self { days: 90, records_max: 100_000 }
    }
}

/// Records of one plan: its ids are 128 KiB, and the rest is in the next plan.
const PLANNED_MAX: usize = 16_384;
/// The part of the records (one in so many) that may be removed by age in a day of running, whatever the clock shows: a
/// flood that is 90 days old is gone after ten days more.
const AGED_PART_PER_DAY: u64 = 10;
/// How many average days of records may be removed by age in a day of running: normal growth needs no more.
const AGED_DAYS_PER_DAY: u64 = 2;
/// Records that may be removed by age each hour, however few there are.
const AGED_PER_HOUR_MIN: u64 = 10;
const HOURS_PER_DAY: u64 = 24;

/// The records to remove next, oldest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) because: Because,
    pub(super) ids: Vec<u64>,
}

impl Retention {
    /// The records that are too old at `now`, oldest first: as many as may be removed in an hour.
    pub(super) fn aged(self, store: &dyn Store, log: &Log, now: Timestamp) -> Result<Plan, AuditError> {
        let oldest_at = Timestamp(now.0.saturating_sub(i64::from(self.days) * 86_400_000));
        let most = self.aged_per_hour(log.records()).min(PLANNED_MAX);
        let (mut ids, mut old) = (Vec::new(), 0);
        for_each(store, log, |id, known| {
            // A record that was written while the clock was ahead is as old as the next one behind it.
            let is_old = known.created_at < oldest_at;
            if ids.len() == most || !(is_old || known.created_at > now) {
                return ControlFlow::Break(());
            }
            ids.push(id);
            if is_old {
                old = ids.len();
            }
            ControlFlow::Continue(())
        })?;
        ids.truncate(old);
        Ok(Plan { because: Because::Age, ids })
    }

    /// The surplus records, and a sixteenth more so that this is seldom done: reading the whole log takes time.
    pub(super) fn surplus(self, store: &dyn Store, log: &Log) -> Result<Plan, AuditError> {
        let mut shares: HashMap<Share, u64> = HashMap::new();
        for_each(store, log, |_, known| {
            *shares.entry(known.share()).or_default() += 1;
            ControlFlow::Continue(())
        })?;
        let target = self.records_max - self.records_max / 16;
        let surplus = shares.values().sum::<u64>().saturating_sub(target);
        let most = usize::try_from(surplus).unwrap_or(usize::MAX).min(PLANNED_MAX);
        let level = level(shares.values().copied().collect(), target);
        shares.retain(|_, count| *count > level);
        let mut ids = Vec::new();
        for_each(store, log, |id, known| {
            if ids.len() == most || shares.is_empty() {
                return ControlFlow::Break(());
            }
            if let Some(count) = shares.get_mut(&known.share()) {
                ids.push(id);
                *count -= 1;
                if *count == level {
                    shares.remove(&known.share());
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(Plan { because: Because::Share, ids })
    }

    /// How many of `records` may be removed by age in an hour of running: a clock that is far ahead must not empty the
    /// log.
    fn aged_per_hour(self, records: u64) -> usize {
        let part = records / (AGED_PART_PER_DAY * HOURS_PER_DAY);
        let growth = records * AGED_DAYS_PER_DAY / (u64::from(self.days.max(1)) * HOURS_PER_DAY);
        usize::try_from(part.max(growth).max(AGED_PER_HOUR_MIN)).unwrap_or(usize::MAX)
    }
}

/// The most that each share may have so that all have `target` together; smaller shares keep what they have.
fn level(mut counts: Vec<u64>, target: u64) -> u64 {
    counts.sort_unstable();
    let (mut rest, mut others) = (target, counts.len() as u64);
    for count in counts {
        if count.saturating_mul(others) > rest {
            return rest / others;
        }
        rest -= count;
        others -= 1;
    }
    u64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_shares_are_cut_to_one_level_and_the_others_left_alone() {
        for (counts, target, expected) in [
            (vec![], 10, u64::MAX),
            (vec![3, 4], 10, u64::MAX),
            (vec![100], 10, 10),
            (vec![3, 100], 10, 7),
            (vec![100, 3, 100], 11, 4),
            (vec![5, 5, 5], 10, 3),
            (vec![1; 20], 10, 0),
        ] {
            assert_eq!(level(counts.clone(), target), expected, "{counts:?}");
        }
    }

    #[test]
    fn an_hour_takes_a_small_part_however_old_all_is() {
        for (days, records, expected) in [(90, 100_000, 416), (90, 500, 10), (1, 24_000, 2_000), (7, 1_680, 20)] {
            let retention = Retention { days, records_max: 100_000 };
            assert_eq!(retention.aged_per_hour(records), expected, "{days} days, {records} records");
        }
    }
}
