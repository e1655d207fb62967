//! Reads of groups at WhatsApp: the callers who wait for each, and the reads that no caller asked for. Callers who ask
//! at the same time share one request. Decides what is to be read; the session's actor has it read
//! ([`Refresher::take_steps`]).

mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::commands::{AfterRead, Creation, Creations, Found, GroupRead, ReadQuestion, Scope, SharedRead};
use crate::error::CommandError;
use crate::group_cache::{GroupCache, Sequence, WriteId};
use crate::rate_limiter::RateLimiter;
use crate::reply::Reply;
use rookery_model::{AllGroups, GroupId, GroupRecord, ParticipantIds, SessionId};

/// The wait before WhatsApp is asked a second time, when it says that the account is not in a group that we know. Only
/// the second answer is believed.
const ABSENCE_CHECK_DELAY: Duration = Duration::from_millis(250);

/// A caller or command that waits for the read of all groups.
enum AllWaiting {
    /// A caller.
    Caller(AfterRead),
    /// A command that wants the cache to be up to date.
    Command(Reply<()>),
    /// A command that looks for a group.
    Creation(Arc<Creation>, Reply<Found>),
}

/// A caller or command that waits for the read of one group.
enum OneWaiting {
    /// A caller.
    Caller(AfterRead),
    /// A command that looks at what its write did.
    Command(Option<WriteId>, Reply<GroupRead>),
}

/// A read under way: the callers who wait for it, and those who wait for the read after it, because theirs has to be
/// asked for later.
struct UnderWay<W> {
    waiting: Vec<W>,
    next: Vec<W>,
    /// This is the second read, after a first that did not find the group.
    checks_absence: bool,
}

impl<W> UnderWay<W> {
    fn new(who: impl IntoIterator<Item = W>) -> Self {
        Self { waiting: who.into_iter().collect(), next: Vec::new(), checks_absence: false }
    }
}

/// What the actor is to do for the refresher.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Read all groups of WhatsApp; [`Refresher::all_read`] takes the answer.
    ReadAll,
    /// Read one group of WhatsApp after a while; [`Refresher::one_read`] takes the answer.
    ReadOne { group: GroupId, delay: Duration },
    /// Call [`Refresher::due`] after a while.
    WakeUp { due: Due, delay: Duration },
}

/// The kind of a read that is due.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Groups whose cached state is in doubt.
    Doubts,
    /// Incomplete groups.
    Incomplete,
    /// All groups, because WhatsApp said that we missed something.
    Full,
}

/// The reads of one session.
pub(super) struct Refresher {
    session: SessionId,
    rate_limiter: Arc<RateLimiter>,
    all: Option<UnderWay<AllWaiting>>,
    one: BTreeMap<GroupId, UnderWay<OneWaiting>>,
    /// When the latest wake-up for [`Due::Doubts`] comes; an earlier wake-up is ignored.
    doubts_due_at: Option<Instant>,
    /// A wake-up for [`Due::Full`] is on its way.
    full_scheduled: bool,
    /// When the latest wake-up for [`Due::Incomplete`] comes; an earlier wake-up is ignored.
    incomplete_due_at: Option<Instant>,
    /// WhatsApp said that we missed something while the session was not ready.
    missed: bool,
    /// When all groups were last read.
    all_read_at: Option<Instant>,
    steps: Vec<Step>,
}

impl AllWaiting {
    fn fail(self, error: CommandError) {
        match self {
            Self::Caller(answer) => answer(Err(error)),
            Self::Command(reply) => drop(reply.send(Err(error))),
            Self::Creation(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

impl OneWaiting {
    fn is_command(&self) -> bool {
        matches!(self, Self::Command(..))
    }

    fn fail(self, error: CommandError) {
        match self {
            Self::Caller(answer) => answer(Err(error)),
            Self::Command(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

impl Refresher {
    pub(super) fn new(session: SessionId, rate_limiter: Arc<RateLimiter>) -> Self {
        Self {
            session,
            rate_limiter,
            all: None,
            one: BTreeMap::new(),
            doubts_due_at: None,
            full_scheduled: false,
            incomplete_due_at: None,
            missed: false,
            all_read_at: None,
            steps: Vec::new(),
        }
    }

    /// Takes the steps since the last call.
    pub(super) fn take_steps(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.steps)
    }

    /// Adds a caller to a read; a read that is under way will do.
    pub(super) fn share(&mut self, read: SharedRead) {
        match read.scope {
            Scope::All => self.read_all([AllWaiting::Caller(read.answer)]),
            Scope::One(group) => self.read_one(group, [OneWaiting::Caller(read.answer)]),
        }
    }

    /// Takes a command's question about WhatsApp's state. An earlier read does not show it, so the command gets a new
    /// read. Refused unless the session is ready.
    pub(super) fn ask(
        &mut self,
        question: ReadQuestion,
        is_ready: bool,
        cache: &GroupCache,
        creations: &mut Creations,
        me: &ParticipantIds,
    ) {
        match question {
            ReadQuestion::ReadBack { group, write, reply } => {
                let waiting = OneWaiting::Command(write, reply);
                if !is_ready {
                    waiting.fail(CommandError::NotConnected);
                } else if let Some(under_way) = self.one.get_mut(&group) {
                    under_way.next.push(waiting);
                } else {
                    self.read_one(group, [waiting]);
                }
            }
            ReadQuestion::ReadAll { reply } => self.read_all_anew(AllWaiting::Command(reply), is_ready),
            ReadQuestion::FindCreated { creation, reply } => match creations.find(&creation, cache, me) {
                // A notification has reported the group.
                Found::Made(record) if is_ready => drop(reply.send(Ok(Found::Made(record)))),
                _ => self.read_all_anew(AllWaiting::Creation(creation, reply), is_ready),
            },
        }
    }

    fn read_all_anew(&mut self, who: AllWaiting, is_ready: bool) {
        if !is_ready {
            who.fail(CommandError::NotConnected);
        } else if let Some(under_way) = &mut self.all {
            under_way.next.push(who);
        } else {
            self.read_all([who]);
        }
    }

    fn read_all(&mut self, who: impl IntoIterator<Item = AllWaiting>) {
        if let Some(under_way) = &mut self.all {
            return under_way.waiting.extend(who);
        }
        self.all = Some(UnderWay::new(who));
        self.all_read_at = Some(Instant::now());
        self.steps.push(Step::ReadAll);
    }

    fn read_one(&mut self, group: GroupId, who: impl IntoIterator<Item = OneWaiting>) {
        if let Some(under_way) = self.one.get_mut(&group) {
            return under_way.waiting.extend(who);
        }
        self.one.insert(group.clone(), UnderWay::new(who));
        self.steps.push(Step::ReadOne { group, delay: Duration::ZERO });
    }

    /// Takes the result of a read of all groups.
    pub(super) fn all_read(
        &mut self,
        asked: Sequence,
        groups: Result<AllGroups, CommandError>,
        cache: &mut GroupCache,
        creations: &mut Creations,
        me: &ParticipantIds,
    ) {
        let Some(under_way) = self.all.take() else { return };
        let failed = groups.map(|groups| self.take_all(asked, groups, cache)).err();
        for waiting in under_way.waiting {
            match (&failed, waiting) {
                (Some(error), waiting) => waiting.fail(error.clone()),
                (None, AllWaiting::Caller(answer)) => answer(Ok(cache)),
                (None, AllWaiting::Command(reply)) => drop(reply.send(Ok(()))),
                (None, AllWaiting::Creation(creation, reply)) => {
                    drop(reply.send(Ok(creations.find(&creation, cache, me))));
                }
            }
        }
        if !under_way.next.is_empty() {
            self.read_all(under_way.next);
        } else if failed.is_some() {
            // The read may have been meant to settle groups in doubt.
            self.all_read_at = None;
            return self.schedule_full_in(self.retry_delay());
        }
        self.schedule_doubts(cache);
    }

    /// Takes the answer to a read of all groups. Groups that it does not show whole are read one by one.
    pub(super) fn take_all(&mut self, asked: Sequence, all: AllGroups, cache: &mut GroupCache) {
        let (incomplete, unreadable) = (all.incomplete(), all.unreadable);
        if incomplete + unreadable > 0 {
            warn!(session.id = %self.session, groups.incomplete = incomplete, groups.unreadable = unreadable,
                "WhatsApp's list of groups could not be read whole");
        }
        cache.apply_read_all(asked, all);
        self.schedule_incomplete(cache);
    }

    /// Notes that all groups were read just now, for the log-in.
    pub(super) fn note_all_read(&mut self) {
        self.all_read_at = Some(Instant::now());
    }

    /// Takes the result of a read of one group; `None` when the account is not in it.
    pub(super) fn one_read(
        &mut self,
        group: &GroupId,
        asked: Sequence,
        answer: Result<Option<Box<GroupRecord>>, CommandError>,
        cache: &mut GroupCache,
    ) {
        let Some(mut under_way) = self.one.remove(group) else { return };
        let answer = match (answer, cache.record(group)) {
            // The known record stays, and says that it may be outdated.
            (Err(CommandError::Unreadable), Some(known)) => Ok(Some(Box::new(known.untold()))),
            (answer, _) => answer,
        };
        if matches!(answer, Ok(None)) && !under_way.checks_absence && cache.has(group) {
            // One refusal may be an accident. Believing it would cost the group until the next log-in.
            under_way.checks_absence = true;
            self.one.insert(group.clone(), under_way);
            return self.steps.push(Step::ReadOne { group: group.clone(), delay: ABSENCE_CHECK_DELAY });
        }
        let is_looked_at = under_way.waiting.iter().any(OneWaiting::is_command);
        let read = answer.as_ref().ok().cloned().flatten().filter(|_| is_looked_at);
        let failed = answer.map(|answer| cache.apply_read(group, asked, answer.map(|record| *record))).err();
        self.schedule_incomplete(cache);
        let was_ours = under_way.waiting.is_empty();
        for waiting in under_way.waiting {
            match (&failed, waiting) {
                (Some(error), waiting) => waiting.fail(error.clone()),
                (None, OneWaiting::Caller(answer)) => answer(Ok(cache)),
                (None, OneWaiting::Command(write, reply)) => {
                    let heard = write.map(|write| cache.heard(group, write)).unwrap_or_default();
                    let shown = !cache.is_in_doubt(group);
                    drop(reply.send(Ok(GroupRead { record: read.clone(), heard, shown })));
                }
            }
        }
        if !under_way.next.is_empty() {
            self.read_one(group.clone(), under_way.next);
        } else if failed.is_some_and(|error| error != CommandError::Unreadable) && (was_ours || cache.has(group)) {
            // The waiting callers may have joined a read that was to settle a doubt.
            cache.mark_for_read(group);
            self.schedule_doubts_in(self.retry_delay());
        }
        self.schedule_doubts(cache);
    }

    /// Fails all reads, as their engine is gone. A new engine reads all groups before it is of use (K-3).
    pub(super) fn end(&mut self) {
        let all = self.all.take().into_iter().flat_map(|read| read.waiting.into_iter().chain(read.next));
        all.for_each(|waiting| waiting.fail(CommandError::NotConnected));
        let one = std::mem::take(&mut self.one).into_values();
        let one = one.flat_map(|read| read.waiting.into_iter().chain(read.next));
        one.for_each(|waiting| waiting.fail(CommandError::NotConnected));
    }
}

#[cfg(test)]
mod tests;
