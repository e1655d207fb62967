//! Ids, checked at the edge and opaque inside. Never does IO.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};
use uuid::Uuid;

/// Digits of a person id: shorter ones are service numbers, longer ones do not exist (E.164 ends at 15, LIDs at 18).
const PERSON_DIGITS: std::ops::RangeInclusive<usize> = 5..=18;
/// Digits of the largest `u64`.
const DIGITS_MAX: usize = 20;
/// The longest form of a person id: digits and `@c.us`.
const PERSON_TEXT_BYTES_MAX: usize = DIGITS_MAX + 5;
/// Characters of a group id without its suffix: `<digits>-<digits>` of the oldest groups stays below.
const GROUP_CHARS_MAX: usize = 40;
/// Characters of a session name.
const NAME_CHARS: std::ops::RangeInclusive<usize> = 3..=50;

/// How a group's id is written, for callers.
pub const GROUP_ID_FORM: &str = "it is written like 120363021234567890@g.us";
/// How a person is written, for callers.
pub const PERSON_ID_FORM: &str = "give a phone number in international format, such as 15550100003 or 15550100003@c.us, or an id such \
                                  as 810103492323469@lid";

/// How a chat is written, for callers.
pub const CHAT_ID_FORM: &str = "give a person such as 15550100003@c.us or 810103492323469@lid, or a group such as \
                                120363021234567890@g.us";

/// How a phone number is written, for callers.
pub const NUMBER_FORM: &str = "give it in international format, such as +1 555 010 0003 or 15550100003";

/// Why a text is not an id; the message is shown to API callers.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdError {
    /// Not `<digits>[-<digits>]@g.us`.
    #[error("{0} is not a group id: {GROUP_ID_FORM}")]
    Group(String),
    /// Not a phone number or LID in one of the accepted forms.
    #[error("{0} is not a participant id: {PERSON_ID_FORM}")]
    Participant(String),
    /// Neither a participant nor a group.
    #[error("{0} is not a chat id: {CHAT_ID_FORM}")]
    Chat(String),
    /// Not a UUID.
    #[error("{0} is not a session id: it is a UUID")]
    Session(String),
    /// Wrong length or characters.
    #[error("name must be 3 to 50 characters of A-Z, a-z, 0-9 and -")]
    NameCharacters,
    /// Would be taken for a session's UUID in a path.
    #[error("name must not be a UUID")]
    NameIsUuid,
}

/// A session's UUID.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash, Ord, PartialOrd, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(example = "5f0c6e9a-3f43-4bb0-9a52-6a2f8f7f3c11")]
pub struct SessionId(pub Uuid);

impl SessionId {
    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SessionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Uuid::try_parse(text).map(Self).map_err(|_| IdError::Session(text.into()))
    }
}

/// A session's unique name: 3-50 of `[A-Za-z0-9-]`, never a UUID.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(pattern = "^[A-Za-z0-9-]{3,50}$", example = "my-session")]
pub struct SessionName(String);

impl SessionName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SessionName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !NAME_CHARS.contains(&text.chars().count()) || !text.chars().all(allowed) {
            return Err(IdError::NameCharacters);
        }
        if Uuid::try_parse(text).is_ok() {
            return Err(IdError::NameIsUuid);
        }
        Ok(Self(text.into()))
    }
}

impl<'de> Deserialize<'de> for SessionName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A group's id, `<digits>[-<digits>]@g.us`.
#[derive(Clone, Debug, Eq, PartialEq, Hash, Ord, PartialOrd, ToSchema)]
#[schema(value_type = String, pattern = "^[0-9]+(-[0-9]+)?@g\\.us$", example = "120363021234567890@g.us")]
pub struct GroupId(Arc<str>);

impl GroupId {
    /// The part before `@g.us`.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.0
    }

    /// Takes the part before `@g.us`.
    ///
    /// # Errors
    /// [`IdError::Group`] when it is not `<digits>[-<digits>]`.
    pub fn from_user(user: &str) -> Result<Self, IdError> {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let whole = match user.split_once('-') {
            Some((owner, time)) => digits(owner) && digits(time),
            None => digits(user),
        };
        if !whole || user.len() > GROUP_CHARS_MAX {
            return Err(IdError::Group(user.into()));
        }
        Ok(Self(user.into()))
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@g.us", self.0)
    }
}

impl FromStr for GroupId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let user = text.strip_suffix("@g.us").ok_or_else(|| IdError::Group(text.into()))?;
        Self::from_user(user).map_err(|_| IdError::Group(text.into()))
    }
}

impl Serialize for GroupId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GroupId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One way to name a person: by phone number (`<digits>@c.us`) or, where that is unknown, by LID (`<digits>@lid`).
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub enum ParticipantId {
    /// A phone number in international form, without `+`.
    Phone(u64),
    /// WhatsApp's id for people who hide their number.
    Lid(u64),
}

impl ParticipantId {
    /// The digits before the `@`.
    #[must_use]
    pub fn digits(self) -> u64 {
        match self {
            Self::Phone(digits) | Self::Lid(digits) => digits,
        }
    }

    /// As text.
    pub(super) fn text(self) -> PersonText {
        let suffix: &[u8] = match self {
            Self::Phone(_) => b"@c.us",
            Self::Lid(_) => b"@lid",
        };
        let (mut bytes, mut rest, mut start) = ([b'0'; PERSON_TEXT_BYTES_MAX], self.digits(), DIGITS_MAX);
        while rest > 0 || start == DIGITS_MAX {
            start -= 1;
            bytes[start] += (rest % 10) as u8;
            rest /= 10;
        }
        let end = DIGITS_MAX + suffix.len();
        bytes[DIGITS_MAX..end].copy_from_slice(suffix);
        PersonText { bytes, start, end }
    }
}

/// A person id as text, without an allocation: an answer holds thousands of them.
pub(super) struct PersonText {
    bytes: [u8; PERSON_TEXT_BYTES_MAX],
    start: usize,
    end: usize,
}

impl PersonText {
    /// All of it, in ASCII that needs no escape in JSON.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The digits before the `@`, in ASCII.
    pub(super) fn digits(&self) -> &[u8] {
        &self.bytes[self.start..DIGITS_MAX]
    }
}

impl fmt::Display for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phone(digits) => write!(f, "{digits}@c.us"),
            Self::Lid(digits) => write!(f, "{digits}@lid"),
        }
    }
}

impl FromStr for ParticipantId {
    type Err = IdError;

    /// Takes `<digits>@c.us`, `<digits>@s.whatsapp.net`, `<digits>@lid` and bare digits (5 or more).
    fn from_str(text: &str) -> Result<Self, IdError> {
        let (user, server) = text.split_once('@').unwrap_or((text, "c.us"));
        let wrong = || IdError::Participant(text.into());
        let plain = PERSON_DIGITS.contains(&user.len()) && user.bytes().all(|b| b.is_ascii_digit());
        if !plain || user.starts_with('0') {
            return Err(wrong());
        }
        let digits = user.parse().map_err(|_| wrong())?;
        match server {
            "c.us" | "s.whatsapp.net" => Ok(Self::Phone(digits)),
            "lid" => Ok(Self::Lid(digits)),
            _ => Err(wrong()),
        }
    }
}

impl Serialize for ParticipantId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl PartialSchema for ParticipantId {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("A person: by phone number when it is known, else by LID."))
            .pattern(Some(r"^[1-9][0-9]{4,17}@(c\.us|lid)$"))
            .examples(["15550100001@c.us"]);
        text.into()
    }
}

impl ToSchema for ParticipantId {}

impl<'de> Deserialize<'de> for ParticipantId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_read_in_every_form_and_written_in_one() {
        let cases = [
            ("15550100001", "15550100001@c.us"),
            ("15550100001@c.us", "15550100001@c.us"),
            ("15550100001@s.whatsapp.net", "15550100001@c.us"),
            ("123456789012345@lid", "123456789012345@lid"),
        ];
        for (text, written) in cases {
            assert_eq!(text.parse::<ParticipantId>().map(|id| id.to_string()), Ok(written.into()));
        }
    }

    #[test]
    fn a_person_has_one_text_however_it_is_written() {
        for digits in [0, 7, 15_550_100_001, 123_456_789_012_345_678, u64::MAX] {
            for id in [ParticipantId::Phone(digits), ParticipantId::Lid(digits)] {
                let text = id.text();
                assert_eq!(text.as_bytes(), id.to_string().as_bytes());
                assert_eq!(text.digits(), digits.to_string().as_bytes());
            }
        }
    }

    #[test]
    fn a_malformed_person_is_refused() {
        for text in
            ["", "1234", "+15550100001", "alice", "0155501000", "15550100001@g.us", "1@@c.us", "1234567890123456789"]
        {
            assert_eq!(text.parse::<ParticipantId>(), Err(IdError::Participant(text.into())));
        }
    }

    #[test]
    fn a_group_id_has_digits_and_its_suffix() {
        for text in ["120363021234567890@g.us", "15550100001-1400000000@g.us"] {
            assert_eq!(text.parse::<GroupId>().map(|id| id.to_string()), Ok(text.into()));
        }
        for text in ["", "@g.us", "12-@g.us", "-1@g.us", "1-2-3@g.us", "12a@g.us", "120363021234567890", "1@c.us"] {
            assert_eq!(text.parse::<GroupId>(), Err(IdError::Group(text.into())));
        }
    }

    #[test]
    fn a_session_name_is_short_plain_and_no_uuid() {
        assert!("my-session".parse::<SessionName>().is_ok());
        for text in ["ab", "with space", "ümlaut", &"a".repeat(51)] {
            assert_eq!(text.parse::<SessionName>(), Err(IdError::NameCharacters));
        }
        let uuid = Uuid::new_v4().to_string();
        assert_eq!(uuid.parse::<SessionName>(), Err(IdError::NameIsUuid));
    }
}
