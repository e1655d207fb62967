//! What an account does in a chat beside writing. Never does IO.

use super::{ParticipantIds, Timestamp};

/// What an account does with a chat, or shows in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChatChange {
    /// The other side sees that the account types, records, or has stopped.
    Typing(Typing),
    /// The messages' authors see that they were read: authors with the ids of their messages. The account's own devices see it, too.
    Read(Vec<(ParticipantIds, Vec<String>)>),
    /// The account's own devices show the chat as not read.
    Unread,
    /// Whether the chat is in the archive.
    Archived(bool),
    /// Whether the chat is at the top of the list.
    Pinned(bool),
    /// Until when the chat notifies of nothing; `None`: it notifies.
    Muted(Option<Timestamp>),
    /// The account's own devices forget the messages, and keep the chat.
    Cleared,
    /// The account's own devices forget the chat.
    Deleted,
}

/// What a person does in a chat.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Typing {
    /// Types.
    Composing,
    /// Records a voice note.
    Recording,
    /// Neither.
    Paused,
}
