//! Messages as callers see them (contract, section 6): in events, lists and histories. Never does IO.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ParticipantId;

/// A message.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Its id.
    #[schema(example = "3EB0D1C5A7F2E4B6908A13")]
    pub id: String,
    /// Who sent it, or the group that it came in.
    #[schema(example = "120363021234567890@g.us")]
    pub from: String,
    /// Who got it: the session's account, or the chat where the account wrote it.
    #[schema(example = "15550100001@c.us")]
    pub to: String,
    /// The chat: a person, a group or a channel.
    #[schema(example = "120363021234567890@g.us")]
    pub chat_id: String,
    /// Its text, the caption of a file, the question of a poll, or the card of a contact (vCard).
    #[schema(example = "See you at eight")]
    pub body: String,
    /// What kind it is.
    #[serde(rename = "type")]
    pub kind: MessageType,
    /// When WhatsApp took it, in seconds since 1970.
    #[schema(example = 1_769_851_800)]
    pub timestamp: i64,
    /// The session's account wrote it, with whichever device.
    #[schema(example = false)]
    pub from_me: bool,
    /// It was written in a group.
    #[schema(example = true)]
    pub is_group: bool,
    /// Where it was written.
    #[serde(rename = "kind")]
    pub chat_kind: ChatKind,
    /// Who wrote it, in a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<ParticipantId>,
    /// The people whom it mentions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mentioned_ids: Vec<ParticipantId>,
    /// The digits of the author's phone number, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "15550100002")]
    pub sender_phone: Option<String>,
    /// What is known of the author.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<MessageAuthor>,
    /// The file in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<Media>,
    /// The message that it quotes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quoted_message: Option<QuotedMessage>,
    /// The place in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The poll in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll: Option<Poll>,
    /// Seconds after which it disappears.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 86_400)]
    pub ephemeral_duration: Option<u32>,
    /// It was forwarded.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_forwarded: bool,
    /// The `sequence` of the event that told of this message as `masked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<u64>,
    /// The text was longer than what is kept of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// False: texts are not kept here, and so are not in it.
    #[serde(skip_serializing_if = "is_true")]
    #[schema(example = true)]
    pub text_stored: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_true(flag: &bool) -> bool {
    *flag
}

/// The kinds of messages.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(example = "text")]
pub enum MessageType {
    /// A text.
    Text,
    /// A picture.
    Image,
    /// A film.
    Video,
    /// A recording.
    Audio,
    /// A voice note.
    Voice,
    /// Any other file.
    Document,
    /// A sticker.
    Sticker,
    /// A place.
    Location,
    /// A contact's card.
    Contact,
    /// A poll.
    Poll,
    /// A call.
    Call,
    /// A message that was deleted for everybody.
    Revoked,
    /// A message that could not be decrypted, or is kept from linked devices.
    Masked,
    /// Something else.
    #[default]
    Unknown,
}

/// The kinds of chats.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(example = "group")]
pub enum ChatKind {
    /// With a person.
    Individual,
    /// Of a group.
    Group,
    /// A channel.
    Channel,
    /// Status updates.
    Status,
    /// A broadcast list.
    Broadcast,
    /// Something else.
    Unknown,
}

/// What a session knows of a message's author.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageAuthor {
    /// The author.
    pub id: ParticipantId,
    /// The digits of the phone number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "15550100002")]
    pub number: Option<String>,
    /// The name under which the account knows the author, else the author's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Bob from work")]
    pub name: Option<String>,
    /// The author's own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Bob")]
    pub push_name: Option<String>,
}

/// A file as a message describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Media {
    /// Its type.
    #[schema(example = "image/jpeg")]
    pub mimetype: String,
    /// Its name, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "minutes.pdf")]
    pub filename: Option<String>,
    /// The file itself is not in the answer.
    #[schema(example = true)]
    pub omitted: bool,
    /// Its length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 48_213)]
    pub size_bytes: Option<u64>,
}

/// A message that another one quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct QuotedMessage {
    /// Its id.
    #[schema(example = "3EB0D1C5A7F2E4B6908A13")]
    pub id: String,
    /// Its text, as the author of the other one quotes it.
    #[schema(example = "When?")]
    pub body: String,
}

/// A place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Location {
    /// Degrees north.
    #[schema(example = 52.520_008)]
    pub latitude: f64,
    /// Degrees east.
    #[schema(example = 13.404_954)]
    pub longitude: f64,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "Town hall")]
    pub description: Option<String>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "Main Street 1")]
    pub address: Option<String>,
    /// A link to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A poll.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Poll {
    /// The question.
    #[schema(example = "When?")]
    pub name: String,
    /// The options to choose from.
    #[schema(example = json!(["Monday", "Tuesday"]))]
    pub options: Vec<String>,
    /// More than one option may be chosen.
    #[schema(example = false)]
    pub allow_multiple_answers: bool,
}
