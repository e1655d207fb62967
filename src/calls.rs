//! Calls that change something: each is carried through, whoever still waits for it. Knows nothing of what they do.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// Calls whose clients are gone may finish for this long when the daemon stops: their sessions are down by then, so that
/// only their answers are left to write.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// All calls that run.
#[derive(Default)]
pub(crate) struct Calls {
    tasks: TaskTracker,
}

impl Calls {
    /// Runs something to its end even when nobody waits for it any more. [`Self::until_idle`] waits for it.
    pub(crate) fn carry_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.tasks.spawn(work)
    }

    /// Waits for what [`Self::carry_through`] runs, 5 s at most. Called once, when no more calls come.
    pub(crate) async fn until_idle(&self) {
        self.tasks.close();
        if tokio::time::timeout(DRAIN_TIME_MAX, self.tasks.wait()).await.is_err() {
            warn!("some calls did not finish in time");
        }
    }
}
