//! The result of a call, for the audit log and the scopes of keys. It travels in the extensions of the response, and is
//! kept with the response under an idempotency key.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use rookery_model::{Community, CreatedGroup, LinkResult, ParticipantResult, Session};
use serde::{Deserialize, Serialize};

/// The result of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Happened {
    /// The error code of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// The id of the object that was made or changed, where the path does not name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    /// The id of each participant or group, and its result code.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) results: Vec<(String, String)>,
    /// Further groups in the response.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<String>,
}

/// A response that knows the result of its call.
pub(crate) trait Tells {
    /// The result of the call: by default nothing beside its path.
    fn happened(&self) -> Happened {
        Happened::default()
    }
}

/// A JSON answer of a call that changed something.
pub(crate) struct Told<T>(pub(crate) T);

impl<T: Serialize + Tells> IntoResponse for Told<T> {
    fn into_response(self) -> Response {
        let happened = self.0.happened();
        let mut response = Json(self.0).into_response();
        response.extensions_mut().insert(happened);
        response
    }
}

impl Happened {
    /// The result of a call that made or changed this.
    pub(crate) fn to(target: impl ToString) -> Self {
        Self { target: Some(target.to_string()), ..Self::default() }
    }

    /// The results of participants.
    pub(crate) fn to_participants(results: &[ParticipantResult]) -> Self {
        Self::to_each(results.iter().map(|result| (&result.id, word(&result.code))))
    }

    /// The results of groups.
    pub(crate) fn to_groups(results: &[LinkResult]) -> Self {
        Self::to_each(results.iter().map(|result| (&result.id, word(&result.code))))
    }

    fn to_each<T: ToString>(results: impl Iterator<Item = (T, String)>) -> Self {
        Self { results: results.map(|(id, code)| (id.to_string(), code)).collect(), ..Self::default() }
    }
}

/// A response that an earlier version kept without the result of its call.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct KeptBefore {
    code: Option<String>,
    id: Option<String>,
    group_id: Option<String>,
    results: Vec<KeptResult>,
    groups: Vec<KeptGroup>,
}

#[derive(Deserialize)]
struct KeptResult {
    id: String,
    code: String,
}

#[derive(Deserialize)]
struct KeptGroup {
    id: String,
}

impl Happened {
    /// The result of a call, read from a response that an earlier version kept; `None` when it cannot be read.
    pub(crate) fn of_kept(body: &[u8]) -> Option<Self> {
        if body.is_empty() {
            return Some(Self::default());
        }
        let kept: KeptBefore = serde_json::from_slice(body).ok()?;
        Some(Self {
            code: kept.code,
            target: kept.group_id.or(kept.id),
            results: kept.results.into_iter().map(|result| (result.id, result.code)).collect(),
            groups: kept.groups.into_iter().map(|group| group.id).collect(),
        })
    }
}

/// A code as it is written in responses.
fn word(code: &impl Serialize) -> String {
    serde_json::to_value(code).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

impl Tells for CreatedGroup {
    fn happened(&self) -> Happened {
        Happened { target: Some(self.summary.id.to_string()), ..Happened::to_participants(&self.results) }
    }
}

impl Tells for Community {
    fn happened(&self) -> Happened {
        let groups = self.groups.iter().map(|group| group.id.to_string()).collect();
        Happened { groups, ..Happened::to(&self.id) }
    }
}

impl Tells for Arc<Session> {
    fn happened(&self) -> Happened {
        Happened::to(self.id)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_versions_before_kept_says_what_it_came_to() {
        let kept = |body: serde_json::Value| Happened::of_kept(body.to_string().as_bytes());
        let made = json!({ "id": "1@g.us", "name": "Trip", "results": [{ "id": "1@c.us", "success": true, "code": "added" }] });
        let expected = Happened { results: vec![("1@c.us".into(), "added".into())], ..Happened::to("1@g.us") };
        assert_eq!(kept(made), Some(expected));
        let community = json!({ "id": "1@g.us", "groups": [{ "id": "2@g.us", "name": "x" }] });
        assert_eq!(kept(community), Some(Happened { groups: vec!["2@g.us".into()], ..Happened::to("1@g.us") }));
        assert_eq!(kept(json!({ "success": true, "groupId": "3@g.us" })), Some(Happened::to("3@g.us")));
        assert_eq!((kept(json!({ "results": {} })), Happened::of_kept(b"half {")), (None, None));
        assert_eq!(Happened::of_kept(b""), Some(Happened::default()));
    }
}
