//! Making groups and communities, and finding one whose making WhatsApp did not confirm.

use crate::group_cache::to_summary;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Weak};

use uuid::Uuid;

use super::command_context::{CommandContext, GroupChange, Outcome, Reconciliation};
use super::communities::read_all;
use super::participant_results::{self, Target, Verdict, addressed, look_up_unanswered, targets};
use super::rate_limiter::Cost;
use super::whatsapp_codes::{Asked, NOT_SAID};
use super::{Permit, Reply, SessionMsg, SessionState};
use crate::error::CommandError;
use crate::group_cache::Sequence;
use rookery_engine::{NewGroup, NewGroupPlace, ParticipantAnswer, PreviousDescription};
use rookery_model::{Community, CreatedGroup, GroupId, NewCommunity, ParticipantChange, ParticipantId, ResultCode};
use rookery_model::{CommunityRole, GroupRecord, ParticipantIds, Role};

/// Keys of groups that were made lately, as notifications tell them: as many creates as may be in flight.
const CREATED_KEYS_MAX: usize = 64;

/// A group to be made, as a caller wants it.
pub(crate) struct CreateGroup {
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
    is_community: bool,
    /// The community that it is part of.
    community: Option<GroupId>,
    /// The groups that there were before.
    known: BTreeSet<GroupId>,
    asked: Sequence,
}

/// What became of a group that may have been made, as far as the cache knows.
pub(crate) enum Found {
    /// This is it.
    Made(Box<GroupRecord>),
    /// There is none.
    Nothing,
    /// It could be one of several requests that made what there is.
    Unclear,
}

/// Groups that were made lately, by the key of the request, and requests that are under way.
#[derive(Default)]
pub(super) struct Created {
    by_key: VecDeque<(String, GroupId)>,
    under_way: Vec<Weak<Creation>>,
}

impl Created {
    /// A notification or an answer named the group that a request of ours made.
    pub(super) fn note(&mut self, key: &str, group: &GroupId) {
        self.by_key.retain(|(known, _)| known != key);
        if self.by_key.len() >= CREATED_KEYS_MAX {
            self.by_key.pop_front();
        }
        self.by_key.push_back((key.to_owned(), group.clone()));
    }

    fn begin(&mut self, creation: &Arc<Creation>) {
        self.under_way.retain(|known| known.strong_count() > 0);
        self.under_way.push(Arc::downgrade(creation));
    }

    fn by_key(&self, key: &str) -> Option<&GroupId> {
        self.by_key.iter().find(|(known, _)| known == key).map(|(_, group)| group)
    }

    fn is_made(&self, group: &GroupId) -> bool {
        self.by_key.iter().any(|(_, made)| made == group)
    }

    /// Requests like this one, itself included, of which nobody knows yet what they made.
    fn open_like(&self, creation: &Creation) -> usize {
        let open = self.under_way.iter().filter_map(Weak::upgrade);
        open.filter(|other| other.name == creation.name && self.by_key(&other.key).is_none()).count()
    }
}

impl SessionState {
    pub(super) fn create_group(&mut self, wish: CreateGroup, permit: Permit, reply: Reply<CreatedGroup>) {
        let targets = targets(None, ParticipantChange::Add, &wish.participants);
        if let Err(error) = self.refuse_oneself(ParticipantChange::Add, &targets) {
            return drop(reply.send(Err(error)));
        }
        let cost = Cost::Create { people: u32::try_from(targets.len()).unwrap_or(u32::MAX) };
        let Some((work, reply)) = self.begin(cost, wish.community.as_ref(), permit, reply) else { return };
        let (creation, me) = (self.creation(&wish.name, false, wish.community.clone()), self.record.me());
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
            let mut people = addressed(&targets, &answers, Some(&record));
            let verdict = |target: &Target, now: &GroupRecord| match now.member(&target.person) {
                Some(_) => Verdict::Done,
                None => Verdict::Not(NOT_SAID),
            };
            look_up_unanswered(&work, &record.id, None, &mut people, verdict).await;
            // The group is made, whatever is known about its people.
            let mut results = participant_results::results_of(Asked::Change(ParticipantChange::Add), &people);
            if results.iter().any(|result| result.code == ResultCode::RateLimited) {
                work.slow_down();
            }
            // The group is shown before people are invited to it: that may take a while.
            let answer = to_summary(&record, &me);
            let told = work.tell(creation.made(record));
            if wish.invite_fallback {
                participant_results::invite(&work, &answer.id, &answer.name, &people, &mut results).await;
            }
            let created = CreatedGroup { summary: answer, results };
            work.finish(None, reply, if told { Ok(created) } else { Err(CommandError::OutcomeUnknown) });
        });
    }

    /// Makes a community and gives it as the cache has it, once all groups that came with it are there.
    pub(super) fn create_community(&mut self, new: NewCommunity, permit: Permit, reply: Reply<Community>) {
        let Some((work, reply)) = self.begin(Cost::Create { people: 0 }, None, permit, reply) else { return };
        let creation = self.creation(&new.name, true, None);
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
                    let described = new.description.is_none() || record.description == new.description;
                    let previous = PreviousDescription::Known(record.description_id.clone());
                    work.tell(creation.made(record));
                    if !described {
                        // Not every server takes it with the request. What the community shows then is what is true.
                        let set = work.engine.set_description(&id, new.description.as_deref(), &previous);
                        let _ = work.ask("Changing the description", set).await;
                    }
                    // WhatsApp makes the announcement group beside it, and the general chat.
                    if !read_all(&work).await {
                        work.tell(GroupChange::Doubtful { group: id.clone() });
                    }
                    // It is there: an actor that cannot say how it looks leaves that open, and nothing else.
                    let community = work.ask_actor(|reply| SessionMsg::KnownCommunity { community: id, reply }).await;
                    community.map_err(|_| CommandError::OutcomeUnknown)
                }
                Err(error) => Err(error),
            };
            work.finish(None, reply, answer);
        });
    }

    /// Remembers how things are before a group is made.
    fn creation(&mut self, name: &str, is_community: bool, community: Option<GroupId>) -> Arc<Creation> {
        let creation = Arc::new(Creation {
            // 32 hex digits, as WhatsApp Web's.
            key: Uuid::new_v4().simple().to_string().to_uppercase(),
            name: name.to_owned(),
            is_community,
            community,
            known: self.cache.ids().cloned().collect(),
            asked: self.cache.sequence(),
        });
        self.created.begin(&creation);
        creation
    }

    /// The group that a request made, as far as the cache knows. Without its key it is one of ours that looks like it and
    /// was not there before; requests that look the same are told apart only when there is a group for each.
    pub(super) fn find_created(&mut self, creation: &Creation) -> Found {
        let found = match self.created.by_key(&creation.key) {
            Some(group) => group.clone(),
            None => {
                let me = self.record.me();
                let fits = |id: &&GroupId| {
                    let fresh = !creation.known.contains(*id) && !self.created.is_made(id);
                    fresh && self.cache.record(id).is_some_and(|record| creation.fits(&record, &me))
                };
                let fitting: Vec<&GroupId> = self.cache.ids().filter(fits).collect();
                match fitting.first() {
                    None => return Found::Nothing,
                    Some(_) if fitting.len() < self.created.open_like(creation) => return Found::Unclear,
                    Some(first) => (*first).clone(),
                }
            }
        };
        self.created.note(&creation.key, &found);
        let record = self.cache.record(&found).map(|record| Box::new(record.into_owned()));
        record.map_or(Found::Nothing, Found::Made)
    }
}

impl Creation {
    fn fits(&self, record: &GroupRecord, me: &ParticipantIds) -> bool {
        record.owner.is_some_and(|owner| owner.is(me))
            && record.subject == self.name
            && record.is_community == self.is_community
            && record.linked_parent == self.community
            && record.community_role == CommunityRole::Plain
    }

    /// What the group that was made means for the cache.
    fn made(&self, record: GroupRecord) -> GroupChange {
        GroupChange::Created { record: Box::new(record), key: self.key.clone(), asked: self.asked }
    }
}

/// Has a group made, and looks for it when WhatsApp does not answer. Everybody who is in it was added.
async fn make(
    work: &CommandContext,
    what: &'static str,
    new: NewGroup,
    creation: &Arc<Creation>,
) -> Result<(GroupRecord, Vec<ParticipantAnswer>), CommandError> {
    let look = || async {
        let find = work.ask_actor(|reply| SessionMsg::FindCreated { creation: creation.clone(), reply });
        match find.await {
            Ok(Found::Made(record)) => Reconciliation::Applied((*record, Vec::new())),
            Ok(Found::Nothing) => Reconciliation::NotApplied,
            // The notification about one of them may come yet.
            Ok(Found::Unclear) => Reconciliation::NotYet,
            Err(error) => Reconciliation::because(&error),
        }
    };
    let Outcome { result, read_back } = work.carry_out(what, work.engine.create_group(new), look).await;
    let (record, mut answers) = result.map_err(|error| match error {
        CommandError::Unanswered | CommandError::Refused { code: 500.., .. } => CommandError::NotMade,
        error => error,
    })?;
    let added = record.members.iter().filter(|member| !read_back || member.role != Role::SuperAdmin);
    answers.extend(added.map(|member| ParticipantAnswer {
        person: member.person,
        error: None,
        invitation: None,
        is_seen: read_back,
    }));
    Ok((record, answers))
}
