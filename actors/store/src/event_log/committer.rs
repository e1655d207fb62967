//! The one thread that appends and flushes: all that waits goes into one commit.

use std::sync::Arc;

use super::super::StoreError;
use super::super::guard;
use super::super::queue::{self, Queued as _};
use super::super::space::Use;
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
    fn admit(&self, jobs: Vec<Job>) -> Vec<Job> {
        let bytes = |jobs: &[Job]| jobs.iter().map(|job| job.item.bytes() as u64).sum::<u64>();
        let Err(low) = self.shared.space.check_for(Use::Writing, bytes(&jobs)) else { return jobs };
        let (removals, refused): (Vec<Job>, _) = jobs.into_iter().partition(|job| job.item.is_for_removal);
        self.shared.queue.answer(refused, &Err(low));
        match self.shared.space.check_for(Use::Removing, bytes(&removals)) {
            Err(low) if !removals.is_empty() => {
                self.shared.queue.answer(removals, &Err(low));
                Vec::new()
            }
            _ => removals,
        }
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
