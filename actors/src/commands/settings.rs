//! Changing the settings of a group.

use super::context::{Reconciliation, field_change};
use super::port::GroupChange;
use super::{Command, CommandKind, SessionAccess, Started};
use crate::error::CommandError;
use crate::group_cache::{Heard, PendingChange, WriteId};
use crate::rate_limiter::Cost;
use rookery_model::{GroupId, GroupRecord, Setting};

/// Changes settings, one after the other, in the order of [`Setting`]; the first that fails is the last that is tried.
///
/// # Errors
/// As every command that changes something ([`Command`]), [`CommandError::GroupNotFound`], [`CommandError::SettingsPartly`].
pub struct SetSettings {
    /// The group.
    pub group: GroupId,
    /// Each setting at most once.
    pub settings: Vec<Setting>,
}

impl Command for SetSettings {
    type Output = ();

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<()>, CommandError> {
        let Self { group, mut settings } = self;
        let context = session.admit(Cost::Write, Some(&group))?;
        settings.sort_unstable();
        let begin = |setting| (setting, session.cache.begin_write(&group, PendingChange::Setting(setting)));
        let writes: Vec<(Setting, WriteId)> = settings.into_iter().map(begin).collect();
        Ok(context.run(move |context| async move {
            let mut failed = None;
            let (mut told, mut is_late) = (true, false);
            for (at, (setting, write)) in writes.iter().copied().enumerate() {
                is_late |= failed.is_none() && at > 0 && context.is_late();
                if is_late && failed.is_none() {
                    failed = Some((at, CommandError::Unanswered));
                }
                if failed.is_some() {
                    context.tell(GroupChange::Dropped { group: group.clone(), write, unknown: false });
                    continue;
                }
                // Settings have no version at WhatsApp. So an old value may also have been changed and changed back.
                let judge = |now: &GroupRecord, heard: &Heard| match now.settings.has(setting) {
                    true => Reconciliation::Applied(()),
                    false if heard.may_be_about_field() => Reconciliation::Unclear,
                    false => Reconciliation::NotApplied,
                };
                let look = || context.look_into(&group, write, judge);
                let call = context.engine.set_setting(&group, setting);
                let outcome = context.carry_out("Changing the settings", call, look).await;
                told &= context.tell(field_change(group.clone(), write, PendingChange::Setting(setting), &outcome));
                failed = outcome.result.err().map(|error| (at, error));
            }
            match failed {
                None if told => Ok(()),
                None => Err(CommandError::OutcomeUnknown),
                Some((at, error)) => Err(partly(&writes, at, is_late, error)),
            }
            .into()
        }))
    }
}

/// The error of a single setting is returned as it is. `is_late`: there was no time to try the failed setting.
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
