//! Why a webhook cannot be made, found or changed. Its text is what callers get to see.

use rookery_actors::CommandError;
use rookery_store::StoreError;

use super::{OF_SESSION_MAX, OF_SEVERAL_MAX, PauseReason};
use crate::url_fetch::FetchError;

/// Why a webhook cannot be made, found or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebhookError {
    /// No webhook that the caller may see has this id.
    #[error("Webhook with id '{0}' not found")]
    NotFound(String),
    /// The session has as many as it may.
    #[error("Webhook limit reached for this session ({0}/{OF_SESSION_MAX}); delete one before registering another")]
    TooManyOfSession(usize),
    /// There are as many for several sessions as there may be.
    #[error("Webhook limit reached for several sessions ({0}/{OF_SEVERAL_MAX}); delete one before registering another")]
    TooManyOfSeveral(usize),
    /// The URL leads to where nothing may be sent.
    #[error("Destination address is not allowed: the URL {0}")]
    Destination(FetchError),
    /// The events from there on are gone.
    #[error(
        "events after this place are gone: the oldest one that can be delivered has the number {oldest}; send it as `from`"
    )]
    PositionTrimmed {
        /// The number of the oldest event that there is.
        oldest: u64,
    },
    /// A limited key gives another URL to a webhook of another key, with that key's secret or header fields.
    #[error(
        "the webhook was made with another key: a new url needs a new secret and new headers, or \"\" and {{}} for none"
    )]
    OthersSecrets,
    /// A webhook cannot go on, as the key that made it has ended.
    #[error("the webhook cannot go on: {0}")]
    CannotResume(PauseReason),
    /// A replay is to begin at a time that is yet to come.
    #[error("from lies in the future: no event was seen then")]
    InFuture,
    /// A replay is to begin behind the latest event.
    #[error("from is {from}, but the latest event has the number {latest}")]
    NotYet {
        /// The number that was asked for.
        from: u64,
        /// The number of the latest event.
        latest: u64,
    },
    /// The webhook does not get the events of this session.
    #[error("the webhook gets no events of this session")]
    OtherSession,
    /// The session, or its events.
    #[error(transparent)]
    Session(#[from] CommandError),
}

impl From<StoreError> for WebhookError {
    fn from(error: StoreError) -> Self {
        Self::Session(CommandError::Store(error))
    }
}
