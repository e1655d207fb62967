//! Whether a session can ask WhatsApp now, for callers who look at something else first.

use super::{Command, CommandKind, SessionAccess, Started};
use crate::error::CommandError;

/// Does nothing in a session that is `ready`.
///
/// # Errors
/// As every command ([`Command`]).
pub struct CheckReady;

impl Command for CheckReady {
    type Output = ();

    fn kind(&self) -> CommandKind {
        CommandKind::Lookup
    }

    fn start(self, session: &mut SessionAccess<'_>) -> Result<Started<()>, CommandError> {
        session.check_ready().map(Started::answered)
    }
}
