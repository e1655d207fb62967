//! Reading groups: from the cache, or from WhatsApp.

use std::sync::Arc;

use super::{Command, CommandKind, Scope, SessionAccess, Started};
use crate::error::CommandError;
use crate::group_cache::GroupCache;
use crate::rate_limiter::Cost;
use rookery_model::{Aged, Group, GroupId, GroupSummary, Tagged};

/// Where a read takes groups from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The cache of a session that is ready: it is up to date.
    Cache,
    /// The cache, also while the session is started and not ready.
    StaleCache,
    /// WhatsApp is asked first.
    WhatsApp,
}

/// Reads all groups of the session, ordered by id.
///
/// # Errors
/// [`CommandError::NotStarted`], [`CommandError::NotConnected`] (of [`Source::StaleCache`] before all groups were read once);
/// of [`Source::WhatsApp`] as every command that asks WhatsApp ([`Command`]).
pub struct ListGroups {
    /// Where from.
    pub source: Source,
}

/// Reads one group. The value is left out when the group's tag is one that the caller knows.
///
/// # Errors
/// As of [`ListGroups`], and [`CommandError::GroupNotFound`].
pub struct ReadGroup {
    /// The group.
    pub group: GroupId,
    /// The tags that the caller knows.
    pub known: Vec<u64>,
    /// Where from.
    pub source: Source,
}

impl Source {
    fn kind(self) -> CommandKind {
        match self {
            Self::Cache | Self::StaleCache => CommandKind::Lookup,
            Self::WhatsApp => CommandKind::Query,
        }
    }
}

impl Command for ListGroups {
    type Output = Aged<Arc<Vec<GroupSummary>>>;

    fn kind(&self) -> CommandKind {
        self.source.kind()
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<Self::Output>, CommandError> {
        read(session, self.source, Scope::All, |cache| Ok(cache.summaries()))
    }
}

impl Command for ReadGroup {
    type Output = Aged<Tagged<Group>>;

    fn kind(&self) -> CommandKind {
        self.source.kind()
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<Self::Output>, CommandError> {
        let Self { group, known, source } = self;
        read(session, source, Scope::One(group.clone()), move |cache| {
            cache.group(&group, &known).ok_or(CommandError::GroupNotFound(group))
        })
    }
}

fn read<T: Send + 'static>(
    session: &mut SessionAccess<'_>,
    source: Source,
    scope: Scope,
    answer: impl FnOnce(&mut GroupCache) -> Result<T, CommandError> + Send + 'static,
) -> Result<Started<Aged<T>>, CommandError> {
    match source {
        Source::Cache => session.check_ready()?,
        Source::StaleCache => {}
        Source::WhatsApp => {
            session.check_ready()?;
            session.rate_limiter.take(Cost::Query)?;
            return Ok(Started::after_read(scope, |cache| Ok(Aged { value: answer(cache)?, stale_for: None })));
        }
    }
    let stale_for = session.stale_for.clone()?;
    Ok(Started::answered(Aged { value: answer(session.cache)?, stale_for }))
}
