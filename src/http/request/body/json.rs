//! Parses a JSON object, and builds no more values than any request of ours needs, however few bytes describe them:
//! `{"":0}` are 6 bytes of a body and some 200 of memory. Never reads a request.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::http::error::ApiError;
use crate::http::limits::{JSON_DEPTH_MAX, JSON_VALUES_MAX};

/// Characters of a name in an error text: our own names are all shorter.
const NAME_CHARS_SHOWN_MAX: usize = 64;

/// Some clients put a byte order mark in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();

/// A body as an object; an empty one is an empty object. A byte order mark in front is skipped.
///
/// # Errors
/// [`ApiError::BodyNotJson`].
pub(crate) fn parse(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let mut values_left = JSON_VALUES_MAX;
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = Bounded { depth_left: JSON_DEPTH_MAX, values_left: &mut values_left }.deserialize(&mut json);
    match value.and_then(|value| json.end().map(|()| value)) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ApiError::BodyNotJson("the body must be a JSON object".into())),
        Err(error) => Err(ApiError::BodyNotJson(format!("the body is not valid JSON: {error}"))),
    }
}

/// One value, with the limits for the values inside it.
struct Bounded<'a> {
    depth_left: usize,
    /// Values left in the body as a whole.
    values_left: &'a mut usize,
}

impl Bounded<'_> {
    /// The limits inside this value.
    fn inside<E: Error>(&mut self) -> Result<Bounded<'_>, E> {
        let depth_left = self.depth_left.checked_sub(1);
        let depth_left =
            depth_left.ok_or_else(|| E::custom(format_args!("it is nested deeper than {JSON_DEPTH_MAX}")))?;
        Ok(Bounded { depth_left, values_left: self.values_left })
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        let left = self.values_left.checked_sub(1);
        *self.values_left =
            left.ok_or_else(|| D::Error::custom(format_args!("it holds more than {JSON_VALUES_MAX} values")))?;
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self.inside()?)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if map.contains_key(&name) {
                // Whichever of the two counted, the other value would be lost.
                let name: String = name.chars().take(NAME_CHARS_SHOWN_MAX).collect();
                return Err(A::Error::custom(format_args!("it names `{name}` twice")));
            }
            map.insert(name, entries.next_value_seed(self.inside()?)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(body: &str) -> String {
        match parse(body.as_bytes()) {
            Err(ApiError::BodyNotJson(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_body_is_an_object_or_nothing() {
        assert!(parse(b"").unwrap().is_empty() && parse(b" \n").unwrap().is_empty());
        assert!(parse("\u{FEFF}".as_bytes()).unwrap().is_empty() && parse("\u{FEFF}{}".as_bytes()).is_ok());
        let all = json!({"text": "x", "list": [1, -1, 1.5, true, null, {"a": {}}], "last": u64::MAX});
        assert_eq!(Value::Object(parse(all.to_string().as_bytes()).unwrap()), all);
        for body in ["[]", "null", "{", "{\"a\":}", "{} {}", "{\"a\":1}x", "{\"a\":1e999}", "{\"a\":\"\\ud800\"}"] {
            message(body);
        }
    }

    #[test]
    fn a_member_that_is_there_twice_is_named() {
        for body in [r#"{"a":1,"a":1}"#, r#"{"list":[{"a":1,"b":2,"a":3}]}"#] {
            assert!(message(body).starts_with("the body is not valid JSON: it names `a` twice"), "{}", message(body));
        }
        let long = "x".repeat(1_000);
        assert!(message(&format!("{{\"{long}\":1,\"{long}\":2}}")).len() < 200);
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(JSON_DEPTH_MAX - 1).as_bytes()).is_ok());
        for depth in [JSON_DEPTH_MAX, 10_000, 1_000_000] {
            let expected = format!("the body is not valid JSON: it is nested deeper than {JSON_DEPTH_MAX}");
            assert!(message(&nested(depth)).starts_with(&expected), "{}", message(&nested(depth)));
        }
        let many = format!("the body is not valid JSON: it holds more than {JSON_VALUES_MAX} values");
        let list = |count: usize, value: &str| format!("{{\"x\":[{}]}}", vec![value; count].join(","));
        assert!(parse(list(JSON_VALUES_MAX - 2, "0").as_bytes()).is_ok());
        assert!(message(&list(JSON_VALUES_MAX - 1, "0")).starts_with(&many));
        assert!(message(&list(1_000_000, "{\"\":0}")).starts_with(&many), "a megabyte of the smallest objects");
        let named: Vec<_> = (0..JSON_VALUES_MAX).map(|number| format!("\"{number}\":0")).collect();
        assert!(message(&format!("{{{}}}", named.join(","))).starts_with(&many), "members are values");
    }
}
