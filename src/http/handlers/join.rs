//! Invite codes: preview a group by its code, and join it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use rookery_actors::CommandError;
use rookery_actors::commands::{JoinGroup, ListGroups, ReadJoinInfo, Source};
use rookery_model::{GroupId, JoinInfo, SessionId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::Role;
use crate::http::error::{AccessError, ApiError};
use crate::http::limits::INVITE_CODE_CHARS_MAX;
use crate::http::middleware::authorization::AdmissionOf;
use crate::http::request::caller::Caller;
use crate::http::request::extract::{JsonBody, SessionPath, query, value_of};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::response::happened::{Happened, Tells, Told};
use crate::http::response::json::{JsonResult, ToldResult};

/// WhatsApp's code for an invite code that it never gave out.
const UNKNOWN_CODE: u16 = 406;
/// The length of the code in a private invitation, which is a message of its own; those of links have 22 characters.
const PRIVATE_CODE_CHARS: usize = 16;
const PRIVATE_CODE: &str = "must be the code of an invite link: this is the 16-character code of a private invitation, which only \
                            works from the message that brought it; accept it in WhatsApp on the phone, or ask for the link";
/// The host of invite links.
const INVITE_HOST: &str = "chat.whatsapp.com";

/// The invitation to the group.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Invitation {
    /// The code, or the whole link.
    #[schema(
        pattern = r"^((https?://)?chat\.whatsapp\.com/(invite/)?)?[A-Za-z0-9_-]{1,128}/?([?#].*)?$",
        example = "https://chat.whatsapp.com/AbCdEfGhIjKlMnOpQrStUv"
    )]
    pub(crate) invite_code: String,
}

impl FromFields for Invitation {
    /// Reads the code alone, without the rest of a link.
    fn read(fields: &mut Fields<'_>) -> Self {
        let text = fields.text("inviteCode", 1..=usize::MAX);
        let code = code_of(&text);
        match &code {
            None if !text.trim().is_empty() => fields.broken("inviteCode", &rule()),
            Some(code) if code.len() == PRIVATE_CODE_CHARS => fields.broken("inviteCode", PRIVATE_CODE),
            _ => {}
        }
        Self { invite_code: code.unwrap_or_default() }
    }
}

#[derive(Copy, Clone, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum JoinStatus {
    /// The account is in the group.
    Joined,
    /// An admin of the group has to approve the account first.
    PendingApproval,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JoinAnswer {
    /// Always true.
    success: bool,
    group_id: GroupId,
    /// `pending_approval`: an admin of the group has to approve the account first.
    status: JoinStatus,
    /// The account was in the group before; left out otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    already_member: Option<bool>,
}

impl Tells for JoinAnswer {
    fn happened(&self) -> Happened {
        Happened::to(&self.group_id)
    }
}

/// Join a group by its invite code
#[utoipa::path(
    post,
    path = "",
    request_body = Invitation,
    responses(
        (status = 200, description = "Joined, or asked to be let in; also when the account is in the group already", body = JoinAnswer),
        (status = 404, description = "The invite link was revoked (`invite_revoked`), or the session does not exist"),
    ),
)]
pub(crate) async fn join(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    AdmissionOf(admission): AdmissionOf,
    JsonBody(Invitation { invite_code: code }): JsonBody<Invitation>,
) -> ToldResult<JoinAnswer> {
    if caller.key.is_limited_to_groups() {
        refuse_foreign_group(&app, session, &caller, code.clone()).await?;
        // The key may have changed while WhatsApp was asked.
        admission.check_again()?;
    }
    let joined = app.gateway.execute(session, JoinGroup { code }).await.map_err(refused)?;
    if joined.already_member {
        // Somebody else got the account into the group: the code alone does not add it to the key's scope.
        caller.may_touch(std::slice::from_ref(&joined.group))?;
    } else if !joined.pending_approval {
        // An account that waits for approval is not in the group yet.
        caller.add_to_scope(&app, vec![joined.group.clone()]).await;
    }
    let status = if joined.pending_approval { JoinStatus::PendingApproval } else { JoinStatus::Joined };
    let already_member = joined.already_member.then_some(true);
    Ok(Told(JoinAnswer { success: true, group_id: joined.group, status, already_member }))
}

/// Preview a group by its invite code
///
/// WhatsApp is asked each time.
#[utoipa::path(
    get,
    path = "",
    params((
        "code" = String, Query, description = "The code, or the whole link",
        pattern = r"^((https?://)?chat\.whatsapp\.com/(invite/)?)?[A-Za-z0-9_-]{1,128}/?([?#].*)?$",
        example = "AbCdEfGhIjKlMnOpQrStUv",
    )),
    responses(
        (status = 200, description = "The group that it leads to", body = JoinInfo),
        (status = 404, description = "No group has this invite code (`invite_code_unknown`), its link was revoked \
            (`invite_revoked`), or the session does not exist"),
    ),
)]
pub(crate) async fn info(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    parts: Parts,
) -> JsonResult<JoinInfo> {
    let query = query(&parts)?;
    let code = value_of(&query, "code").and_then(code_of).ok_or_else(|| ApiError::Query(format!("code {}", rule())))?;
    if code.len() == PRIVATE_CODE_CHARS {
        return Err(ApiError::Query(format!("code {PRIVATE_CODE}")));
    }
    let info = app.gateway.execute(session, ReadJoinInfo { code }).await.map_err(unknown)?;
    if !caller.key.allows_group(&info.id) {
        // A key that is limited to groups reads about another group only to join it, which viewers cannot do.
        if caller.key.role() < Role::Operator || is_in(&app, session, &info.id).await? {
            return Err(AccessError::GroupNotAllowed.into());
        }
    }
    Ok(Json(info))
}

async fn is_in(app: &App, session: SessionId, group: &GroupId) -> Result<bool, ApiError> {
    Ok(app
        .gateway
        .execute(session, ListGroups { source: Source::Cache })
        .await?
        .value
        .iter()
        .any(|known| known.id == *group))
}

/// Refuses a group that the account is in already, unless it is in the key's scope: it belongs to somebody else, and
/// knowing its invite code is not enough to reach it.
async fn refuse_foreign_group(app: &App, session: SessionId, caller: &Caller, code: String) -> Result<(), ApiError> {
    // The group may be in another session already, and the key's scope holds for all of its sessions.
    if !caller.key.is_limited_to_one_session() {
        return Err(AccessError::SeveralSessions.into());
    }
    let group = app.gateway.execute(session, ReadJoinInfo { code }).await.map_err(refused)?.id;
    let is_foreign = !caller.key.allows_group(&group) && is_in(app, session, &group).await?;
    if is_foreign { Err(AccessError::GroupNotAllowed.into()) } else { Ok(()) }
}

fn rule() -> String {
    format!(
        "must be an invite code or a link https://{INVITE_HOST}/<code>: up to {INVITE_CODE_CHARS_MAX} characters of \
         A-Z, a-z, 0-9, _ and -"
    )
}

/// The code of a link, with or without its scheme, or the code as it is. Text behind a `?` or `#` is ignored.
pub(crate) fn code_of(text: &str) -> Option<String> {
    let text = text.trim();
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let path = path.strip_suffix('/').unwrap_or(path);
    let without_scheme = without(path, "https://").or_else(|| without(path, "http://"));
    let code = match without(without_scheme.unwrap_or(path), INVITE_HOST).and_then(|rest| rest.strip_prefix('/')) {
        Some(code) => code.strip_prefix("invite/").unwrap_or(code),
        // A link to another host.
        None if without_scheme.is_some() => return None,
        None => path,
    };
    let fits = (1..=INVITE_CODE_CHARS_MAX).contains(&code.len());
    let plain = code.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    (fits && plain).then(|| code.to_owned())
}

/// The text without this prefix, which may be in upper or lower case.
fn without<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// In a preview, an invite code that no group has is simply not found.
fn unknown(error: CommandError) -> ApiError {
    match error {
        CommandError::Refused { code: UNKNOWN_CODE | 400 | 404, .. } => ApiError::InviteCodeUnknown,
        error => error.into(),
    }
}

fn refused(error: CommandError) -> ApiError {
    match error {
        CommandError::Refused { code: UNKNOWN_CODE, .. } => ApiError::InviteCode,
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::request::fields::Known;

    const CODE: &str = "AbCdEfGhIjKlMnOpQrStUv";

    #[test]
    fn a_code_is_found_in_every_form_of_its_link() {
        let forms = [
            CODE.to_owned(),
            format!(" {CODE}\n"),
            format!("{CODE}?mode=wwt"),
            format!("https://chat.whatsapp.com/{CODE}"),
            format!("https://chat.whatsapp.com/{CODE}?mode={}", "x".repeat(200)),
            format!("http://chat.whatsapp.com/{CODE}/"),
            format!("chat.whatsapp.com/{CODE}#top"),
            format!("HTTPS://Chat.WhatsApp.com/invite/{CODE}"),
        ];
        for form in forms {
            assert_eq!(code_of(&form).as_deref(), Some(CODE), "{form}");
        }
        assert!(code_of(&"a".repeat(128)).is_some() && code_of("_-09").is_some());
        let no_codes = [
            "",
            "?x",
            "https://chat.whatsapp.com/",
            "https://example.com/AbCdEf",
            "https://chat.whatsapp.com.example.com/AbCdEf",
            "https://AbCdEf",
            "chat.whatsapp.com",
            "a/b",
            "a b",
            "ümlaut",
            &"a".repeat(129),
        ];
        for text in no_codes {
            assert_eq!(code_of(text), None, "{text}");
        }
    }

    #[test]
    fn a_body_without_a_code_is_named() {
        let check = |body: Value| {
            let read = Fields::parse::<Invitation>(body.as_object().cloned().unwrap(), Known::default());
            match read.map(|invitation| invitation.invite_code) {
                Err(ApiError::Body(messages)) => messages,
                other => panic!("{other:?}"),
            }
        };
        let (rule, private) = (format!("inviteCode {}", rule()), format!("inviteCode {PRIVATE_CODE}"));
        let cases = [
            (json!({}), vec!["inviteCode should not be empty", "inviteCode must be a string"]),
            (json!({"inviteCode": null}), vec!["inviteCode should not be empty", "inviteCode must be a string"]),
            (json!({"inviteCode": 5}), vec!["inviteCode must be a string"]),
            (json!({"inviteCode": "  "}), vec!["inviteCode should not be empty"]),
            (json!({"inviteCode": "a b", "code": 1}), vec!["property code should not exist", rule.as_str()]),
            (json!({"inviteCode": "ü".repeat(129)}), vec![rule.as_str()]),
            (json!({"inviteCode": "AbCdEfGhIjKlMnOp"}), vec![private.as_str()]),
        ];
        for (body, expected) in cases {
            assert_eq!(check(body.clone()), expected, "{body}");
        }
    }
}
