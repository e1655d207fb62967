//! Leaving a group.

use super::context::Reconciliation;
use super::port::GroupChange;
use super::whatsapp_codes::is_doubtful;
use super::{Command, CommandKind, Finished, SessionAccess, Started};
use crate::error::CommandError;
use crate::rate_limiter::Cost;
use rookery_model::GroupId;

/// Leaves a group; it is gone from the session's list when this is answered.
///
/// # Errors
/// As every command that changes something ([`Command`]), and [`CommandError::GroupNotFound`].
pub struct LeaveGroup {
    /// The group.
    pub group: GroupId,
}

impl Command for LeaveGroup {
    type Output = ();

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<()>, CommandError> {
        let Self { group } = self;
        let context = session.admit(Cost::Write, Some(&group))?;
        Ok(context.run(|context| async move {
            let look = || {
                context.look_at(&group, None, |read| match read.record {
                    None => Reconciliation::Applied(()),
                    Some(_) => Reconciliation::NotApplied,
                })
            };
            let call = context.engine.leave_group(&group);
            let result = context.carry_out("Leaving the group", call, look).await.result;
            let change = match &result {
                Ok(()) => Some(GroupChange::Left { group }),
                Err(error) => is_doubtful(error).then_some(GroupChange::Doubtful { group }),
            };
            Finished::new(change, result)
        }))
    }
}
