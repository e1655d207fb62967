//! The one thread that appends and flushes: all that waits goes into one commit.

use std::sync::Arc;

use super::super::StoreError;
use super::super::guard;
use super::super::queue;
use super::super::space::SpaceUse;
use super::trimming::Trimmer;
use super::{Append, Shared, segments};

type Job = queue::Job<Append>;

pub(super) struct Committer {
    shared: Arc<Shared>,
    /// Woken when a segment was closed.
    trimmer: Arc<Trimmer>,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, trimmer: Arc<Trimmer>) -> Self {
        Self { shared, trimmer }
    }

    /// Appends until the queue is closed and empty. However this ends, no ticket is left without an answer.
    pub(super) fn run(self) {
        if let Err(place) = guard::catch(|| self.serve()) {
            self.shared.fail(format!("its writer has ended: {place}"));
            self.shared.queue.abandon();
        }
    }

    fn serve(&self) {
        while let Some(jobs) = self.shared.queue.take_round() {
            let jobs = self.admit(jobs);
            if jobs.is_empty() {
                continue;
            }
            let outcome = self.commit(&jobs);
            if let Ok(latest) = outcome {
                self.shared.latest.send_replace(latest);
            }
            self.shared.queue.answer(jobs, &outcome.map(drop));
        }
    }

    /// Refuses the appends that there is no space for, and returns the others.
    fn admit(&self, mut jobs: Vec<Job>) -> Vec<Job> {
        for what in [SpaceUse::Writing, SpaceUse::Removing, SpaceUse::Reporting] {
            let is_for_it = |job: &Job| job.item.space == what;
            if jobs.iter().any(is_for_it)
                && let Err(low) = self.check_for(what)
            {
                let (refused, others) = jobs.into_iter().partition(is_for_it);
                self.shared.queue.answer(refused, &Err(low));
                jobs = others;
            }
        }
        jobs
    }

    fn check_for(&self, what: SpaceUse) -> Result<(), StoreError> {
        let Shared { space, segments, .. } = &*self.shared;
        let checked = space.check_for(what);
        match what {
            SpaceUse::Writing if checked.is_ok() => segments.reserve().hold(),
            SpaceUse::Reporting if checked.is_err() && segments.reserve().release() => return space.check_for(what),
            _ => {}
        }
        checked
    }

    /// Returns the position of the last event.
    fn commit(&self, jobs: &[Job]) -> Result<u64, StoreError> {
        if let Some(failed) = self.shared.failed() {
            return Err(failed);
        }
        let appended = guard::catch(|| {
            let today = segments::day_of((self.shared.options.now)());
            let (segment, is_new) = self.shared.segments.newest_for(today, self.shared.options.segment_bytes_max())?;
            if is_new {
                self.trimmer.wake();
            }
            segment.append(jobs.iter().map(|job| &job.item))
        });
        appended.unwrap_or_else(|place| Err(StoreError::Failed(place))).map_err(|error| {
            self.shared.fail(error.to_string());
            self.shared.failed().unwrap_or(error)
        })
    }
}
