//! People who ask to be let into a group: reading who they are, approving and rejecting them.

use tokio::time::timeout_at;

use super::context::{CommandContext, Reconciliation};
use super::participant_results::{
    self, Addressed, Verdict, addressed, are_comparable, is_same_list, look_up_unanswered, seen_of,
};
use super::port::GroupChange;
use super::targets::{Target, sent_ids, targets};
use super::whatsapp_codes::{Asked, NOT_SAID, is_doubtful};
use super::{Command, CommandKind, Finished, Participants, Requested, SessionAccess, Started};
use crate::error::CommandError;
use crate::rate_limiter::Cost;
use rookery_engine::Applicant;
use rookery_model::{
    GroupId, GroupRecord, MembershipDecision, MembershipRequest, ParticipantChange, ParticipantIds, ParticipantResult,
};

/// Phone numbers whose LIDs WhatsApp is asked for at once: as many people as a request may name. Further numbers may
/// belong to people who were named by LID. The result for those people is unknown then.
const RECOGNISED_MAX: usize = 256;

/// Reads who asked to be let into a group.
///
/// # Errors
/// As every command that asks WhatsApp ([`Command`]), and [`CommandError::GroupNotFound`].
pub struct ReadMembershipRequests {
    /// The group.
    pub group: GroupId,
}

/// Approves or rejects people who asked to be let in. One result per distinct person, in the order of the request.
///
/// # Errors
/// As every command that changes something ([`Command`]), and [`CommandError::GroupNotFound`].
pub struct DecideMembership {
    /// The group.
    pub group: GroupId,
    /// Whether they are approved or rejected.
    pub decision: MembershipDecision,
    /// `None`: all who asked.
    pub participants: Option<Vec<Requested>>,
}

impl Command for ReadMembershipRequests {
    type Output = Vec<MembershipRequest>;

    fn kind(&self) -> CommandKind {
        CommandKind::Query
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<Self::Output>, CommandError> {
        let context = session.admit(Cost::Query, Some(&self.group))?;
        Ok(context.run(|context| async move {
            let answer = applicants(&context, &self.group).await;
            let requests = |applicants: Vec<Applicant>| applicants.into_iter().map(|applicant| applicant.request);
            answer.map(|applicants| requests(applicants).collect()).into()
        }))
    }
}

impl Command for DecideMembership {
    type Output = Vec<ParticipantResult>;

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn participants(&mut self) -> Option<Participants<'_>> {
        Some(Participants { group: Some(&self.group), list: self.participants.as_mut()? })
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<Self::Output>, CommandError> {
        let Self { group, decision, participants } = self;
        // When all are meant, their number is known only after WhatsApp was asked.
        let count = participants.as_ref().map_or(0, Vec::len);
        let cost = match decision {
            MembershipDecision::Approve => Cost::Add(u32::try_from(count).unwrap_or(u32::MAX)),
            MembershipDecision::Reject => Cost::Write,
        };
        let context = session.admit(cost, Some(&group))?;
        let record = session.cache.record(&group).map(std::borrow::Cow::into_owned);
        Ok(context.run(move |context| async move {
            let answer = decide(&context, &group, decision, record.as_ref(), participants).await;
            // A notification reports the approved people. A read makes sure that the cache has them before the caller
            // reads it.
            let somebody = answer.as_ref().is_ok_and(|results| results.iter().any(|result| result.success));
            let mut doubtful = answer.as_ref().err().is_some_and(is_doubtful);
            if somebody && decision == MembershipDecision::Approve {
                doubtful = !context.is_shown(&group).await;
            }
            Finished::new(doubtful.then_some(GroupChange::Doubtful { group }), answer)
        }))
    }
}

async fn decide(
    context: &CommandContext,
    group: &GroupId,
    decision: MembershipDecision,
    record: Option<&GroupRecord>,
    participants: Option<Vec<Requested>>,
) -> Result<Vec<ParticipantResult>, CommandError> {
    // A rejected person is gone from the list. Only the list from before tells this from a person who never asked.
    let mut open_before = match (decision, &participants) {
        (MembershipDecision::Approve, Some(_)) => Vec::new(),
        _ => applicants(context, group).await?,
    };
    let asked = match participants {
        Some(participants) => participants,
        None => {
            if decision == MembershipDecision::Approve {
                context.consume(Cost::Add(u32::try_from(open_before.len()).unwrap_or(u32::MAX)))?;
            }
            open_before.iter().filter_map(|applicant| applicant.person.id()).map(Requested::from).collect()
        }
    };
    let mut targets = targets(record, ParticipantChange::Add, &asked);
    // Whoever asked to be let in has an account, whatever a lookup said a few minutes ago: WhatsApp decides.
    targets.iter_mut().for_each(|target| target.is_absent = false);
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    if decision == MembershipDecision::Reject {
        recognise(context, &mut targets, &mut open_before).await;
    }
    let participants = sent_ids(&targets);
    let verdict = |target: &Target, open: &[Applicant], now: &GroupRecord| {
        let is_member = now.member(&target.person).is_some();
        match decision {
            MembershipDecision::Approve if is_member => Verdict::Done,
            // An approved person may have been removed since then. Only an unchanged list shows that nobody was let in.
            MembershipDecision::Approve if is_same_list(ParticipantChange::Add, record, now) => Verdict::Not(NOT_SAID),
            MembershipDecision::Approve => Verdict::Unknown,
            MembershipDecision::Reject => match (is_in(&open_before, target), is_in(open, target)) {
                (Some(true), Some(false)) if !is_member => Verdict::Done,
                (Some(true), None) | (None, _) => Verdict::Unknown,
                // The person was rejected, and asked again.
                _ if asked_at(open, target) != asked_at(&open_before, target) => Verdict::Unknown,
                _ => Verdict::Not(NOT_SAID),
            },
        }
    };
    let look = || async {
        let open = match context.look_up(context.engine.membership_requests(group)).await {
            Ok(open) => open,
            Err(look) => return look,
        };
        let judge = |now: &GroupRecord| seen_of(&targets, now, |target| verdict(target, &open, now));
        context.look_at(group, None, |read| read.record.as_deref().map_or(Reconciliation::Unclear, judge)).await
    };
    let answers = context
        .carry_out(decision.phrase(), context.engine.decide_membership(group, decision, &participants), look)
        .await
        .result?;
    let mut participants = addressed(&targets, &answers, record);
    if participants.iter().any(Addressed::is_open) {
        let open = applicants(context, group).await;
        let verdict = |target: &Target, now: &GroupRecord| match &open {
            Ok(open) => verdict(target, open, now),
            Err(_) => Verdict::Unknown,
        };
        look_up_unanswered(context, group, None, &mut participants, verdict).await;
    }
    Ok(participant_results::results(Asked::Decision(decision), &participants)?.0)
}

/// Everybody who asked to be let in.
async fn applicants(context: &CommandContext, group: &GroupId) -> Result<Vec<Applicant>, CommandError> {
    context.question("Reading the membership requests", context.engine.membership_requests(group)).await
}

/// Learns the ids under which the people of a request asked to be let in. Where somebody is not among those who asked,
/// WhatsApp is asked who has the phone numbers. Targets that turn out to be one person become one.
async fn recognise(context: &CommandContext, targets: &mut Vec<Target>, open: &mut [Applicant]) {
    if targets.iter().any(|target| applicant(open, target).is_none()) {
        let participants =
            targets.iter().map(|target| &target.person).chain(open.iter().map(|applicant| &applicant.person));
        let phones = participants.filter(|person| person.lid.is_none()).filter_map(ParticipantIds::id);
        let phones: Vec<_> = phones.take(RECOGNISED_MAX).collect();
        let known =
            timeout_at(context.end(), context.engine.participants_with_phones(phones)).await.unwrap_or_default();
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

/// Whether somebody is among these people; `None` when one of them may be the same person under an unknown id.
fn is_in(open: &[Applicant], target: &Target) -> Option<bool> {
    match applicant(open, target) {
        Some(_) => Some(true),
        None => open.iter().all(|other| are_comparable(&other.person, &target.person)).then_some(false),
    }
}
