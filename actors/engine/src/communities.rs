//! Communities at WhatsApp: their groups, linking and unlinking, deactivation.

use whatsapp_rust::CommunityError;

use super::{Engine, EngineError, ids};
use rookery_model::{CommunityGroup, GroupId};

/// WhatsApp's answer about one group to be linked or unlinked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkAnswer {
    /// The group.
    pub group: GroupId,
    /// WhatsApp's status code; `None` when it did what was asked.
    pub error: Option<u16>,
}

impl Engine {
    /// The groups of a community, ordered by id. `is_member` is false: the caller sets it from the account's groups.
    pub async fn community_groups(&self, community: &GroupId) -> Result<Vec<CommunityGroup>, EngineError> {
        let groups = self.client.community().get_subgroups(&ids::group_jid(community)).await?;
        let group = |group: whatsapp_rust::CommunitySubgroup| {
            Some(CommunityGroup {
                id: ids::group_id(&group.id)?,
                name: group.subject,
                participants_count: group.participant_count,
                is_announcement_group: group.is_default_sub_group,
                is_general_chat: group.is_general_chat,
                is_member: false,
            })
        };
        let mut groups: Vec<CommunityGroup> = groups.into_iter().filter_map(group).collect();
        groups.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(groups)
    }

    /// Makes groups part of a community.
    pub async fn link_groups(&self, community: &GroupId, groups: &[GroupId]) -> Result<Vec<LinkAnswer>, EngineError> {
        let jids: Vec<_> = groups.iter().map(ids::group_jid).collect();
        let answer = self.client.community().link_subgroups(ids::group_jid(community), &jids).await?;
        Ok(answers(&answer.linked_jids, &answer.failed_groups))
    }

    /// Takes groups out of a community. `remove_orphans`: people who are in no other group of it leave it too.
    pub async fn unlink_groups(
        &self,
        community: &GroupId,
        groups: &[GroupId],
        remove_orphans: bool,
    ) -> Result<Vec<LinkAnswer>, EngineError> {
        let jids: Vec<_> = groups.iter().map(ids::group_jid).collect();
        let (communities, community) = (self.client.community(), ids::group_jid(community));
        let answer = communities.unlink_subgroups(community, &jids, remove_orphans).await?;
        Ok(answers(&answer.unlinked_jids, &answer.failed_groups))
    }

    /// Ends a community; its groups go on without it.
    pub async fn deactivate_community(&self, community: &GroupId) -> Result<(), EngineError> {
        Ok(self.client.community().deactivate(ids::group_jid(community)).await?)
    }
}

fn answers(done: &[wacore_binary::Jid], failed: &[(wacore_binary::Jid, u32)]) -> Vec<LinkAnswer> {
    let done = done.iter().map(|jid| (jid, None));
    let failed = failed.iter().map(|(jid, code)| (jid, Some(u16::try_from(*code).unwrap_or(u16::MAX))));
    let answer = |(jid, error)| Some(LinkAnswer { group: ids::group_id(jid)?, error });
    done.chain(failed).filter_map(answer).collect()
}

impl From<CommunityError> for EngineError {
    fn from(error: CommunityError) -> Self {
        match error {
            CommunityError::Iq(error) => error.into(),
            CommunityError::Mex(error) => error.into(),
            CommunityError::Group(error) => error.into(),
            CommunityError::InvalidRequest(reason) => Self::Invalid(reason),
            _ => Self::Unreadable,
        }
    }
}
