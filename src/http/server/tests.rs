//! Real connections on loopback, in front of handlers that tests let go on.

use std::time::Duration;

use axum::extract::Extension;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::*;
use crate::config::HttpLimits;
use crate::http::request::context::RequestContext;

/// How long anything is waited for, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server, and the means to hold its handlers up.
struct Bench {
    address: SocketAddr,
    begun: Arc<Notify>,
    go_on: Arc<Notify>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Bench {
    async fn start(change: impl FnOnce(&mut HttpLimits)) -> Self {
        let mut options = HttpOptions::default();
        change(&mut options.limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, goes_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        let slow = post(async move || {
            begins.notify_one();
            goes_on.notified().await;
            "done"
        });
        // As authorization does for a valid key.
        let known = get(async |Extension(context): Extension<Arc<RequestContext>>| {
            context.place().unwrap().note_known();
            "known"
        });
        // As authorization does for a body.
        let body = post(async |Extension(context): Extension<Arc<RequestContext>>, body: axum::body::Body| {
            context.place().unwrap().receives();
            let _ = axum::body::to_bytes(body, 1_000).await;
            context.place().unwrap().received();
        });
        let large = get(async || vec![b'x'; 64 * 1024 * 1024]);
        let router = Router::new()
            .route("/slow", slow)
            .route("/known", known)
            .route("/large", large)
            .route("/body", body)
            .route("/api/health", get(async || "well"));
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(listener, router, Arc::new(options), async { drop(stopped.await) }));
        Self { address, begun, go_on, stop: Some(stop), served }
    }

    /// A connection from 127.0.0.`last`.
    async fn connect(&self, last: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    async fn sent(&self, last: u8, bytes: &str) -> TcpStream {
        let mut stream = self.connect(last).await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream
    }

    /// The whole answer to a request that asks for the connection to be closed.
    async fn ask(&self, last: u8, line: &str) -> String {
        let head = format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        until_closed(&mut self.sent(last, &head).await).await
    }
}

async fn until_closed(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn read_some(stream: &mut TcpStream) -> String {
    let mut some = [0; 4_096];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut some)).await.expect("an answer").unwrap();
    String::from_utf8_lossy(&some[..read]).into_owned()
}

const KNOWN: &str = "GET /known HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn idle_connections_of_two_addresses_keep_nobody_out() {
    let bench = Bench::start(|limits| (limits.connections_max, limits.connections_per_address_max) = (8, 4)).await;
    let mut known = bench.sent(1, KNOWN).await;
    assert!(read_some(&mut known).await.starts_with("HTTP/1.1 200"));
    let mut idle = Vec::new();
    for round in 0..8 {
        // Silent, or in the middle of a head.
        let start = if round % 2 == 0 { "" } else { "GET / HTTP/1.1\r\nx: " };
        idle.push(bench.sent(2 + round % 2, start).await);
    }
    for _ in 0..8 {
        assert!(bench.ask(4, "GET /known").await.starts_with("HTTP/1.1 200"), "a new client is served");
    }
    let mut closed = 0;
    for stream in &mut idle {
        let mut byte = [0];
        closed += usize::from(matches!(stream.try_read(&mut byte), Ok(0)) || stream.peer_addr().is_err());
    }
    assert!(closed >= 4, "the first of them were closed: {closed}");
    known.write_all(KNOWN.as_bytes()).await.unwrap();
    assert!(read_some(&mut known).await.starts_with("HTTP/1.1 200"), "one that sent a key once is not driven out");
}

#[tokio::test]
async fn when_all_are_worked_for_probes_are_served_and_others_are_told() {
    let bench = Bench::start(|limits| limits.connections_max = 2).await;
    let mut busy = Vec::new();
    for last in [2, 3] {
        let mut stream = bench.sent(last, KNOWN).await;
        read_some(&mut stream).await;
        stream.write_all(b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        bench.begun.notified().await;
        busy.push(stream);
    }
    assert!(bench.ask(4, "GET /api/health").await.starts_with("HTTP/1.1 200"));
    let told = bench.ask(4, "GET /known").await;
    assert!(
        told.starts_with("HTTP/1.1 503") && told.contains("\"overloaded\"") && told.contains("retry-after: 1"),
        "{told}"
    );
    // Idle connections in the few places for refusals keep no probe out either.
    let mut idle = Vec::new();
    for _ in 0..2 * REJECTIONS_MAX {
        idle.push(bench.connect(5).await);
    }
    assert!(bench.ask(4, "GET /api/health").await.starts_with("HTTP/1.1 200"));
    bench.go_on.notify_waiters();
    for stream in &mut busy {
        assert!(read_some(stream).await.ends_with("done"), "nobody who was worked for was cut off");
    }
}

#[tokio::test]
async fn who_does_not_read_an_answer_is_cut_off_and_who_reads_gets_all_of_it() {
    let bench = Bench::start(|limits| limits.client_wait_max = Duration::from_millis(300)).await;
    let mut idle_reader = bench.sent(2, "GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let whole = bench.ask(3, "GET /large").await;
    assert!(whole.len() > 64 * 1024 * 1024, "{}", whole.len());
    // It has not read a byte, and so the connection is gone before all of the answer was sent.
    let closed = async {
        loop {
            // A client that is cut off with unread bytes is reset, which a write shows.
            if idle_reader.write_all(b"\r\n").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("cut off");
}

#[tokio::test]
async fn a_body_that_is_waited_for_gives_way_when_connections_run_short() {
    let bench = Bench::start(|limits| limits.connections_max = 1).await;
    let mut waited_for = bench.sent(2, "POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nstart").await;
    let served = async {
        while !bench.ask(3, "GET /known").await.starts_with("HTTP/1.1 200") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, served).await.expect("the place is another's");
    assert_eq!(until_closed(&mut waited_for).await, "");
}

#[tokio::test]
async fn heads_that_others_could_read_differently_are_400_and_end_the_connection() {
    let bench = Bench::start(|_| {}).await;
    let post = |headers: &str| format!("POST /known HTTP/1.1\r\n{headers}\r\n0\r\n\r\n");
    for request in [
        "GET /known HTTP/1.1\r\n\r\n".to_owned(),
        "GET /known HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n".to_owned(),
        "GET /known HTTP/1.1\nHost: a\n\n".to_owned(),
        "GET /known HTTP/1.1\r\nHost: a\nX: y\r\n\r\n".to_owned(),
        "GET /known HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
        post("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n"),
        post("Host: a\r\nTransfer-Encoding: chunked, chunked\r\n"),
        post("Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        post("Host: a\r\nTransfer-Encoding: gzip\r\n"),
        post("Host: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n"),
        post("Host: a\r\nX-API-Key: a\r\nX-API-Key: b\r\n"),
        post("Host: a\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n"),
        post("Host: a b\r\n"),
        "GET http://b/known HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        post("Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        post("Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        post("Host: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n"),
    ] {
        let followed = format!("{request}GET /api/health HTTP/1.1\r\nhost: x\r\n\r\n");
        let answer = until_closed(&mut bench.sent(2, &followed).await).await;
        assert!(answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.0 400"), "{request:?}: {answer}");
        assert!(!answer.contains("well"), "what follows is not served: {request:?}: {answer}");
    }
    for request in ["GET /known HTTP/1.0\r\n\r\n", "GET /known HTTP/1.1\r\nHost:\r\nconnection: close\r\n\r\n"] {
        let answer = until_closed(&mut bench.sent(2, request).await).await;
        assert!(answer.contains(" 200 OK") && answer.ends_with("known"), "{request:?}: {answer}");
    }
}

#[tokio::test]
async fn a_body_that_nobody_reads_does_not_cut_the_answer_off() {
    let bench = Bench::start(|_| {}).await;
    for head in ["content-length: 3000000\r\n", "transfer-encoding: chunked\r\n"] {
        for _ in 0..20 {
            let mut stream = bench.connect(2).await;
            let head = format!("POST /nowhere HTTP/1.1\r\nhost: x\r\n{head}\r\n");
            let body = [format!("{:x}\r\n", 2_900_000).into_bytes(), vec![b'x'; 2_900_000]].concat();
            let whole = [head.into_bytes(), body].concat();
            // All of it is sent before anything is read.
            let _ = stream.write_all(&whole).await;
            stream.shutdown().await.unwrap();
            let answer = until_closed(&mut stream).await;
            assert!(answer.starts_with("HTTP/1.1 404") && answer.ends_with("\r\n\r\n"), "{answer}");
        }
    }
}

#[tokio::test]
async fn what_is_not_over_when_the_time_to_stop_ends_is_answered_503() {
    let mut bench = Bench::start(|limits| limits.drain_time_max = Duration::from_millis(100)).await;
    let mut pending = bench.sent(2, "POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
    bench.begun.notified().await;
    let mut idle = bench.sent(2, KNOWN).await;
    read_some(&mut idle).await;
    drop(bench.stop.take());
    let answer = until_closed(&mut pending).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"outcome_unknown\""), "{answer}");
    assert!(answer.contains("retry-after: 5\r\n") && answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(until_closed(&mut idle).await, "");
    tokio::time::timeout(PATIENCE, &mut bench.served).await.expect("it stops").unwrap();
}
