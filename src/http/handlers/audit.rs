//! The audit log over HTTP: who changed what, and who was refused.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use rookery_model::SessionId;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::KnownFormat;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, SchemaFormat, Type};
use uuid::Uuid;

use crate::app::App;
use crate::audit::{AuditFilter, AuditRecord, Outcome, Verdict};
use crate::http::error::ApiError;
use crate::http::request::extract::{Page, group_of, query, query_parameter, time_of, value_of};
use crate::http::request::written::shorten;
use crate::http::response::json::JsonResult;

/// A page of the log.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditAnswer {
    /// Newest first.
    data: Vec<AuditRecord>,
    /// The number of matching records in all.
    #[schema(example = 1)]
    total: usize,
}

/// The filter in the query.
pub(crate) struct Wanted(AuditFilter);

impl utoipa::IntoParams for Wanted {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let uuid = || text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)));
        let group = || text().pattern(Some(r"^[0-9]+(-[0-9]+)?(@g\.us)?$"));
        let time = || text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
        let outcomes = text().enum_values(Some(["done", "failed", "refused"]));
        vec![
            query_parameter("action", text(), "Only calls of the route with this `operationId`"),
            query_parameter("outcome", outcomes, "Only calls that came to this"),
            query_parameter("sessionId", uuid(), "Only calls about the session with this id"),
            query_parameter("groupId", group(), "Only calls about this group"),
            query_parameter("apiKeyId", uuid(), "Only calls with this key"),
            query_parameter("from", time(), "Only calls from then on, as ISO 8601"),
            query_parameter("to", time(), "Only calls before then, as ISO 8601"),
        ]
    }
}

impl Wanted {
    pub(crate) fn read(query: &[(String, String)]) -> Result<Self, ApiError> {
        let id = |name: &str| {
            let parse = |text: &str| {
                text.parse::<Uuid>()
                    .map_err(|_| ApiError::Query(format!("{name} must be a UUID, not {}", shorten(text))))
            };
            value_of(query, name).map(parse).transpose()
        };
        let outcome = match value_of(query, "outcome") {
            None => None,
            Some("done") => Some(Outcome::Done),
            Some("failed") => Some(Outcome::Failed),
            Some("refused") => Some(Outcome::Refused),
            Some(_) => return Err(ApiError::Query("outcome must be done, failed or refused".into())),
        };
        Ok(Self(AuditFilter {
            action: value_of(query, "action").map(str::to_owned),
            outcome,
            session: id("sessionId")?.map(SessionId),
            group: value_of(query, "groupId").map(group_of).transpose()?,
            api_key: id("apiKeyId")?,
            from: time_of(query, "from")?,
            to: time_of(query, "to")?,
        }))
    }
}

impl<S: Sync> FromRequestParts<S> for Wanted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::read(&query(parts)?)
    }
}

/// The result of verifying the whole log.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditVerdict {
    /// Whether each record follows on the one before and is unchanged, and each missing record was removed by the
    /// daemon.
    valid: bool,
    /// The number of records; 0 when the log is not valid.
    #[schema(example = 4711)]
    records: u64,
    /// The number of records that were removed by age or share.
    #[schema(example = 0)]
    removed: u64,
    /// The newest record about such a removal (`audit_remove`); it accounts for all missing records.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 4001)]
    last_removal_id: Option<u64>,
    /// The last record. Noted elsewhere, its id and hash prove later that nothing up to it was cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 4710)]
    last_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    last_hash: Option<String>,
    /// The first record that is changed, missing or out of place.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    broken_id: Option<u64>,
    /// What is wrong with that record.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "was changed, or the one before it was")]
    broken_because: Option<&'static str>,
}

/// Verify the audit log
///
/// The daemon follows the chain of hashes from the first record to the last, also over removed records. Changes wait meanwhile.
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "What was found", body = AuditVerdict, example = json!({
        "valid": true, "records": 4711, "removed": 0, "lastId": 4710,
        "lastHash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    }))),
)]
pub(crate) async fn verify(State(app): State<Arc<App>>) -> JsonResult<AuditVerdict> {
    let nothing = AuditVerdict {
        valid: false,
        records: 0,
        removed: 0,
        last_removal_id: None,
        last_id: None,
        last_hash: None,
        broken_id: None,
        broken_because: None,
    };
    Ok(Json(match app.audit.verify().await? {
        Verdict::Whole(whole) => AuditVerdict {
            valid: true,
            records: whole.records(),
            removed: whole.removed,
            last_removal_id: whole.last_removal,
            last_id: whole.extent.head().map(|(id, _)| id),
            last_hash: whole.extent.head().map(|(_, hash)| hash.to_string()),
            ..nothing
        },
        Verdict::Broken { id, why } => AuditVerdict { broken_id: Some(id), broken_because: Some(why), ..nothing },
    }))
}

/// List audit records
///
/// The log has every call that changed something and every refusal, newest first. Refusals and replays that repeat within a minute are
/// one record with a `count`. A removal of old records is a record, too (`audit_remove`). A search reads the whole log; one search runs
/// at a time.
#[utoipa::path(
    get,
    path = "",
    params(Wanted, Page),
    responses((status = 200, description = "The records", body = AuditAnswer)),
)]
pub(crate) async fn list(State(app): State<Arc<App>>, Wanted(filter): Wanted, page: Page) -> JsonResult<AuditAnswer> {
    let (data, total) = app.audit.page(filter, page.offset(), page.limit()).await?;
    Ok(Json(AuditAnswer { data, total }))
}
