//! People who asked to be let into a group: who they are, letting them in, turning them down.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rookery_model::{MembershipDecision, MembershipRequest, ParticipantResult};
use utoipa::ToSchema;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::middleware::authorization::community_scope::may_add_to;
use crate::http::request::caller::Caller;
use crate::http::request::extract::{GroupPath, JsonObject, SessionPath};
use crate::http::request::fields::{Fields, Person, optional_participants};
use crate::http::response::json::{BatchAcknowledged, JsonResult, acknowledged_with};

/// Whom a decision is about.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct Applicants {
    /// Left out: everybody who asked.
    #[schema(nullable = false, min_items = 1, max_items = 256)]
    participants: Option<Vec<Person>>,
}

/// Who asked to be let in?
///
/// Asked of WhatsApp, which tells admins only.
#[utoipa::path(
    get,
    path = "/api/sessions/{session}/groups/{group}/membership-requests",
    responses((status = 200, description = "Everybody who waits", body = Vec<MembershipRequest>)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
) -> JsonResult<Vec<MembershipRequest>> {
    Ok(Json(app.gateway.membership_requests(session, group).await?))
}

/// Let people in
///
/// Some refused: 200, and `results` says who. All refused: 403. Nobody waits: 200 without results. Scopes of keys are as for adding
/// people.
#[utoipa::path(
    post,
    path = "/api/sessions/{session}/groups/{group}/membership-requests/approve",
    request_body = Applicants,
    responses((status = 200, description = "Membership requests approved", body = BatchAcknowledged)),
)]
pub(crate) async fn approve(
    State(app): State<Arc<App>>,
    session: SessionPath,
    group: GroupPath,
    caller: Caller,
    body: JsonObject,
) -> JsonResult<BatchAcknowledged> {
    may_add_to(&app, &caller, session.0, &group.0).await?;
    decide(&app, session, group, body, MembershipDecision::Approve).await
}

/// Turn people down
///
/// As for letting them in.
#[utoipa::path(
    post,
    path = "/api/sessions/{session}/groups/{group}/membership-requests/reject",
    request_body = Applicants,
    responses((status = 200, description = "Membership requests rejected", body = BatchAcknowledged)),
)]
pub(crate) async fn reject(
    State(app): State<Arc<App>>,
    session: SessionPath,
    group: GroupPath,
    body: JsonObject,
) -> JsonResult<BatchAcknowledged> {
    decide(&app, session, group, body, MembershipDecision::Reject).await
}

async fn decide(
    app: &App,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    JsonObject(body): JsonObject,
    decision: MembershipDecision,
) -> JsonResult<BatchAcknowledged> {
    let people = optional_participants(Fields::of(body, &["participants"]))?;
    let results = app.gateway.decide_membership(session, group, decision, people).await?;
    outcome(decision, results)
}

/// Nobody waited, or some failed: the answer says so. All failed: the request did.
fn outcome(decision: MembershipDecision, results: Vec<ParticipantResult>) -> JsonResult<BatchAcknowledged> {
    let (done, what) = match decision {
        MembershipDecision::Approve => ("Membership requests approved", "Approving membership requests"),
        MembershipDecision::Reject => ("Membership requests rejected", "Rejecting membership requests"),
    };
    if results.is_empty() || results.iter().any(|result| result.success) {
        Ok(acknowledged_with(done, results))
    } else {
        Err(ApiError::AllRefused { what, results })
    }
}

#[cfg(test)]
mod tests {
    use rookery_model::{ParticipantId, ResultCode};

    use super::*;

    #[test]
    fn a_decision_fails_only_when_there_was_somebody_and_everybody_was_refused() {
        let result = |success| ParticipantResult {
            id: ParticipantId::Phone(15_550_100_001),
            success,
            status: Some(404),
            code: ResultCode::NoRequest,
            message: None,
        };
        for (results, fails) in [(vec![], false), (vec![true, false], false), (vec![false], true)] {
            let results = results.into_iter().map(result).collect();
            assert_eq!(outcome(MembershipDecision::Reject, results).is_err(), fails);
        }
    }
}
