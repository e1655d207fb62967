//! The fields of a JSON body, checked one by one: every broken rule is one message, unknown fields come first, and
//! the wording is the one OpenWA's clients know. Never reads a request.

use std::ops::RangeInclusive;
use std::str::FromStr;

use rookery_model::{GroupId, ParticipantId};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::limits::{ECHO_CHARS_MAX, LINKED_GROUPS, PARTICIPANTS, VALIDATION_MESSAGES_MAX};
use crate::http::request::characters::is_control;

/// A person as callers may write one: a phone number in international form without `+`, or a LID.
#[derive(ToSchema)]
#[schema(pattern = r"^[1-9][0-9]{4,17}(@(c\.us|s\.whatsapp\.net|lid))?$", example = "628123456789")]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct Person(String);

/// A body being checked. A broken field yields an empty value and a message; [`Fields::finish`] turns the messages
/// into the answer.
pub(crate) struct Fields {
    map: Map<String, Value>,
    messages: Vec<String>,
}

impl Fields {
    /// Starts with a message for every field that is not in `known`.
    pub(crate) fn of(map: Map<String, Value>, known: &[&str]) -> Self {
        let unknown = map.keys().filter(|name| !known.contains(&name.as_str()));
        let message = |name: &String| format!("property {} should not exist", shorten(name));
        let messages = unknown.take(VALIDATION_MESSAGES_MAX).map(message).collect();
        Self { map, messages }
    }

    /// A text of this many characters that is not blank.
    pub(crate) fn text(&mut self, name: &str, chars: RangeInclusive<usize>) -> String {
        match self.map.remove(name) {
            Some(Value::String(text)) => {
                if text.trim().is_empty() {
                    self.broken(name, "should not be empty");
                } else {
                    self.check_length(name, &text, chars);
                }
                text
            }
            other => self.no_text(name, other.as_ref()),
        }
    }

    /// As [`Self::text`], without characters that control how it is shown: lists and logs show it to others.
    pub(crate) fn plain_text(&mut self, name: &str, chars: RangeInclusive<usize>) -> String {
        let text = self.text(name, chars);
        if text.chars().any(is_control) {
            self.broken(name, "must not contain control characters or line breaks");
        }
        text
    }

    /// A text that may be empty, up to this many characters.
    pub(crate) fn text_or_empty(&mut self, name: &str, chars_max: usize) -> String {
        match self.map.remove(name) {
            Some(Value::String(text)) => {
                self.check_length(name, &text, 0..=chars_max);
                text
            }
            _ => {
                self.broken(name, "must be a string");
                String::new()
            }
        }
    }

    /// A text, or `None` when the field is absent or `null`.
    pub(crate) fn optional_text(&mut self, name: &str) -> Option<String> {
        match self.map.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.broken(name, "must be a string");
                None
            }
        }
    }

    /// As [`Self::optional_text`], up to this many characters.
    pub(crate) fn optional_text_up_to(&mut self, name: &str, chars_max: usize) -> Option<String> {
        let text = self.optional_text(name)?;
        self.check_length(name, &text, 0..=chars_max);
        Some(text)
    }

    /// True or false, or `None` when the field is absent.
    pub(crate) fn optional_flag(&mut self, name: &str) -> Option<bool> {
        match self.map.remove(name)? {
            Value::Bool(on) => Some(on),
            _ => {
                self.broken(name, "must be a boolean value");
                None
            }
        }
    }

    /// As [`Self::optional_flag`]; `Some(None)` when the field is `null`.
    pub(crate) fn nullable_flag(&mut self, name: &str) -> Option<Option<bool>> {
        if self.take_null(name) { Some(None) } else { self.optional_flag(name).map(Some) }
    }

    /// A whole number in this range: `None` when the field is absent, `Some(None)` when it is `null`.
    pub(crate) fn nullable_number(&mut self, name: &str, range: RangeInclusive<u32>) -> Option<Option<u32>> {
        if self.take_null(name) {
            return Some(None);
        }
        let value = self.map.remove(name)?;
        let Some(number) = whole_number(&value) else {
            self.broken(name, "must be an integer number");
            return None;
        };
        if number < i128::from(*range.start()) {
            self.broken(name, &format!("must not be less than {}", range.start()));
        } else if number > i128::from(*range.end()) {
            self.broken(name, &format!("must not be greater than {}", range.end()));
        }
        u32::try_from(number).ok().map(Some)
    }

    /// One of these words, as what it stands for; `None` when the field is absent.
    pub(crate) fn optional_word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let value = self.map.remove(name)?;
        let found = words.iter().find(|(word, _)| value.as_str() == Some(*word)).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.broken(name, &format!("must be one of the following values: {}", words.join(", ")));
        }
        found
    }

    /// What `check` makes of an object in the body; `None` when the field is absent or `null`. Its messages are named
    /// by the field: `config.name must be a string`.
    pub(crate) fn optional_object<T>(
        &mut self,
        name: &str,
        known: &[&str],
        check: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        match self.map.remove(name)? {
            Value::Null => None,
            Value::Object(map) => {
                let mut inner = Self::of(map, known);
                let value = check(&mut inner);
                inner.messages.into_iter().for_each(|message| self.message(format!("{name}.{message}")));
                Some(value)
            }
            _ => {
                self.broken(name, "must be an object");
                None
            }
        }
    }

    /// Whether the field is `null`; it is out of the way then.
    pub(crate) fn take_null(&mut self, name: &str) -> bool {
        let is_null = self.map.get(name).is_some_and(Value::is_null);
        is_null && self.map.remove(name).is_some()
    }

    /// Whether the body has the field, and it was not read yet.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Whether the field is an array without entries.
    pub(crate) fn is_empty_list(&self, name: &str) -> bool {
        self.map.get(name).and_then(Value::as_array).is_some_and(Vec::is_empty)
    }

    /// An array of texts with this many entries.
    pub(crate) fn texts(&mut self, name: &str, entries: RangeInclusive<usize>) -> Vec<String> {
        let Some(Value::Array(values)) = self.map.remove(name) else {
            self.broken(name, "must be an array");
            return Vec::new();
        };
        if values.is_empty() && *entries.start() > 0 {
            self.broken(name, "should not be empty");
        }
        if values.len() > *entries.end() {
            self.broken(name, &format!("must contain no more than {} elements", entries.end()));
        }
        let count = values.len();
        let texts: Vec<_> = values.into_iter().filter_map(into_text).collect();
        if texts.len() != count {
            self.message(format!("each value in {name} must be a string"));
        }
        texts
    }

    /// An array of texts, empty when the field is absent or `null`.
    pub(crate) fn optional_texts(&mut self, name: &str, entries_max: usize) -> Vec<String> {
        match self.map.get(name) {
            None | Some(Value::Null) => Vec::new(),
            Some(_) => self.texts(name, 0..=entries_max),
        }
    }

    /// A field that will mean something later: it is refused rather than ignored.
    pub(crate) fn not_supported(&mut self, name: &str) {
        if self.map.remove(name).is_some_and(|value| !value.is_null()) {
            self.broken(name, "is not supported yet");
        }
    }

    /// Notes that the field broke a rule: `<field> <rule>`.
    pub(crate) fn broken(&mut self, name: &str, rule: &str) {
        self.message(format!("{name} {rule}"));
    }

    /// Notes a message as it is.
    pub(crate) fn message(&mut self, message: String) {
        self.messages.push(message);
    }

    /// # Errors
    /// [`ApiError::Body`] with what was noted.
    pub(crate) fn finish(mut self) -> Result<(), ApiError> {
        self.messages.truncate(VALIDATION_MESSAGES_MAX);
        if self.messages.is_empty() { Ok(()) } else { Err(ApiError::Body(self.messages)) }
    }

    fn check_length(&mut self, name: &str, text: &str, chars: RangeInclusive<usize>) {
        let count = text.chars().count();
        if count < *chars.start() {
            self.broken(name, &format!("must be longer than or equal to {} characters", chars.start()));
        }
        if count > *chars.end() {
            self.broken(name, &format!("must be shorter than or equal to {} characters", chars.end()));
        }
    }

    fn no_text(&mut self, name: &str, value: Option<&Value>) -> String {
        if value.is_none_or(Value::is_null) {
            self.broken(name, "should not be empty");
        }
        self.broken(name, "must be a string");
        String::new()
    }
}

/// The people in the field `participants`, each once, in the order of the request. Ends the checking of the body.
///
/// # Errors
/// [`ApiError::Body`], or [`ApiError::Participants`] with every text that names nobody.
pub(crate) fn participants(mut fields: Fields) -> Result<Vec<ParticipantId>, ApiError> {
    let texts = fields.texts("participants", PARTICIPANTS);
    fields.finish()?;
    distinct(texts).map_err(ApiError::Participants)
}

/// As [`participants`]; `None` when the body has no such field.
///
/// # Errors
/// As [`participants`].
pub(crate) fn optional_participants(fields: Fields) -> Result<Option<Vec<ParticipantId>>, ApiError> {
    if fields.has("participants") { participants(fields).map(Some) } else { fields.finish().map(|()| None) }
}

/// The groups in the field `groups`, each once, in the order of the request. Ends the checking of the body.
///
/// # Errors
/// [`ApiError::Body`], or [`ApiError::Groups`] with every text that is no group's id.
pub(crate) fn groups(mut fields: Fields) -> Result<Vec<GroupId>, ApiError> {
    let texts = fields.texts("groups", LINKED_GROUPS);
    fields.finish()?;
    distinct(texts).map_err(ApiError::Groups)
}

/// What the texts stand for, each once, or those that stand for nothing.
fn distinct<T: FromStr + PartialEq>(texts: Vec<String>) -> Result<Vec<T>, Vec<String>> {
    let mut ids: Vec<T> = Vec::with_capacity(texts.len());
    let mut offenders = Vec::new();
    for text in texts {
        match text.parse() {
            Ok(id) if ids.contains(&id) => {}
            Ok(id) => ids.push(id),
            Err(_) => offenders.push(shorten(&text)),
        }
    }
    if offenders.is_empty() { Ok(ids) } else { Err(offenders) }
}

/// A whole number of JSON, where `5.0` is one as well.
fn whole_number(value: &Value) -> Option<i128> {
    if let Some(number) = value.as_i64() {
        return Some(number.into());
    }
    let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
    // Saturates, which is beyond every range.
    #[expect(clippy::cast_possible_truncation, reason = "saturating is what is wanted")]
    Some(number as i128)
}

/// What the caller wrote, short enough to be repeated; `""` when it is empty.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(ECHO_CHARS_MAX) {
        _ if text.is_empty() => "\"\"".into(),
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}

fn into_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(body: &Value, known: &[&str]) -> Fields {
        Fields::of(body.as_object().cloned().unwrap_or_default(), known)
    }

    fn messages<T: std::fmt::Debug>(result: Result<T, ApiError>) -> Vec<String> {
        match result {
            Err(ApiError::Body(messages)) => messages,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_broken_rule_is_one_message_and_unknown_fields_come_first() {
        let long = "x".repeat(101);
        let cases = [
            (json!({}), vec!["name should not be empty", "name must be a string"]),
            (json!({"name": null}), vec!["name should not be empty", "name must be a string"]),
            (json!({"name": 5}), vec!["name must be a string"]),
            (json!({"name": "  "}), vec!["name should not be empty"]),
            (json!({"name": "ab"}), vec!["name must be longer than or equal to 3 characters"]),
            (json!({"name": long}), vec!["name must be shorter than or equal to 100 characters"]),
            (json!({"foo": 1, "name": 2}), vec!["property foo should not exist", "name must be a string"]),
        ];
        for (body, expected) in cases {
            let mut fields = fields(&body, &["name"]);
            fields.text("name", 3..=100);
            assert_eq!(messages(fields.finish()), expected, "{body}");
        }
    }

    #[test]
    fn length_is_counted_in_characters_not_bytes() {
        let body = json!({"name": "ü".repeat(100), "description": ""});
        let mut fields = fields(&body, &["name", "description"]);
        assert_eq!(fields.text("name", 1..=100).chars().count(), 100);
        assert_eq!(fields.text_or_empty("description", 1024), "");
        assert!(fields.finish().is_ok());
    }

    #[test]
    fn participants_are_an_array_of_up_to_256_people() {
        let many: Vec<_> = (0..257).map(|number| (15_550_100_000_u64 + number).to_string()).collect();
        let cases = [
            (json!({}), vec!["participants must be an array"]),
            (json!({"participants": "15550100001"}), vec!["participants must be an array"]),
            (json!({"participants": []}), vec!["participants should not be empty"]),
            (json!({"participants": [1, "a"]}), vec!["each value in participants must be a string"]),
            (json!({"participants": many}), vec!["participants must contain no more than 256 elements"]),
        ];
        for (body, expected) in cases {
            assert_eq!(messages(participants(fields(&body, &["participants"]))), expected);
        }
    }

    #[test]
    fn people_are_merged_and_offenders_named_together() {
        let body = json!({"participants": ["15550100001", "15550100002@c.us", "15550100001@s.whatsapp.net"]});
        let people = participants(fields(&body, &["participants"])).unwrap();
        assert_eq!(people, [ParticipantId::Phone(15_550_100_001), ParticipantId::Phone(15_550_100_002)]);
        let body = json!({"participants": ["alice", "15550100001", "", "b".repeat(70)]});
        let Err(ApiError::Participants(offenders)) = participants(fields(&body, &["participants"])) else { panic!() };
        assert_eq!(offenders, ["alice".into(), "\"\"".into(), format!("{}...", "b".repeat(64))]);
    }

    #[test]
    fn flags_numbers_and_words_are_named_when_they_are_something_else() {
        let words = [("all", 1), ("admins", 2)];
        let cases = [
            (json!({}), Ok((None, None, None, None))),
            (json!({"flag": true, "wide": false}), Ok((Some(true), Some(Some(false)), None, None))),
            (json!({"wide": null, "number": null}), Ok((None, Some(None), Some(None), None))),
            (json!({"number": 3, "word": "admins"}), Ok((None, None, Some(Some(3)), Some(2)))),
            (json!({"number": 3.0}), Ok((None, None, Some(Some(3)), None))),
            (
                json!({"flag": null, "wide": 1}),
                Err(vec!["flag must be a boolean value", "wide must be a boolean value"]),
            ),
            (json!({"number": 3.5}), Err(vec!["number must be an integer number"])),
            (json!({"number": "3"}), Err(vec!["number must be an integer number"])),
            (json!({"number": 1}), Err(vec!["number must not be less than 2"])),
            (json!({"number": -1e300}), Err(vec!["number must not be less than 2"])),
            (json!({"number": u64::MAX}), Err(vec!["number must not be greater than 9"])),
            (json!({"word": null}), Err(vec!["word must be one of the following values: all, admins"])),
            (json!({"word": "none"}), Err(vec!["word must be one of the following values: all, admins"])),
        ];
        for (body, expected) in cases {
            let mut fields = fields(&body, &["flag", "wide", "number", "word"]);
            let found = (
                fields.optional_flag("flag"),
                fields.nullable_flag("wide"),
                fields.nullable_number("number", 2..=9),
                fields.optional_word("word", &words),
            );
            match expected {
                Ok(expected) => assert_eq!((found, fields.finish().is_ok()), (expected, true), "{body}"),
                Err(expected) => assert_eq!(messages(fields.finish()), expected, "{body}"),
            }
        }
    }

    #[test]
    fn an_object_in_the_body_names_its_fields_with_its_own_name() {
        let cases = [
            (json!({}), Ok(None)),
            (json!({"config": null}), Ok(None)),
            (json!({"config": {"name": "bob"}}), Ok(Some("bob"))),
            (json!({"config": 5}), Err(vec!["config must be an object"])),
            (
                json!({"config": {"x": 1, "name": 2}}),
                Err(vec!["config.property x should not exist", "config.name must be a string"]),
            ),
        ];
        for (body, expected) in cases {
            let mut fields = fields(&body, &["config"]);
            let found = fields.optional_object("config", &["name"], |inner| inner.text("name", 1..=9));
            match expected {
                Ok(expected) => assert_eq!((found.as_deref(), fields.finish().is_ok()), (expected, true), "{body}"),
                Err(expected) => assert_eq!(messages(fields.finish()), expected, "{body}"),
            }
        }
    }

    #[test]
    fn groups_are_one_to_sixty_four_ids_each_once() {
        let id = "120363021234567890@g.us";
        let many: Vec<_> = (0..65).map(|number| format!("{number}@g.us")).collect();
        let cases = [
            (json!({}), vec!["groups must be an array"]),
            (json!({"groups": []}), vec!["groups should not be empty"]),
            (json!({"groups": [1]}), vec!["each value in groups must be a string"]),
            (json!({"groups": many}), vec!["groups must contain no more than 64 elements"]),
        ];
        for (body, expected) in cases {
            assert_eq!(messages(groups(fields(&body, &["groups"]))), expected);
        }
        let merged = groups(fields(&json!({"groups": [id, "1@g.us", id]}), &["groups"])).unwrap();
        assert_eq!(merged.iter().map(ToString::to_string).collect::<Vec<_>>(), [id, "1@g.us"]);
        let broken = groups(fields(&json!({"groups": ["family", id, "1@c.us"]}), &["groups"]));
        let Err(ApiError::Groups(offenders)) = broken else { panic!() };
        assert_eq!(offenders, ["family", "1@c.us"]);
    }

    #[test]
    fn participants_may_be_left_out_where_all_are_meant() {
        let known = ["participants"];
        assert!(matches!(optional_participants(fields(&json!({}), &known)), Ok(None)));
        let one = optional_participants(fields(&json!({"participants": ["15550100001"]}), &known));
        assert_eq!(one.unwrap(), Some(vec![ParticipantId::Phone(15_550_100_001)]));
        let cases = [
            (json!({"participants": null}), "participants must be an array"),
            (json!({"participants": []}), "participants should not be empty"),
            (json!({"people": []}), "property people should not exist"),
        ];
        for (body, expected) in cases {
            assert_eq!(messages(optional_participants(fields(&body, &known))), [expected]);
        }
    }

    #[test]
    fn what_is_to_come_is_refused_rather_than_ignored() {
        let body = json!({"proxyUrl": "http://127.0.0.1:1", "config": null});
        let mut fields = fields(&body, &["proxyUrl", "config"]);
        fields.not_supported("proxyUrl");
        fields.not_supported("config");
        assert_eq!(messages(fields.finish()), ["proxyUrl is not supported yet"]);
    }
}
