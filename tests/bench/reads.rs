//! How many reads of groups the daemon answers from its cache, beside a bare hyper server on the same machine. The
//! daemon, the simulated WhatsApp and the bare server are processes of their own; the load comes from this one, on the
//! same cores.

mod connection;
mod support;
mod whatsapp;

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use connection::{Connection, READ_BYTES, quantile_ms, request, start_daemon};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use reqwest::Client;
use serde_json::{Value, json};
use support::{Child, Figure, print_table};
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use whatsapp::{POLL_INTERVAL, Phones, Whatsapp};

const KEY: &str = "bench-key-0123456789-abcdefghijklmnop";
/// Requests are counted as by default, but this rate is never reached.
const KEY_RATE: &str = "1000000/s:1000000";
const CONNECTIONS: usize = 32;
const LOAD_TIME: Duration = Duration::from_secs(3);
/// Before the counting starts.
const WARM_UP_TIME: Duration = Duration::from_millis(300);

/// Groups of the session: one is full, the others have few members.
const GROUPS: usize = 20;
const MEMBERS_FEW: usize = 12;
const MEMBERS_MANY: usize = 1024;

const TIME_MAX: Duration = Duration::from_secs(20);
/// The length of a tick of the times in `/proc`, on every Linux.
const TICK_MICROS: f64 = 10_000.0;

/// Argument that makes this program the bare server.
const HELLO: &str = "hello";

/// The answers to one kind of request.
struct Load {
    micros: Vec<u32>,
    body_bytes: usize,
    seconds: f64,
    server_micros: f64,
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if std::env::args().any(|argument| argument == HELLO) {
        return runtime.block_on(serve_hello());
    }
    runtime.block_on(measure())
}

async fn measure() -> Result<()> {
    let whatsapp = Whatsapp::start()?;
    let data = tempfile::tempdir()?;
    let (daemon, address, start) = start_daemon(&whatsapp.url, data.path(), KEY, KEY_RATE)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let resident = resident_mib(&daemon)?;
    let start = format!("{:.0}", start.as_secs_f64() * 1000.0);
    let figures = [
        Figure::new("start to listening", [start, "ms".into(), "300".into()]),
        Figure::new("resident memory", [format!("{resident:.1}"), "MiB".into(), "20".into()]),
    ];
    print_table("daemon without a session", &["", "", "budget"], &figures);

    let (small, large) = link(&whatsapp, address).await?;
    let (hello, hello_address) = Child::start(Command::new(std::env::current_exe()?).arg(HELLO), |line| {
        line.strip_prefix("listening on ").and_then(|address| address.parse::<SocketAddr>().ok())
    })?;
    let groups = "/api/sessions/bench/groups";
    let tag = tag_of(address, &format!("{groups}/{large}")).await?;
    let reads = [
        ("list of 20 groups", groups.to_owned(), "", 200),
        ("group of 12", format!("{groups}/{small}"), "", 200),
        ("group of 1,024", format!("{groups}/{large}"), "", 200),
        ("the same, unchanged (304)", format!("{groups}/{large}"), tag.as_str(), 304),
        ("50 of its participants", format!("{groups}/{large}/participants?limit=50"), "", 200),
    ];
    let bare = load(hello_address, &hello, &request("/5", KEY, ""), 200).await?;
    let mut figures = vec![bare.figure("bare hyper \"hello\"", bare.per_second())];
    let bytes = Connection::open(address).await?.ask(&request(&format!("{groups}/{large}"), KEY, "")).await?.body_bytes;
    let large_hello = load(hello_address, &hello, &request(&format!("/{bytes}"), KEY, ""), 200).await?;
    figures.push(large_hello.figure("bare hyper, as many bytes as 1,024 people", bare.per_second()));
    for (name, path, tag, status) in reads {
        let request = request(&path, KEY, tag);
        figures.push(load(address, &daemon, &request, status).await?.figure(name, bare.per_second()));
    }
    let head = ["requests/s", "of hello (>= 50 %)", "p50 ms", "p99 ms (< 10)", "MB/s", "server's CPU us/request"];
    print_table("reads from the cache", &head, &figures);
    Ok(())
}

/// A session with its groups, ready; the ids of a small group and of the full one.
async fn link(whatsapp: &Whatsapp, address: SocketAddr) -> Result<(String, String)> {
    let mut phones = Phones::new();
    let phone = phones.take();
    let others = phones.take_many(MEMBERS_MANY - 1);
    let large = whatsapp.add_group(&phone, &others).await?;
    let mut small = String::new();
    for _ in 1..GROUPS {
        small = whatsapp.add_group(&phone, &others[..MEMBERS_FEW - 1]).await?;
    }

    let client = Client::new();
    let sessions = format!("http://{address}/api/sessions");
    let post = |url: String, body: Value| {
        let request = client.post(url).header("X-API-Key", KEY).header("content-type", "application/json");
        async move { anyhow::Ok(request.body(body.to_string()).send().await?.error_for_status()?) }
    };
    post(sessions.clone(), json!({ "name": "bench" })).await?;
    post(format!("{sessions}/bench/start"), json!({})).await?;
    let get = async |path: &str| {
        let response = client.get(format!("{sessions}/bench{path}")).header("X-API-Key", KEY).send().await?;
        anyhow::Ok((response.status().as_u16(), response.text().await?))
    };
    let started = Instant::now();
    let qr = loop {
        match get("/qr?format=text").await? {
            (200, qr) => break qr,
            (status, text) => ensure!(started.elapsed() < TIME_MAX, "no QR: {status} {text}"),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    };
    whatsapp.scan(&phone, qr).await?;
    while !get("").await?.1.contains(r#""status":"ready""#) {
        ensure!(started.elapsed() < TIME_MAX, "not ready: {}", get("").await?.1);
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok((small, large))
}

async fn tag_of(address: SocketAddr, path: &str) -> Result<String> {
    let answer = Client::new().get(format!("http://{address}{path}")).header("X-API-Key", KEY).send().await?;
    let tag = answer.headers().get("etag").context("no `ETag`")?;
    Ok(tag.to_str()?.to_owned())
}

/// Sends the same request on every connection, again and again.
async fn load(address: SocketAddr, server: &Child, request: &Bytes, status: u16) -> Result<Load> {
    let barrier = Arc::new(Barrier::new(CONNECTIONS + 1));
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        let (request, barrier) = (request.clone(), Arc::clone(&barrier));
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(address).await?;
            repeat(&mut connection, &request, status, WARM_UP_TIME).await?;
            barrier.wait().await;
            repeat(&mut connection, &request, status, LOAD_TIME).await
        }));
    }
    barrier.wait().await;
    let (started, server_before) = (Instant::now(), cpu_micros(server)?);
    let (mut micros, mut body_bytes) = (Vec::new(), 0);
    for task in tasks {
        let (times, bytes) = task.await??;
        micros.extend(times);
        body_bytes += bytes;
    }
    let (seconds, server_micros) = (started.elapsed().as_secs_f64(), cpu_micros(server)? - server_before);
    micros.sort_unstable();
    Ok(Load { micros, body_bytes, seconds, server_micros })
}

impl Load {
    fn per_second(&self) -> f64 {
        self.micros.len() as f64 / self.seconds
    }

    fn figure(&self, name: &str, hello_per_second: f64) -> Figure {
        let cells = [
            format!("{:.0}", self.per_second()),
            format!("{:.0} %", self.per_second() / hello_per_second * 100.0),
            format!("{:.2}", quantile_ms(&self.micros, 0.5)),
            format!("{:.2}", quantile_ms(&self.micros, 0.99)),
            format!("{:.1}", self.body_bytes as f64 / self.seconds / 1e6),
            format!("{:.1}", self.server_micros / self.micros.len() as f64),
        ];
        Figure::new(name, cells)
    }
}

/// Asks for so long. Returns how long each answer took, in microseconds, and the bytes of all bodies.
async fn repeat(connection: &mut Connection, request: &[u8], status: u16, time: Duration) -> Result<(Vec<u32>, usize)> {
    let (mut micros, mut body_bytes, started) = (Vec::new(), 0, Instant::now());
    let mut asked = started;
    while asked - started < time {
        let answer = connection.ask(request).await?;
        ensure!(answer.status == status, "answered with {} rather than {status}", answer.status);
        let answered = Instant::now();
        micros.push(u32::try_from((answered - asked).as_micros())?);
        body_bytes += answer.body_bytes;
        asked = answered;
    }
    Ok((micros, body_bytes))
}

/// The processor time of a process so far.
fn cpu_micros(child: &Child) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.0.id()))?;
    // After the name, which may hold anything, `utime` and `stime` are the 12th and 13th field.
    let (_, fields) = stat.rsplit_once(')').context("not a `stat` file")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>());
    Ok(ticks.sum::<Result<f64, _>>()? * TICK_MICROS)
}

fn resident_mib(child: &Child) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.0.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no `VmRSS`")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// The server to compare with: hyper, and nothing else. The path says how many bytes to answer.
#[expect(clippy::print_stdout, reason = "read by the bench, whose child this is")]
async fn serve_hello() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    let body = Bytes::from("hello".repeat(READ_BYTES / 5));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let body = body.clone();
        let hello = service_fn(move |request: Request<Incoming>| {
            let bytes = request.uri().path().trim_start_matches('/').parse().unwrap_or(0);
            ready(Ok::<_, Infallible>(Response::new(Full::new(body.slice(..bytes)))))
        });
        let mut server = hyper::server::conn::http1::Builder::new();
        tokio::spawn(server.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), hello));
    }
}
