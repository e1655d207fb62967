//! The conditions that an event has to meet to be delivered, in OpenWA's words. All have to hold. A condition on a field
//! that an event's kind does not have is skipped.

use rookery_model::{ChatId, Event, GroupId, ParticipantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Conditions of one webhook.
pub(crate) const CONDITIONS_MAX: usize = 20;
/// Values of one condition.
pub(crate) const VALUES_MAX: usize = 100;

/// The conditions of a webhook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = WebhookFilters)]
pub(crate) struct Filters {
    #[schema(max_items = 20)]
    pub(crate) conditions: Vec<Condition>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookCondition)]
pub(crate) struct Condition {
    pub(crate) field: Field,
    pub(crate) operator: Operator,
    /// A text, a list of texts of which one has to match, or true or false for the fields that are that.
    #[schema(value_type = Value, example = "120363021234567890@g.us")]
    pub(crate) value: Value,
    /// Whether upper and lower case differ; false by default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(example = false)]
    pub(crate) case_sensitive: bool,
}

/// The fields of conditions. Only messages have those but `groupId`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookField)]
pub(crate) enum Field {
    Sender,
    Recipient,
    Body,
    Type,
    IsGroup,
    FromMe,
    HasMedia,
    Mentions,
    Kind,
    GroupId,
}

/// How the value of the field and that of the condition are compared.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookOperator)]
pub(crate) enum Operator {
    /// The value is one of the condition's.
    Is,
    /// The value is none of the condition's.
    IsNot,
    /// The value contains one of the condition's.
    Contains,
    /// As `is`.
    Equals,
}

impl Field {
    pub(crate) const WORDS: [(&str, Self); 10] = [
        ("sender", Self::Sender),
        ("recipient", Self::Recipient),
        ("body", Self::Body),
        ("type", Self::Type),
        ("isGroup", Self::IsGroup),
        ("fromMe", Self::FromMe),
        ("hasMedia", Self::HasMedia),
        ("mentions", Self::Mentions),
        ("kind", Self::Kind),
        ("groupId", Self::GroupId),
    ];

    /// Whether its values are true and false.
    pub(crate) fn is_flag(self) -> bool {
        matches!(self, Self::IsGroup | Self::FromMe | Self::HasMedia)
    }

    /// Its values in an event, mostly one; `None` where the event's kind does not have it.
    fn of(self, event: &Event) -> Option<Vec<String>> {
        if self == Self::GroupId {
            // Messages have a group or none: those in a chat with a person are not in the wanted group.
            let is_there = event.group.is_some() || event.message.is_some();
            return is_there.then(|| event.group.iter().map(ToString::to_string).collect());
        }
        let note = event.message.as_deref()?;
        let text = |field: &str| event.data.get(field)?.as_str().map(|text| vec![text.to_owned()]);
        let flag = |is_set: bool| Some(vec![is_set.to_string()]);
        match self {
            Self::Sender => Some(note.authors.iter().map(ToString::to_string).collect()),
            Self::Recipient => text("to"),
            Self::Body => text("body"),
            Self::Type => text("type"),
            Self::Kind => text("kind"),
            Self::IsGroup => flag(event.group.is_some()),
            Self::FromMe => flag(note.is_from_me),
            Self::HasMedia => flag(event.data.contains_key("media")),
            Self::Mentions => {
                let mentioned = event.data.get("mentionedIds").and_then(Value::as_array);
                let mentioned = mentioned.into_iter().flatten().filter_map(Value::as_str);
                Some(mentioned.map(str::to_owned).collect())
            }
            Self::GroupId => None,
        }
    }

    /// A value of a condition as the field's own values are written.
    fn written(self, text: &str) -> String {
        let written = match self {
            Self::GroupId => GroupId::parse_written(text).map(|group| group.to_string()),
            Self::Sender | Self::Mentions => ParticipantId::parse_written(text).map(|person| person.to_string()),
            Self::Recipient => ChatId::parse_written(text).map(|chat| chat.to_string()),
            _ => return text.to_owned(),
        };
        written.unwrap_or_else(|_| text.to_owned())
    }
}

impl Operator {
    pub(crate) const WORDS: [(&str, Self); 4] =
        [("is", Self::Is), ("isNot", Self::IsNot), ("contains", Self::Contains), ("equals", Self::Equals)];
}

impl Filters {
    /// Whether all conditions hold.
    pub(crate) fn let_through(&self, event: &Event) -> bool {
        self.conditions.iter().all(|condition| condition.holds(event))
    }
}

impl Condition {
    fn holds(&self, event: &Event) -> bool {
        let Some(actual) = self.field.of(event) else { return true };
        let actual: Vec<String> = actual.iter().map(|value| self.folded(value)).collect();
        let wanted = match &self.value {
            Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
            Value::Bool(flag) => vec![if *flag { "true" } else { "false" }],
            value => Vec::from_iter(value.as_str()),
        };
        let is_part = self.operator == Operator::Contains;
        let written = |text: &str| if is_part { text.to_owned() } else { self.field.written(text) };
        let wanted: Vec<String> = wanted.into_iter().map(|text| self.folded(&written(text))).collect();
        match self.operator {
            Operator::Is | Operator::Equals => actual.iter().any(|value| wanted.contains(value)),
            Operator::IsNot => !actual.iter().any(|value| wanted.contains(value)),
            Operator::Contains => wanted.iter().any(|part| actual.iter().any(|value| value.contains(part))),
        }
    }

    fn folded(&self, text: &str) -> String {
        if self.case_sensitive { text.to_owned() } else { text.to_lowercase() }
    }
}

#[cfg(test)]
mod tests {
    use rookery_model::{EventKind, GroupEventKind, MessageEventKind, MessageNote, SessionId};
    use serde_json::{Map, json};
    use uuid::Uuid;

    use super::*;

    const GROUP: &str = "120363021234567890@g.us";

    fn event(group: Option<&str>) -> Event {
        let kind = EventKind::Group(GroupEventKind::Join);
        let event = Event::of_session(SessionId(Uuid::nil()), kind, Map::new());
        Event { group: group.map(|group| group.parse().unwrap()), ..event }
    }

    fn holds(condition: Value, event: &Event) -> bool {
        let filters: Filters = serde_json::from_value(json!({ "conditions": [condition] })).unwrap();
        filters.let_through(event)
    }

    #[test]
    fn a_condition_on_a_group_holds_however_the_group_is_written() {
        let (of_group, of_other) = (event(Some(GROUP)), event(Some("120363021234567899@g.us")));
        for value in [json!(GROUP), json!("120363021234567890"), json!(["1@g.us", GROUP])] {
            let is = json!({ "field": "groupId", "operator": "is", "value": value });
            assert!(holds(is.clone(), &of_group) && !holds(is, &of_other), "{value}");
            let is_not = json!({ "field": "groupId", "operator": "isNot", "value": value });
            assert!(!holds(is_not.clone(), &of_group) && holds(is_not, &of_other), "{value}");
        }
        let contains = json!({ "field": "groupId", "operator": "contains", "value": ["67890@G.US"] });
        assert!(holds(contains.clone(), &of_group) && !holds(contains, &of_other));
        let exactly =
            json!({ "field": "groupId", "operator": "contains", "value": "67890@G.US", "caseSensitive": true });
        assert!(!holds(exactly, &of_group));
    }

    #[test]
    fn a_message_is_let_through_by_its_author_its_text_and_its_place() {
        let data = json!({
            "to": "15550100001@c.us", "body": "Lunch at NOON?", "type": "image", "kind": "group",
            "mentionedIds": ["15550100003@c.us"], "media": { "mimetype": "image/jpeg" },
        });
        let Value::Object(data) = data else { panic!("an object") };
        let kind = EventKind::Message(MessageEventKind::Received);
        let note = MessageNote {
            recipients: None,
            chats: vec![GROUP.to_owned()],
            id: "3EB0".to_owned(),
            change: None,
            is_from_me: false,
            authors: vec![ParticipantId::Phone(15_550_100_002), ParticipantId::Lid(810_103_492_323_469)],
            written_by: Vec::new(),
            protocol: None,
        };
        let event = Event {
            group: Some(GROUP.parse().unwrap()),
            message: Some(Box::new(note)),
            ..Event::of_session(SessionId(Uuid::nil()), kind, data)
        };
        for (field, value) in [
            ("sender", json!("+1 555 010-0002")),
            ("sender", json!(["1@lid", "810103492323469@lid"])),
            ("recipient", json!("15550100001")),
            ("body", json!("lunch at noon?")),
            ("type", json!("image")),
            ("kind", json!("group")),
            ("isGroup", json!(true)),
            ("fromMe", json!(false)),
            ("hasMedia", json!(true)),
            ("mentions", json!("15550100003@c.us")),
        ] {
            assert!(holds(json!({ "field": field, "operator": "is", "value": value }), &event), "{field} {value}");
            assert!(!holds(json!({ "field": field, "operator": "isNot", "value": value }), &event), "{field} {value}");
        }
        for (field, value) in [("sender", json!("15550100003")), ("fromMe", json!(true)), ("type", json!("text"))] {
            assert!(!holds(json!({ "field": field, "operator": "is", "value": value }), &event), "{field} {value}");
        }
        assert!(holds(json!({ "field": "body", "operator": "contains", "value": ["dinner", "noon"] }), &event));
        let private = Event { group: None, ..event };
        assert!(!holds(json!({ "field": "groupId", "operator": "is", "value": GROUP }), &private));
        assert!(holds(json!({ "field": "groupId", "operator": "isNot", "value": GROUP }), &private));
    }

    #[test]
    fn a_field_that_the_event_does_not_have_is_skipped() {
        for field in ["sender", "body", "isGroup", "kind"] {
            assert!(holds(json!({ "field": field, "operator": "is", "value": "x" }), &event(Some(GROUP))), "{field}");
        }
        assert!(holds(json!({ "field": "groupId", "operator": "is", "value": GROUP }), &event(None)));
    }
}
