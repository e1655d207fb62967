//! Reading messages out of a session's log: a chat's newest ones, one of them, and what became of each since.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rookery_model::{
    EarlierContent, EarlierMessage, Event, MessageNote, ParticipantId, ParticipantIds, Poll, Reached, Timestamp,
};
use rookery_store::StoreError;
use serde_json::{Map, Value, json};

use super::SessionLog;
use super::reading::{SessionEvents, blocking};
use crate::error::CommandError;
use crate::message_events::{
    ALL, Changes as _, MASKED, MESSAGE, Noted as _, REPLACEMENT, REPLACING_CHANGE, is_message, mark_of, of_acks,
    of_chat, of_reactions, of_votes,
};
use crate::receipts::{Found, MessageReceipts, NoReceipts, Progress};

/// Messages that one page looks at where it leaves some out, and their bytes: some 100 ms.
const SEEN_MAX: usize = 10_000;
const SEEN_BYTES_MAX: usize = 16 * 1024 * 1024;
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
    /// How far a message of the account's own has come, with all whom it was sent to.
    pub reached: Option<Reached>,
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
    /// The poll in it.
    pub poll: Option<Poll>,
    /// Its content; `None`: it is not kept.
    pub content: Option<EarlierContent>,
}

/// Somebody's reaction to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaction {
    /// Who reacted.
    pub sender: ParticipantId,
    /// With what; empty where texts are not kept.
    pub emoji: String,
    /// When, in seconds since 1970.
    pub timestamp: i64,
}

/// Somebody's vote in a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Who voted.
    pub sender: ParticipantId,
    /// The names of the options; none: nobody here can read the vote.
    pub options: Vec<String>,
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
    /// There are more after these.
    pub has_more: bool,
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
    /// Messages, the newest first: at most `count`, fewer where their texts are very long (then there are more), after `offset` others. `is_wanted`, where there is one, is asked of the latest 10,000 messages, and
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
            let (mut total, mut has_more) = (0, false);
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
                    has_more = true;
                }
                Ok(!has_more)
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
            Ok(MessagePage { messages, total, has_more })
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
    /// The receipts of a message of the account's own with this id in this chat, or why there are none.
    ///
    /// # Errors
    /// As [`Self::messages`].
    pub async fn receipts(
        &self,
        chat: String,
        id: String,
    ) -> Result<Result<MessageReceipts, NoReceipts>, CommandError> {
        let log = self.log()?;
        let found = blocking(move || Progress::load(&log, &[chat], &id)).await?;
        Ok(match found {
            Found::Own(progress) => Ok(progress.into_receipts()),
            Found::Other => Err(NoReceipts::OfAnother),
            Found::Nothing => Err(NoReceipts::Unknown),
        })
    }

    /// The votes in a poll with this id in this chat, in the order of people; `None`: the log does not have it.
    ///
    /// # Errors
    /// As [`Self::messages`].
    pub async fn votes(&self, chat: String, id: String) -> Result<Option<(Event, Vec<Vote>)>, CommandError> {
        let Some(KeptMessage { event, .. }) = self.message(chat, id).await? else { return Ok(None) };
        let (log, note) = (self.log()?, event.message.clone());
        let votes = blocking(move || note.map_or(Ok(Vec::new()), |note| log.votes_in(&note)));
        Ok(Some((event, votes.await?)))
    }

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
            poll: event.data.get("poll").and_then(|poll| serde_json::from_value(poll.clone()).ok()),
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
        let mut message = KeptMessage { event: event.clone(), reactions: Vec::new(), is_edited: false, reached: None };
        let Some(note) = event.message.take() else { return Ok(message) };
        if note.is_from_me {
            message.reached = self.reached_by_all(&note)?;
        }
        let data = &mut message.event.data;
        for change in self.changes_of(&note)? {
            if change.revokes(&note) {
                message.is_edited = false;
                data.retain(|field, _| !CONTENT.contains(&field.as_str()));
                data.insert("body".to_owned(), json!(""));
                data.insert("type".to_owned(), json!("revoked"));
                return Ok(message);
            }
            if !message.is_edited {
                message.is_edited = true;
                for field in EDITED {
                    match change.data.get(field) {
                        Some(value) => drop(data.insert(field.to_owned(), value.clone())),
                        None => drop(data.remove(field)),
                    }
                }
            }
        }
        message.reactions = self.reactions_to(&note)?;
        Ok(message)
    }

    /// How far a message has come with all people. Blocks.
    fn reached_by_all(&self, note: &MessageNote) -> Result<Option<Reached>, StoreError> {
        let mut latest = None;
        for chat in &note.chats {
            latest =
                latest.max(self.tagged(&of_acks(chat, &note.id), u64::MAX, 1, None)?.first().map(|row| row.number));
        }
        let event = latest.map(|number| self.read_these(&[number])).transpose()?.and_then(|mut events| events.pop());
        let ack = event.and_then(|event| event.data.get("ack").and_then(Value::as_u64));
        Ok(ack.and_then(Reached::from_number))
    }

    /// The latest reaction of each person to a message, where it was not taken back. Blocks.
    fn reactions_to(&self, note: &MessageNote) -> Result<Vec<Reaction>, StoreError> {
        let latest = self.latest_by_person(note, of_reactions)?.into_iter();
        Ok(latest
            .filter_map(|(sender, data)| {
                let emoji = data.get("reaction").and_then(Value::as_str).unwrap_or_default().to_owned();
                let is_removed = data.get("removed").and_then(Value::as_bool).unwrap_or(emoji.is_empty());
                let timestamp = data.get("timestamp").and_then(Value::as_i64).unwrap_or_default();
                (!is_removed).then_some(Reaction { sender, emoji, timestamp })
            })
            .collect())
    }

    /// The latest vote of each person in a poll, where it was not taken back. Blocks.
    fn votes_in(&self, note: &MessageNote) -> Result<Vec<Vote>, StoreError> {
        let latest = self.latest_by_person(note, of_votes)?.into_iter();
        Ok(latest
            .filter_map(|(sender, data)| {
                let options: Option<Vec<String>> =
                    serde_json::from_value(data.get("options").cloned().unwrap_or_default()).ok();
                let timestamp = data.get("timestamp").and_then(Value::as_i64).unwrap_or_default();
                let is_removed = options.as_ref().is_some_and(Vec::is_empty);
                (!is_removed).then_some(Vote { sender, options: options.unwrap_or_default(), timestamp })
            })
            .collect())
    }

    /// The data of the latest event of each person about a message, by the name under which such events are found. Blocks.
    fn latest_by_person(
        &self,
        note: &MessageNote,
        name: impl for<'a> Fn(&'a str, &'a str) -> [&'a [u8]; 3],
    ) -> Result<BTreeMap<ParticipantId, Map<String, Value>>, StoreError> {
        let mut numbers = BTreeSet::new();
        for chat in &note.chats {
            let rows = self.tagged(&name(chat, &note.id), u64::MAX, REACTIONS_MAX, None)?;
            numbers.extend(rows.into_iter().map(|row| row.number));
        }
        let mut latest = BTreeMap::new();
        for number in numbers.into_iter().rev() {
            let Some(change) = self.read_these(&[number])?.pop() else { continue };
            if let (true, Some(sender)) = (change.message.is_some_and(|by| by.id == note.id), change.actor) {
                latest.entry(sender).or_insert(change.data);
            }
        }
        Ok(latest)
    }
}

/// What an edit changes of a message.
const EDITED: [&str; 3] = ["body", "mentionedIds", "truncated"];
/// What is gone of a message that was deleted for everybody.
const CONTENT: [&str; 6] = ["media", "quotedMessage", "location", "poll", "mentionedIds", "truncated"];

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
