//! Requests to join a group: list, approve, reject.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rookery_actors::commands::{DecideMembership, ReadMembershipRequests};
use rookery_model::{MembershipDecision, MembershipRequest};
use utoipa::ToSchema;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::middleware::authorization::community_scope::may_add_to;
use crate::http::request::caller::Caller;
use crate::http::request::extract::{GroupPath, JsonBody, SessionPath};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::request::written::{ParticipantField, requested};
use crate::http::response::json::{BatchAcknowledged, JsonResult, ToldResult, batch_acknowledged};

/// The people whom a decision is about.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Applicants {
    /// Left out: everybody who asked to join.
    #[schema(nullable = false, min_items = 1, max_items = 256)]
    participants: Option<Vec<ParticipantField>>,
}

impl FromFields for Applicants {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self { participants: fields.has("participants").then(|| fields.participants()) }
    }
}

/// List membership requests
///
/// WhatsApp is asked each time. It answers admins only.
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "Everybody who waits", body = Vec<MembershipRequest>)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
) -> JsonResult<Vec<MembershipRequest>> {
    Ok(Json(app.gateway.execute(session, ReadMembershipRequests { group }).await?))
}

/// Approve membership requests
///
/// The status is 200 when WhatsApp approved at least one request or nobody waits, and 403 when it refused all of them. `results` has the
/// outcome of each participant. A key needs the same groups as for adding participants.
#[utoipa::path(
    post,
    path = "",
    request_body = Applicants,
    responses((status = 200, description = "Membership requests approved", body = BatchAcknowledged)),
)]
pub(crate) async fn approve(
    State(app): State<Arc<App>>,
    session: SessionPath,
    group: GroupPath,
    caller: Caller,
    body: Result<JsonBody<Applicants>, ApiError>,
) -> ToldResult<BatchAcknowledged> {
    may_add_to(&app, &caller, session.0, &group.0).await?;
    let JsonBody(applicants) = body?;
    decide(&app, session, group, applicants, MembershipDecision::Approve).await
}

/// Reject membership requests
///
/// The answers are those of approving them.
#[utoipa::path(
    post,
    path = "",
    request_body = Applicants,
    responses((status = 200, description = "Membership requests rejected", body = BatchAcknowledged)),
)]
pub(crate) async fn reject(
    State(app): State<Arc<App>>,
    session: SessionPath,
    group: GroupPath,
    JsonBody(applicants): JsonBody<Applicants>,
) -> ToldResult<BatchAcknowledged> {
    decide(&app, session, group, applicants, MembershipDecision::Reject).await
}

async fn decide(
    app: &App,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    applicants: Applicants,
    decision: MembershipDecision,
) -> ToldResult<BatchAcknowledged> {
    let participants = applicants.participants.map(requested);
    let done = match decision {
        MembershipDecision::Approve => "Membership requests approved",
        MembershipDecision::Reject => "Membership requests rejected",
    };
    let command = DecideMembership { group, decision, participants };
    batch_acknowledged(done, decision.phrase(), app.gateway.execute(session, command).await?)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::error::ApiError;
    use crate::http::request::fields::Known;

    #[test]
    fn participants_may_be_left_out_where_all_are_meant() {
        let read = |body: Value| Fields::parse::<Applicants>(body.as_object().cloned().unwrap(), Known::default());
        assert!(read(json!({})).unwrap().participants.is_none());
        assert_eq!(read(json!({"participants": ["15550100001"]})).unwrap().participants.map(|all| all.len()), Some(1));
        let cases = [
            (json!({"participants": null}), "participants must be an array"),
            (json!({"participants": []}), "participants should not be empty"),
            (json!({"people": []}), "property people should not exist"),
        ];
        for (body, expected) in cases {
            let Err(ApiError::Body(messages)) = read(body) else { panic!("{expected}") };
            assert_eq!(messages, [expected]);
        }
    }
}
