//! Making groups and communities, and finding one whose making WhatsApp did not confirm.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

use super::outcome::{self, Asked};
use super::pacing::Cost;
use super::participants::{invite, targets};
use super::work::{GroupChange, Look, Outcome, Work};
use super::{Permit, Reply, SessionMsg, SessionState};
use crate::engine::{NewGroup, NewGroupPlace, ParticipantAnswer};
use crate::error::CommandError;
use crate::group_cache::{GroupRecord, Role, Sequence};
use crate::model::{CreatedGroup, GroupId, NewCommunity, ParticipantChange, ParticipantId, ResultCode};

/// Keys of groups that were made lately, as notifications tell them: as many creates as may be in flight.
const CREATED_KEYS_MAX: usize = 64;

/// A group to be made, as a caller wants it.
pub(crate) struct GroupWish {
    pub(crate) name: String,
    pub(crate) participants: Vec<ParticipantId>,
    /// The community that it is to be part of.
    pub(crate) community: Option<GroupId>,
    /// Those who may only be invited are sent WhatsApp's private invitation.
    pub(crate) invite_fallback: bool,
}

/// A group that is being made: how it can be found if WhatsApp does not say.
pub(crate) struct Creation {
    /// Comes back in the notification about it.
    key: String,
    name: String,
    /// The groups that there were before.
    known: BTreeSet<GroupId>,
    asked: Sequence,
}

/// Groups that were made lately, by the key of the request.
#[derive(Default)]
pub(super) struct Created(VecDeque<(String, GroupId)>);

impl Created {
    /// A notification named the group that a request of ours made.
    pub(super) fn note(&mut self, key: String, group: GroupId) {
        if self.0.len() >= CREATED_KEYS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((key, group));
    }

    fn by_key(&self, key: &str) -> Option<&GroupId> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, group)| group)
    }

    /// Whether another request made this group.
    fn is_of_another(&self, group: &GroupId, key: &str) -> bool {
        self.0.iter().any(|(known, made)| made == group && known != key)
    }
}

impl SessionState {
    pub(super) fn create_group(&mut self, wish: GroupWish, permit: Permit, reply: Reply<CreatedGroup>) {
        let Some((work, reply)) = self.begin(Cost::Create, wish.community.as_ref(), permit, reply) else { return };
        let (creation, me) = (self.creation(&wish.name), self.record.me());
        let targets = targets(None, ParticipantChange::Add, &wish.participants);
        tokio::spawn(async move {
            let new = NewGroup {
                subject: wish.name.clone(),
                participants: targets.iter().map(|target| target.send_as).collect(),
                key: creation.key.clone(),
                place: wish.community.map_or(NewGroupPlace::Alone, NewGroupPlace::In),
            };
            let (record, answers) = match make(&work, "Creating the group", new, &creation).await {
                Ok(made) => made,
                Err(error) => return work.finish(None, reply, Err(error)),
            };
            let (mut results, _) = outcome::results(Asked::Change(ParticipantChange::Add), &targets, &answers);
            if results.iter().any(|result| result.code == ResultCode::RateLimited) {
                work.slow_down(None);
            }
            // The group is shown before people are invited to it: that may take a while.
            let answer = record.to_summary(&me);
            let told = work.tell(GroupChange::Created { record: Box::new(record), asked: creation.asked });
            if wish.invite_fallback {
                invite(&work, &answer.id, &answer.name, &targets, &answers, &mut results).await;
            }
            let created = CreatedGroup { summary: answer, results };
            work.finish(None, reply, if told { Ok(created) } else { Err(CommandError::OutcomeUnknown) });
        });
    }

    /// Makes a community and gives its id, once all groups that came with it are in the cache.
    pub(super) fn create_community(&mut self, new: NewCommunity, permit: Permit, reply: Reply<GroupId>) {
        let Some((work, reply)) = self.begin(Cost::Create, None, permit, reply) else { return };
        let creation = self.creation(&new.name);
        tokio::spawn(async move {
            let group = NewGroup {
                subject: new.name.clone(),
                participants: Vec::new(),
                key: creation.key.clone(),
                place: NewGroupPlace::Community(Box::new(new.clone())),
            };
            let answer = match make(&work, "Creating the community", group, &creation).await {
                Ok((record, _)) => {
                    let id = record.id.clone();
                    work.tell(GroupChange::Created { record: Box::new(record), asked: creation.asked });
                    // WhatsApp makes the announcement group beside it, and the general chat.
                    let _ = tokio::time::timeout_at(work.end(), work.ask_actor(|reply| SessionMsg::ReadAll { reply }))
                        .await;
                    Ok(id)
                }
                Err(error) => Err(error),
            };
            work.finish(None, reply, answer);
        });
    }

    /// Remembers how things are before a group is made.
    fn creation(&self, name: &str) -> Arc<Creation> {
        Arc::new(Creation {
            // 32 hex digits, as WhatsApp Web's.
            key: Uuid::new_v4().simple().to_string().to_uppercase(),
            name: name.to_owned(),
            known: self.cache.ids().cloned().collect(),
            asked: self.cache.sequence(),
        })
    }

    /// The group that a request made, as far as the cache knows.
    pub(super) fn find_created(&mut self, creation: &Creation) -> Option<Box<GroupRecord>> {
        let me = self.record.me();
        let by_key = self.created.by_key(&creation.key).cloned();
        let found = by_key.or_else(|| {
            let fits = |id: &GroupId| {
                let record = self.cache.record(id)?;
                let mine = record.owner.is_some_and(|owner| owner.is(&me)) && record.subject == creation.name;
                (mine && !creation.known.contains(id) && !self.created.is_of_another(id, &creation.key)).then_some(())
            };
            self.cache.ids().find(|id| fits(id).is_some()).cloned()
        })?;
        self.created.note(creation.key.clone(), found.clone());
        self.cache.record(&found).map(|record| Box::new(record.into_owned()))
    }
}

/// Has a group made, and looks for it when WhatsApp does not answer. Everybody who is in it was added.
async fn make(
    work: &Work,
    what: &'static str,
    new: NewGroup,
    creation: &Arc<Creation>,
) -> Result<(GroupRecord, Vec<ParticipantAnswer>), CommandError> {
    let look = || async {
        let find = work.ask_actor(|reply| SessionMsg::FindCreated { creation: creation.clone(), reply });
        match find.await {
            Ok(Some(record)) => Look::Applied((*record, Vec::new())),
            Ok(None) => Look::NotApplied,
            Err(_) => Look::NotYet,
        }
    };
    let Outcome { result, read_back } = work.carry_out(what, work.engine.create_group(new), look).await;
    let (record, mut answers) = result?;
    let added = record.members.iter().filter(|member| !read_back || member.role != Role::SuperAdmin);
    answers.extend(added.map(|member| ParticipantAnswer { person: member.person, error: None, invitation: None }));
    Ok((record, answers))
}
