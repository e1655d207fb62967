//! What a phone knows of a message: the fields that tests ask about, and the whole message beside them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buffa::Message as _;
use wacore::download::MediaType;
use wacore::proto_helpers::MessageExt as _;
use waproto::whatsapp as wa;
use waproto::whatsapp::message::protocol_message::Type as ProtocolType;

use super::Chat;
use crate::stanza::now;
use crate::world::account::DeviceRef;

/// A message that somebody's phone has got.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct ReceivedMessage {
    /// The group's id with `@g.us`, or the phone number of the person whom the chat is with.
    pub chat: String,
    /// Phone number of the sender.
    pub sender: String,
    /// The sender's device; 0 is the phone.
    pub device: u16,
    /// The id that the sender's device gave it.
    pub id: String,
    /// When it came, in seconds since 1970.
    pub time: u64,
    /// How often it came. A phone shows it once.
    pub times: u32,
    /// The owner of the phone has read it.
    pub read: bool,
    /// `text`, `image`, `video`, `audio`, `voice`, `document`, `sticker`, `location`, `contact`, `poll`, `poll_vote`,
    /// `reaction`, `edit`, `revoke`, `pin`, `invitation` or `other`.
    pub kind: String,
    /// The `edit` attribute of the stanza: 1 edit, 2 pin, 7 revocation by the sender, 8 revocation by an admin.
    pub edit: Option<String>,
    /// Its text, or the caption of a file, the emoji of a reaction, the new text of an edit, the question of a poll.
    pub text: Option<String>,
    /// The people that it mentions, as they are named in it.
    pub mentions: Vec<String>,
    /// The id of the message that it quotes.
    pub quoted: Option<String>,
    /// The id of the message that it is about: that is edited, revoked, pinned, voted in or reacted to.
    pub target: Option<String>,
    /// The time after which it disappears, in seconds.
    pub ephemeral_s: Option<u32>,
    /// It was forwarded.
    pub forwarded: bool,
    /// The invitation to a group; `None` when it is none.
    pub invitation: Option<ReceivedInvitation>,
    /// The file that belongs to it; `None` when there is none.
    pub media: Option<ReceivedMedia>,
    /// The whole message as it is encrypted: `Message` of WhatsApp's protocol buffers, base64.
    pub content: String,
}

/// An invitation to a group, as it comes in a message.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct ReceivedInvitation {
    /// The group's id with `@g.us`.
    pub group: String,
    /// The code with which the recipient may join.
    pub code: String,
    /// The end of its validity, in seconds since 1970.
    pub expiration: i64,
    /// The group's subject.
    pub group_name: String,
    /// What the sender wrote with it.
    pub caption: Option<String>,
    /// The group's picture, made small; empty when there is none.
    pub jpeg_thumbnail_bytes: usize,
}

/// A file as a message describes it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct ReceivedMedia {
    /// Its type, as in `image/jpeg`.
    pub mimetype: String,
    /// Its length in bytes, decrypted.
    pub bytes: u64,
    /// The name of a document.
    pub filename: Option<String>,
    /// The length of a recording, in seconds.
    pub seconds: Option<u32>,
    /// The bytes of its preview; 0: it has none.
    pub thumbnail_bytes: usize,
    /// The bytes of a voice note's waveform; 0: it has none.
    pub waveform_bytes: usize,
}

/// What is needed to get a file and to decrypt it.
pub(crate) struct MediaPointer {
    pub(crate) kind: MediaType,
    pub(crate) key: Vec<u8>,
    pub(crate) direct_path: String,
}

impl ReceivedMessage {
    pub(super) fn new(chat: &Chat, sender: &DeviceRef, id: &str, edit: Option<String>, content: &wa::Message) -> Self {
        let base = content.get_base_message();
        let context = context(base);
        Self {
            chat: chat.name(),
            sender: sender.phone.clone(),
            device: sender.device,
            id: id.to_owned(),
            time: now(),
            times: 1,
            read: false,
            kind: kind(content).to_owned(),
            edit,
            text: text(base),
            mentions: context.map(|context| context.mentioned_jid.clone()).unwrap_or_default(),
            quoted: context.and_then(|context| context.stanza_id.clone()),
            target: target(base),
            ephemeral_s: context.and_then(|context| context.expiration).filter(|seconds| *seconds > 0),
            forwarded: context.is_some_and(|context| context.is_forwarded == Some(true)),
            invitation: invitation(base),
            media: media(base),
            content: STANDARD.encode(content.encode_to_vec()),
        }
    }

    /// The whole message.
    #[must_use]
    pub fn message(&self) -> wa::Message {
        let bytes = STANDARD.decode(&self.content).unwrap_or_default();
        wa::Message::decode_from_slice(&bytes).unwrap_or_default()
    }

    /// Where the file is and how to decrypt it; `None` for a message without a file.
    pub(crate) fn media_pointer(&self) -> Option<MediaPointer> {
        media_pointer(self.message().get_base_message())
    }
}

fn kind(content: &wa::Message) -> &'static str {
    let base = content.get_base_message();
    let protocol = base.protocol_message.as_option().and_then(|protocol| protocol.r#type);
    let is_voice = base.audio_message.as_option().is_some_and(|audio| audio.ptt == Some(true));
    let is_poll = base.poll_creation_message.is_set()
        || base.poll_creation_message_v2.is_set()
        || base.poll_creation_message_v3.is_set();
    match protocol {
        Some(ProtocolType::MESSAGE_EDIT) => return "edit",
        Some(ProtocolType::REVOKE) => return "revoke",
        _ => {}
    }
    let kinds = [
        (base.conversation.is_some() || base.extended_text_message.is_set(), "text"),
        (base.image_message.is_set(), "image"),
        (base.video_message.is_set(), "video"),
        (is_voice, "voice"),
        (base.audio_message.is_set(), "audio"),
        (base.document_message.is_set(), "document"),
        (base.sticker_message.is_set(), "sticker"),
        (base.location_message.is_set(), "location"),
        (base.contact_message.is_set() || base.contacts_array_message.is_set(), "contact"),
        (is_poll, "poll"),
        (base.poll_update_message.is_set(), "poll_vote"),
        (base.reaction_message.is_set() || base.enc_reaction_message.is_set(), "reaction"),
        (base.pin_in_chat_message.is_set(), "pin"),
        (base.group_invite_message.is_set(), "invitation"),
    ];
    kinds.iter().find(|(is_it, _)| *is_it).map_or("other", |(_, kind)| kind)
}

fn text(base: &wa::Message) -> Option<String> {
    let edited = base.protocol_message.as_option().and_then(|protocol| protocol.edited_message.as_option());
    if let Some(edited) = edited {
        return text(edited.get_base_message());
    }
    let reaction = base.reaction_message.as_option().and_then(|reaction| reaction.text.clone());
    let polls = [&base.poll_creation_message, &base.poll_creation_message_v2, &base.poll_creation_message_v3];
    let poll = polls.iter().find_map(|poll| poll.as_option()).and_then(|poll| poll.name.clone());
    base.text_content().or(base.get_caption()).map(str::to_owned).or(reaction).or(poll)
}

fn target(base: &wa::Message) -> Option<String> {
    let keys = [
        base.protocol_message.as_option().and_then(|protocol| protocol.key.as_option()),
        base.reaction_message.as_option().and_then(|reaction| reaction.key.as_option()),
        base.enc_reaction_message.as_option().and_then(|reaction| reaction.target_message_key.as_option()),
        base.pin_in_chat_message.as_option().and_then(|pin| pin.key.as_option()),
        base.poll_update_message.as_option().and_then(|vote| vote.poll_creation_message_key.as_option()),
    ];
    keys.into_iter().flatten().find_map(|key| key.id.clone())
}

fn invitation(base: &wa::Message) -> Option<ReceivedInvitation> {
    base.group_invite_message.as_option().map(|invite| ReceivedInvitation {
        group: invite.group_jid.clone().unwrap_or_default(),
        code: invite.invite_code.clone().unwrap_or_default(),
        expiration: invite.invite_expiration.unwrap_or_default(),
        group_name: invite.group_name.clone().unwrap_or_default(),
        caption: invite.caption.clone(),
        jpeg_thumbnail_bytes: invite.jpeg_thumbnail.as_ref().map_or(0, Vec::len),
    })
}

/// The context of a message: mentions, quote, timer.
fn context(base: &wa::Message) -> Option<&wa::ContextInfo> {
    macro_rules! first_context {
        ($($field:ident),+) => { [$(base.$field.as_option().and_then(|part| part.context_info.as_option())),+] };
    }
    let contexts = first_context!(
        extended_text_message,
        image_message,
        video_message,
        audio_message,
        document_message,
        sticker_message,
        location_message,
        contact_message,
        poll_creation_message,
        poll_creation_message_v2,
        poll_creation_message_v3,
        group_invite_message
    );
    contexts.into_iter().flatten().next()
}

/// Calls a macro with each kind of message that has a file: its field, and the kind of its keys.
macro_rules! first_file {
    ($base:expr, $file:ident => $made:expr) => {
        [
            $base.image_message.as_option().map(|$file| ($made, MediaType::Image)),
            $base.video_message.as_option().map(|$file| ($made, MediaType::Video)),
            $base.audio_message.as_option().map(|$file| ($made, MediaType::Audio)),
            $base.document_message.as_option().map(|$file| ($made, MediaType::Document)),
            $base.sticker_message.as_option().map(|$file| ($made, MediaType::Sticker)),
        ]
        .into_iter()
        .flatten()
        .next()
    };
}

pub(super) fn media_pointer(base: &wa::Message) -> Option<MediaPointer> {
    let ((key, direct_path), kind) = first_file!(base, file => (file.media_key.clone(), file.direct_path.clone()))?;
    Some(MediaPointer { kind, key: key?, direct_path: direct_path? })
}

fn media(base: &wa::Message) -> Option<ReceivedMedia> {
    let ((mimetype, bytes), _) = first_file!(base, file => (file.mimetype.clone(), file.file_length))?;
    let (image, video) = (base.image_message.as_option(), base.video_message.as_option());
    let (audio, document) = (base.audio_message.as_option(), base.document_message.as_option());
    let thumbnail = image.and_then(|image| image.jpeg_thumbnail.as_ref());
    let thumbnail = thumbnail.or_else(|| video.and_then(|video| video.jpeg_thumbnail.as_ref()));
    let thumbnail = thumbnail.or_else(|| document.and_then(|document| document.jpeg_thumbnail.as_ref()));
    Some(ReceivedMedia {
        mimetype: mimetype.unwrap_or_default(),
        bytes: bytes.unwrap_or_default(),
        filename: document.and_then(|document| document.file_name.clone()),
        seconds: audio.and_then(|audio| audio.seconds).or_else(|| video.and_then(|video| video.seconds)),
        thumbnail_bytes: thumbnail.map_or(0, Vec::len),
        waveform_bytes: audio.and_then(|audio| audio.waveform.as_ref()).map_or(0, Vec::len),
    })
}
