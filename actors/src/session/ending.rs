//! The end of a session's actor when the daemon shuts down. Unlike after a kill, everything that the actor was told until
//! then is on disk: WhatsApp does not tell it again.

use tokio::sync::oneshot;

use super::SessionState;
use super::message::SessionMsg;
use rookery_engine::EngineEvent;

/// The shutdown, as a session's actor hears of it.
pub(crate) enum Shutdown {
    /// The engine is being closed. Its connection's end is no event, and nobody waits for an answer any more.
    Begun,
    /// The engine is gone and reports nothing further: stop once all is on disk, as far as the disk takes it. The
    /// sender is dropped with the actor.
    EngineGone(#[expect(dead_code, reason = "its end is the message")] oneshot::Sender<()>),
}

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
