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
use super::limits::{ACCEPT_RETRY, CONNECTION_BUFFER_BYTES_MAX, DRAIN_TIME_MAX, UNREAD_TIME_MAX};
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
            None => turn_away(&accepted.stream),
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

/// Says why, if the system takes that at once, and closes the connection.
fn turn_away(stream: &TcpStream) {
    debug!("an address has as many connections as it may, closing one");
    let answer = ApiError::from(AccessError::TooManyConnections).to_http1();
    let _ = stream.try_write(&answer);
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
    let peer = peer.ip().to_canonical();
    let limits = &options.limits;
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (router, options) = (router.clone(), Arc::clone(&options));
        async move { Ok::<_, Infallible>(envelope::answer(&options, router, peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time_max)
        .max_header_size(limits.header_bytes_max)
        .max_buf_size(CONNECTION_BUFFER_BYTES_MAX.max(limits.header_bytes_max))
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        debug!(%error, "connection ended");
    }
    drop((share, permit));
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
