//! The nouns, each defined once: a type here is the REST body, the actor payload and the webhook data.
//! Never does IO and knows neither HTTP nor the engine.

mod chat;
mod community;
mod event;
mod file;
mod group;
mod group_notification;
mod group_record;
mod id;
mod incoming;
mod json;
mod limits;
mod linking;
mod message;
mod name;
mod number;
mod profile;
mod proxy;
mod session;
mod setting;
mod shown_message;

use std::hash::{DefaultHasher, Hash, Hasher as _};

pub use chat::{ChatChange, Typing};
pub use community::{Community, CommunityGroup, LinkCode, LinkResult, NewCommunity};
pub use event::{Event, EventKind, GroupEventKind, MessageEventKind, MessageNote, OperatorNotice, OperatorNoticeKind};
pub use file::{FileKind, FilePreview, ShownFile, StoredFile};
pub use group::{
    Aged, CreatedGroup, Group, GroupSummary, JoinInfo, Joined, MembershipDecision, MembershipRequest, Participant,
    ParticipantChange, ParticipantResult, RequestMethod, ResultCode, Tagged,
};
pub use group_notification::{GroupAction, GroupNotification, Versions};
pub use group_record::{
    AllGroups, CommunityRole, Completeness, GroupDelta, GroupRecord, Member, ParticipantIds, Role, unread_settings,
};
pub use id::{
    CHAT_ID_FORM, GROUP_ID_FORM, GroupId, IdError, NUMBER_FORM, PERSON_ID_FORM, ParticipantId, SessionId, SessionName,
};
pub use incoming::{Choice, IncomingChat, IncomingContent, IncomingMessage, MessageContent, Reached, Receipt};
pub use limits::{AccountLimits, LimitPause, NewChats, PausedWork, ReachoutTimelock, Restriction, RestrictionKind};
pub use linking::{Linking, LinkingStep, PasskeyAnswer};
pub use message::{
    ChatId, EarlierContent, EarlierMessage, LinkPreview, MessageId, MessageMark, MessageSeed, OutgoingContent,
    OutgoingMessage, Quote,
};
pub use name::NameSource;
pub use number::NumberAnswer;
pub use profile::ProfileChange;
pub use proxy::{PROXY_URL_CHARS_MAX, Proxy, ProxyCredentials, ProxyError, ProxyType, SessionProxy};
pub use session::{ConfigChange, PairingCode, Qr, Session, SessionConfig, SessionStatus};
pub use setting::{GroupSettings, Setting, Who};
pub use shown_message::{ChatKind, Location, Media, Message, MessageAuthor, MessageType, Poll, QuotedMessage};

/// The tag of an answer. Equal answers have equal tags, also after a restart, as the hash has no key. Different answers
/// have equal tags only by an accident of 1 in 2^64.
#[must_use]
pub fn tag_of(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Milliseconds since the Unix epoch, written as ISO 8601 UTC with milliseconds in JSON.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, utoipa::ToSchema)]
#[schema(value_type = String, format = DateTime, description = "ISO 8601 in UTC, with milliseconds.")]
#[schema(example = "2026-01-31T09:30:00.000Z")]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The present moment by the system clock.
    #[must_use]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self(since.map_or(0, |elapsed| i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Reads an ISO 8601 / RFC 3339 date with time and offset, e.g. `2026-01-31T09:30:00.000Z`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(Self(time.as_millisecond()))
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(f, "{time:.3}")
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an ISO 8601 date with time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_written_with_milliseconds_and_read_back() {
        let time = Timestamp(1_700_000_000_120);
        assert_eq!(time.to_string(), "2023-11-14T22:13:20.120Z");
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
        assert_eq!(Timestamp::parse("yesterday"), None);
    }
}
