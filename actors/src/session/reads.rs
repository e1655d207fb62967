//! Group reads: from the cache at once, or of WhatsApp, where all who ask at the same time share one request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::outcome::read_error;
use super::{Generation, Permit, Reply, SessionMsg, SessionState};
use crate::error::CommandError;
use crate::group_cache::{GroupRecord, Sequence};
use crate::model::{Group, GroupId, GroupSummary, SessionStatus};

/// A group in doubt is read after this: the notifications that would settle it arrive together.
const READ_DELAY: Duration = Duration::from_millis(150);
/// After a failed read.
const READ_RETRY: Duration = Duration::from_secs(5);
/// More groups in doubt than this are read with one request for all.
const SINGLE_READS_MAX: usize = 8;
/// Full reads that nobody asked for: at most one in this time, whatever WhatsApp says.
const FULL_READ_INTERVAL: Duration = Duration::from_secs(60);

/// Who waits for a read: a permit of the session, so that there are not too many of them, and the reply.
type Waiting<T> = (Permit, Reply<Arc<T>>);

/// Reads that are under way.
#[derive(Default)]
pub(super) struct Reads {
    /// Who waits for the read of all groups; `None` when there is none.
    all: Option<Vec<Waiting<Vec<GroupSummary>>>>,
    /// Who waits for the read of one group.
    one: BTreeMap<GroupId, Vec<Waiting<Group>>>,
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
            self.read_all(Some((permit, reply)));
        } else {
            let _ = reply.send(Ok(self.cache.summaries()));
        }
    }

    pub(super) fn read_group(&mut self, group: GroupId, refresh: Option<Permit>, reply: Reply<Arc<Group>>) {
        if let Err(error) = self.ready_engine() {
            let _ = reply.send(Err(error));
        } else if let Some(permit) = refresh {
            self.read_one(group, Some((permit, reply)));
        } else {
            let _ = reply.send(self.cached(&group));
        }
    }

    fn cached(&self, group: &GroupId) -> Result<Arc<Group>, CommandError> {
        let found = self.cache.group(group).map(Arc::new);
        found.ok_or_else(|| CommandError::GroupNotFound(group.clone()))
    }

    fn read_all(&mut self, who: Option<Waiting<Vec<GroupSummary>>>) {
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
        for (_permit, reply) in self.reads.all.take().unwrap_or_default() {
            let _ = reply.send(failed.clone().map_or_else(|| Ok(self.cache.summaries()), Err));
        }
        if failed.is_some() {
            // It may have been meant to settle groups in doubt.
            self.reads.all_read_at = None;
            self.schedule_full_read_in(READ_RETRY);
        }
        self.schedule_reads();
    }

    fn read_one(&mut self, group: GroupId, who: Option<Waiting<Group>>) {
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
        for (_permit, reply) in waiting {
            let _ = reply.send(failed.clone().map_or_else(|| self.cached(group), Err));
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
