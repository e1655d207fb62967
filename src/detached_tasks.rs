//! Tasks of requests that change something: each is carried through, whoever still waits for it. Knows nothing of what they do.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// A change takes no longer: WhatsApp's answer is waited for 20 s, and then looked for 5 s more.
pub(crate) const TASK_TIME_MAX: Duration = Duration::from_secs(26);
/// Tasks that are left when the sessions are down may finish for this long: only their answers are left to write.
pub(crate) const LAST_TIME_MAX: Duration = Duration::from_secs(5);

/// All calls that run.
#[derive(Default)]
pub(crate) struct DetachedTasks {
    tasks: TaskTracker,
}

impl DetachedTasks {
    /// Runs something to its end even when nobody waits for it any more. [`Self::until_idle`] waits for it.
    pub(crate) fn carry_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.tasks.spawn(work)
    }

    /// Waits for what [`Self::carry_through`] runs, for a limited time. Called when no more calls come.
    pub(crate) async fn until_idle(&self, time_max: Duration) {
        self.tasks.close();
        if tokio::time::timeout(time_max, self.tasks.wait()).await.is_err() {
            warn!(calls = self.tasks.len(), "some calls did not finish in time");
        }
    }
}
