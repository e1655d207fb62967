//! JSON answers of requests that went well. Never answers a failure: `error.rs` does.

use axum::Json;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use rookery_model::ParticipantResult;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::response::happened::{Happened, Tells, Told};

/// What every handler that answers JSON returns.
pub(crate) type JsonResult<T> = Result<Json<T>, ApiError>;

/// As [`JsonResult`], where the results of participants, groups or sessions are recorded in the audit log.
pub(crate) type ToldResult<T> = Result<Told<T>, ApiError>;

/// 201: something was made.
pub(crate) struct Created<T>(pub(crate) T);

impl<T: Serialize + Tells> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Told(self.0)).into_response()
    }
}

/// 204: it is gone.
pub(crate) struct Gone;

impl IntoResponse for Gone {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

/// A write was carried out.
#[derive(Serialize, ToSchema)]
pub(crate) struct Acknowledged {
    /// Always true.
    success: bool,
    message: &'static str,
}

/// A write that concerns several people was carried out for some of them.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchAcknowledged {
    /// Always true.
    success: bool,
    #[schema(example = "Participants added")]
    message: &'static str,
    /// One entry per distinct person, in the order of the request.
    results: Vec<ParticipantResult>,
}

impl Tells for BatchAcknowledged {
    fn happened(&self) -> Happened {
        Happened::to_participants(&self.results)
    }
}

/// The acknowledgement of a write.
pub(crate) fn acknowledged(message: &'static str) -> Json<Acknowledged> {
    Json(Acknowledged { success: true, message })
}

/// The response to a write that concerns several participants. `what`: the write, as a noun phrase that can start a
/// sentence.
///
/// # Errors
/// [`ApiError::AllRefused`].
pub(crate) fn batch_acknowledged(
    message: &'static str,
    what: &'static str,
    results: Vec<ParticipantResult>,
) -> ToldResult<BatchAcknowledged> {
    let results =
        unless_all_refused(results, |result| result.success, |results| ApiError::AllRefused { what, results })?;
    Ok(Told(BatchAcknowledged { success: true, message, results }))
}

/// If some failed, the response says which. If all failed, the request failed. An empty list does not fail.
///
/// # Errors
/// The error that `refused` makes of the results.
pub(crate) fn unless_all_refused<R>(
    results: Vec<R>,
    is_success: impl Fn(&R) -> bool,
    refused: impl FnOnce(Vec<R>) -> ApiError,
) -> Result<Vec<R>, ApiError> {
    if results.is_empty() || results.iter().any(is_success) { Ok(results) } else { Err(refused(results)) }
}

/// Adds the number of all entries to a response that has only a page of them.
pub(crate) fn with_total(total: usize, mut response: Response) -> Response {
    response.headers_mut().insert(HeaderName::from_static("x-total-count"), total.into());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_fails_only_when_there_was_somebody_and_everybody_was_refused() {
        let fails = |results: &[bool]| {
            let refused = |_| ApiError::Internal(String::new());
            unless_all_refused(results.to_vec(), |success| *success, refused).is_err()
        };
        assert_eq!(
            [fails(&[]), fails(&[true]), fails(&[true, false]), fails(&[false, false])],
            [false, false, false, true]
        );
    }
}
