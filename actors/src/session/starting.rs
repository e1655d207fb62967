//! A start that comes while the engine before is still closing: it waits for the end, and then starts.

use std::sync::Arc;
use std::time::Duration;

use super::SessionState;
use super::message::SessionMsg;
use crate::error::CommandError;
use crate::reply::Reply;
use rookery_model::Session;

/// A connection closes within a moment. A caller who restarts a session should not get an error for that. The wait is
/// not longer than callers accept without a thought.
const CLOSING_WAIT: Duration = Duration::from_secs(5);
/// Starts that wait for the same end: the first one starts the session, and the others get `AlreadyStarted`.
const STARTS_WAITING_MAX: usize = 16;

/// Callers who wait to start the session.
#[derive(Default)]
pub(super) struct Starts {
    waiting: Vec<(bool, Reply<Arc<Session>>)>,
    /// Counts the ends that were waited for: the time limit of an earlier end says nothing about this one.
    round: u64,
}

impl Starts {
    /// Takes the waiting callers, and ends their wait.
    fn take(&mut self) -> Vec<(bool, Reply<Arc<Session>>)> {
        self.round += 1;
        std::mem::take(&mut self.waiting)
    }
}

impl SessionState {
    pub(super) fn start_after_closing(&mut self, allow_account_change: bool, reply: Reply<Arc<Session>>) {
        if self.starts.waiting.len() >= STARTS_WAITING_MAX {
            return drop(reply.send(Err(CommandError::Restarting)));
        }
        if self.starts.waiting.is_empty() {
            let round = self.starts.round;
            self.myself.send_after(CLOSING_WAIT, move || SessionMsg::ClosingOverdue { round });
        }
        self.starts.waiting.push((allow_account_change, reply));
    }

    /// Starts the session for the waiting callers, as the engine is gone.
    pub(super) fn start_those_waiting(&mut self) {
        for (allow_account_change, reply) in self.starts.take() {
            self.start(allow_account_change, reply);
        }
    }

    /// Refuses the waiting starts: closing takes too long, or somebody wants the session stopped.
    pub(super) fn refuse_starts(&mut self) {
        for (_, reply) in self.starts.take() {
            let _ = reply.send(Err(CommandError::Restarting));
        }
    }

    pub(super) fn closing_overdue(&mut self, round: u64) {
        if self.starts.round == round {
            self.refuse_starts();
        }
    }
}
