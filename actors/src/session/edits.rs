//! Changes of a group as a whole: subject, description, settings, picture, invite code, and leaving it.

use tokio::time::Instant;

use super::command_context::{GroupChange, Outcome, Reconciliation, field_told};
use super::rate_limiter::Cost;
use super::whatsapp_codes::is_doubtful;
use super::{Permit, Reply, SessionState};
use crate::error::CommandError;
use crate::group_cache::{Heard, PendingChange, WriteId};
use rookery_engine::{EngineError, PreviousDescription};
use rookery_model::GroupRecord;
use rookery_model::{GroupId, Setting};

impl SessionState {
    pub(super) fn set_subject(&mut self, group: GroupId, subject: String, permit: Permit, reply: Reply<()>) {
        let Some((work, reply)) = self.begin(Cost::Write, Some(&group), permit, reply) else { return };
        let change = PendingChange::Subject(subject.clone());
        let write = self.cache.begin_write(&group, change.clone());
        let before = self.cache.record(&group).map(|record| record.subject_at);
        tokio::spawn(async move {
            let judge = |now: &GroupRecord| text_look(now.subject == subject, before == Some(now.subject_at));
            let look = || work.look_into(&group, write, |now, _| judge(now));
            let call = work.engine.set_subject(&group, &subject);
            let outcome = work.carry_out("Changing the subject", call, look).await;
            work.finish_field(group, write, change, outcome, reply);
        });
    }

    pub(super) fn set_description(&mut self, group: GroupId, description: String, permit: Permit, reply: Reply<()>) {
        let Some((work, reply)) = self.begin(Cost::Write, Some(&group), permit, reply) else { return };
        let known = self.cache.record(&group).and_then(|record| record.description_id.clone());
        let before = known.clone();
        let text = Some(description).filter(|text| !text.is_empty());
        let change = PendingChange::Description(text.clone());
        let write = self.cache.begin_write(&group, change.clone());
        tokio::spawn(async move {
            let set = async |previous| work.engine.set_description(&group, text.as_deref(), &previous).await;
            let set_twice = async {
                match set(PreviousDescription::Known(known)).await {
                    Err(EngineError::DescriptionConflict) => set(PreviousDescription::Ask).await,
                    answer => answer,
                }
            };
            let judge = |now: &GroupRecord, heard: &Heard| {
                // One that is not there has no token by which it could be told from one that is gone again.
                let is_as_before = before == now.description_id && (before.is_some() || !heard.may_be_about_field());
                text_look(now.description == text, is_as_before)
            };
            let look = || work.look_into(&group, write, judge);
            let outcome = work.carry_out("Changing the description", set_twice, look).await;
            work.finish_field(group, write, change, outcome, reply);
        });
    }

    /// One after the other, in their fixed order; the first that fails is the last that was tried.
    pub(super) fn set_settings(
        &mut self,
        group: GroupId,
        mut settings: Vec<Setting>,
        permit: Permit,
        reply: Reply<()>,
    ) {
        let Some((work, reply)) = self.begin(Cost::Write, Some(&group), permit, reply) else { return };
        settings.sort_unstable();
        let begin = |setting| (setting, self.cache.begin_write(&group, PendingChange::Setting(setting)));
        let writes: Vec<(Setting, WriteId)> = settings.into_iter().map(begin).collect();
        tokio::spawn(async move {
            let mut failed = None;
            let (mut told, mut is_late) = (true, false);
            for (at, (setting, write)) in writes.iter().copied().enumerate() {
                is_late |= failed.is_none() && at > 0 && work.is_late();
                if is_late && failed.is_none() {
                    failed = Some((at, CommandError::Unanswered));
                }
                if failed.is_some() {
                    work.tell(GroupChange::Dropped { group: group.clone(), write, unknown: false });
                    continue;
                }
                // WhatsApp gives a setting no version by which it could be told from one that was changed and changed back.
                let judge = |now: &GroupRecord, heard: &Heard| match now.settings.has(setting) {
                    true => Reconciliation::Applied(()),
                    false if heard.may_be_about_field() => Reconciliation::Unclear,
                    false => Reconciliation::NotApplied,
                };
                let look = || work.look_into(&group, write, judge);
                let call = work.engine.set_setting(&group, setting);
                let outcome = work.carry_out("Changing the settings", call, look).await;
                told &= work.tell(field_told(group.clone(), write, PendingChange::Setting(setting), &outcome));
                failed = outcome.result.err().map(|error| (at, error));
            }
            let answer = match failed {
                None if told => Ok(()),
                None => Err(CommandError::OutcomeUnknown),
                Some((at, error)) => Err(partly(&writes, at, is_late, error)),
            };
            work.finish(None, reply, answer);
        });
    }

    pub(super) fn set_picture(
        &mut self,
        group: GroupId,
        jpeg: Option<Vec<u8>>,
        begun: Instant,
        permit: Permit,
        reply: Reply<()>,
    ) {
        let cost = if jpeg.is_some() { Cost::Counted } else { Cost::Write };
        let Some((mut work, reply)) = self.begin(cost, Some(&group), permit, reply) else { return };
        work.count_from(begun);
        tokio::spawn(async move {
            let what = if jpeg.is_some() { "Changing the picture" } else { "Removing the picture" };
            // Which picture a group has cannot be read; setting the same one again does no harm.
            let again = || async {
                work.look_up(work.engine.set_picture(&group, jpeg.clone()))
                    .await
                    .map_or_else(|look| look, Reconciliation::Applied)
            };
            let outcome = work.carry_out(what, work.engine.set_picture(&group, jpeg.clone()), again).await;
            work.finish(None, reply, outcome.result);
        });
    }

    pub(super) fn read_picture(&mut self, group: GroupId, permit: Permit, reply: Reply<Option<String>>) {
        let Some((work, reply)) = self.begin(Cost::Query, Some(&group), permit, reply) else { return };
        tokio::spawn(async move {
            let answer = work.question("Reading the picture", work.engine.picture_url(&group)).await;
            work.finish(None, reply, answer);
        });
    }

    pub(super) fn read_invite_code(&mut self, group: GroupId, permit: Permit, reply: Reply<String>) {
        let Some((work, reply)) = self.begin(Cost::Query, Some(&group), permit, reply) else { return };
        tokio::spawn(async move {
            let answer = work.question("Reading the invite code", work.engine.invite_code(&group, false)).await;
            work.finish(None, reply, answer);
        });
    }

    pub(super) fn revoke_invite_code(&mut self, group: GroupId, permit: Permit, reply: Reply<String>) {
        let Some((work, reply)) = self.begin(Cost::Write, Some(&group), permit, reply) else { return };
        tokio::spawn(async move {
            // A code that nobody was told is replaced once more: the one before is void either way.
            let again = || async {
                work.look_up(work.engine.invite_code(&group, true))
                    .await
                    .map_or_else(|look| look, Reconciliation::Applied)
            };
            let call = work.engine.invite_code(&group, true);
            let outcome = work.carry_out("Revoking the invite code", call, again).await;
            work.finish(None, reply, outcome.result);
        });
    }

    pub(super) fn leave_group(&mut self, group: GroupId, permit: Permit, reply: Reply<()>) {
        let Some((work, reply)) = self.begin(Cost::Write, Some(&group), permit, reply) else { return };
        tokio::spawn(async move {
            let look = || {
                work.look_at(&group, None, |read| match read.record {
                    None => Reconciliation::Applied(()),
                    Some(_) => Reconciliation::NotApplied,
                })
            };
            let call = work.engine.leave_group(&group);
            let Outcome { result, .. } = work.carry_out("Leaving the group", call, look).await;
            let change = match &result {
                Ok(()) => Some(GroupChange::Left { group }),
                Err(error) => is_doubtful(error).then_some(GroupChange::Doubtful { group }),
            };
            work.finish(change, reply, result);
        });
    }
}

/// A text that is neither ours nor the one before: somebody else was faster, or WhatsApp changed ours.
fn text_look(is_ours: bool, is_as_before: bool) -> Reconciliation<()> {
    match (is_ours, is_as_before) {
        (true, _) => Reconciliation::Applied(()),
        (false, true) => Reconciliation::NotApplied,
        (false, false) => Reconciliation::Unclear,
    }
}

/// A single setting that failed is told as it is. `is_late`: nobody tried to set it.
fn partly(writes: &[(Setting, WriteId)], failed: usize, is_late: bool, error: CommandError) -> CommandError {
    if writes.len() == 1 {
        return error;
    }
    let names = |writes: &[(Setting, WriteId)]| writes.iter().map(|(setting, _)| setting.name()).collect();
    CommandError::SettingsPartly {
        applied: names(&writes[..failed]),
        failed: (!is_late).then(|| writes[failed].0.name()),
        not_tried: names(&writes[if is_late { failed } else { failed + 1 }..]),
        error: Box::new(error),
    }
}
