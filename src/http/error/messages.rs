//! Why an earlier message is not fit for what was asked.

use axum::http::StatusCode;

use super::{ErrorResponse, one};

/// Why a message cannot be quoted, forwarded, edited or deleted.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnfitMessage {
    /// Somebody else wrote it.
    #[error("Somebody else wrote this message")]
    NotOwn,
    /// It is no text.
    #[error("Only texts can be edited")]
    NotText,
    /// WhatsApp's clients would not take the change any more.
    #[error("This message is older than {minutes_max} minutes: WhatsApp takes no such change any more")]
    TooOld {
        /// The age that is allowed.
        minutes_max: u64,
    },
    /// It was deleted for everybody.
    #[error("This message was deleted")]
    Deleted,
    /// Its content is not kept.
    #[error("The content of this message is not kept, so it cannot be quoted or forwarded")]
    NotKept,
}

impl UnfitMessage {
    pub(super) fn answer(self) -> ErrorResponse {
        let (status, code) = match self {
            Self::NotOwn => (StatusCode::FORBIDDEN, "not_own_message"),
            Self::NotText => (StatusCode::BAD_REQUEST, "not_a_text"),
            Self::TooOld { .. } => (StatusCode::BAD_REQUEST, "message_too_old"),
            Self::Deleted => (StatusCode::BAD_REQUEST, "message_deleted"),
            Self::NotKept => (StatusCode::BAD_REQUEST, "content_not_kept"),
        };
        one(status, code, self.to_string())
    }
}
