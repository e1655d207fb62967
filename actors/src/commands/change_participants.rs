//! Adding, removing, promoting and demoting participants.

use std::sync::Arc;

use super::context::Reconciliation;
use super::participant_results::{
    self, Verdict, addressed, can_tell, is_same_list, look_up_unanswered, results_of, seen_of,
};
use super::port::GroupChange;
use super::targets::{Target, present, refuse_oneself, sent_ids, targets};
use super::whatsapp_codes::{ALREADY, Asked, NO_MEMBER, NOT_SAID, is_doubtful};
use super::{Command, CommandKind, Finished, Participants, Requested, SessionAccess, Started};
use crate::error::CommandError;
use crate::group_cache::{Heard, PendingChange, is_so};
use crate::rate_limiter::Cost;
use rookery_engine::ParticipantAnswer;
use rookery_model::{GroupId, GroupRecord, ParticipantChange, ParticipantIds, ParticipantResult, ResultCode};

/// Adds, removes, promotes or demotes; one result per distinct participant, in the order of the request.
///
/// # Errors
/// As every command that changes something ([`Command`]), and [`CommandError::GroupNotFound`].
pub struct ChangeParticipants {
    /// The group.
    pub group: GroupId,
    /// The change for all participants.
    pub change: ParticipantChange,
    /// A participant who is named twice counts once.
    pub participants: Vec<Requested>,
    /// People who may only be invited get WhatsApp's private invitation.
    pub invite_fallback: bool,
}

impl Command for ChangeParticipants {
    type Output = Vec<ParticipantResult>;

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn participants(&mut self) -> Option<Participants<'_>> {
        Some(Participants { group: Some(&self.group), list: &mut self.participants })
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<Self::Output>, CommandError> {
        let Self { group, change, participants, invite_fallback } = self;
        let before = session.cache.record(&group).map(|record| Arc::new(record.into_owned()));
        let targets = targets(before.as_deref(), change, &participants);
        refuse_oneself(&session.me, change, &targets)?;
        let sent = present(&targets);
        if sent.is_empty() {
            session.check_ready()?;
            session.check_member_of(&group)?;
            return Ok(Started::answered(results_of(Asked::Change(change), &addressed(&targets, &[], None))));
        }
        let context = session.admit(cost(change, &sent), Some(&group))?;
        let participants: Vec<ParticipantIds> = sent.iter().map(|target| target.person).collect();
        let write = session.cache.begin_write(&group, PendingChange::Participants(change, participants));
        Ok(context.run(move |context| async move {
            let participants = sent_ids(&sent);
            let call = context.engine.change_participants(&group, change, &participants);
            let judge = |now: &GroupRecord, heard: &Heard| seen(change, &sent, before.as_deref(), now, heard);
            let look = || context.look_into(&group, write, judge);
            let result = match context.carry_out(change.phrase(), call, look).await.result {
                Ok(answers) => {
                    let mut participants = addressed(&targets, &answers, before.as_deref());
                    let verdict = |target: &Target, now: &GroupRecord| verdict(change, target, before.as_deref(), now);
                    look_up_unanswered(&context, &group, Some(write), &mut participants, verdict).await;
                    participant_results::results(Asked::Change(change), &participants)
                        .map(|(results, done)| (participants, results, done))
                }
                Err(error) => Err(error),
            };
            match result {
                Ok((participants, mut results, done)) => {
                    if results.iter().any(|result| result.code == ResultCode::RateLimited) {
                        context.slow_down();
                    }
                    participant_results::explain_locked(&context, &mut results).await;
                    participant_results::forget_unknown(&context, &results, &participants);
                    if invite_fallback {
                        let name = before.as_ref().map_or("", |record| record.subject.as_str());
                        participant_results::invite(&context, &group, name, &participants, &mut results).await;
                    }
                    let done = (!done.is_empty()).then_some(PendingChange::Participants(change, done));
                    Finished::new(Some(GroupChange::Confirmed { group, write, done }), Ok(results))
                }
                Err(error) => {
                    let unknown = is_doubtful(&error);
                    Finished::new(Some(GroupChange::Dropped { group, write, unknown }), Err(error))
                }
            }
        }))
    }
}

/// The answers that a read of the group gives after an unanswered change. `before`, the group before the change, shows
/// for whom the change was true already.
fn seen(
    change: ParticipantChange,
    targets: &[Target],
    before: Option<&GroupRecord>,
    now: &GroupRecord,
    heard: &Heard,
) -> Reconciliation<Vec<ParticipantAnswer>> {
    let is_same_list = is_same_list(change, before, now);
    seen_of(targets, now, |target| match verdict(change, target, before, now) {
        // The change may have been made and undone.
        Verdict::Not(_) if !is_same_list && heard.may_be_about(&target.person) => Verdict::Unknown,
        verdict => verdict,
    })
}

/// What the group shows of one person. `before`, the group before the change, shows whether the change was true
/// already.
fn verdict(change: ParticipantChange, target: &Target, before: Option<&GroupRecord>, now: &GroupRecord) -> Verdict {
    let is_true_of = |record: &GroupRecord| is_so(change, record.member(&target.person).map(|member| member.role));
    let was_shown = || before.is_some_and(|before| before.member(&target.person).is_some() || can_tell(target, before));
    match (change, is_true_of(now)) {
        (_, false) => Verdict::Not(NOT_SAID),
        (ParticipantChange::Add, true) if before.is_some_and(is_true_of) => Verdict::Not(ALREADY),
        // The person may have been in the group under another id.
        (ParticipantChange::Remove, true) if !was_shown() => Verdict::Unknown,
        (ParticipantChange::Remove, true) if before.is_some_and(is_true_of) => Verdict::Not(NO_MEMBER),
        _ => Verdict::Done,
    }
}

fn cost(change: ParticipantChange, targets: &[Target]) -> Cost {
    match change {
        ParticipantChange::Add => Cost::Add(u32::try_from(targets.len()).unwrap_or(u32::MAX)),
        _ => Cost::Write,
    }
}
