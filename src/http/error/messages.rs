//! Why nothing can be done with an earlier message.

use axum::http::StatusCode;

use super::{ErrorResponse, one};
use crate::http::bulk::BatchError;

/// Why a message cannot be shown, quoted, forwarded, edited or deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    /// The event log has no such message in this chat.
    #[error("No message {0} of this chat is kept")]
    Unknown(String),
    /// Somebody else wrote it.
    #[error("Somebody else wrote this message")]
    NotOwn,
    /// It is no text.
    #[error("Only texts can be edited")]
    NotText,
    /// It is no poll.
    #[error("This message is no poll")]
    NotPoll,
    /// WhatsApp's clients would not take the change any more.
    #[error("This message is older than {minutes_max} minutes: WhatsApp takes no such change any more")]
    TooOld {
        /// The age that is allowed.
        minutes_max: u64,
    },
    /// It was deleted for everybody.
    #[error("This message was deleted")]
    Deleted,
    /// There is no file in it.
    #[error("There is no file in this message")]
    NoMedia,
    /// Its content is not kept.
    #[error("The content of this message is not kept, so it cannot be quoted, forwarded, voted in or fetched")]
    NotKept,
}

impl MessageError {
    pub(super) fn answer(&self) -> ErrorResponse {
        let (status, code) = match self {
            Self::Unknown(_) => (StatusCode::NOT_FOUND, "message_not_found"),
            Self::NotOwn => (StatusCode::FORBIDDEN, "not_own_message"),
            Self::NotText => (StatusCode::BAD_REQUEST, "not_a_text"),
            Self::NotPoll => (StatusCode::BAD_REQUEST, "not_a_poll"),
            Self::TooOld { .. } => (StatusCode::BAD_REQUEST, "message_too_old"),
            Self::Deleted => (StatusCode::BAD_REQUEST, "message_deleted"),
            Self::NoMedia => (StatusCode::NOT_FOUND, "no_media"),
            Self::NotKept => (StatusCode::BAD_REQUEST, "content_not_kept"),
        };
        one(status, code, self.to_string())
    }
}

pub(super) fn batch_response(error: &BatchError) -> ErrorResponse {
    let (status, code) = match error {
        BatchError::Unknown(_) => (StatusCode::NOT_FOUND, "batch_not_found"),
        BatchError::Exists(_) => (StatusCode::BAD_REQUEST, "batch_exists"),
        BatchError::Over { .. } => (StatusCode::BAD_REQUEST, "batch_over"),
        BatchError::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too_many_batches"),
    };
    one(status, code, error.to_string())
}
