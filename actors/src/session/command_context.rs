//! What every request to WhatsApp has in common. Each runs in a task of its own with a permit and the reply: the engine
//! call under a time limit, a look at what is true when WhatsApp did not answer, then the change to the actor, then the
//! answer to the caller (G-2).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use super::rate_limiter::Cost;
use super::refresh::GroupRead;
use super::whatsapp_codes::{is_doubtful, read_error, write_error};
use super::{Generation, Permit, Reply, SessionMsg, SessionState};
use crate::directory::SessionHandle;
use crate::error::CommandError;
use crate::group_cache::{Heard, PendingChange, Sequence, WriteId};
use crate::settings::WHATSAPP_TIMEOUT_MAX;
use rookery_engine::{Engine, EngineError};
use rookery_model::GroupId;
use rookery_model::{Completeness, GroupRecord};

/// WhatsApp's notification about our own write comes within milliseconds; after this long the group is read instead.
const ECHO_TIMEOUT: Duration = Duration::from_secs(5);
/// Notifications may come this long after an answer that was sent with or after them: a task of its own handles each.
const OLDER_NEWS_TIME: Duration = Duration::from_millis(150);
/// After WhatsApp's own time, what happened is looked for this long. With [`WHATSAPP_TIMEOUT_MAX`] every answer leaves
/// within 26 s: clients give up at 30.
const SETTLE_TIME: Duration = Duration::from_secs(5);
/// A write that is not seen for this long was not carried out: on a connection that answers, WhatsApp works in order.
const MISSING_TIME: Duration = Duration::from_secs(1);
/// The connection may be on its way back: a reconnect takes about a second.
const SETTLE_INTERVAL: Duration = Duration::from_millis(100);

/// What a write means for the cache.
pub(crate) enum GroupChange {
    /// Carried out, perhaps in part; `None` when nothing changed.
    Confirmed { group: GroupId, write: WriteId, done: Option<PendingChange> },
    /// Not confirmed; `unknown` when the cached group is in doubt after it.
    Dropped { group: GroupId, write: WriteId, unknown: bool },
    /// A new group, and the key of the request that made it.
    Created { record: Box<GroupRecord>, key: String, asked: Sequence },
    /// The account is not in the group any longer.
    Left { group: GroupId },
    /// Something may have changed in this group.
    Doubtful { group: GroupId },
}

/// A request on its way, with all that its task needs from the actor.
pub(super) struct CommandContext {
    pub(super) engine: Arc<Engine>,
    entry: Arc<SessionHandle>,
    myself: ActorRef<SessionMsg>,
    generation: Generation,
    /// WhatsApp's answers are waited for until then, however many requests it takes.
    deadline: Instant,
    _permit: Permit,
}

/// What came out of a write.
pub(super) struct Outcome<T> {
    pub(super) result: Result<T, CommandError>,
    /// WhatsApp did not say so: it was read there, and the cache has it.
    pub(super) read_back: bool,
}

/// What a look at WhatsApp says about a write that was not answered.
pub(super) enum Reconciliation<T> {
    /// It was carried out, at least in part.
    Applied(T),
    /// It was not.
    NotApplied,
    /// There is no way to tell.
    Unclear,
    /// Nobody could look: the connection is not back yet.
    NotYet,
}

impl<T> Reconciliation<T> {
    /// Why nobody could look: for the moment, or because WhatsApp does not say.
    pub(super) fn because(error: &CommandError) -> Self {
        match error {
            CommandError::NotConnected
            | CommandError::NotStarted
            | CommandError::Restarting
            | CommandError::Unanswered
            | CommandError::OutcomeUnknown => Self::NotYet,
            _ => Self::Unclear,
        }
    }
}

impl CommandContext {
    /// Waits for WhatsApp's answer, for its time. A request that certainly never left is [`CommandError::NotConnected`].
    pub(super) async fn ask<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, CommandError> {
        self.ask_as(call, |error| self.understood(what, error)).await.unwrap_or(Err(CommandError::OutcomeUnknown))
    }

    /// `None`: not in time.
    async fn ask_as<T>(
        &self,
        call: impl Future<Output = Result<T, EngineError>>,
        understood: impl FnOnce(EngineError) -> CommandError,
    ) -> Option<Result<T, CommandError>> {
        // The session was ready when the request began; the connection may have gone since then.
        let Ok(Some(before)) = timeout_at(self.deadline, self.engine.sent()).await else {
            return Some(Err(CommandError::NotConnected));
        };
        Some(match timeout_at(self.deadline, call).await.ok()? {
            Err(EngineError::ConnectionLost) if !self.engine.has_sent_since(before) => Err(CommandError::NotConnected),
            answer => answer.map_err(understood),
        })
    }

    /// As [`Self::ask`], for a question: nothing was changed whatever happened.
    pub(super) async fn question<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, CommandError> {
        let understood = |error: EngineError| match error {
            error if error.is_unanswered() => read_error(what, error),
            error => self.understood(what, error),
        };
        self.ask_as(call, understood).await.unwrap_or(Err(CommandError::Unanswered))
    }

    /// Asks, and when WhatsApp does not say what it did, looks until that is clear or the time for it is over.
    pub(super) async fn carry_out<T, L: Future<Output = Reconciliation<T>>>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, EngineError>>,
        look: impl Fn() -> L,
    ) -> Outcome<T> {
        match self.ask(what, call).await {
            Err(CommandError::OutcomeUnknown) => self.settle(CommandError::Unanswered, look).await,
            // One part of WhatsApp failed: what the others have done by then, it does not say.
            Err(failed @ CommandError::Refused { code: 500.., .. }) => self.settle(failed, look).await,
            result => Outcome { result, read_back: false },
        }
    }

    /// A write that is not there is looked for again before that is believed: WhatsApp may be at it. `missing`: what it
    /// comes to then.
    async fn settle<T, L: Future<Output = Reconciliation<T>>>(
        &self,
        missing: CommandError,
        look: impl Fn() -> L,
    ) -> Outcome<T> {
        let until = Instant::now().min(self.deadline) + SETTLE_TIME;
        let unknown = Outcome { result: Err(CommandError::OutcomeUnknown), read_back: false };
        let mut missed_at = None;
        loop {
            let wait = match timeout_at(until, look()).await {
                Ok(Reconciliation::Applied(value)) => return Outcome { result: Ok(value), read_back: true },
                Ok(Reconciliation::NotApplied) => {
                    let since = missed_at.get_or_insert_with(Instant::now).elapsed();
                    if since >= MISSING_TIME {
                        return Outcome { result: Err(missing), read_back: true };
                    }
                    MISSING_TIME - since
                }
                Ok(Reconciliation::NotYet) => SETTLE_INTERVAL,
                Ok(Reconciliation::Unclear) | Err(_) => return unknown,
            };
            if Instant::now() + wait >= until {
                return unknown;
            }
            sleep(wait).await;
        }
    }

    /// What WhatsApp shows of a write, as `judge` sees it. A group that is told without anything in it shows nothing.
    pub(super) async fn look_at<T>(
        &self,
        group: &GroupId,
        write: Option<WriteId>,
        judge: impl FnOnce(&GroupRead) -> Reconciliation<T>,
    ) -> Reconciliation<T> {
        match self.read_back(group, write).await {
            Ok(GroupRead { record: Some(record), .. }) if record.completeness == Completeness::Stub => {
                Reconciliation::Unclear
            }
            Ok(read) => judge(&read),
            Err(error) => Reconciliation::because(&error),
        }
    }

    /// The same for a write in a group that the account stays in.
    pub(super) async fn look_into<T>(
        &self,
        group: &GroupId,
        write: WriteId,
        judge: impl FnOnce(&GroupRecord, &Heard) -> Reconciliation<T>,
    ) -> Reconciliation<T> {
        let judge =
            |read: &GroupRead| read.record.as_ref().map_or(Reconciliation::Unclear, |now| judge(now, &read.heard));
        self.look_at(group, Some(write), judge).await
    }

    /// Has the actor read a group of WhatsApp, also into its cache, to see what this write did.
    ///
    /// # Errors
    /// It could not be read now.
    pub(super) async fn read_back(&self, group: &GroupId, write: Option<WriteId>) -> Result<GroupRead, CommandError> {
        self.ask_actor(|reply| SessionMsg::ReadBack { group: group.clone(), write, reply }).await
    }

    /// Has a group read until the cache shows what was read, for the time that is left; true when it does (G-2).
    pub(super) async fn is_shown(&self, group: &GroupId) -> bool {
        let shown = async {
            loop {
                match self.read_back(group, None).await {
                    Ok(GroupRead { shown: false, .. }) => {}
                    read => return read.is_ok(),
                }
            }
        };
        timeout_at(self.end(), shown).await.unwrap_or(false)
    }

    /// Asks the session's actor, also one that was restarted meanwhile.
    pub(super) async fn ask_actor<T>(&self, message: impl FnOnce(Reply<T>) -> SessionMsg) -> Result<T, CommandError> {
        let actor = self.entry.actor.load_full().ok_or(CommandError::Restarting)?;
        let (reply, answer) = oneshot::channel();
        actor.send_message(message(reply)).map_err(|_| CommandError::Restarting)?;
        answer.await.unwrap_or(Err(CommandError::Restarting))
    }

    /// Asks WhatsApp once more as part of a look.
    ///
    /// # Errors
    /// What the look comes to without an answer.
    pub(super) async fn look_up<T, V>(
        &self,
        call: impl Future<Output = Result<V, EngineError>>,
    ) -> Result<V, Reconciliation<T>> {
        call.await.map_err(|error| {
            self.observe_backoff(&error);
            if error.is_unanswered() { Reconciliation::NotYet } else { Reconciliation::Unclear }
        })
    }

    /// Everything that is left of the time for looking, for what follows on a write.
    pub(super) fn end(&self) -> Instant {
        self.deadline + SETTLE_TIME
    }

    /// Notes a pause that WhatsApp asks for.
    fn understood(&self, what: &'static str, error: EngineError) -> CommandError {
        self.observe_backoff(&error);
        match error {
            EngineError::Refused { code: 429, .. } => self.entry.rate_limiter.rate_limited(),
            error => write_error(what, error),
        }
    }

    /// Takes the pause that an answer of WhatsApp asks for, if it does.
    pub(super) fn observe_backoff(&self, error: &EngineError) {
        self.entry.rate_limiter.observe_backoff(error);
    }

    /// Whether WhatsApp asked to slow down.
    pub(super) fn is_paused(&self) -> bool {
        self.entry.rate_limiter.pause_left().is_some()
    }

    /// WhatsApp asks to slow down; the session's writes pause.
    pub(super) fn slow_down(&self) {
        self.entry.rate_limiter.pause(None);
    }

    /// Counts what a request turned out to cost beyond what it began with.
    pub(super) fn consume(&self, cost: Cost) -> Result<(), CommandError> {
        self.entry.rate_limiter.take(cost)
    }

    /// For a request whose caller has waited since then: WhatsApp gets what is left, so that the answer leaves in time.
    pub(super) fn count_from(&mut self, begun: Instant) {
        self.deadline = self.deadline.min(begun + WHATSAPP_TIMEOUT_MAX);
    }

    /// Whether WhatsApp's time for this request is over.
    pub(super) fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Tells the actor what a write means for the cache; false when there is no actor to tell.
    pub(super) fn tell(&self, change: GroupChange) -> bool {
        self.myself.send_message(SessionMsg::GroupChanged { generation: self.generation, change }).is_ok()
    }

    /// Tells the actor first, then the caller. An actor that is gone reads all groups before it is ready again (K-3):
    /// nothing is lost, but what it will show then is not ours to promise.
    pub(super) fn finish<T>(self, change: Option<GroupChange>, reply: Reply<T>, answer: Result<T, CommandError>) {
        let told = change.is_none_or(|change| self.tell(change));
        let _ = reply.send(if told { answer } else { answer.and(Err(CommandError::OutcomeUnknown)) });
    }

    /// The end of a write of one field: what it means for the cache, and the answer.
    pub(super) fn finish_field(
        self,
        group: GroupId,
        write: WriteId,
        change: PendingChange,
        outcome: Outcome<()>,
        reply: Reply<()>,
    ) {
        let told = field_told(group, write, change, &outcome);
        self.finish(Some(told), reply, outcome.result);
    }
}

/// What the write of one field means for the cache.
pub(super) fn field_told<T>(
    group: GroupId,
    write: WriteId,
    change: PendingChange,
    outcome: &Outcome<T>,
) -> GroupChange {
    match &outcome.result {
        Ok(_) => GroupChange::Confirmed { group, write, done: Some(change) },
        Err(error) => GroupChange::Dropped { group, write, unknown: is_doubtful(error) },
    }
}

impl SessionState {
    /// What a request needs, or the refusal that was sent in its place. `group`: one that the account has to be in.
    pub(super) fn begin<T>(
        &self,
        cost: Cost,
        group: Option<&GroupId>,
        permit: Permit,
        reply: Reply<T>,
    ) -> Option<(CommandContext, Reply<T>)> {
        match self.work(cost, group, permit) {
            Ok(work) => Some((work, reply)),
            Err(error) => {
                let _ = reply.send(Err(error));
                None
            }
        }
    }

    fn work(&self, cost: Cost, group: Option<&GroupId>, permit: Permit) -> Result<CommandContext, CommandError> {
        let engine = self.ready_engine()?;
        if let Some(group) = group.filter(|group| self.cache.record(group).is_none()) {
            return Err(CommandError::GroupNotFound(group.clone()));
        }
        self.entry.rate_limiter.take(cost)?;
        Ok(CommandContext {
            engine,
            entry: self.entry.clone(),
            myself: self.myself.clone(),
            generation: self.engine.generation,
            deadline: Instant::now() + self.context.settings.whatsapp_timeout,
            _permit: permit,
        })
    }

    /// A write is over: its change to the cache, before its caller is answered.
    pub(super) fn group_changed(&mut self, generation: Generation, change: GroupChange) {
        if generation != self.engine.generation {
            // Of an earlier start: all groups are read before this one is ready (K-3).
            return;
        }
        match change {
            GroupChange::Confirmed { group, write, done } => {
                self.cache.confirm_write(&group, write, done);
                let before = self.cache.sequence();
                self.myself.send_after(OLDER_NEWS_TIME, move || SessionMsg::UnsureDue { group, before });
                self.myself.send_after(ECHO_TIMEOUT, move || SessionMsg::EchoesDue { before });
            }
            GroupChange::Dropped { group, write, unknown } => {
                self.cache.drop_write(&group, write, unknown);
                self.schedule_reads();
            }
            GroupChange::Created { record, key, asked } => {
                self.created.note(&key, &record.id);
                self.cache.created(*record, asked);
            }
            GroupChange::Left { group } => self.cache.left(&group),
            GroupChange::Doubtful { group } => {
                self.cache.mark_for_read(&group);
                self.schedule_reads();
            }
        }
    }

    pub(super) fn unsure_due(&mut self, group: &GroupId, before: Sequence) {
        if self.cache.end_unsure(group, before) {
            self.schedule_reads();
        }
    }

    pub(super) fn echoes_due(&mut self, before: Sequence) {
        self.cache.mark_unechoed(before);
        self.schedule_reads();
    }
}
