//! Reading messages out of a session's log: a chat's newest ones, one of them, and what became of each since.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rookery_model::{
    EarlierContent, EarlierMessage, Event, EventKind, MessageEventKind, MessageNote, ParticipantId, ParticipantIds,
    Timestamp,
};
use rookery_store::StoreError;
use serde_json::{Value, json};

use super::SessionLog;
use super::reading::{SessionEvents, blocking};
use crate::error::CommandError;
use crate::message_events::{
    ALL, MASKED, MESSAGE, Noted as _, REPLACEMENT, REPLACING_CHANGE, is_message, mark_of, of_changes, of_chat,
    of_reactions,
};

/// Messages that one page looks at where it leaves some out, and their bytes: some 100 ms.
const SEEN_MAX: usize = 10_000;
const SEEN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Edits and deletions of one message that are looked at, the newest first: of more, the latest permitted one counts.
const CHANGES_MAX: usize = 64;
/// Reactions to one message that are looked at, the newest first: a group has no more people.
const REACTIONS_MAX: usize = 1_024;
/// Bytes of a reaction in a page.
const REACTION_BYTES: usize = 128;
/// Bytes of the texts after which a page ends early: nobody may have the daemon hold many of the longest messages.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Rows of the index that are read at a time.
const ROWS_COUNT: usize = 256;

/// A message with what became of it since.
#[derive(Clone, Debug)]
pub struct KeptMessage {
    /// The event that told of it. Its data has the latest text; of a message that was deleted for everybody, none.
    pub event: Event,
    /// The latest reaction of each person, in the order of people.
    pub reactions: Vec<Reaction>,
    /// It has another text than at first.
    pub is_edited: bool,
}

/// A message that another one refers to, as it was kept.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Which it is.
    pub message: EarlierMessage,
    /// When WhatsApp took it.
    pub at: Timestamp,
    /// What kind it is now: a message may have been deleted since.
    pub kind: String,
    /// Its content; `None`: it is not kept.
    pub content: Option<EarlierContent>,
}

/// Somebody's reaction to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaction {
    /// Who reacted.
    pub sender: ParticipantId,
    /// With what.
    pub emoji: String,
    /// When, in seconds since 1970.
    pub timestamp: i64,
}

/// A page of messages.
#[derive(Debug)]
pub struct MessagePage {
    /// The newest first.
    pub messages: Vec<KeptMessage>,
    /// How many there are in all.
    pub total: usize,
}

/// Whose messages are wanted.
pub enum MessagesOf {
    /// Those of the whole session.
    All,
    /// Those of the chat with this id.
    Chat(String),
}

impl MessagesOf {
    fn name(&self) -> Vec<&[u8]> {
        match self {
            Self::All => ALL.to_vec(),
            Self::Chat(chat) => of_chat(chat).to_vec(),
        }
    }
}

impl SessionEvents {
    /// Messages, the newest first: at most `count`, fewer where their texts are very long, after `offset` others. `is_wanted`, where there is one, is asked of the latest 10,000 messages, and
    /// the total counts those of them.
    ///
    /// # Errors
    /// [`CommandError::Store`] when the log cannot be read.
    pub async fn messages(
        &self,
        of: MessagesOf,
        offset: usize,
        count: usize,
        is_wanted: Option<impl Fn(&Event) -> bool + Send + 'static>,
    ) -> Result<MessagePage, CommandError> {
        let log = self.log()?;
        blocking(move || {
            let (mut messages, mut left, mut bytes) = (Vec::new(), offset, 0);
            let mut total = 0;
            let of = of.name();
            let of = of.as_slice();
            let mut take = |number: u64, event: Option<Event>| -> Result<bool, StoreError> {
                if left > 0 {
                    left -= 1;
                } else if messages.len() < count && bytes < PAGE_BYTES_MAX {
                    let event = event.map_or_else(|| log.read_these(&[number]), |event| Ok(vec![event]))?;
                    for event in event {
                        let message = log.with_changes(event)?;
                        bytes += bytes_in(&message.event) + message.reactions.len() * REACTION_BYTES;
                        messages.push(message);
                    }
                } else {
                    return Ok(false);
                }
                Ok(true)
            };
            match is_wanted {
                None => {
                    log.walk(of, usize::MAX, |number| take(number, None))?;
                    let told = log.count_tagged(of, |mark| mark == MESSAGE || mark == MASKED)?;
                    total = told.saturating_sub(log.count_tagged(of, |mark| mark == REPLACING_CHANGE)?);
                }
                Some(is_wanted) => {
                    let mut seen_bytes = 0;
                    log.walk(of, SEEN_MAX, |number| {
                        for event in log.read_these(&[number])? {
                            seen_bytes += bytes_in(&event);
                            if is_wanted(&event) {
                                total += 1;
                                take(number, Some(event))?;
                            }
                        }
                        Ok(seen_bytes < SEEN_BYTES_MAX)
                    })?;
                }
            }
            Ok(MessagePage { messages, total })
        })
        .await
    }

    /// The message with this id in this chat; `None`: the log does not have it.
    ///
    /// # Errors
    /// As [`Self::messages`].
    pub async fn message(&self, chat: String, id: String) -> Result<Option<KeptMessage>, CommandError> {
        let log = self.log()?;
        blocking(move || {
            let mut found = log.with_id(&[chat], &id, None)?;
            found.retain(|event| mark_of(event).is_some_and(is_message));
            // Others may use the id later: it is the first one's, as it can be read now.
            let first = found.last().and_then(|event| event.message.clone());
            let is_of_first = |event: &Event| event.message.as_deref().zip(first.as_deref()).is_some_and(is_of_same);
            found.into_iter().find(is_of_first).map(|event| log.with_changes(event)).transpose()
        })
        .await
    }
}

impl SessionEvents {
    /// The message with this id in this chat, for another one that refers to it; `None`: the log does not have it.
    ///
    /// # Errors
    /// As [`Self::messages`].
    pub async fn stored_message(&self, chat: String, id: String) -> Result<Option<StoredMessage>, CommandError> {
        let Some(KeptMessage { event, is_edited, .. }) = self.message(chat, id).await? else { return Ok(None) };
        let (log, number) = (self.log()?, event.number);
        let whole = blocking(move || log.read_whole(number)).await?;
        let Some(note) = whole.and_then(|whole| whole.message) else { return Ok(None) };
        let mut author = ParticipantIds::default();
        note.authors.iter().for_each(|id| author.learn(&(*id).into()));
        let text_of = |field: &str| event.data.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let protocol = note.protocol.and_then(|protocol| STANDARD.decode(protocol).ok());
        Ok(Some(StoredMessage {
            message: EarlierMessage { id: note.id, is_from_me: note.is_from_me, author },
            at: event.occurred_at,
            kind: text_of("type"),
            content: protocol.map(|protocol| EarlierContent { protocol, text: is_edited.then(|| text_of("body")) }),
        }))
    }
}

impl SessionLog {
    /// Shows the numbers of messages with this name, the newest first, until there are `count`, or `take` says that it is enough. Of a
    /// message that came once more, only the readable one. Blocks.
    fn walk(
        &self,
        name: &[&[u8]],
        count: usize,
        mut take: impl FnMut(u64) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let (mut before, mut seen, mut replaced) = (u64::MAX, 0, HashSet::new());
        loop {
            let rows = self.tagged(name, before, ROWS_COUNT, None)?;
            let Some(last) = rows.last() else { return Ok(()) };
            before = last.number;
            for row in rows {
                if row.mark == REPLACEMENT || row.mark == REPLACING_CHANGE {
                    replaced.extend(self.read_these(&[row.number])?.first().and_then(replaces));
                }
                if !is_message(row.mark) || (row.mark == MASKED && replaced.contains(&row.number)) {
                    continue;
                }
                seen += 1;
                if seen > count || !take(row.number)? {
                    return Ok(());
                }
            }
        }
    }

    /// Adds what became of a message since. Blocks.
    fn with_changes(&self, mut event: Event) -> Result<KeptMessage, StoreError> {
        let mut message = KeptMessage { event: event.clone(), reactions: Vec::new(), is_edited: false };
        let Some(note) = event.message.take() else { return Ok(message) };
        let [changes, reactions] = [(false, CHANGES_MAX), (true, REACTIONS_MAX)].map(|(is_of_reactions, most)| {
            let mut numbers = BTreeSet::new();
            for chat in &note.chats {
                let name = if is_of_reactions { of_reactions(chat, &note.id) } else { of_changes(chat, &note.id) };
                numbers.extend(self.tagged(&name, u64::MAX, most, None)?.into_iter().map(|row| row.number));
            }
            Ok::<_, StoreError>(numbers)
        });
        for number in changes?.into_iter().rev() {
            let Some(change) = self.read_these(&[number])?.pop() else { continue };
            let Some(by) = change.message.as_deref().filter(|by| by.id == note.id) else { continue };
            let is_for_it = by.has_author_of(&note) || by.written_by.iter().any(|id| note.authors.contains(id));
            match change.kind {
                EventKind::Message(MessageEventKind::Revoked) if is_for_it => {
                    message.event.data.retain(|field, _| !CONTENT.contains(&field.as_str()));
                    message.event.data.insert("body".to_owned(), json!(""));
                    message.event.data.insert("type".to_owned(), json!("revoked"));
                    break;
                }
                EventKind::Message(MessageEventKind::Edited) if by.has_author_of(&note) && !message.is_edited => {
                    message.is_edited = true;
                    let body = change.data.get("body").cloned().unwrap_or_default();
                    message.event.data.insert("body".to_owned(), body);
                }
                _ => {}
            }
        }
        let mut latest = BTreeMap::new();
        for number in reactions?.into_iter().rev() {
            let Some(change) = self.read_these(&[number])?.pop() else { continue };
            let (true, Some(sender)) = (change.message.is_some_and(|by| by.id == note.id), change.actor) else {
                continue;
            };
            let of_change = |field: &str| change.data.get(field).cloned().unwrap_or_default();
            let emoji = of_change("reaction").as_str().unwrap_or_default().to_owned();
            let timestamp = of_change("timestamp").as_i64().unwrap_or_default();
            latest.entry(sender).or_insert(Reaction { sender, emoji, timestamp });
        }
        message.reactions = latest.into_values().filter(|reaction| !reaction.emoji.is_empty()).collect();
        Ok(message)
    }
}

/// What is gone of a message that was deleted for everybody.
const CONTENT: [&str; 5] = ["media", "quotedMessage", "location", "poll", "mentionedIds"];

fn is_of_same((one, other): (&MessageNote, &MessageNote)) -> bool {
    one.has_author_of(other)
}

/// The bytes of an event's texts, about as many as it takes in memory.
fn bytes_in(event: &Event) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(of).sum(),
            Value::Object(fields) => fields.values().map(of).sum(),
            _ => 8,
        }
    }
    event.data.values().map(of).sum::<usize>() + 256
}

/// The number of the event in whose place this one is.
fn replaces(event: &Event) -> Option<u64> {
    event.data.get("replaces").and_then(Value::as_u64)
}
