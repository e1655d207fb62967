//! A group's invite code: reading it, and replacing it by a new one.

use super::{Command, CommandKind, SessionAccess, Started};
use crate::error::CommandError;
use crate::rate_limiter::Cost;
use rookery_model::GroupId;

/// Reads a group's invite code.
///
/// # Errors
/// As every command that asks WhatsApp ([`Command`]), and [`CommandError::GroupNotFound`].
pub struct ReadInviteCode {
    /// The group.
    pub group: GroupId,
}

/// Replaces a group's invite code by a new one.
///
/// # Errors
/// As every command that changes something ([`Command`]), and [`CommandError::GroupNotFound`].
pub struct RevokeInviteCode {
    /// The group.
    pub group: GroupId,
}

impl Command for ReadInviteCode {
    type Output = String;

    fn kind(&self) -> CommandKind {
        CommandKind::Query
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<String>, CommandError> {
        let context = session.admit(Cost::Query, Some(&self.group))?;
        Ok(context.run(|context| async move {
            context.question("Reading the invite code", context.engine.invite_code(&self.group, false)).await.into()
        }))
    }
}

impl Command for RevokeInviteCode {
    type Output = String;

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<String>, CommandError> {
        let Self { group } = self;
        let context = session.admit(Cost::Write, Some(&group))?;
        Ok(context.run(|context| async move {
            // When the answer with the new code is lost, the code is replaced once more: the old code is void either
            // way.
            let revoke = || context.engine.invite_code(&group, true);
            context.carry_out_again("Revoking the invite code", revoke).await.into()
        }))
    }
}
