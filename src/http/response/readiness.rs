//! Whether each part of the daemon takes requests, as `/api/health/ready` reports it.

use serde::Serialize;
use utoipa::ToSchema;

/// The state of each part.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Details {
    /// `up` or `draining`.
    pub(crate) daemon: Part,
    /// `up`, `low_space` or `down`.
    pub(crate) store: Part,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Part {
    #[schema(example = "up")]
    pub(crate) status: &'static str,
}
