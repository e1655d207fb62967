//! The settings of a group: read from the session's cache, and changed one after the other.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use rookery_actors::commands::SetSettings;
use rookery_model::{GroupSettings, Setting, Who};
use utoipa::ToSchema;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::limits::EPHEMERAL_S;
use crate::http::request::extract::{GroupPath, JsonBody, SessionPath, Stale};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::response::json::{Acknowledged, JsonResult, acknowledged};
use crate::http::response::staleness::{self, answered_of};

const WHO: [(&str, Who); 2] = [("all", Who::All), ("admins", Who::Admins)];

/// Settings that are to change; at least one.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({ "announce": true, "ephemeralSeconds": 86400 }))]
pub(crate) struct NewSettings {
    /// Only admins may send messages.
    #[schema(nullable = false)]
    announce: Option<bool>,
    /// Only admins may edit subject, description and picture.
    #[schema(nullable = false)]
    locked: Option<bool>,
    /// Seconds after which messages disappear; 0 or `null`: they stay.
    #[schema(minimum = 0, maximum = 2_147_483_647)]
    ephemeral_seconds: Option<u32>,
    /// Who may add members.
    #[schema(nullable = false)]
    member_add_mode: Option<Who>,
    /// Whether people who follow the invite link have to be approved by an admin.
    #[schema(nullable = false)]
    membership_approval: Option<bool>,
    /// Who may see and share the invite link.
    #[schema(nullable = false)]
    member_link_mode: Option<Who>,
    /// Who may send the group's history to new members.
    #[schema(nullable = false)]
    member_share_history_mode: Option<Who>,
    /// WhatsApp's "advanced chat privacy".
    #[schema(nullable = false)]
    limit_sharing: Option<bool>,
    /// Messages that were forwarded many times cannot be sent.
    #[schema(nullable = false)]
    no_frequently_forwarded: Option<bool>,
    /// Members may report messages to the admins.
    #[schema(nullable = false)]
    allow_admin_reports: Option<bool>,
    /// New members get the recent history.
    #[schema(nullable = false)]
    group_history: Option<bool>,
}

/// Get group settings
#[utoipa::path(
    get,
    path = "",
    params(Stale),
    responses((status = 200, description = "What is set; left out is what WhatsApp does not say", body = GroupSettings)),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    stale: Stale,
) -> Result<Response, ApiError> {
    let group = staleness::group(&app, session, group, stale).await?;
    answered_of(group, |group| Ok(Json(&group.settings).into_response()))
}

/// Update group settings
///
/// The daemon sets them one after the other, in the order of the fields in this document. It stops at the first failure: `settings` in
/// the error says which settings have their new value.
#[utoipa::path(
    put,
    path = "",
    request_body = NewSettings,
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Group settings updated" }))),
)]
pub(crate) async fn set(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    JsonBody(new): JsonBody<NewSettings>,
) -> JsonResult<Acknowledged> {
    app.gateway.execute(session, SetSettings { group, settings: new.settings() }).await?;
    Ok(acknowledged("Group settings updated"))
}

impl FromFields for NewSettings {
    fn read(fields: &mut Fields<'_>) -> Self {
        let ephemeral_seconds = fields.nullable_number("ephemeralSeconds", EPHEMERAL_S);
        let new = Self {
            announce: fields.optional_flag("announce"),
            locked: fields.optional_flag("locked"),
            ephemeral_seconds: ephemeral_seconds.map(Option::unwrap_or_default),
            member_add_mode: fields.optional_word("memberAddMode", &WHO),
            membership_approval: fields.optional_flag("membershipApproval"),
            member_link_mode: fields.optional_word("memberLinkMode", &WHO),
            member_share_history_mode: fields.optional_word("memberShareHistoryMode", &WHO),
            limit_sharing: fields.optional_flag("limitSharing"),
            no_frequently_forwarded: fields.optional_flag("noFrequentlyForwarded"),
            allow_admin_reports: fields.optional_flag("allowAdminReports"),
            group_history: fields.optional_flag("groupHistory"),
        };
        if new.settings().is_empty() && !fields.is_broken() {
            let names = Setting::NAMES.join(", ");
            fields.message(format!("at least one of the following is required: {names}"));
        }
        new
    }
}

impl NewSettings {
    /// The settings that are to change.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let all = [
            self.announce.map(Setting::Announce),
            self.locked.map(Setting::Locked),
            self.ephemeral_seconds.map(Setting::EphemeralSeconds),
            self.member_add_mode.map(Setting::MemberAddMode),
            self.membership_approval.map(Setting::MembershipApproval),
            self.member_link_mode.map(Setting::MemberLinkMode),
            self.member_share_history_mode.map(Setting::MemberShareHistoryMode),
            self.limit_sharing.map(Setting::LimitSharing),
            self.no_frequently_forwarded.map(Setting::NoFrequentlyForwarded),
            self.allow_admin_reports.map(Setting::AllowAdminReports),
            self.group_history.map(Setting::GroupHistory),
        ];
        all.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::request::fields::Known;

    fn check(body: &Value) -> Result<Vec<Setting>, Vec<String>> {
        let new = Fields::parse::<NewSettings>(body.as_object().cloned().unwrap(), Known::default());
        new.map(|new| new.settings()).map_err(|error| match error {
            ApiError::Body(messages) => messages,
            other => vec![format!("{other:?}")],
        })
    }

    #[test]
    fn any_settings_are_taken_but_not_none() {
        let all = json!({
            "groupHistory": true, "allowAdminReports": false, "noFrequentlyForwarded": true, "limitSharing": false,
            "memberShareHistoryMode": "all", "memberLinkMode": "admins", "membershipApproval": true,
            "memberAddMode": "all", "ephemeralSeconds": 604_800, "locked": false, "announce": true,
        });
        let found = check(&all).unwrap();
        let names: Vec<_> = found.iter().map(|setting| setting.name()).collect();
        assert_eq!(names, Setting::NAMES, "each field is read, and in the order of application");
        for (body, expected) in [
            (json!({"announce": true}), Setting::Announce(true)),
            (json!({"ephemeralSeconds": 0}), Setting::EphemeralSeconds(0)),
            (json!({"ephemeralSeconds": null}), Setting::EphemeralSeconds(0)),
            (json!({"ephemeralSeconds": i32::MAX}), Setting::EphemeralSeconds(i32::MAX.unsigned_abs())),
        ] {
            assert_eq!(check(&body), Ok(vec![expected]));
        }
        let message = check(&json!({})).unwrap_err().join("");
        assert!(message.starts_with("at least one of the following is required: announce, locked"), "{message}");
    }

    #[test]
    fn each_broken_setting_is_named() {
        let cases = [
            (json!({"announce": null}), vec!["announce must be a boolean value"]),
            (json!({"announce": "yes"}), vec!["announce must be a boolean value"]),
            (json!({"ephemeralSeconds": -1}), vec!["ephemeralSeconds must not be less than 0"]),
            (json!({"ephemeralSeconds": "a day"}), vec!["ephemeralSeconds must be an integer number"]),
            (
                json!({"ephemeralSeconds": 2_147_483_648_u32}),
                vec!["ephemeralSeconds must not be greater than 2147483647"],
            ),
            (
                json!({"foo": 1, "memberAddMode": "members", "groupHistory": 1}),
                vec![
                    "property foo should not exist",
                    "memberAddMode must be one of the following values: all, admins",
                    "groupHistory must be a boolean value",
                ],
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(check(&body).unwrap_err(), expected, "{body}");
        }
    }
}
