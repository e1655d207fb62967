//! The conditions that an event has to meet to be delivered, in OpenWA's words. All have to hold. A condition on a field
//! that an event's kind does not have is skipped.

use rookery_model::{Event, GroupId};
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

    /// Its value in an event; `None` where the event's kind does not have it.
    fn of(self, event: &Event) -> Option<String> {
        match self {
            Self::GroupId => event.group.as_ref().map(ToString::to_string),
            _ => None,
        }
    }

    /// A value of a condition as the field's own values are written.
    fn written(self, text: &str) -> String {
        match self {
            Self::GroupId => GroupId::parse_written(text).map_or_else(|_| text.to_owned(), |group| group.to_string()),
            _ => text.to_owned(),
        }
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
        let actual = self.folded(&actual);
        let wanted = match &self.value {
            Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
            value => Vec::from_iter(value.as_str()),
        };
        let is_part = self.operator == Operator::Contains;
        let written = |text: &str| if is_part { text.to_owned() } else { self.field.written(text) };
        let wanted: Vec<String> = wanted.into_iter().map(|text| self.folded(&written(text))).collect();
        match self.operator {
            Operator::Is | Operator::Equals => wanted.contains(&actual),
            Operator::IsNot => !wanted.contains(&actual),
            Operator::Contains => wanted.iter().any(|part| actual.contains(part)),
        }
    }

    fn folded(&self, text: &str) -> String {
        if self.case_sensitive { text.to_owned() } else { text.to_lowercase() }
    }
}

#[cfg(test)]
mod tests {
    use rookery_model::{EventKind, GroupEventKind, SessionId};
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
    fn a_field_that_the_event_does_not_have_is_skipped() {
        for field in ["sender", "body", "isGroup", "kind"] {
            assert!(holds(json!({ "field": field, "operator": "is", "value": "x" }), &event(Some(GROUP))), "{field}");
        }
        assert!(holds(json!({ "field": "groupId", "operator": "is", "value": GROUP }), &event(None)));
    }
}
