//! Accepts connections and serves HTTP/1.1 on them, within limits, until it is told to stop. Knows no routes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::envelope;
use super::error::{AccessError, ApiError};
use super::limits::{
    ACCEPT_RETRY, CONNECTION_BUFFER_BYTES_MAX, DRAIN_TIME_MAX, PARTING_TIME_MAX, PARTINGS_MAX, UNREAD_TIME_MAX,
};
use super::options::HttpOptions;
use crate::auth::subscriber;

/// Serves the router until `stop` resolves, then lets requests in flight finish, for a limited time. So many connections
/// are open at once as the limits say; further ones wait in the system's queue, but for those of an address that has its
/// share already.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    options: Arc<HttpOptions>,
    stop: impl Future<Output = ()>,
) {
    let permits = Arc::new(Semaphore::new(options.limits.connections_max.min(Semaphore::MAX_PERMITS)));
    let addresses = Arc::new(Addresses::default());
    let partings = Arc::new(Semaphore::new(PARTINGS_MAX));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        match addresses.take(accepted.peer.ip().to_canonical(), &options) {
            Some(share) => {
                let served = connection(accepted, share, router.clone(), Arc::clone(&options), graceful.watcher());
                connections.spawn(served);
            }
            None => {
                if let Ok(place) = Arc::clone(&partings).try_acquire_owned() {
                    connections.spawn(turn_away(accepted, place, Arc::clone(&options), graceful.watcher()));
                }
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    drain(graceful, connections, DRAIN_TIME_MAX).await;
}

/// A connection that was accepted, and its share of how many there may be.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
}

/// How many connections each address has open; a /64 of IPv6 is one.
#[derive(Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// A connection's place in its address's share; gives it back when dropped.
struct Share {
    addresses: Arc<Addresses>,
    peer: IpAddr,
}

impl Addresses {
    /// `None` when the address has its share already. Behind a trusted proxy are many clients: it has no share of its own.
    fn take(self: &Arc<Self>, peer: IpAddr, options: &HttpOptions) -> Option<Share> {
        let is_proxy = options.trusted_proxies.iter().any(|range| range.contains(peer));
        let peer = subscriber(peer);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(peer).or_default();
        if *count >= options.limits.connections_per_address_max && !is_proxy {
            return None;
        }
        *count += 1;
        Some(Share { addresses: Arc::clone(self), peer })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut open = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> Accepted {
    loop {
        let Ok(permit) = Arc::clone(permits).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, peer)) => return Accepted { stream, peer, permit },
            Err(error) => {
                warn!(%error, "could not accept a connection, will try again");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn connection(accepted: Accepted, share: Share, router: Router, options: Arc<HttpOptions>, watcher: Watcher) {
    let Accepted { stream, peer, permit } = accepted;
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "could not set TCP_NODELAY");
    }
    if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD_TIME_MAX)) {
        debug!(%error, "could not set TCP_USER_TIMEOUT");
    }
    serve_on(
        stream,
        peer,
        router,
        &options,
        http1::Builder::new().header_read_timeout(options.limits.header_time_max),
        watcher,
    )
    .await;
    drop((share, permit));
}

/// Answers the one request that an address without a free place sends with the reason, and closes its connection. This
/// counts among a few places of its own, not among those of the clients.
async fn turn_away(accepted: Accepted, place: OwnedSemaphorePermit, options: Arc<HttpOptions>, watcher: Watcher) {
    let Accepted { stream, peer, permit } = accepted;
    drop(permit);
    let router = Router::new().fallback(async || ApiError::from(AccessError::TooManyConnections));
    let mut http = http1::Builder::new();
    http.keep_alive(false).header_read_timeout(PARTING_TIME_MAX);
    let _ =
        tokio::time::timeout(2 * PARTING_TIME_MAX, serve_on(stream, peer, router, &options, &mut http, watcher)).await;
    drop(place);
}

async fn serve_on(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    options: &Arc<HttpOptions>,
    http: &mut http1::Builder,
    watcher: Watcher,
) {
    let peer = peer.ip().to_canonical();
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (router, options) = (router.clone(), Arc::clone(options));
        async move { Ok::<_, Infallible>(envelope::answer(&options, router, peer, request).await) }
    });
    let header_bytes_max = options.limits.header_bytes_max;
    let connection = http
        .timer(TokioTimer::new())
        .max_header_size(header_bytes_max)
        .max_buf_size(CONNECTION_BUFFER_BYTES_MAX.max(header_bytes_max))
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        debug!(%error, "connection ended");
    }
}

async fn drain(graceful: GracefulShutdown, mut connections: JoinSet<()>, time_max: Duration) {
    let open = graceful.count();
    if open > 0 {
        info!(connections = open, "letting requests in flight finish");
    }
    if tokio::time::timeout(time_max, graceful.shutdown()).await.is_err() {
        warn!(drain_time_s = time_max.as_secs(), "some requests did not finish in time, closing their connections");
    }
    connections.shutdown().await;
}
