//! Events of sessions and their groups, as a session's log holds them and webhooks and event streams send them
//! (contract, section 5). Never does IO.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{GroupId, ParticipantId, SessionId, Timestamp};

/// Something that happened to a session or to one of its groups: from a notification, from the session's own write, or
/// found by a refresh of the group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The session whose log holds the event. Not in the stored form: the rows are the session's.
    #[serde(skip, default = "nobody")]
    pub session: SessionId,
    /// Its number in that log: from 1, without a gap, also over restarts. Not in the stored form: the row's key has it.
    #[serde(skip)]
    pub number: u64,
    /// Its id, the same wherever it is shown: a UUID of version 7, made when this session saw it.
    pub id: Uuid,
    /// The kind of event.
    pub kind: EventKind,
    /// When it happened, as far as that is known; else when it was seen.
    pub occurred_at: Timestamp,
    /// When this session saw it.
    pub seen_at: Timestamp,
    /// Who did it, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<ParticipantId>,
    /// The group that it is about; `None`: it is about the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupId>,
    /// What is kept of the message that it is about, beside what is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Box<MessageNote>>,
    /// Further data. Of messages: as the contract says. Of groups: `participantIds`; `changes` with the new values by field and `before` with the old ones, where
    /// there are some; `reconciled` where a read of the group showed the change, so that nobody knows who made it. Of
    /// a session's status: `status`. Of a QR: `qrId` ([`Qr::id_of`](super::Qr)). Of a log-in: `phone`, `pushName`. Of its end:
    /// `reason`. Of lost connections: `reconnects`, `withinSeconds`. Of a restriction: `active`, `kind`, `code`, `expiresAt`. Of a passkey: `step`,
    /// `expiresAt`.
    pub data: Map<String, Value>,
}

impl Event {
    /// Something that happened to a session itself, now.
    #[must_use]
    pub fn of_session(session: SessionId, kind: EventKind, data: Map<String, Value>) -> Self {
        let now = Timestamp::now();
        let id = Uuid::now_v7();
        Self {
            session,
            number: 0,
            id,
            kind,
            occurred_at: now,
            seen_at: now,
            actor: None,
            group: None,
            message: None,
            data,
        }
    }

    /// The group whose state the event reports; `None`: it reports no group's state, as a message does not.
    #[must_use]
    pub fn group_of_state(&self) -> Option<&GroupId> {
        self.group.as_ref().filter(|_| matches!(self.kind, EventKind::Group(_)))
    }

    /// The event's data as webhooks and streams send it (contract, section 5): beside what is stored, what the other fields
    /// say, and `sequence`.
    #[must_use]
    pub fn payload(&self) -> Map<String, Value> {
        let mut payload = Map::new();
        if let EventKind::Message(_) = self.kind {
            payload.extend(self.data.clone());
            payload.insert("sequence".to_owned(), json!(self.number));
            return payload;
        }
        if let Some(group) = &self.group {
            payload.insert("groupId".to_owned(), json!(group));
        }
        payload.extend(self.data.clone());
        if self.group.is_some() {
            payload.insert("timestamp".to_owned(), json!(self.occurred_at.0.div_euclid(1_000)));
        }
        if let Some(actor) = &self.actor {
            payload.insert("actorId".to_owned(), json!(actor));
        }
        payload.insert("sequence".to_owned(), json!(self.number));
        payload
    }
}

/// What is kept of a message beside what is shown: the names by which it is found, and its content.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageNote {
    /// The ids by which callers may name the chat: of a person the phone number and the LID, as far as they are known.
    pub chats: Vec<String>,
    /// The message's id. Of a change, that of the message that is changed.
    pub id: String,
    /// The id of what brought the change, of a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// The session's account wrote it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_from_me: bool,
    /// The ids of the author; none: a channel.
    pub authors: Vec<ParticipantId>,
    /// Of a message of the account's own in a group: how many others it was sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients: Option<u32>,
    /// Of a deletion by an admin: the ids of who wrote the message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub written_by: Vec<ParticipantId>,
    /// The content as WhatsApp's protocol has it (protobuf `Message`), base64; `None`: it is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// Shows nothing of the message (P-1).
impl std::fmt::Debug for MessageNote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MessageNote")
    }
}

fn nobody() -> SessionId {
    SessionId(Uuid::nil())
}

/// The kinds of events.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// Something happened to a group.
    Group(GroupEventKind),
    /// A message, or a change of one.
    Message(MessageEventKind),
    /// The session has another status.
    SessionStatus,
    /// There is another QR to scan.
    Qr,
    /// The session is logged in and ready.
    Authenticated,
    /// The session is not connected any more.
    Disconnected,
    /// The session lost its connection over and over.
    ReconnectLoop,
    /// The session belongs to another account now, or to nobody.
    AccountChanged,
    /// A phone with another account than the session's was linked, and was unlinked again.
    OtherAccountRefused,
    /// WhatsApp forbids the account something, or something else, or nothing any more.
    Restriction,
    /// A link needs a person with a passkey, or one who compares a code.
    Passkey,
}

impl EventKind {
    /// The word for it in webhooks and streams.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group(kind) => kind.as_str(),
            Self::Message(kind) => kind.as_str(),
            Self::SessionStatus => "session.status",
            Self::Qr => "session.qr",
            Self::Authenticated => "session.authenticated",
            Self::Disconnected => "session.disconnected",
            Self::ReconnectLoop => "session.reconnect_loop",
            Self::AccountChanged => "session.account_changed",
            Self::OtherAccountRefused => "session.other_account",
            Self::Restriction => "session.restriction",
            Self::Passkey => "session.passkey",
        }
    }

    /// The kind with this word; `None` when this version knows none.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::all().find(|kind| kind.as_str() == word)
    }

    /// Whether this word names an event that OpenWA's clients know and this version never sends: to subscribe to it is no error.
    #[must_use]
    pub fn is_never_sent(word: &str) -> bool {
        const WORDS: [&str; 7] = [
            "message.failed",
            "call.received",
            "presence.update",
            "status.received",
            "call.accepted",
            "call.rejected",
            "call.missed",
        ];
        WORDS.contains(&word)
    }

    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        let sessions = [
            Self::SessionStatus,
            Self::Qr,
            Self::Authenticated,
            Self::Disconnected,
            Self::ReconnectLoop,
            Self::AccountChanged,
            Self::OtherAccountRefused,
            Self::Restriction,
            Self::Passkey,
        ];
        let groups = GroupEventKind::ALL.into_iter().map(Self::Group);
        groups.chain(MessageEventKind::ALL.into_iter().map(Self::Message)).chain(sessions)
    }
}

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Self::from_word(&word).ok_or_else(|| serde::de::Error::custom("an event of a kind that is not known"))
    }
}

/// Something that happened to a session without a request, and that belongs into the operator's audit log.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct OperatorNotice {
    /// The session.
    pub session: SessionId,
    /// What happened.
    pub kind: OperatorNoticeKind,
}

/// The kinds of notices.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum OperatorNoticeKind {
    /// As [`EventKind::OtherAccountRefused`], once that event is on disk.
    OtherAccountRefused,
    /// As [`EventKind::AccountChanged`], once that event is on disk.
    AccountChanged,
    /// WhatsApp forbids the account something.
    Restricted,
    /// WhatsApp forbids the account nothing any more.
    RestrictionLifted,
    /// The session was deleted, and WhatsApp did not confirm in time that its device is unlinked: it may be left at the phone.
    DeviceLeft,
    /// A deletion that a stop or a crash of the daemon had interrupted is finished.
    DeletionFinished,
}

impl EventKind {
    /// The notice that the operator gets beside the event itself; `None` when there is none.
    #[must_use]
    pub fn notice(self) -> Option<OperatorNoticeKind> {
        match self {
            Self::AccountChanged => Some(OperatorNoticeKind::AccountChanged),
            Self::OtherAccountRefused => Some(OperatorNoticeKind::OtherAccountRefused),
            _ => None,
        }
    }
}

/// The kinds of group events.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum GroupEventKind {
    /// People became members.
    Join,
    /// People are members no longer.
    Leave,
    /// Subject, description or settings changed.
    Update,
    /// People became admins.
    Promote,
    /// People are admins no longer.
    Demote,
    /// The picture was set or removed.
    Picture,
    /// The invite link was replaced by a new one.
    InviteRevoked,
    /// People asked to be let in.
    JoinRequest,
    /// The group belongs to a community now.
    Linked,
    /// The group belongs to its community no longer.
    Unlinked,
}

impl GroupEventKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Join,
        Self::Leave,
        Self::Update,
        Self::Promote,
        Self::Demote,
        Self::Picture,
        Self::InviteRevoked,
        Self::JoinRequest,
        Self::Linked,
        Self::Unlinked,
    ];

    /// Whether the group's state shows the change: members, admins or settings. Events of the other kinds are reported
    /// as they come.
    #[must_use]
    pub fn is_of_state(self) -> bool {
        !matches!(self, Self::Picture | Self::InviteRevoked | Self::JoinRequest)
    }

    /// The word for it in webhooks and streams.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Join => "group.join",
            Self::Leave => "group.leave",
            Self::Update => "group.update",
            Self::Promote => "group.promote",
            Self::Demote => "group.demote",
            Self::Picture => "group.picture",
            Self::InviteRevoked => "group.invite_revoked",
            Self::JoinRequest => "group.join_request",
            Self::Linked => "group.linked",
            Self::Unlinked => "group.unlinked",
        }
    }
}

/// The kinds of events about messages.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum MessageEventKind {
    /// Somebody else wrote it.
    Received,
    /// The session's account wrote it.
    Sent,
    /// It was deleted for everybody.
    Revoked,
    /// Somebody reacted to it.
    Reaction,
    /// It has another text now.
    Edited,
    /// Somebody voted in it.
    PollVote,
    /// All whom it was sent to have got or read it.
    Ack,
    /// In a group: some of those whom it was sent to have got or read it.
    Receipts,
}

impl MessageEventKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Received,
        Self::Sent,
        Self::Revoked,
        Self::Reaction,
        Self::Edited,
        Self::PollVote,
        Self::Ack,
        Self::Receipts,
    ];

    /// The word for it in webhooks and streams.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "message.received",
            Self::Sent => "message.sent",
            Self::Revoked => "message.revoked",
            Self::Reaction => "message.reaction",
            Self::Edited => "message.edited",
            Self::PollVote => "message.poll_vote",
            Self::Ack => "message.ack",
            Self::Receipts => "message.receipts",
        }
    }

    /// Whether it is a message itself, not a change of one.
    #[must_use]
    pub fn is_message(self) -> bool {
        matches!(self, Self::Received | Self::Sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_written_without_what_its_row_says() {
        let event = Event {
            session: nobody(),
            number: 0,
            id: Uuid::now_v7(),
            kind: EventKind::Group(GroupEventKind::Join),
            occurred_at: Timestamp(1_700_000_000_000),
            seen_at: Timestamp(1_700_000_000_500),
            actor: Some(ParticipantId::Phone(15_550_100_001)),
            group: Some("120363000000000001@g.us".parse().unwrap()),
            message: None,
            data: Map::from_iter([("participantIds".to_owned(), serde_json::json!(["15550100002@c.us"]))]),
        };
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
        assert!(json.contains("\"group.join\"") && !json.contains("number"), "{json}");
    }

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        for kind in EventKind::all() {
            assert_eq!(EventKind::from_word(kind.as_str()), Some(kind));
        }
        assert_eq!(EventKind::from_word("group.dance"), None);
    }
}
