//! Messages that a session sends. Never does IO.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

use super::{GroupId, IdError, ParticipantId, ParticipantIds, ShownFile};

/// Digits of a phone number at most; ids of groups have more.
const PERSON_DIGITS_MAX: usize = 15;
/// How the ids of WhatsApp Web's own messages begin.
const ID_PREFIX: &str = "3EB0";
/// The bytes of an id that are random: as many as WhatsApp Web's.
const ID_RANDOM_BYTES: usize = 9;
/// The bytes of the secret of a message that others answer in an encrypted form, such as a poll.
const SECRET_BYTES: usize = 32;

/// A chat as callers name it: with a person, or of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChatId {
    /// The chat with this person.
    Person(ParticipantId),
    /// The chat of this group.
    Group(GroupId),
}

impl ChatId {
    /// Reads a chat's id as people write it. Bare digits are a person up to 15 of them, and a group beyond that.
    ///
    /// # Errors
    /// As [`ParticipantId::parse_written`] and [`GroupId::parse_written`].
    pub fn parse_written(text: &str) -> Result<Self, IdError> {
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        let is_group = text.trim_end().ends_with("@g.us") || (digits > PERSON_DIGITS_MAX && !text.contains('@'));
        if is_group {
            return GroupId::parse_written(text).map(Self::Group).map_err(|_| IdError::Chat(text.into()));
        }
        ParticipantId::parse_written(text).map(Self::Person).map_err(|_| IdError::Chat(text.into()))
    }
}

impl fmt::Display for ChatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(person) => person.fmt(f),
            Self::Group(group) => group.fmt(f),
        }
    }
}

/// The id of a message, as WhatsApp's clients make it. WhatsApp shows a message once, however often it is sent with one id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[schema(value_type = String, example = "3EB0D1C5A7F2E4B6908A13")]
pub struct MessageId(String);

impl MessageId {
    /// The id of the message with this seed.
    #[must_use]
    pub fn of(seed: &MessageSeed) -> Self {
        let random = seed.0.iter().take(ID_RANDOM_BYTES);
        Self(random.fold(ID_PREFIX.to_owned(), |id, byte| id + &format!("{byte:02X}")))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The random part of a message. A message that is sent again with its seed is the same message for everybody who gets it.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct MessageSeed([u8; Self::BYTES]);

impl MessageSeed {
    /// Its length.
    pub const BYTES: usize = ID_RANDOM_BYTES + SECRET_BYTES;

    /// A seed of these bytes, which have to be random.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be kept. They hold the message's secret.
    #[must_use]
    pub fn reveal(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The secret with which answers to the message are encrypted.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.0[ID_RANDOM_BYTES..]
    }
}

/// Shows nothing of the secret.
impl fmt::Debug for MessageSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MessageSeed").field(&MessageId::of(self)).finish()
    }
}

/// A message that is ready to be sent: its people are named as the chat names them.
#[derive(Clone, Debug, PartialEq)]
pub struct OutgoingMessage {
    /// Its random part, with its id.
    pub seed: MessageSeed,
    /// Where it goes.
    pub chat: ChatId,
    /// What it says.
    pub content: OutgoingContent,
    /// The chat names people by LID wherever it can.
    pub is_by_lid: bool,
    /// The message that it quotes.
    pub quoted: Option<Quote>,
    /// The people whom it mentions.
    pub mentions: Vec<ParticipantId>,
    /// It mentions everybody in the group at once, beside `mentions`.
    pub mentions_all: bool,
    /// The seconds after which it disappears, as the chat's timer has it.
    pub ephemeral_seconds: Option<u32>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub enum OutgoingContent {
    /// A text.
    Text {
        /// The text itself.
        text: String,
        /// What is shown of a link in it.
        preview: Option<LinkPreview>,
    },
    /// A place.
    Location {
        /// Degrees north.
        latitude: f64,
        /// Degrees east.
        longitude: f64,
        /// Its name.
        name: Option<String>,
        /// Its address.
        address: Option<String>,
    },
    /// Somebody's name and phone number.
    Contact {
        /// The name.
        name: String,
        /// The number in international form, digits only.
        number: u64,
    },
    /// A question with options to choose from.
    Poll {
        /// The question.
        name: String,
        /// The options, all different.
        options: Vec<String>,
        /// More than one option may be chosen.
        allows_many: bool,
    },
    /// A file that WhatsApp has.
    File(Box<ShownFile>),
    /// A message that somebody wrote, in this chat or another one.
    Forward(EarlierContent),
    /// A reaction to an earlier message; it takes the place of the one before.
    Reaction {
        /// The earlier message.
        to: EarlierMessage,
        /// The reaction; empty: it is taken back.
        emoji: String,
    },
    /// Another text for an earlier message of the account's own.
    Edit {
        /// The earlier message.
        of: EarlierMessage,
        /// The text.
        text: String,
    },
    /// The end of an earlier message, for everybody.
    Revocation(EarlierMessage),
    /// A vote in an earlier poll; it takes the place of the one before.
    Vote {
        /// The poll.
        poll: EarlierMessage,
        /// The poll's content, with the secret that votes are encrypted with.
        content: EarlierContent,
        /// The names of the options; none: the vote is taken back.
        options: Vec<String>,
    },
    /// An earlier message is shown at the top of the chat, to everybody.
    Pin {
        /// The earlier message.
        of: EarlierMessage,
        /// For so many seconds; `None`: no more.
        seconds: Option<u32>,
    },
}

/// What an account notes about a message for itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MessageMark {
    /// It has a star.
    Starred,
    /// It has no star any more.
    NotStarred,
    /// It is deleted for the account alone.
    Deleted,
}

/// An earlier message of a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlierMessage {
    /// Its id.
    pub id: String,
    /// The account's own devices wrote it.
    pub is_from_me: bool,
    /// Who wrote it.
    pub author: ParticipantIds,
}

/// A message that another one quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Which it is.
    pub message: EarlierMessage,
    /// Its content.
    pub content: EarlierContent,
}

/// The content of an earlier message.
#[derive(Clone, PartialEq, Eq)]
pub struct EarlierContent {
    /// As it was sent, in the form of WhatsApp's protocol (protobuf `Message`).
    pub protocol: Vec<u8>,
    /// The text or caption that it was given since; `None`: it was not edited.
    pub text: Option<String>,
}

/// Shows nothing of the content (P-1).
impl fmt::Debug for EarlierContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EarlierContent")
    }
}

/// What is shown of a link in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPreview {
    /// The link, as it stands in the text.
    pub url: String,
    /// The page's title.
    pub title: String,
    /// What the page is about.
    pub description: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_is_a_person_or_a_group() {
        let person = |digits| Some(ChatId::Person(ParticipantId::Phone(digits)));
        let group = |text: &str| Some(ChatId::Group(text.parse().unwrap()));
        let cases = [
            ("15550100001", person(15_550_100_001)),
            ("+1 555 0100-001", person(15_550_100_001)),
            ("15550100001@c.us", person(15_550_100_001)),
            ("123456789012345", person(123_456_789_012_345)),
            ("123456789012345@lid", Some(ChatId::Person(ParticipantId::Lid(123_456_789_012_345)))),
            ("120363021234567890", group("120363021234567890@g.us")),
            ("1555-0100001", person(15_550_100_001)),
            ("15550100001-1400000000", group("15550100001-1400000000@g.us")),
            ("120363021234567890@g.us", group("120363021234567890@g.us")),
            ("status@broadcast", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(ChatId::parse_written(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn the_id_and_the_secret_are_parts_of_the_seed_and_the_secret_is_not_shown() {
        let seed = MessageSeed::from_bytes(std::array::from_fn(|index| index as u8));
        assert_eq!(MessageId::of(&seed).as_str(), "3EB0000102030405060708");
        assert_eq!((seed.secret().len(), seed.secret()[0]), (32, 9));
        assert_eq!(format!("{seed:?}"), "MessageSeed(MessageId(\"3EB0000102030405060708\"))");
    }
}
