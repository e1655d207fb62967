//! Messages as events of a session's log: by what names they are found, and whether one is there already.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rookery_engine::{VoteParties, open_vote};
use rookery_model::{
    Choice, Event, EventKind, IncomingChat, IncomingContent, IncomingMessage, MessageEventKind, MessageNote,
    ParticipantId, ParticipantIds,
};
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
/// The mark of a change that takes the place of a message that could not be decrypted.
pub(crate) const REPLACING_CHANGE: u8 = 5;

/// Edits and deletions of one message that are looked at, the newest first: of more, the latest permitted one counts.
const CHANGES_MAX: usize = 64;
/// Events with one id that are looked at: there are more only if as many people use one id.
const SAME_ID_MAX: usize = 256;
/// WhatsApp's clock and ours may differ.
const CLOCKS_DIFFER_MS: i64 = 24 * 60 * 60 * 1_000;

/// What the log knows of a message that came.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing. `replaces`: the number of the event that told of it when it could not be decrypted.
    New { replaces: Option<u64> },
    /// It was told.
    Told,
    /// It would change a message of somebody else, or one that was deleted.
    Void,
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
    Some(match (kind.is_message(), event.data.contains_key("replaces")) {
        (false, false) => CHANGE,
        (false, true) => REPLACING_CHANGE,
        (true, true) => REPLACEMENT,
        (true, false) if is_masked => MASKED,
        (true, false) => MESSAGE,
    })
}

/// Whether the mark is that of a message, not of a change.
pub(crate) fn is_message(mark: u8) -> bool {
    matches!(mark, MESSAGE | MASKED | REPLACEMENT)
}

/// The rows of the index for an event.
pub(crate) fn index_of(event: &Event, tag: impl Fn(&[&[u8]]) -> u64) -> Vec<IndexRow> {
    let (Some(note), Some(mark)) = (&event.message, mark_of(event)) else { return Vec::new() };
    let number = event.number;
    let row = |tag| IndexRow { tag, number, mark };
    let chats = note.chats.iter();
    match event.kind {
        EventKind::Message(MessageEventKind::Ack) => {
            return chats.map(|chat| row(tag(&of_acks(chat, &note.id)))).collect();
        }
        EventKind::Message(MessageEventKind::Receipts) => {
            return chats.map(|chat| row(tag(&of_receipts(chat, &note.id)))).collect();
        }
        _ => {}
    }
    let mut rows = vec![row(tag(&ALL))];
    for chat in &note.chats {
        rows.push(row(tag(&of_chat(chat))));
        rows.push(row(tag(&of_message(chat, note.own_id()))));
        if note.change.is_some() {
            let name = match event.kind {
                EventKind::Message(MessageEventKind::Reaction) => of_reactions(chat, &note.id),
                EventKind::Message(MessageEventKind::PollVote) => of_votes(chat, &note.id),
                _ => of_changes(chat, &note.id),
            };
            rows.push(row(tag(&name)));
        }
    }
    rows
}

impl SessionLog {
    /// What the log knows of a message. Blocks.
    pub(crate) fn known(&self, message: &IncomingMessage) -> Result<Known, StoreError> {
        let chats = chat_names(&message.chat);
        let mut replaces = None;
        for event in self.with_id(&chats, &message.id, Some(message.at.0 - CLOCKS_DIFFER_MS))? {
            if !event.message.as_deref().is_some_and(|note| note.is_by(message)) {
                continue;
            }
            if mark_of(&event) != Some(MASKED) || message.content == IncomingContent::Masked {
                return Ok(Known::Told);
            }
            replaces = Some(event.number);
        }
        let may_be_told = match &message.content {
            IncomingContent::Edited { target, .. } => {
                let is_author = |note: &MessageNote| note.is_by(message);
                self.may_be_by(&chats, target, is_author)? && !self.is_deleted(&chats, target)?
            }
            IncomingContent::Revoked { target, written_by: None } => {
                self.may_be_by(&chats, target, |note| note.is_by(message))?
            }
            IncomingContent::Reaction { target, .. } | IncomingContent::Vote { target, .. } => {
                !self.is_deleted(&chats, target)?
            }
            IncomingContent::Revoked { target, written_by: Some(author) } => {
                let is_author = |note: &MessageNote| author.ids().any(|id| note.authors.contains(&id));
                self.may_be_by(&chats, target, is_author)?
            }
            _ => true,
        };
        Ok(if may_be_told { Known::New { replaces } } else { Known::Void })
    }

    /// A vote that came, with what was chosen, where the poll is kept. Blocks.
    pub(crate) fn opened(&self, mut message: IncomingMessage) -> IncomingMessage {
        let chats = chat_names(&message.chat);
        let IncomingContent::Vote { target, choice } = &mut message.content else { return message };
        let Choice::Encrypted { payload, iv } = choice else { return message };
        let voters: Vec<ParticipantId> = message.author.iter().flat_map(ParticipantIds::ids).collect();
        let open = |poll: &MessageNote| {
            let content = STANDARD.decode(poll.protocol.as_ref()?).ok()?;
            // The account's own polls may have been made under either of its ids, and the same holds for its votes.
            let parties = VoteParties { creators: &poll.authors, voters: &voters };
            open_vote(&content, &poll.id, parties, payload, iv)
        };
        let polls = self.with_id(&chats, target, None).unwrap_or_default().into_iter();
        let polls = polls.filter(|event| mark_of(event).is_some_and(is_message));
        let options = polls.filter_map(|poll| self.read_whole(poll.number).ok()??.message).find_map(|poll| open(&poll));
        *choice = options.map_or(Choice::Unreadable, Choice::Options);
        message
    }

    /// Whether somebody may have written the message with this id: of one that is not here nobody knows who did. Blocks.
    fn may_be_by(
        &self,
        chats: &[String],
        id: &str,
        is_author: impl Fn(&MessageNote) -> bool,
    ) -> Result<bool, StoreError> {
        let events = self.with_id(chats, id, None)?;
        let mut notes = events
            .iter()
            .filter(|event| mark_of(event).is_some_and(is_message))
            .filter_map(|event| event.message.as_deref())
            .peekable();
        Ok(notes.peek().is_none() || notes.any(is_author))
    }

    /// Whether a message that is here was deleted for everybody. Blocks.
    fn is_deleted(&self, chats: &[String], id: &str) -> Result<bool, StoreError> {
        let events = self.with_id(chats, id, None)?;
        let mut messages = events.iter().filter(|event| mark_of(event).is_some_and(is_message));
        let Some(note) = messages.next_back().and_then(|first| first.message.as_deref()) else { return Ok(false) };
        Ok(self.changes_of(note)?.iter().any(|change| change.revokes(note)))
    }

    /// The edits and deletions of a message by those who may, the newest first. Blocks.
    pub(crate) fn changes_of(&self, note: &MessageNote) -> Result<Vec<Event>, StoreError> {
        let mut numbers = BTreeSet::new();
        for chat in &note.chats {
            let rows = self.tagged(&of_changes(chat, &note.id), u64::MAX, CHANGES_MAX, None)?;
            numbers.extend(rows.into_iter().map(|row| row.number));
        }
        let mut changes = Vec::new();
        for number in numbers.into_iter().rev() {
            changes
                .extend(self.read_these(&[number])?.pop().filter(|change| change.edits(note) || change.revokes(note)));
        }
        Ok(changes)
    }

    /// The messages and changes with this id of their own, the newest first. `since`: a time in Unix milliseconds, before which none is
    /// looked for. Blocks.
    pub(crate) fn with_id(&self, chats: &[String], id: &str, since: Option<i64>) -> Result<Vec<Event>, StoreError> {
        let mut numbers = BTreeSet::new();
        for chat in chats {
            let rows = self.tagged(&of_message(chat, id), u64::MAX, SAME_ID_MAX, since)?;
            numbers.extend(rows.into_iter().map(|row| row.number));
        }
        let numbers: Vec<u64> = numbers.into_iter().rev().collect();
        let mut events = self.read_these(&numbers)?;
        // Two names may have the same tag.
        events.retain(|event| event.message.as_ref().is_some_and(|note| note.own_id() == id));
        Ok(events)
    }
}

/// What changes of messages are asked here.
pub(crate) trait Changes {
    /// Whether it gives this message another text.
    fn edits(&self, of: &MessageNote) -> bool;

    /// Whether it deletes this message for everybody.
    fn revokes(&self, of: &MessageNote) -> bool;
}

impl Changes for Event {
    fn edits(&self, of: &MessageNote) -> bool {
        let is_by_author = |by: &MessageNote| by.id == of.id && by.has_author_of(of);
        self.kind == EventKind::Message(MessageEventKind::Edited) && self.message.as_deref().is_some_and(is_by_author)
    }

    fn revokes(&self, of: &MessageNote) -> bool {
        let may = |by: &MessageNote| {
            let is_named = by.written_by.iter().any(|id| of.authors.contains(id));
            by.id == of.id && (is_named || by.has_author_of(of))
        };
        self.kind == EventKind::Message(MessageEventKind::Revoked) && self.message.as_deref().is_some_and(may)
    }
}

/// The name of all messages.
pub(crate) const ALL: [&[u8]; 1] = [b"all"];

/// The name of the messages in a chat.
pub(crate) fn of_chat(chat: &str) -> [&[u8]; 2] {
    [b"chat", chat.as_bytes()]
}

/// The name of a message, and of a change by its own id.
pub(crate) fn of_message<'a>(chat: &'a str, id: &'a str) -> [&'a [u8]; 3] {
    [b"message", chat.as_bytes(), id.as_bytes()]
}

/// The name of a message's edits and deletions.
pub(crate) fn of_changes<'a>(chat: &'a str, id: &'a str) -> [&'a [u8]; 3] {
    [b"changes", chat.as_bytes(), id.as_bytes()]
}

/// The name of the reactions to a message.
pub(crate) fn of_reactions<'a>(chat: &'a str, id: &'a str) -> [&'a [u8]; 3] {
    [b"reactions", chat.as_bytes(), id.as_bytes()]
}

/// The name of the votes in a poll.
pub(crate) fn of_votes<'a>(chat: &'a str, id: &'a str) -> [&'a [u8]; 3] {
    [b"votes", chat.as_bytes(), id.as_bytes()]
}

/// The name of what all people have reached of a message.
pub(crate) fn of_acks<'a>(chat: &'a str, id: &'a str) -> [&'a [u8]; 3] {
    [b"acks", chat.as_bytes(), id.as_bytes()]
}

/// The name of a message's receipts in a group.
pub(crate) fn of_receipts<'a>(chat: &'a str, id: &'a str) -> [&'a [u8]; 3] {
    [b"receipts", chat.as_bytes(), id.as_bytes()]
}

/// What notes of messages are asked here.
pub(crate) trait Noted {
    /// Whether the author of the message is the author of the other one.
    fn is_by(&self, message: &IncomingMessage) -> bool;

    /// Whether both have the same author.
    fn has_author_of(&self, other: &MessageNote) -> bool;

    /// The id of the message, or of the change.
    fn own_id(&self) -> &str;
}

impl Noted for MessageNote {
    fn is_by(&self, message: &IncomingMessage) -> bool {
        match &message.author {
            _ if message.is_from_me => self.is_from_me,
            None => self.authors.is_empty(),
            Some(author) => !self.is_from_me && author.ids().any(|id| self.authors.contains(&id)),
        }
    }

    fn has_author_of(&self, other: &MessageNote) -> bool {
        let is_anybody = !self.authors.is_empty() || !other.authors.is_empty();
        self.is_from_me == other.is_from_me
            && (self.is_from_me || !is_anybody || self.authors.iter().any(|id| other.authors.contains(id)))
    }

    fn own_id(&self) -> &str {
        self.change.as_deref().unwrap_or(&self.id)
    }
}
