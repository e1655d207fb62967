//! The random part of the message that a request sends.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use rookery_model::MessageSeed;

use crate::http::error::ApiError;

/// The seed of the request's message: that of its idempotency key, where it has one.
pub(crate) struct Seed(pub(crate) MessageSeed);

impl<S: Sync> FromRequestParts<S> for Seed {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get().copied().map_or_else(new_seed, Ok).map(Self)
    }
}

/// A new seed.
///
/// # Errors
/// [`ApiError::Internal`] when the system gives no random bytes.
pub(crate) fn new_seed() -> Result<MessageSeed, ApiError> {
    let mut bytes = [0; MessageSeed::BYTES];
    getrandom::fill(&mut bytes).map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(MessageSeed::from_bytes(bytes))
}
