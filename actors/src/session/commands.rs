//! Group writes. Each runs in a task of its own with a permit and the reply: the engine call under a time limit, then
//! the change to the actor, then the answer to the caller (G-2).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use tokio::time::timeout;
use uuid::Uuid;

use super::outcome::{self, Target, is_doubtful, write_error};
use super::{Generation, Permit, Reply, SessionMsg, SessionState};
use crate::engine::{Engine, EngineError, PreviousDescription};
use crate::error::CommandError;
use crate::group_cache::{GroupRecord, OwnChange, Person, Sequence, WriteId};
use crate::model::{CreatedGroup, GroupId, ParticipantChange, ParticipantId, ParticipantResult};

/// WhatsApp's notification about our own write comes within milliseconds; after this long the group is read instead.
const ECHO_TIMEOUT: Duration = Duration::from_secs(5);

/// What a write means for the cache.
pub(crate) enum GroupChange {
    /// Carried out, perhaps in part; `None` when nothing changed.
    Confirmed { group: GroupId, write: WriteId, done: Option<OwnChange> },
    /// Refused; `unknown` when the cached group is in doubt after it.
    Dropped { group: GroupId, write: WriteId, unknown: bool },
    /// A new group.
    Created { record: Box<GroupRecord>, asked: Sequence },
    /// The account is not in the group any longer.
    Left { group: GroupId },
    /// Nobody knows whether the account left.
    Doubtful { group: GroupId },
}

/// What a write's task needs from the actor.
struct Work {
    engine: Arc<Engine>,
    myself: ActorRef<SessionMsg>,
    generation: Generation,
    timeout: Duration,
}

impl Work {
    /// Waits for WhatsApp's answer, for its time.
    async fn ask<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, CommandError> {
        match timeout(self.timeout, call).await {
            Ok(answer) => answer.map_err(|error| write_error(what, error)),
            Err(_) => Err(CommandError::OutcomeUnknown),
        }
    }

    /// Tells the actor first, then the caller. An actor that is gone reads all groups before it is ready again (K-3):
    /// nothing is lost, but what it will show then is not ours to promise.
    fn finish<T>(&self, change: Option<GroupChange>, reply: Reply<T>, answer: Result<T, CommandError>) {
        let tell = |change| SessionMsg::GroupChanged { generation: self.generation, change };
        let told = change.is_none_or(|change| self.myself.send_message(tell(change)).is_ok());
        let _ = reply.send(if told { answer } else { answer.and(Err(CommandError::OutcomeUnknown)) });
    }
}

impl SessionState {
    /// What a write needs, or the refusal that was sent in its place.
    fn begin<T>(&self, group: Option<&GroupId>, reply: Reply<T>) -> Option<(Work, Reply<T>)> {
        let engine = match self.ready_engine() {
            Ok(engine) => engine,
            Err(error) => {
                let _ = reply.send(Err(error));
                return None;
            }
        };
        if let Some(group) = group.filter(|group| self.cache.record(group).is_none()) {
            let _ = reply.send(Err(CommandError::GroupNotFound(group.clone())));
            return None;
        }
        let timeout = self.context.settings.whatsapp_timeout;
        Some((Work { engine, myself: self.myself.clone(), generation: self.engine.generation, timeout }, reply))
    }

    pub(super) fn create_group(
        &mut self,
        name: String,
        participants: Vec<ParticipantId>,
        permit: Permit,
        reply: Reply<CreatedGroup>,
    ) {
        let Some((work, reply)) = self.begin(None, reply) else { return };
        let (asked, me) = (self.cache.sequence(), self.record.me());
        let targets = targets(None, ParticipantChange::Add, &participants);
        tokio::spawn(async move {
            let people: Vec<ParticipantId> = targets.iter().map(|target| target.send_as).collect();
            // Comes back in the notification about the group: 32 hex digits, as WhatsApp Web's.
            let key = Uuid::new_v4().simple().to_string().to_uppercase();
            let created = work.ask("Creating the group", work.engine.create_group(name, &people, key)).await;
            match created {
                Ok((record, mut answers)) => {
                    answers.extend(record.members.iter().map(|member| crate::engine::ParticipantAnswer {
                        person: member.person,
                        error: None,
                        may_be_invited: false,
                    }));
                    let (results, _) = outcome::results(ParticipantChange::Add, &targets, &answers);
                    let answer = CreatedGroup { summary: record.to_summary(&me), results };
                    let change = GroupChange::Created { record: Box::new(record), asked };
                    work.finish(Some(change), reply, Ok(answer));
                }
                Err(error) => work.finish(None, reply, Err(error)),
            }
            drop(permit);
        });
    }

    pub(super) fn change_participants(
        &mut self,
        group: GroupId,
        change: ParticipantChange,
        participants: &[ParticipantId],
        permit: Permit,
        reply: Reply<Vec<ParticipantResult>>,
    ) {
        let Some((work, reply)) = self.begin(Some(&group), reply) else { return };
        let targets = targets(self.cache.record(&group).as_deref(), change, participants);
        let people: Vec<Person> = targets.iter().map(|target| target.person).collect();
        let write = self.cache.begin_write(&group, OwnChange::Participants(change, people));
        tokio::spawn(async move {
            let people: Vec<ParticipantId> = targets.iter().map(|target| target.send_as).collect();
            let answers = work.ask(what(change), work.engine.change_participants(&group, change, &people)).await;
            match answers {
                Ok(answers) => {
                    let (results, done) = outcome::results(change, &targets, &answers);
                    let done = (!done.is_empty()).then_some(OwnChange::Participants(change, done));
                    work.finish(Some(GroupChange::Confirmed { group, write, done }), reply, Ok(results));
                }
                Err(error) => {
                    let unknown = is_doubtful(&error);
                    work.finish(Some(GroupChange::Dropped { group, write, unknown }), reply, Err(error));
                }
            }
            drop(permit);
        });
    }

    pub(super) fn set_subject(&mut self, group: GroupId, subject: String, permit: Permit, reply: Reply<()>) {
        let Some((work, reply)) = self.begin(Some(&group), reply) else { return };
        let change = OwnChange::Subject(subject.clone());
        let write = self.cache.begin_write(&group, change.clone());
        tokio::spawn(async move {
            let answer = work.ask("Changing the subject", work.engine.set_subject(&group, &subject)).await;
            let told = told(group, write, change, &answer);
            work.finish(Some(told), reply, answer);
            drop(permit);
        });
    }

    pub(super) fn set_description(&mut self, group: GroupId, description: String, permit: Permit, reply: Reply<()>) {
        let Some((work, reply)) = self.begin(Some(&group), reply) else { return };
        let known = self.cache.record(&group).and_then(|record| record.description_id.clone());
        let text = Some(description).filter(|text| !text.is_empty());
        let change = OwnChange::Description(text.clone());
        let write = self.cache.begin_write(&group, change.clone());
        tokio::spawn(async move {
            const WHAT: &str = "Changing the description";
            let set = async |previous| work.engine.set_description(&group, text.as_deref(), &previous).await;
            let set_twice = async {
                match set(PreviousDescription::Known(known)).await {
                    Err(EngineError::DescriptionConflict) => set(PreviousDescription::Ask).await,
                    answer => answer,
                }
            };
            let answer = work.ask(WHAT, set_twice).await;
            let told = told(group, write, change, &answer);
            work.finish(Some(told), reply, answer);
            drop(permit);
        });
    }

    pub(super) fn invite_code(&mut self, group: GroupId, revoke: bool, permit: Permit, reply: Reply<String>) {
        let Some((work, reply)) = self.begin(Some(&group), reply) else { return };
        tokio::spawn(async move {
            let what = if revoke { "Revoking the invite code" } else { "Reading the invite code" };
            let answer = work.ask(what, work.engine.invite_code(&group, revoke)).await;
            let answer = match answer {
                Err(CommandError::OutcomeUnknown) if !revoke => Err(CommandError::Unanswered),
                answer => answer,
            };
            work.finish(None, reply, answer);
            drop(permit);
        });
    }

    pub(super) fn leave_group(&mut self, group: GroupId, permit: Permit, reply: Reply<()>) {
        let Some((work, reply)) = self.begin(Some(&group), reply) else { return };
        tokio::spawn(async move {
            let answer = work.ask("Leaving the group", work.engine.leave_group(&group)).await;
            let change = match &answer {
                Ok(()) => Some(GroupChange::Left { group }),
                Err(error) => is_doubtful(error).then_some(GroupChange::Doubtful { group }),
            };
            work.finish(change, reply, answer);
            drop(permit);
        });
    }

    /// A write is over: its change to the cache, before its caller is answered.
    pub(super) fn group_changed(&mut self, generation: Generation, change: GroupChange) {
        if generation != self.engine.generation {
            // Of an earlier start: all groups are read before this one is ready (K-3).
            return;
        }
        match change {
            GroupChange::Confirmed { group, write, done } => {
                self.cache.confirm_write(&group, write, done);
                let before = self.cache.sequence();
                self.myself.send_after(ECHO_TIMEOUT, move || SessionMsg::EchoesDue { before });
            }
            GroupChange::Dropped { group, write, unknown } => {
                self.cache.drop_write(&group, write, unknown);
                self.schedule_reads();
            }
            GroupChange::Created { record, asked } => self.cache.created(*record, asked),
            GroupChange::Left { group } => self.cache.left(&group),
            GroupChange::Doubtful { group } => {
                self.cache.mark_for_read(&group);
                self.schedule_reads();
            }
        }
    }

    pub(super) fn echoes_due(&mut self, before: Sequence) {
        self.cache.mark_unechoed(before);
        self.schedule_reads();
    }
}

/// What a field's write means for the cache.
fn told(group: GroupId, write: WriteId, change: OwnChange, answer: &Result<(), CommandError>) -> GroupChange {
    match answer {
        Ok(()) => GroupChange::Confirmed { group, write, done: Some(change) },
        Err(error) => GroupChange::Dropped { group, write, unknown: is_doubtful(error) },
    }
}

fn what(change: ParticipantChange) -> &'static str {
    match change {
        ParticipantChange::Add => "Adding participants",
        ParticipantChange::Remove => "Removing participants",
        ParticipantChange::Promote => "Promoting participants",
        ParticipantChange::Demote => "Demoting participants",
    }
}

/// The people of a request, each once. Of members, the id goes out that the group's list holds; new people go by
/// phone number.
fn targets(record: Option<&GroupRecord>, change: ParticipantChange, requested: &[ParticipantId]) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::with_capacity(requested.len());
    for id in requested {
        let mut person = Person::from(*id);
        let member = record.and_then(|record| record.member(&person));
        if let Some(member) = member {
            person.learn(&member.person);
        }
        if targets.iter().any(|target| target.person.is(&person)) {
            continue;
        }
        let phone = person.phone.map(|digits| ParticipantId::Phone(digits.get()));
        let lid = person.lid.map(|digits| ParticipantId::Lid(digits.get()));
        let by_lid = change != ParticipantChange::Add && record.is_some_and(|record| record.lid_addressing);
        let send_as = if by_lid { lid.or(phone) } else { phone.or(lid) };
        targets.push(Target { person, send_as: send_as.unwrap_or(*id) });
    }
    targets
}
