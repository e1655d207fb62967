//! A simulated WhatsApp, a data directory, and the daemon on both, spoken to over HTTP.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use rookery_simulator::{AccountSpec, GroupSpec, GroupView, Role, Simulator, SimulatorOptions, World};
use rookery_store::StoreKey;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::child::{Child, POLL_INTERVAL};

/// The account that most sessions are linked to.
pub(super) const OWN_PHONE: &str = "15550100001";
/// The admin key of every daemon in here.
pub(crate) const KEY: &str = "process-tests-0123456789-abcdefghij";

/// Everything in here takes well under a second on a free machine; this one builds and tests at the same time.
pub(super) const TIME_MAX: Duration = Duration::from_secs(20);

/// The client's idle connections end before the daemon's shortest limit (1 s) ends them: a request that is sent while
/// the daemon ends its connection is lost.
const IDLE_MAX: Duration = Duration::from_millis(500);

/// What outlives the daemons of one test.
pub(super) struct Setup {
    pub(super) simulator: Simulator,
    data: PathBuf,
    /// Removed with the setup.
    _temporary: Option<TempDir>,
}

/// A daemon that serves HTTP.
pub(super) struct Daemon {
    pub(super) child: Child,
    base: String,
    client: Client,
    world: World,
}

impl Setup {
    /// A WhatsApp where only the own account exists, and an empty data directory.
    pub(super) async fn start() -> Self {
        // The client is built with TLS, although it needs none here; only the first call has an effect.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let simulator = Simulator::start(SimulatorOptions::default()).await.expect("the simulator starts");
        simulator.world().add_account(AccountSpec::new(OWN_PHONE));
        let temporary = tempfile::tempdir().expect("a temporary directory");
        Self { simulator, data: temporary.path().to_owned(), _temporary: Some(temporary) }
    }

    /// A WhatsApp and a data directory that exist already.
    pub(super) fn on(simulator: Simulator, data: PathBuf) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { simulator, data, _temporary: None }
    }

    pub(super) fn world(&self) -> World {
        self.simulator.world()
    }

    /// The key that the first start made for the store.
    pub(super) fn store_key(&self) -> StoreKey {
        let text = std::fs::read_to_string(self.data.join("store.key")).expect("made at the first start");
        let digits = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex digits");
        StoreKey::from_bytes(std::array::from_fn(digits))
    }

    pub(super) fn data_dir(&self) -> String {
        self.data.to_string_lossy().into_owned()
    }

    /// A group of the own account with these others; its id.
    pub(super) fn group(&self, subject: &str, others: &[&str]) -> String {
        let participants = others.iter().map(ToString::to_string).collect();
        self.world().add_group(GroupSpec { participants, ..GroupSpec::new(subject, OWN_PHONE) })
    }

    /// Starts a daemon without waiting for anything. The given variables win over those that the tests set.
    pub(super) fn spawn_daemon(&self, variables: &[(&str, &str)]) -> Child {
        let (url, data) = (self.simulator.url(), self.data.to_string_lossy());
        let mut all = vec![
            ("ROOKERY_LISTEN", "127.0.0.1:0"),
            ("ROOKERY_DATA_DIR", &*data),
            ("ROOKERY_WHATSAPP_URL", &*url),
            ("ROOKERY_BOOTSTRAP_KEY", KEY),
            ("ROOKERY_CONNECTS_PER_SECOND", "1000"),
            ("ROOKERY_LIMIT_CREATE", "off"),
            ("ROOKERY_LIMIT_ADD", "off"),
            ("ROOKERY_LIMIT_WRITE", "off"),
            ("ROOKERY_LIMIT_QUERY", "off"),
            ("ROOKERY_LOG", "trace"),
        ];
        all.extend_from_slice(variables);
        Child::spawn(&["serve"], &all)
    }

    /// Starts a daemon and waits until it serves.
    pub(super) async fn daemon(&self) -> Daemon {
        self.daemon_with(&[]).await
    }

    pub(super) async fn daemon_with(&self, variables: &[(&str, &str)]) -> Daemon {
        Daemon::served_by(self.spawn_daemon(variables), self.world()).await
    }

    /// Kills the daemon and starts another on the same data.
    pub(super) async fn restart_killed(&self, daemon: Daemon) -> Daemon {
        daemon.child.kill();
        self.daemon().await
    }

    /// The account was linked once, and its device never logged in twice at once.
    pub(super) fn assert_one_device(&self, phone: &str) {
        let world = self.world();
        assert_eq!(world.live_connections_max(phone), 1, "{:#}", world.snapshot());
        assert_eq!(devices(&world, phone), 1, "{:#}", world.snapshot());
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        crate::log::assert_none_of(&self.simulator.world());
    }
}

/// How many devices are linked to an account.
pub(super) fn devices(world: &World, phone: &str) -> usize {
    let snapshot = world.snapshot();
    let accounts = snapshot["accounts"].as_array().expect("a list of accounts");
    let account = accounts.iter().find(|account| account["phone"] == phone).expect("the account exists");
    account["devices"].as_array().expect("a list of devices").len()
}

/// The path of a session's groups.
pub(super) fn groups_of(session: &str, rest: &str) -> String {
    format!("/api/sessions/{session}/groups{rest}")
}

impl Daemon {
    /// Waits until this daemon serves.
    async fn served_by(child: Child, world: World) -> Self {
        let address = |output: &str| {
            // Without its end the line may lack a part of the port.
            let (line, _) = output.split("serving listen=").nth(1)?.split_once('\n')?;
            Some(line.trim().to_owned())
        };
        let base = format!("http://{}", child.until_output("`serving` line", TIME_MAX, address).await);
        let client = Client::builder().pool_idle_timeout(IDLE_MAX).build().unwrap();
        Self { child, base, client, world }
    }

    /// Host and port.
    pub(super) fn address(&self) -> &str {
        self.base.strip_prefix("http://").unwrap_or_default()
    }

    /// Bytes of memory that the daemon holds now.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// Bytes of memory that the daemon held at most.
    pub(super) fn peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(name)).expect("Linux says so");
        let kilobytes: u64 = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
        kilobytes * 1024
    }

    /// Status and JSON body (`null` when there is none); an error when the daemon is gone.
    pub(super) async fn try_request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, Value), reqwest::Error> {
        self.try_request_with(KEY, method, path, body).await
    }

    pub(super) async fn try_request_with(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, Value), reqwest::Error> {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).header("X-API-Key", key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        Self::answer_to(request).await
    }

    /// A PUT with an idempotency key.
    pub(super) async fn try_put_once(
        &self,
        idempotency_key: &str,
        path: &str,
        body: &Value,
    ) -> Result<(u16, Value), reqwest::Error> {
        self.try_once(Method::PUT, idempotency_key, path, body).await
    }

    /// A call with an idempotency key.
    pub(super) async fn try_once(
        &self,
        method: Method,
        idempotency_key: &str,
        path: &str,
        body: &Value,
    ) -> Result<(u16, Value), reqwest::Error> {
        let request = self.client.request(method, format!("{}{path}", self.base)).header("X-API-Key", KEY);
        Self::answer_to(request.header("Idempotency-Key", idempotency_key).json(body)).await
    }

    async fn answer_to(request: reqwest::RequestBuilder) -> Result<(u16, Value), reqwest::Error> {
        let response = request.timeout(TIME_MAX).send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    async fn request(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let answer = self.try_request(method.clone(), path, body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.child.output()))
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        self.request(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.request(Method::POST, path, Some(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        self.request(Method::PUT, path, Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str, body: Value) -> (u16, Value) {
        self.request(Method::DELETE, path, Some(body)).await
    }

    /// Creates a session, links this phone to it and waits until it is ready.
    pub(super) async fn link(&self, session: &str, phone: &str) {
        self.create_started(session).await;
        self.scan(session, phone).await;
        self.until_ready(session).await;
    }

    pub(super) async fn create_started(&self, session: &str) {
        let (status, created) = self.post("/api/sessions", json!({ "name": session })).await;
        assert_eq!(status, 201, "{created}");
        let (status, started) = self.post(&format!("/api/sessions/{session}/start"), json!({})).await;
        assert_eq!(status, 200, "{started}");
    }

    /// Waits for a QR and has the phone scan it; returns its text.
    pub(super) async fn scan(&self, session: &str, phone: &str) -> String {
        let path = format!("/api/sessions/{session}/qr?format=text");
        let deadline = Instant::now() + TIME_MAX;
        loop {
            let (status, answer) = self.get(&path).await;
            if let (200, Some(qr)) = (status, answer.as_str()) {
                // A QR that was replaced between our reading and the scan is not known any more: take the next one.
                if self.world.phone(phone).scan_qr(qr).is_ok() {
                    return qr.to_owned();
                }
            }
            assert!(Instant::now() < deadline, "no QR for {session}: {status} {answer}\n{}", self.child.output());
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    pub(super) async fn session(&self, session: &str) -> Value {
        let (status, answer) = self.get(&format!("/api/sessions/{session}")).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Polls the session until `step` accepts it. `step` may panic on a state that must not be seen.
    pub(super) async fn until_session<T>(&self, session: &str, what: &str, step: impl Fn(&Value) -> Option<T>) -> T {
        let deadline = Instant::now() + TIME_MAX;
        loop {
            let now = self.session(session).await;
            if let Some(found) = step(&now) {
                return found;
            }
            assert!(Instant::now() < deadline, "{session} is not {what}: {now:#}\n{}", self.child.output());
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    pub(super) async fn until_ready(&self, session: &str) {
        self.until_session(session, "ready", |now| (now["status"] == "ready").then_some(())).await;
    }

    /// Waits until the session is ready with the credentials on disk: no QR on the way, and nothing for a person to do.
    pub(super) async fn until_ready_by_itself(&self, session: &str) {
        let step = |now: &Value| {
            let status = now["status"].as_str().unwrap_or_default();
            let expected = ["initializing", "authenticating", "disconnected", "ready"];
            assert!(expected.contains(&status), "{now:#}\n{}", self.child.output());
            (status == "ready").then_some(())
        };
        self.until_session(session, "ready", step).await;
    }
}

/// Waits until the session's groups, from its list and one by one, are those that the world has for this account.
pub(super) async fn until_groups_equal(daemon: &Daemon, session: &str, world: &World, phone: &str) {
    let deadline = Instant::now() + TIME_MAX;
    loop {
        let (expected, answered) = (groups_in(world, phone), read_groups(daemon, session).await);
        if expected == answered {
            return;
        }
        let differ = format!("the world has {expected:#}\n{session} has {answered:#}");
        assert!(Instant::now() < deadline, "{differ}\n{}", daemon.child.output());
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The groups of an account as the world has them, in a form that can be compared.
fn groups_in(world: &World, phone: &str) -> Value {
    let snapshot = world.snapshot();
    let ids = snapshot["groups"].as_array().expect("a list of groups").iter().filter_map(|group| group["id"].as_str());
    let mut groups: Vec<GroupView> = ids.filter_map(|id| world.group(id)).collect();
    groups.retain(|group| group.participants.iter().any(|member| member.phone == phone));
    groups.sort_by(|a, b| a.id.cmp(&b.id));
    let member =
        |role: Role, phone: &str| json!([format!("{phone}@c.us"), role != Role::Member, role == Role::SuperAdmin]);
    let one = |group: &GroupView| {
        let members: Vec<Value> = group.participants.iter().map(|one| member(one.role, &one.phone)).collect();
        json!({ "id": group.id, "name": group.subject, "description": group.description, "members": sorted(members) })
    };
    groups.iter().map(one).collect()
}

async fn read_groups(daemon: &Daemon, session: &str) -> Value {
    let (status, list) = daemon.get(&groups_of(session, "?limit=1000")).await;
    assert_eq!(status, 200, "{list}");
    let mut groups = Vec::new();
    for summary in list.as_array().expect("a list of groups") {
        let id = summary["id"].as_str().expect("an id");
        let (status, group) = daemon.get(&groups_of(session, &format!("/{id}"))).await;
        assert_eq!(status, 200, "{group}");
        let participants = group["participants"].as_array().expect("a list of participants");
        let members = participants.iter().map(|one| json!([one["id"], one["isAdmin"], one["isSuperAdmin"]]));
        assert_eq!((&summary["name"], &summary["participantsCount"]), (&group["name"], &json!(participants.len())));
        groups.push(json!({
            "id": id, "name": group["name"], "description": group["description"], "members": sorted(members.collect()),
        }));
    }
    Value::Array(groups)
}

fn sorted(mut members: Vec<Value>) -> Vec<Value> {
    members.sort_by_key(ToString::to_string);
    members
}
