//! Messages that came, as events: with the names and ids by which this session knows people.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rookery_model::{
    ChatKind, Choice, Event, EventKind, GroupId, IncomingChat, IncomingContent, IncomingMessage, Media, Message,
    MessageAuthor, MessageContent, MessageEventKind, MessageNote, MessageType, NameSource, ParticipantId,
    ParticipantIds, QuotedMessage, Role, Timestamp,
};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::SessionState;
use super::message::{Came, CameMessage, CameMessages, Generation};
use super::record::Link;
use crate::journal::{Claim, Keeping};
use crate::message_events::chat_names;

/// Characters of a message's text: as many as WhatsApp's own clients take.
const TEXT_CHARS_MAX: usize = 65_536;
/// Bytes of an event's data as JSON. An event has to fit into a batch of the journal with its content.
const DATA_BYTES_MAX: usize = 400 * 1024;
/// Bytes of a message's whole content that are kept: a usual picture's preview has 5,000. A larger one can be read, and not be quoted,
/// forwarded or fetched.
const PROTOCOL_BYTES_MAX: usize = 64 * 1024;

impl SessionState {
    /// Tells of messages or receipts.
    pub(super) fn came(&mut self, came: Came) {
        match came {
            Came::Messages(messages) => self.messages_came(messages),
            Came::Receipts { generation, events, kept } => self.receipts_came(generation, events, kept),
        }
    }

    fn messages_came(&mut self, came: CameMessages) {
        let are_ours = came.are_own && self.record.link == Link::Linked;
        if !are_ours && !self.engine.is_current(came.generation) {
            // They come again.
            let _ = came.kept.send(false);
            return;
        }
        if self.engine.turned_away.is_some() {
            // Nothing of an account that is turned away is taken in.
            let _ = came.kept.send(true);
            return;
        }
        if self.engine.any().is_some_and(|engine| self.is_to_change_to(&engine.me())) {
            return self.held_messages.push(came);
        }
        self.tell_messages(came);
    }

    /// Tells of the messages that waited for the account to be known.
    pub(super) fn tell_held_messages(&mut self) {
        for held in std::mem::take(&mut self.held_messages) {
            self.tell_messages(held);
        }
    }

    fn tell_messages(&mut self, CameMessages { are_own, messages, kept, .. }: CameMessages) {
        if self.journal.is_refused() && !are_own {
            let _ = kept.send(false);
            return;
        }
        let events: Vec<Event> = messages.into_iter().filter_map(|came| self.event_of(came)).collect();
        let keeping = Keeping::new(events.len(), kept);
        for event in events {
            let keeping = keeping.clone();
            let claim = if are_own { Claim::Report(Some(keeping)) } else { Claim::Again(keeping) };
            self.journal.tell_message(event, claim);
        }
    }

    /// Tells of receipts.
    fn receipts_came(&mut self, generation: Generation, events: Vec<Event>, kept: oneshot::Sender<bool>) {
        if !self.engine.is_current(generation) && self.record.link != Link::Linked {
            // The account is gone, and its events are.
            return;
        }
        let keeping = Keeping::new(events.len(), kept);
        for event in events {
            self.journal.tell_message(event, Claim::Later(Some(keeping.clone())));
        }
    }

    /// The event that tells of a message; `None`: it tells of nothing.
    fn event_of(&mut self, CameMessage { mut message, replaces }: CameMessage) -> Option<Event> {
        let me = self.record.me();
        if message.is_from_me {
            message.author = Some(me);
        }
        if let (Some(author), Some(name)) = (&message.author, &message.author_name) {
            self.cache.names.learn(author, name, NameSource::Push);
        }
        self.cache.numbers.seen(&message.author);
        if let IncomingChat::Person(person) = &mut message.chat
            && let Some(known) = person.phone.and_then(|phone| self.cache.numbers.get(phone, Timestamp::now()))
        {
            person.learn(&known.unwrap_or_default());
        }
        let group = if let IncomingChat::Group(group) = &message.chat { Some(group.clone()) } else { None };
        let written_by = match &message.content {
            IncomingContent::Revoked { written_by: Some(author), .. } => author.ids().collect(),
            _ => Vec::new(),
        };
        if !written_by.is_empty() && self.is_plain_member(group.as_ref(), message.author.as_ref()) {
            return None;
        }
        let (kind, target) = match &message.content {
            IncomingContent::Message(_) | IncomingContent::Masked if message.is_from_me => {
                (MessageEventKind::Sent, None)
            }
            IncomingContent::Message(_) | IncomingContent::Masked => (MessageEventKind::Received, None),
            IncomingContent::Edited { target, .. } => (MessageEventKind::Edited, Some(target.clone())),
            IncomingContent::Revoked { target, .. } => (MessageEventKind::Revoked, Some(target.clone())),
            IncomingContent::Reaction { target, .. } => (MessageEventKind::Reaction, Some(target.clone())),
            IncomingContent::Vote { target, .. } => (MessageEventKind::PollVote, Some(target.clone())),
        };
        let is_text_stored = self.context.options.store_message_text;
        let fits = is_text_stored && !message.protocol.is_empty() && message.protocol.len() <= PROTOCOL_BYTES_MAX;
        let note = MessageNote {
            chats: chat_names(&message.chat),
            id: target.clone().unwrap_or_else(|| message.id.clone()),
            change: target.map(|_| message.id.clone()),
            is_from_me: message.is_from_me,
            authors: message.author.iter().flat_map(ParticipantIds::ids).collect(),
            recipients: self.recipients(&message),
            written_by,
            protocol: fits.then(|| STANDARD.encode(&message.protocol)),
        };
        let mut data = self.data_of(&message, &me, is_text_stored);
        if let Some(replaces) = replaces {
            data.insert("replaces".to_owned(), json!(replaces));
        }
        shorten(&mut data);
        Some(Event {
            session: self.entry.id,
            number: 0,
            id: Uuid::now_v7(),
            kind: EventKind::Message(kind),
            occurred_at: message.at,
            seen_at: Timestamp::now(),
            actor: message.author.as_ref().and_then(ParticipantIds::id),
            group,
            message: Some(Box::new(note)),
            data,
        })
    }

    /// How many others a message of the account's own goes to; `None` where it is not in a group that is known.
    fn recipients(&self, message: &IncomingMessage) -> Option<u32> {
        let IncomingChat::Group(group) = &message.chat else { return None };
        let is_sent = message.is_from_me && matches!(message.content, IncomingContent::Message(_));
        let record = self.cache.record(group).filter(|_| is_sent)?;
        let me = self.record.me();
        let others = record.members.iter().filter(|member| !member.person.is(&me)).count();
        u32::try_from(others).ok()
    }

    /// Whether somebody is known to be no admin of a group, and so may not delete what others wrote there. Before the groups of this log-in are read, nobody is.
    fn is_plain_member(&self, group: Option<&GroupId>, person: Option<&ParticipantIds>) -> bool {
        let Some(group) = group.filter(|_| self.is_ready()) else { return false };
        let record = self.cache.record(group);
        let role = record.zip(person).and_then(|(record, person)| record.member(person).map(|member| member.role));
        role == Some(Role::Member)
    }

    /// The event's data (contract, section 6).
    fn data_of(&self, message: &IncomingMessage, me: &ParticipantIds, is_text_stored: bool) -> Map<String, Value> {
        let place = Place::of(message, me);
        let data = match &message.content {
            IncomingContent::Message(content) => self.shown(message, content, &place, is_text_stored),
            IncomingContent::Masked => {
                let content = MessageContent { kind: MessageType::Masked, ..MessageContent::default() };
                self.shown(message, &content, &place, is_text_stored)
            }
            IncomingContent::Edited { target, text, mentions } => {
                let mut data = place.change(message, target);
                data["body"] = json!(if is_text_stored { cut(text) } else { "" });
                if is_text_stored && is_long(text) {
                    data["truncated"] = json!(true);
                }
                if !mentions.is_empty() {
                    data["mentionedIds"] = json!(self.mentioned(&message.chat, mentions));
                }
                data
            }
            IncomingContent::Revoked { target, .. } => {
                let mut data = place.change(message, target);
                (data["revokedId"], data["type"], data["body"]) = (json!(target), json!("revoked"), json!(""));
                data
            }
            IncomingContent::Vote { target, choice } => {
                let mut data = place.change(message, target);
                let options = if let Choice::Options(options) = choice { Some(options) } else { None };
                data["options"] = json!(options.filter(|_| is_text_stored));
                data["senderId"] = json!(message.author.as_ref().and_then(ParticipantIds::id));
                data
            }
            IncomingContent::Reaction { target, emoji } => {
                let mut data = place.change(message, target);
                data["reaction"] = json!(if is_text_stored { emoji } else { "" });
                data["removed"] = json!(emoji.is_empty());
                data["senderId"] = json!(message.author.as_ref().and_then(ParticipantIds::id));
                data
            }
        };
        let Value::Object(mut data) = data else { return Map::new() };
        if !is_text_stored {
            data.insert("textStored".to_owned(), json!(false));
        }
        data
    }

    fn shown(&self, message: &IncomingMessage, content: &MessageContent, place: &Place, is_text_stored: bool) -> Value {
        let author = message.author.as_ref();
        let phone = author.and_then(|author| author.phone).map(|digits| digits.to_string());
        let contact = author.filter(|_| !message.is_from_me).and_then(|author| {
            Some(MessageAuthor {
                id: author.id()?,
                number: phone.clone(),
                name: self.cache.names.of(author).map(|name| name.to_string()),
                push_name: message.author_name.clone(),
            })
        });
        let text = |text: &str| if is_text_stored { cut(text).to_owned() } else { String::new() };
        let shown = Message {
            id: message.id.clone(),
            from: place.from.clone(),
            to: place.to.clone(),
            chat_id: place.chat.clone(),
            body: text(&content.text),
            kind: content.kind,
            timestamp: message.at.0.div_euclid(1_000),
            from_me: message.is_from_me,
            is_group: place.kind == ChatKind::Group,
            chat_kind: place.kind,
            author: author.filter(|_| place.kind == ChatKind::Group).and_then(ParticipantIds::id),
            mentioned_ids: self.mentioned(&message.chat, &content.mentions),
            sender_phone: phone,
            contact,
            media: content.media.clone().map(|media| {
                let filename = media.filename.filter(|_| is_text_stored);
                Media { filename, ..media }
            }),
            quoted_message: content
                .quoted
                .as_ref()
                .map(|(id, body)| QuotedMessage { id: id.clone(), body: text(body) }),
            location: content.location.clone().filter(|_| is_text_stored),
            poll: content.poll.clone().filter(|_| is_text_stored),
            ephemeral_duration: content.ephemeral_seconds,
            is_forwarded: content.is_forwarded,
            replaces: None,
            truncated: is_text_stored && is_long(&content.text),
            text_stored: true,
        };
        json!(shown)
    }

    /// People by the ids that answers show: a group may know the number of somebody who is mentioned by LID.
    fn mentioned(&self, chat: &IncomingChat, people: &[ParticipantIds]) -> Vec<ParticipantId> {
        let group = if let IncomingChat::Group(group) = chat { self.cache.record(group) } else { None };
        let member = |person: &ParticipantIds| group.as_ref().and_then(|group| group.member(person));
        people.iter().filter_map(|person| member(person).map_or(*person, |member| member.person).id()).collect()
    }
}

/// Where a message was written, by the ids that answers show.
struct Place {
    chat: String,
    from: String,
    to: String,
    kind: ChatKind,
}

impl Place {
    fn of(message: &IncomingMessage, me: &ParticipantIds) -> Self {
        let (chat, kind) = match &message.chat {
            IncomingChat::Person(person) => {
                (person.id().map(|id| id.to_string()).unwrap_or_default(), ChatKind::Individual)
            }
            IncomingChat::Group(group) => (group.to_string(), ChatKind::Group),
            IncomingChat::Other(id, kind) => (id.clone(), *kind),
        };
        let me = me.id().map(|id| id.to_string()).unwrap_or_default();
        let (from, to) = if message.is_from_me { (me, chat.clone()) } else { (chat.clone(), me) };
        Self { chat, from, to, kind }
    }

    /// What all changes of messages have.
    fn change(&self, message: &IncomingMessage, target: &str) -> Value {
        let mut data = json!({
            "id": target,
            "messageId": target,
            "chatId": self.chat,
            "from": self.from,
            "to": self.to,
            "timestamp": message.at.0.div_euclid(1_000),
            "fromMe": message.is_from_me,
            "isGroup": self.kind == ChatKind::Group,
            "kind": self.kind,
        });
        if let Some(author) = message.author.as_ref().filter(|_| self.kind == ChatKind::Group) {
            data["author"] = json!(author.id());
        }
        data
    }
}

/// Takes the largest parts out of data that nobody can have written with WhatsApp's own clients.
fn shorten(data: &mut Map<String, Value>) {
    let is_long = |data: &Map<String, Value>| serde_json::to_vec(data).map_or(0, |json| json.len()) > DATA_BYTES_MAX;
    for part in ["poll", "location", "quotedMessage", "mentionedIds", "media", "contact"] {
        if !is_long(data) {
            return;
        }
        data.remove(part);
    }
    if is_long(data) {
        data.insert("body".to_owned(), json!(""));
        data.insert("truncated".to_owned(), json!(true));
    }
}

/// Whether a text is longer than what is kept of it.
fn is_long(text: &str) -> bool {
    cut(text).len() < text.len()
}

/// As much of a text as is kept.
fn cut(text: &str) -> &str {
    text.char_indices().nth(TEXT_CHARS_MAX).map_or(text, |(end, _)| &text[..end])
}
