//! The way of an event: from the simulated WhatsApp through cache and log to the socket of a webhook's receiver. The simulated WhatsApp and the receiver are
//! in this process, the daemon is a process of its own; all share the machine.

mod support;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, Method};
use rookery_simulator::{AccountSpec, GroupSpec, ParticipantChange, Simulator, SimulatorOptions, World};
use serde_json::{Value, json};
use support::{Child, Figure, print_table};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const KEY: &str = "bench-key-0123456789-abcdefghijklmnop";
const SESSIONS: usize = 50;
/// Events a second over all sessions.
const RATES: [u64; 3] = [50, 500, 2_000];
const SECONDS: u64 = 10;
const TICK: Duration = Duration::from_millis(5);
/// The rate while one of two receivers does not answer.
const BESIDE_DEAD_RATE: u64 = 500;
const CATCH_UP_EVENTS: usize = 10_000;
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const TIME_MAX: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure())
}

async fn measure() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let simulator = Simulator::start(SimulatorOptions { seed: 1, ..SimulatorOptions::default() }).await?;
    let receiver = Receiver::start().await?;
    let data = tempfile::tempdir()?;
    let bench = Bench::start(&simulator, &receiver, data.path()).await?;
    let (mut changes, mut figures) = (Changes::new(&bench), Vec::new());
    for rate in RATES {
        let before = Usage::of(&bench, data.path())?;
        let begun = Instant::now();
        let (count, delays) = changes.run(&receiver, rate, Duration::from_secs(SECONDS)).await?;
        let after = Usage::of(&bench, data.path())?;
        let per_event = |amount: f64| amount / count as f64;
        figures.push(Figure::new(
            format!("{rate} events/s"),
            [
                format!("{:.0}", count as f64 / begun.elapsed().as_secs_f64()),
                format!("{:.1}", quantile_ms(&delays, 0.5)),
                format!("{:.1}", quantile_ms(&delays, 0.99)),
                format!("{:.0}", per_event((after.cpu_us - before.cpu_us) as f64)),
                format!("{:.0}", per_event(after.log_bytes.saturating_sub(before.log_bytes) as f64)),
            ],
        ));
    }
    bench.add_webhooks("/dead").await?;
    receiver.lock().silent = Some("/dead");
    let (_, delays) = changes.run(&receiver, BESIDE_DEAD_RATE, Duration::from_secs(SECONDS)).await?;
    let cells = [
        format!("{BESIDE_DEAD_RATE}"),
        format!("{:.1}", quantile_ms(&delays, 0.5)),
        format!("{:.1}", quantile_ms(&delays, 0.99)),
    ];
    figures.push(Figure::new("the same beside a second webhook that does not answer", cells));
    let rate = catch_up(&bench, &receiver, &mut changes).await?;
    figures.push(Figure::new(format!("{CATCH_UP_EVENTS} events after the receiver was away"), [format!("{rate:.0}")]));
    let head = ["events/s", "p50 ms", "p99 ms", "CPU us", "bytes on disk"];
    print_table("from WhatsApp to the webhook's socket", &head, &figures);
    Ok(())
}

/// The events a second at which a receiver that was away gets what it missed.
async fn catch_up(bench: &Bench<'_>, receiver: &Receiver, changes: &mut Changes) -> Result<f64> {
    receiver.lock().is_away = true;
    changes.make(receiver, CATCH_UP_EVENTS, 2_000).await?;
    let begun = {
        let mut state = receiver.lock();
        state.is_away = false;
        Instant::now()
    };
    for webhook in &bench.webhooks {
        bench.call(Method::POST, &format!("{webhook}/resume"), Some(json!({}))).await?;
    }
    receiver.until_all(TIME_MAX).await?;
    Ok(CATCH_UP_EVENTS as f64 / begun.elapsed().as_secs_f64())
}

/// The daemon with its sessions, each with one group and one webhook.
struct Bench<'a> {
    world: World,
    daemon: Child,
    client: Client,
    base: String,
    receiver: &'a Receiver,
    /// Group and account of each session.
    groups: Vec<(String, String)>,
    /// The path of each webhook that is measured.
    webhooks: Vec<String>,
}

impl<'a> Bench<'a> {
    async fn start(simulator: &Simulator, receiver: &'a Receiver, data: &Path) -> Result<Self> {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rookery"));
        command.arg("serve").env("ROOKERY_DATA_DIR", data).env("ROOKERY_WHATSAPP_URL", simulator.url());
        command.env("ROOKERY_BOOTSTRAP_KEY", KEY).env("ROOKERY_LISTEN", "127.0.0.1:0");
        command.env("ROOKERY_FETCH_ALLOW", "127.0.0.1").env("ROOKERY_CONNECTS_PER_SECOND", "1000");
        let find = |line: &str| line.split("serving listen=").nth(1).map(|address| address.trim().to_owned());
        let (daemon, address) = Child::start(&mut command, find)?;
        let mut bench = Self {
            world: simulator.world(),
            daemon,
            client: Client::new(),
            base: format!("http://{address}/api"),
            receiver,
            groups: Vec::new(),
            webhooks: Vec::new(),
        };
        for person in PEOPLE {
            bench.world.add_account(AccountSpec::new(person));
        }
        for number in 0..SESSIONS {
            let phone = (15_550_200_000 + number).to_string();
            bench.world.add_account(AccountSpec::new(&phone));
            let group = bench.world.add_group(GroupSpec::new("Team", &phone));
            bench.link(&format!("bench-{number}"), &phone).await?;
            bench.groups.push((group, phone));
        }
        bench.webhooks = bench.add_webhooks("/").await?;
        Ok(bench)
    }

    async fn add_webhooks(&self, path: &str) -> Result<Vec<String>> {
        let mut webhooks = Vec::new();
        for number in 0..SESSIONS {
            let of_session = format!("/sessions/bench-{number}/webhooks");
            let url = format!("http://127.0.0.1:{}{path}", self.receiver.port);
            let body = json!({ "url": url, "events": ["group.join", "group.leave"], "retryCount": 1 });
            let made = self.call(Method::POST, &of_session, Some(body)).await?;
            webhooks.push(format!("{of_session}/{}", made["id"].as_str().context("no id")?));
        }
        Ok(webhooks)
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let request = self.client.request(method, format!("{}{path}", self.base)).header("X-API-Key", KEY);
        let answer = request.json(&body.unwrap_or_else(|| json!({}))).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }

    async fn link(&self, name: &str, phone: &str) -> Result<()> {
        self.call(Method::POST, "/sessions", Some(json!({ "name": name }))).await?;
        self.call(Method::POST, &format!("/sessions/{name}/start"), None).await?;
        let begun = Instant::now();
        loop {
            ensure!(begun.elapsed() < TIME_MAX, "{name} was not ready in time");
            let url = format!("{}/sessions/{name}/qr?format=text", self.base);
            let answer = self.client.get(url).header("X-API-Key", KEY).send().await?;
            if answer.status().is_success() {
                self.world.phone(phone).scan_qr(&answer.text().await?)?;
                break;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        while self.call(Method::GET, &format!("/sessions/{name}"), None).await?["status"] != "ready" {
            ensure!(begun.elapsed() < TIME_MAX, "{name} was not ready in time");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }
}

/// The time within which this share of the events arrived, in milliseconds; `sorted`: microseconds.
fn quantile_ms(sorted: &[u32], share: f64) -> f64 {
    sorted.get((sorted.len() as f64 * share) as usize).map_or(f64::NAN, |micros| f64::from(*micros) / 1_000.0)
}

/// What the daemon has used up.
struct Usage {
    cpu_us: u64,
    log_bytes: u64,
}

impl Usage {
    fn of(bench: &Bench<'_>, data: &Path) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", bench.daemon.0.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().context("no fields")?.split_whitespace().collect();
        // User and system time (proc(5), fields 14 and 15), in ticks of 10 ms.
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Self { cpu_us: ticks * 10_000, log_bytes: bytes_in(&data.join("events"))? })
    }
}

fn bytes_in(path: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let file = entry.metadata()?;
        bytes += if file.is_dir() { bytes_in(&entry.path())? } else { file.len() };
    }
    Ok(bytes)
}

/// People who come and go.
const PEOPLE: [&str; 4] = ["15550100004", "15550100005", "15550100006", "15550100007"];

/// Makes members come and go, in one group after the other.
struct Changes {
    world: World,
    groups: Vec<(String, String)>,
    made: usize,
}

impl Changes {
    fn new(bench: &Bench<'_>) -> Self {
        Self { world: bench.world.clone(), groups: bench.groups.clone(), made: 0 }
    }

    /// Makes changes for some time; how many, and how long each took to arrive, sorted, in microseconds.
    async fn run(&mut self, receiver: &Receiver, rate: u64, time: Duration) -> Result<(usize, Vec<u32>)> {
        receiver.lock().delays.clear();
        let count = usize::try_from(rate * time.as_secs())?;
        self.make(receiver, count, rate).await?;
        receiver.until_all(TIME_MAX).await?;
        let mut delays = std::mem::take(&mut receiver.lock().delays);
        delays.sort_unstable();
        Ok((count, delays))
    }

    async fn make(&mut self, receiver: &Receiver, count: usize, rate: u64) -> Result<()> {
        let (begun, mut made) = (Instant::now(), 0);
        while made < count {
            let due = (begun.elapsed().as_secs_f64() * rate as f64) as usize;
            while made < due.min(count) {
                self.change(receiver)?;
                made += 1;
            }
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }

    fn change(&mut self, receiver: &Receiver) -> Result<()> {
        let (group, owner) = &self.groups[self.made % self.groups.len()];
        let round = self.made / self.groups.len();
        let change = if round.is_multiple_of(2) { ParticipantChange::Add } else { ParticipantChange::Remove };
        let person = PEOPLE[round / 2 % PEOPLE.len()];
        receiver.lock().expected.entry(group.clone()).or_default().push_back(Instant::now());
        self.world.change_participants(group, change, owner, &[person])?;
        self.made += 1;
        Ok(())
    }
}

/// Takes deliveries.
struct Receiver {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// When the changes of each group were made that did not arrive yet, oldest first.
    expected: HashMap<String, VecDeque<Instant>>,
    delays: Vec<u32>,
    /// The path at which nothing is answered.
    silent: Option<&'static str>,
    is_away: bool,
}

impl Receiver {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (port, state) = (listener.local_addr()?.port(), Arc::<Mutex<State>>::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(take(stream, Arc::clone(&shared)));
            }
        });
        Ok(Self { port, state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn until_all(&self, time_max: Duration) -> Result<()> {
        let begun = Instant::now();
        while !self.lock().expected.values().all(VecDeque::is_empty) {
            let missing: usize = self.lock().expected.values().map(VecDeque::len).sum();
            ensure!(begun.elapsed() < time_max, "{missing} events did not arrive in time");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

async fn take(mut stream: TcpStream, state: Arc<Mutex<State>>) -> Result<()> {
    let mut bytes = Vec::new();
    loop {
        let (path, body, rest) = loop {
            if let Some(read) = parse(&bytes)? {
                break read;
            }
            ensure!(stream.read_buf(&mut bytes).await? > 0, "the daemon closed the connection");
        };
        bytes = rest;
        let answer = {
            let mut state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if state.silent == Some(path.as_str()) {
                None
            } else if state.is_away {
                Some("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            } else {
                let group = body["data"]["groupId"].as_str().context("no group")?;
                let made = state.expected.get_mut(group).and_then(VecDeque::pop_front).context("not expected")?;
                state.delays.push(u32::try_from(made.elapsed().as_micros())?);
                Some("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            }
        };
        match answer {
            Some(answer) => stream.write_all(answer.as_bytes()).await?,
            None => std::future::pending().await,
        }
    }
}

/// A request that is there as a whole: its path, its body, and the bytes behind it.
fn parse(bytes: &[u8]) -> Result<Option<(String, Value, Vec<u8>)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    let path = head.split(' ').nth(1).context("no path")?.to_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
    let (begin, length) = (end + 4, length.parse::<usize>()?);
    let Some(body) = bytes.get(begin..begin + length) else { return Ok(None) };
    Ok(Some((path, serde_json::from_slice(body)?, bytes[begin + length..].to_vec())))
}
