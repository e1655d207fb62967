//! The account's own profile: what others see of it.

use tokio::time::Instant;

use super::{Command, CommandKind, SessionAccess, Started};
use crate::error::CommandError;
use crate::rate_limiter::Cost;
use rookery_model::ProfileChange;

/// Changes the account's name, text or picture. [`crate::Gateway::count_picture`] has counted a picture that is set against the session's limit.
///
/// # Errors
/// As every command that changes something ([`Command`]).
pub struct ChangeProfile {
    /// The change.
    pub change: ProfileChange,
    /// When the caller began to wait: the time for making a picture is taken from WhatsApp's time.
    pub begun: Instant,
}

impl Command for ChangeProfile {
    type Output = ();

    fn kind(&self) -> CommandKind {
        CommandKind::Write
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<()>, CommandError> {
        let Self { change, begun } = self;
        let is_counted = matches!(change, ProfileChange::Picture(Some(_)));
        let mut context = session.admit(if is_counted { Cost::Counted } else { Cost::Write }, None)?;
        context.count_from(begun);
        Ok(context.run(move |context| async move {
            let changed = context.carry_out_again("Changing the profile", || context.engine.change_profile(&change));
            changed.await.into()
        }))
    }
}
