//! Who is in a group: adding, removing, promoting, demoting, and people who ask to be let in.

use std::sync::Arc;

use tokio::time::timeout_at;

use super::command_context::{CommandContext, GroupChange, Outcome, Reconciliation};
use super::participant_results::{
    self, Addressed, Target, Verdict, addressed, are_comparable, can_tell, look_up_unanswered, targets,
};
use super::rate_limiter::Cost;
use super::whatsapp_codes::{self, Asked, NOT_SAID, is_doubtful};
use super::{Permit, Reply, SessionState};
use crate::error::CommandError;
use crate::group_cache::{Heard, PendingChange, is_so};
use rookery_engine::{Applicant, ParticipantAnswer};
use rookery_model::{
    GroupId, MembershipDecision, MembershipRequest, ParticipantChange, ParticipantId, ParticipantResult, ResultCode,
};
use rookery_model::{GroupRecord, ParticipantIds};

/// Phone numbers whose LIDs WhatsApp is asked for at once: as many people as a request may name. Of the others nobody knows whether
/// they are somebody who was named by LID, and then nothing is claimed.
const RECOGNISED_MAX: usize = 256;

/// What happens to participants, and what is done about those who may only be invited.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ParticipantWrite {
    pub(crate) change: ParticipantChange,
    /// Those who may only be invited are sent WhatsApp's private invitation.
    pub(crate) invite_fallback: bool,
}

impl SessionState {
    pub(super) fn change_participants(
        &mut self,
        group: GroupId,
        write: ParticipantWrite,
        participants: &[ParticipantId],
        permit: Permit,
        reply: Reply<Vec<ParticipantResult>>,
    ) {
        let ParticipantWrite { change, invite_fallback } = write;
        let before = self.cache.record(&group).map(|record| Arc::new(record.into_owned()));
        let targets = targets(before.as_deref(), change, participants);
        if let Err(error) = self.refuse_oneself(change, &targets) {
            return drop(reply.send(Err(error)));
        }
        let Some((work, reply)) = self.begin(cost(change, &targets), Some(&group), permit, reply) else { return };
        let people: Vec<ParticipantIds> = targets.iter().map(|target| target.person).collect();
        let write = self.cache.begin_write(&group, PendingChange::Participants(change, people));
        tokio::spawn(async move {
            let people: Vec<ParticipantId> = targets.iter().map(|target| target.send_as).collect();
            let call = work.engine.change_participants(&group, change, &people);
            let judge = |now: &GroupRecord, heard: &Heard| seen(change, &targets, before.as_deref(), now, heard);
            let look = || work.look_into(&group, write, judge);
            let Outcome { result, .. } = work.carry_out(whatsapp_codes::what(change), call, look).await;
            let result = match result {
                Ok(answers) => {
                    let mut people = addressed(&targets, &answers, before.as_deref());
                    let verdict = |target: &Target, now: &GroupRecord| verdict(change, target, before.as_deref(), now);
                    look_up_unanswered(&work, &group, Some(write), &mut people, verdict).await;
                    participant_results::results(Asked::Change(change), &people)
                        .map(|(results, done)| (people, results, done))
                }
                Err(error) => Err(error),
            };
            let (told, answer) = match result {
                Ok((people, mut results, done)) => {
                    if results.iter().any(|result| result.code == ResultCode::RateLimited) {
                        work.slow_down();
                    }
                    if invite_fallback {
                        let name = before.as_ref().map_or("", |record| record.subject.as_str());
                        participant_results::invite(&work, &group, name, &people, &mut results).await;
                    }
                    let done = (!done.is_empty()).then_some(PendingChange::Participants(change, done));
                    (GroupChange::Confirmed { group, write, done }, Ok(results))
                }
                Err(error) => (GroupChange::Dropped { group, write, unknown: is_doubtful(&error) }, Err(error)),
            };
            work.finish(Some(told), reply, answer);
        });
    }

    /// Nobody adds themselves, and who wants to go leaves.
    pub(super) fn refuse_oneself(&self, change: ParticipantChange, targets: &[Target]) -> Result<(), CommandError> {
        let why = match change {
            ParticipantChange::Add => "whose account is in the group anyway",
            ParticipantChange::Remove => "which leaves a group with `leave`",
            ParticipantChange::Promote | ParticipantChange::Demote => return Ok(()),
        };
        let me = self.record.me();
        match targets.iter().find(|target| target.person.is(&me)) {
            Some(target) => {
                let id = me.id().unwrap_or(target.send_as);
                Err(CommandError::Invalid(format!("participants names {id}, this session's own number, {why}")))
            }
            None => Ok(()),
        }
    }

    pub(super) fn read_membership_requests(
        &mut self,
        group: GroupId,
        permit: Permit,
        reply: Reply<Vec<MembershipRequest>>,
    ) {
        let Some((work, reply)) = self.begin(Cost::Query, Some(&group), permit, reply) else { return };
        tokio::spawn(async move {
            let requests = work.engine.membership_requests(&group);
            let answer = work.question("Reading the membership requests", requests).await;
            let answer = answer.map(|applicants| applicants.into_iter().map(|applicant| applicant.request).collect());
            work.finish(None, reply, answer);
        });
    }

    /// Decides about these people, or about all who asked.
    pub(super) fn decide_membership(
        &mut self,
        group: GroupId,
        decision: MembershipDecision,
        participants: Option<Vec<ParticipantId>>,
        permit: Permit,
        reply: Reply<Vec<ParticipantResult>>,
    ) {
        // How many they are when all are meant is not known before WhatsApp was asked.
        let people = participants.as_ref().map_or(0, Vec::len);
        let cost = match decision {
            MembershipDecision::Approve => Cost::Add(u32::try_from(people).unwrap_or(u32::MAX)),
            MembershipDecision::Reject => Cost::Write,
        };
        let Some((work, reply)) = self.begin(cost, Some(&group), permit, reply) else { return };
        let record = self.cache.record(&group).map(|record| Arc::new(record.into_owned()));
        tokio::spawn(async move {
            let answer = decide(&work, &group, decision, record.as_deref(), participants).await;
            // Who was let in is told by a notification; a read makes sure of it before the caller looks.
            let somebody = answer.as_ref().is_ok_and(|results| results.iter().any(|result| result.success));
            let mut doubtful = answer.as_ref().err().is_some_and(is_doubtful);
            if somebody && decision == MembershipDecision::Approve {
                doubtful = !work.is_shown(&group).await;
            }
            work.finish(doubtful.then_some(GroupChange::Doubtful { group }), reply, answer);
        });
    }
}

async fn decide(
    work: &CommandContext,
    group: &GroupId,
    decision: MembershipDecision,
    record: Option<&GroupRecord>,
    participants: Option<Vec<ParticipantId>>,
) -> Result<Vec<ParticipantResult>, CommandError> {
    // Who is turned down is gone from the list: only with the list from before can that be told from never having asked.
    let mut open_before = match (decision, &participants) {
        (MembershipDecision::Approve, Some(_)) => Vec::new(),
        _ => applicants(work, group).await?,
    };
    let asked = match participants {
        Some(participants) => participants,
        None => {
            if decision == MembershipDecision::Approve {
                work.consume(Cost::Add(u32::try_from(open_before.len()).unwrap_or(u32::MAX)))?;
            }
            open_before.iter().filter_map(|applicant| applicant.person.id()).collect()
        }
    };
    let mut targets = targets(record, ParticipantChange::Add, &asked);
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    if decision == MembershipDecision::Reject {
        recognise(work, &mut targets, &mut open_before).await;
    }
    let people: Vec<ParticipantId> = targets.iter().map(|target| target.send_as).collect();
    let what = match decision {
        MembershipDecision::Approve => "Approving membership requests",
        MembershipDecision::Reject => "Rejecting membership requests",
    };
    let verdict = |target: &Target, open: &[Applicant], now: &GroupRecord| {
        let is_member = now.member(&target.person).is_some();
        match decision {
            MembershipDecision::Approve if is_member => Verdict::Done,
            // Whoever was let in may have been removed since then.
            MembershipDecision::Approve if is_same_list(ParticipantChange::Add, record, now) => Verdict::Not(NOT_SAID),
            MembershipDecision::Approve => Verdict::Unknown,
            MembershipDecision::Reject => match (is_in(&open_before, target), is_in(open, target)) {
                (Some(true), Some(false)) if !is_member => Verdict::Done,
                (Some(true), None) | (None, _) => Verdict::Unknown,
                // They were turned down, and asked again.
                _ if asked_at(open, target) != asked_at(&open_before, target) => Verdict::Unknown,
                _ => Verdict::Not(NOT_SAID),
            },
        }
    };
    let look = || async {
        let open = match work.look_up(work.engine.membership_requests(group)).await {
            Ok(open) => open,
            Err(look) => return look,
        };
        let judge = |now: &GroupRecord| seen_of(&targets, now, |target| verdict(target, &open, now));
        work.look_at(group, None, |read| read.record.as_deref().map_or(Reconciliation::Unclear, judge)).await
    };
    let answers = work.carry_out(what, work.engine.decide_membership(group, decision, &people), look).await.result?;
    let mut people = addressed(&targets, &answers, record);
    if people.iter().any(Addressed::is_open) {
        let open = applicants(work, group).await;
        let verdict = |target: &Target, now: &GroupRecord| match &open {
            Ok(open) => verdict(target, open, now),
            Err(_) => Verdict::Unknown,
        };
        look_up_unanswered(work, group, None, &mut people, verdict).await;
    }
    Ok(participant_results::results(Asked::Decision(decision), &people)?.0)
}

/// Everybody who asked to be let in.
async fn applicants(work: &CommandContext, group: &GroupId) -> Result<Vec<Applicant>, CommandError> {
    work.question("Reading the membership requests", work.engine.membership_requests(group)).await
}

/// Sees to it that the people of a request are known by the ids under which they asked to be let in: WhatsApp is asked who has the
/// phone numbers, where somebody is not among those who asked. Those who turn out to be one person are one after it.
async fn recognise(work: &CommandContext, targets: &mut Vec<Target>, open: &mut [Applicant]) {
    if targets.iter().any(|target| applicant(open, target).is_none()) {
        let people = targets.iter().map(|target| &target.person).chain(open.iter().map(|applicant| &applicant.person));
        let phones = people.filter(|person| person.lid.is_none()).filter_map(ParticipantIds::id);
        let phones: Vec<_> = phones.take(RECOGNISED_MAX).collect();
        let known = timeout_at(work.end(), work.engine.people_with_phones(phones)).await.unwrap_or_default();
        let asked = open.iter_mut().map(|applicant| &mut applicant.person);
        for person in targets.iter_mut().map(|target| &mut target.person).chain(asked) {
            for known in &known {
                if known.is(person) {
                    person.learn(known);
                }
            }
        }
    }
    let mut recognised: Vec<Target> = Vec::with_capacity(targets.len());
    for mut target in std::mem::take(targets) {
        if let Some(applicant) = applicant(open, &target) {
            target.person.learn(&applicant.person);
        }
        if !recognised.iter().any(|other| other.person.is(&target.person)) {
            recognised.push(target);
        }
    }
    *targets = recognised;
}

fn applicant<'a>(open: &'a [Applicant], target: &Target) -> Option<&'a Applicant> {
    open.iter().find(|applicant| applicant.person.is(&target.person))
}

/// When somebody asked to be let in, in Unix seconds.
fn asked_at(open: &[Applicant], target: &Target) -> Option<u64> {
    applicant(open, target)?.request.requested_at
}

/// Whether somebody is among these people; `None` when one of them may be the same under an id that is not known.
fn is_in(open: &[Applicant], target: &Target) -> Option<bool> {
    match applicant(open, target) {
        Some(_) => Some(true),
        None => open.iter().all(|other| are_comparable(&other.person, &target.person)).then_some(false),
    }
}

/// What a read after an unanswered change shows. Who was as asked for before is told apart by the group as it was.
fn seen(
    change: ParticipantChange,
    targets: &[Target],
    before: Option<&GroupRecord>,
    now: &GroupRecord,
    heard: &Heard,
) -> Reconciliation<Vec<ParticipantAnswer>> {
    let is_same_list = is_same_list(change, before, now);
    seen_of(targets, now, |target| match verdict(change, target, before, now) {
        // It may have been done and undone.
        Verdict::Not(_) if !is_same_list && heard.may_be_about(&target.person) => Verdict::Unknown,
        verdict => verdict,
    })
}

/// Whether nothing at all was changed in the list that this change is about, members or admins, by WhatsApp's version of it.
fn is_same_list(change: ParticipantChange, before: Option<&GroupRecord>, now: &GroupRecord) -> bool {
    let version = |record: &GroupRecord| match change {
        ParticipantChange::Add | ParticipantChange::Remove => record.participants_version,
        ParticipantChange::Promote | ParticipantChange::Demote => record.admins_version,
    };
    before.and_then(version).is_some_and(|before| version(now) == Some(before))
}

/// What the group says of one person. Who was as asked for before is told apart by the group as it was.
fn verdict(change: ParticipantChange, target: &Target, before: Option<&GroupRecord>, now: &GroupRecord) -> Verdict {
    let is_true_of = |record: &GroupRecord| is_so(change, record.member(&target.person).map(|member| member.role));
    let was_shown = || before.is_some_and(|before| before.member(&target.person).is_some() || can_tell(target, before));
    match (change, is_true_of(now)) {
        (_, false) => Verdict::Not(NOT_SAID),
        (ParticipantChange::Add, true) if before.is_some_and(is_true_of) => Verdict::Not(whatsapp_codes::ALREADY),
        // They may have been in it under another id.
        (ParticipantChange::Remove, true) if !was_shown() => Verdict::Unknown,
        (ParticipantChange::Remove, true) if before.is_some_and(is_true_of) => Verdict::Not(whatsapp_codes::NO_MEMBER),
        _ => Verdict::Done,
    }
}

/// One answer a person; none about people of whom the group, as it was read, does not show what became.
fn seen_of(
    targets: &[Target],
    now: &GroupRecord,
    verdict: impl Fn(&Target) -> Verdict,
) -> Reconciliation<Vec<ParticipantAnswer>> {
    let is_shown = |target: &&Target| now.member(&target.person).is_some() || can_tell(target, now);
    let answer = |target: &Target| {
        let mut person = target.person;
        if let Some(member) = now.member(&person) {
            person.learn(&member.person);
        }
        verdict(target).answer(person)
    };
    let answers: Vec<ParticipantAnswer> = targets.iter().filter(is_shown).filter_map(answer).collect();
    if answers.iter().any(|answer| answer.error.is_none()) {
        Reconciliation::Applied(answers)
    } else if answers.len() == targets.len() {
        Reconciliation::NotApplied
    } else {
        Reconciliation::Unclear
    }
}

fn cost(change: ParticipantChange, targets: &[Target]) -> Cost {
    match change {
        ParticipantChange::Add => Cost::Add(u32::try_from(targets.len()).unwrap_or(u32::MAX)),
        _ => Cost::Write,
    }
}
