//! The account behind a session: what WhatsApp allows it at the moment, and whether it is shown as online.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rookery_model::AccountLimits;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::request::extract::{JsonBody, SessionPath};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::response::json::{Acknowledged, JsonResult, acknowledged};

/// Get the account's limits
///
/// WhatsApp is asked when the session has logged in, and when it refused something for a reason that these limits may explain, at most once
/// in ten minutes. It also tells changes by itself. The answer comes from memory. `null` means that WhatsApp did not say.
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "What WhatsApp allows the account", body = AccountLimits)),
)]
pub(crate) async fn limits(State(app): State<Arc<App>>, SessionPath(id): SessionPath) -> JsonResult<AccountLimits> {
    Ok(Json(app.gateway.limits(id)?))
}

/// Whether the account is to be shown as online.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Presence {
    /// True: online, while the session is connected. False: offline, so that the phone goes on showing notifications.
    #[schema(example = false)]
    available: bool,
}

impl FromFields for Presence {
    fn read(fields: &mut Fields<'_>) -> Self {
        if !fields.has("available") {
            fields.broken("available", "must be a boolean value");
        }
        Self { available: fields.optional_flag("available").unwrap_or_default() }
    }
}

/// Set the account's presence
///
/// It holds until it is set again, also over reconnects and restarts: where it cannot be sent now, it is sent after the next log-in. A new session shows its account as online. An account that is shown
/// as offline is online for a moment at each log-in.
#[utoipa::path(
    put,
    path = "",
    request_body = Presence,
    responses(
        (status = 200, description = "Kept, and sent; WhatsApp does not confirm it", body = Acknowledged, example = json!({ "success": true, "message": "Presence updated" })),
        (status = 409, description = "The session is not connected (`session_not_connected`), or the account's own name is not known yet (`push_name_unknown`)"),
    ),
)]
pub(crate) async fn set_presence(
    State(app): State<Arc<App>>,
    SessionPath(id): SessionPath,
    JsonBody(Presence { available }): JsonBody<Presence>,
) -> JsonResult<Acknowledged> {
    app.gateway.set_presence(id, available).await?;
    Ok(acknowledged("Presence updated"))
}
