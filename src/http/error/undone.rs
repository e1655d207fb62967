//! Requests of which nothing is known to have been done: all of a batch was refused, or the time for it was over.

use axum::http::StatusCode;
use rookery_model::{ParticipantResult, ResultCode};

use super::{ErrorResponse, one};

/// The request was not over within its time.
pub(super) fn too_slow(may_have_changed: bool) -> ErrorResponse {
    let (code, message) = match may_have_changed {
        true => ("outcome_unknown", "The request took too long: the change may have been applied"),
        false => ("timed_out", "The request took too long: nothing was changed"),
    };
    one(StatusCode::SERVICE_UNAVAILABLE, code, message)
}

/// The daemon was stopped before the request was over.
pub(super) fn stopped(may_have_changed: bool) -> ErrorResponse {
    let (code, message) = match may_have_changed {
        true => (
            "outcome_unknown",
            "The daemon is shutting down before WhatsApp answered: the change may have been applied, or may still be. With an \
             Idempotency-Key the same request tells what became of it",
        ),
        false => ("shutting_down", "The daemon is shutting down: nothing was changed"),
    };
    one(StatusCode::SERVICE_UNAVAILABLE, code, message)
}

/// A message was sent again, and refused with this code.
pub(super) fn resend_refused(code: &str) -> ErrorResponse {
    let message = format!(
        "The message was sent again and refused ({code}): an earlier request with this Idempotency-Key may have sent it"
    );
    one(StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown", message)
}

/// Nothing is known to have been done for anybody.
pub(super) fn nobody_done(what: &str, results: &[ParticipantResult]) -> ErrorResponse {
    if are_partly_unknown(results) {
        let message = "WhatsApp did not say what became of everybody, results has who: something may have been changed";
        return one(StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown", message);
    }
    if results.iter().all(|result| result.code == ResultCode::NotOnWhatsapp) {
        let message = "WhatsApp knows none of the participants by these numbers: results says more of each";
        return one(StatusCode::FORBIDDEN, "not_on_whatsapp", message);
    }
    if results.iter().all(|result| result.code == ResultCode::ReachoutTimelock) {
        let message =
            "WhatsApp restricts this account: it may reach out to nobody new. The session's limits say until when";
        return one(StatusCode::FORBIDDEN, "reachout_timelock", message);
    }
    all_refused(what, results.iter().map(|result| result.status))
}

/// Whether something may have been done for somebody.
pub(super) fn are_partly_unknown(results: &[ParticipantResult]) -> bool {
    results.iter().any(|result| result.code == ResultCode::OutcomeUnknown)
}

/// Everything of a batch was refused, with these codes.
pub(super) fn all_refused(what: &str, statuses: impl Iterator<Item = Option<u16>>) -> ErrorResponse {
    one(StatusCode::FORBIDDEN, "whatsapp_refused", format!("{what} was refused by WhatsApp{}", codes(statuses)))
}

/// ` (code 403)` or ` (codes 403, 409)`: the distinct codes that WhatsApp gave.
pub(super) fn codes(statuses: impl Iterator<Item = Option<u16>>) -> String {
    let mut codes: Vec<_> = statuses.flatten().collect();
    codes.sort_unstable();
    codes.dedup();
    let list = codes.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    match codes.len() {
        0 => String::new(),
        1 => format!(" (code {list})"),
        _ => format!(" (codes {list})"),
    }
}
