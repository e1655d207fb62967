//! Keeps the log within its age and size: drops old segments, packs closed ones, and takes their oldest events from the
//! sessions that are over their share. A thread of its own, so that nobody waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use super::super::space::check_writing;
use super::super::{SessionNumber, StoreError, guard};
use super::segment::Segment;
use super::{Shared, segments};

/// How often ages and sizes are looked at.
const INTERVAL: Duration = Duration::from_secs(60);
/// Trimming by size leaves this part of the limit in 100 filled, so that it does not have to begin again at once.
const FILLED_AFTER: u64 = 90;

pub(super) struct Trimmer {
    shared: Arc<Shared>,
    orders: Mutex<Orders>,
    wake: Condvar,
    /// One at a time.
    trimming: Mutex<()>,
}

#[derive(Default)]
struct Orders {
    is_due: bool,
    is_stopped: bool,
}

impl Trimmer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, orders: Mutex::default(), wake: Condvar::new(), trimming: Mutex::default() }
    }

    /// Has the log trimmed soon.
    pub(super) fn wake(&self) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).is_due = true;
        self.wake.notify_one();
    }

    pub(super) fn stop(&self) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).is_stopped = true;
        self.wake.notify_one();
    }

    pub(super) fn run(&self) {
        loop {
            let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
            let waits = |orders: &mut Orders| !orders.is_due && !orders.is_stopped;
            let woken = self.wake.wait_timeout_while(orders, INTERVAL, waits);
            let (mut orders, _) = woken.unwrap_or_else(PoisonError::into_inner);
            if orders.is_stopped {
                return;
            }
            orders.is_due = false;
            drop(orders);
            let trimmed = guard::catch(|| self.trim());
            if let Err(error) = trimmed.unwrap_or_else(|place| Err(StoreError::Failed(place))) {
                warn!(%error, "could not trim the event log, will retry");
            }
        }
    }

    /// Trims what is due.
    pub(super) fn trim(&self) -> Result<(), StoreError> {
        let _trimming = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        self.drop_old()?;
        for segment in self.closed() {
            if !segment.facts.is_packed && !self.is_stopped() {
                self.rewrite(&segment, |_, _| true)?;
            }
        }
        self.take_from_the_largest()
    }

    fn is_stopped(&self) -> bool {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).is_stopped
    }

    /// All segments but the one that takes events.
    fn closed(&self) -> Vec<Arc<Segment>> {
        let mut all = self.shared.segments.all();
        all.pop();
        all
    }

    fn drop_old(&self) -> Result<(), StoreError> {
        let options = &self.shared.options;
        let today = segments::day_of((options.now)());
        for segment in self.closed() {
            if segment.facts.day + u64::from(options.kept_days) >= today {
                break;
            }
            self.drop_segment(&segment)?;
            info!(segment = segment.number, "dropped a segment of the event log that is old enough");
        }
        Ok(())
    }

    fn rewrite(&self, segment: &Segment, is_kept: impl Fn(SessionNumber, u64) -> bool) -> Result<(), StoreError> {
        let Some(directory) = self.shared.segments.directory() else { return Ok(()) };
        check_writing(directory, segment.disk_bytes(), self.shared.options.free_space_min_bytes)?;
        let rewritten = segment.rewrite(directory, is_kept)?;
        self.shared.segments.replace(segment.number, Some(rewritten));
        Ok(())
    }

    /// Drops a segment. The last numbers of sessions that no later segment knows go on in the newest one, so that none is given
    /// twice.
    fn drop_segment(&self, segment: &Segment) -> Result<(), StoreError> {
        let mut later = self.shared.segments.all();
        later.retain(|other| other.number > segment.number);
        let mut carried = Vec::new();
        for (session, head) in segment.heads()? {
            let mut is_known = false;
            for other in &later {
                is_known |= other.head(session)?.is_some();
            }
            if !is_known {
                carried.push((session, head));
            }
        }
        if let Some(newest) = later.last() {
            newest.carry(&carried)?;
        }
        segment.remove()?;
        self.shared.segments.replace(segment.number, None);
        Ok(())
    }

    fn take_from_the_largest(&self) -> Result<(), StoreError> {
        let (all, bytes_max) = (self.shared.segments.all(), self.shared.options.trimmed_above_bytes());
        let on_disk: u64 = all.iter().map(|segment| segment.disk_bytes()).sum();
        if on_disk <= bytes_max {
            return Ok(());
        }
        let mut bytes = BTreeMap::<SessionNumber, u64>::new();
        for segment in &all {
            for (session, head) in segment.heads()? {
                *bytes.entry(session).or_default() += head.bytes;
            }
        }
        // Of the events' own bytes, as large a part has to go as of those on disk.
        let in_all: u64 = bytes.values().sum();
        let left = u128::from(in_all) * u128::from(bytes_max) * u128::from(FILLED_AFTER) / 100 / u128::from(on_disk);
        let share = share(bytes.values().copied(), u64::try_from(left).unwrap_or(u64::MAX));
        let mut kept_from = BTreeMap::<SessionNumber, u64>::new();
        for (session, bytes) in bytes {
            if bytes > share {
                kept_from.insert(session, self.cut(session, bytes - share)?);
            }
        }
        for segment in self.closed() {
            let is_cut = |(session, head): &(SessionNumber, super::Head)| {
                kept_from.get(session).is_some_and(|from| head.first < *from)
            };
            if segment.heads()?.iter().any(is_cut) && !self.is_stopped() {
                let is_kept = |session, number| kept_from.get(&session).is_none_or(|from| number >= *from);
                self.rewrite(&segment, is_kept)?;
            }
        }
        // Segments in the middle stay, so that positions have no gap but at the beginning.
        for segment in self.closed() {
            if segment.has_events()? {
                break;
            }
            self.drop_segment(&segment)?;
        }
        info!(
            sessions = kept_from.len(),
            "the event log is over its size: took the oldest events of the largest sessions"
        );
        Ok(())
    }

    /// The number from which on a session's events are kept, so that its oldest go, of so many bytes. The segment that takes
    /// events is left as it is.
    fn cut(&self, session: SessionNumber, mut bytes: u64) -> Result<u64, StoreError> {
        let mut kept_from = 0;
        for segment in self.closed() {
            let Some(head) = segment.head(session)? else { continue };
            if head.bytes <= bytes {
                (bytes, kept_from) = (bytes - head.bytes, head.last + 1);
                continue;
            }
            segment.sizes(session, |number, size| {
                if bytes == 0 {
                    return false;
                }
                (bytes, kept_from) = (bytes.saturating_sub(size), number + 1);
                true
            })?;
            break;
        }
        Ok(kept_from)
    }
}

/// The bytes that each may have so that all together have no more than `most`: who has less keeps all of it.
fn share(each: impl Iterator<Item = u64>, most: u64) -> u64 {
    let mut each: Vec<u64> = each.collect();
    each.sort_unstable();
    let (mut left, mut count) = (most, each.len() as u64);
    for bytes in each {
        if bytes > left / count {
            return left / count;
        }
        (left, count) = (left - bytes, count - 1);
    }
    u64::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_little_keeps_it_and_the_largest_share_what_is_left() {
        for (each, most, expected) in [
            (&[10, 20, 30][..], 60, u64::MAX),
            (&[10, 20, 30], 50, 20),
            (&[10, 100, 100], 110, 50),
            (&[1, 1, 1_000_000], 1_000, 998),
            (&[100], 40, 40),
            (&[], 40, u64::MAX),
            (&[5, 5], 0, 0),
        ] {
            assert_eq!(share(each.iter().copied(), most), expected, "{each:?} {most}");
        }
    }
}
