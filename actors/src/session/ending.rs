//! The end of a session's actor when the daemon shuts down. Unlike after a kill, everything that the actor was told until
//! then is on disk: WhatsApp does not tell it again.

use super::SessionState;
use super::message::{SessionMsg, Shutdown};
use rookery_engine::EngineEvent;

impl SessionState {
    /// Whether a message still counts, which may have come while the daemon shuts down: what became of writes, and what
    /// WhatsApp told about groups and people.
    pub(super) fn counts(&self, message: &SessionMsg) -> bool {
        use SessionMsg as M;
        self.shutdown.is_none()
            || match message {
                M::Shutdown(_) | M::JournalWritten(_) | M::GroupChanged { .. } => true,
                M::EngineReported { event, .. } => matches!(event, EngineEvent::Group(_) | EngineEvent::Named(..)),
                _ => false,
            }
    }

    /// Stops the actor of a daemon that shuts down, once nothing is on its way to the disk.
    pub(super) fn stop_when_written(&self) {
        if matches!(self.shutdown, Some(Shutdown::EngineGone(_))) && !self.journal.is_writing() {
            self.myself.stop(None);
        }
    }
}
