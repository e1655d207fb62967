//! The fields of a JSON body, checked one by one: every broken rule is one message, unknown fields come first, and
//! the wording is the one OpenWA's clients know. Never reads a request.

use std::ops::RangeInclusive;

use rookery_actors::model::ParticipantId;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::error::ApiError;
use super::limits::{ECHO_CHARS_MAX, PARTICIPANTS, VALIDATION_MESSAGES_MAX};

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
        let messages = unknown.map(|name| format!("property {} should not exist", shorten(name))).collect();
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
    let mut people: Vec<ParticipantId> = Vec::with_capacity(texts.len());
    let mut offenders = Vec::new();
    for text in texts {
        match text.parse() {
            Ok(id) if people.contains(&id) => {}
            Ok(id) => people.push(id),
            Err(_) => offenders.push(shorten(&text)),
        }
    }
    if offenders.is_empty() { Ok(people) } else { Err(ApiError::Participants(offenders)) }
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
    fn what_is_to_come_is_refused_rather_than_ignored() {
        let body = json!({"proxyUrl": "http://127.0.0.1:1", "config": null});
        let mut fields = fields(&body, &["proxyUrl", "config"]);
        fields.not_supported("proxyUrl");
        fields.not_supported("config");
        assert_eq!(messages(fields.finish()), ["proxyUrl is not supported yet"]);
    }
}
