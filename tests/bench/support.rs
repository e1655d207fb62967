//! What the benches share: children that end with their owner, the simulated WhatsApp as one of them, and the table of
//! figures. Never judges a figure: the budget is printed beside it.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::Client;
use serde_json::{Value, json};

/// How often a condition is looked at.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A process of its own, so that neither its heap nor its time is taken for that of another.
pub(crate) struct Child(pub(crate) std::process::Child);

/// The simulated WhatsApp, spoken to by its admin API.
pub(crate) struct Whatsapp {
    /// Where the daemon connects.
    pub(crate) url: String,
    admin: String,
    client: Client,
    _child: Child,
}

/// A line of the table.
pub(crate) struct Figure {
    name: String,
    cells: Vec<String>,
}

impl Child {
    /// Starts a program and reads what it writes to either output until `find` finds something in a line.
    pub(crate) fn start<T>(command: &mut Command, find: impl Fn(&str) -> Option<T>) -> Result<(Self, T)> {
        let (output, writer) = std::io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ROOKERY_") && !command.get_envs().any(|(set, _)| set == name) {
                command.env_remove(name);
            }
        }
        let child = Self(command.spawn()?);
        // The command holds the pipe's other end: without this, the end of the child would not be seen.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let (mut output, mut seen) = (BufReader::new(output), String::new());
        loop {
            let start = seen.len();
            ensure!(output.read_line(&mut seen)? > 0, "the child ended early:\n{seen}");
            if let Some(found) = find(seen[start..].trim_end()) {
                // What it writes from now on is nobody's concern, but has to go somewhere.
                std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
                return Ok((child, found));
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Whatsapp {
    /// Starts it as a child process.
    pub(crate) fn start() -> Result<Self> {
        // The client is built with TLS, although it needs none here.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"));
        command.args(["simulator", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--seed", "1"]);
        let lines = std::cell::RefCell::new((String::new(), String::new()));
        let (child, ()) = Child::start(&mut command, |line| {
            let mut lines = lines.borrow_mut();
            match line.split_once(char::is_whitespace) {
                Some(("WhatsApp:", url)) => url.trim().clone_into(&mut lines.0),
                Some(("control:", url)) => url.trim().clone_into(&mut lines.1),
                _ => {}
            }
            (line == "ready").then_some(())
        })?;
        let (url, admin) = lines.into_inner();
        // No idle connections: they would be counted as the daemon's.
        let client = Client::builder().pool_max_idle_per_host(0).build()?;
        Ok(Self { url, admin: admin.trim_end_matches('/').to_owned(), client, _child: child })
    }

    /// A call of the admin API; `path` as in its table, without `/admin`.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(path, serde_json::to_string(body)?).await
    }

    /// The phone of this account scans a QR.
    pub(crate) async fn scan(&self, phone: &str, qr: String) -> Result<()> {
        self.send(&format!("/mock-phone/scan-qr?phone={phone}"), qr).await.map(drop)
    }

    /// Makes a group with these members beside its owner; its id.
    pub(crate) async fn add_group(&self, owner: &str, participants: &[String]) -> Result<String> {
        let group = json!({ "subject": "Project Team", "owner": owner, "participants": participants });
        let made = self.post("/groups", &group).await?;
        Ok(made["id"].as_str().context("a group without an id")?.to_owned())
    }

    async fn send(&self, path: &str, body: String) -> Result<Value> {
        let origin = self.admin.trim_end_matches("/admin");
        let request = self.client.post(format!("{origin}/admin{path}")).header("content-type", "application/json");
        let response = request.body(body).send().await?;
        let (status, text) = (response.status(), response.text().await?);
        if !status.is_success() {
            bail!("{path}: {status} {text}");
        }
        Ok(serde_json::from_str(&text)?)
    }
}

/// Made-up phone numbers, each given out once.
pub(crate) struct Phones(u64);

impl Phones {
    pub(crate) fn new() -> Self {
        Self(15_550_100_000)
    }

    pub(crate) fn take(&mut self) -> String {
        self.0 += 1;
        self.0.to_string()
    }

    pub(crate) fn take_many(&mut self, count: usize) -> Vec<String> {
        std::iter::repeat_with(|| self.take()).take(count).collect()
    }
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, cells: impl IntoIterator<Item = String>) -> Self {
        Self { name: name.into(), cells: cells.into_iter().collect() }
    }
}

/// Prints figures as a table: names to the left, numbers to the right.
#[expect(clippy::print_stdout, reason = "what a bench is run for")]
pub(crate) fn print_table(title: &str, head: &[&str], figures: &[Figure]) {
    let head = Figure::new(title, head.iter().map(ToString::to_string));
    let all = || std::iter::once(&head).chain(figures);
    let width = |column: usize| all().filter_map(|line| line.cells.get(column)).map(|cell| cell.chars().count()).max();
    let name_width = all().map(|line| line.name.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for line in all() {
        let _ = write!(text, "\n{:name_width$}", line.name);
        for (column, cell) in line.cells.iter().enumerate() {
            let _ = write!(text, "  {cell:>width$}", width = width(column).unwrap_or_default());
        }
    }
    println!("{text}");
}
