//! The people of a request: who they are, what WhatsApp answered about each, and the result for each.

use std::num::NonZeroU64;

use tokio::time::timeout_at;

use super::context::{CommandContext, Reconciliation};
use super::port::{GroupChange, GroupRead};
use super::targets::Target;
use super::whatsapp_codes::{self, Asked, DONE, NO_ACCOUNT, NOT_SAID};
use crate::error::CommandError;
use crate::group_cache::WriteId;
use rookery_engine::ParticipantAnswer;
use rookery_model::{GroupId, ParticipantChange, ParticipantResult, ResultCode};
use rookery_model::{GroupRecord, ParticipantIds};

/// From this status code on, WhatsApp failed itself: it did not refuse.
const BROKE_DOWN: u16 = 500;

/// A person of a request, and what WhatsApp answered about them.
#[derive(Clone, Debug)]
pub(super) struct Addressed {
    pub(super) target: Target,
    /// `None`: the answer does not say.
    pub(super) answer: Option<ParticipantAnswer>,
}

/// Matches each person with their answer, by every id that the request, the answer or the group has for them. Two ids
/// of one person become one entry. A success under one id counts, whatever was refused under the other.
pub(super) fn addressed(
    targets: &[Target],
    answers: &[ParticipantAnswer],
    group: Option<&GroupRecord>,
) -> Vec<Addressed> {
    let known = |mut answer: ParticipantAnswer| {
        if let Some(member) = group.and_then(|group| group.member(&answer.person)) {
            answer.person.learn(&member.person);
        }
        answer
    };
    let answers: Vec<ParticipantAnswer> = answers.iter().cloned().map(known).collect();
    let with_answer = |target: &Target| {
        let mut target = target.clone();
        if target.is_absent {
            let answer = Verdict::Not(NO_ACCOUNT).answer(target.person);
            return Addressed { target, answer };
        }
        let of_them = || answers.iter().filter(|answer| answer.person.is(&target.person));
        let answer = of_them().find(|answer| answer.error.is_none()).or_else(|| of_them().next()).cloned();
        if let Some(answer) = &answer {
            target.person.learn(&answer.person);
        }
        Addressed { target, answer }
    };
    merged(targets.iter().map(with_answer))
}

/// Merges entries of the same person.
fn merged(participants: impl IntoIterator<Item = Addressed>) -> Vec<Addressed> {
    let mut merged: Vec<Addressed> = Vec::new();
    for person in participants {
        match merged.iter_mut().find(|other| other.target.person.is(&person.target.person)) {
            Some(twin) => twin.merge(person),
            None => merged.push(person),
        }
    }
    merged
}

impl Addressed {
    /// Whether the result for this person is unknown: WhatsApp's answer does not say, or WhatsApp failed itself (5xx).
    pub(super) fn is_open(&self) -> bool {
        self.answer.as_ref().is_none_or(|answer| answer.error.is_some_and(|code| code >= BROKE_DOWN))
    }

    fn merge(&mut self, twin: Self) {
        self.target.person.learn(&twin.target.person);
        self.target.looked_up.extend(&twin.target.looked_up);
        let is_done = |answer: &Option<ParticipantAnswer>| answer.as_ref().is_some_and(|answer| answer.error.is_none());
        if self.answer.is_none() || (!is_done(&self.answer) && is_done(&twin.answer)) {
            (self.answer, self.target.send_as) = (twin.answer, twin.target.send_as);
            self.target.is_absent = twin.target.is_absent;
        }
    }
}

/// Whether the list that this change is about, members or admins, is unchanged by WhatsApp's version of it.
pub(super) fn is_same_list(change: ParticipantChange, before: Option<&GroupRecord>, now: &GroupRecord) -> bool {
    let version = |record: &GroupRecord| match change {
        ParticipantChange::Add | ParticipantChange::Remove => record.participants_version,
        ParticipantChange::Promote | ParticipantChange::Demote => record.admins_version,
    };
    before.and_then(version).is_some_and(|before| version(now) == Some(before))
}

/// What a read of a group says about a person of a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The change is true now.
    Done,
    /// The change is not true, or was true before: the status code that WhatsApp would have given.
    Not(u16),
    /// The group does not show it.
    Unknown,
}

impl Verdict {
    /// The verdict as an answer of WhatsApp; `None` when unknown.
    pub(super) fn answer(self, person: ParticipantIds) -> Option<ParticipantAnswer> {
        let error = match self {
            Self::Done => None,
            Self::Not(code) => Some(code),
            Self::Unknown => return None,
        };
        Some(ParticipantAnswer { person, error, invitation: None, is_seen: true })
    }
}

/// One answer per person. A person has none where the group, as it was read, does not show the result.
pub(super) fn seen_of(
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

/// Reads the group for the people whose result is unknown. `verdict`: what the group, as it was read, says about one
/// person. People have no answer when the group cannot be read or does not show them. Entries that turn out to be one
/// person become one.
pub(super) async fn look_up_unanswered(
    context: &CommandContext,
    group: &GroupId,
    write: Option<WriteId>,
    participants: &mut Vec<Addressed>,
    verdict: impl Fn(&Target, &GroupRecord) -> Verdict,
) {
    if !participants.iter().any(Addressed::is_open) {
        return;
    }
    let read = timeout_at(context.end(), context.read_back(group, write)).await;
    let open = participants.iter_mut().filter(|person| person.is_open());
    let Ok(Ok(GroupRead { record: Some(now), heard, .. })) = read else {
        return open.for_each(|person| person.answer = None);
    };
    for Addressed { target, answer } in open {
        let broken = answer.take();
        if let Some(member) = now.member(&target.person) {
            target.person.learn(&member.person);
        } else if !can_tell(target, &now) {
            continue;
        }
        *answer = match verdict(target, &now) {
            Verdict::Done => Verdict::Done.answer(target.person),
            // The change may have been made and undone.
            Verdict::Not(_) if heard.may_be_about(&target.person) => None,
            verdict => verdict.answer(target.person).map(|seen| broken.unwrap_or(seen)),
        };
    }
    *participants = merged(std::mem::take(participants));
}

/// Whether a group can be searched for a person: the group was read whole, and each member has an id of a kind that is
/// known of the person. Else the person may be in the group under another id.
pub(super) fn can_tell(target: &Target, group: &GroupRecord) -> bool {
    let is_comparable = |other: &ParticipantIds| are_comparable(other, &target.person);
    group.completeness.is_whole() && group.members.iter().all(|member| is_comparable(&member.person))
}

/// Whether two people are known by an id of the same kind: else they may or may not be the same person.
pub(super) fn are_comparable(one: &ParticipantIds, other: &ParticipantIds) -> bool {
    (one.phone.is_some() && other.phone.is_some()) || (one.lid.is_some() && other.lid.is_some())
}

/// One result per person, in the order of the request, and the people for whom the change is true now.
///
/// # Errors
/// [`CommandError::OutcomeUnknown`] when nothing is known about anybody; [`CommandError::Unreadable`] when WhatsApp said
/// nothing about anybody, and nothing was done for anybody.
pub(super) fn results(
    asked: Asked,
    participants: &[Addressed],
) -> Result<(Vec<ParticipantResult>, Vec<ParticipantIds>), CommandError> {
    if !participants.is_empty() && participants.iter().all(|person| person.answer.is_none()) {
        return Err(CommandError::OutcomeUnknown);
    }
    // `NOT_SAID` comes from a read of the group: WhatsApp itself refused nothing.
    let is_not_said = |person: &Addressed| person.answer.as_ref().is_some_and(|answer| answer.error == Some(NOT_SAID));
    if !participants.is_empty() && participants.iter().all(is_not_said) {
        return Err(CommandError::Unreadable);
    }
    let done = participants.iter().filter(|person| person.answer.as_ref().is_some_and(|answer| answer.error.is_none()));
    let done = done.map(|person| person.target.person).collect();
    Ok((results_of(asked, participants), done))
}

/// One result per person, in the order of the request.
pub(super) fn results_of(asked: Asked, participants: &[Addressed]) -> Vec<ParticipantResult> {
    participants.iter().map(|person| result(asked, person)).collect()
}

fn result(asked: Asked, Addressed { target, answer }: &Addressed) -> ParticipantResult {
    let id = target.person.id().unwrap_or(target.send_as);
    let requested = target.requested_unlike(id).map(str::to_owned);
    let Some(answer) = answer else {
        let (code, message) =
            (ResultCode::OutcomeUnknown, whatsapp_codes::message(ResultCode::OutcomeUnknown).map(Into::into));
        return ParticipantResult { id, requested, success: false, status: None, code, message };
    };
    let (status, code) = match answer.error {
        None => (Some(DONE).filter(|_| !answer.is_seen), whatsapp_codes::success(asked)),
        Some(error) => {
            let code = whatsapp_codes::refusal(asked, error, answer.invitation.is_some());
            (Some(error).filter(|_| !answer.is_seen), code)
        }
    };
    let message = match code {
        ResultCode::NotOnWhatsapp if target.is_half_known => Some(whatsapp_codes::HALF_KNOWN.into()),
        ResultCode::NotOnWhatsapp if !target.looked_up.is_empty() => Some(whatsapp_codes::OUTDATED.into()),
        code => whatsapp_codes::message(code).map(Into::into),
    };
    ParticipantResult { id, requested, success: answer.error.is_none(), status, code, message }
}

/// Says until when the account is locked, where that is the reason of a refusal. The same status code also stands for
/// other reasons.
pub(super) async fn explain_locked(context: &CommandContext, results: &mut [ParticipantResult]) {
    let locked = || results.iter().any(|result| result.code == ResultCode::ReachoutTimelock);
    if !locked() {
        return;
    }
    let timelock = context.active_timelock(false).await;
    for result in results.iter_mut().filter(|result| result.code == ResultCode::ReachoutTimelock) {
        let Some(timelock) = &timelock else {
            result.code = ResultCode::Failed;
            result.message = whatsapp_codes::message(ResultCode::Failed).map(Into::into);
            continue;
        };
        if let Some(until) = timelock.expires_at {
            result.message =
                Some(format!("WhatsApp restricts this account: it may reach out to nobody new until {until}"));
        }
    }
}

/// Has the numbers forgotten whose remembered account WhatsApp does not know any more: the next request looks them up again.
pub(super) fn forget_unknown(context: &CommandContext, results: &[ParticipantResult], participants: &[Addressed]) {
    let is_unknown = |result: &ParticipantResult| result.code == ResultCode::NotOnWhatsapp;
    let unknown = participants.iter().zip(results).filter(|(_, result)| is_unknown(result));
    let numbers: Vec<NonZeroU64> = unknown.flat_map(|(person, _)| person.target.looked_up.iter().copied()).collect();
    if !numbers.is_empty() {
        context.tell(GroupChange::NumbersForgotten(numbers));
    }
}

/// Sends WhatsApp's private invitation to those who may only be invited, until WhatsApp asks to slow down. A person
/// whose invitation could not be sent stays `invite_required`.
pub(super) async fn invite(
    context: &CommandContext,
    group: &GroupId,
    group_name: &str,
    participants: &[Addressed],
    results: &mut [ParticipantResult],
) {
    for (person, result) in participants.iter().zip(results) {
        let Some(invitation) = person.answer.as_ref().and_then(|answer| answer.invitation.as_ref()) else { continue };
        if context.is_paused() {
            return;
        }
        let sent = context.engine.send_invitation(person.target.send_as, group, group_name, invitation);
        let sent = timeout_at(context.end(), context.look_up::<(), _>(sent)).await;
        whatsapp_codes::invited(result, matches!(sent, Ok(Ok(_))));
    }
}

#[cfg(test)]
mod tests {
    use super::super::targets::targets;
    use super::*;
    use rookery_engine::Invitation;
    use rookery_model::{MembershipDecision, ParticipantId};

    const LID: &str = "7000000000002@lid";

    fn target(id: &str) -> Target {
        let id: ParticipantId = id.parse().unwrap();
        targets(None, ParticipantChange::Add, &[id.into()]).remove(0)
    }

    fn answer(person: ParticipantIds, error: Option<u16>, may_be_invited: bool) -> ParticipantAnswer {
        let invitation = Invitation { code: "code".into(), expires_at: 1 };
        ParticipantAnswer { person, error, invitation: may_be_invited.then_some(invitation), is_seen: false }
    }

    /// Bob by both of his ids.
    fn bob() -> ParticipantIds {
        let mut bob = target("15550100002").person;
        bob.learn(&target(LID).person);
        bob
    }

    #[test]
    fn results_follow_the_request_and_match_by_any_id() {
        let (alice, bob_by_lid) = (target("15550100001"), target(LID));
        let answers = [answer(bob(), None, false), answer(alice.person, Some(403), true)];
        let participants = addressed(&[alice.clone(), bob_by_lid], &answers, None);
        let (results, done) = results(Asked::Change(ParticipantChange::Add), &participants).unwrap();
        assert_eq!(results[0].code, ResultCode::InviteRequired);
        assert_eq!((results[1].code, results[1].status), (ResultCode::Added, Some(200)));
        assert_eq!(done, [bob()]);
    }

    #[test]
    fn one_person_under_two_ids_is_one_result_and_what_was_done_counts() {
        for (of_phone, of_lid) in [(None, Some(409)), (Some(409), None)] {
            let answers = [answer(target("15550100002").person, of_phone, false), answer(bob(), of_lid, false)];
            let participants = addressed(&[target("15550100002"), target(LID)], &answers, None);
            let (results, done) = results(Asked::Change(ParticipantChange::Add), &participants).unwrap();
            let told: Vec<_> = results.iter().map(|result| (result.id.to_string(), result.code)).collect();
            assert_eq!(told, [("15550100002@c.us".to_owned(), ResultCode::Added)], "{of_phone:?} {of_lid:?}");
            assert_eq!(done, [bob()]);
        }
    }

    #[test]
    fn a_group_is_searched_only_for_ids_of_a_kind_that_all_of_its_members_have() {
        let member = |id: &str| format!("[{id}]");
        let group = |members: &[String]| {
            let json = format!(r#"{{"id":"120363000000000001@g.us","members":[{}]}}"#, members.join(","));
            serde_json::from_str::<GroupRecord>(&json).unwrap()
        };
        let (both, hidden) = (member(r#"15550100001,7000000000001,"m""#), member(r#"0,7000000000003,"m""#));
        assert!(can_tell(&target("15550100002"), &group(std::slice::from_ref(&both))));
        assert!(!can_tell(&target("15550100002"), &group(&[both.clone(), hidden.clone()])));
        assert!(can_tell(&target(LID), &group(&[both, hidden])));
    }

    #[test]
    fn what_whatsapp_says_nothing_about_is_no_refusal() {
        let alice = target("15550100001");
        let participants =
            addressed(std::slice::from_ref(&alice), &[answer(alice.person, Some(NOT_SAID), false)], None);
        assert_eq!(results(Asked::Change(ParticipantChange::Add), &participants), Err(CommandError::Unreadable));
    }

    #[test]
    fn where_nothing_is_known_about_anybody_nothing_is_claimed() {
        let (alice, bob) = (target("15550100001"), target("15550100002"));
        let asked = Asked::Decision(MembershipDecision::Reject);
        let participants = addressed(&[alice.clone(), bob.clone()], &[], None);
        assert_eq!(results(asked, &participants), Err(CommandError::OutcomeUnknown));
        let participants = addressed(&[alice.clone(), bob.clone()], &[answer(bob.person, None, false)], None);
        let (results, done) = results(asked, &participants).unwrap();
        assert_eq!((results[0].code, results[0].status, results[0].success), (ResultCode::OutcomeUnknown, None, false));
        assert_eq!((results[1].code, done), (ResultCode::Rejected, vec![bob.person]));
    }
}
