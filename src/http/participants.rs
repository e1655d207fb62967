//! Who is in a group and who is its admin: four routes that differ in one word.

use std::sync::Arc;

use axum::extract::State;
use rookery_actors::model::{ParticipantChange, ParticipantResult};
use utoipa::ToSchema;

use super::answer::{BatchAcknowledged, JsonResult, acknowledged_with};
use super::error::ApiError;
use super::extract::{GroupPath, JsonObject, SessionPath};
use super::fields::{Fields, Person, participants};
use crate::app::App;

/// The people whom a change concerns.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct People {
    /// Named twice is named once.
    #[schema(min_items = 1, max_items = 256)]
    participants: Vec<Person>,
}

/// Add people
///
/// Some refused: 200, and `results` says who. All refused: 403.
#[utoipa::path(
    post,
    path = "/api/sessions/{session}/groups/{group}/participants",
    request_body = People,
    responses((status = 200, description = "Participants added", body = BatchAcknowledged)),
)]
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    session: SessionPath,
    group: GroupPath,
    body: JsonObject,
) -> JsonResult<BatchAcknowledged> {
    change(&app, session, group, body, ParticipantChange::Add).await
}

/// Remove people
#[utoipa::path(
    delete,
    path = "/api/sessions/{session}/groups/{group}/participants",
    request_body = People,
    responses((status = 200, description = "Participants removed", body = BatchAcknowledged)),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    session: SessionPath,
    group: GroupPath,
    body: JsonObject,
) -> JsonResult<BatchAcknowledged> {
    change(&app, session, group, body, ParticipantChange::Remove).await
}

/// Make people admins
#[utoipa::path(
    post,
    path = "/api/sessions/{session}/groups/{group}/participants/promote",
    request_body = People,
    responses((status = 200, description = "Participants promoted to admin", body = BatchAcknowledged)),
)]
pub(crate) async fn promote(
    State(app): State<Arc<App>>,
    session: SessionPath,
    group: GroupPath,
    body: JsonObject,
) -> JsonResult<BatchAcknowledged> {
    change(&app, session, group, body, ParticipantChange::Promote).await
}

/// Make admins plain members
#[utoipa::path(
    post,
    path = "/api/sessions/{session}/groups/{group}/participants/demote",
    request_body = People,
    responses((status = 200, description = "Participants demoted from admin", body = BatchAcknowledged)),
)]
pub(crate) async fn demote(
    State(app): State<Arc<App>>,
    session: SessionPath,
    group: GroupPath,
    body: JsonObject,
) -> JsonResult<BatchAcknowledged> {
    change(&app, session, group, body, ParticipantChange::Demote).await
}

async fn change(
    app: &App,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    JsonObject(body): JsonObject,
    change: ParticipantChange,
) -> JsonResult<BatchAcknowledged> {
    let people = participants(Fields::of(body, &["participants"]))?;
    let results = app.gateway.change_participants(session, group, change, people, false).await?;
    outcome(change, results)
}

/// Some failed: the answer says who. All failed: the request did.
fn outcome(change: ParticipantChange, results: Vec<ParticipantResult>) -> JsonResult<BatchAcknowledged> {
    let (done, what) = match change {
        ParticipantChange::Add => ("Participants added", "Adding participants"),
        ParticipantChange::Remove => ("Participants removed", "Removing participants"),
        ParticipantChange::Promote => ("Participants promoted to admin", "Promoting participants"),
        ParticipantChange::Demote => ("Participants demoted from admin", "Demoting participants"),
    };
    if results.iter().any(|result| result.success) {
        Ok(acknowledged_with(done, results))
    } else {
        Err(ApiError::AllRefused { what, results })
    }
}

#[cfg(test)]
mod tests {
    use rookery_actors::model::{ParticipantId, ResultCode};

    use super::*;

    fn result(success: bool) -> ParticipantResult {
        let code = if success { ResultCode::Added } else { ResultCode::InviteRequired };
        ParticipantResult { id: ParticipantId::Phone(15_550_100_001), success, status: Some(403), code, message: None }
    }

    #[test]
    fn a_batch_fails_only_when_everybody_was_refused() {
        for (results, fails) in [(vec![true], false), (vec![true, false], false), (vec![false, false], true)] {
            let results = results.into_iter().map(result).collect();
            assert_eq!(outcome(ParticipantChange::Add, results).is_err(), fails);
        }
    }
}
