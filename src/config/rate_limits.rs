//! The limits that protect the accounts, as the operator writes them.

use rookery_actors::{RateLimit, RateLimits};

use super::parsers::rate_limit;

/// Participants that one request may name: a smaller burst would count them as fewer.
const ADD_BURST_MIN: u32 = 256;

/// The limits that protect the accounts. The first four flags and variables were named `pace` before.
// `::std::option::Option`, because clap takes a plain `Option` for a setting that may be left out.
#[derive(Clone, Debug, clap::Args)]
pub struct RateLimitArguments {
    /// Groups and communities made per session, as COUNT/s|min|h|d:BURST, or off
    #[arg(long, alias = "pace-create", env = "ROOKERY_LIMIT_CREATE", value_name = "LIMIT")]
    #[arg(default_value = "10/h:5", value_parser = rate_limit(1))]
    pub limit_create: ::std::option::Option<RateLimit>,
    /// Participants added or approved per session; the burst is 256 or more
    #[arg(long, alias = "pace-add", env = "ROOKERY_LIMIT_ADD", value_name = "LIMIT")]
    #[arg(default_value = "60/min:256", value_parser = rate_limit(ADD_BURST_MIN))]
    pub limit_add: ::std::option::Option<RateLimit>,
    /// Other changes of groups per session
    #[arg(long, alias = "pace-write", env = "ROOKERY_LIMIT_WRITE", value_name = "LIMIT")]
    #[arg(default_value = "30/min:30", value_parser = rate_limit(1))]
    pub limit_write: ::std::option::Option<RateLimit>,
    /// Queries per session that only WhatsApp can answer
    #[arg(long, alias = "pace-query", env = "ROOKERY_LIMIT_QUERY", value_name = "LIMIT")]
    #[arg(default_value = "60/min:60", value_parser = rate_limit(1))]
    pub limit_query: ::std::option::Option<RateLimit>,
    /// Lookups of phone numbers per session, each of all unknown numbers of a request
    #[arg(long, env = "ROOKERY_LIMIT_LOOKUP", value_name = "LIMIT")]
    #[arg(default_value = "20/min:20", value_parser = rate_limit(1))]
    pub limit_lookup: ::std::option::Option<RateLimit>,
    /// Messages sent per session
    #[arg(long, env = "ROOKERY_LIMIT_MESSAGE", value_name = "LIMIT")]
    #[arg(default_value = "30/min:10", value_parser = rate_limit(1))]
    pub limit_message: ::std::option::Option<RateLimit>,
}

impl RateLimitArguments {
    /// The current and the old names of the variables.
    pub(super) const VARIABLES_BEFORE: [(&str, &str); 4] = [
        ("ROOKERY_LIMIT_CREATE", "ROOKERY_PACE_CREATE"),
        ("ROOKERY_LIMIT_ADD", "ROOKERY_PACE_ADD"),
        ("ROOKERY_LIMIT_WRITE", "ROOKERY_PACE_WRITE"),
        ("ROOKERY_LIMIT_QUERY", "ROOKERY_PACE_QUERY"),
    ];
}

impl From<&RateLimitArguments> for RateLimits {
    fn from(given: &RateLimitArguments) -> Self {
        Self {
            create: given.limit_create,
            add: given.limit_add,
            write: given.limit_write,
            query: given.limit_query,
            lookup: given.limit_lookup,
            message: given.limit_message,
        }
    }
}

impl From<RateLimits> for RateLimitArguments {
    fn from(limits: RateLimits) -> Self {
        Self {
            limit_create: limits.create,
            limit_add: limits.add,
            limit_write: limits.write,
            limit_query: limits.query,
            limit_lookup: limits.lookup,
            limit_message: limits.message,
        }
    }
}
