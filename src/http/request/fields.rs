//! The fields of a JSON body, read into the struct that documents it and checked one by one: every broken rule is one message,
//! unknown fields come first, and the wording is the one OpenWA's clients know. Never reads a request.

use std::ops::RangeInclusive;
use std::str::FromStr;

use rookery_model::{FileKind, SessionId, Timestamp};
use serde_json::{Map, Value};

use crate::http::error::ApiError;
use crate::http::limits::{PARTICIPANTS, VALIDATION_MESSAGES_MAX};
use crate::http::request::characters::is_control;
use crate::http::request::written::{ParticipantField, flag, shorten, whole_number};

/// A struct that is the JSON body of a request.
pub(crate) trait FromFields: Sized {
    /// Reads all of its fields. A broken field is noted, and has any value then.
    fn read(fields: &mut Fields<'_>) -> Self;
}

/// The facts outside of the body that fields are checked against.
#[derive(Copy, Clone)]
pub(crate) struct Known<'a> {
    /// The session with this id or name.
    pub(crate) find_session: &'a dyn Fn(&str) -> Option<SessionId>,
    /// The time by which a date is in the future.
    pub(crate) now: Timestamp,
    /// The kind of the file that the request is for.
    pub(crate) file: Option<FileKind>,
}

impl Default for Known<'_> {
    /// No sessions, the time 0, and no file.
    fn default() -> Self {
        Self { find_session: &|_| None, now: Timestamp(0), file: None }
    }
}

/// A body being read. A broken field yields an empty value and a message; [`Fields::finish`] turns the messages
/// into the answer. Fields that nobody read are unknown.
pub(crate) struct Fields<'a> {
    map: Map<String, Value>,
    messages: Vec<String>,
    /// The error for entries of a list that cannot be parsed: reported when nothing else is broken.
    offenders: Option<ApiError>,
    known: Known<'a>,
}

impl<'a> Fields<'a> {
    /// The fields of this object.
    pub(crate) fn of(map: Map<String, Value>, known: Known<'a>) -> Self {
        Self { map, messages: Vec::new(), offenders: None, known }
    }

    /// Reads a whole body.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub(crate) fn parse<T: FromFields>(map: Map<String, Value>, known: Known<'a>) -> Result<T, ApiError> {
        let mut fields = Self::of(map, known);
        let value = T::read(&mut fields);
        fields.finish()?;
        Ok(value)
    }

    /// The facts outside of the body that fields are checked against.
    pub(crate) fn known(&self) -> Known<'a> {
        self.known
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
        let value = self.map.remove(name)?;
        let on = flag(&value);
        if on.is_none() {
            self.broken(name, "must be a boolean value");
        }
        on
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

    /// A number in this range, also as a text.
    pub(crate) fn decimal(&mut self, name: &str, range: RangeInclusive<f64>) -> f64 {
        let value = self.map.remove(name);
        let number = value.as_ref().and_then(|value| match value {
            Value::String(text) => text.trim().parse().ok(),
            value => value.as_f64(),
        });
        match number.filter(|number: &f64| number.is_finite()) {
            None => self.broken(name, "must be a number"),
            Some(number) if number < *range.start() => {
                self.broken(name, &format!("must not be less than {}", range.start()));
            }
            Some(number) if number > *range.end() => {
                self.broken(name, &format!("must not be greater than {}", range.end()));
            }
            Some(number) => return number,
        }
        *range.start()
    }

    /// A text of this many characters, as its parsed value; `None` when it is broken. `offenders` makes the error for a text that
    /// cannot be parsed.
    pub(crate) fn parsed<T: FromStr>(
        &mut self,
        name: &str,
        chars: RangeInclusive<usize>,
        offenders: fn(Vec<String>) -> ApiError,
    ) -> Option<T> {
        let messages = self.messages.len();
        let text = self.text(name, chars);
        if self.messages.len() > messages {
            return None;
        }
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.offenders.get_or_insert_with(|| offenders(vec![shorten(&text)]));
        }
        parsed
    }

    /// One of these words, as its value; `None` when the field is absent.
    pub(crate) fn optional_word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let value = self.map.remove(name)?;
        let found = words.iter().find(|(word, _)| value.as_str() == Some(*word)).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.broken(name, &format!("must be one of the following values: {}", words.join(", ")));
        }
        found
    }

    /// An object in the body; `None` when the field is absent or `null`. Its messages are named by the field: `config.name must be
    /// a string`.
    pub(crate) fn optional_object<T: FromFields>(&mut self, name: &str) -> Option<T> {
        match self.map.remove(name)? {
            Value::Null => None,
            Value::Object(map) => Some(self.inner(name, map, T::read)),
            _ => {
                self.broken(name, "must be an object");
                None
            }
        }
    }

    /// Whether the field is `null`; if so, removes it.
    pub(crate) fn take_null(&mut self, name: &str) -> bool {
        let is_null = self.map.get(name).is_some_and(Value::is_null);
        is_null && self.map.remove(name).is_some()
    }

    /// Whether the body has the field, and it was not read yet.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// A text that may be anything; `None` when the field is absent or no text.
    pub(crate) fn any_text(&mut self, name: &str) -> Option<String> {
        self.map.remove(name).and_then(into_text)
    }

    /// A value of any type; `None` when the field is absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name)
    }

    /// Reads an object inside of the body. Its messages are named by `name`.
    pub(crate) fn inner<T>(&mut self, name: &str, map: Map<String, Value>, read: impl FnOnce(&mut Self) -> T) -> T {
        let mut inner = Self::of(map, self.known);
        let value = read(&mut inner);
        self.offenders = self.offenders.take().or(inner.offenders.take());
        inner.all_messages().into_iter().for_each(|message| self.message(format!("{name}.{message}")));
        value
    }

    /// An object whose fields are read elsewhere.
    pub(crate) fn take_object(&mut self, name: &str) -> Map<String, Value> {
        match self.map.remove(name) {
            Some(Value::Object(map)) => map,
            _ => {
                self.broken(name, "must be an object");
                Map::new()
            }
        }
    }

    /// The fields that were not read are no mistake.
    pub(crate) fn ignore_others(&mut self) {
        self.map.clear();
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
            None => Vec::new(),
            Some(Value::Null) => {
                self.map.remove(name);
                Vec::new()
            }
            Some(_) => self.texts(name, 0..=entries_max),
        }
    }

    /// An array of texts with this many entries, each as its parsed value, once, in the order of the request.
    /// `offenders` makes the error for entries that cannot be parsed.
    pub(crate) fn distinct<T: FromStr + PartialEq>(
        &mut self,
        name: &str,
        entries: RangeInclusive<usize>,
        offenders: fn(Vec<String>) -> ApiError,
    ) -> Vec<T> {
        let (mut values, mut broken) = (Vec::new(), Vec::new());
        for text in self.texts(name, entries) {
            match text.parse() {
                Ok(value) if values.contains(&value) => {}
                Ok(value) => values.push(value),
                Err(_) => broken.push(shorten(&text)),
            }
        }
        if !broken.is_empty() {
            self.offenders.get_or_insert_with(|| offenders(broken));
        }
        values
    }

    /// The people in the field `participants`.
    pub(crate) fn participants(&mut self) -> Vec<ParticipantField> {
        self.distinct("participants", PARTICIPANTS, ApiError::Participants)
    }

    /// Notes that the field broke a rule: `<field> <rule>`.
    pub(crate) fn broken(&mut self, name: &str, rule: &str) {
        self.message(format!("{name} {rule}"));
    }

    /// Notes a message as it is.
    pub(crate) fn message(&mut self, message: String) {
        self.messages.push(message);
    }

    /// Whether something is broken, once all fields were read.
    pub(crate) fn is_broken(&self) -> bool {
        !self.messages.is_empty() || !self.map.is_empty()
    }

    /// Ends the check of the body.
    ///
    /// # Errors
    /// [`ApiError::Body`] with all messages; else [`ApiError::Participants`] or [`ApiError::Groups`] with every entry
    /// that cannot be parsed.
    pub(crate) fn finish(mut self) -> Result<(), ApiError> {
        let offenders = self.offenders.take();
        let messages = self.all_messages();
        if messages.is_empty() { offenders.map_or(Ok(()), Err) } else { Err(ApiError::Body(messages)) }
    }

    /// All messages, unknown fields first.
    fn all_messages(self) -> Vec<String> {
        let message = |name: &String| format!("property {} should not exist", shorten(name));
        let mut messages: Vec<String> = self.map.keys().map(message).collect();
        messages.extend(self.messages);
        messages.truncate(VALIDATION_MESSAGES_MAX);
        messages
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

    fn fields(body: &Value) -> Fields<'static> {
        Fields::of(body.as_object().cloned().unwrap_or_default(), Known::default())
    }

    /// A body with people alone.
    fn participants(body: &Value) -> Result<Vec<ParticipantField>, ApiError> {
        let mut fields = fields(body);
        let participants = fields.participants();
        fields.finish().map(|()| participants)
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
            let mut fields = fields(&body);
            fields.text("name", 3..=100);
            assert_eq!(messages(fields.finish()), expected, "{body}");
        }
    }

    #[test]
    fn length_is_counted_in_characters_not_bytes() {
        let body = json!({"name": "ü".repeat(100), "description": ""});
        let mut fields = fields(&body);
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
            assert_eq!(messages(participants(&body)), expected);
        }
    }

    #[test]
    fn people_are_merged_and_offenders_named_together() {
        let body = json!({"participants": ["15550100001", "15550100002@c.us", "15550100001@s.whatsapp.net"]});
        let merged: Vec<ParticipantField> = ["15550100001", "15550100002"].map(|text| text.parse().unwrap()).into();
        assert_eq!(participants(&body).unwrap(), merged);
        let body = json!({"participants": ["alice", "15550100001", "", "b".repeat(70)]});
        let Err(ApiError::Participants(offenders)) = participants(&body) else { panic!() };
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
            (json!({"number": "three"}), Err(vec!["number must be an integer number"])),
            (
                json!({"flag": "true", "wide": "False", "number": "3"}),
                Ok((Some(true), Some(Some(false)), Some(Some(3)), None)),
            ),
            (json!({"number": "30"}), Err(vec!["number must not be greater than 9"])),
            (json!({"number": 1}), Err(vec!["number must not be less than 2"])),
            (json!({"number": -1e300}), Err(vec!["number must not be less than 2"])),
            (json!({"number": u64::MAX}), Err(vec!["number must not be greater than 9"])),
            (json!({"word": null}), Err(vec!["word must be one of the following values: all, admins"])),
            (json!({"word": "none"}), Err(vec!["word must be one of the following values: all, admins"])),
        ];
        for (body, expected) in cases {
            let mut fields = fields(&body);
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

    struct Inner(String);

    impl FromFields for Inner {
        fn read(fields: &mut Fields<'_>) -> Self {
            Self(fields.text("name", 1..=9))
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
            let mut fields = fields(&body);
            let found = fields.optional_object::<Inner>("config").map(|inner| inner.0);
            match expected {
                Ok(expected) => assert_eq!((found.as_deref(), fields.finish().is_ok()), (expected, true), "{body}"),
                Err(expected) => assert_eq!(messages(fields.finish()), expected, "{body}"),
            }
        }
    }
}
