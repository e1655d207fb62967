//! The way of messages into a session's log: each is told once, however often it comes.
//!
//! ```text
//! engine, commands --take--> waiting --one caller at a time works for all--> known already? (log) --new ones--> actor --> journal
//!                                  all who waited are answered when their messages are on disk <--------------------+
//! ```
//!
//! A message comes again when WhatsApp did not hear of us that it arrived, and when its author's client sends it once more because we could
//! not decrypt it. The log is asked for both. Nobody else writes messages into it meanwhile: so there is no gap between looking and
//! writing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rookery_model::{IncomingContent, IncomingMessage, Receipt};
use tokio::sync::oneshot;
use tracing::warn;

use crate::context::Context;
use crate::directory::SessionHandle;
use crate::message_events::{Known, chat_names};
use crate::receipts;
use crate::session::message::{Came, CameMessage, CameMessages, Generation, SessionMsg};
use crate::session_log::blocking;
use rookery_engine::Inbox;
use rookery_store::Health;

/// Messages of several callers that are told together: some commits of the log.
const TOGETHER_MAX: usize = 512;

/// The messages of a session that wait to be looked at, and the turn to do so.
#[derive(Default)]
pub(crate) struct Intake {
    waiting: Mutex<Vec<Delivered>>,
    turn: tokio::sync::Mutex<()>,
}

/// Messages of one call.
struct Delivered {
    generation: Generation,
    /// As in [`CameMessages`].
    are_own: bool,
    messages: Vec<IncomingMessage>,
    kept: oneshot::Sender<bool>,
}

/// The inbox of one engine.
pub(crate) struct EngineInbox {
    /// Tasks that the engine leaves behind may hold this for a while: they keep no store open.
    pub(crate) context: Weak<Context>,
    pub(crate) entry: Arc<SessionHandle>,
    pub(crate) generation: Generation,
}

impl Inbox for EngineInbox {
    fn take(&self, messages: Vec<IncomingMessage>) -> BoxFuture<'static, bool> {
        take(&self.entry, self.generation, messages, false)
    }

    fn take_receipt(&self, receipt: Receipt) {
        receipts::take(&self.entry, self.generation, receipt);
    }

    fn is_open(&self) -> bool {
        let is_open = |context: &Context| context.store.health() == Health::Ok && context.log.health() == Health::Ok;
        self.context.upgrade().is_some_and(|context| is_open(&context))
    }
}

/// Takes messages of the engine with this generation. `are_own`: this session sent them. Resolves to whether all are on disk.
pub(crate) fn take(
    entry: &Arc<SessionHandle>,
    generation: Generation,
    messages: Vec<IncomingMessage>,
    are_own: bool,
) -> BoxFuture<'static, bool> {
    let (kept, answer) = oneshot::channel();
    entry.intake.lock().push(Delivered { generation, are_own, messages, kept });
    let entry = entry.clone();
    // A task of its own: a caller who gives up must not give the turn to others while messages are on their way.
    tokio::spawn(async move {
        let turn = entry.intake.turn.lock().await;
        // Nothing may be left: whoever had the turn before took our messages along.
        let delivered = std::mem::take(&mut *entry.intake.lock());
        work(&entry, delivered).await;
        drop(turn);
    });
    answer.map(|kept| kept.unwrap_or(false)).boxed()
}

impl Intake {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Delivered>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the messages told that are not known yet. Those of one engine together.
async fn work(entry: &Arc<SessionHandle>, delivered: Vec<Delivered>) {
    let mut delivered = delivered.into_iter().peekable();
    while let Some(first) = delivered.next() {
        let of = (first.generation, first.are_own);
        let (mut messages, mut callers) = (first.messages, vec![first.kept]);
        let fits = |next: &Delivered, count: usize| (next.generation, next.are_own) == of && count < TOGETHER_MAX;
        while let Some(next) = delivered.next_if(|next| fits(next, messages.len())) {
            messages.extend(next.messages);
            callers.push(next.kept);
        }
        let are_kept = keep(entry, of, messages).await;
        for caller in callers {
            // A caller who is gone has nothing to do with the answer.
            let _ = caller.send(are_kept);
        }
    }
}

/// Returns whether all of the messages are on disk.
async fn keep(entry: &Arc<SessionHandle>, of: (Generation, bool), messages: Vec<IncomingMessage>) -> bool {
    let mut left = messages.into_iter().peekable();
    while left.peek().is_some() {
        let part = independent(&mut left);
        let log = entry.log.clone();
        let session = entry.id;
        let looked = blocking(move || {
            let look = |message: IncomingMessage| {
                let known = log.known(&message).unwrap_or_else(|error| {
                    // Told twice is better than never: a file that cannot be read may stay so.
                    warn!(session.id = %session, %error, "could not look up a message in the event log");
                    Known::New { replaces: None }
                });
                (known, log.opened(message))
            };
            Ok(part.into_iter().map(look).collect::<Vec<_>>())
        });
        let Ok(known) = looked.await else { return false };
        let came: Vec<CameMessage> = known
            .into_iter()
            .filter_map(|(known, message)| match known {
                Known::Told | Known::Void => None,
                Known::New { replaces } => Some(CameMessage { message, replaces }),
            })
            .collect();
        if !came.is_empty() && !told(entry, of, came).await {
            return false;
        }
    }
    true
}

/// As many messages as do not depend on each other: the next one may be the same message, or change it.
fn independent(left: &mut std::iter::Peekable<impl Iterator<Item = IncomingMessage>>) -> Vec<IncomingMessage> {
    let (mut part, mut seen) = (Vec::new(), HashSet::new());
    let names = |message: &IncomingMessage| {
        let target = match &message.content {
            IncomingContent::Edited { target, .. }
            | IncomingContent::Revoked { target, .. }
            | IncomingContent::Reaction { target, .. }
            | IncomingContent::Vote { target, .. } => Some(target.clone()),
            IncomingContent::Message(_) | IncomingContent::Masked => None,
        };
        let chats = chat_names(&message.chat);
        let ids: Vec<String> = target.into_iter().chain([message.id.clone()]).collect();
        chats.into_iter().flat_map(move |chat| ids.clone().into_iter().map(move |id| (chat.clone(), id)))
    };
    while let Some(message) = left.next_if(|message| names(message).all(|name| !seen.contains(&name))) {
        seen.extend(names(&message));
        part.push(message);
    }
    part
}

/// Has the actor tell of new messages. Returns whether they are on disk.
async fn told(entry: &SessionHandle, (generation, are_own): (Generation, bool), messages: Vec<CameMessage>) -> bool {
    let Some(actor) = entry.actor.load_full() else { return false };
    let (kept, answer) = oneshot::channel();
    let _ = actor.send_message(SessionMsg::Came(Came::Messages(CameMessages { generation, are_own, messages, kept })));
    answer.await.unwrap_or(false)
}
