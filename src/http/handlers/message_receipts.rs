//! Who has a message of the account, and since when.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rookery_actors::{NoReceipts, PersonReceipts};
use rookery_model::{ParticipantId, Reached, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::message_history::{ChatPath, MessagePath};
use crate::app::App;
use crate::http::error::{ApiError, MessageError};
use crate::http::request::caller::Caller;
use crate::http::request::extract::SessionPath;
use crate::http::request::written::shorten;

/// Who has a message.
#[derive(Serialize, ToSchema)]
pub(crate) struct MessageReceipts {
    /// How many people it was sent to; `null`: nobody knows.
    #[schema(required, example = 1)]
    recipients: Option<u32>,
    /// How many of them have it.
    #[schema(example = 1)]
    delivered: usize,
    /// How many of them have read it.
    #[schema(example = 0)]
    read: usize,
    /// The people who said so, in the order in which they did first.
    receipts: Vec<MessageReceipt>,
}

/// Since when somebody has a message.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageReceipt {
    participant_id: ParticipantId,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    delivered_at: Option<Timestamp>,
    /// `null`: not yet, or the person does not tell.
    #[schema(required, value_type = Option<String>, format = DateTime, example = json!(null))]
    read_at: Option<Timestamp>,
    /// When it was listened to.
    #[schema(required, value_type = Option<String>, format = DateTime, example = json!(null))]
    played_at: Option<Timestamp>,
}

impl MessageReceipt {
    fn of(person: &PersonReceipts) -> Option<Self> {
        let [delivered_at, read_at, played_at] = Reached::ALL.map(|reached| person.at(reached));
        Some(Self { participant_id: person.id()?, delivered_at, read_at, played_at })
    }
}

/// Get the receipts of a message
///
/// Who of the people whom a message of the account was sent to has it, and who has read it. People may have WhatsApp tell nobody what they read.
#[utoipa::path(
    get,
    path = "",
    responses(
        (status = 200, description = "Each person with a receipt", body = MessageReceipts),
        (status = 403, description = "Somebody else wrote the message (`not_own_message`)"),
        (status = 404, description = "No such message is kept (`message_not_found`)"),
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    ChatPath(chat): ChatPath,
    MessagePath(id): MessagePath,
    caller: Caller,
) -> Result<Json<MessageReceipts>, ApiError> {
    let events = app.gateway.events(session).await?;
    let _reading = caller.key.read_events().await;
    let found = events.receipts(chat.to_string(), id.clone()).await?.map_err(|none| match none {
        NoReceipts::OfAnother => MessageError::NotOwn,
        NoReceipts::Unknown => MessageError::Unknown(shorten(&id)),
    })?;
    let count = |reached| found.people.iter().filter(|person| person.at(reached).is_some()).count();
    let (delivered, read) = (count(Reached::Delivered), count(Reached::Read));
    let receipts = found.people.iter().filter_map(MessageReceipt::of).collect();
    Ok(Json(MessageReceipts { recipients: found.recipients, delivered, read, receipts }))
}
