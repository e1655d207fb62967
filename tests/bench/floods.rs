//! How much a loud client slows a quiet one down: one key asks for a hundred times its rate, another asks as always.
//! Both, and the daemon, share the same cores.

mod connection;
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use connection::{Connection, quantile_ms, request, start_daemon};
use reqwest::Client;
use serde_json::{Value, json};
use support::{Figure, print_table};
use tokio::time::{MissedTickBehavior, interval};

const ADMIN: &str = "bench-key-0123456789-abcdefghijklmnop";
/// The daemon's default.
const KEY_RATE: &str = "100/s:200";
/// Nothing listens there: no session is started.
const NO_WHATSAPP: &str = "ws://127.0.0.1:9/ws/chat";
const PATH: &str = "/api/sessions";
const SESSIONS: usize = 20;

/// The quiet client asks once in this time: half of its rate.
const QUIET_INTERVAL: Duration = Duration::from_millis(20);
const QUIET_TIME: Duration = Duration::from_secs(10);
/// The loud one asks this often on each of its connections, in bursts: 10,000 a second in all.
const LOUD_CONNECTIONS: usize = 20;
const LOUD_INTERVAL: Duration = Duration::from_millis(10);
const LOUD_BURST: usize = 5;

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure())
}

async fn measure() -> Result<()> {
    // The client is built with TLS, although it needs none here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let data = tempfile::tempdir()?;
    let (_daemon, address, _) = start_daemon(NO_WHATSAPP, data.path(), ADMIN, KEY_RATE)?;
    for number in 0..SESSIONS {
        post(address, PATH, json!({ "name": format!("bench-{number}") })).await?;
    }
    let (quiet, loud) = (key(address, "quiet").await?, key(address, "loud").await?);
    let mut figures = Vec::new();
    let before = ask_quietly(address, &quiet).await?;
    figures.push(figure("alone", &before, &before, 0.0));
    for (name, key) in
        [("beside a key at 100 times its rate", loud.as_str()), ("beside 10,000 wrong keys a second", "rk_wrong")]
    {
        let flood = Flood::start(address, key);
        let during = ask_quietly(address, &quiet).await?;
        figures.push(figure(name, &during, &before, flood.end().await?));
    }
    print_table("a quiet client", &["p50 ms", "p99 ms", "of alone (<= 200 %)", "flood requests/s"], &figures);
    Ok(())
}

fn figure(name: &str, micros: &[u32], alone: &[u32], flood_per_second: f64) -> Figure {
    let (p99, p99_alone) = (quantile_ms(micros, 0.99), quantile_ms(alone, 0.99));
    let cells = [
        format!("{:.2}", quantile_ms(micros, 0.5)),
        format!("{p99:.2}"),
        format!("{:.0} %", p99 / p99_alone * 100.0),
        format!("{flood_per_second:.0}"),
    ];
    Figure::new(name, cells)
}

async fn post(address: SocketAddr, path: &str, body: Value) -> Result<Value> {
    let request = Client::new().post(format!("http://{address}{path}")).header("X-API-Key", ADMIN);
    let text = request.body(body.to_string()).send().await?.error_for_status()?.text().await?;
    Ok(serde_json::from_str(&text)?)
}

async fn key(address: SocketAddr, name: &str) -> Result<String> {
    let made = post(address, "/api/auth/api-keys", json!({ "name": name, "role": "viewer" })).await?;
    Ok(made["apiKey"].as_str().context("no key")?.to_owned())
}

/// Asks at intervals. Returns the times of all answers in microseconds, sorted.
async fn ask_quietly(address: SocketAddr, key: &str) -> Result<Vec<u32>> {
    let (mut connection, request) = (Connection::open(address).await?, request(PATH, key, ""));
    let (mut ticks, mut micros, started) = (interval(QUIET_INTERVAL), Vec::new(), Instant::now());
    while started.elapsed() < QUIET_TIME {
        ticks.tick().await;
        let asked = Instant::now();
        let answer = connection.ask(&request).await?;
        ensure!(answer.status == 200, "answered with {}", answer.status);
        micros.push(u32::try_from(asked.elapsed().as_micros())?);
    }
    micros.sort_unstable();
    Ok(micros)
}

/// A client that asks for more than it may have.
struct Flood {
    started: Instant,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Result<()>>>,
}

impl Flood {
    fn start(address: SocketAddr, key: &str) -> Self {
        let (stop, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let request = request(PATH, key, "");
        let one = |_| tokio::spawn(ask_loudly(address, request.clone(), Arc::clone(&stop), Arc::clone(&asked)));
        let tasks = (0..LOUD_CONNECTIONS).map(one).collect();
        Self { started: Instant::now(), stop, asked, tasks }
    }

    /// Ends the flood. Returns how many requests a second there were.
    async fn end(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await??;
        }
        Ok(self.asked.load(Ordering::Relaxed) as f64 / self.started.elapsed().as_secs_f64())
    }
}

async fn ask_loudly(address: SocketAddr, request: Bytes, stop: Arc<AtomicBool>, asked: Arc<AtomicU64>) -> Result<()> {
    let (mut connection, mut ticks) = (Connection::open(address).await?, interval(LOUD_INTERVAL));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        for _ in 0..LOUD_BURST {
            let answer = connection.ask(&request).await?;
            let is_expected = matches!(answer.status, 200 | 401 | 429) && answer.body_bytes > 0;
            ensure!(is_expected, "answered with {}", answer.status);
            asked.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
