//! The way of a command's task to its session's actor.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use ractor::ActorRef;
use rookery_model::IncomingMessage;

use super::message::{Generation, SessionMsg};
use crate::commands::{CommandQuestion, GroupChange, SessionPort};
use crate::directory::SessionHandle;
use crate::inbox;

/// A [`SessionPort`] to an actor of this daemon.
pub(super) struct ActorPort {
    myself: ActorRef<SessionMsg>,
    entry: Arc<SessionHandle>,
    /// The engine that the command asks.
    generation: Generation,
}

impl ActorPort {
    pub(super) fn new(myself: ActorRef<SessionMsg>, entry: Arc<SessionHandle>, generation: Generation) -> Self {
        Self { myself, entry, generation }
    }
}

impl SessionPort for ActorPort {
    fn tell(&self, change: GroupChange) -> bool {
        self.myself.send_message(SessionMsg::GroupChanged { generation: self.generation, change }).is_ok()
    }

    fn ask(&self, question: CommandQuestion) -> bool {
        let actor = self.entry.actor.load_full();
        actor.is_some_and(|actor| actor.send_message(SessionMsg::CommandAsked(question)).is_ok())
    }

    fn sent(&self, message: IncomingMessage) -> BoxFuture<'static, bool> {
        inbox::take(&self.entry, self.generation, vec![message], true)
    }

    fn limits_due(&self) {
        let _ = self.myself.send_message(SessionMsg::LimitsDue);
    }
}
