//! The context of a request: known before its route is, and added to on the way. `middleware/request_context.rs` makes
//! it.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::MatchedPath;
use axum::http::HeaderValue;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::auth::{Key, RateState};
use crate::http::limits::REQUEST_TIME_MAX;
use crate::http::request::body_room::Room;
use crate::http::server::places::Place;

/// The context of a request: known before its route is, and added to on the way. Lies in the request's extensions.
pub(crate) struct RequestContext {
    /// The address at the other end of the connection.
    peer: IpAddr,
    begun: Instant,
    /// More time than other requests have.
    time_max: OnceLock<Duration>,
    place: Option<Arc<Place>>,
    /// The client's address; `None` when a trusted proxy names something that is no address.
    pub(crate) client: Option<IpAddr>,
    /// The request's id, as in the response.
    pub(crate) request_id: HeaderValue,
    /// The template of the route that was found.
    route: OnceLock<MatchedPath>,
    /// The state of the key's rate limit.
    rate: OnceLock<RateState>,
    /// The key, also when the request is refused for another reason.
    key: OnceLock<Arc<Key>>,
    /// The request's permits, until it is answered and no task works for it any more.
    permits: OnceLock<[OwnedSemaphorePermit; 2]>,
    /// The room of the request's body, held as long.
    room: OnceLock<Room>,
}

impl RequestContext {
    /// The context of a request that came from `peer`, over the connection that has this place.
    pub(crate) fn new(
        peer: IpAddr,
        place: Option<Arc<Place>>,
        client: Option<IpAddr>,
        request_id: HeaderValue,
    ) -> Self {
        Self {
            peer,
            begun: Instant::now(),
            time_max: OnceLock::new(),
            place,
            client,
            request_id,
            route: OnceLock::new(),
            rate: OnceLock::new(),
            key: OnceLock::new(),
            permits: OnceLock::new(),
            room: OnceLock::new(),
        }
    }

    /// When the request began.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    /// Gives the request so much time in all.
    pub(crate) fn allow_time(&self, time_max: Duration) {
        let _ = self.time_max.set(time_max);
    }

    /// When the request has to be over.
    pub(crate) fn deadline(&self) -> Instant {
        self.begun + self.time_max.get().copied().unwrap_or(REQUEST_TIME_MAX)
    }

    /// The route that was found, if there was one.
    pub(crate) fn route(&self) -> Option<&MatchedPath> {
        self.route.get()
    }

    /// The state of the key's rate limit.
    pub(crate) fn rate(&self) -> Option<RateState> {
        self.rate.get().copied()
    }

    pub(crate) fn note_route(&self, route: &MatchedPath) {
        let _ = self.route.set(route.clone());
    }

    /// The connection's place; `None` without a connection.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_deref()
    }

    pub(crate) fn note_key(&self, key: &Arc<Key>) {
        let _ = self.key.set(Arc::clone(key));
    }

    pub(crate) fn key(&self) -> Option<&Arc<Key>> {
        self.key.get()
    }

    pub(crate) fn hold(&self, permits: [OwnedSemaphorePermit; 2]) {
        let _ = self.permits.set(permits);
    }

    pub(crate) fn hold_room(&self, room: Room) {
        let _ = self.room.set(room);
    }

    pub(crate) fn note_rate(&self, rate: RateState) {
        let _ = self.rate.set(rate);
    }

    /// The address that failed log-ins are counted for: the client's or, when it is unknown, the peer's.
    pub(crate) fn counted_address(&self) -> IpAddr {
        self.client.unwrap_or(self.peer)
    }
}
