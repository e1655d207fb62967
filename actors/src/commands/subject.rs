//! Changing the subject of a group.

use super::context::{field_finished, text_look};
use super::{Command, CommandKind, SessionAccess, Started};
use crate::error::CommandError;
use crate::group_cache::PendingChange;
use crate::rate_limiter::Cost;
use rookery_model::{GroupId, GroupRecord};

/// Changes a group's subject.
///
/// # Errors
/// As every command that changes something ([`Command`]), and [`CommandError::GroupNotFound`].
pub struct SetSubject {
    /// The group.
    pub group: GroupId,
    /// Its new subject.
    pub subject: String,
}

impl Command for SetSubject {
    type Output = ();

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<()>, CommandError> {
        let Self { group, subject } = self;
        let context = session.admit(Cost::Write, Some(&group))?;
        let change = PendingChange::Subject(subject.clone());
        let write = session.cache.begin_write(&group, change.clone());
        let before = session.cache.record(&group).map(|record| record.subject_at);
        Ok(context.run(move |context| async move {
            let judge = |now: &GroupRecord| text_look(now.subject == subject, before == Some(now.subject_at));
            let look = || context.look_into(&group, write, |now, _| judge(now));
            let call = context.engine.set_subject(&group, &subject);
            let outcome = context.carry_out("Changing the subject", call, look).await;
            field_finished(group, write, change, outcome)
        }))
    }
}
