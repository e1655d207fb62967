//! People outside of groups: whether phone numbers have a WhatsApp account.

use std::num::NonZeroU64;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use rookery_model::{ParticipantId, ParticipantIds, SessionId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::limits::PARTICIPANTS;
use crate::http::request::extract::{JsonBody, SessionPath, path_parameter};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::request::written::NumberField;
use crate::http::request::written::shorten;
use crate::http::response::happened::{Tells, Told};
use crate::http::response::json::{JsonResult, ToldResult};

/// Numbers to be checked.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NumbersToCheck {
    /// Phone numbers in international form, in any spelling. A number that is named twice counts once.
    #[schema(min_items = 1, max_items = 256)]
    numbers: Vec<NumberField>,
}

impl FromFields for NumbersToCheck {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self { numbers: fields.distinct("numbers", PARTICIPANTS, ApiError::Numbers) }
    }
}

/// Whether a number has a WhatsApp account.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckedNumber {
    /// The digits of the number as it was asked.
    #[schema(example = "525550100077")]
    number: String,
    /// Whether it has an account, also under another spelling that WhatsApp knows.
    exists: bool,
    /// The id under which WhatsApp knows the account; left out when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<String>, example = "5215550100077@c.us")]
    whatsapp_id: Option<ParticipantId>,
}

/// The numbers, in the order of the request.
#[derive(Serialize, ToSchema)]
#[serde(transparent)]
pub(crate) struct CheckedNumbers(Vec<CheckedNumber>);

impl Tells for CheckedNumbers {}

/// The number in the path.
pub(crate) struct NumberPath(NumberField);

impl<S: Sync> FromRequestParts<S> for NumberPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let text = path_parameter(parts, "number")?;
        text.parse().map(Self).map_err(|_| ApiError::Numbers(vec![shorten(&text)]))
    }
}

/// Check a number
///
/// WhatsApp is asked where the session does not know the number yet: it remembers an account for 30 days, and that there is none for ten
/// minutes.
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "Whether the number has a WhatsApp account", body = CheckedNumber)),
)]
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    NumberPath(number): NumberPath,
) -> JsonResult<CheckedNumber> {
    let checked = look_up(&app, session, &[number]).await?;
    checked.into_iter().next().map(Json).ok_or_else(|| ApiError::Internal("a lookup has no result".into()))
}

/// Check many numbers
///
/// WhatsApp is asked once about all numbers that the session does not know yet.
#[utoipa::path(
    post,
    path = "",
    request_body = NumbersToCheck,
    responses((status = 200, description = "Whether each number has a WhatsApp account", body = CheckedNumbers)),
)]
pub(crate) async fn check_many(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    JsonBody(body): JsonBody<NumbersToCheck>,
) -> ToldResult<CheckedNumbers> {
    Ok(Told(CheckedNumbers(look_up(&app, session, &body.numbers).await?)))
}

async fn look_up(app: &App, session: SessionId, numbers: &[NumberField]) -> Result<Vec<CheckedNumber>, ApiError> {
    let asked: Vec<NonZeroU64> = numbers.iter().map(|number| number.0).collect();
    let lookup = app.gateway.look_up_numbers(session, asked.clone()).await?;
    let account_of = |number| lookup.found.iter().find(|found| found.number == number).map(|found| found.account);
    let checked = |number: NonZeroU64| {
        let account = account_of(number)?;
        let whatsapp_id = account.as_ref().and_then(ParticipantIds::id);
        Some(CheckedNumber { number: number.to_string(), exists: account.is_some(), whatsapp_id })
    };
    let all: Option<Vec<_>> = asked.into_iter().map(checked).collect();
    // WhatsApp may answer and leave numbers out.
    all.ok_or_else(|| lookup.failed.unwrap_or(rookery_actors::CommandError::Unreadable).into())
}
