//! Values as callers write them: participants and groups in any spelling, flags and numbers also as texts. Never reads a
//! request. Responses always have the canonical form.

use std::num::NonZeroU64;
use std::str::FromStr;

use rookery_actors::commands::{Recipient, Requested};
use rookery_model::{ChatId, GroupId, IdError, ParticipantId, ParticipantIds};
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::limits::ECHO_CHARS_MAX;

/// A participant: a phone number in international form in any spelling, or a LID.
#[derive(Clone, Debug, ToSchema)]
#[schema(as = Person, value_type = String, example = "628123456789")]
#[schema(
    pattern = r"^( *(\+|00)?[ ().-]*[1-9]([ ().-]*[0-9]){4,14}[ ().-]*|[1-9][0-9]{4,14}((\.[0-9]{1,5})?:[0-9]{1,5})?@(c\.us|s\.whatsapp\.net)|[1-9][0-9]{4,17}((\.[0-9]{1,5})?:[0-9]{1,5})?@lid)$"
)]
pub(crate) struct ParticipantField(Requested);

/// Two spellings of one id are equal.
impl PartialEq for ParticipantField {
    fn eq(&self, other: &Self) -> bool {
        self.0.id() == other.0.id()
    }
}

impl FromStr for ParticipantField {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Ok(Self(Requested::new(ParticipantId::parse_written(text)?, &shorten(text))))
    }
}

/// The participants for a command.
pub(crate) fn requested(participants: Vec<ParticipantField>) -> Vec<Requested> {
    participants.into_iter().map(|participant| participant.0).collect()
}

/// A phone number in international form in any spelling.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ToSchema)]
#[schema(as = PhoneNumber, value_type = String, example = "525550100077")]
#[schema(
    pattern = r"^( *(\+|00)?[ ().-]*[1-9]([ ().-]*[0-9]){4,14}[ ().-]*|[1-9][0-9]{4,14}((\.[0-9]{1,5})?:[0-9]{1,5})?@(c\.us|s\.whatsapp\.net))$"
)]
pub(crate) struct NumberField(pub(crate) NonZeroU64);

impl FromStr for NumberField {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let phone = ParticipantIds::from(ParticipantId::parse_written(text)?).phone;
        phone.map(Self).ok_or_else(|| IdError::Participant(text.into()))
    }
}

/// A chat: a person or a group. Up to 15 digits alone are a person, more are a group.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
#[schema(as = Chat, value_type = String, example = "120363021234567890@g.us")]
#[schema(
    pattern = r"^([+]?[1-9][0-9]{4,14}|[1-9][0-9]{4,14}@(c\.us|s\.whatsapp\.net)|[1-9][0-9]{4,17}@lid|[0-9]{16,30}|[0-9]+(-[0-9]+)?@g\.us)$"
)]
pub(crate) struct ChatField(pub(crate) Recipient);

impl Default for ChatField {
    /// Stands for a field that is broken: nobody has this number.
    fn default() -> Self {
        Self(Recipient::Person(ParticipantId::Phone(0).into()))
    }
}

impl FromStr for ChatField {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Ok(Self(match ChatId::parse_written(text)? {
            ChatId::Person(person) => Recipient::Person(Requested::new(person, &shorten(text))),
            ChatId::Group(group) => Recipient::Group(group),
        }))
    }
}

impl ChatField {
    pub(crate) fn is_person(&self) -> bool {
        matches!(self.0, Recipient::Person(_))
    }
}

/// A group, with or without `@g.us`.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
#[schema(as = WrittenGroupId, value_type = String, pattern = r"^[0-9]+(-[0-9]+)?(@g\.us)?$", example = "120363021234567890@g.us")]
pub(crate) struct GroupField(pub(crate) GroupId);

impl FromStr for GroupField {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        GroupId::parse_written(text).map(Self)
    }
}

/// The ids of groups.
pub(crate) fn groups_of(groups: Vec<GroupField>) -> Vec<GroupId> {
    groups.into_iter().map(|group| group.0).collect()
}

/// What the caller wrote, short enough to be repeated; `""` when it is empty.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(ECHO_CHARS_MAX) {
        _ if text.is_empty() => "\"\"".into(),
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}

/// True or false, also as a text; `None` for anything else.
pub(crate) fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// A flag of a query: true or false, or 1 or 0; `None` for anything else.
pub(crate) fn query_flag(text: &str) -> Option<bool> {
    match text {
        "1" => Some(true),
        "0" => Some(false),
        text => text.to_ascii_lowercase().parse().ok(),
    }
}

/// A whole number, where `5.0` is one as well, also as a text of digits; `None` for anything else.
pub(crate) fn whole_number(value: &Value) -> Option<i128> {
    if let Value::String(text) = value {
        // One too long for the type is beyond every range.
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let beyond = if text.starts_with('-') { i128::MIN } else { i128::MAX };
        return is_number.then(|| text.parse().unwrap_or(beyond));
    }
    if let Some(number) = value.as_i64() {
        return Some(number.into());
    }
    let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
    // The cast saturates, at a value beyond every range.
    #[expect(clippy::cast_possible_truncation, reason = "saturating is what is wanted")]
    Some(number as i128)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn flags_are_read_from_texts_as_well() {
        let cases = [
            (json!(true), Some(true)),
            (json!("true"), Some(true)),
            (json!("False"), Some(false)),
            (json!("yes"), None),
            (json!("1"), None),
            (json!(1), None),
            (json!(null), None),
        ];
        for (value, expected) in cases {
            assert_eq!(flag(&value), expected, "{value}");
        }
    }

    #[test]
    fn whole_numbers_are_read_from_texts_as_well() {
        let cases = [
            (json!(60), Some(60)),
            (json!(5.0), Some(5)),
            (json!("60"), Some(60)),
            (json!("-3"), Some(-3)),
            (json!("9".repeat(60)), Some(i128::MAX)),
            (json!("6.5"), None),
            (json!(6.5), None),
            (json!("+6"), None),
            (json!(" 6"), None),
            (json!("0x10"), None),
            (json!(""), None),
            (json!("-"), None),
            (json!(true), None),
        ];
        for (value, expected) in cases {
            assert_eq!(whole_number(&value), expected, "{value}");
        }
    }
}
