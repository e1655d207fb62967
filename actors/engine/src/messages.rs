//! Messages as they are sent: our own form into WhatsApp's, and the wait for WhatsApp's acknowledgement.

use std::time::Duration;

use tokio::time::timeout;
use wacore::proto_helpers::{MessageExt as _, build_quote_context};
use waproto::whatsapp as wa;
use waproto::whatsapp::message::pin_in_chat_message::Type as PinType;
use waproto::whatsapp::message::protocol_message::Type as ProtocolType;
use whatsapp_rust::buffa::{Message as _, MessageField};
use whatsapp_rust::{Freshness, Jid, SendOptions};

use super::{Engine, EngineError, file_messages, ids, incoming, votes};
use rookery_model::{
    ChatId, EarlierContent, EarlierMessage, IncomingMessage, LinkPreview, MessageId, OutgoingContent, OutgoingMessage,
    ParticipantId, ParticipantIds, Quote, Timestamp,
};

/// WhatsApp acknowledges a message within a second. After this long it is sent once more, under the same id.
const ACKNOWLEDGEMENT_TIME_MAX: Duration = Duration::from_secs(5);
/// WhatsApp's code for a message that names the people of a group in another way than the group does by now.
const STALE_ADDRESSING: u16 = 421;
/// "Everybody" as a mention; the value is WhatsApp Web's.
const EVERYBODY: u32 = 1;

impl Engine {
    /// Sends a message, and waits until WhatsApp's server or a recipient has it. Returns it as others get it. Sending a message again
    /// with the same seed does no harm: WhatsApp shows it once.
    ///
    /// # Errors
    /// [`EngineError::Refused`] with WhatsApp's code; [`EngineError::Unanswered`] when nothing was heard of it for five
    /// seconds.
    pub async fn send_message(&self, message: &OutgoingMessage) -> Result<IncomingMessage, EngineError> {
        match self.send_once(message, Freshness::CachePreferred).await {
            Err(EngineError::Refused { code: STALE_ADDRESSING, .. }) => {
                self.send_once(message, Freshness::Refresh).await
            }
            result => result,
        }
    }

    async fn send_once(&self, message: &OutgoingMessage, group: Freshness) -> Result<IncomingMessage, EngineError> {
        let id = &MessageId::of(&message.seed);
        let me = self.me();
        let mut content = content_of(message, &me)?;
        attach(&mut content, message, &me)?;
        let to = jid_of(&message.chat);
        let mut options = SendOptions::default().with_message_id(id.as_str());
        options.group_metadata_freshness = group;
        // Before it is sent: the acknowledgement may be here before this call goes on.
        let mut acknowledged = self.acknowledgements.wait_for(id);
        self.client.send_message_with_options(to, content.clone(), options).await?;
        match timeout(ACKNOWLEDGEMENT_TIME_MAX, acknowledged.answer()).await {
            Ok(Some(Ok(taken_at))) => Ok(incoming::sent(message, taken_at, &content)),
            Ok(Some(Err(code))) => Err(EngineError::Refused { code, backoff_s: None }),
            Ok(None) | Err(_) => Err(EngineError::Unanswered("the message was not acknowledged".into())),
        }
    }
}

/// # Errors
/// [`EngineError::Invalid`] when a message that is forwarded or quoted cannot be read.
fn content_of(sent: &OutgoingMessage, me: &ParticipantIds) -> Result<wa::Message, EngineError> {
    let mut message = wa::Message::default();
    match &sent.content {
        OutgoingContent::Text { text, preview } => {
            message.extended_text_message = MessageField::some(text_message(text, preview.as_ref()));
        }
        OutgoingContent::Location { latitude, longitude, name, address } => {
            message.location_message = MessageField::some(wa::message::LocationMessage {
                degrees_latitude: Some(*latitude),
                degrees_longitude: Some(*longitude),
                name: name.clone(),
                address: address.clone(),
                ..Default::default()
            });
        }
        OutgoingContent::Contact { name, number } => {
            message.contact_message = MessageField::some(wa::message::ContactMessage {
                display_name: Some(name.clone()),
                vcard: Some(vcard(name, *number)),
                ..Default::default()
            });
        }
        OutgoingContent::Poll { name, options, allows_many } => {
            let option = |name: &String| wa::message::poll_creation_message::Option {
                option_name: Some(name.clone()),
                ..Default::default()
            };
            let poll = MessageField::some(wa::message::PollCreationMessage {
                name: Some(name.clone()),
                options: options.iter().map(option).collect(),
                selectable_options_count: Some(u32::from(!allows_many)),
                ..Default::default()
            });
            // WhatsApp Web has one message for polls with one choice, and another one for the others.
            if *allows_many {
                message.poll_creation_message = poll;
            } else {
                message.poll_creation_message_v3 = poll;
            }
        }
        OutgoingContent::File(file) => message = file_messages::message_of(file),
        OutgoingContent::Forward(earlier) => message = *decoded(earlier)?.prepare_for_forward(),
        OutgoingContent::Reaction { .. }
        | OutgoingContent::Edit { .. }
        | OutgoingContent::Revocation(_)
        | OutgoingContent::Vote { .. }
        | OutgoingContent::Pin { .. } => message = change_of(sent, me)?,
    }
    Ok(message)
}

/// What a message says that changes an earlier one; nothing for others.
fn change_of(sent: &OutgoingMessage, me: &ParticipantIds) -> Result<wa::Message, EngineError> {
    let mut message = wa::Message::default();
    match &sent.content {
        OutgoingContent::Reaction { to, emoji } => {
            message.reaction_message = MessageField::some(wa::message::ReactionMessage {
                key: MessageField::some(key_of(to, sent, me)),
                text: Some(emoji.clone()),
                sender_timestamp_ms: Some(Timestamp::now().0),
                ..Default::default()
            });
        }
        OutgoingContent::Edit { of, text } => {
            let mut edited = wa::Message {
                extended_text_message: MessageField::some(text_message(text, None)),
                ..Default::default()
            };
            add_context(&mut edited, sent, me)?;
            message.protocol_message = MessageField::some(wa::message::ProtocolMessage {
                key: MessageField::some(key_of(of, sent, me)),
                r#type: Some(ProtocolType::MESSAGE_EDIT),
                edited_message: MessageField::some(edited),
                timestamp_ms: Some(Timestamp::now().0),
                ..Default::default()
            });
        }
        OutgoingContent::Revocation(of) => {
            message.protocol_message = MessageField::some(wa::message::ProtocolMessage {
                key: MessageField::some(key_of(of, sent, me)),
                r#type: Some(ProtocolType::REVOKE),
                ..Default::default()
            });
        }
        OutgoingContent::Vote { poll, content, options } => {
            let creator = author_of(poll, sent.is_by_lid, me).map(|creator| creator.to_string()).unwrap_or_default();
            let voter = named(me, sent.is_by_lid).map(|voter| voter.to_string()).unwrap_or_default();
            let vote = votes::encrypted(&content.protocol, &poll.id, &creator, &voter, options)?;
            message.poll_update_message = MessageField::some(wa::message::PollUpdateMessage {
                poll_creation_message_key: MessageField::some(key_of(poll, sent, me)),
                vote: MessageField::some(vote),
                sender_timestamp_ms: Some(Timestamp::now().0),
                ..Default::default()
            });
        }
        OutgoingContent::Pin { of, seconds } => {
            let kind = if seconds.is_some() { PinType::PinForAll } else { PinType::UnpinForAll };
            message.pin_in_chat_message = MessageField::some(wa::message::PinInChatMessage {
                key: MessageField::some(key_of(of, sent, me)),
                r#type: Some(kind),
                sender_timestamp_ms: Some(Timestamp::now().0),
            });
            message.message_context_info = MessageField::some(wa::MessageContextInfo {
                message_add_on_duration_in_secs: Some(seconds.unwrap_or_default()),
                ..Default::default()
            });
        }
        _ => {}
    }
    Ok(message)
}

/// An earlier message, with the text that it has now.
fn decoded(earlier: &EarlierContent) -> Result<wa::Message, EngineError> {
    let message = wa::Message::decode_from_slice(&earlier.protocol)
        .map_err(|_| EngineError::Invalid("the earlier message is unreadable".into()))?;
    let Some(text) = &earlier.text else { return Ok(message) };
    let mut message = message.get_base_message().clone();
    let caption = if let Some(image) = message.image_message.as_option_mut() {
        &mut image.caption
    } else if let Some(video) = message.video_message.as_option_mut() {
        &mut video.caption
    } else if let Some(document) = message.document_message.as_option_mut() {
        &mut document.caption
    } else if let Some(extended) = message.extended_text_message.as_option_mut() {
        &mut extended.text
    } else {
        &mut message.conversation
    };
    *caption = Some(text.clone());
    Ok(message)
}

/// How WhatsApp names an earlier message. Only in a group, and for messages of others, it names the author.
fn key_of(earlier: &EarlierMessage, message: &OutgoingMessage, me: &ParticipantIds) -> wa::MessageKey {
    let author = author_of(earlier, message.is_by_lid, me);
    let is_named = matches!(message.chat, ChatId::Group(_)) && !earlier.is_from_me;
    wa::MessageKey {
        remote_jid: Some(jid_of(&message.chat).to_string()),
        from_me: Some(earlier.is_from_me),
        id: Some(earlier.id.clone()),
        participant: author.filter(|_| is_named).map(|author| author.to_string()),
    }
}

/// The author of an earlier message, as the chat names people.
pub(super) fn author_of(earlier: &EarlierMessage, is_by_lid: bool, me: &ParticipantIds) -> Option<Jid> {
    named(if earlier.is_from_me { me } else { &earlier.author }, is_by_lid)
}

/// A person as a chat names people.
fn named(person: &ParticipantIds, is_by_lid: bool) -> Option<Jid> {
    let lid = person.lid.map(|digits| ParticipantId::Lid(digits.get()));
    let phone = person.phone.map(|digits| ParticipantId::Phone(digits.get()));
    let id = if is_by_lid { lid.or(phone) } else { phone.or(lid) };
    id.map(ids::jid)
}

pub(super) fn jid_of(chat: &ChatId) -> Jid {
    match chat {
        ChatId::Person(person) => ids::jid(*person),
        ChatId::Group(group) => ids::group_jid(group),
    }
}

fn text_message(text: &str, preview: Option<&LinkPreview>) -> wa::message::ExtendedTextMessage {
    let shown = wa::message::ExtendedTextMessage { text: Some(text.to_owned()), ..Default::default() };
    let Some(preview) = preview else { return shown };
    wa::message::ExtendedTextMessage {
        matched_text: Some(preview.url.clone()),
        title: Some(preview.title.clone()),
        description: preview.description.clone(),
        ..shown
    }
}

/// A contact's card (vCard 3.0) with the number in the form that WhatsApp links to an account.
fn vcard(name: &str, number: u64) -> String {
    let escaped: String = name.chars().filter(|c| !c.is_control()).fold(String::new(), |mut escaped, c| {
        if matches!(c, '\\' | ',' | ';') {
            escaped.push('\\');
        }
        escaped.push(c);
        escaped
    });
    format!("BEGIN:VCARD\nVERSION:3.0\nN:;{escaped};;;\nFN:{escaped}\nTEL;type=CELL;waid={number}:+{number}\nEND:VCARD")
}

/// Adds the secret, the quote, mentions and the chat's timer. What changes an earlier message has none of them.
fn attach(content: &mut wa::Message, message: &OutgoingMessage, me: &ParticipantIds) -> Result<(), EngineError> {
    use OutgoingContent as C;
    let is_change = matches!(
        message.content,
        C::Reaction { .. } | C::Edit { .. } | C::Revocation(_) | C::Vote { .. } | C::Pin { .. }
    );
    if is_change {
        return Ok(());
    }
    // The engine would make up another secret each time the message is sent.
    content.message_context_info = MessageField::some(wa::MessageContextInfo {
        message_secret: Some(message.seed.secret().to_vec()),
        ..Default::default()
    });
    add_context(content, message, me)?;
    if let Some(seconds) = message.ephemeral_seconds {
        content.set_ephemeral_expiration(seconds);
    }
    Ok(())
}

/// Adds the quote and mentions.
fn add_context(content: &mut wa::Message, message: &OutgoingMessage, me: &ParticipantIds) -> Result<(), EngineError> {
    if message.mentions.is_empty() && !message.mentions_all && message.quoted.is_none() {
        return Ok(());
    }
    let mut context = match &message.quoted {
        Some(Quote { message: earlier, content }) => {
            let author = author_of(earlier, message.is_by_lid, me).map(|author| author.to_string()).unwrap_or_default();
            build_quote_context(earlier.id.as_str(), author, &decoded(content)?)
        }
        None => wa::ContextInfo::default(),
    };
    context.mentioned_jid = message.mentions.iter().map(|person| jid_text(*person)).collect();
    context.non_jid_mentions = message.mentions_all.then_some(EVERYBODY);
    content.set_context_info(context);
    Ok(())
}

fn jid_text(person: ParticipantId) -> String {
    let jid: Jid = ids::jid(person);
    jid.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_model::MessageSeed;

    fn message(content: OutgoingContent) -> wa::Message {
        let message = OutgoingMessage {
            seed: MessageSeed::from_bytes([7; MessageSeed::BYTES]),
            chat: ChatId::Person(ParticipantId::Phone(15_550_100_002)),
            content,
            is_by_lid: false,
            quoted: None,
            mentions: vec![ParticipantId::Lid(810_103_492_323_469)],
            mentions_all: true,
            ephemeral_seconds: Some(86_400),
        };
        let mut content = content_of(&message, &ParticipantIds::default()).unwrap();
        attach(&mut content, &message, &ParticipantIds::default()).unwrap();
        content
    }

    fn secret_of(content: &wa::Message) -> Option<Vec<u8>> {
        content.message_context_info.as_option().and_then(|context| context.message_secret.clone())
    }

    #[test]
    fn a_text_has_its_mentions_its_preview_its_secret_and_the_chats_timer() {
        let preview = LinkPreview { url: "https://a.test".into(), title: "A".into(), description: None };
        let content = message(OutgoingContent::Text { text: "see https://a.test".into(), preview: Some(preview) });
        let text = content.extended_text_message.as_option().expect("a text");
        assert_eq!((text.text.as_deref(), text.title.as_deref()), (Some("see https://a.test"), Some("A")));
        let context = text.context_info.as_option().expect("a context");
        assert_eq!(context.mentioned_jid, ["810103492323469@lid"]);
        assert_eq!((context.non_jid_mentions, context.expiration), (Some(EVERYBODY), Some(86_400)));
        assert_eq!(secret_of(&content), Some(vec![7; 32]));
    }

    #[test]
    fn a_poll_has_a_secret_and_says_how_many_may_be_chosen() {
        let poll = |allows_many| {
            message(OutgoingContent::Poll {
                name: "When?".into(),
                options: vec!["now".into(), "later".into()],
                allows_many,
            })
        };
        let one = poll(false);
        assert_eq!(one.poll_creation_message_v3.as_option().and_then(|poll| poll.selectable_options_count), Some(1));
        let many = poll(true);
        assert_eq!(many.poll_creation_message.as_option().and_then(|poll| poll.selectable_options_count), Some(0));
        assert_eq!(secret_of(&one), Some(vec![7; 32]));
    }

    #[test]
    fn a_card_holds_what_was_given_and_no_more() {
        let card = vcard("Bob; \nTEL:1, Jr\\", 15_550_100_002);
        assert_eq!(card.lines().count(), 6, "{card}");
        assert!(card.contains("FN:Bob\\; TEL:1\\, Jr\\\\") && card.contains("waid=15550100002:+15550100002"), "{card}");
    }
}
