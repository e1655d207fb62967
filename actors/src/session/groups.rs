//! Groups in the session's actor: beginning commands, taking their changes, and having groups read.

use std::future::Future;
use std::time::Duration;

use super::SessionState;
use super::message::{Generation, SessionMsg};
use super::refresher::Step;
use crate::commands::{Execute, GroupChange, SessionAccess, read_error};
use crate::error::CommandError;
use crate::group_cache::Sequence;
use rookery_engine::EngineError;
use rookery_model::{GroupId, Timestamp};

/// WhatsApp's notification about our own write comes within milliseconds; after this long the group is read instead.
const ECHO_TIMEOUT: Duration = Duration::from_secs(5);
/// Notifications may come this long after an answer that was sent with or after them: each is handled by a task of its
/// own.
const LATE_NOTIFICATION_TIME: Duration = Duration::from_millis(150);

impl SessionState {
    /// Whether commands can ask WhatsApp.
    pub(super) fn is_ready(&self) -> bool {
        self.engine.ready(self.record.status).is_ok()
    }

    /// Begins a command (409 is decided here and nowhere else).
    pub(super) fn execute(&mut self, command: Box<dyn Execute>) {
        let stale_for = self.stale_for();
        let mut access = SessionAccess {
            cache: &mut self.cache,
            creations: &mut self.creations,
            me: self.record.me(),
            engine: self.engine.ready(self.record.status),
            port: self.port.clone(),
            rate_limiter: self.entry.rate_limiter.clone(),
            stale_for,
            whatsapp_timeout: self.context.options.whatsapp_timeout,
            spent: Duration::ZERO,
        };
        if let Some(read) = command.execute(&mut access) {
            self.refresher.share(read);
        }
    }

    /// How long nothing was received from WhatsApp, when the cache may be behind: `None` while the session is ready.
    fn stale_for(&self) -> Result<Option<Duration>, CommandError> {
        match self.engine.ready(self.record.status) {
            Ok(_) => Ok(None),
            Err(CommandError::NotConnected) if self.cache.is_filled() => {
                // When nothing was received since the daemon's start, the recorded wall-clock time is used.
                let noted_at = self.record.last_active.or(self.record.connected_at).unwrap_or(Timestamp(0));
                let noted_ago = || u64::try_from(Timestamp::now().0.saturating_sub(noted_at.0)).unwrap_or_default();
                let heard_ago = self.entry.wire.heard_at().map(|at| at.elapsed());
                Ok(Some(heard_ago.unwrap_or_else(|| Duration::from_millis(noted_ago()))))
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the cache change of a command that is over, before its caller is answered.
    pub(super) fn group_changed(&mut self, generation: Generation, change: GroupChange) {
        if !self.engine.is_current(generation) {
            // The change is from an earlier engine: all groups are read before this one is ready (K-3).
            return;
        }
        match change {
            GroupChange::Confirmed { group, write, done } => {
                self.cache.confirm_write(&group, write, done);
                let before = self.cache.sequence();
                self.myself.send_after(LATE_NOTIFICATION_TIME, move || SessionMsg::UnsureDue { group, before });
                self.myself.send_after(ECHO_TIMEOUT, move || SessionMsg::EchoesDue { before });
            }
            GroupChange::Dropped { group, write, unknown } => {
                self.cache.drop_write(&group, write, unknown);
                self.refresher.schedule_doubts(&self.cache);
            }
            GroupChange::Created { record, key, asked } => {
                self.creations.note(&key, &record.id);
                self.cache.created(*record, asked);
            }
            GroupChange::Left { group } => self.cache.left(&group),
            GroupChange::NumbersFound { learnt, asked } => {
                let now = Timestamp::now();
                learnt.iter().for_each(|answer| self.cache.numbers.learn(answer.number, answer.account, now));
                drop(asked);
            }
            GroupChange::NumbersForgotten(numbers) => {
                numbers.into_iter().for_each(|number| self.cache.numbers.forget(number));
            }
            GroupChange::Doubtful { group } => {
                self.cache.mark_for_read(&group);
                self.refresher.schedule_doubts(&self.cache);
            }
        }
    }

    pub(super) fn unsure_due(&mut self, group: &GroupId, before: Sequence) {
        if self.cache.end_unsure(group, before) {
            self.refresher.schedule_doubts(&self.cache);
        }
    }

    pub(super) fn echoes_due(&mut self, before: Sequence) {
        self.cache.mark_unechoed(before);
        self.refresher.schedule_doubts(&self.cache);
    }

    /// Starts the reads that the refresher asks for.
    pub(super) fn read_groups(&mut self) {
        for step in self.refresher.take_steps() {
            match (step, self.engine.any()) {
                (Step::WakeUp { due, delay }, _) => {
                    self.myself.send_after(delay, move || SessionMsg::RefreshDue(due));
                }
                (Step::ReadAll | Step::ReadOne { .. }, None) => self.refresher.end(),
                (Step::ReadAll, Some(engine)) => {
                    let (asked, generation) = (self.cache.sequence(), self.engine.generation());
                    let read = async move { engine.read_all_groups().await };
                    self.read("Reading the groups", read, move |groups| SessionMsg::AllGroupsRead {
                        generation,
                        asked,
                        groups,
                    });
                }
                (Step::ReadOne { group, delay }, Some(engine)) => {
                    let (asked, generation, id) = (self.cache.sequence(), self.engine.generation(), group.clone());
                    let read = async move {
                        tokio::time::sleep(delay).await;
                        Ok(engine.read_group(&id).await?.map(Box::new))
                    };
                    self.read("Reading the group", read, move |answer| SessionMsg::GroupRead {
                        generation,
                        group,
                        asked,
                        answer,
                    });
                }
            }
        }
    }

    /// Reads in a task, under a time limit, and sends the actor the result in every case.
    fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        read: impl Future<Output = Result<T, EngineError>> + Send + 'static,
        message: impl FnOnce(Result<T, CommandError>) -> SessionMsg + Send + 'static,
    ) {
        let (myself, rate_limiter) = (self.myself.clone(), self.entry.rate_limiter.clone());
        let limit = self.context.options.whatsapp_timeout;
        tokio::spawn(async move {
            // The read has a task of its own: a panic in it still gives a result.
            let answer = match tokio::spawn(tokio::time::timeout(limit, read)).await {
                Ok(Ok(answer)) => answer.map_err(|error| {
                    rate_limiter.observe_backoff(&error);
                    read_error(what, error)
                }),
                _ => Err(CommandError::Unanswered),
            };
            let _ = myself.send_message(message(answer));
        });
    }
}
