//! The times of reads that no caller asked for: of groups in doubt, of incomplete groups, and of all groups when
//! something was missed. Decides when, and never takes an answer.

use std::time::Duration;

use tokio::time::Instant;

use super::{Due, Refresher, Step};
use crate::group_cache::GroupCache;

/// A group in doubt is read after this: the notifications that would settle it arrive together.
const READ_DELAY: Duration = Duration::from_millis(150);
/// The wait after a failed read.
const READ_RETRY: Duration = Duration::from_secs(5);
/// Groups that are incomplete in a read of all groups are read alone, so many at once...
const ALONE_READS_MAX: usize = 4;
/// ... and the next ones after this.
const ALONE_READS_INTERVAL: Duration = Duration::from_secs(1);
/// The wait before an incomplete group is read again, as long as it is incomplete: it is damaged, not busy.
const INCOMPLETE_RETRY: Duration = Duration::from_secs(600);
/// More groups in doubt than this are read with one request for all.
const SINGLE_READS_MAX: usize = 8;
/// Full reads that nobody asked for: at most one in this time, whatever WhatsApp says.
const FULL_READ_INTERVAL: Duration = Duration::from_secs(60);

impl Refresher {
    /// Takes a read that is due. It waits while the session is not ready: the next log-in reads all groups.
    pub(in crate::session) fn due(&mut self, due: Due, is_ready: bool, cache: &mut GroupCache) {
        match due {
            Due::Doubts => self.doubts_due(is_ready, cache),
            Due::Incomplete => self.incomplete_due(is_ready, cache),
            Due::Full => {
                self.full_scheduled = false;
                self.groups_missed(is_ready);
            }
        }
    }

    /// Has incomplete groups read alone: soon those that were not read alone yet, later the others once more.
    pub(super) fn schedule_incomplete(&mut self, cache: &GroupCache) {
        let delay = match (cache.has_alone(), cache.has_incomplete()) {
            (true, _) => ALONE_READS_INTERVAL,
            (false, true) => INCOMPLETE_RETRY,
            (false, false) => return,
        };
        let due_at = Instant::now() + delay;
        if self.incomplete_due_at.is_none_or(|at| due_at < at) {
            self.incomplete_due_at = Some(due_at);
            self.steps.push(Step::WakeUp { due: Due::Incomplete, delay });
        }
    }

    fn incomplete_due(&mut self, is_ready: bool, cache: &mut GroupCache) {
        if self.incomplete_due_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.incomplete_due_at = None;
        if !is_ready {
            return;
        }
        if !cache.has_alone() {
            cache.mark_incomplete();
        }
        for group in cache.take_alone(ALONE_READS_MAX) {
            self.read_one(group, []);
        }
        self.schedule_incomplete(cache);
    }

    /// The wait after a failed read: not shorter than WhatsApp's pause.
    pub(super) fn retry_delay(&self) -> Duration {
        self.rate_limiter.pause_left().unwrap_or_default().max(READ_RETRY)
    }

    /// Has groups in doubt read soon, if there are any.
    pub(in crate::session) fn schedule_doubts(&mut self, cache: &GroupCache) {
        if cache.needs_reads() {
            self.schedule_doubts_in(self.rate_limiter.pause_left().unwrap_or_default().max(READ_DELAY));
        }
    }

    /// The earliest time counts: a group whose read failed makes no other one wait.
    pub(super) fn schedule_doubts_in(&mut self, delay: Duration) {
        let due_at = Instant::now() + delay;
        if self.doubts_due_at.is_none_or(|at| due_at < at) {
            self.doubts_due_at = Some(due_at);
            self.steps.push(Step::WakeUp { due: Due::Doubts, delay });
        }
    }

    fn doubts_due(&mut self, is_ready: bool, cache: &mut GroupCache) {
        if self.doubts_due_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.doubts_due_at = None;
        // A read of all groups under way may have been asked for before a doubt; its end leads back here.
        if !is_ready || self.all.is_some() {
            return;
        }
        let groups = cache.take_reads();
        if groups.len() > SINGLE_READS_MAX {
            return self.read_all([]);
        }
        for group in groups {
            if self.one.contains_key(&group) {
                // The read under way was asked for before this doubt: the group is read once more after it.
                cache.mark_for_read(&group);
            } else {
                self.read_one(group, []);
            }
        }
    }

    /// WhatsApp says that we missed something about our groups: read them all, unless that was done just now.
    pub(in crate::session) fn groups_missed(&mut self, is_ready: bool) {
        let since = self.all_read_at.map(|at| at.elapsed());
        let wait = since.and_then(|since| FULL_READ_INTERVAL.checked_sub(since)).unwrap_or_default();
        if !wait.is_zero() {
            self.schedule_full_in(wait);
        } else if is_ready {
            self.read_all([]);
        } else {
            self.missed = true;
        }
    }

    /// The session is ready now: schedules the reads that were not possible before.
    pub(in crate::session) fn catch_up(&mut self, cache: &GroupCache) {
        self.schedule_incomplete(cache);
        if std::mem::take(&mut self.missed) {
            self.groups_missed(true);
        }
        self.schedule_doubts(cache);
    }

    pub(super) fn schedule_full_in(&mut self, delay: Duration) {
        if !std::mem::replace(&mut self.full_scheduled, true) {
            self.steps.push(Step::WakeUp { due: Due::Full, delay });
        }
    }
}
