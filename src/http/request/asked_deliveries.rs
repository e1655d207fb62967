//! Which deliveries of webhooks a caller asks for.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use rookery_model::{SessionId, Timestamp};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::extract::{Page, number_of, query, query_parameter, time_of, value_of};
use super::written::shorten;
use crate::app::App;
use crate::http::error::ApiError;
use crate::webhooks::DeliveryStatus;

/// Attempts in an answer, when no number is asked for, and at most.
const DELIVERIES_DEFAULT: usize = 50;
const DELIVERIES_MAX: usize = 100;

/// Which attempts are asked for.
pub(crate) struct AskedDeliveries {
    pub(crate) limit: usize,
    pub(crate) before: Option<Timestamp>,
    pub(crate) status: Option<DeliveryStatus>,
}

impl IntoParams for AskedDeliveries {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let number = ObjectBuilder::new().schema_type(Type::Integer);
        let words = text().enum_values(Some(DeliveryStatus::WORDS.map(|(word, _)| word)));
        vec![
            query_parameter("limit", number, "Attempts to answer, 1 to 100; 50 by default"),
            query_parameter(
                "before",
                text(),
                "Only attempts before this time: the `at` of the last one of the page before",
            ),
            query_parameter("status", words, "Only attempts with this result"),
        ]
    }
}

impl<S: Sync> FromRequestParts<S> for AskedDeliveries {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = query(parts)?;
        let status = value_of(&query, "status").map(|word| {
            let found = DeliveryStatus::WORDS.iter().find(|(known, _)| *known == word).map(|(_, status)| *status);
            found.ok_or_else(|| ApiError::Query(format!("status must be delivered or failed, not {}", shorten(word))))
        });
        Ok(Self {
            limit: number_of(&query, "limit", DELIVERIES_DEFAULT, 1..=DELIVERIES_MAX)?,
            before: time_of(&query, "before")?,
            status: status.transpose()?,
        })
    }
}

/// Which failures are asked for.
pub(crate) struct AskedFailures {
    pub(crate) session: Option<SessionId>,
    pub(crate) page: Page,
}

impl IntoParams for AskedFailures {
    fn into_params(location: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let session = ObjectBuilder::new().schema_type(Type::String);
        let mut parameters = vec![query_parameter("sessionId", session, "Only those of this session, by id or name")];
        parameters.extend(Page::into_params(location));
        parameters
    }
}

impl FromRequestParts<Arc<App>> for AskedFailures {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let query = query(parts)?;
        let session = value_of(&query, "sessionId").map(|text| app.gateway.find(text)).transpose()?;
        Ok(Self { session, page: Page::read(&query)? })
    }
}
