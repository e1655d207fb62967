//! Reading messages out of a session's log: a chat's newest ones, one of them, and what became of each since.

use std::collections::{BTreeMap, HashSet};

use rookery_model::{Event, EventKind, MessageEventKind, ParticipantId};
use rookery_store::StoreError;
use serde_json::{Value, json};

use super::SessionLog;
use super::reading::{SessionEvents, blocking};
use crate::error::CommandError;
use crate::message_events::{ALL, CHANGE, MASKED, MESSAGE, REPLACEMENT, mark_of, of_chat};

/// Messages that one page looks at where it leaves some out: some 50 ms.
const SEEN_MAX: usize = 10_000;
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
                        bytes += event.data.get("body").and_then(Value::as_str).map_or(0, str::len);
                        messages.push(log.with_changes(event)?);
                    }
                } else {
                    return Ok(false);
                }
                Ok(true)
            };
            match is_wanted {
                None => {
                    log.walk(of, usize::MAX, |number| take(number, None))?;
                    total = log.count_tagged(of, |mark| mark == MESSAGE || mark == MASKED)?;
                }
                Some(is_wanted) => log.walk(of, SEEN_MAX, |number| {
                    for event in log.read_these(&[number])?.into_iter().filter(&is_wanted) {
                        total += 1;
                        take(number, Some(event))?;
                    }
                    Ok(true)
                })?,
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
            let about = log.about(&[chat], &id, None)?;
            let is_it = |event: &Event| {
                let is_message = mark_of(event).is_some_and(|mark| mark != CHANGE);
                is_message && event.message.as_ref().is_some_and(|note| note.id == id)
            };
            about.into_iter().find(is_it).map(|event| log.with_changes(event)).transpose()
        })
        .await
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
                if row.mark == REPLACEMENT {
                    replaced.extend(self.read_these(&[row.number])?.first().and_then(replaces));
                }
                if row.mark == CHANGE || (row.mark == MASKED && replaced.contains(&row.number)) {
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
        let Some(note) = event.message.clone() else {
            return Ok(KeptMessage { event, reactions: Vec::new(), is_edited: false });
        };
        let mut changes = self.about(&note.chats, &note.id, None)?;
        changes.retain(|change| change.number != event.number && is_change_of(change, &note.id));
        changes.sort_by_key(|change| change.number);
        let (mut reactions, mut is_edited, mut is_revoked) = (BTreeMap::new(), false, false);
        for change in changes {
            let EventKind::Message(kind) = change.kind else { continue };
            let of_change = |field: &str| change.data.get(field).cloned().unwrap_or_default();
            match kind {
                MessageEventKind::Edited if !is_revoked => {
                    is_edited = true;
                    event.data.insert("body".to_owned(), of_change("body"));
                }
                MessageEventKind::Revoked => {
                    is_revoked = true;
                    event.data.retain(|field, _| !CONTENT.contains(&field.as_str()));
                    event.data.insert("body".to_owned(), json!(""));
                    event.data.insert("type".to_owned(), json!("revoked"));
                }
                MessageEventKind::Reaction => {
                    let Some(sender) = change.actor else { continue };
                    let emoji = of_change("reaction").as_str().unwrap_or_default().to_owned();
                    let timestamp = of_change("timestamp").as_i64().unwrap_or_default();
                    reactions.insert(sender, Reaction { sender, emoji, timestamp });
                }
                _ => {}
            }
        }
        let reactions = reactions.into_values().filter(|reaction| !reaction.emoji.is_empty()).collect();
        Ok(KeptMessage { event, reactions, is_edited })
    }
}

/// What is gone of a message that was deleted for everybody.
const CONTENT: [&str; 5] = ["media", "quotedMessage", "location", "poll", "mentionedIds"];

fn is_change_of(change: &Event, id: &str) -> bool {
    mark_of(change) == Some(CHANGE) && change.message.as_ref().is_some_and(|note| note.id == id)
}

/// The number of the event in whose place this one is.
fn replaces(event: &Event) -> Option<u64> {
    event.data.get("replaces").and_then(Value::as_u64)
}
