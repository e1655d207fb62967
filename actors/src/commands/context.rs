//! The common part of all commands' tasks: the engine call under a time limit, and the reconciling read when WhatsApp
//! did not answer.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use super::Finished;
use super::port::{CommandQuestion, GroupChange, GroupRead, ReadQuestion, SessionPort};
use super::whatsapp_codes::{TIME_LOCKED, is_doubtful, read_error, write_error};
use crate::error::CommandError;
use crate::group_cache::{Heard, PendingChange, WriteId};
use crate::options::WHATSAPP_TIMEOUT_MAX;
use crate::rate_limiter::{Cost, RateLimiter};
use crate::reply::Reply;
use rookery_engine::{Engine, EngineError};
use rookery_model::{Completeness, GroupId, GroupRecord, IncomingMessage, ReachoutTimelock};

/// Reconciling may take this long after WhatsApp's own time. With [`WHATSAPP_TIMEOUT_MAX`] every response leaves within
/// 26 s: clients give up at 30 s.
const RECONCILE_TIME: Duration = Duration::from_secs(5);
/// A write that is not seen for this long was not carried out: on a connection that answers, WhatsApp works in order.
const MISSING_TIME: Duration = Duration::from_secs(1);
/// The wait between two reads while the connection may be on its way back: a reconnect takes about a second.
const RECONCILE_INTERVAL: Duration = Duration::from_millis(100);

/// Everything that the task of a command needs.
pub(crate) struct CommandContext {
    pub(super) engine: Arc<Engine>,
    port: Arc<dyn SessionPort>,
    rate_limiter: Arc<RateLimiter>,
    /// The end of the wait for WhatsApp's answers, however many requests the command sends.
    deadline: Instant,
}

/// The result of a write.
pub(super) struct WriteResult<T> {
    pub(super) result: Result<T, CommandError>,
    /// The result comes from a read at WhatsApp, not from its answer. The cache has it, too.
    pub(super) read_back: bool,
}

/// What a read at WhatsApp says about a write that was not answered.
pub(super) enum Reconciliation<T> {
    /// The write was carried out, at least in part.
    Applied(T),
    /// The write was not carried out.
    NotApplied,
    /// There is no way to tell.
    Unclear,
    /// There is no result yet: the connection may not be back.
    NotYet,
}

impl<T> Reconciliation<T> {
    /// The result of a failed read: [`Self::NotYet`] where a later read may work, [`Self::Unclear`] where WhatsApp does
    /// not say.
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

    /// Waits for WhatsApp's answer until the deadline. A request that was certainly not sent gives
    /// [`CommandError::NotConnected`].
    pub(super) async fn ask<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, CommandError> {
        let answer = self.ask_as(call, |error| self.understood(what, error)).await;
        match answer.unwrap_or(Err(CommandError::OutcomeUnknown)) {
            Err(refused @ CommandError::TimeLocked { .. }) => Err(self.explained(what, refused, true).await),
            Err(refused @ CommandError::Refused { code: TIME_LOCKED, .. }) => {
                Err(self.explained(what, refused, false).await)
            }
            result => result,
        }
    }

    /// A refusal with the time lock that explains it, if there is one. `is_certain`: WhatsApp named the lock.
    async fn explained(&self, what: &'static str, refused: CommandError, is_certain: bool) -> CommandError {
        match self.active_timelock(is_certain).await {
            Some(timelock) => CommandError::TimeLocked { what, until: timelock.expires_at },
            None => refused,
        }
    }

    /// The time lock on reaching out; `None`: there is none, or that is not known.
    pub(super) async fn active_timelock(&self, is_certain: bool) -> Option<ReachoutTimelock> {
        let asked = self.ask_actor(|reply| CommandQuestion::Timelock { is_certain, reply });
        timeout_at(self.end(), asked).await.ok()?.ok()?.filter(|timelock| timelock.is_active)
    }

    /// `None`: no answer in time.
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

    /// Sends the request. When WhatsApp does not say what it did, `look` is called until that is clear or the time is
    /// over.
    pub(super) async fn carry_out<T, L: Future<Output = Reconciliation<T>>>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, EngineError>>,
        look: impl Fn() -> L,
    ) -> WriteResult<T> {
        match self.ask(what, call).await {
            Err(CommandError::OutcomeUnknown) => self.reconcile(CommandError::Unanswered, look).await,
            // One part of WhatsApp failed. Its answer does not say what the other parts have done by then.
            Err(failed @ CommandError::Refused { code: 500.., .. }) => self.reconcile(failed, look).await,
            result => WriteResult { result, read_back: false },
        }
    }

    /// Carries out a request that does no harm when it is sent twice: a second request reconciles it.
    pub(super) async fn carry_out_again<T, F: Future<Output = Result<T, EngineError>>>(
        &self,
        what: &'static str,
        call: impl Fn() -> F,
    ) -> Result<T, CommandError> {
        let again = || async {
            // Nothing can be sent without a connection, and each attempt is prepared anew, at a cost.
            if self.engine.sent().await.is_none() {
                return Reconciliation::NotYet;
            }
            self.look_up(call()).await.map_or_else(|look| look, Reconciliation::Applied)
        };
        self.carry_out(what, call(), again).await.result
    }

    /// Has a message that was sent told as an event. Returns when it is on disk, or cannot be: the message is sent either way.
    pub(super) async fn note_sent(&self, message: IncomingMessage) {
        if timeout_at(self.end(), self.port.sent(message)).await != Ok(true) {
            warn!("a message was sent and could not be put on disk");
        }
    }

    /// A missing write is looked for a second time, because WhatsApp may still be working on it. `missing`: the error
    /// when it is still missing then.
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

    /// Reads the group and has `judge` decide about the write. A group without content ([`Completeness::Stub`]) proves
    /// nothing.
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

    /// As [`Self::look_at`], for a write in a group that the account stays in.
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

    /// Has the actor read a group at WhatsApp, to see what this write did. The cache takes the group, too.
    ///
    /// # Errors
    /// The group could not be read now.
    pub(super) async fn read_back(&self, group: &GroupId, write: Option<WriteId>) -> Result<GroupRead, CommandError> {
        self.ask_actor(|reply| CommandQuestion::Read(ReadQuestion::ReadBack { group: group.clone(), write, reply }))
            .await
    }

    /// Has a group read until the cache shows the result or the time is over; true when the cache shows it (G-2).
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

    /// Has the actor read all groups at WhatsApp, so that the next read shows the change (G-2); false when that was not
    /// possible in time.
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

    /// Asks WhatsApp once more, to reconcile a write.
    ///
    /// # Errors
    /// The result of the reconciling read when there is no answer.
    pub(super) async fn look_up<T, V>(
        &self,
        call: impl Future<Output = Result<V, EngineError>>,
    ) -> Result<V, Reconciliation<T>> {
        call.await.map_err(|error| {
            self.observe_backoff(&error);
            if error.is_unanswered() { Reconciliation::NotYet } else { Reconciliation::Unclear }
        })
    }

    /// The end of the time for reconciling, and for the steps that follow a write.
    pub(super) fn end(&self) -> Instant {
        self.deadline + RECONCILE_TIME
    }

    /// The error for the caller. Notes a pause that WhatsApp asks for.
    fn understood(&self, what: &'static str, error: EngineError) -> CommandError {
        self.observe_backoff(&error);
        match error {
            EngineError::Refused { code: 429, .. } => self.rate_limiter.rate_limited(),
            error => write_error(what, error),
        }
    }

    /// As [`Self::question`], for a lookup of numbers: a pause that WhatsApp asks for is one of lookups alone.
    pub(super) async fn lookup<T>(
        &self,
        call: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, CommandError> {
        let understood = |error: EngineError| {
            self.rate_limiter.observe_lookup_backoff(&error);
            match error {
                EngineError::Refused { code: 429, .. } => self.rate_limiter.lookups_rate_limited(),
                error => read_error("Looking up numbers", error),
            }
        };
        self.ask_as(call, understood).await.unwrap_or(Err(CommandError::Unanswered))
    }

    /// Notes the pause that an answer of WhatsApp asks for, if there is one.
    pub(super) fn observe_backoff(&self, error: &EngineError) {
        self.rate_limiter.observe_backoff(error);
        if matches!(error, EngineError::Refused { code: 429, .. }) {
            self.port.limits_due();
        }
    }

    /// Whether WhatsApp asked to slow down.
    pub(super) fn is_paused(&self) -> bool {
        self.rate_limiter.pause_left().is_some()
    }

    /// WhatsApp asks to slow down; the session's writes pause.
    pub(super) fn slow_down(&self) {
        self.rate_limiter.pause(None);
    }

    /// Counts a cost that was not known when the request began.
    pub(super) fn consume(&self, cost: Cost) -> Result<(), CommandError> {
        self.rate_limiter.take(cost)
    }

    /// For a request whose caller has waited since `begun`: WhatsApp gets the rest of the time, so that the response
    /// leaves in time.
    pub(super) fn count_from(&mut self, begun: Instant) {
        self.deadline = self.deadline.min(begun + WHATSAPP_TIMEOUT_MAX);
    }

    /// Whether WhatsApp's time for this request is over.
    pub(super) fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Sends the actor the cache change of a write, before the command is over; false when there is no actor.
    pub(super) fn tell(&self, change: GroupChange) -> bool {
        self.port.tell(change)
    }
}

/// The end of a write of one field: the change to the cache, and the answer.
pub(super) fn field_finished(
    group: GroupId,
    write: WriteId,
    change: PendingChange,
    outcome: WriteResult<()>,
) -> Finished<()> {
    Finished::new(Some(field_change(group, write, change, &outcome)), outcome.result)
}

/// The cache change of a write of one field.
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

/// What a read says about a write of a text. When the text is neither ours nor the one before, somebody else was
/// faster, or WhatsApp changed our text.
pub(super) fn text_look(is_ours: bool, is_as_before: bool) -> Reconciliation<()> {
    match (is_ours, is_as_before) {
        (true, _) => Reconciliation::Applied(()),
        (false, true) => Reconciliation::NotApplied,
        (false, false) => Reconciliation::Unclear,
    }
}
