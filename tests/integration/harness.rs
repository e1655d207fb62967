//! A daemon and a simulated WhatsApp in this process, and a client that speaks HTTP to it.

use std::fmt::Debug;
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::HeaderMap;
use rookery::config::{Config, DataLocation};
use rookery::daemon::Daemon;
use rookery_actors::RateLimits;
use rookery_simulator::{AccountSpec, Addressing, GroupSpec, ParticipantChange, Simulator, SimulatorOptions, World};
use rookery_store::{Store, StoreKey, StoreOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The admin key of every test's daemon.
pub(crate) const KEY: &str = "integration-test-key-0123456789abcdef";
/// The account behind the session `alice`.
pub(crate) const ALICE: &str = "15550100001";
/// Accounts without a session.
pub(crate) const BOB: &str = "15550100002";
pub(crate) const CAROL: &str = "15550100003";
pub(crate) const DAVE: &str = "15550100004";

/// How long a condition is waited for, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A running daemon, its WhatsApp, and a client.
pub(crate) struct Bench {
    pub(crate) world: World,
    simulator: Simulator,
    daemon: Option<Daemon>,
    client: reqwest::Client,
    config: Config,
    _data: TempDir,
}

/// What the daemon answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) retry_after: Option<u64>,
    /// The answer was given before, to the same idempotency key.
    pub(crate) replayed: bool,
    pub(crate) headers: HeaderMap,
}

impl Bench {
    /// A daemon that waits 2 s for WhatsApp.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Like [`Bench::start`], with other settings.
    pub(crate) async fn with(adjust: impl FnOnce(&mut Config)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        crate::log::watch();
        let mut options = SimulatorOptions::default();
        if let Some(seed) = std::env::var("ROOKERY_TEST_SEED").ok().and_then(|seed| seed.parse().ok()) {
            options.seed = seed;
        }
        let simulator = Simulator::start(options).await.unwrap();
        let world = simulator.world();
        for phone in [ALICE, BOB, CAROL, DAVE] {
            world.add_account(AccountSpec::new(phone));
        }
        let data = TempDir::new().unwrap();
        let mut config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            location: DataLocation { data_dir: data.path().join("data"), ..DataLocation::default() },
            bootstrap_key: Some(KEY.into()),
            whatsapp_url: simulator.url(),
            whatsapp_timeout_ms: 2_000,
            // Tests make more calls than a person would; `rate_limits.rs` sets limits of its own.
            rate_limits: RateLimits { create: None, add: None, write: None, query: None, lookup: None, message: None }
                .into(),
            ..Config::default()
        };
        adjust(&mut config);
        let daemon = Some(Daemon::start(config.clone()).await.unwrap());
        Self { world, simulator, daemon, client: reqwest::Client::new(), config, _data: data }
    }

    /// With a session `alice` that is ready and has one group, with Bob as an admin.
    pub(crate) async fn with_group() -> (Self, String) {
        Self::with_group_and(|_| {}).await
    }

    /// The same, with other settings.
    pub(crate) async fn with_group_and(adjust: impl FnOnce(&mut Config)) -> (Self, String) {
        let bench = Self::with(adjust).await;
        let group = bench.group(&[BOB, CAROL], Addressing::Lid);
        bench.world.change_participants(&group, ParticipantChange::Promote, ALICE, &[BOB]).unwrap();
        bench.link("alice", ALICE).await;
        (bench, group)
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.config.location.data_dir
    }

    /// Starts the daemon again on the same data, with other settings.
    pub(crate) async fn restart_with(&mut self, adjust: impl FnOnce(&mut Config)) {
        adjust(&mut self.config);
        self.restart().await;
    }

    /// Stops the daemon and starts it again on the same data.
    pub(crate) async fn restart(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.shutdown().await;
        }
        self.daemon = Some(Daemon::start(self.config.clone()).await.unwrap());
    }

    /// Stops the daemon, changes its store, and starts it again.
    pub(crate) async fn restart_after(&mut self, change: impl FnOnce(&dyn Store) + Send + 'static) {
        if let Some(daemon) = self.daemon.take() {
            daemon.shutdown().await;
        }
        let text = std::fs::read_to_string(self.data_dir().join("store.key")).unwrap();
        let digits = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
        let key = Some(StoreKey::from_bytes(std::array::from_fn(digits)));
        let path = self.data_dir().join("store");
        let changed = tokio::task::spawn_blocking(move || {
            change(&*rookery_store::open(&path, StoreOptions { key, ..StoreOptions::default() }).unwrap());
        });
        changed.await.unwrap();
        self.daemon = Some(Daemon::start(self.config.clone()).await.unwrap());
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    /// The simulator's seed: a failed run can be repeated with it.
    pub(crate) fn seed(&self) -> u64 {
        self.simulator.seed()
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.call_with(KEY, method, path, body).await
    }

    /// A call with an idempotency key.
    pub(crate) async fn call_once(&self, key: &str, method: Method, path: &str, body: &Value) -> Answer {
        Self::send(self.request(method, path).header("Idempotency-Key", key).json(body)).await
    }

    /// Like [`Bench::call_once`], for a task of its own.
    pub(crate) fn prepared(
        &self,
        method: Method,
        path: &str,
        key: &str,
        body: &Value,
    ) -> impl Future<Output = Answer> + Send + 'static {
        Self::send(self.request(method, path).header("Idempotency-Key", key).json(body))
    }

    /// A call with another key, and an idempotency key.
    pub(crate) async fn call_once_with(
        &self,
        key: &str,
        once: &str,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Answer {
        Self::send(self.request_with(key, method, path).header("Idempotency-Key", once).json(body)).await
    }

    /// A call with another key.
    pub(crate) async fn call_with(&self, key: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.request_with(key, method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        Self::send(request).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.request_with(KEY, method, path)
    }

    fn request_with(&self, key: &str, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}/api{path}", self.daemon().local_addr());
        self.client.request(method, url).header("X-API-Key", key)
    }

    /// A call with any headers and body. The answer's bytes are beside it.
    pub(crate) async fn raw(
        &self,
        key: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (Answer, Vec<u8>) {
        let mut request = self.request_with(key, method, path).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Self::read(request.send().await.unwrap()).await
    }

    async fn send(request: reqwest::RequestBuilder) -> Answer {
        Self::read(request.send().await.unwrap()).await.0
    }

    async fn read(response: reqwest::Response) -> (Answer, Vec<u8>) {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let replayed = response.headers().get("idempotency-replayed").is_some_and(|value| value == "true");
        let bytes = response.bytes().await.unwrap().to_vec();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
        (Answer { status, body, retry_after, replayed, headers }, bytes)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    /// A read by a client that has the answer with this tag.
    pub(crate) async fn get_unless(&self, tag: &str, path: &str) -> Answer {
        Self::send(self.request(Method::GET, path).header("If-None-Match", tag)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str, body: Value) -> Answer {
        self.call(Method::DELETE, path, Some(body)).await
    }

    /// Creates a session and starts it.
    pub(crate) async fn start_session(&self, name: &str) {
        assert_eq!(self.post("/sessions", json!({ "name": name })).await.status, 201);
        assert_eq!(self.post(&format!("/sessions/{name}/start"), json!({})).await.status, 200);
    }

    /// The raw QR of a session, once there is one.
    pub(crate) async fn qr(&self, name: &str) -> String {
        let path = format!("/sessions/{name}/qr?format=text");
        let started = Instant::now();
        loop {
            let answer = self.get(&path).await;
            if answer.status == 200 {
                return answer.text();
            }
            let session = self.get(&format!("/sessions/{name}")).await.body;
            assert!(started.elapsed() < PATIENCE, "no QR in time, seed {}: {answer:?} {session}", self.seed());
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// A session that is linked to this phone and ready.
    pub(crate) async fn link(&self, name: &str, phone: &str) {
        self.start_session(name).await;
        let qr = self.qr(name).await;
        self.world.phone(phone).scan_qr(&qr).unwrap();
        self.until_status(name, "ready").await;
    }

    /// Waits for a session's status; returns the session.
    pub(crate) async fn until_status(&self, name: &str, status: &str) -> Value {
        let path = format!("/sessions/{name}");
        let reached = async |last: &mut Value| {
            *last = self.get(&path).await.body;
            last["status"] == status
        };
        let (mut last, started) = (Value::Null, Instant::now());
        while !reached(&mut last).await {
            assert!(started.elapsed() < PATIENCE, "not {status} in time, seed {}: {last}", self.seed());
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        last
    }

    /// A group of Alice's with these members beside her.
    pub(crate) fn group(&self, members: &[&str], addressing: Addressing) -> String {
        let participants = members.iter().map(ToString::to_string).collect();
        self.world.add_group(GroupSpec { participants, addressing, ..GroupSpec::new("Team", ALICE) })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        crate::log::assert_none_of(&self.world);
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and code word of a failure.
    pub(crate) fn failure(&self) -> (u16, &str) {
        (self.status, self.body["code"].as_str().unwrap_or_default())
    }

    /// The ids of what a list holds, in order.
    pub(crate) fn ids(&self) -> Vec<&str> {
        let list = self.body.as_array().unwrap_or_else(|| panic!("no list: {self:?}"));
        list.iter().map(|entry| entry["id"].as_str().unwrap()).collect()
    }

    pub(crate) fn text(self) -> String {
        match self.body {
            Value::String(text) => text,
            other => panic!("not text: {other}"),
        }
    }

    /// The code word of each result, in order.
    pub(crate) fn codes(&self) -> Vec<&str> {
        let results = self.body["results"].as_array().unwrap_or_else(|| panic!("no results: {self:?}"));
        results.iter().map(|result| result["code"].as_str().unwrap()).collect()
    }

    /// The phone numbers of a group's participants, sorted, admins with a star.
    pub(crate) fn members(&self) -> Vec<String> {
        let participants = self.body["participants"].as_array().unwrap_or_else(|| panic!("no group: {self:?}"));
        let mut members: Vec<String> = participants
            .iter()
            .map(|p| format!("{}{}", p["number"].as_str().unwrap(), if p["isAdmin"] == true { "*" } else { "" }))
            .collect();
        members.sort();
        members
    }
}

/// The members of a group in the simulator's world, written as [`Answer::members`] does.
pub(crate) fn world_members(world: &World, group: &str) -> Vec<String> {
    let group = world.group(group).unwrap();
    let mut members: Vec<String> = group
        .participants
        .iter()
        .map(|m| format!("{}{}", m.phone, if m.role == rookery_simulator::Role::Member { "" } else { "*" }))
        .collect();
    members.sort();
    members
}

/// Waits until `condition` returns something.
pub(crate) async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Waits until `look` returns `expected`; a failure shows what it returned last.
pub(crate) async fn until_equal<T: PartialEq + Debug>(expected: T, mut look: impl AsyncFnMut() -> T) {
    let started = Instant::now();
    loop {
        let found = look().await;
        if found == expected {
            return;
        }
        if started.elapsed() > PATIENCE {
            assert_eq!(found, expected, "waited too long");
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
