//! People who asked to be let into a group: who they are, letting them in, turning them down.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rookery_actors::commands::{DecideMembership, ReadMembershipRequests};
use rookery_model::{MembershipDecision, MembershipRequest};
use utoipa::ToSchema;

use crate::app::App;
use crate::http::middleware::authorization::community_scope::may_add_to;
use crate::http::request::caller::Caller;
use crate::http::request::extract::{GroupPath, JsonObject, SessionPath};
use crate::http::request::fields::{Fields, Person, optional_participants};
use crate::http::response::json::{BatchAcknowledged, JsonResult, batch_acknowledged};

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
    Ok(Json(app.gateway.execute(session, ReadMembershipRequests { group }).await?))
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
    let participants = optional_participants(Fields::of(body, &["participants"]))?;
    let done = match decision {
        MembershipDecision::Approve => "Membership requests approved",
        MembershipDecision::Reject => "Membership requests rejected",
    };
    let command = DecideMembership { group, decision, participants };
    batch_acknowledged(done, decision.phrase(), app.gateway.execute(session, command).await?)
}
