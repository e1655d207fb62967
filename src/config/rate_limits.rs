//! The limits that protect the accounts, as the operator writes them.

use std::ffi::OsString;

use rookery_actors::RateLimits;

use super::reader::{ConfigError, Reader};

/// People that one request may name: a smaller burst would count them as fewer.
const PACE_ADD_BURST_MIN: u32 = 256;

/// The limits that protect the accounts, as flags with a variable of the same name.
#[derive(Clone, Default, clap::Args)]
pub struct PaceArguments {
    /// Groups and communities made per session, as COUNT/s|min|h|d:BURST, or off [ROOKERY_PACE_CREATE, default 10/h:5]
    #[arg(long, value_name = "PACE")]
    pub(super) pace_create: Option<OsString>,
    /// People added or let in per session; the burst is 256 or more [ROOKERY_PACE_ADD, default 60/min:256]
    #[arg(long, value_name = "PACE")]
    pub(super) pace_add: Option<OsString>,
    /// Other changes of groups per session [ROOKERY_PACE_WRITE, default 30/min:30]
    #[arg(long, value_name = "PACE")]
    pub(super) pace_write: Option<OsString>,
    /// Questions per session that only WhatsApp can answer [ROOKERY_PACE_QUERY, default 60/min:60]
    #[arg(long, value_name = "PACE")]
    pub(super) pace_query: Option<OsString>,
}

impl PaceArguments {
    /// Reads and checks them; `variable` answers the value of an environment variable.
    ///
    /// # Errors
    /// The first one that cannot be used.
    pub fn resolve(self, variable: impl Fn(&str) -> Option<OsString>) -> Result<RateLimits, ConfigError> {
        self.read(&Reader { variable })
    }

    pub(super) fn read<F: Fn(&str) -> Option<OsString>>(self, read: &Reader<F>) -> Result<RateLimits, ConfigError> {
        let default = RateLimits::default();
        let add_burst_min = PACE_ADD_BURST_MIN;
        Ok(RateLimits {
            create: read.pace("pace-create", self.pace_create, default.create, 1)?,
            add: read.pace("pace-add", self.pace_add, default.add, add_burst_min)?,
            write: read.pace("pace-write", self.pace_write, default.write, 1)?,
            query: read.pace("pace-query", self.pace_query, default.query, 1)?,
        })
    }
}
