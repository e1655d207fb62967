//! The limits that protect the accounts, as the operator writes them.

use std::ffi::OsString;

use rookery_actors::RateLimits;

use super::reader::{ConfigError, Reader};

/// People that one request may name: a smaller burst would count them as fewer.
const ADD_BURST_MIN: u32 = 256;

/// The limits that protect the accounts, as flags with a variable of the same name. Flags and variables were named `pace` before.
#[derive(Clone, Default, clap::Args)]
pub struct RateLimitArguments {
    /// Groups and communities made per session, as COUNT/s|min|h|d:BURST, or off [ROOKERY_LIMIT_CREATE, default 10/h:5]
    #[arg(long, alias = "pace-create", value_name = "LIMIT")]
    pub(super) limit_create: Option<OsString>,
    /// People added or let in per session; the burst is 256 or more [ROOKERY_LIMIT_ADD, default 60/min:256]
    #[arg(long, alias = "pace-add", value_name = "LIMIT")]
    pub(super) limit_add: Option<OsString>,
    /// Other changes of groups per session [ROOKERY_LIMIT_WRITE, default 30/min:30]
    #[arg(long, alias = "pace-write", value_name = "LIMIT")]
    pub(super) limit_write: Option<OsString>,
    /// Questions per session that only WhatsApp can answer [ROOKERY_LIMIT_QUERY, default 60/min:60]
    #[arg(long, alias = "pace-query", value_name = "LIMIT")]
    pub(super) limit_query: Option<OsString>,
}

impl RateLimitArguments {
    /// Reads and checks them; `variable` answers the value of an environment variable.
    ///
    /// # Errors
    /// The first one that cannot be used.
    pub fn resolve(self, variable: impl Fn(&str) -> Option<OsString>) -> Result<RateLimits, ConfigError> {
        self.read(&Reader { variable })
    }

    pub(super) fn read<F: Fn(&str) -> Option<OsString>>(self, read: &Reader<F>) -> Result<RateLimits, ConfigError> {
        let default = RateLimits::default();
        let add_burst_min = ADD_BURST_MIN;
        Ok(RateLimits {
            create: read.rate_limit("limit-create", self.limit_create, default.create, 1)?,
            add: read.rate_limit("limit-add", self.limit_add, default.add, add_burst_min)?,
            write: read.rate_limit("limit-write", self.limit_write, default.write, 1)?,
            query: read.rate_limit("limit-query", self.limit_query, default.query, 1)?,
        })
    }
}
