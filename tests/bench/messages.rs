//! Messages, both ways: from a caller to WhatsApp's acknowledgement, and from WhatsApp into the event log. The simulated WhatsApp is in this process, with
//! the phones that decrypt what is sent; the daemon is a process of its own; both share the machine.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use reqwest::{Client, Method};
use rookery_simulator::{AccountSpec, GroupSpec, Mail, Simulator, SimulatorOptions, World};
use serde_json::{Value, json};
use support::{Child, Figure, print_table};

const KEY: &str = "bench-key-0123456789-abcdefghijklmnop";
const OWN: &str = "15550100001";
const WRITER: &str = "15550100002";
/// People in the groups that are written to.
const SIZES: [usize; 3] = [12, 200, 1_024];
/// Messages to each chat, one after the other, and then by callers at once.
const ONE_BY_ONE: usize = 40;
const AT_ONCE: usize = 200;
const CALLERS: usize = 8;
/// Further groups that are written to, for the memory.
const FURTHER_GROUPS: usize = 20;
const FURTHER_SIZE: usize = 200;
const RECEIVED: usize = 5_000;
/// Messages that come one after the other, for their delay.
const DELAYS: usize = 200;
const POLL_INTERVAL: Duration = Duration::from_millis(2);
const TIME_MAX: Duration = Duration::from_secs(120);

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure())
}

async fn measure() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let simulator = Simulator::start(SimulatorOptions { seed: 1, ..SimulatorOptions::default() }).await?;
    let data = tempfile::tempdir()?;
    let (bench, groups, further) = Bench::start(&simulator, data.path()).await?;
    let mut memory = vec![Figure::new("ready, in 23 groups", [bench.memory_kib()?])];
    let mut sent = Vec::new();
    let (_, small_group) = groups[0].clone();
    for (name, chat) in [("a person", WRITER.to_owned())].into_iter().chain(groups) {
        sent.push(bench.sends(name, &chat).await?);
        memory.push(Figure::new(format!("after messages to {name}"), [bench.memory_kib()?]));
    }
    for group in &further {
        bench.send(group).await?;
    }
    memory.push(Figure::new(
        format!("after one to each of {FURTHER_GROUPS} groups of {FURTHER_SIZE}"),
        [bench.memory_kib()?],
    ));
    print_table("messages to", &["first ms", "next p50 ms", "p99 ms", "8 callers, per s", "CPU us"], &sent);
    let came = [
        bench.receives("a group of 12", &small_group, data.path()).await?,
        bench.receives("a person", OWN, data.path()).await?,
    ];
    print_table("messages from", &["delay p50 ms", "p99 ms", "per s", "CPU us", "bytes on disk"], &came);
    print_table("memory (RSS)", &["KiB"], &memory);
    Ok(())
}

/// The daemon with one session.
struct Bench {
    world: World,
    daemon: Child,
    client: Client,
    base: String,
}

/// Groups with their names in the table.
type Groups = Vec<(&'static str, String)>;

impl Bench {
    /// With a group of each size, and the further ones.
    async fn start(simulator: &Simulator, data: &Path) -> Result<(Self, Groups, Vec<String>)> {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rookery"));
        command.arg("serve").env("ROOKERY_DATA_DIR", data).env("ROOKERY_WHATSAPP_URL", simulator.url());
        command.env("ROOKERY_BOOTSTRAP_KEY", KEY).env("ROOKERY_LISTEN", "127.0.0.1:0");
        command.env("ROOKERY_LIMIT_MESSAGE", "off").env("ROOKERY_KEY_RATE", "off");
        let find = |line: &str| line.split("serving listen=").nth(1).map(|address| address.trim().to_owned());
        let (daemon, address) = Child::start(&mut command, find)?;
        let bench =
            Self { world: simulator.world(), daemon, client: Client::new(), base: format!("http://{address}/api") };
        let people: Vec<String> = (0..2_000).map(|number| (15_550_200_000_u64 + number).to_string()).collect();
        for phone in people.iter().map(String::as_str).chain([OWN, WRITER]) {
            bench.world.add_account(AccountSpec::new(phone));
        }
        let group = |participants: &[String]| {
            let mut participants = participants.to_vec();
            participants.push(WRITER.to_owned());
            bench.world.add_group(GroupSpec { participants, ..GroupSpec::new("Team", OWN) })
        };
        let names = ["a group of 12", "a group of 200", "a group of 1,024"];
        let groups = names.into_iter().zip(SIZES.map(|size| group(&people[..size - 2]))).collect();
        let begin = |nth: usize| nth * 90;
        let further =
            (0..FURTHER_GROUPS).map(|nth| group(&people[begin(nth)..begin(nth) + FURTHER_SIZE - 2])).collect();
        bench.link().await?;
        Ok((bench, groups, further))
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let request = self.client.request(method, format!("{}{path}", self.base)).header("X-API-Key", KEY);
        let answer = request.json(&body.unwrap_or_else(|| json!({}))).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }

    async fn link(&self) -> Result<()> {
        self.call(Method::POST, "/sessions", Some(json!({ "name": "alice" }))).await?;
        self.call(Method::POST, "/sessions/alice/start", None).await?;
        let begun = Instant::now();
        loop {
            ensure!(begun.elapsed() < TIME_MAX, "not ready in time");
            let url = format!("{}/sessions/alice/qr?format=text", self.base);
            let answer = self.client.get(url).header("X-API-Key", KEY).send().await?;
            if answer.status().is_success() {
                self.world.phone(OWN).scan_qr(&answer.text().await?)?;
                break;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        while self.call(Method::GET, "/sessions/alice", None).await?["status"] != "ready" {
            ensure!(begun.elapsed() < TIME_MAX, "not ready in time");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Sends a message; how long that took, in milliseconds.
    async fn send(&self, chat: &str) -> Result<f64> {
        let begun = Instant::now();
        let body = json!({ "chatId": chat, "text": "hello" });
        self.call(Method::POST, "/sessions/alice/messages/send-text", Some(body)).await?;
        Ok(begun.elapsed().as_secs_f64() * 1_000.0)
    }

    async fn sends(&self, name: &str, chat: &str) -> Result<Figure> {
        let first = self.send(chat).await?;
        let mut next = Vec::new();
        for _ in 0..ONE_BY_ONE {
            // The phones have read the one before: they share the machine.
            self.world.messages(WRITER);
            next.push(self.send(chat).await?);
        }
        self.world.messages(WRITER);
        let (before, begun) = (self.cpu_us()?, Instant::now());
        let all = stream::iter(0..AT_ONCE).map(|_| self.send(chat)).buffer_unordered(CALLERS);
        all.try_collect::<Vec<f64>>().await?;
        let per_second = AT_ONCE as f64 / begun.elapsed().as_secs_f64();
        self.world.messages(WRITER);
        let cpu = (self.cpu_us()? - before) as f64 / AT_ONCE as f64;
        next.sort_by(f64::total_cmp);
        let cells = [first, quantile(&next, 0.5), quantile(&next, 0.99)].map(|ms| format!("{ms:.1}"));
        Ok(Figure::new(name, cells.into_iter().chain([format!("{per_second:.0}"), format!("{cpu:.0}")])))
    }

    async fn total(&self) -> Result<u64> {
        let page = self.call(Method::GET, "/sessions/alice/messages?limit=1", None).await?;
        page["total"].as_u64().context("no total")
    }

    async fn until_total(&self, total: u64) -> Result<()> {
        let begun = Instant::now();
        while self.total().await? < total {
            ensure!(begun.elapsed() < TIME_MAX, "not all messages came in time");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    async fn receives(&self, name: &str, to: &str, data: &Path) -> Result<Figure> {
        let (mut total, mut delays) = (self.total().await?, Vec::new());
        for _ in 0..DELAYS {
            let begun = Instant::now();
            self.world.send(WRITER, to, Mail::text("hello"))?;
            total += 1;
            self.until_total(total).await?;
            delays.push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
        delays.sort_by(f64::total_cmp);
        let (cpu, bytes, begun) = (self.cpu_us()?, bytes_in(&data.join("events"))?, Instant::now());
        let (world, to) = (self.world.clone(), to.to_owned());
        let writing = tokio::task::spawn_blocking(move || {
            (0..RECEIVED).try_for_each(|_| world.send(WRITER, &to, Mail::text("hello")).map(drop))
        });
        writing.await??;
        while self.total().await? < total + RECEIVED as u64 {
            ensure!(begun.elapsed() < TIME_MAX, "not all messages came in time");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let per_second = RECEIVED as f64 / begun.elapsed().as_secs_f64();
        let each = |amount: u64| format!("{:.0}", amount as f64 / RECEIVED as f64);
        let bytes = bytes_in(&data.join("events"))?.saturating_sub(bytes);
        let delays = [0.5, 0.99].map(|share| format!("{:.1}", quantile(&delays, share)));
        let others = [format!("{per_second:.0}"), each(self.cpu_us()? - cpu), each(bytes)];
        Ok(Figure::new(name, delays.into_iter().chain(others)))
    }

    /// User and system time of the daemon (proc(5), fields 14 and 15), in steps of 10 ms.
    fn cpu_us(&self) -> Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.daemon.0.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().context("no fields")?.split_whitespace().collect();
        Ok((fields[11].parse::<u64>()? + fields[12].parse::<u64>()?) * 10_000)
    }

    fn memory_kib(&self) -> Result<String> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").to_owned())
    }
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted.get((sorted.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN)
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
