//! Signals of the system to the daemon (SIGTERM, SIGINT), and notifications of the daemon to systemd. Without systemd
//! the notifications do nothing.

use std::io;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

/// The signals that ask the daemon to stop.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on these signals no longer end the process by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Self { terminate: signal(terminate)?, interrupt: signal(interrupt)? })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        info!(signal = name, "stopping");
    }
}

/// Notifies systemd that HTTP is served: it then starts the units that come after us.
pub(crate) fn tell_ready() {
    tell(&NotifyState::Ready);
}

/// Notifies systemd that the daemon has begun to shut down.
pub(crate) fn tell_stopping() {
    tell(&NotifyState::Stopping);
}

fn tell(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        warn!(%error, "could not notify systemd");
    }
}

/// Resolves when the sender is dropped.
pub(crate) async fn until_dropped(mut stopped: watch::Receiver<()>) {
    let _ = stopped.changed().await;
}
