//! Communities: reading one with its groups, linking and unlinking groups, ending one. Making one is in `creation.rs`.

use crate::group_cache::to_summary;
use std::borrow::Cow;

use tokio::time::timeout_at;

use super::command_context::{CommandContext, GroupChange, Reconciliation};
use super::rate_limiter::Cost;
use super::refresh::GroupRead;
use super::whatsapp_codes::{self, is_doubtful};
use super::{Permit, Reply, SessionMsg, SessionState};
use crate::error::CommandError;
use rookery_engine::LinkAnswer;
use rookery_model::{Aged, Community, CommunityGroup, GroupId, LinkResult};
use rookery_model::{CommunityRole, GroupRecord};

/// What is to become of groups and a community.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Linking {
    /// They become part of it.
    Link,
    /// They are part of it no longer. With `remove_orphans`, people who are in no other group of it leave it too.
    Unlink {
        /// Whether people without another group of the community leave it.
        remove_orphans: bool,
    },
}

impl SessionState {
    /// A community of a session that is ready, by what the cache holds, or why it is none.
    fn community(&self, id: &GroupId) -> Result<Cow<'_, GroupRecord>, CommandError> {
        self.ready_engine()?;
        self.cached_community(id)
    }

    fn cached_community(&self, id: &GroupId) -> Result<Cow<'_, GroupRecord>, CommandError> {
        let record = self.cache.record(id).ok_or_else(|| CommandError::GroupNotFound(id.clone()))?;
        if record.is_community { Ok(record) } else { Err(CommandError::NotCommunity(id.clone())) }
    }

    /// A community with its groups. Only WhatsApp knows those that this account is not in.
    pub(super) fn read_community(&mut self, id: GroupId, permit: Permit, reply: Reply<Community>) {
        let known = match self.ready_engine().and_then(|_| self.known_community(&id)) {
            Ok(known) => known,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let Some((work, reply)) = self.begin(Cost::Query, Some(&id), permit, reply) else { return };
        tokio::spawn(async move {
            let groups = work.question("Reading the community", work.engine.community_groups(&id)).await;
            let answer = groups.map(|groups| Community { groups: merged(groups, known.groups), ..known });
            work.finish(None, reply, answer);
        });
    }

    /// A community with those of its groups that this account is in.
    pub(super) fn known_community(&self, id: &GroupId) -> Result<Community, CommandError> {
        let record = self.cached_community(id)?;
        Ok(Community {
            id: record.id.clone(),
            name: record.subject.clone(),
            description: record.description.clone(),
            owner: record.owner.and_then(|owner| owner.id()),
            created_at: record.created_at,
            participants_count: u32::try_from(record.members.len()).unwrap_or(u32::MAX),
            is_admin: to_summary(&record, &self.record.me()).is_admin,
            incomplete: !record.completeness.is_whole(),
            groups: self.groups_of(id),
        })
    }

    /// The same, also while the session is not ready, and how old it is then.
    pub(super) fn known_community_aged(&self, id: &GroupId) -> Result<Aged<Community>, CommandError> {
        let stale_for = self.stale_for()?;
        Ok(Aged { value: self.known_community(id)?, stale_for })
    }

    /// The groups of a community that this account is in, ordered by id.
    fn groups_of(&self, community: &GroupId) -> Vec<CommunityGroup> {
        let records = self.cache.ids().filter_map(|id| self.cache.record(id));
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

    pub(super) fn link_groups(
        &mut self,
        community: GroupId,
        groups: Vec<GroupId>,
        linking: Linking,
        permit: Permit,
        reply: Reply<Vec<LinkResult>>,
    ) {
        let checked = match self.community(&community) {
            Ok(_) if groups.contains(&community) => {
                Err(CommandError::Invalid(format!("groups names {community}, the community itself")))
            }
            checked => checked.map(drop),
        };
        if let Err(error) = checked {
            return drop(reply.send(Err(error)));
        }
        let Some((work, reply)) = self.begin(Cost::Write, Some(&community), permit, reply) else { return };
        tokio::spawn(async move {
            let look = || looked_at(&work, &community, &groups, linking);
            let outcome = match linking {
                Linking::Link => {
                    let call = work.engine.link_groups(&community, &groups);
                    work.carry_out("Linking groups", call, look).await
                }
                Linking::Unlink { remove_orphans } => {
                    let call = work.engine.unlink_groups(&community, &groups, remove_orphans);
                    work.carry_out("Unlinking groups", call, look).await
                }
            };
            // A link changes both sides, and with orphans also who is where.
            let read = outcome.result.is_err() || read_all(&work).await;
            let answer = outcome.result.map(|answers| whatsapp_codes::link_results(linking, &groups, &answers));
            if !read || answer.as_ref().err().is_some_and(is_doubtful) {
                for group in groups {
                    work.tell(GroupChange::Doubtful { group });
                }
            }
            work.finish(None, reply, answer);
        });
    }

    pub(super) fn deactivate_community(&mut self, community: GroupId, permit: Permit, reply: Reply<()>) {
        if let Err(error) = self.community(&community) {
            return drop(reply.send(Err(error)));
        }
        let Some((work, reply)) = self.begin(Cost::Write, Some(&community), permit, reply) else { return };
        tokio::spawn(async move {
            let judge = |read: &GroupRead| match &read.record {
                Some(record) if record.is_community => Reconciliation::NotApplied,
                _ => Reconciliation::Applied(()),
            };
            let look = || work.look_at(&community, None, judge);
            let call = work.engine.deactivate_community(&community);
            let answer = work.carry_out("Deactivating the community", call, look).await.result;
            let doubtful = match &answer {
                Ok(()) => !read_all(&work).await,
                Err(error) => is_doubtful(error),
            };
            work.finish(doubtful.then_some(GroupChange::Doubtful { group: community }), reply, answer);
        });
    }
}

/// Has all groups read, so that the next look shows what was done (G-2); false when that was not possible in time.
pub(super) async fn read_all(work: &CommandContext) -> bool {
    matches!(timeout_at(work.end(), work.ask_actor(|reply| SessionMsg::ReadAll { reply })).await, Ok(Ok(())))
}

/// Where the groups are after a link or unlink that WhatsApp did not answer. The community's own list also has those that
/// this account is not in.
async fn looked_at(
    work: &CommandContext,
    community: &GroupId,
    groups: &[GroupId],
    linking: Linking,
) -> Reconciliation<Vec<LinkAnswer>> {
    let linked = match work.look_up(work.engine.community_groups(community)).await {
        Ok(linked) => linked,
        Err(look) => return look,
    };
    let answer = |group: &GroupId| {
        let is_linked = linked.iter().any(|linked| linked.id == *group);
        let done = is_linked == (linking == Linking::Link);
        LinkAnswer { group: group.clone(), error: (!done).then_some(whatsapp_codes::NOT_SAID) }
    };
    let answers: Vec<LinkAnswer> = groups.iter().map(answer).collect();
    if answers.iter().any(|answer| answer.error.is_none()) {
        Reconciliation::Applied(answers)
    } else {
        Reconciliation::NotApplied
    }
}

/// WhatsApp's list, with what this account knows better of its own groups; and those that WhatsApp left out.
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
