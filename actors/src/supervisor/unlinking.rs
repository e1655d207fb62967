//! Unlinks the device of a session that is deleted while it has no connection: a connection is made for that alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use crate::context::Context;
use crate::directory::SessionHandle;
use crate::session::record::{Link, SessionRecord, StoredSession};
use rookery_engine::{Engine, EngineEvent, Inbox, LogoutKind, Report};
use rookery_model::{IncomingMessage, Receipt};

/// The longest wait of a caller who deletes a session for WhatsApp, whatever is tried meanwhile.
pub(super) const UNLINK_TIME_MAX: Duration = Duration::from_secs(5);
/// The time for the connection to close.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// Unlinks the device; true when WhatsApp has no device of this session any more. The session's actor is gone; the
/// device's permit ensures K-1.
pub(super) async fn unlink(context: &Context, entry: &SessionHandle, deadline: Instant) -> bool {
    let Ok(_device) = entry.device.acquire().await else { return false };
    match SessionRecord::load(&*context.store, entry.number) {
        Ok(StoredSession::Readable(record)) if record.link == Link::None => return true,
        Ok(StoredSession::Readable(_)) => {}
        _ => return false,
    }
    let (answered, is_removed) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let report: Report = {
        let (answered, is_removed) = (answered.clone(), is_removed.clone());
        Arc::new(move |fact| match fact {
            EngineEvent::LoggedIn => answered.notify_one(),
            EngineEvent::LoggedOut(LogoutKind::Removed) => {
                is_removed.store(true, Ordering::Relaxed);
                answered.notify_one();
            }
            _ => {}
        })
    };
    let opened = Engine::open(&context.engines, entry.engine_session(Arc::new(Nowhere)), report);
    let Ok(Ok((engine, run))) = timeout_at(deadline, opened).await else {
        return false;
    };
    let mut running = tokio::spawn(run.run());
    let unlinked = async {
        answered.notified().await;
        is_removed.load(Ordering::Relaxed) || engine.log_out().await || is_removed.load(Ordering::Relaxed)
    };
    let is_unlinked = timeout_at(deadline, unlinked).await.unwrap_or(false);
    let closed = async {
        engine.disconnect().await;
        let _ = (&mut running).await;
    };
    if timeout(CLOSE_TIME_MAX, closed).await.is_err() {
        running.abort();
        let _ = running.await;
    }
    engine.release();
    is_unlinked
}

/// Takes the messages of an account that is being unlinked, and keeps none: the device is gone in a moment.
struct Nowhere;

impl Inbox for Nowhere {
    fn take(&self, _: Vec<IncomingMessage>) -> BoxFuture<'static, bool> {
        std::future::ready(true).boxed()
    }

    fn take_receipt(&self, _: Receipt) {}

    fn is_open(&self) -> bool {
        true
    }
}
