//! Messages as they come from WhatsApp: read, with nobody named yet. Never does IO.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ChatKind, GroupId, Location, Media, MessageType, ParticipantIds, Poll, Timestamp};

/// A message, or a change of one.
#[derive(Clone, PartialEq)]
pub struct IncomingMessage {
    /// Its id, which is its author's choice: unique among the author's messages in a chat.
    pub id: String,
    /// Where it was written.
    pub chat: IncomingChat,
    /// Who wrote it; `None`: a channel.
    pub author: Option<ParticipantIds>,
    /// The name that the author goes by.
    pub author_name: Option<String>,
    /// Another device of the account wrote it.
    pub is_from_me: bool,
    /// When WhatsApp took it.
    pub at: Timestamp,
    /// What it says.
    pub content: IncomingContent,
    /// The whole of it, as WhatsApp's protocol has it (protobuf `Message`); empty where nothing was readable.
    pub protocol: Vec<u8>,
}

/// What somebody chose in a poll.
#[derive(Clone, PartialEq, Eq)]
pub enum Choice {
    /// The names of the options; none: the vote is taken back.
    Options(Vec<String>),
    /// It can be read with the poll's secret alone.
    Encrypted {
        /// The encrypted vote, with its tag.
        payload: Vec<u8>,
        /// What it was encrypted with, beside the key.
        iv: Vec<u8>,
    },
    /// Nobody here can read it: the poll, or its secret, is not kept.
    Unreadable,
}

/// What a person's device says of messages of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Where the messages were written.
    pub chat: IncomingChat,
    /// Who has them.
    pub person: ParticipantIds,
    /// The messages' ids.
    pub ids: Vec<String>,
    /// How far they have come.
    pub reached: Reached,
    /// Since when.
    pub at: Timestamp,
}

/// How far a message has come. Each step includes those before.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reached {
    /// A device has it.
    Delivered,
    /// It was seen.
    Read,
    /// It was listened to.
    Played,
}

impl Reached {
    /// Every step, in order.
    pub const ALL: [Self; 3] = [Self::Delivered, Self::Read, Self::Played];

    /// The step's number in WhatsApp's clients: 2 to 4.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8 + 2
    }

    /// The step with this number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|step| u64::from(step.number()) == number)
    }
}

/// Where a message was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IncomingChat {
    /// In the chat with a person.
    Person(ParticipantIds),
    /// In a group.
    Group(GroupId),
    /// Elsewhere, such as in a channel; with the id as WhatsApp writes it.
    Other(String, ChatKind),
}

/// What a message says.
#[derive(Clone, PartialEq)]
pub enum IncomingContent {
    /// Something to read, see or hear.
    Message(Box<MessageContent>),
    /// An earlier message has another text now.
    Edited {
        /// The id of the earlier message.
        target: String,
        /// The text or caption that it has now.
        text: String,
        /// The people whom it mentions now.
        mentions: Vec<ParticipantIds>,
    },
    /// An earlier message is deleted for everybody.
    Revoked {
        /// The id of the earlier message.
        target: String,
        /// Who wrote the earlier message, if not who deletes it: an admin may delete the messages of others.
        written_by: Option<ParticipantIds>,
    },
    /// A reaction to an earlier message.
    Reaction {
        /// The id of the earlier message.
        target: String,
        /// The reaction; empty: it is taken back.
        emoji: String,
    },
    /// A vote in an earlier poll; it takes the place of the one before.
    Vote {
        /// The id of the poll.
        target: String,
        /// What was chosen.
        choice: Choice,
    },
    /// It could not be decrypted. If its author's client sends it again, it comes once more.
    Masked,
}

/// The content of a message to read, see or hear.
#[derive(Clone, PartialEq, Default)]
pub struct MessageContent {
    /// What kind it is.
    pub kind: MessageType,
    /// Its text, the caption of a file, the question of a poll, or the card of a contact (vCard).
    pub text: String,
    /// The people whom it mentions.
    pub mentions: Vec<ParticipantIds>,
    /// Id and text of the message that it quotes.
    pub quoted: Option<(String, String)>,
    /// The file in it.
    pub media: Option<Media>,
    /// The place in it.
    pub location: Option<Location>,
    /// The poll in it.
    pub poll: Option<Poll>,
    /// Seconds after which it disappears.
    pub ephemeral_seconds: Option<u32>,
    /// It was forwarded.
    pub is_forwarded: bool,
}

/// Shows nothing of what was written, nor by whom (P-1).
impl fmt::Debug for IncomingMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IncomingMessage")
    }
}

impl fmt::Debug for IncomingContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IncomingContent")
    }
}
