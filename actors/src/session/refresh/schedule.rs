//! When groups are read of which nobody asked: those in doubt, those that are not told whole, and all of them when something was
//! missed. Decides when, and never takes an answer.

use std::time::Duration;

use tokio::time::Instant;

use crate::session::{SessionMsg, SessionState};
use rookery_model::SessionStatus;

/// A group in doubt is read after this: the notifications that would settle it arrive together.
const READ_DELAY: Duration = Duration::from_millis(150);
/// After a failed read.
const READ_RETRY: Duration = Duration::from_secs(5);
/// Groups that WhatsApp does not tell whole among all are asked for alone, so many at once...
const ALONE_READS_MAX: usize = 4;
/// ... and the next ones after this.
const ALONE_READS_INTERVAL: Duration = Duration::from_secs(1);
/// A group that WhatsApp does not tell whole is asked for again after this, as long as it is so: it is hurt, not busy.
const INCOMPLETE_RETRY: Duration = Duration::from_secs(600);
/// More groups in doubt than this are read with one request for all.
const SINGLE_READS_MAX: usize = 8;
/// Full reads that nobody asked for: at most one in this time, whatever WhatsApp says.
const FULL_READ_INTERVAL: Duration = Duration::from_secs(60);

impl SessionState {
    /// Has the groups of which not all is known read alone: soon those that were not yet, later the others once more.
    pub(super) fn schedule_incomplete(&mut self) {
        let wait = match (self.cache.has_alone(), self.cache.has_incomplete()) {
            (true, _) => ALONE_READS_INTERVAL,
            (false, true) => INCOMPLETE_RETRY,
            (false, false) => return,
        };
        let due_at = Instant::now() + wait;
        if self.reads.incomplete_due_at.is_none_or(|at| due_at < at) {
            self.reads.incomplete_due_at = Some(due_at);
            self.myself.send_after(wait, || SessionMsg::IncompleteDue);
        }
    }

    /// Without a connection they wait: the next log-in reads all.
    pub(in crate::session) fn incomplete_due(&mut self) {
        if self.reads.incomplete_due_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.reads.incomplete_due_at = None;
        if self.record.status != SessionStatus::Ready {
            return;
        }
        if !self.cache.has_alone() {
            self.cache.mark_incomplete();
        }
        for group in self.cache.take_alone(ALONE_READS_MAX) {
            self.read_one(group, []);
        }
        self.schedule_incomplete();
    }

    /// After a failed read; not before WhatsApp wants to be asked again.
    pub(super) fn retry_delay(&self) -> Duration {
        self.entry.rate_limiter.pause_left().unwrap_or_default().max(READ_RETRY)
    }

    /// Has groups in doubt read soon, if there are any.
    pub(in crate::session) fn schedule_reads(&mut self) {
        if self.cache.needs_reads() {
            self.schedule_reads_in(self.entry.rate_limiter.pause_left().unwrap_or_default().max(READ_DELAY));
        }
    }

    /// The earliest time counts: a group whose read failed makes no other one wait.
    pub(super) fn schedule_reads_in(&mut self, delay: Duration) {
        let due_at = Instant::now() + delay;
        if self.reads.due_at.is_none_or(|at| due_at < at) {
            self.reads.due_at = Some(due_at);
            self.myself.send_after(delay, || SessionMsg::ReadsDue);
        }
    }

    /// Reads the groups that are still in doubt. Without a connection they stay so: the next log-in reads all.
    pub(in crate::session) fn reads_due(&mut self) {
        if self.reads.due_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.reads.due_at = None;
        // A read of all groups under way may have been asked for before a doubt; its end comes back here.
        if self.record.status != SessionStatus::Ready || self.reads.all.is_some() {
            return;
        }
        let groups = self.cache.take_reads();
        if groups.len() > SINGLE_READS_MAX {
            return self.read_all([]);
        }
        for group in groups {
            if self.reads.one.contains_key(&group) {
                // The read under way was asked for before this doubt: once more after it.
                self.cache.mark_for_read(&group);
            } else {
                self.read_one(group, []);
            }
        }
    }

    /// WhatsApp says that we missed something about our groups: read them all, unless that was done just now.
    pub(in crate::session) fn groups_missed(&mut self) {
        let since = self.reads.all_read_at.map(|at| at.elapsed());
        let wait = since.and_then(|since| FULL_READ_INTERVAL.checked_sub(since)).unwrap_or_default();
        if !wait.is_zero() {
            self.schedule_full_read_in(wait);
        } else if self.record.status == SessionStatus::Ready {
            self.read_all([]);
        } else {
            self.reads.missed = true;
        }
    }

    /// Ready now: what could not be read before.
    pub(in crate::session) fn catch_up(&mut self) {
        self.schedule_incomplete();
        if std::mem::take(&mut self.reads.missed) {
            self.groups_missed();
        }
    }

    pub(in crate::session) fn full_read_due(&mut self) {
        self.reads.full_scheduled = false;
        self.groups_missed();
    }

    pub(super) fn schedule_full_read_in(&mut self, wait: Duration) {
        if !std::mem::replace(&mut self.reads.full_scheduled, true) {
            self.myself.send_after(wait, || SessionMsg::FullReadDue);
        }
    }
}
