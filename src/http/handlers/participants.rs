//! The participants of a group and its admins: a list, and four routes that differ in one word.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::Response;
use rookery_actors::commands::ChangeParticipants;
use rookery_model::{Participant, ParticipantChange};
use utoipa::ToSchema;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::middleware::authorization::community_scope::may_add_to;
use crate::http::middleware::authorization::community_scope::may_touch_linked;
use crate::http::request::caller::Caller;
use crate::http::request::extract::{GroupPath, JsonBody, KnownTag, Page, SessionPath, Stale, query, value_of};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::request::written::{ParticipantField, requested};
use crate::http::response::etag::tagged;
use crate::http::response::json::{BatchAcknowledged, ToldResult, batch_acknowledged, with_total};
use crate::http::response::staleness::{self, answered_of};

/// The participants whom a change concerns.
#[derive(ToSchema)]
#[schema(as = People)]
#[serde(deny_unknown_fields)]
pub(crate) struct ParticipantsBody {
    /// A participant who is named twice counts once.
    #[schema(min_items = 1, max_items = 256)]
    participants: Vec<ParticipantField>,
}

impl FromFields for ParticipantsBody {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self { participants: fields.participants() }
    }
}

/// The participants who are to be added.
#[derive(ToSchema)]
#[schema(as = NewPeople)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AddParticipantsBody {
    /// A participant who is named twice counts once.
    #[schema(min_items = 1, max_items = 256)]
    participants: Vec<ParticipantField>,
    /// Whether participants who may only be invited are sent WhatsApp's private invitation; false by default.
    #[schema(nullable = false)]
    invite_fallback: Option<bool>,
}

impl FromFields for AddParticipantsBody {
    fn read(fields: &mut Fields<'_>) -> Self {
        let invite_fallback = fields.optional_flag("inviteFallback");
        Self { participants: fields.participants(), invite_fallback }
    }
}

/// The participants who are listed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum ListedRole {
    Member,
    Admin,
    SuperAdmin,
}

impl ListedRole {
    pub(crate) fn read(text: Option<&str>) -> Result<Option<Self>, ApiError> {
        match text {
            None => Ok(None),
            Some("member") => Ok(Some(Self::Member)),
            Some("admin") => Ok(Some(Self::Admin)),
            Some("superadmin") => Ok(Some(Self::SuperAdmin)),
            Some(_) => Err(ApiError::Query("role must be member, admin or superadmin".into())),
        }
    }

    /// A super admin is an admin too, as `isAdmin` says.
    fn fits(self, person: &Participant) -> bool {
        match self {
            Self::Member => !person.is_admin,
            Self::Admin => person.is_admin,
            Self::SuperAdmin => person.is_super_admin,
        }
    }
}

/// List group participants
#[utoipa::path(
    get,
    path = "",
    params(
        ("role" = inline(Option<ListedRole>), Query, nullable = false, description = "Only members who are no admins; only admins, super admins included; only super admins"),
        Page, Stale, KnownTag,
    ),
    responses(
        (status = 200, description = "The participants", body = Vec<Participant>, headers(
            ("X-Total-Count" = u32, description = "How many such participants there are in all"),
            ("ETag" = String, description = "For `If-None-Match`"),
        )),
        (status = 304, description = "Unchanged since the answer with this `ETag`"),
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    page: Page,
    stale: Stale,
    headers: HeaderMap,
    parts: Parts,
) -> Result<Response, ApiError> {
    let role = ListedRole::read(value_of(&query(&parts)?, "role"))?;
    answered_of(staleness::group(&app, session, group, stale).await?, |group| {
        let is_listed = |person: &&Participant| role.is_none_or(|role| role.fits(person));
        let participants: Vec<_> = group.participants.iter().filter(is_listed).collect();
        Ok(with_total(participants.len(), tagged(&headers, page.of(&participants))?))
    })
}

/// Add participants
///
/// The status is 200 when WhatsApp added at least one participant, and 403 when it refused all of them. `results` has the outcome of each
/// participant. A private invitation counts as success. Participants of a group in a community also join its announcement group: a key that
/// is limited to groups needs both groups and the community.
#[utoipa::path(
    post,
    path = "",
    request_body = AddParticipantsBody,
    responses((status = 200, description = "Participants added", body = BatchAcknowledged)),
)]
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    session: SessionPath,
    group: GroupPath,
    caller: Caller,
    body: Result<JsonBody<AddParticipantsBody>, ApiError>,
) -> ToldResult<BatchAcknowledged> {
    // A scope error is reported before errors in the body.
    may_add_to(&app, &caller, session.0, &group.0).await?;
    let JsonBody(AddParticipantsBody { participants, invite_fallback }) = body?;
    let invite_fallback = invite_fallback.unwrap_or(false);
    change(&app, session, group, ParticipantChange::Add, participants, invite_fallback).await
}

/// Remove participants
///
/// Participants who are removed from a community leave all its groups: a key that is limited to groups needs every one of them.
#[utoipa::path(
    delete,
    path = "",
    request_body = ParticipantsBody,
    responses((status = 200, description = "Participants removed", body = BatchAcknowledged)),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    session: SessionPath,
    group: GroupPath,
    caller: Caller,
    body: Result<JsonBody<ParticipantsBody>, ApiError>,
) -> ToldResult<BatchAcknowledged> {
    may_touch_linked(&app, &caller, session.0, &group.0).await?;
    let JsonBody(body) = body?;
    change(&app, session, group, ParticipantChange::Remove, body.participants, false).await
}

/// Promote participants to admin
#[utoipa::path(
    post,
    path = "",
    request_body = ParticipantsBody,
    responses((status = 200, description = "Participants promoted to admin", body = BatchAcknowledged)),
)]
pub(crate) async fn promote(
    State(app): State<Arc<App>>,
    session: SessionPath,
    group: GroupPath,
    JsonBody(body): JsonBody<ParticipantsBody>,
) -> ToldResult<BatchAcknowledged> {
    change(&app, session, group, ParticipantChange::Promote, body.participants, false).await
}

/// Demote admins to members
#[utoipa::path(
    post,
    path = "",
    request_body = ParticipantsBody,
    responses((status = 200, description = "Participants demoted from admin", body = BatchAcknowledged)),
)]
pub(crate) async fn demote(
    State(app): State<Arc<App>>,
    session: SessionPath,
    group: GroupPath,
    JsonBody(body): JsonBody<ParticipantsBody>,
) -> ToldResult<BatchAcknowledged> {
    change(&app, session, group, ParticipantChange::Demote, body.participants, false).await
}

async fn change(
    app: &App,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    change: ParticipantChange,
    participants: Vec<ParticipantField>,
    invite_fallback: bool,
) -> ToldResult<BatchAcknowledged> {
    let done = match change {
        ParticipantChange::Add => "Participants added",
        ParticipantChange::Remove => "Participants removed",
        ParticipantChange::Promote => "Participants promoted to admin",
        ParticipantChange::Demote => "Participants demoted from admin",
    };
    let command = ChangeParticipants { group, change, participants: requested(participants), invite_fallback };
    batch_acknowledged(done, change.phrase(), app.gateway.execute(session, command).await?)
}

#[cfg(test)]
mod tests {
    use rookery_model::ParticipantId;

    use super::*;

    #[test]
    fn a_list_may_be_about_one_role() {
        let person = |is_admin, is_super_admin| Participant {
            id: ParticipantId::Phone(15_550_100_001),
            name: None,
            is_admin,
            is_super_admin,
        };
        let participants = [person(false, false), person(true, false), person(true, true)];
        for (text, fits) in [("member", [1, 0, 0]), ("admin", [0, 1, 1]), ("superadmin", [0, 0, 1])] {
            let role = ListedRole::read(Some(text)).unwrap().unwrap();
            assert_eq!(participants.each_ref().map(|person| i32::from(role.fits(person))), fits, "{text}");
        }
        assert_eq!(ListedRole::read(None).unwrap(), None);
        assert!(ListedRole::read(Some("owner")).is_err() && ListedRole::read(Some("")).is_err());
    }
}
