//! The filter of a list of groups: `?admin=`, `?search=` and `?community=`, and only groups that the key may see. Never
//! asks anybody.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use rookery_model::{GroupId, GroupSummary};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use crate::auth::Key;
use crate::http::error::ApiError;
use crate::http::request::caller::Caller;
use crate::http::request::extract::{group_of, query, query_parameter, value_of};
use crate::http::request::folding::folded;
use crate::http::request::written::query_flag;

/// The filter of a list of groups; an empty one matches every group.
#[derive(Debug, Default)]
pub(crate) struct GroupFilter {
    admin: Option<bool>,
    /// The folded search text.
    search: Option<String>,
    /// `Some(None)`: in no community.
    community: Option<Option<GroupId>>,
    /// A key that is limited to groups.
    key: Option<Arc<Key>>,
}

impl GroupFilter {
    pub(crate) fn matches(&self, group: &GroupSummary) -> bool {
        self.key.as_ref().is_none_or(|key| key.allows_group(&group.id))
            && self.admin.is_none_or(|admin| group.is_admin == admin)
            && self.community.as_ref().is_none_or(|community| group.linked_parent_jid == *community)
            && self
                .search
                .as_ref()
                .is_none_or(|text| folded(&group.name).contains(text) || group.id.to_string().contains(text.as_str()))
    }

    /// The groups that are wanted, in their order.
    pub(crate) fn of<'a>(&self, groups: &'a [GroupSummary]) -> Vec<&'a GroupSummary> {
        groups.iter().filter(|group| self.matches(group)).collect()
    }

    pub(crate) fn read(query: &[(String, String)]) -> Result<Self, ApiError> {
        let wrong = || ApiError::Query("admin must be true or false".into());
        let admin = value_of(query, "admin").map(|text| query_flag(text).ok_or_else(wrong)).transpose()?;
        let community = match value_of(query, "community") {
            None => None,
            Some("none") => Some(None),
            Some(id) => Some(Some(group_of(id)?)),
        };
        Ok(Self { admin, search: value_of(query, "search").map(folded), community, key: None })
    }
}

impl IntoParams for GroupFilter {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let words = text().enum_values(Some(["true", "false", "1", "0"]));
        let community = text().pattern(Some(r"^(none|[0-9]+(-[0-9]+)?(@g\.us)?)$"));
        vec![
            query_parameter("admin", words, "Only groups that this account is an admin of, or only the others"),
            query_parameter(
                "search",
                text(),
                "Only groups with this in their name or id; case and accents make no difference",
            ),
            query_parameter("community", community, "Only groups of the community with this id, or `none`: of none"),
        ]
    }
}

impl<S: Sync> FromRequestParts<S> for GroupFilter {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Caller>();
        let caller = caller.ok_or_else(|| ApiError::Internal("a list of groups checks no key".into()))?;
        let key = Some(&caller.key).filter(|key| key.is_limited_to_groups()).cloned();
        Ok(Self { key, ..Self::read(&query(parts)?)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn read(pairs: Pairs<'_>) -> Result<GroupFilter, ApiError> {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        GroupFilter::read(&pairs)
    }

    #[test]
    fn all_that_is_asked_for_has_to_be_true() {
        let community: GroupId = "77@g.us".parse().unwrap();
        let group = |id: &str, name: &str, is_admin, parent: Option<&GroupId>| GroupSummary {
            id: id.parse().unwrap(),
            name: name.into(),
            participants_count: 2,
            is_admin,
            linked_parent_jid: parent.cloned(),
            is_community: false,
            incomplete: false,
        };
        let groups = [group("11@g.us", "Über uns", true, None), group("12@g.us", "Team ÜBER", false, Some(&community))];
        let cases: [(Pairs<'_>, &[&str]); 13] = [
            (&[], &["11@g.us", "12@g.us"]),
            (&[("search", "")], &["11@g.us", "12@g.us"]),
            (&[("search", "ÜBER")], &["11@g.us", "12@g.us"]),
            (&[("search", "uber")], &["11@g.us", "12@g.us"]),
            (&[("search", "U\u{308}ber")], &["11@g.us", "12@g.us"]),
            (&[("search", "uns")], &["11@g.us"]),
            (&[("search", "12@G.us")], &["12@g.us"]),
            (&[("admin", "true")], &["11@g.us"]),
            (&[("admin", "0")], &["12@g.us"]),
            (&[("community", "none")], &["11@g.us"]),
            (&[("community", "77@g.us")], &["12@g.us"]),
            (&[("community", "78@g.us")], &[]),
            (&[("community", "77@g.us"), ("admin", "true")], &[]),
        ];
        for (query, expected) in cases {
            let filter = read(query).unwrap();
            let found: Vec<_> = filter.of(&groups).iter().map(|group| group.id.to_string()).collect();
            assert_eq!(found, expected, "{query:?}");
        }
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        assert!(
            matches!(read(&[("admin", "yes")]), Err(ApiError::Query(text)) if text == "admin must be true or false")
        );
        for text in ["", "None", "family", "1@c.us"] {
            assert!(matches!(read(&[("community", text)]), Err(ApiError::Command(_))), "{text}");
        }
    }
}
