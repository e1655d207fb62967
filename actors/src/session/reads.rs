//! Group reads: from the cache at once, or of WhatsApp, where all who ask at the same time share one request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::creation::Creation;
use super::outcome::read_error;
use super::pacing::Cost;
use super::{Generation, Permit, Reply, SessionMsg, SessionState};
use crate::error::CommandError;
use crate::group_cache::{GroupRecord, Sequence};
use crate::model::{Group, GroupId, GroupSummary, SessionStatus, Tagged};

/// A group in doubt is read after this: the notifications that would settle it arrive together.
const READ_DELAY: Duration = Duration::from_millis(150);
/// After a failed read.
const READ_RETRY: Duration = Duration::from_secs(5);
/// More groups in doubt than this are read with one request for all.
const SINGLE_READS_MAX: usize = 8;
/// Full reads that nobody asked for: at most one in this time, whatever WhatsApp says.
const FULL_READ_INTERVAL: Duration = Duration::from_secs(60);

/// Who waits for the read of all groups.
enum AllWaiting {
    /// A caller, with a permit of the session, so that there are not too many of them.
    Caller(Permit, Reply<Arc<Vec<GroupSummary>>>),
    /// A task that wants the cache to be as WhatsApp is now.
    Task(Reply<()>),
    /// A task that looks for a group.
    Creation(Arc<Creation>, Reply<Option<Box<GroupRecord>>>),
}

/// Who waits for the read of one group.
enum OneWaiting {
    /// A caller, as above, and the tags that they know.
    Caller(Permit, Vec<u64>, Reply<Tagged<Group>>),
    /// A task that looks at what its write did.
    Task(Reply<Option<Box<GroupRecord>>>),
}

/// Reads that are under way.
#[derive(Default)]
pub(super) struct Reads {
    /// Who waits for the read of all groups; `None` when there is none.
    all: Option<Vec<AllWaiting>>,
    /// Who waits for the read of one group.
    one: BTreeMap<GroupId, Vec<OneWaiting>>,
    /// Who waits for the one after it.
    next: Vec<AllWaiting>,
    /// A [`SessionMsg::ReadsDue`] is on its way.
    scheduled: bool,
    /// A [`SessionMsg::FullReadDue`] is on its way.
    full_scheduled: bool,
    /// WhatsApp said that we missed something, when it could not be read.
    missed: bool,
    /// When all groups were last read.
    pub(super) all_read_at: Option<Instant>,
}

impl SessionState {
    pub(super) fn list_groups(&mut self, refresh: Option<Permit>, reply: Reply<Arc<Vec<GroupSummary>>>) {
        if let Err(error) = self.ready_engine() {
            let _ = reply.send(Err(error));
        } else if let Some(permit) = refresh {
            match self.entry.pacing.take(Cost::Query) {
                Ok(()) => self.read_all(Some(AllWaiting::Caller(permit, reply))),
                Err(error) => drop(reply.send(Err(error))),
            }
        } else {
            let _ = reply.send(Ok(self.cache.summaries()));
        }
    }

    pub(super) fn read_group(
        &mut self,
        group: GroupId,
        known: Vec<u64>,
        refresh: Option<Permit>,
        reply: Reply<Tagged<Group>>,
    ) {
        if let Err(error) = self.ready_engine() {
            let _ = reply.send(Err(error));
        } else if let Some(permit) = refresh {
            match self.entry.pacing.take(Cost::Query) {
                Ok(()) => self.read_one(group, Some(OneWaiting::Caller(permit, known, reply))),
                Err(error) => drop(reply.send(Err(error))),
            }
        } else {
            let _ = reply.send(self.cached(&group, &known));
        }
    }

    fn cached(&mut self, group: &GroupId, known: &[u64]) -> Result<Tagged<Group>, CommandError> {
        self.cache.group(group, known).ok_or_else(|| CommandError::GroupNotFound(group.clone()))
    }

    /// For a task that looks at what its write did: a read that was asked for before does not tell.
    pub(super) fn read_back(&mut self, group: GroupId, reply: Reply<Option<Box<GroupRecord>>>) {
        if self.ready_engine().is_err() || self.reads.one.contains_key(&group) {
            let _ = reply.send(Err(CommandError::NotConnected));
        } else {
            self.read_one(group, Some(OneWaiting::Task(reply)));
        }
    }

    /// The same for all groups.
    pub(super) fn read_all_for_task(&mut self, reply: Reply<()>) {
        if self.ready_engine().is_err() {
            let _ = reply.send(Err(CommandError::NotConnected));
        } else {
            self.read_all_anew(AllWaiting::Task(reply));
        }
    }

    /// A group that may have been made: told by a notification, or found by reading all groups.
    pub(super) fn read_created(&mut self, creation: Arc<Creation>, reply: Reply<Option<Box<GroupRecord>>>) {
        if self.ready_engine().is_err() {
            let _ = reply.send(Err(CommandError::NotConnected));
        } else if let Some(record) = self.find_created(&creation) {
            let _ = reply.send(Ok(Some(record)));
        } else if self.reads.all.is_some() {
            let _ = reply.send(Err(CommandError::NotConnected));
        } else {
            self.read_all(Some(AllWaiting::Creation(creation, reply)));
        }
    }

    /// A read of all groups that is asked for now, or right after the one under way.
    fn read_all_anew(&mut self, who: AllWaiting) {
        if self.reads.all.is_some() {
            self.reads.next.push(who);
        } else {
            self.read_all(Some(who));
        }
    }

    fn read_all(&mut self, who: Option<AllWaiting>) {
        if let Some(waiting) = &mut self.reads.all {
            waiting.extend(who);
            return;
        }
        let Some(engine) = self.engine.engine.clone() else { return };
        self.reads.all = Some(who.into_iter().collect());
        self.reads.all_read_at = Some(Instant::now());
        let (myself, asked, generation) = (self.myself.clone(), self.cache.sequence(), self.engine.generation);
        let limit = self.context.settings.whatsapp_timeout;
        tokio::spawn(async move {
            let groups = match timeout(limit, engine.read_all_groups()).await {
                Ok(groups) => groups.map_err(|error| read_error("Reading the groups", error)),
                Err(_) => Err(CommandError::Unanswered),
            };
            let _ = myself.send_message(SessionMsg::AllGroupsRead { generation, asked, groups });
        });
    }

    pub(super) fn all_groups_read(
        &mut self,
        generation: Generation,
        asked: Sequence,
        groups: Result<Vec<GroupRecord>, CommandError>,
    ) {
        let groups = groups.and_then(|groups| self.if_current(generation, groups));
        let failed = groups.map(|groups| self.cache.apply_read_all(asked, groups)).err();
        for waiting in self.reads.all.take().unwrap_or_default() {
            let failed = failed.clone().map_or(Ok(()), Err);
            match waiting {
                AllWaiting::Caller(_permit, reply) => drop(reply.send(failed.map(|()| self.cache.summaries()))),
                AllWaiting::Task(reply) => drop(reply.send(failed)),
                AllWaiting::Creation(creation, reply) => {
                    drop(reply.send(failed.map(|()| self.find_created(&creation))));
                }
            }
        }
        let next = std::mem::take(&mut self.reads.next);
        if !next.is_empty() {
            self.read_all(None);
            self.reads.all.get_or_insert_default().extend(next);
        }
        if failed.is_some() {
            // It may have been meant to settle groups in doubt.
            self.reads.all_read_at = None;
            self.schedule_full_read_in(READ_RETRY);
        }
        self.schedule_reads();
    }

    fn read_one(&mut self, group: GroupId, who: Option<OneWaiting>) {
        if let Some(waiting) = self.reads.one.get_mut(&group) {
            waiting.extend(who);
            return;
        }
        let Some(engine) = self.engine.engine.clone() else { return };
        self.reads.one.insert(group.clone(), who.into_iter().collect());
        let (myself, asked, generation) = (self.myself.clone(), self.cache.sequence(), self.engine.generation);
        let limit = self.context.settings.whatsapp_timeout;
        tokio::spawn(async move {
            let answer = match timeout(limit, engine.read_group(&group)).await {
                Ok(answer) => {
                    answer.map(|answer| answer.map(Box::new)).map_err(|error| read_error("Reading the group", error))
                }
                Err(_) => Err(CommandError::Unanswered),
            };
            let _ = myself.send_message(SessionMsg::GroupRead { generation, group, asked, answer });
        });
    }

    pub(super) fn group_read(
        &mut self,
        generation: Generation,
        group: &GroupId,
        asked: Sequence,
        answer: Result<Option<Box<GroupRecord>>, CommandError>,
    ) {
        let answer = answer.and_then(|answer| self.if_current(generation, answer));
        let failed = answer.map(|answer| self.cache.apply_read(group, asked, answer.map(|record| *record))).err();
        let waiting = self.reads.one.remove(group).unwrap_or_default();
        // Who waits may have joined a read that was to settle a doubt.
        if failed.is_some() && (waiting.is_empty() || self.cache.record(group).is_some()) {
            self.cache.mark_for_read(group);
            self.schedule_reads_in(READ_RETRY);
        }
        for waiting in waiting {
            let failed = failed.clone().map_or(Ok(()), Err);
            match waiting {
                OneWaiting::Caller(_permit, known, reply) => {
                    drop(reply.send(failed.and_then(|()| self.cached(group, &known))));
                }
                OneWaiting::Task(reply) => {
                    let record = |()| self.cache.record(group).map(|record| Box::new(record.into_owned()));
                    drop(reply.send(failed.map(record)));
                }
            }
        }
        self.schedule_reads();
    }

    /// What an engine of an earlier start brought may be about another account.
    fn if_current<T>(&self, generation: Generation, answer: T) -> Result<T, CommandError> {
        if generation == self.engine.generation { Ok(answer) } else { Err(CommandError::Unanswered) }
    }

    /// Has groups in doubt read soon, if there are any.
    pub(super) fn schedule_reads(&mut self) {
        if self.cache.needs_reads() {
            self.schedule_reads_in(READ_DELAY);
        }
    }

    fn schedule_reads_in(&mut self, delay: Duration) {
        if !std::mem::replace(&mut self.reads.scheduled, true) {
            self.myself.send_after(delay, || SessionMsg::ReadsDue);
        }
    }

    /// Reads the groups that are still in doubt. Without a connection they stay so: the next log-in reads all.
    pub(super) fn reads_due(&mut self) {
        self.reads.scheduled = false;
        // A read of all groups under way may have been asked for before a doubt; its end comes back here.
        if self.record.status != SessionStatus::Ready || self.reads.all.is_some() {
            return;
        }
        let groups = self.cache.take_reads();
        if groups.len() > SINGLE_READS_MAX {
            return self.read_all(None);
        }
        for group in groups {
            if self.reads.one.contains_key(&group) {
                // The read under way was asked for before this doubt: once more after it.
                self.cache.mark_for_read(&group);
            } else {
                self.read_one(group, None);
            }
        }
    }

    /// WhatsApp says that we missed something about our groups: read them all, unless that was done just now.
    pub(super) fn groups_missed(&mut self) {
        let since = self.reads.all_read_at.map(|at| at.elapsed());
        let wait = since.and_then(|since| FULL_READ_INTERVAL.checked_sub(since)).unwrap_or_default();
        if !wait.is_zero() {
            self.schedule_full_read_in(wait);
        } else if self.record.status == SessionStatus::Ready {
            self.read_all(None);
        } else {
            self.reads.missed = true;
        }
    }

    /// Ready now: what could not be read before.
    pub(super) fn catch_up(&mut self) {
        if std::mem::take(&mut self.reads.missed) {
            self.groups_missed();
        }
    }

    pub(super) fn full_read_due(&mut self) {
        self.reads.full_scheduled = false;
        self.groups_missed();
    }

    fn schedule_full_read_in(&mut self, wait: Duration) {
        if !std::mem::replace(&mut self.reads.full_scheduled, true) {
            self.myself.send_after(wait, || SessionMsg::FullReadDue);
        }
    }
}
