//! Group reads: from the cache at once, or of WhatsApp, where all who ask at the same time share one request.

mod schedule;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::warn;

use super::creation::{Creation, Found};
use super::rate_limiter::Cost;
use super::whatsapp_codes::read_error;
use super::{Generation, Permit, Reply, SessionMsg, SessionState};
use crate::error::CommandError;
use crate::group_cache::{Heard, Sequence, WriteId};
use rookery_engine::{Engine, EngineError};
use rookery_model::{Aged, Group, GroupId, GroupSummary, Tagged, Timestamp};
use rookery_model::{AllGroups, GroupRecord};

/// WhatsApp says that the account is not in a group that we know: it is asked once more after this before that is believed.
const ABSENCE_CHECK_DELAY: Duration = Duration::from_millis(250);

/// Who waits for the read of all groups.
enum AllWaiting {
    /// A caller, with a permit of the session, so that there are not too many of them.
    Caller(Permit, Reply<Arc<Vec<GroupSummary>>>),
    /// A task that wants the cache to be as WhatsApp is now.
    Task(Reply<()>),
    /// A task that looks for a group.
    Creation(Arc<Creation>, Reply<Found>),
}

/// Who waits for the read of one group.
enum OneWaiting {
    /// A caller, as above, and the tags that they know.
    Caller(Permit, Vec<u64>, Reply<Tagged<Group>>),
    /// A task that looks at what its write did.
    Task(Option<WriteId>, Reply<GroupRead>),
}

/// A group as WhatsApp showed it to a read that was asked for after the question.
pub(crate) struct GroupRead {
    /// What was read; `None` when the account is not in it. Without our own writes on top: it is the judge of them.
    pub(crate) record: Option<Box<GroupRecord>>,
    /// What notifications have told of the write until then; nothing where there is none.
    pub(crate) heard: Heard,
    /// The cache shows it too. If not, something changed while it was read, and the group is read once more.
    pub(crate) shown: bool,
}

/// A read under way: who waits for it, and who for the one after it, because theirs has to be asked for later.
struct UnderWay<W> {
    waiting: Vec<W>,
    next: Vec<W>,
    /// It is the second one, after a first that did not find the group.
    checks_absence: bool,
}

impl<W> UnderWay<W> {
    fn new(who: impl IntoIterator<Item = W>) -> Self {
        Self { waiting: who.into_iter().collect(), next: Vec::new(), checks_absence: false }
    }
}

/// Reads that are under way.
#[derive(Default)]
pub(super) struct Reads {
    all: Option<UnderWay<AllWaiting>>,
    one: BTreeMap<GroupId, UnderWay<OneWaiting>>,
    /// A [`SessionMsg::ReadsDue`] is on its way; one that comes before this is one too many.
    due_at: Option<Instant>,
    /// A [`SessionMsg::FullReadDue`] is on its way.
    full_scheduled: bool,
    /// A [`SessionMsg::IncompleteDue`] is on its way; one that comes before this is one too many.
    incomplete_due_at: Option<Instant>,
    /// WhatsApp said that we missed something, when it could not be read.
    missed: bool,
    /// When all groups were last read.
    pub(super) all_read_at: Option<Instant>,
}

impl AllWaiting {
    fn fail(self, error: CommandError) {
        match self {
            Self::Caller(_, reply) => drop(reply.send(Err(error))),
            Self::Task(reply) => drop(reply.send(Err(error))),
            Self::Creation(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

impl OneWaiting {
    fn is_task(&self) -> bool {
        matches!(self, Self::Task(..))
    }

    fn fail(self, error: CommandError) {
        match self {
            Self::Caller(_, _, reply) => drop(reply.send(Err(error))),
            Self::Task(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

impl SessionState {
    pub(super) fn list_groups(&mut self, refresh: Option<Permit>, reply: Reply<Arc<Vec<GroupSummary>>>) {
        if let Err(error) = self.ready_engine() {
            let _ = reply.send(Err(error));
        } else if let Some(permit) = refresh {
            match self.entry.rate_limiter.take(Cost::Query) {
                Ok(()) => self.read_all([AllWaiting::Caller(permit, reply)]),
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
            match self.entry.rate_limiter.take(Cost::Query) {
                Ok(()) => self.read_one(group, [OneWaiting::Caller(permit, known, reply)]),
                Err(error) => drop(reply.send(Err(error))),
            }
        } else {
            let _ = reply.send(self.cached(&group, &known));
        }
    }

    pub(super) fn known_groups(&mut self) -> Result<Aged<Arc<Vec<GroupSummary>>>, CommandError> {
        let stale_for = self.stale_for()?;
        Ok(Aged { value: self.cache.summaries(), stale_for })
    }

    pub(super) fn known_group(&mut self, group: &GroupId, known: &[u64]) -> Result<Aged<Tagged<Group>>, CommandError> {
        let stale_for = self.stale_for()?;
        Ok(Aged { value: self.cached(group, known)?, stale_for })
    }

    /// How long WhatsApp has not been heard, when the cache may be behind: `None` while the session is ready.
    pub(super) fn stale_for(&self) -> Result<Option<Duration>, CommandError> {
        match self.ready_engine() {
            Ok(_) => Ok(None),
            Err(CommandError::NotConnected) if self.cache.is_filled() => {
                // Not since the daemon was started: the wall clock has to do.
                let noted_at = self.record.last_active.or(self.record.connected_at).unwrap_or(Timestamp(0));
                let noted_ago = || u64::try_from(Timestamp::now().0.saturating_sub(noted_at.0)).unwrap_or_default();
                let heard_ago = self.entry.wire.heard_at().map(|at| at.elapsed());
                Ok(Some(heard_ago.unwrap_or_else(|| Duration::from_millis(noted_ago()))))
            }
            Err(error) => Err(error),
        }
    }

    fn cached(&mut self, group: &GroupId, known: &[u64]) -> Result<Tagged<Group>, CommandError> {
        self.cache.group(group, known).ok_or_else(|| CommandError::GroupNotFound(group.clone()))
    }

    /// For a task that looks at what its write did: a read that was asked for before does not tell.
    pub(super) fn read_back(&mut self, group: GroupId, write: Option<WriteId>, reply: Reply<GroupRead>) {
        if self.ready_engine().is_err() {
            let _ = reply.send(Err(CommandError::NotConnected));
        } else if let Some(under_way) = self.reads.one.get_mut(&group) {
            under_way.next.push(OneWaiting::Task(write, reply));
        } else {
            self.read_one(group, [OneWaiting::Task(write, reply)]);
        }
    }

    /// The same for all groups.
    pub(super) fn read_all_for_task(&mut self, reply: Reply<()>) {
        self.read_all_anew(AllWaiting::Task(reply));
    }

    /// A group that may have been made: told by a notification, or found by reading all groups.
    pub(super) fn read_created(&mut self, creation: Arc<Creation>, reply: Reply<Found>) {
        match self.find_created(&creation) {
            Found::Made(record) if self.ready_engine().is_ok() => drop(reply.send(Ok(Found::Made(record)))),
            _ => self.read_all_anew(AllWaiting::Creation(creation, reply)),
        }
    }

    /// A read of all groups that is asked for now, or right after the one under way.
    fn read_all_anew(&mut self, who: AllWaiting) {
        if self.ready_engine().is_err() {
            who.fail(CommandError::NotConnected);
        } else if let Some(under_way) = &mut self.reads.all {
            under_way.next.push(who);
        } else {
            self.read_all([who]);
        }
    }

    fn read_all(&mut self, who: impl IntoIterator<Item = AllWaiting>) {
        if let Some(under_way) = &mut self.reads.all {
            under_way.waiting.extend(who);
            return;
        }
        let Some(engine) = self.engine.engine.clone() else {
            return who.into_iter().for_each(|waiting| waiting.fail(CommandError::NotConnected));
        };
        self.reads.all = Some(UnderWay::new(who));
        self.reads.all_read_at = Some(Instant::now());
        let (asked, generation) = (self.cache.sequence(), self.engine.generation);
        let read = async move { engine.read_all_groups().await };
        self.read_in_a_task("Reading the groups", read, move |groups| SessionMsg::AllGroupsRead {
            generation,
            asked,
            groups,
        });
    }

    /// Reads under a time limit, and tells the actor the outcome whatever becomes of the read.
    fn read_in_a_task<T: Send + 'static>(
        &self,
        what: &'static str,
        read: impl Future<Output = Result<T, EngineError>> + Send + 'static,
        message: impl FnOnce(Result<T, CommandError>) -> SessionMsg + Send + 'static,
    ) {
        let (myself, entry) = (self.myself.clone(), self.entry.clone());
        let limit = self.context.settings.whatsapp_timeout;
        tokio::spawn(async move {
            // A task of its own: one that panics still has an end.
            let answer = match tokio::spawn(timeout(limit, read)).await {
                Ok(Ok(answer)) => answer.map_err(|error| {
                    entry.rate_limiter.observe_backoff(&error);
                    read_error(what, error)
                }),
                _ => Err(CommandError::Unanswered),
            };
            let _ = myself.send_message(message(answer));
        });
    }

    pub(super) fn all_groups_read(
        &mut self,
        generation: Generation,
        asked: Sequence,
        groups: Result<AllGroups, CommandError>,
    ) {
        if generation != self.engine.generation {
            // Who waited was answered when that engine ended; it may have been about another account.
            return;
        }
        let Some(under_way) = self.reads.all.take() else { return };
        let failed = groups.map(|groups| self.take_all_groups(asked, groups)).err();
        for waiting in under_way.waiting {
            match (&failed, waiting) {
                (Some(error), waiting) => waiting.fail(error.clone()),
                (None, AllWaiting::Caller(_permit, reply)) => drop(reply.send(Ok(self.cache.summaries()))),
                (None, AllWaiting::Task(reply)) => drop(reply.send(Ok(()))),
                (None, AllWaiting::Creation(creation, reply)) => {
                    drop(reply.send(Ok(self.find_created(&creation))));
                }
            }
        }
        if !under_way.next.is_empty() {
            self.read_all(under_way.next);
        } else if failed.is_some() {
            // It may have been meant to settle groups in doubt.
            self.reads.all_read_at = None;
            return self.schedule_full_read_in(self.retry_delay());
        }
        self.schedule_reads();
    }

    /// Takes what a read of all groups told; what it did not tell is asked for group by group.
    pub(super) fn take_all_groups(&mut self, asked: Sequence, all: AllGroups) {
        let (incomplete, unreadable) = (all.incomplete(), all.unreadable);
        if incomplete + unreadable > 0 {
            warn!(session.id = %self.entry.id, groups.incomplete = incomplete, groups.unreadable = unreadable,
                "WhatsApp's list of groups could not be read whole");
        }
        self.cache.apply_read_all(asked, all);
        self.schedule_incomplete();
    }

    fn read_one(&mut self, group: GroupId, who: impl IntoIterator<Item = OneWaiting>) {
        if let Some(under_way) = self.reads.one.get_mut(&group) {
            under_way.waiting.extend(who);
            return;
        }
        let Some(engine) = self.engine.engine.clone() else {
            return who.into_iter().for_each(|waiting| waiting.fail(CommandError::NotConnected));
        };
        self.reads.one.insert(group.clone(), UnderWay::new(who));
        self.ask_for_group(engine, group, Duration::ZERO);
    }

    /// Asks WhatsApp for a group after a while; the answer is for those who wait in [`Reads::one`].
    fn ask_for_group(&self, engine: Arc<Engine>, group: GroupId, delay: Duration) {
        let (asked, generation, read_group) = (self.cache.sequence(), self.engine.generation, group.clone());
        let read = async move {
            tokio::time::sleep(delay).await;
            Ok(engine.read_group(&read_group).await?.map(Box::new))
        };
        self.read_in_a_task("Reading the group", read, move |answer| SessionMsg::GroupRead {
            generation,
            group,
            asked,
            answer,
        });
    }

    pub(super) fn group_read(
        &mut self,
        generation: Generation,
        group: &GroupId,
        asked: Sequence,
        answer: Result<Option<Box<GroupRecord>>, CommandError>,
    ) {
        if generation != self.engine.generation {
            return;
        }
        let Some(mut under_way) = self.reads.one.remove(group) else { return };
        let answer = match (answer, self.cache.record(group)) {
            // What is known of it stays, and says that it may be outdated.
            (Err(CommandError::Unreadable), Some(known)) => Ok(Some(Box::new(known.untold()))),
            (answer, _) => answer,
        };
        let is_first_absence = matches!(answer, Ok(None)) && !under_way.checks_absence;
        if let Some(engine) = self.engine.engine.clone().filter(|_| is_first_absence && self.cache.has(group)) {
            // One refusal may be an accident; to believe it costs the group until the next log-in.
            under_way.checks_absence = true;
            self.reads.one.insert(group.clone(), under_way);
            return self.ask_for_group(engine, group.clone(), ABSENCE_CHECK_DELAY);
        }
        let read =
            answer.as_ref().ok().cloned().flatten().filter(|_| under_way.waiting.iter().any(OneWaiting::is_task));
        let failed = answer.map(|answer| self.cache.apply_read(group, asked, answer.map(|record| *record))).err();
        self.schedule_incomplete();
        let was_ours = under_way.waiting.is_empty();
        for waiting in under_way.waiting {
            match (&failed, waiting) {
                (Some(error), waiting) => waiting.fail(error.clone()),
                (None, OneWaiting::Caller(_permit, known, reply)) => drop(reply.send(self.cached(group, &known))),
                (None, OneWaiting::Task(write, reply)) => {
                    let heard = write.map(|write| self.cache.heard(group, write)).unwrap_or_default();
                    let shown = !self.cache.is_in_doubt(group);
                    drop(reply.send(Ok(GroupRead { record: read.clone(), heard, shown })));
                }
            }
        }
        if !under_way.next.is_empty() {
            self.read_one(group.clone(), under_way.next);
        } else if failed.is_some_and(|error| error != CommandError::Unreadable)
            && (was_ours || self.cache.record(group).is_some())
        {
            // Who waited may have joined a read that was to settle a doubt.
            self.cache.mark_for_read(group);
            self.schedule_reads_in(self.retry_delay());
        }
        self.schedule_reads();
    }

    /// The engine is gone: nobody answers what it was asked. A new one reads all groups before it is of use (K-3).
    pub(super) fn end_reads(&mut self) {
        let all = self.reads.all.take().into_iter().flat_map(|read| read.waiting.into_iter().chain(read.next));
        all.for_each(|waiting| waiting.fail(CommandError::NotConnected));
        let one = std::mem::take(&mut self.reads.one).into_values();
        let one = one.flat_map(|read| read.waiting.into_iter().chain(read.next));
        one.for_each(|waiting| waiting.fail(CommandError::NotConnected));
    }
}
