//! The parts of the daemon that a request may use, and nothing else. `daemon.rs` fills [`App`], and starts and stops
//! the tasks beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rookery_actors::Gateway;
use rookery_store::EventKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::audit::Audit;
use crate::auth::{ApiKeys, FailedLogins, Key};
use crate::batches::Batches;
use crate::config::HttpOptions;
use crate::detached_tasks::DetachedTasks;
use crate::http::bulk::Bulk;
use crate::http::error::AccessError;
use crate::http::request::body_room::Rooms as BodyRooms;
use crate::idempotency::Idempotency;
use crate::media::Media;
use crate::picture::Pictures;
use crate::shares::{Share, Shares};
use crate::webhooks::Webhooks;

/// The parts that are opened at the start.
pub(crate) struct Parts {
    pub(crate) gateway: Gateway,
    pub(crate) keys: Arc<ApiKeys>,
    pub(crate) idempotency: Arc<Idempotency>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) pictures: Pictures,
    pub(crate) media: Arc<Media>,
    pub(crate) batches: Batches,
    pub(crate) webhooks: Webhooks,
    /// Hides positions in the whole event log from callers.
    pub(crate) cursor_key: EventKey,
}

/// Held for as long as a stream, or a client of sockets, is there.
pub(crate) struct StreamPermit {
    _of_key: OwnedSemaphorePermit,
    _of_all: Share<Uuid>,
}

/// The parts of the daemon that a request may use.
pub(crate) struct App {
    pub(crate) gateway: Gateway,
    pub(crate) keys: Arc<ApiKeys>,
    pub(crate) idempotency: Arc<Idempotency>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) calls: DetachedTasks,
    pub(crate) pictures: Pictures,
    pub(crate) media: Arc<Media>,
    pub(crate) bulk: Bulk,
    pub(crate) webhooks: Webhooks,
    pub(crate) cursor_key: EventKey,
    pub(crate) http: Arc<HttpOptions>,
    pub(crate) failed_logins: FailedLogins,
    /// A permit for each request that may be in flight.
    pub(crate) in_flight: Arc<Semaphore>,
    /// A share for each stream that may be open.
    streams: Arc<Shares<Uuid>>,
    pub(crate) body_rooms: BodyRooms,
    draining: AtomicBool,
}

impl App {
    pub(crate) fn new(parts: Parts, http: HttpOptions) -> Self {
        let Parts { gateway, keys, idempotency, audit, pictures, media, batches, webhooks, cursor_key } = parts;
        let failed_logins = FailedLogins::new(http.limits.failed_logins);
        let in_flight = Arc::new(Semaphore::new(http.limits.requests_max));
        let streams = Shares::new(http.limits.streams_max);
        let (body_rooms, draining) = (BodyRooms::new(&http.limits), AtomicBool::new(false));
        let (http, calls) = (Arc::new(http), DetachedTasks::default());
        Self {
            gateway,
            keys,
            idempotency,
            audit,
            calls,
            pictures,
            media,
            bulk: Bulk::new(batches),
            webhooks,
            cursor_key,
            http,
            failed_logins,
            in_flight,
            streams,
            body_rooms,
            draining,
        }
    }

    /// A permit for a stream of this key.
    ///
    /// # Errors
    /// [`AccessError::TooManyStreams`], [`AccessError::NoStreamLeft`].
    pub(crate) fn admit_stream(&self, key: &Key) -> Result<StreamPermit, AccessError> {
        let of_key = key.admit_stream().ok_or(AccessError::TooManyStreams)?;
        let of_all = self.streams.take(key.id()).ok_or(AccessError::NoStreamLeft)?;
        Ok(StreamPermit { _of_key: of_key, _of_all: of_all })
    }

    /// The daemon is shutting down from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the daemon is shutting down.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
