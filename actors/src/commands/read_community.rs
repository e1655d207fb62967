//! Reading a community with its groups.

use std::borrow::Cow;

use super::{Command, CommandKind, SessionAccess, Started};
use crate::error::CommandError;
use crate::group_cache::{GroupCache, to_summary};
use crate::rate_limiter::Cost;
use rookery_model::{Aged, Community, CommunityGroup, CommunityRole, GroupId, GroupRecord, ParticipantIds};

/// Reads a community with all its groups, asked of WhatsApp: only WhatsApp knows those that this account is not in.
///
/// # Errors
/// As every command that asks WhatsApp ([`Command`]), [`CommandError::GroupNotFound`], [`CommandError::NotCommunity`].
pub struct ReadCommunity {
    /// The community.
    pub community: GroupId,
}

/// Reads a community as the cache has it, with those of its groups that this account is in, also while the session is started and
/// not ready.
///
/// # Errors
/// [`CommandError::NotStarted`]; [`CommandError::NotConnected`] before all groups were read once;
/// [`CommandError::GroupNotFound`], [`CommandError::NotCommunity`].
pub struct ReadKnownCommunity {
    /// The community.
    pub community: GroupId,
}

impl Command for ReadCommunity {
    type Output = Community;

    fn kind(&self) -> CommandKind {
        CommandKind::Query
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<Community>, CommandError> {
        let Self { community } = self;
        session.check_ready()?;
        let known = known_community(session.cache, &session.me, &community)?;
        let context = session.admit(Cost::Query, Some(&community))?;
        Ok(context.run(move |context| async move {
            let groups = context.question("Reading the community", context.engine.community_groups(&community)).await;
            groups.map(|groups| Community { groups: merged(groups, known.groups), ..known }).into()
        }))
    }
}

impl Command for ReadKnownCommunity {
    type Output = Aged<Community>;

    fn kind(&self) -> CommandKind {
        CommandKind::Lookup
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<Self::Output>, CommandError> {
        let stale_for = session.stale_for.clone()?;
        let value = known_community(session.cache, &session.me, &self.community)?;
        Ok(Started::answered(Aged { value, stale_for }))
    }
}

/// Refuses a group that is no community, and a session that is not ready.
pub(super) fn check_community(session: &SessionAccess<'_>, id: &GroupId) -> Result<(), CommandError> {
    session.check_ready()?;
    cached_community(session.cache, id).map(drop)
}

fn cached_community<'a>(cache: &'a GroupCache, id: &GroupId) -> Result<Cow<'a, GroupRecord>, CommandError> {
    let record = cache.record(id).ok_or_else(|| CommandError::GroupNotFound(id.clone()))?;
    if record.is_community { Ok(record) } else { Err(CommandError::NotCommunity(id.clone())) }
}

/// A community with those of its groups that this account is in.
pub(crate) fn known_community(
    cache: &GroupCache,
    me: &ParticipantIds,
    id: &GroupId,
) -> Result<Community, CommandError> {
    let record = cached_community(cache, id)?;
    Ok(Community {
        id: record.id.clone(),
        name: record.subject.clone(),
        description: record.description.clone(),
        owner: record.owner.and_then(|owner| owner.id()),
        created_at: record.created_at,
        participants_count: u32::try_from(record.members.len()).unwrap_or(u32::MAX),
        is_admin: to_summary(&record, me).is_admin,
        incomplete: !record.completeness.is_whole(),
        groups: groups_of(cache, id),
    })
}

/// The groups of a community that this account is in, ordered by id.
fn groups_of(cache: &GroupCache, community: &GroupId) -> Vec<CommunityGroup> {
    let records = cache.ids().filter_map(|id| cache.record(id));
    let linked = records.filter(|record| record.linked_parent.as_ref() == Some(community));
    let group = |record: Cow<'_, GroupRecord>| CommunityGroup {
        id: record.id.clone(),
        name: record.subject.clone(),
        participants_count: u32::try_from(record.members.len()).ok(),
        is_announcement_group: record.community_role == CommunityRole::Announcements,
        is_general_chat: record.community_role == CommunityRole::GeneralChat,
        is_member: true,
    };
    linked.map(group).collect()
}

/// Merges WhatsApp's list with this account's own groups. The own data is better, and WhatsApp may have left groups
/// out.
fn merged(theirs: Vec<CommunityGroup>, mine: Vec<CommunityGroup>) -> Vec<CommunityGroup> {
    let mut groups = mine;
    for group in theirs {
        if !groups.iter().any(|known| known.id == group.id) {
            groups.push(group);
        }
    }
    groups.sort_by(|one, other| one.id.cmp(&other.id));
    groups
}
