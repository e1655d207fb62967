//! Accepts connections and serves HTTP/1.1 on them, within limits, until it is told to stop. Knows no routes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
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
use super::limits::{
    ACCEPT_RETRY, CONNECTION_BUFFER_BYTES_MAX, DRAIN_TIME_MAX, HEADER_BYTES_MAX, HEADER_READ_TIME_MAX, UNREAD_TIME_MAX,
};

/// Serves the router until `stop` resolves, then lets requests in flight finish, for a limited time.
/// At most `connections_max` connections are open at once; further ones wait in the system's queue.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    stop: impl Future<Output = ()>,
) {
    let permits = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        connections.spawn(connection(accepted, router.clone(), graceful.watcher()));
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

async fn connection(accepted: Accepted, router: Router, watcher: Watcher) {
    let Accepted { stream, peer, permit } = accepted;
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "could not set TCP_NODELAY");
    }
    if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD_TIME_MAX)) {
        debug!(%error, "could not set TCP_USER_TIMEOUT");
    }
    let peer = peer.ip().to_canonical();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answer = envelope::answer(router.clone(), peer, request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIME_MAX)
        .max_header_size(HEADER_BYTES_MAX)
        .max_buf_size(CONNECTION_BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        debug!(%error, "connection ended");
    }
    drop(permit);
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
