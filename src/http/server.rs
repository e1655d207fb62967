//! Accepts connections and serves HTTP/1.1 on them, within limits, until `stop` resolves. Hands over those that become websockets. Knows no routes, except the
//! health check, which everybody may ask.
//!
//! A connection's way: a place among all (`server/places.rs`) or a short refusal; its bytes (`server/wire.rs`); each
//! head (`server/head.rs`); the response (`middleware/request_context.rs`).

mod head;
pub(crate) mod places;
#[cfg(test)]
mod tests;
mod wire;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::HttpOptions;
use crate::http::error::{AccessError, ApiError};
use crate::http::limits::{
    ACCEPT_RETRY, CONNECTION_BUFFER_BYTES_MAX, REJECTION_TIME_MAX, REJECTIONS_MAX, UNREAD_TIME_MAX, UNSENT_BYTES_MAX,
};
use crate::http::middleware::request_context::{self, Peer};
use crate::http::server::places::Place;
use places::{Capacity, Entered, Places};
use wire::Wire;

/// The path that is served also when there is no place left: load balancers and supervisors ask it.
const HEALTH_PATH: &str = "/api/health";

/// Serves the router until `stop` resolves, then lets requests in flight finish, for a limited time; requests that
/// still run then get 503.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    options: Arc<HttpOptions>,
    stop: impl Future<Output = ()>,
) {
    let limits = &options.limits;
    let places = Places::new(Capacity::of(limits.connections_max, limits.connections_per_address_max));
    let rejections = Places::new(Capacity::unshared(REJECTIONS_MAX));
    let server = Server {
        router,
        options: Arc::clone(&options),
        draining: CancellationToken::new(),
        over: CancellationToken::new(),
    };
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener) => accepted,
        };
        let address = peer.ip().to_canonical();
        // A trusted proxy has many clients behind it, so it has no share of its own.
        let is_proxy = options.trusted_proxies.iter().any(|range| range.contains(address));
        match places.enter(address, is_proxy) {
            Ok(place) => drop(connections.spawn(connection(server.clone(), stream, place))),
            Err(refusal) => {
                // A connection that sends nothing gives way to the next.
                if let Ok(place) = rejections.enter(address, true) {
                    connections.spawn(turn_away(server.clone(), stream, place, refusal));
                }
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    server.drain(connections).await;
}

/// The state that every connection is served with.
#[derive(Clone)]
struct Server {
    router: Router,
    options: Arc<HttpOptions>,
    /// Cancelled when no further requests are taken.
    draining: CancellationToken,
    /// Cancelled when the time for requests in flight is over.
    over: CancellationToken,
}

impl Server {
    async fn drain(&self, mut connections: JoinSet<()>) {
        let time_max = self.options.limits.drain_time_max;
        if !connections.is_empty() {
            info!(connections = connections.len(), "letting requests in flight finish");
        }
        self.draining.cancel();
        let all_over = async |connections: &mut JoinSet<()>| while connections.join_next().await.is_some() {};
        if tokio::time::timeout(time_max, all_over(&mut connections)).await.is_err() {
            warn!(drain_time_s = time_max.as_secs(), "some requests did not finish in time, answering them 503");
            self.over.cancel();
            let _ = tokio::time::timeout(REJECTION_TIME_MAX, all_over(&mut connections)).await;
        }
        connections.shutdown().await;
    }

    async fn answer(&self, place: &Arc<Place>, request: Request<Incoming>) -> Response {
        let peer = Peer { address: place.address(), place: Some(Arc::clone(place)), over: self.over.clone() };
        place.begin();
        let is_chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
        let (mut response, is_last) = match head::check(&request, place) {
            Ok(()) => (request_context::answer(&self.options, self.router.clone(), peer, request).await, is_chunked),
            Err(error) => (refuse(&self.options, peer, request, error).await, true),
        };
        place.done();
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            place.note_upgraded();
        }
        // `head.rs` does not check the bytes behind a chunked body.
        if is_last {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

async fn refuse(options: &HttpOptions, peer: Peer, request: Request<Incoming>, error: ApiError) -> Response {
    let error = std::sync::Mutex::new(Some(error));
    let refusal = Arc::new(error);
    let router = Router::new().fallback(async move || {
        let error = refusal.lock().ok().and_then(|mut error| error.take());
        error.unwrap_or_else(|| ApiError::Internal("a request was refused twice".into()))
    });
    request_context::answer(options, router, peer, request).await
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                warn!(%error, "could not accept a connection, will try again");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn connection(server: Server, stream: TcpStream, place: Entered) {
    let mut http = http1::Builder::new();
    http.header_read_timeout(server.options.limits.header_time_max);
    serve_on(&server, stream, place.place(), &http).await;
}

/// Answers the one request of a connection that has no place, and closes the connection. The response is the refusal
/// or, where places have run out, the daemon's health. These connections have a few places of their own.
async fn turn_away(mut server: Server, stream: TcpStream, place: Entered, refusal: AccessError) {
    let all = server.router;
    server.router = Router::new().fallback(async move |request: axum::extract::Request| {
        let is_probe = refusal == AccessError::NoConnectionLeft && request.uri().path().starts_with(HEALTH_PATH);
        if !is_probe {
            return axum::response::IntoResponse::into_response(ApiError::from(refusal));
        }
        match tower::ServiceExt::oneshot(all, request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).header_read_timeout(REJECTION_TIME_MAX);
    let _ = tokio::time::timeout(2 * REJECTION_TIME_MAX, serve_on(&server, stream, place.place(), &http)).await;
}

async fn serve_on(server: &Server, stream: TcpStream, place: &Arc<Place>, http: &http1::Builder) {
    prepare(&stream);
    let limits = &server.options.limits;
    // Boxed: hyper keeps the room of this future for as long as the connection lives, also while it is idle or a stream.
    let answer = async |request: Request<Incoming>| Box::pin(server.answer(place, request)).await;
    let service = service_fn(async |request| Ok::<_, Infallible>(answer(request).await));
    let mut http = http.clone();
    let connection = http
        .timer(TokioTimer::new())
        .max_header_size(limits.header_bytes_max)
        .max_buf_size(CONNECTION_BUFFER_BYTES_MAX.max(limits.header_bytes_max))
        .serve_connection(TokioIo::new(Wire::new(stream, Arc::clone(place), limits.client_wait_max)), service)
        // A connection that becomes a websocket ends here, and so does its place.
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut is_ending = false;
    loop {
        let is_to_end_now = async {
            tokio::select! {
                // Only a request that came in the same moment is still answered.
                () = place.given_away() => !place.is_worked_for(),
                () = server.draining.cancelled() => place.is_idle(),
            }
        };
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "connection ended");
                }
                return;
            }
            is_to_end_now = is_to_end_now, if !is_ending => {
                if is_to_end_now {
                    return;
                }
                is_ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn prepare(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "could not set TCP_NODELAY");
    }
    let socket = SockRef::from(stream);
    if let Err(error) = socket.set_tcp_user_timeout(Some(UNREAD_TIME_MAX)) {
        debug!(%error, "could not set TCP_USER_TIMEOUT");
    }
    if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX) {
        debug!(%error, "could not set TCP_NOTSENT_LOWAT");
    }
}
