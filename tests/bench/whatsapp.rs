//! The simulated WhatsApp as a child of a bench, and the people in it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::Client;
use serde_json::{Value, json};

use crate::support::Child;

/// How often a condition is checked.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The simulated WhatsApp, spoken to by its admin API.
pub(crate) struct Whatsapp {
    /// Where the daemon connects.
    pub(crate) url: String,
    admin: String,
    client: Client,
    _child: Child,
}

impl Whatsapp {
    /// Starts the simulated WhatsApp as a child process.
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
