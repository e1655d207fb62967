//! What a failed request has done: nothing, or nobody knows. It decides what becomes of an idempotency key.

use rookery_actors::CommandError;
use rookery_model::{ParticipantResult, ResultCode};

use super::ApiError;
use super::layers::is_nothing_done;
use crate::audit::AuditError;
use crate::idempotency::IdempotencyError;

/// Nothing was done, and the same request may be sent again later: it does not use up its idempotency key. Lies in the
/// extensions of the response.
#[derive(Clone, Debug)]
pub(crate) struct NothingDone;

/// Nobody knows whether the request was carried out. Lies in the extensions of the response.
#[derive(Clone, Debug)]
pub(crate) struct InDoubt;

impl ApiError {
    /// Whether nobody knows what was done.
    pub(super) fn is_in_doubt(&self) -> bool {
        match self {
            Self::Command(CommandError::OutcomeUnknown) | Self::Internal(_) | Self::ResendRefused(_) => true,
            Self::TooSlow { may_have_changed } | Self::Stopped { may_have_changed } => *may_have_changed,
            _ => false,
        }
    }

    /// Whether nothing was done and trying again is right. In doubt false: a request that may have had an effect is not
    /// repeated.
    pub(super) fn is_nothing_done(&self) -> bool {
        match self {
            Self::Access(_)
            | Self::Body(_)
            | Self::BodyNotJson(_)
            | Self::BodyTooLarge { .. }
            | Self::BodyCompressed
            | Self::BodyTooSlow
            | Self::BodyEndedEarly
            | Self::Query(_)
            | Self::Participants(_)
            | Self::Groups(_)
            | Self::Chats(_)
            | Self::SessionInactive(_)
            | Self::Numbers(_)
            | Self::InviteCode
            | Self::InviteCodeUnknown
            | Self::IdempotencyKeyInvalid
            | Self::Picture(_)
            | Self::Media(_)
            | Self::Batch(_) => true,
            Self::Idempotency(error) => matches!(
                error,
                IdempotencyError::InUse
                    | IdempotencyError::Reused
                    | IdempotencyError::TooMany
                    | IdempotencyError::Store(_)
            ),
            Self::AllRefused { results, .. } => results.iter().all(is_repeated_best),
            Self::NoneLinked { results, .. } => results.iter().all(|result| result.status == Some(429)),
            Self::Audit(AuditError::LowSpace | AuditError::Unwritable) => true,
            Self::Command(error) => is_nothing_done(error),
            _ => false,
        }
    }
}

/// Whether WhatsApp did nothing for this participant, and may do it for a later request: it asks to slow down, or was not asked about a
/// number without an account.
fn is_repeated_best(result: &ParticipantResult) -> bool {
    match result.code {
        ResultCode::RateLimited => true,
        ResultCode::NotOnWhatsapp => result.status.is_none(),
        _ => false,
    }
}
