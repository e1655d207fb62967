//! The parts of a session that a command may use while it begins.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::context::CommandContext;
use super::creations::Creations;
use super::port::SessionPort;
use super::{Finished, Next, Started};
use crate::error::CommandError;
use crate::group_cache::GroupCache;
use crate::rate_limiter::{Cost, RateLimiter};
use rookery_engine::Engine;
use rookery_model::{GroupId, ParticipantIds};

/// WhatsApp answers a lookup within a second. A caller gives up after 30 s.
pub(crate) const LOOKUP_TIME_MAX: Duration = Duration::from_secs(3);

/// A session as a beginning command sees it.
pub struct SessionAccess<'a> {
    pub(crate) cache: &'a mut GroupCache,
    pub(crate) creations: &'a mut Creations,
    /// The session's account.
    pub(crate) me: ParticipantIds,
    /// The engine of a session that is `ready`, or why WhatsApp cannot be asked.
    pub(crate) engine: Result<Arc<Engine>, CommandError>,
    pub(crate) port: Arc<dyn SessionPort>,
    pub(crate) rate_limiter: Arc<RateLimiter>,
    /// How long nothing was received from WhatsApp, where the cache may be behind; `None` while the session is `ready`.
    /// The error says why not even the cache can be read.
    pub(crate) stale_for: Result<Option<Duration>, CommandError>,
    pub(crate) whatsapp_timeout: Duration,
    /// How long the command's caller has waited for a lookup: it comes out of WhatsApp's time.
    pub(crate) spent: Duration,
}

impl SessionAccess<'_> {
    /// Refuses unless the session is `ready`.
    pub(crate) fn check_ready(&self) -> Result<(), CommandError> {
        self.engine.as_ref().map(drop).map_err(Clone::clone)
    }

    /// How long a lookup may take. Most of WhatsApp's time has to be left for the command that needs the lookup.
    pub(super) fn lookup_time_max(&self) -> Duration {
        LOOKUP_TIME_MAX.min(self.whatsapp_timeout / 4)
    }

    /// Refuses a group that the account is not in.
    pub(crate) fn check_member_of(&self, group: &GroupId) -> Result<(), CommandError> {
        if self.cache.has(group) { Ok(()) } else { Err(CommandError::GroupNotFound(group.clone())) }
    }

    /// Checks and counts a command that is about to ask WhatsApp, and returns the context for its task. `group`: a
    /// group that the account has to be in. This is the last of all checks: a command that is refused for another
    /// reason is not counted.
    pub(crate) fn admit(&self, cost: Cost, group: Option<&GroupId>) -> Result<CommandContext, CommandError> {
        let engine = self.engine.clone()?;
        group.map_or(Ok(()), |group| self.check_member_of(group))?;
        self.rate_limiter.take(cost)?;
        let deadline = Instant::now() + self.whatsapp_timeout - self.spent.min(self.lookup_time_max());
        Ok(CommandContext::new(engine, self.port.clone(), self.rate_limiter.clone(), deadline))
    }
}

impl CommandContext {
    /// The rest of a command, in a task of its own.
    pub(crate) fn run<T, F, W>(self, work: W) -> Started<T>
    where
        F: Future<Output = Finished<T>> + Send + 'static,
        W: FnOnce(Self) -> F,
    {
        let port = self.port();
        Started(Next::Task(port, Box::pin(work(self))))
    }
}
