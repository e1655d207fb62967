//! Stores and backups of earlier versions: `tests/data/make` made the pair in `tests/data/store.tar.gz` with such a
//! version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rookery_simulator::{Simulator, SimulatorOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::child::Child;
use super::setup::{Daemon, Setup, TIME_MAX, groups_of};

/// Nobody listens there.
const NOWHERE: &str = "ws://127.0.0.1:9/ws/chat";

/// The unpacked archive.
struct Earlier {
    directory: TempDir,
    expected: Value,
}

impl Earlier {
    fn unpack() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/store.tar.gz");
        let mut tar = Command::new("tar");
        let unpacked = tar.arg("xzf").arg(archive).arg("-C").arg(directory.path()).status();
        assert!(unpacked.is_ok_and(|status| status.success()));
        let expected = fs::read(directory.path().join("expected.json")).expect("it is in the archive");
        Self { directory, expected: serde_json::from_slice(&expected).expect("it is JSON") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Today's daemon on this data directory, with the WhatsApp of that time.
    async fn setup(&self, data: &str) -> Setup {
        let state = Some(self.path("whatsapp.json"));
        let simulator = Simulator::start(SimulatorOptions { state, ..SimulatorOptions::default() }).await;
        Setup::on(simulator.expect("the simulator starts"), self.path(data))
    }

    /// Asserts that the daemon shows what it showed at that time: from the store alone, and then with WhatsApp.
    async fn check(&self, setup: &Setup) {
        let daemon = setup.daemon_with(&[("ROOKERY_WHATSAPP_URL", NOWHERE), ("ROOKERY_AUDIT_DAYS", "3650")]).await;
        let group = self.expected["group"]["id"].as_str().expect("a group");
        daemon.until_session("alice", "loaded", |now| (now["engineLoaded"] == true).then_some(())).await;
        self.assert_shown(&daemon, "groups", &groups_of("alice", "?stale=true")).await;
        self.assert_shown(&daemon, "group", &groups_of("alice", &format!("/{group}?stale=true"))).await;
        self.assert_kept(&daemon).await;
        daemon.child.kill();

        let daemon = setup.daemon_with(&[("ROOKERY_AUDIT_DAYS", "3650")]).await;
        daemon.until_ready_by_itself("alice").await;
        self.assert_shown(&daemon, "groups", &groups_of("alice", "")).await;
        self.assert_shown(&daemon, "group", &groups_of("alice", &format!("/{group}"))).await;
        self.assert_kept(&daemon).await;
        let (status, started) = daemon.post("/api/sessions/bob/start", json!({})).await;
        assert_eq!(status, 200, "{started}");
        daemon.until_ready_by_itself("bob").await;
    }

    async fn assert_shown(&self, daemon: &Daemon, what: &str, path: &str) {
        let (status, shown) = daemon.get(path).await;
        assert_eq!((status, &shown), (200, &self.expected[what]), "{path}");
    }

    /// Sessions, keys and the audit log.
    async fn assert_kept(&self, daemon: &Daemon) {
        let (_, sessions) = daemon.get("/api/sessions").await;
        let named =
            |session: &Value| json!({ "id": session["id"], "name": session["name"], "phone": session["phone"] });
        let sessions: Vec<Value> = sessions.as_array().expect("a list").iter().map(named).collect();
        assert_eq!(json!(sessions), self.expected["sessions"]);

        let (_, keys) = daemon.get("/api/auth/api-keys").await;
        let named = |key: &Value| json!({ "id": key["id"], "name": key["name"], "role": key["role"] });
        let keys: Vec<Value> = keys.as_array().expect("a list").iter().map(named).collect();
        for key in self.expected["keys"].as_array().expect("a list") {
            assert!(key["name"] == "bootstrap" || keys.contains(key), "{keys:?}");
        }
        let reader = self.expected["readerKey"].as_str().expect("a key");
        for (group, status) in [("group", 200), ("answered", 401)] {
            let id = self.expected[group]["id"].as_str().expect("a group");
            let path = groups_of("alice", &format!("/{id}?stale=true"));
            let answer = daemon.try_request_with(reader, reqwest::Method::GET, &path, None).await.expect("it answers");
            assert_eq!(answer.0, status, "{path}: {}", answer.1);
        }

        let (status, verified) = daemon.get("/api/audit/verify").await;
        assert_eq!((status, &verified["valid"]), (200, &json!(true)), "{verified}");
        let (_, page) = daemon.get("/api/audit?limit=1000").await;
        let records = page["data"].as_array().expect("a list");
        for record in self.expected["audit"].as_array().expect("a list") {
            assert!(records.contains(record), "{record} is not in {records:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_an_earlier_version_shows_what_it_showed() {
    let earlier = Earlier::unpack();
    let setup = earlier.setup("data").await;
    earlier.check(&setup).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_an_earlier_version_shows_what_it_showed() {
    let earlier = Earlier::unpack();
    let (data, backup) = (earlier.path("restored"), earlier.path("backup"));
    fs::create_dir(&data).expect("it can be made");
    fs::copy(earlier.path("data").join("store.key"), data.join("store.key")).expect("it is there");
    let (data, backup) = (data.to_string_lossy().into_owned(), backup.to_string_lossy().into_owned());
    let child = Child::spawn(&["restore", "--force", "--data-dir", &data, &backup], &[]);
    assert_eq!(child.until_exit(TIME_MAX).await, Some(0), "{}", child.output());
    let setup = earlier.setup("restored").await;
    earlier.check(&setup).await;
}
