//! Messages as events of a session's log: by what names they are found, and whether one is there already.

use rookery_model::{Event, EventKind, IncomingChat, IncomingContent, IncomingMessage, MessageNote};
use rookery_store::{IndexRow, StoreError};
use serde_json::Value;

use crate::session_log::SessionLog;

/// The mark of a message in the log's index.
pub(crate) const MESSAGE: u8 = 1;
/// The mark of a message that could not be decrypted.
pub(crate) const MASKED: u8 = 2;
/// The mark of a message that takes the place of one that could not be decrypted.
pub(crate) const REPLACEMENT: u8 = 3;
/// The mark of a change of a message.
pub(crate) const CHANGE: u8 = 4;

/// Events about one message that are looked at: more than one of them is rare, but for reactions.
const ABOUT_MAX: usize = 1_000;
/// WhatsApp's clock and ours may differ.
const CLOCKS_DIFFER_MS: i64 = 24 * 60 * 60 * 1_000;

/// What the log knows of a message that came.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing. `replaces`: the number of the event that told of it when it could not be decrypted.
    New { replaces: Option<u64> },
    /// It was told.
    Told,
    /// It would change a message of somebody else.
    Forged,
}

/// The ids by which a chat may be asked for.
pub(crate) fn chat_names(chat: &IncomingChat) -> Vec<String> {
    match chat {
        IncomingChat::Person(person) => person.ids().map(|id| id.to_string()).collect(),
        IncomingChat::Group(group) => vec![group.to_string()],
        IncomingChat::Other(id, _) => vec![id.clone()],
    }
}

/// The mark of an event about a message.
pub(crate) fn mark_of(event: &Event) -> Option<u8> {
    let EventKind::Message(kind) = event.kind else { return None };
    let is_masked = event.data.get("type") == Some(&Value::from("masked"));
    Some(match kind.is_message() {
        false => CHANGE,
        true if event.data.contains_key("replaces") => REPLACEMENT,
        true if is_masked => MASKED,
        true => MESSAGE,
    })
}

impl SessionLog {
    /// The rows of the index for an event.
    pub(crate) fn index_of(&self, event: &Event, tag: impl Fn(&[&[u8]]) -> u64) -> Vec<IndexRow> {
        let (Some(note), Some(mark)) = (&event.message, mark_of(event)) else { return Vec::new() };
        let number = event.number;
        let row = |tag| IndexRow { tag, number, mark };
        let mut rows = vec![row(tag(&ALL))];
        for chat in &note.chats {
            rows.push(row(tag(&of_chat(chat))));
            rows.extend(note.ids().map(|id| row(tag(&of_message(chat, id)))));
        }
        rows
    }

    /// What the log knows of a message. Blocks.
    pub(crate) fn known(&self, message: &IncomingMessage) -> Result<Known, StoreError> {
        let chats = chat_names(&message.chat);
        let mut replaces = None;
        for event in self.about(&chats, &message.id, Some(message.at.0 - CLOCKS_DIFFER_MS))? {
            let Some(note) = event.message.as_deref().filter(|note| note.is_by(message)) else { continue };
            let is_it = if mark_of(&event) == Some(CHANGE) { note.change.as_ref() } else { Some(&note.id) };
            if is_it != Some(&message.id) {
                continue;
            }
            if mark_of(&event) != Some(MASKED) || message.content == IncomingContent::Masked {
                return Ok(Known::Told);
            }
            replaces = Some(event.number);
        }
        let target = match &message.content {
            IncomingContent::Edited { target, .. } | IncomingContent::Revoked { target, written_by: None } => target,
            _ => return Ok(Known::New { replaces }),
        };
        // Only who wrote a message may change it. Of a message that is not here, nobody knows who did.
        let targets = self.about(&chats, target, None)?;
        let original = targets.iter().find(|event| mark_of(event).is_some_and(|mark| mark != CHANGE));
        let is_forged = original.is_some_and(|event| !event.message.as_ref().is_some_and(|note| note.is_by(message)));
        Ok(if is_forged { Known::Forged } else { Known::New { replaces } })
    }

    /// The events about a message, the newest first. `since`: a time in Unix milliseconds, before which none is looked for. Blocks.
    pub(crate) fn about(&self, chats: &[String], id: &str, since: Option<i64>) -> Result<Vec<Event>, StoreError> {
        let mut events: Vec<Event> = Vec::new();
        for chat in chats {
            let rows = self.tagged(&of_message(chat, id), u64::MAX, ABOUT_MAX, since)?;
            let numbers: Vec<u64> = rows.into_iter().map(|row| row.number).collect();
            events.extend(self.read_these(&numbers)?);
        }
        events.sort_by_key(|event| std::cmp::Reverse(event.number));
        events.dedup_by_key(|event| event.number);
        // Two names may have the same tag.
        events.retain(|event| event.message.as_ref().is_some_and(|note| note.ids().any(|known| known == id)));
        Ok(events)
    }
}

/// The name of all messages.
pub(crate) const ALL: [&[u8]; 1] = [b"all"];

/// The name of the messages in a chat.
pub(crate) fn of_chat(chat: &str) -> [&[u8]; 2] {
    [b"chat", chat.as_bytes()]
}

/// The name of a message, and of its changes.
pub(crate) fn of_message<'a>(chat: &'a str, id: &'a str) -> [&'a [u8]; 3] {
    [b"message", chat.as_bytes(), id.as_bytes()]
}

/// What notes of messages are asked here.
pub(crate) trait Noted {
    /// Whether the author of the message is the author of the other one.
    fn is_by(&self, message: &IncomingMessage) -> bool;

    /// The ids by which the message, or the change, is found.
    fn ids(&self) -> impl Iterator<Item = &str>;
}

impl Noted for MessageNote {
    fn is_by(&self, message: &IncomingMessage) -> bool {
        match &message.author {
            None => self.authors.is_empty() && !message.is_from_me,
            _ if message.is_from_me => self.is_from_me,
            Some(author) => !self.is_from_me && author.ids().any(|id| self.authors.contains(&id)),
        }
    }

    fn ids(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.id.as_str()).chain(self.change.as_deref())
    }
}
