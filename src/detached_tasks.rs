//! Tasks of requests that change something: each runs to its end, even when its client is gone. Knows nothing of their
//! work.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// A change takes no longer: the daemon waits 20 s for WhatsApp's response, and then reads the result back for 5 s
/// more.
pub(crate) const TASK_TIME_MAX: Duration = Duration::from_secs(26);
/// Time for the last tasks when the sessions are closed: they only have to write their results.
pub(crate) const LAST_TIME_MAX: Duration = Duration::from_secs(5);

/// All tasks that run.
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

    /// Waits for the tasks of [`Self::carry_through`], for a limited time. Called when no more calls come.
    pub(crate) async fn until_idle(&self, time_max: Duration) {
        self.tasks.close();
        if tokio::time::timeout(time_max, self.tasks.wait()).await.is_err() {
            warn!(calls = self.tasks.len(), "some calls did not finish in time");
        }
    }
}
