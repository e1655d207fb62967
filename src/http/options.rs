//! What the operator decides about HTTP beside the address.

use super::cors::CorsOrigins;
use super::limits::HttpLimits;
use crate::auth::AddressRange;

/// What the operator decides about HTTP beside the address.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// How much, how often and how long.
    pub limits: HttpLimits,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<AddressRange>,
    /// Web pages that may call from a browser.
    pub cors_origins: CorsOrigins,
}
