//! Messages as they come: WhatsApp's form into ours. One conversion, no decisions.

use tracing::{debug, warn};
use wacore::proto_helpers::MessageExt as _;
use wacore::types::events::{InboundMessage, Receipt as EngineReceipt};
use wacore::types::message::MessageInfo;
use wacore::types::presence::ReceiptType;
use wacore_binary::{Jid, JidExt as _};
use waproto::whatsapp as wa;
use waproto::whatsapp::message::protocol_message::Type as ProtocolType;
use whatsapp_rust::buffa::Message as _;

use super::ids;
use rookery_model::{
    ChatId, ChatKind, Choice, IncomingChat, IncomingContent, IncomingMessage, Location, Media, MessageContent,
    MessageId, MessageType, OutgoingContent, OutgoingMessage, ParticipantIds, Poll, Reached, Receipt, Timestamp,
};

/// Characters of a message's id: WhatsApp's clients make up to 40.
const ID_CHARS_MAX: usize = 128;
/// Characters of a reaction: one emoji may be made of a dozen.
const EMOJI_CHARS_MAX: usize = 64;
/// Characters of names: of people, of files.
const NAME_CHARS_MAX: usize = 255;

/// A message; `None` where nobody has anything to read: keys, settings, the phone's talk with its devices, status updates.
pub(super) fn message(inbound: &InboundMessage) -> Option<IncomingMessage> {
    let content = content_of(&inbound.info, &inbound.message)?;
    with(&inbound.info, content, inbound.message.encode_to_vec())
}

/// A message of ours, as it was sent.
pub(super) fn sent(sent: &OutgoingMessage, at: Timestamp, message: &wa::Message) -> IncomingMessage {
    IncomingMessage {
        id: MessageId::of(&sent.seed).as_str().to_owned(),
        chat: match &sent.chat {
            ChatId::Person(person) => IncomingChat::Person((*person).into()),
            ChatId::Group(group) => IncomingChat::Group(group.clone()),
        },
        author: None,
        author_name: None,
        is_from_me: true,
        at,
        content: content_of_sent(sent, message),
        protocol: message.encode_to_vec(),
    }
}

fn content_of_sent(sent: &OutgoingMessage, message: &wa::Message) -> IncomingContent {
    match &sent.content {
        OutgoingContent::Reaction { to, emoji } => {
            IncomingContent::Reaction { target: to.id.clone(), emoji: emoji.clone() }
        }
        OutgoingContent::Edit { of, text } => IncomingContent::Edited {
            target: of.id.clone(),
            text: text.clone(),
            mentions: sent.mentions.iter().map(|person| (*person).into()).collect(),
        },
        OutgoingContent::Revocation(of) => {
            IncomingContent::Revoked { target: of.id.clone(), written_by: (!of.is_from_me).then_some(of.author) }
        }
        OutgoingContent::Vote { poll, options, .. } => {
            IncomingContent::Vote { target: poll.id.clone(), choice: Choice::Options(options.clone()) }
        }
        _ => IncomingContent::Message(Box::new(shown(message.get_base_message()).unwrap_or_default())),
    }
}

/// What somebody else's device says of messages of ours; `None`: nothing that people see in WhatsApp's clients. A device in the background
/// (`inactive`) gives no tick there.
pub(super) fn receipt(receipt: &EngineReceipt) -> Option<Receipt> {
    let source = &receipt.source;
    let reached = match receipt.r#type {
        ReceiptType::Delivered => Reached::Delivered,
        ReceiptType::Read => Reached::Read,
        ReceiptType::Played => Reached::Played,
        _ => return None,
    };
    let person = ids::person_of([Some(&source.sender), source.sender_alt.as_ref(), None])?;
    let chat = match ids::group_id(&source.chat) {
        Some(group) => IncomingChat::Group(group),
        None if source.chat.is_newsletter() || source.chat.is_status_broadcast() => return None,
        None => IncomingChat::Person(person),
    };
    let ids: Vec<String> = receipt.message_ids.iter().filter_map(|id| checked_id(id)).collect();
    let at = Timestamp(receipt.timestamp.timestamp_millis());
    (!source.is_from_me && !ids.is_empty()).then_some(Receipt { chat, person, ids, reached, at })
}

/// A message that could not be decrypted; `None` as [`message`].
pub(super) fn masked(info: &MessageInfo) -> Option<IncomingMessage> {
    with(info, IncomingContent::Masked, Vec::new())
}

fn with(info: &MessageInfo, content: IncomingContent, protocol: Vec<u8>) -> Option<IncomingMessage> {
    let source = &info.source;
    let author = ids::person_of([Some(&source.sender), source.sender_alt.as_ref(), None]);
    let Some(id) = checked_id(&info.id) else {
        warn!("a message has an id that no client of WhatsApp makes, it is left out");
        return None;
    };
    Some(IncomingMessage {
        id,
        chat: chat_of(info, author.as_ref())?,
        author,
        author_name: Some(cut(&info.push_name, NAME_CHARS_MAX)).filter(|name| !name.is_empty() && !source.is_from_me),
        is_from_me: source.is_from_me,
        at: Timestamp(info.timestamp.timestamp_millis()),
        content,
        protocol,
    })
}

/// An id that WhatsApp's clients can have made. Others may be of any length.
fn checked_id(id: &str) -> Option<String> {
    let is_usual = !id.is_empty() && id.len() <= ID_CHARS_MAX && !id.chars().any(char::is_control);
    is_usual.then(|| id.to_owned())
}

fn cut(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

fn chat_of(info: &MessageInfo, author: Option<&ParticipantIds>) -> Option<IncomingChat> {
    let source = &info.source;
    if let Some(group) = ids::group_id(&source.chat) {
        return Some(IncomingChat::Group(group));
    }
    if source.chat.is_status_broadcast() {
        return None;
    }
    if source.chat.is_newsletter() {
        return Some(IncomingChat::Other(source.chat.to_string(), ChatKind::Channel));
    }
    if source.is_from_me {
        let other = [Some(&source.chat), source.recipient_alt.as_ref(), info.peer_recipient_pn.as_ref()];
        let other = ids::person_of(other).map(IncomingChat::Person);
        return Some(other.unwrap_or_else(|| IncomingChat::Other(source.chat.to_string(), ChatKind::Unknown)));
    }
    // What somebody sends to a broadcast list is in the chat with that person.
    match author {
        Some(author) => Some(IncomingChat::Person(*author)),
        None => Some(IncomingChat::Other(source.chat.to_string(), ChatKind::Unknown)),
    }
}

fn content_of(info: &MessageInfo, message: &wa::Message) -> Option<IncomingContent> {
    let base = message.get_base_message();
    if let Some(protocol) = base.protocol_message.as_option() {
        return changed(info, protocol);
    }
    if let Some(reaction) = base.reaction_message.as_option() {
        let target = target_of(info, reaction.key.as_option()?)?;
        let emoji = reaction.text.as_deref().map(|emoji| cut(emoji, EMOJI_CHARS_MAX)).unwrap_or_default();
        return Some(IncomingContent::Reaction { target, emoji });
    }
    if let Some(update) = base.poll_update_message.as_option() {
        let target = target_of(info, update.poll_creation_message_key.as_option()?)?;
        let vote = update.vote.as_option()?;
        let (payload, iv) = (vote.enc_payload.clone()?, vote.enc_iv.clone()?);
        return Some(IncomingContent::Vote { target, choice: Choice::Encrypted { payload, iv } });
    }
    // It stands for what linked devices do not get, or do not get yet.
    if base.placeholder_message.is_set() {
        return Some(IncomingContent::Masked);
    }
    shown(base).map(|content| IncomingContent::Message(Box::new(content)))
}

/// An edit or a revocation; `None`: the protocol's own talk.
fn changed(info: &MessageInfo, protocol: &wa::message::ProtocolMessage) -> Option<IncomingContent> {
    let key = protocol.key.as_option()?;
    let target = target_of(info, key)?;
    match protocol.r#type? {
        ProtocolType::REVOKE => {
            let own = ids::person_of([Some(&info.source.sender), info.source.sender_alt.as_ref(), None]);
            let named = key.participant.as_deref().and_then(|author| author.parse::<Jid>().ok());
            let author = named.and_then(|author| ids::person(&author));
            let written_by = author.filter(|author| !own.is_some_and(|own| own.is(author)));
            Some(IncomingContent::Revoked { target, written_by })
        }
        ProtocolType::MESSAGE_EDIT => {
            let edited = protocol.edited_message.as_option()?.get_base_message();
            let (text, mentions) = (text_of(edited).unwrap_or_default(), mentions_of(edited));
            Some(IncomingContent::Edited { target, text, mentions })
        }
        _ => None,
    }
}

/// The id of the message that a change names; `None`: it names none, or one of a chat that it was not sent to, which WhatsApp's clients let
/// be. In a chat with a person, each side names it by the other one's ids, so that only a group is certain to be another chat.
fn target_of(info: &MessageInfo, key: &wa::MessageKey) -> Option<String> {
    let named = key.remote_jid.as_deref().and_then(|chat| chat.parse::<Jid>().ok());
    let is_elsewhere = |named: &Jid| {
        let (named, chat) = (ids::group_id(named), ids::group_id(&info.source.chat));
        named.is_some() && named != chat
    };
    if named.as_ref().is_some_and(is_elsewhere) {
        // Anybody in a group can send any number of these.
        debug!("a change names a message of another chat, it is left out");
        return None;
    }
    checked_id(key.id.as_deref()?)
}

/// What there is to read, see or hear; `None`: nothing.
fn shown(base: &wa::Message) -> Option<MessageContent> {
    let kind = kind_of(base)?;
    let context = context_of(base);
    let quoted = context.and_then(|context| {
        let text = context.quoted_message.as_option().and_then(|quoted| text_of(quoted.get_base_message()));
        Some((checked_id(context.stanza_id.as_deref()?)?, text.unwrap_or_default()))
    });
    Some(MessageContent {
        kind,
        text: text_of(base).unwrap_or_default(),
        mentions: mentions_of(base),
        quoted,
        media: media_of(base),
        location: location_of(base),
        poll: poll_of(base),
        ephemeral_seconds: context.and_then(|context| context.expiration).filter(|seconds| *seconds > 0),
        is_forwarded: context.is_some_and(|context| context.is_forwarded == Some(true)),
    })
}

fn kind_of(base: &wa::Message) -> Option<MessageType> {
    let is_voice = base.audio_message.as_option().is_some_and(|audio| audio.ptt == Some(true));
    let is_business_text = base.interactive_message.is_set()
        || base.interactive_response_message.is_set()
        || base.buttons_message.is_set()
        || base.buttons_response_message.is_set()
        || base.list_message.is_set()
        || base.list_response_message.is_set()
        || base.template_message.is_set()
        || base.template_button_reply_message.is_set()
        || base.group_invite_message.is_set();
    let is_poll = base.poll_creation_message.is_set()
        || base.poll_creation_message_v2.is_set()
        || base.poll_creation_message_v3.is_set();
    // Parts of a message that follows, and what refers to another message in a way that callers do not see.
    let is_other = base.pin_in_chat_message.is_set()
        || base.keep_in_chat_message.is_set()
        || base.album_message.is_set()
        || base.enc_reaction_message.is_set()
        || base.enc_event_response_message.is_set()
        || base.secret_encrypted_message.is_set();
    let kinds = [
        (base.conversation.is_some() || base.extended_text_message.is_set(), MessageType::Text),
        (base.image_message.is_set(), MessageType::Image),
        (base.video_message.is_set() || base.ptv_message.is_set(), MessageType::Video),
        (is_voice, MessageType::Voice),
        (base.audio_message.is_set(), MessageType::Audio),
        (base.document_message.is_set(), MessageType::Document),
        (base.sticker_message.is_set(), MessageType::Sticker),
        (base.location_message.is_set() || base.live_location_message.is_set(), MessageType::Location),
        (base.contact_message.is_set() || base.contacts_array_message.is_set(), MessageType::Contact),
        (is_poll, MessageType::Poll),
        (base.call_log_messsage.is_set() || base.call.is_set(), MessageType::Call),
        (is_business_text, MessageType::Text),
    ];
    let known = kinds.into_iter().find(|(is_it, _)| *is_it).map(|(_, kind)| kind);
    known.or_else(|| (!is_other && has_anything(base)).then_some(MessageType::Unknown))
}

/// Whether a message has more than keys and context.
fn has_anything(base: &wa::Message) -> bool {
    let mut rest = base.clone();
    rest.message_context_info.take();
    rest.sender_key_distribution_message.take();
    rest.fast_ratchet_key_sender_key_distribution_message.take();
    rest != wa::Message::default()
}

fn text_of(base: &wa::Message) -> Option<String> {
    let text = base.text_content().or(base.get_caption()).map(str::to_owned);
    let card = || base.contact_message.as_option().and_then(|contact| contact.vcard.clone());
    let cards = || {
        let contacts = base.contacts_array_message.as_option()?.contacts.iter();
        Some(contacts.filter_map(|contact| contact.vcard.clone()).collect::<Vec<_>>().join("\n"))
    };
    let place = || {
        let location = base.location_message.as_option()?;
        location.name.clone().or_else(|| location.comment.clone())
    };
    let poll = || poll_of(base).map(|poll| poll.name);
    text.or_else(card).or_else(cards).or_else(place).or_else(poll).or_else(|| business_text(base))
}

/// The text of what businesses send.
fn business_text(base: &wa::Message) -> Option<String> {
    let interactive = || base.interactive_message.as_option()?.body.as_option()?.text.clone();
    let response = || base.interactive_response_message.as_option()?.body.as_option()?.text.clone();
    let buttons = || base.buttons_message.as_option()?.content_text.clone();
    let list = || base.list_message.as_option()?.description.clone();
    let chosen = || base.list_response_message.as_option()?.title.clone();
    let replied = || base.template_button_reply_message.as_option()?.selected_display_text.clone();
    let template = || base.template_message.as_option()?.hydrated_template.as_option()?.hydrated_content_text.clone();
    let invite = || base.group_invite_message.as_option()?.caption.clone();
    let texts: [&dyn Fn() -> Option<String>; 8] =
        [&interactive, &response, &buttons, &list, &chosen, &replied, &template, &invite];
    texts.into_iter().find_map(|text| text())
}

/// The context of a message: mentions, quote, timer.
fn context_of(base: &wa::Message) -> Option<&wa::ContextInfo> {
    macro_rules! first_context {
        ($($field:ident),+ $(,)?) => {
            [$(base.$field.as_option().and_then(|part| part.context_info.as_option())),+]
        };
    }
    let contexts = first_context!(
        extended_text_message,
        image_message,
        video_message,
        ptv_message,
        audio_message,
        document_message,
        sticker_message,
        location_message,
        live_location_message,
        contact_message,
        contacts_array_message,
        poll_creation_message,
        poll_creation_message_v2,
        poll_creation_message_v3,
        buttons_message,
        list_message,
        interactive_message,
        group_invite_message,
    );
    contexts.into_iter().flatten().next()
}

fn mentions_of(base: &wa::Message) -> Vec<ParticipantIds> {
    let mentioned = context_of(base).map(|context| context.mentioned_jid.as_slice()).unwrap_or_default();
    mentioned.iter().filter_map(|jid| ids::person(&jid.parse().ok()?)).collect()
}

fn media_of(base: &wa::Message) -> Option<Media> {
    macro_rules! described {
        ($field:ident, $name:expr) => {
            base.$field.as_option().map(|file| Media {
                mimetype: file.mimetype.as_deref().map(|kind| cut(kind, NAME_CHARS_MAX)).unwrap_or_default(),
                filename: $name(file),
                omitted: true,
                size_bytes: file.file_length,
            })
        };
    }
    let files = [
        described!(image_message, |_| None),
        described!(video_message, |_| None),
        described!(ptv_message, |_| None),
        described!(audio_message, |_| None),
        described!(sticker_message, |_| None),
        described!(document_message, |file: &wa::message::DocumentMessage| file
            .file_name
            .as_deref()
            .map(|name| cut(name, NAME_CHARS_MAX))),
    ];
    files.into_iter().flatten().next()
}

fn location_of(base: &wa::Message) -> Option<Location> {
    if let Some(live) = base.live_location_message.as_option() {
        let (latitude, longitude) = (live.degrees_latitude?, live.degrees_longitude?);
        return Some(Location { latitude, longitude, description: live.caption.clone(), address: None, url: None });
    }
    let location = base.location_message.as_option()?;
    Some(Location {
        latitude: location.degrees_latitude?,
        longitude: location.degrees_longitude?,
        description: location.name.clone(),
        address: location.address.clone(),
        url: location.url.clone(),
    })
}

pub(super) fn poll_of(base: &wa::Message) -> Option<Poll> {
    let polls = [&base.poll_creation_message, &base.poll_creation_message_v2, &base.poll_creation_message_v3];
    let poll = polls.into_iter().find_map(|poll| poll.as_option())?;
    Some(Poll {
        name: poll.name.clone().unwrap_or_default(),
        options: poll.options.iter().filter_map(|option| option.option_name.clone()).collect(),
        allow_multiple_answers: poll.selectable_options_count != Some(1),
    })
}
