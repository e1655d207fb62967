//! The way of receipts into a session's log: who has which message of the account, and since when.
//!
//! ```text
//! engine --take--> waiting --one task, a round at a time--> of which message? what is new? (log) --> actor --> journal
//! ```
//!
//! In a chat with a person, each step is an event (`message.ack`). In a group, the steps of its people are in events of another kind
//! (`message.receipts`), many in one, and `message.ack` tells of a step once all people have come so far.

mod progress;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rookery_model::{Event, IncomingChat, Receipt};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

use crate::directory::SessionHandle;
use crate::message_events::chat_names;
use crate::session::message::{Came, Generation, SessionMsg};
use crate::session_log::{SessionLog, blocking};
pub(crate) use progress::{Found, Progress};
pub use progress::{MessageReceipts, NoReceipts, PersonReceipts};

/// Receipts of a session that wait; further ones are left out.
const WAITING_MAX: usize = 16_384;
/// Receipts of groups gather for this long, while none of a person comes: each round writes an event per message.
const GATHERING: Duration = Duration::from_millis(100);
/// A receipt may be here before the event of its message is on disk. It is looked at again after this time, which doubles: for 32 s in all.
const EARLY_RETRY: Duration = Duration::from_millis(250);
const EARLY_LOOKS_MAX: u32 = 7;
/// What is known of messages is kept in memory while there was a receipt within this time.
const IDLE_TIME: Duration = Duration::from_secs(10);
/// People of the messages that are in memory.
const PEOPLE_MAX: usize = 4_096;

/// The receipts of a session that are on their way into its log.
#[derive(Default)]
pub(crate) struct Receipts {
    queue: Mutex<Queue>,
    /// There is a receipt.
    came: Notify,
    /// There is a receipt of a person's chat, which is told at once.
    came_of_person: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// A task works for those that wait.
    is_served: bool,
}

/// A receipt of one message.
struct Waiting {
    generation: Generation,
    receipt: Receipt,
    id: String,
    /// When it is looked at.
    due: Instant,
    /// How often it was too early.
    looks: u32,
}

/// Takes a receipt of the engine with this generation.
pub(crate) fn take(entry: &Arc<SessionHandle>, generation: Generation, mut receipt: Receipt) {
    let (ids, due) = (std::mem::take(&mut receipt.ids), Instant::now());
    let is_of_person = matches!(receipt.chat, IncomingChat::Person(_));
    let mut queue = entry.receipts.lock();
    if queue.waiting.len() + ids.len() > WAITING_MAX {
        return warn!(session.id = %entry.id, "too many receipts wait for the log, some are left out");
    }
    queue.waiting.extend(ids.into_iter().map(|id| Waiting { generation, receipt: receipt.clone(), id, due, looks: 0 }));
    let is_served = std::mem::replace(&mut queue.is_served, true);
    drop(queue);
    entry.receipts.came.notify_one();
    if is_of_person {
        entry.receipts.came_of_person.notify_one();
    }
    if !is_served {
        tokio::spawn(serve(entry.clone()));
    }
}

impl Receipts {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody waits: then the task that served ends.
    fn is_done(&self) -> bool {
        let mut queue = self.lock();
        queue.is_served = !queue.waiting.is_empty();
        !queue.is_served
    }
}

async fn serve(entry: Arc<SessionHandle>) {
    let (mut known, mut early) = (Known::default(), Vec::<Waiting>::new());
    loop {
        let (mut round, now) = (std::mem::take(&mut entry.receipts.lock().waiting), Instant::now());
        round.extend(early.extract_if(.., |waiting| waiting.due <= now));
        if round.is_empty() {
            let until = early.iter().map(|waiting| waiting.due).min().unwrap_or(now + IDLE_TIME);
            let has_come = timeout_at(until, entry.receipts.came.notified()).await.is_ok();
            if !has_come && early.is_empty() && entry.receipts.is_done() {
                return;
            }
            continue;
        }
        let log = entry.log.clone();
        let looked = blocking(move || {
            let looked = known.look(&log, round);
            Ok((known, looked))
        });
        let looked = looked.await.inspect_err(|error| {
            warn!(session.id = %entry.id, %error, "could not look up the messages of receipts in the event log");
        });
        let (kept, Looked { events, early: too_early }) = looked.unwrap_or_default();
        known = kept;
        early.extend(too_early.into_iter().filter_map(Waiting::later));
        early.truncate(WAITING_MAX);
        for (generation, events) in events {
            told(&entry, generation, events).await;
        }
        let _ = timeout(GATHERING, entry.receipts.came_of_person.notified()).await;
    }
}

impl Waiting {
    /// The same for the next look; `None`: it has waited long enough.
    fn later(mut self) -> Option<Self> {
        self.due = Instant::now() + EARLY_RETRY * 2_u32.pow(self.looks);
        self.looks += 1;
        (self.looks <= EARLY_LOOKS_MAX).then_some(self)
    }
}

/// Has the actor tell of receipts. Returns when they are on disk, or wait for it.
async fn told(entry: &SessionHandle, generation: Generation, events: Vec<Event>) {
    let Some(actor) = entry.actor.load_full() else { return };
    let (kept, answer) = oneshot::channel();
    let _ = actor.send_message(SessionMsg::Came(Came::Receipts { generation, events, kept }));
    let _ = answer.await;
}

/// A name of a message's chat, and the message's id.
type Key = (String, String);

/// What is known of the messages that had receipts a moment ago.
#[derive(Default)]
struct Known {
    messages: HashMap<Key, Box<Progress>>,
    /// Oldest first.
    order: VecDeque<Key>,
    /// Those with news.
    changed: Vec<Key>,
    /// The engine whose account the messages are of.
    generation: Generation,
}

#[derive(Default)]
struct Looked {
    events: Vec<(Generation, Vec<Event>)>,
    early: Vec<Waiting>,
}

impl Known {
    /// Takes what is new of these receipts. Blocks.
    fn look(&mut self, log: &SessionLog, round: Vec<Waiting>) -> Looked {
        // A message in a large group has a thousand receipts: it is looked for once.
        let (mut looked, mut missing) = (Looked::default(), HashSet::new());
        for waiting in round {
            if waiting.generation != self.generation {
                looked.events.extend(self.news(log));
                *self = Self { generation: waiting.generation, ..Self::default() };
            }
            let chats = chat_names(&waiting.receipt.chat);
            let Some(chat) = chats.first() else { continue };
            let key = (chat.clone(), waiting.id.clone());
            if missing.contains(&key) {
                looked.early.push(waiting);
                continue;
            }
            if !self.messages.contains_key(&key) {
                // What cannot be read now may be later.
                match Progress::load(log, &chats, &waiting.id).unwrap_or(Found::Nothing) {
                    Found::Own(progress) => self.keep(key.clone(), progress),
                    Found::Other => continue,
                    Found::Nothing => {
                        missing.insert(key);
                        looked.early.push(waiting);
                        continue;
                    }
                }
            }
            let Some(progress) = self.messages.get_mut(&key) else { continue };
            if progress.take(&waiting.receipt) && !self.changed.contains(&key) {
                self.changed.push(key);
            }
        }
        looked.events.extend(self.news(log));
        self.trim();
        looked
    }

    /// The events that tell of what changed.
    fn news(&mut self, log: &SessionLog) -> Option<(Generation, Vec<Event>)> {
        let changed = std::mem::take(&mut self.changed);
        let news = changed.iter().filter_map(|key| Some(self.messages.get_mut(key)?.news(log.session())));
        let events: Vec<Event> = news.flatten().collect();
        // These had receipts last.
        self.order.retain(|key| !changed.contains(key));
        self.order.extend(changed);
        (!events.is_empty()).then_some((self.generation, events))
    }

    fn keep(&mut self, key: Key, progress: Box<Progress>) {
        self.messages.insert(key.clone(), progress);
        self.order.push_back(key);
    }

    /// Forgets the messages whose last receipt was longest ago, but one.
    fn trim(&mut self) {
        let mut people: usize = self.messages.values().map(|message| message.people_count()).sum();
        while people > PEOPLE_MAX
            && self.order.len() > 1
            && let Some(oldest) = self.order.pop_front()
        {
            people -= self.messages.remove(&oldest).map_or(0, |message| message.people_count());
        }
    }
}
