//! Hostile clients against the real daemon: each is refused or cut off, the others are served, and the daemon's memory
//! does not grow with what was sent.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::setup::{Daemon, KEY, Setup, TIME_MAX};

/// How much the daemon's memory may grow: 150 connections with a full buffer of 16 KiB are 3 MiB.
const GROWTH_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// After so many rounds each of the allocator's arenas has held the largest body.
const WARM_UP_ROUNDS: usize = 10;

async fn open(daemon: &Daemon, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(daemon.address()).await.expect("it listens");
    // A refused request may be cut off while it is sent.
    let _ = stream.write_all(bytes).await;
    stream
}

/// All that the daemon sends before it closes the connection, which it has to do.
async fn until_closed(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(TIME_MAX, stream.read_to_end(&mut answer));
    // A reset is a close as well.
    let _ = read.await.expect("the daemon closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request with these headers and this body; the connection is to be closed afterwards.
fn request(headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST /api/sessions HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

async fn is_served(daemon: &Daemon) {
    let started = Instant::now();
    let (status, answer) = daemon.get("/api/sessions").await;
    assert_eq!(status, 200, "{answer}");
    assert!(started.elapsed() < TIME_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_never_end_their_request_are_cut_off() {
    let setup = Setup::start().await;
    let daemon = setup.daemon_with(&[("ROOKERY_HEADER_TIMEOUT_S", "1"), ("ROOKERY_BODY_TIMEOUT_S", "1")]).await;
    let before = daemon.resident_bytes();
    let mut open_ones = Vec::new();
    for start in [&b""[..], b"G", b"GET /api/sessions HTTP/1.1\r\nx-api-key: ", b"POST / HTTP/1.1\r\nhost: x\r\n"] {
        for _ in 0..30 {
            open_ones.push(open(&daemon, start).await);
        }
    }
    let promised = request("", b"{}").len() - 1;
    for _ in 0..30 {
        open_ones.push(open(&daemon, &request("", b"{}")[..promised]).await);
    }
    is_served(&daemon).await;
    assert!(daemon.resident_bytes() < before + GROWTH_BYTES_MAX, "{before} grew to {}", daemon.resident_bytes());
    let mut late = 0;
    for stream in open_ones {
        late += usize::from(until_closed(stream).await.starts_with("HTTP/1.1 408"));
    }
    assert_eq!(late, 30, "a body that does not come is answered");
    is_served(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_bodies_that_are_too_large_or_no_use_are_refused() {
    let setup = Setup::start().await;
    let daemon = setup.daemon().await;
    let megabytes = |byte: u8, count: usize| vec![byte; count * 1024 * 1024];
    let deep = [b"{\"name\":".to_vec(), vec![b'['; 900_000]].concat();
    let many = format!("{{{}}}", (0..60_000).map(|n| format!("\"k{n}\":1")).collect::<Vec<_>>().join(","));
    let cases = [
        ("431", request(&format!("x: {}\r\n", "a".repeat(40_000)), b"{}")),
        ("431", request(&"x: y\r\n".repeat(5_000), b"{}")),
        ("400", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n".to_vec()),
        ("415", request("content-encoding: gzip\r\n", b"\x1f\x8b\x08\x00")),
        ("413", request("", &megabytes(b' ', 3))),
        ("400", request("", &deep)),
        ("400", request("", many.as_bytes())),
        ("400", request("", &megabytes(0xff, 1)[..1_000_000])),
    ];
    let mut before = u64::MAX;
    for round in 0..3 * WARM_UP_ROUNDS {
        if round == WARM_UP_ROUNDS {
            before = daemon.resident_bytes();
        }
        for (status, bytes) in &cases {
            let answer = until_closed(open(&daemon, bytes).await).await;
            let sent = bytes.len();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status} for {sent} bytes: {answer:.300}");
        }
    }
    is_served(&daemon).await;
    assert!(daemon.resident_bytes() < before + GROWTH_BYTES_MAX, "{before} grew to {}", daemon.resident_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_its_share_of_connections_and_gets_it_back() {
    let setup = Setup::start().await;
    let daemon = setup.daemon_with(&[("ROOKERY_HTTP_CONNECTIONS_PER_ADDRESS_MAX", "3")]).await;
    let mut share = Vec::new();
    for _ in 0..3 {
        let mut stream = open(&daemon, b"GET /api/health HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut start = [0; 15];
        stream.read_exact(&mut start).await.expect("it is served");
        assert_eq!(&start, b"HTTP/1.1 200 OK");
        share.push(stream);
    }
    let refused = until_closed(open(&daemon, b"GET /api/health HTTP/1.1\r\nhost: x\r\n\r\n").await).await;
    assert!(refused.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{refused}");
    assert!(
        ["retry-after: 1\r\n", "x-request-id: ", "connection: close\r\n", "\"code\":\"too_many_connections\""]
            .iter()
            .all(|part| refused.contains(part)),
        "{refused}"
    );
    assert_eq!(until_closed(open(&daemon, b"").await).await, "", "one that asks nothing is closed as well");
    share.clear();
    let deadline = Instant::now() + TIME_MAX;
    while daemon.get("/api/health").await.0 != 200 {
        assert!(Instant::now() < deadline, "a place that was given back is free");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    is_served(&daemon).await;
}

/// Bodies that cost much more than their bytes.
fn bombs() -> [(&'static str, Vec<u8>); 4] {
    let size = 7 * 1024 * 1024 - 64;
    let list =
        |value: &str| format!("{{\"x\":[{}0]}}", format!("{value},").repeat(size / (value.len() + 1))).into_bytes();
    let names = (0..size / 14).map(|n| format!("\"k{n:08}\":0,")).collect::<String>();
    [
        ("the smallest objects", list("{\"\":0}")),
        ("the smallest values", list("0")),
        ("names", format!("{{{names}\"k\":0}}").into_bytes()),
        ("depth", [b"{\"x\":".to_vec(), vec![b'['; size]].concat()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_seven_megabytes_costs_no_more_than_a_few_times_that() {
    const HELD_BYTES_MAX: u64 = 64 * 1024 * 1024;
    let setup = Setup::start().await;
    let daemon = setup.daemon().await;
    daemon.create_started("alice").await;
    let before = daemon.resident_bytes();
    for (what, body) in bombs() {
        let path = "/api/sessions/alice/groups/120363021234567890@g.us/picture";
        let head = format!(
            "PUT {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let answer = until_closed(open(&daemon, &[head.as_bytes(), &body].concat()).await).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("invalid_json"), "{what}: {answer}");
        let peak = daemon.peak_bytes();
        assert!(peak < before + HELD_BYTES_MAX, "{what}: {before} grew to {peak} at its peak");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_bodies_hold_the_share_of_their_key_and_no_more() {
    /// The key's share of 16 MiB, and what the allocator keeps beside it.
    const HELD_BYTES_MAX: u64 = 64 * 1024 * 1024;
    let setup = Setup::start().await;
    let daemon = setup.daemon_with(&[("ROOKERY_BODY_TIMEOUT_S", "20"), ("ROOKERY_CLIENT_WAIT_S", "60")]).await;
    daemon.create_started("alice").await;
    let before = daemon.resident_bytes();
    let path = "/api/sessions/alice/groups/120363021234567890@g.us/picture";
    let size = 7 * 1024 * 1024;
    let head = format!("PUT {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: {size}\r\n\r\n");
    let begun = [head.as_bytes(), &vec![b' '; size - 1]].concat();
    let mut unfinished = Vec::new();
    for _ in 0..40 {
        unfinished.push(open(&daemon, &begun).await);
    }
    let mut refused = 0;
    for stream in unfinished.drain(2..) {
        let answer = until_closed(stream).await;
        refused += usize::from(answer.starts_with("HTTP/1.1 429") && answer.contains("too_many_body_bytes"));
    }
    assert!(refused >= 36, "{refused}");
    assert!(daemon.resident_bytes() < before + HELD_BYTES_MAX, "{before} grew to {}", daemon.resident_bytes());
    is_served(&daemon).await;
}
