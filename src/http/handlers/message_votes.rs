//! Votes in polls: the account's own, and what everybody chose.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rookery_model::{OutgoingContent, ParticipantId, Poll};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::message_changes::{Changed, changed, content_of, stored};
use super::message_history::{ChatPath, MessagePath};
use super::messages::chat_id;
use crate::app::App;
use crate::http::error::{ApiError, MessageError};
use crate::http::limits::{MESSAGE_ID_CHARS, POLL_OPTIONS};
use crate::http::request::caller::Caller;
use crate::http::request::extract::{JsonBody, SessionPath};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::request::seed::Seed;
use crate::http::request::written::{ChatField, shorten};
use crate::http::response::happened::Told;

/// A vote in a poll.
#[derive(Debug, PartialEq, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewVote {
    #[schema(inline)]
    chat_id: ChatField,
    #[schema(min_length = 1, max_length = 128, example = "3EB0D1C5A7F2E4B6908A13")]
    poll_message_id: String,
    /// The texts of the options that are chosen; none takes the vote back.
    #[schema(max_items = 12, example = json!(["Monday"]))]
    options: Vec<String>,
}

impl FromFields for NewVote {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            chat_id: chat_id(fields).unwrap_or_default(),
            poll_message_id: fields.text("pollMessageId", MESSAGE_ID_CHARS),
            options: fields.texts("options", 0..=*POLL_OPTIONS.end()),
        }
    }
}

/// Vote in a poll
///
/// Takes the place of the account's earlier vote in the same poll.
#[utoipa::path(
    post,
    path = "",
    request_body = NewVote,
    responses(
        (status = 200, description = "WhatsApp has the vote", body = Changed),
        (status = 404, description = "No such message is kept (`message_not_found`)"),
    ),
)]
pub(crate) async fn vote(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    caller: Caller,
    Seed(seed): Seed,
    JsonBody(body): JsonBody<NewVote>,
) -> Result<Told<Changed>, ApiError> {
    let stored = stored(&app, session, &caller, &body.chat_id, body.poll_message_id).await?;
    check(stored.poll.as_ref(), &body.options)?;
    let (poll, content) = content_of(stored)?;
    let content = OutgoingContent::Vote { poll, content, options: body.options };
    changed(&app, session, &caller, seed, body.chat_id, content.into()).await
}

/// Refuses what nobody could vote for.
fn check(poll: Option<&Poll>, options: &[String]) -> Result<(), ApiError> {
    let poll = poll.ok_or(MessageError::NotPoll)?;
    let broken = |rule: String| Err(ApiError::Body(vec![format!("options {rule}")]));
    if let Some(unknown) = options.iter().find(|option| !poll.options.contains(option)) {
        let all = poll.options.iter().map(|option| shorten(option)).collect::<Vec<_>>().join(", ");
        return broken(format!("must be among those of the poll, and {} is not: {all}", shorten(unknown)));
    }
    if options.iter().enumerate().any(|(index, option)| options[..index].contains(option)) {
        return broken("must all be different".to_owned());
    }
    if options.len() > 1 && !poll.allow_multiple_answers {
        return broken("must contain no more than 1 element: in this poll everybody has one vote".to_owned());
    }
    Ok(())
}

/// An option of a poll with those who chose it.
#[derive(Serialize, ToSchema)]
pub(crate) struct PollOptionVotes {
    #[schema(example = "Monday")]
    option: String,
    voters: Vec<PollVoter>,
}

/// Somebody who voted.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PollVoter {
    sender_id: ParticipantId,
    /// When, in seconds since 1970.
    #[schema(example = 1_769_851_800)]
    timestamp: i64,
}

/// Get the votes in a poll
///
/// The latest vote of each person, as far as events are kept.
#[utoipa::path(
    get,
    path = "",
    responses(
        (status = 200, description = "Each option with the people who chose it", body = Vec<PollOptionVotes>),
        (status = 404, description = "No such message is kept (`message_not_found`)"),
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    ChatPath(chat): ChatPath,
    MessagePath(id): MessagePath,
    caller: Caller,
) -> Result<Json<Vec<PollOptionVotes>>, ApiError> {
    let events = app.gateway.events(session).await?;
    let _reading = caller.key.read_events().await;
    let found = events.votes(chat.to_string(), id.clone()).await?;
    let (event, votes) = found.ok_or_else(|| MessageError::Unknown(shorten(&id)))?;
    if event.data.get("type").is_some_and(|kind| kind == "revoked") {
        return Err(MessageError::Deleted.into());
    }
    let is_text_kept = event.data.get("textStored") != Some(&Value::Bool(false));
    let poll = event.data.get("poll").and_then(|poll| serde_json::from_value::<Poll>(poll.clone()).ok());
    let Some(poll) = poll else {
        return Err(if is_text_kept { MessageError::NotPoll } else { MessageError::NotKept }.into());
    };
    let with_votes = poll.options.into_iter().map(|option| {
        let chose = votes.iter().filter(|vote| vote.options.contains(&option));
        let voters = chose.map(|vote| PollVoter { sender_id: vote.sender, timestamp: vote.timestamp }).collect();
        PollOptionVotes { option, voters }
    });
    Ok(Json(with_votes.collect()))
}
