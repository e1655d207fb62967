//! The errors of the layers below HTTP as responses: of the sessions, the store, the keys, idempotency. Part of
//! `error.rs`, the only place that chooses status codes.

use axum::http::StatusCode;
use rookery_actors::{CommandError, Limited, Paused};
use rookery_model::IdError;
use rookery_store::StoreError;

use super::files::file_response;
use super::undone::nobody_done;
use super::{ErrorResponse, Message, internal, one};
use crate::audit::AuditError;
use crate::auth::KeysError;
use crate::http::limits::IDEMPOTENCY_KEY_CHARS;
use crate::idempotency::IdempotencyError;
use crate::url_fetch::FetchError;
use crate::webhooks::WebhookError;

/// As `ApiError::is_nothing_done`: refused before WhatsApp was asked, or refused by WhatsApp for the moment only.
pub(super) fn is_nothing_done(error: &CommandError) -> bool {
    use CommandError as E;
    match error {
        E::UnknownSession(_)
        | E::NotStarted
        | E::NotConnected
        | E::Restarting
        | E::NotLoaded(_)
        | E::Busy
        | E::RateLimited { .. }
        | E::LimitReached { .. }
        | E::GroupNotFound(_)
        | E::AnnounceOnly(_)
        | E::NotAdmin { .. }
        | E::NotChat(_)
        | E::NotOnWhatsapp(_)
        | E::TokenMissing
        | E::NotCommunity(_)
        | E::InviteRevoked
        | E::File(_)
        | E::Invalid(_)
        | E::Id(_)
        | E::DescriptionConflict
        | E::Unanswered
        | E::Unreadable
        | E::Store(StoreError::LowSpace { .. } | StoreError::Busy)
        | E::Draining => true,
        E::Refused { code, .. } => matches!(code, 429 | 500..),
        E::SettingsPartly { applied, error, .. } => applied.is_empty() && is_nothing_done(error),
        _ => false,
    }
}

pub(super) fn command_response(error: &CommandError) -> ErrorResponse {
    use CommandError as E;
    use StatusCode as S;
    match error {
        E::UnknownSession(id) => one(S::NOT_FOUND, "session_not_found", format!("Session with id '{id}' not found")),
        E::TooManySessions(_) => one(S::CONFLICT, "too_many_sessions", error.to_string()),
        E::NameTaken(name) => {
            one(S::CONFLICT, "session_name_taken", format!("Session with name '{name}' already exists"))
        }
        E::NotStarted => one(S::BAD_REQUEST, "session_not_started", "Session is not started"),
        E::AlreadyStarted => one(S::BAD_REQUEST, "session_already_started", "Session is already started"),
        E::NotConnected => one(S::CONFLICT, "session_not_connected", "Session is not connected"),
        E::NotLoaded(why) => one(S::CONFLICT, "session_not_loaded", why),
        E::Restarting => one(S::SERVICE_UNAVAILABLE, "session_restarting", "Session is being restarted"),
        E::Busy => one(S::TOO_MANY_REQUESTS, "session_busy", "Too many requests in flight for this session"),
        E::GroupNotFound(group) => one(S::NOT_FOUND, "group_not_found", format!("Group {group} not found")),
        E::AnnounceOnly(_) | E::NotAdmin { .. } | E::NotChat(_) | E::NotOnWhatsapp(_) | E::TokenMissing => {
            unsent_response(error)
        }
        E::File(error) => file_response(error),
        E::Invalid(why) => one(S::BAD_REQUEST, "invalid_request", why),
        E::Id(error) => one(S::BAD_REQUEST, id_code(error), error.to_string()),
        E::Refused { code, .. } => one(refused_status(*code), "whatsapp_refused", error.to_string()),
        E::TimeLocked { .. } => one(S::FORBIDDEN, "reachout_timelock", error.to_string()),
        E::RateLimited { what, retry_after_s } => paused_response(*what, *retry_after_s),
        E::LimitReached { limit, allowed, .. } => limit_response(*limit, allowed),
        E::SettingsPartly { applied, failed, not_tried, error } => {
            settings_response(applied, *failed, not_tried, command_response(error))
        }
        E::InviteRevoked => one(
            S::NOT_FOUND,
            "invite_revoked",
            "The invite link was revoked: ask an admin of the group for the new one",
        ),
        E::NotCommunity(group) => one(S::BAD_REQUEST, "not_a_community", format!("Group {group} is not a community")),
        E::DescriptionConflict => {
            one(S::CONFLICT, "description_conflict", "The description was changed by somebody else at the same time")
        }
        E::OutcomeUnknown => one(
            S::SERVICE_UNAVAILABLE,
            "outcome_unknown",
            "WhatsApp did not confirm in time: the change may have been applied",
        ),
        E::Unanswered => unanswered("WhatsApp did not answer in time: nothing was changed"),
        E::Unreadable => unanswered("WhatsApp answered with something that Rookery cannot read: nothing was changed"),
        E::NobodyOnWhatsapp(results) => nobody_done("Creating the group", results),
        E::NotMade => unanswered("WhatsApp did not confirm it: no new group was seen, but it may come late"),
        E::LogoutIncomplete => one(
            S::BAD_GATEWAY,
            "SESSION_LOGOUT_INCOMPLETE",
            "WhatsApp did not confirm the logout: the session was stopped and keeps its credentials",
        ),
        E::Unsaved(_) => one(
            S::SERVICE_UNAVAILABLE,
            "storage_full",
            "It was done, but could not be saved, as the disk is full or failing: it may come undone at a restart. It is saved \
             as soon as that works",
        ),
        E::Store(error) => store_response(error),
        E::Draining => one(S::SERVICE_UNAVAILABLE, "shutting_down", "The daemon is shutting down"),
        E::Internal => internal(),
        E::NoQr(_)
        | E::NoPairingCode(_)
        | E::NoPasskey
        | E::NoPasskeyCode
        | E::PasskeyTaken
        | E::PasskeyOutdated
        | E::NoPushName => unavailable_response(error),
    }
}

pub(super) fn webhook_response(error: &WebhookError) -> ErrorResponse {
    use StatusCode as S;
    use WebhookError as E;
    match error {
        E::NotFound(_) => one(S::NOT_FOUND, "webhook_not_found", error.to_string()),
        E::TooManyOfSession(_) | E::TooManyOfSeveral(_) => {
            one(S::BAD_REQUEST, "webhook_limit_reached", error.to_string())
        }
        E::Destination(FetchError::Credentials) => {
            let message = "Webhook URL must not contain credentials (userinfo)";
            one(S::BAD_REQUEST, "validation_failed", message)
        }
        E::Destination(_) => one(S::BAD_REQUEST, "destination_not_allowed", error.to_string()),
        E::PositionTrimmed { .. } => one(S::CONFLICT, "position_trimmed", error.to_string()),
        E::OthersSecrets => one(S::BAD_REQUEST, "secrets_of_another_key", error.to_string()),
        E::CannotResume(_) => one(S::CONFLICT, "webhook_key_ended", error.to_string()),
        E::NotYet { .. } | E::InFuture | E::OtherSession => one(S::BAD_REQUEST, "invalid_parameter", error.to_string()),
        E::Session(error) => command_response(error),
    }
}

/// A message that its chat does not take.
fn unsent_response(error: &CommandError) -> ErrorResponse {
    use CommandError as E;
    use StatusCode as S;
    match error {
        E::AnnounceOnly(group) => {
            let message = format!("Only admins may send messages in group {group}, and this account is none");
            one(S::FORBIDDEN, "announce_only", message)
        }
        E::NotAdmin { group, what } => {
            let message = format!("Only admins of group {group} may {what}, and this account is none");
            one(S::FORBIDDEN, "not_admin", message)
        }
        E::NotChat(id) => {
            let message = format!(
                "{id} is a community, which has no chat: give one of its groups, such as the announcement group"
            );
            one(S::BAD_REQUEST, "not_a_chat", message)
        }
        E::NotOnWhatsapp(person) => one(S::NOT_FOUND, "not_on_whatsapp", format!("{person} has no WhatsApp account")),
        E::TokenMissing => one(
            S::FORBIDDEN,
            "privacy_token_missing",
            "WhatsApp did not let this account write to the person, who does not know it (code 463): have the person write first",
        ),
        _ => internal(),
    }
}

/// Something of a session is not there at the moment.
fn unavailable_response(error: &CommandError) -> ErrorResponse {
    use CommandError as E;
    use StatusCode as S;
    match error {
        E::NoQr(why) => one(S::BAD_REQUEST, "qr_not_available", why),
        E::NoPairingCode(why) => one(S::BAD_REQUEST, "pairing_code_not_available", why),
        E::NoPasskey => one(S::NOT_FOUND, "passkey_not_requested", "WhatsApp does not ask for a passkey now"),
        E::NoPasskeyCode => one(
            S::CONFLICT,
            "passkey_code_not_shown",
            "There is no code to confirm yet: linking.step says what is waited for",
        ),
        E::PasskeyTaken => {
            one(S::CONFLICT, "passkey_taken", "It was taken already: linking goes on by itself, see lastError")
        }
        E::PasskeyOutdated => one(
            S::BAD_REQUEST,
            "passkey_outdated",
            "The passkey signed another request than the one that WhatsApp waits for: get the options again, and have them signed",
        ),
        E::NoPushName => {
            one(S::CONFLICT, "push_name_unknown", "The account's own name is not known yet: try again in a moment")
        }
        _ => internal(),
    }
}

fn paused_response(what: Paused, seconds: u32) -> ErrorResponse {
    let what = match what {
        Paused::Changes => "messages and changes of groups",
        Paused::Lookups => "lookups of numbers",
    };
    let message = format!("WhatsApp asks to slow down: this session's {what} pause for {seconds} s");
    one(StatusCode::TOO_MANY_REQUESTS, "rate_limited_by_whatsapp", message)
}

fn limit_response(limit: Limited, allowed: &str) -> ErrorResponse {
    // OpenWA has a code for messages.
    let code = if limit == Limited::Message { "SEND_PACING_LIMITED" } else { "pacing_limited" };
    let message = format!("The session's limit for {limit} is reached: {allowed}. WhatsApp was not asked");
    one(StatusCode::TOO_MANY_REQUESTS, code, message)
}

/// `failure`: the response that the failed setting would get alone.
fn settings_response(
    applied: &[&str],
    failed: Option<&str>,
    not_tried: &[&str],
    failure: ErrorResponse,
) -> ErrorResponse {
    let ErrorResponse { status, code, message } = failure;
    let why = match message {
        Message::One(why) => why,
        Message::Many(all) => all.join(", "),
    };
    let Some(failed) = failed else {
        let (set, not_tried) = (applied.join(", "), not_tried.join(", "));
        return one(status, code, format!("The time for the request was over: {set} set, {not_tried} not tried"));
    };
    // The text is about the setting that failed, not about those before it.
    let why = if applied.is_empty() { &why } else { why.strip_suffix(": nothing was changed").unwrap_or(&why) };
    one(status, code, format!("{failed} was not set: {why}"))
}

fn unanswered(words: &'static str) -> ErrorResponse {
    one(StatusCode::SERVICE_UNAVAILABLE, "whatsapp_unanswered", words)
}

pub(super) fn store_response(error: &StoreError) -> ErrorResponse {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    match error {
        StoreError::LowSpace { .. } => one(status, "storage_full", "The disk is nearly full: nothing was changed"),
        StoreError::Busy => one(status, "storage_busy", "The disk does not keep up: nothing was changed"),
        _ => one(status, "storage_failed", "The store failed: the change may not have been kept"),
    }
}

pub(super) fn audit_response(error: &AuditError) -> ErrorResponse {
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    match error {
        AuditError::LowSpace => one(unavailable, "storage_full", "The disk is nearly full: nothing was changed"),
        AuditError::Unwritable => {
            one(unavailable, "audit_unwritable", "The audit log cannot be written: nothing was changed")
        }
        AuditError::Store(error) => store_response(error),
        AuditError::Busy => {
            one(StatusCode::TOO_MANY_REQUESTS, "audit_busy", "Somebody else reads the audit log: try again")
        }
        AuditError::Record(_) | AuditError::Gap | AuditError::CutShort => internal(),
    }
}

pub(super) fn keys_response(error: &KeysError) -> ErrorResponse {
    use StatusCode as S;
    match error {
        KeysError::NotFound => one(S::NOT_FOUND, "api_key_not_found", "API key not found"),
        KeysError::LastAdmin => one(
            S::CONFLICT,
            "last_admin_key",
            "The last active admin key cannot be removed or limited: make another one first",
        ),
        KeysError::Bootstrap => one(
            S::CONFLICT,
            "bootstrap_key",
            "This API key comes from the daemon's configuration: change or remove it there",
        ),
        KeysError::Revoked => one(S::CONFLICT, "api_key_revoked", "The API key was revoked: make a new one"),
        KeysError::TooMany(_) => one(S::CONFLICT, "too_many_keys", error.to_string()),
        KeysError::TooManyGroups => one(S::CONFLICT, "too_many_groups", error.to_string()),
        KeysError::Store(error) => store_response(error),
        // No caller gets `Narrowed`: a call that made groups succeeds all the same.
        KeysError::Narrowed
        | KeysError::TooLarge
        | KeysError::OtherPepper
        | KeysError::OldRecord
        | KeysError::Record(_)
        | KeysError::Randomness(_) => internal(),
    }
}

pub(super) fn idempotency_response(error: &IdempotencyError) -> ErrorResponse {
    use IdempotencyError as E;
    use StatusCode as S;
    match error {
        E::InUse => {
            one(S::CONFLICT, "idempotency_key_in_use", "The first request with this Idempotency-Key is still running")
        }
        E::Reused => one(
            S::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request: use a new key for each request",
        ),
        E::Interrupted => one(
            S::CONFLICT,
            "idempotency_key_interrupted",
            "The first request with this Idempotency-Key was cut off and may have been carried out: \
             look at the group, then use a new key",
        ),
        E::TooMany => one(
            S::TOO_MANY_REQUESTS,
            "idempotency_keys_exhausted",
            "Too many idempotency keys in 24 hours: nothing was changed",
        ),
        E::Store(error) => store_response(error),
        E::TooLarge(_) | E::Record(_) | E::CutShort => internal(),
    }
}

pub(super) fn key_rule() -> String {
    let (least, most) = (IDEMPOTENCY_KEY_CHARS.start(), IDEMPOTENCY_KEY_CHARS.end());
    format!("The header Idempotency-Key must be one value of {least} to {most} printable ASCII characters")
}

/// WhatsApp's code as our status code. A code that is not in the contract's table is a refusal like any other.
pub(super) fn refused_status(code: u16) -> StatusCode {
    match code {
        404 | 410 => StatusCode::NOT_FOUND,
        400 | 406 => StatusCode::BAD_REQUEST,
        409 => StatusCode::CONFLICT,
        429 => StatusCode::TOO_MANY_REQUESTS,
        500.. => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    }
}

fn id_code(error: &IdError) -> &'static str {
    match error {
        IdError::Group(_) => "invalid_group_id",
        IdError::Participant(_) => "invalid_participant_id",
        IdError::Chat(_) => "invalid_chat_id",
        IdError::Session(_) => "invalid_session_id",
        IdError::NameCharacters | IdError::NameIsUuid => "invalid_session_name",
    }
}
