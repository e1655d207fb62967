//! How long a write takes beyond what it waits for: WhatsApp's answer and one commit. Writes follow each other without
//! a pause, as they do when somebody changes many groups; the daemon and the simulated WhatsApp are processes of their
//! own.

mod connection;
mod support;
mod whatsapp;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use connection::{Connection, quantile_ms, request, start_daemon};
use reqwest::Client;
use serde_json::{Value, json};
use support::{Figure, print_table};
use whatsapp::{POLL_INTERVAL, Phones, Whatsapp};

const KEY: &str = "bench-key-0123456789-abcdefghijklmnop";
const KEY_RATE: &str = "1000000/s:1000000";
const TIME_MAX: Duration = Duration::from_secs(20);
/// The measured requests, each as the index of its times.
const BARE: usize = 0;
const QUESTION: usize = 1;
const COMMIT: usize = 2;
const WRITE: usize = 3;
/// Rounds that are measured: each does everything once, so that all see the same machine.
const ROUNDS: usize = 500;
/// Before the measuring starts.
const WARM_UP_ROUNDS: usize = 20;

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure())
}

async fn measure() -> Result<()> {
    let whatsapp = Whatsapp::start()?;
    let data = tempfile::tempdir()?;
    let (_daemon, address, _) = start_daemon(&whatsapp.url, data.path(), KEY, KEY_RATE)?;
    let group = link(&whatsapp, address).await?;
    let mut connection = Connection::open(address).await?;
    let mut times = [(); 4].map(|()| Vec::with_capacity(2 * ROUNDS));
    let path = format!("/api/sessions/bench/groups/{group}");
    for round in 0..WARM_UP_ROUNDS + ROUNDS {
        let subject = json!({ "subject": format!("Round {round}") });
        let delay = json!({ "reconnectBaseDelay": 5_000 + round });
        let steps = [
            (BARE, request("/api/health", KEY, "")),
            (QUESTION, request(&format!("{path}/invite-code"), KEY, "")),
            (COMMIT, with_body("PATCH", "/api/sessions/bench/config", &delay)),
            (WRITE, with_body("PUT", &format!("{path}/subject"), &subject)),
            (WRITE, with_body("PUT", &format!("{path}/subject"), &json!({ "subject": "Round" }))),
        ];
        for (kind, request) in steps {
            let begun = Instant::now();
            let answer = connection.ask(&request).await?;
            ensure!(answer.status == 200 && answer.body_bytes > 0, "status {}", answer.status);
            if round >= WARM_UP_ROUNDS {
                times[kind].push(u32::try_from(begun.elapsed().as_micros())?);
            }
        }
    }
    let sorted = |mut times: Vec<u32>| {
        times.sort_unstable();
        [0.5, 0.99].map(|share| quantile_ms(&times, share))
    };
    let [bare, question, commit, write] = times.map(sorted);
    let figure = |name: &str, [p50, p99]: [f64; 2]| Figure::new(name, [format!("{p50:.2}"), format!("{p99:.2}")]);
    // A question waits for WhatsApp's answer, a change of the configuration for its commits. Both are requests
    // themselves.
    let own = write[0] - (question[0] - bare[0]) - (commit[0] - bare[0]);
    let figures = [
        figure("bare request: health", bare),
        figure("asks WhatsApp: invite code", question),
        figure("commits: configuration", commit),
        figure("write: subject", write),
        Figure::new("our own part of a write (budget 1.00)", [format!("{own:.2}"), String::new()]),
    ];
    print_table("writes, one after the other", &["p50 ms", "p99 ms"], &figures);
    Ok(())
}

fn with_body(method: &str, path: &str, body: &Value) -> Bytes {
    let body = body.to_string();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n");
    format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
}

/// A session that is ready and has no limits of its own; the id of its group.
async fn link(whatsapp: &Whatsapp, address: SocketAddr) -> Result<String> {
    let mut phones = Phones::new();
    let phone = phones.take();
    let group = whatsapp.add_group(&phone, &phones.take_many(11)).await?;
    let client = Client::new();
    let sessions = format!("http://{address}/api/sessions");
    for (url, body) in [(sessions.clone(), json!({ "name": "bench" })), (format!("{sessions}/bench/start"), json!({}))]
    {
        let request = client.post(url).header("X-API-Key", KEY).header("content-type", "application/json");
        request.body(body.to_string()).send().await?.error_for_status()?;
    }
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
    Ok(group)
}
