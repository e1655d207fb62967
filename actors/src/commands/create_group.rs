//! Creating a group.

use super::making::{made, make};
use super::participant_results::{self, Verdict, addressed, look_up_unanswered, results_of};
use super::targets::{Target, present, refuse_oneself, sent_ids, targets};
use super::whatsapp_codes::{Asked, NOT_SAID};
use super::{Command, CommandKind, Participants, Requested, SessionAccess, Started};
use crate::error::CommandError;
use crate::group_cache::to_summary;
use crate::rate_limiter::Cost;
use rookery_engine::{NewGroup, NewGroupPlace};
use rookery_model::{CreatedGroup, GroupId, GroupRecord, ParticipantChange, ResultCode};

/// Creates a group. Answers as soon as WhatsApp has created the group, also when people were refused.
///
/// # Errors
/// As every command that changes something ([`Command`]), and [`CommandError::NotMade`]; [`CommandError::GroupNotFound`] is about the
/// community.
pub struct CreateGroup {
    /// Its subject.
    pub name: String,
    /// Who is added.
    pub participants: Vec<Requested>,
    /// The community that it is to be part of.
    pub community: Option<GroupId>,
    /// People who may only be invited get WhatsApp's private invitation.
    pub invite_fallback: bool,
}

impl Command for CreateGroup {
    type Output = CreatedGroup;

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn participants(&mut self) -> Option<Participants<'_>> {
        Some(Participants { group: self.community.as_ref(), list: &mut self.participants })
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<CreatedGroup>, CommandError> {
        let Self { name, participants, community, invite_fallback } = self;
        let (me, targets) = (session.me, targets(None, ParticipantChange::Add, &participants));
        refuse_oneself(&me, ParticipantChange::Add, &targets)?;
        let sent = present(&targets);
        if sent.is_empty() && !targets.is_empty() {
            session.check_ready()?;
            community.as_ref().map_or(Ok(()), |community| session.check_member_of(community))?;
            let results = results_of(Asked::Change(ParticipantChange::Add), &addressed(&targets, &[], None));
            return Err(CommandError::NobodyOnWhatsapp(results));
        }
        let cost = Cost::Create { participants: u32::try_from(sent.len()).unwrap_or(u32::MAX) };
        let context = session.admit(cost, community.as_ref())?;
        let creation = session.creations.begin(session.cache, &name, false, community.clone());
        Ok(context.run(move |context| async move {
            let new = NewGroup {
                subject: name,
                participants: sent_ids(&sent),
                key: creation.key().to_owned(),
                place: community.map_or(NewGroupPlace::Alone, NewGroupPlace::In),
            };
            let (record, answers) = match make(&context, "Creating the group", new, &creation).await {
                Ok(made) => made,
                Err(error) => return Err(error).into(),
            };
            let mut participants = addressed(&targets, &answers, Some(&record));
            let verdict = |target: &Target, now: &GroupRecord| match now.member(&target.person) {
                Some(_) => Verdict::Done,
                None => Verdict::Not(NOT_SAID),
            };
            look_up_unanswered(&context, &record.id, None, &mut participants, verdict).await;
            // The group is made, whatever is known about its people.
            let mut results = results_of(Asked::Change(ParticipantChange::Add), &participants);
            if results.iter().any(|result| result.code == ResultCode::RateLimited) {
                context.slow_down();
            }
            // The cache shows the group before people are invited to it, as the invitations may take a while.
            participant_results::explain_locked(&context, &mut results).await;
            participant_results::forget_unknown(&context, &results, &participants);
            let summary = to_summary(&record, &me);
            let told = context.tell(made(&creation, record));
            if invite_fallback {
                participant_results::invite(&context, &summary.id, &summary.name, &participants, &mut results).await;
            }
            if told { Ok(CreatedGroup { summary, results }) } else { Err(CommandError::OutcomeUnknown) }.into()
        }))
    }
}
