//! The response of each failure, as tables.

use rookery_model::{GroupId, ParticipantId, ResultCode};
use rookery_store::StoreError;

use super::undone::codes;
use super::*;

fn refused(code: u16) -> CommandError {
    CommandError::Refused { what: "Changing the subject", code, retry_after_s: None }
}

fn result(status: u16) -> ParticipantResult {
    let code = if status == 429 { ResultCode::RateLimited } else { ResultCode::NotAllowed };
    let id = ParticipantId::Phone(15_550_100_001);
    ParticipantResult { id, requested: None, success: false, status: Some(status), code, message: None }
}

fn partly(applied: &[&'static str], error: CommandError) -> CommandError {
    let applied = applied.to_vec();
    CommandError::SettingsPartly {
        applied,
        failed: Some("locked"),
        not_tried: vec!["groupHistory"],
        error: Box::new(error),
    }
}

#[tokio::test]
async fn settings_that_were_applied_before_one_failed_are_in_the_body() {
    let response = ApiError::from(partly(&["announce"], refused(403))).into_response();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let outcome = serde_json::json!({"applied": ["announce"], "failed": "locked", "notTried": ["groupHistory"]});
    assert_eq!(body["settings"], outcome);
    assert_eq!(body["message"], "locked was not set: Changing the subject was refused by WhatsApp (code 403)");
}

#[test]
fn every_command_error_has_its_status_word_and_text() {
    let group: GroupId = "120363021234567890@g.us".parse().unwrap();
    let cases = [
        (CommandError::UnknownSession("x".into()), 404, "session_not_found", "Session with id 'x' not found"),
        (CommandError::NameTaken("bot".into()), 409, "session_name_taken", "Session with name 'bot' already exists"),
        (CommandError::NotStarted, 400, "session_not_started", "Session is not started"),
        (CommandError::AlreadyStarted, 400, "session_already_started", "Session is already started"),
        (CommandError::NotConnected, 409, "session_not_connected", "Session is not connected"),
        (CommandError::NotLoaded("delete it".into()), 409, "session_not_loaded", "delete it"),
        (CommandError::Restarting, 503, "session_restarting", "Session is being restarted"),
        (CommandError::Busy, 429, "session_busy", "Too many requests in flight for this session"),
        (CommandError::GroupNotFound(group), 404, "group_not_found", "Group 120363021234567890@g.us not found"),
        (
            IdError::Group("x".into()).into(),
            400,
            "invalid_group_id",
            "x is not a group id: it is written like 120363021234567890@g.us",
        ),
        (refused(403), 403, "whatsapp_refused", "Changing the subject was refused by WhatsApp (code 403)"),
        (refused(401), 403, "whatsapp_refused", "Changing the subject was refused by WhatsApp (code 401)"),
        (refused(410), 404, "whatsapp_refused", "Changing the subject was refused by WhatsApp (code 410)"),
        (refused(406), 400, "whatsapp_refused", "Changing the subject was refused by WhatsApp (code 406)"),
        (refused(429), 429, "whatsapp_refused", "Changing the subject was refused by WhatsApp (code 429)"),
        (refused(503), 503, "whatsapp_refused", "Changing the subject was refused by WhatsApp (code 503)"),
        (CommandError::Internal, 500, "internal_error", "Internal server error"),
    ];
    for (error, status, code, message) in cases {
        let answer = command_response(&error);
        let message = Message::One(message.into());
        assert_eq!((answer.status.as_u16(), answer.code, answer.message), (status, code, message), "{error}");
    }
}

#[test]
fn what_may_be_tried_again_says_when() {
    let cases = [
        (ApiError::from(CommandError::Restarting), true),
        (CommandError::OutcomeUnknown.into(), true),
        (CommandError::Store(StoreError::Failed(String::new())).into(), true),
        (refused(429).into(), true),
        (ApiError::TooSlow { may_have_changed: true }, true),
        (CommandError::NotConnected.into(), false),
        (refused(403).into(), false),
        (ApiError::BodyTooLarge { bytes_max: 1 }, false),
        (IdempotencyError::InUse.into(), true),
        (IdempotencyError::Reused.into(), false),
    ];
    for (error, expected) in cases {
        let headers = error.into_response().headers().clone();
        assert_eq!(headers.contains_key(header::RETRY_AFTER), expected);
    }
}

#[test]
fn several_offenders_and_codes_are_named_in_one_message() {
    let error = ApiError::Participants(vec!["alice".into(), "bob".into()]);
    assert_eq!(error.answer().message, Message::One(format!("alice, bob are not participant ids: {PERSON_ID_FORM}")));
    let error = ApiError::Groups(vec!["family".into()]);
    assert_eq!(
        error.answer().message,
        Message::One("family is not a group id: it is written like 120363021234567890@g.us".into())
    );
    let codes_of = |statuses: &[u16]| codes(statuses.iter().copied().map(Some));
    assert_eq!(codes_of(&[403, 403]), " (code 403)");
    assert_eq!(codes_of(&[409, 403]), " (codes 403, 409)");
    assert_eq!(codes_of(&[]), "");
}

#[test]
fn a_batch_of_which_some_are_unknown_is_not_called_refused() {
    let unknown = ParticipantResult { code: ResultCode::OutcomeUnknown, status: None, ..result(403) };
    let error = ApiError::AllRefused { what: "Adding participants", results: vec![result(403), unknown] };
    assert_eq!(error.status_and_code(), (503, "outcome_unknown"));
    assert!(error.retry_after_s().is_some() && !error.is_nothing_done());
}

#[test]
fn a_defect_hides_its_cause_from_the_caller_and_keeps_it_for_the_log() {
    let response = ApiError::Internal("the cause".into()).into_response();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(response.extensions().get::<Cause>().map(|cause| cause.0.as_str()), Some("the cause"));
    assert!(matches!(ApiError::Internal("the cause".into()).answer().message, Message::One(text)
        if text == "Internal server error"));
}

#[test]
fn what_did_nothing_and_may_be_sent_again_does_not_use_up_an_idempotency_key() {
    let group: GroupId = "120363021234567890@g.us".parse().unwrap();
    let all_refused = |status| ApiError::AllRefused { what: "Adding participants", results: vec![result(status)] };
    let cases = [
        (ApiError::Body(vec![]), true),
        (ApiError::Participants(vec![]), true),
        (CommandError::NotStarted.into(), true),
        (CommandError::NotConnected.into(), true),
        (CommandError::Busy.into(), true),
        (CommandError::GroupNotFound(group).into(), true),
        (CommandError::Unanswered.into(), true),
        (refused(429).into(), true),
        (refused(503).into(), true),
        (CommandError::RateLimited { what: rookery_actors::Paused::Changes, retry_after_s: 1 }.into(), true),
        (
            CommandError::LimitReached {
                limit: rookery_actors::Limited::Create,
                allowed: String::new(),
                retry_after_s: 1,
            }
            .into(),
            true,
        ),
        (partly(&[], refused(429)).into(), true),
        (partly(&["announce"], refused(429)).into(), false),
        (partly(&[], refused(403)).into(), false),
        (ApiError::Groups(vec![]), true),
        (ApiError::InviteCode, true),
        (ApiError::Picture(PictureError::Busy), true),
        (CommandError::NotMade.into(), false),
        (all_refused(429), true),
        (all_refused(403), false),
        (refused(403).into(), false),
        (refused(404).into(), false),
        (CommandError::OutcomeUnknown.into(), false),
        (CommandError::Store(StoreError::Failed(String::new())).into(), false),
        (CommandError::Internal.into(), false),
        (ApiError::Internal(String::new()), false),
    ];
    for (error, expected) in cases {
        let named = format!("{error:?}");
        assert_eq!(error.into_response().extensions().get::<NothingDone>().is_some(), expected, "{named}");
    }
}

#[test]
fn every_refusal_of_an_idempotency_key_has_its_status_and_word() {
    let cases = [
        (ApiError::IdempotencyKeyInvalid, 400, "idempotency_key_invalid"),
        (IdempotencyError::InUse.into(), 409, "idempotency_key_in_use"),
        (IdempotencyError::Interrupted.into(), 409, "idempotency_key_interrupted"),
        (IdempotencyError::Reused.into(), 422, "idempotency_key_reused"),
        (IdempotencyError::TooMany.into(), 429, "idempotency_keys_exhausted"),
        (IdempotencyError::Store(StoreError::Busy).into(), 503, "storage_busy"),
        (IdempotencyError::CutShort.into(), 500, "internal_error"),
    ];
    for (error, status, code) in cases {
        let answer = error.answer();
        assert_eq!((answer.status.as_u16(), answer.code), (status, code));
    }
}
