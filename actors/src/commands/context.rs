//! What the tasks of all commands have in common: the engine call under a time limit, and a look at what is true when WhatsApp did
//! not answer.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use super::Finished;
use super::port::{CommandQuestion, GroupChange, GroupRead, ReadQuestion, SessionPort};
use super::whatsapp_codes::{is_doubtful, read_error, write_error};
use crate::error::CommandError;
use crate::group_cache::{Heard, PendingChange, WriteId};
use crate::options::WHATSAPP_TIMEOUT_MAX;
use crate::rate_limiter::{Cost, RateLimiter};
use crate::reply::Reply;
use rookery_engine::{Engine, EngineError};
use rookery_model::{Completeness, GroupId, GroupRecord};

/// After WhatsApp's own time, what happened is looked for this long. With [`WHATSAPP_TIMEOUT_MAX`] every answer leaves
/// within 26 s: clients give up at 30.
const RECONCILE_TIME: Duration = Duration::from_secs(5);
/// A write that is not seen for this long was not carried out: on a connection that answers, WhatsApp works in order.
const MISSING_TIME: Duration = Duration::from_secs(1);
/// The connection may be on its way back: a reconnect takes about a second.
const RECONCILE_INTERVAL: Duration = Duration::from_millis(100);

/// A command on its way, with all that its task needs.
pub(crate) struct CommandContext {
    pub(super) engine: Arc<Engine>,
    port: Arc<dyn SessionPort>,
    rate_limiter: Arc<RateLimiter>,
    /// WhatsApp's answers are waited for until then, however many requests it takes.
    deadline: Instant,
}

/// What came out of a write.
pub(super) struct WriteResult<T> {
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
    pub(super) fn new(
        engine: Arc<Engine>,
        port: Arc<dyn SessionPort>,
        rate_limiter: Arc<RateLimiter>,
        deadline: Instant,
    ) -> Self {
        Self { engine, port, rate_limiter, deadline }
    }

    pub(super) fn port(&self) -> Arc<dyn SessionPort> {
        self.port.clone()
    }

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
    ) -> WriteResult<T> {
        match self.ask(what, call).await {
            Err(CommandError::OutcomeUnknown) => self.reconcile(CommandError::Unanswered, look).await,
            // One part of WhatsApp failed: what the others have done by then, it does not say.
            Err(failed @ CommandError::Refused { code: 500.., .. }) => self.reconcile(failed, look).await,
            result => WriteResult { result, read_back: false },
        }
    }

    /// Carries out what does no harm when it is done twice: that is how it is looked into.
    pub(super) async fn carry_out_again<T, F: Future<Output = Result<T, EngineError>>>(
        &self,
        what: &'static str,
        call: impl Fn() -> F,
    ) -> Result<T, CommandError> {
        let again = || async { self.look_up(call()).await.map_or_else(|look| look, Reconciliation::Applied) };
        self.carry_out(what, call(), again).await.result
    }

    /// A write that is not there is looked for again before that is believed: WhatsApp may be at it. `missing`: what it
    /// comes to then.
    async fn reconcile<T, L: Future<Output = Reconciliation<T>>>(
        &self,
        missing: CommandError,
        look: impl Fn() -> L,
    ) -> WriteResult<T> {
        let until = Instant::now().min(self.deadline) + RECONCILE_TIME;
        let unknown = WriteResult { result: Err(CommandError::OutcomeUnknown), read_back: false };
        let mut missed_at = None;
        loop {
            let wait = match timeout_at(until, look()).await {
                Ok(Reconciliation::Applied(value)) => return WriteResult { result: Ok(value), read_back: true },
                Ok(Reconciliation::NotApplied) => {
                    let since = missed_at.get_or_insert_with(Instant::now).elapsed();
                    if since >= MISSING_TIME {
                        return WriteResult { result: Err(missing), read_back: true };
                    }
                    MISSING_TIME - since
                }
                Ok(Reconciliation::NotYet) => RECONCILE_INTERVAL,
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
        self.ask_actor(|reply| CommandQuestion::Read(ReadQuestion::ReadBack { group: group.clone(), write, reply }))
            .await
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

    /// Has the actor read all groups of WhatsApp, so that the next look shows what was done (G-2); false when that was not possible in
    /// time.
    pub(super) async fn read_all(&self) -> bool {
        let read = self.ask_actor(|reply| CommandQuestion::Read(ReadQuestion::ReadAll { reply }));
        matches!(timeout_at(self.end(), read).await, Ok(Ok(())))
    }

    /// Asks the session's actor, also one that was restarted meanwhile.
    pub(super) async fn ask_actor<T>(
        &self,
        question: impl FnOnce(Reply<T>) -> CommandQuestion,
    ) -> Result<T, CommandError> {
        let (reply, answer) = oneshot::channel();
        if !self.port.ask(question(reply)) {
            return Err(CommandError::Restarting);
        }
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
        self.deadline + RECONCILE_TIME
    }

    /// Notes a pause that WhatsApp asks for.
    fn understood(&self, what: &'static str, error: EngineError) -> CommandError {
        self.observe_backoff(&error);
        match error {
            EngineError::Refused { code: 429, .. } => self.rate_limiter.rate_limited(),
            error => write_error(what, error),
        }
    }

    /// Takes the pause that an answer of WhatsApp asks for, if it does.
    pub(super) fn observe_backoff(&self, error: &EngineError) {
        self.rate_limiter.observe_backoff(error);
    }

    /// Whether WhatsApp asked to slow down.
    pub(super) fn is_paused(&self) -> bool {
        self.rate_limiter.pause_left().is_some()
    }

    /// WhatsApp asks to slow down; the session's writes pause.
    pub(super) fn slow_down(&self) {
        self.rate_limiter.pause(None);
    }

    /// Counts what a request turned out to cost beyond what it began with.
    pub(super) fn consume(&self, cost: Cost) -> Result<(), CommandError> {
        self.rate_limiter.take(cost)
    }

    /// For a request whose caller has waited since then: WhatsApp gets what is left, so that the answer leaves in time.
    pub(super) fn count_from(&mut self, begun: Instant) {
        self.deadline = self.deadline.min(begun + WHATSAPP_TIMEOUT_MAX);
    }

    /// Whether WhatsApp's time for this request is over.
    pub(super) fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Tells the actor what a write means for the cache, before the command is over; false when there is no actor to tell.
    pub(super) fn tell(&self, change: GroupChange) -> bool {
        self.port.tell(change)
    }
}

/// The end of a write of one field: what it means for the cache, and the answer.
pub(super) fn field_finished(
    group: GroupId,
    write: WriteId,
    change: PendingChange,
    outcome: WriteResult<()>,
) -> Finished<()> {
    Finished::new(Some(field_change(group, write, change, &outcome)), outcome.result)
}

/// What the write of one field means for the cache.
pub(super) fn field_change(
    group: GroupId,
    write: WriteId,
    change: PendingChange,
    outcome: &WriteResult<()>,
) -> GroupChange {
    match &outcome.result {
        Ok(_) => GroupChange::Confirmed { group, write, done: Some(change) },
        Err(error) => GroupChange::Dropped { group, write, unknown: is_doubtful(error) },
    }
}

/// What a look says of a text that was to be changed. One that is neither ours nor the one before: somebody else was faster, or
/// WhatsApp changed ours.
pub(super) fn text_look(is_ours: bool, is_as_before: bool) -> Reconciliation<()> {
    match (is_ours, is_as_before) {
        (true, _) => Reconciliation::Applied(()),
        (false, true) => Reconciliation::NotApplied,
        (false, false) => Reconciliation::Unclear,
    }
}
