//! Whether a key may touch the groups that a call reaches beyond the group in its path: the other groups of a
//! community. Handlers ask before they act. A key without a limit to groups may, and WhatsApp is not asked.

use rookery_actors::commands::{ListGroups, ReadCommunity, Source};
use rookery_model::{Community, GroupId, SessionId};

use crate::app::App;
use crate::auth::Refusal;
use crate::http::error::{AccessError, ApiError};
use crate::http::request::caller::Caller;

/// Whether the key may touch all groups that change when somebody leaves this group or is removed from it: leaving a
/// community, or its announcement group, means leaving every group that is linked to it. Returns those groups: none for
/// a group outside of communities, or for a key without such a limit. Asks WhatsApp, as only it knows the groups that
/// this account is not in.
///
/// # Errors
/// [`AccessError::CommunityNotAllowed`]; why the community cannot be read.
pub(crate) async fn may_touch_linked(
    app: &App,
    caller: &Caller,
    session: SessionId,
    group: &GroupId,
) -> Result<Vec<GroupId>, ApiError> {
    let Some(id) = limiting_community(app, caller, session, group).await? else { return Ok(Vec::new()) };
    let community = app.gateway.execute(session, ReadCommunity { community: id }).await?;
    if community.id != *group && !announcements(&community).any(|announcements| announcements == group) {
        return Ok(Vec::new());
    }
    let groups = every_group(&community);
    allowed(app, caller, &groups, AccessError::CommunityNotAllowed)?;
    Ok(groups)
}

/// Whether the key may touch all groups that change when participants are added to this group: in a community, they
/// also get into the community and its announcement group.
///
/// # Errors
/// [`AccessError::AnnouncementsNotAllowed`]; why the community cannot be read.
pub(crate) async fn may_add_to(
    app: &App,
    caller: &Caller,
    session: SessionId,
    group: &GroupId,
) -> Result<(), ApiError> {
    match limiting_community(app, caller, session, group).await? {
        Some(community) => may_add_to_community(app, caller, session, &community).await,
        None => Ok(()),
    }
}

/// As [`may_add_to`], for a community.
pub(crate) async fn may_add_to_community(
    app: &App,
    caller: &Caller,
    session: SessionId,
    community: &GroupId,
) -> Result<(), ApiError> {
    let reached = |community: &Community| announcements(community).chain([&community.id]).cloned().collect();
    may_reach(app, caller, session, community, reached, AccessError::AnnouncementsNotAllowed).await
}

/// Whether the key may touch a community as a whole.
pub(crate) async fn may_touch_community(
    app: &App,
    caller: &Caller,
    session: SessionId,
    community: &GroupId,
) -> Result<(), ApiError> {
    may_reach(app, caller, session, community, every_group, AccessError::CommunityNotAllowed).await
}

/// Whether the key may touch the groups that `reached` returns. A key without a limit to groups may, and WhatsApp is
/// not asked.
async fn may_reach(
    app: &App,
    caller: &Caller,
    session: SessionId,
    community: &GroupId,
    reached: impl FnOnce(&Community) -> Vec<GroupId>,
    otherwise: AccessError,
) -> Result<(), ApiError> {
    if !caller.key.is_limited_to_groups() {
        return Ok(());
    }
    let community = app.gateway.execute(session, ReadCommunity { community: community.clone() }).await?;
    allowed(app, caller, &reached(&community), otherwise)
}

/// The community that a group is or belongs to; `None` when there is none, and for a key without a limit to groups.
async fn limiting_community(
    app: &App,
    caller: &Caller,
    session: SessionId,
    group: &GroupId,
) -> Result<Option<GroupId>, ApiError> {
    if !caller.key.is_limited_to_groups() {
        return Ok(None);
    }
    let groups = app.gateway.execute(session, ListGroups { source: Source::Cache }).await?.value;
    let known = groups.iter().find(|known| known.id == *group);
    Ok(known.and_then(|known| if known.is_community { Some(group.clone()) } else { known.linked_parent_jid.clone() }))
}

/// The community itself and every group in it.
fn every_group(community: &Community) -> Vec<GroupId> {
    community.groups.iter().map(|group| &group.id).chain([&community.id]).cloned().collect()
}

fn announcements(community: &Community) -> impl Iterator<Item = &GroupId> {
    community.groups.iter().filter(|group| group.is_announcement_group).map(|group| &group.id)
}

/// Whether the key as it is now is allowed all of these groups: it may have changed while WhatsApp was asked.
fn allowed(app: &App, caller: &Caller, groups: &[GroupId], otherwise: AccessError) -> Result<(), ApiError> {
    let key = app.keys.get(caller.key.id()).map_err(|_| AccessError::KeyRefused(Refusal::Invalid))?;
    if groups.iter().all(|group| key.allows_group(group)) { Ok(()) } else { Err(otherwise.into()) }
}
