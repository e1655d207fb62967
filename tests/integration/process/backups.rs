//! `rookery backup` and `rookery restore`, with the daemon running and without it.

use std::fs;
use std::path::Path;

use rookery_simulator::AccountSpec;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::child::{Child, Signal};
use super::setup::{Daemon, OWN_PHONE, Setup, TIME_MAX, groups_of, until_groups_equal};

const SUBJECT: &str = "Quarterly layoffs planning";

/// Files of a test beside the data directory.
pub(super) struct Files(TempDir);

impl Files {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_string_lossy().into_owned()
    }
}

async fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let child = Child::spawn(arguments, &[]);
    (child.until_exit(TIME_MAX).await, child.output())
}

pub(super) async fn backup(data: &str, file: &str) {
    let (code, output) = run(&["backup", "--data-dir", data, file]).await;
    assert!(code == Some(0) && output.contains("SHA-256"), "{output}");
}

pub(super) async fn restore(data: &str, file: &str, more: &[&str]) -> (Option<i32>, String) {
    run(&[&["restore", "--data-dir", data, file], more].concat()).await
}

/// A new data directory with the store key of another one, as after a move.
fn data_with_key_of(setup: &Setup, files: &Files, name: &str) -> String {
    let data = files.path(name);
    fs::create_dir(&data).expect("it can be made");
    fs::copy(Path::new(&setup.data_dir()).join("store.key"), Path::new(&data).join("store.key")).expect("it is there");
    data
}

async fn make_key(daemon: &Daemon, name: &str) -> String {
    let (status, made) = daemon.post("/api/auth/api-keys", json!({ "name": name, "role": "viewer" })).await;
    assert_eq!(status, 201, "{made}");
    made["apiKey"].as_str().expect("shown once").to_owned()
}

async fn status_with(daemon: &Daemon, key: &str) -> u16 {
    daemon.try_request_with(key, reqwest::Method::GET, "/api/sessions", None).await.expect("it answers").0
}

async fn audited(daemon: &Daemon, action: &str) -> Vec<Value> {
    let (status, page) = daemon.get(&format!("/api/audit?action={action}")).await;
    assert_eq!(status, 200, "{page}");
    page["data"].as_array().expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_daemon_is_backed_up_and_taken_back() {
    let (setup, files) = (Setup::start().await, Files::new());
    let group = setup.group(SUBJECT, &["15550100002"]);
    let daemon = setup.daemon().await;
    daemon.link("alice", OWN_PHONE).await;
    let before = make_key(&daemon, "before").await;
    let (data, file) = (setup.data_dir(), files.path("a.backup"));
    backup(&data, &file).await;
    assert_eq!(audited(&daemon, "backup").await.len(), 1);
    let content = fs::read(&file).expect("it was written");
    assert!(!content.windows(SUBJECT.len()).any(|window| window == SUBJECT.as_bytes()), "it is encrypted");
    let (code, output) = run(&["backup", "--data-dir", &data, &file]).await;
    assert!(code == Some(1) && output.contains("exists already"), "{output}");
    let (code, output) = restore(&data, &file, &["--check"]).await;
    assert!(code == Some(0) && output.contains("whole") && output.contains("alice"), "{output}");

    let after = make_key(&daemon, "after").await;
    let (code, output) = restore(&data, &file, &[]).await;
    assert!(code == Some(1) && output.contains("alice") && output.contains("--force"), "{output}");
    assert_eq!(status_with(&daemon, &after).await, 200, "nothing was changed");
    assert_eq!(audited(&daemon, "restore").await[0]["outcome"], "failed");

    let (code, output) = restore(&data, &file, &["--force"]).await;
    assert!(code == Some(0) && output.contains("restored what there was at"), "{output}\n{}", daemon.child.output());
    assert_eq!((status_with(&daemon, &before).await, status_with(&daemon, &after).await), (200, 401));
    daemon.until_ready_by_itself("alice").await;
    until_groups_equal(&daemon, "alice", &setup.world(), OWN_PHONE).await;
    let subject = daemon.put(&groups_of("alice", &format!("/{group}/subject")), json!({ "subject": "Crew" })).await;
    assert_eq!(subject.0, 200, "{subject:?}");
    setup.assert_one_device(OWN_PHONE);
    let restored = audited(&daemon, "restore").await;
    assert!(restored.len() == 1 && restored[0]["outcome"] == "done", "{restored:?}");

    // The data from before the restore can be restored too.
    let saved =
        output.lines().find_map(|line| line.strip_prefix("what was here before is in ")).expect("it says where");
    let (code, output) = restore(&data, saved, &["--force"]).await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(status_with(&daemon, &after).await, 200);
    daemon.child.signal(Signal::Terminate);
    assert_eq!(daemon.child.until_exit(TIME_MAX).await, Some(0), "{}", daemon.child.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_says_which_keys_come_back_or_keeps_those_of_now() {
    let (setup, files) = (Setup::start().await, Files::new());
    let daemon = setup.daemon().await;
    let key = make_key(&daemon, "tenant").await;
    let (data, file) = (setup.data_dir(), files.path("a.backup"));
    backup(&data, &file).await;
    let (_, keys) = daemon.get("/api/auth/api-keys").await;
    let tenant = keys.as_array().expect("a list").iter().find(|key| key["name"] == "tenant").expect("it was made");
    let id = tenant["id"].as_str().expect("an id");
    assert_eq!(daemon.post(&format!("/api/auth/api-keys/{id}/revoke"), json!({})).await.0, 200);
    let later = make_key(&daemon, "later").await;

    let (code, output) = restore(&data, &file, &["--keep-keys"]).await;
    assert!(code == Some(0) && !output.contains("API keys"), "{output}");
    assert_eq!((status_with(&daemon, &key).await, status_with(&daemon, &later).await), (401, 200));
    // The same without a daemon.
    daemon.child.kill();
    assert_eq!(restore(&data, &file, &["--keep-keys"]).await.0, Some(0));
    let daemon = setup.daemon().await;
    assert_eq!((status_with(&daemon, &key).await, status_with(&daemon, &later).await), (401, 200));

    let (code, output) = restore(&data, &file, &[]).await;
    assert!(code == Some(0) && output.contains("--keep-keys would have kept them"), "{output}");
    for told in ["\"tenant\"", "works again: it was revoked", "\"later\"", "no longer works"] {
        assert!(output.contains(told), "{told}: {output}");
    }
    assert_eq!((status_with(&daemon, &key).await, status_with(&daemon, &later).await), (200, 401));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_alive_elsewhere_are_not_restored_unless_forced() {
    let (setup, files) = (Setup::start().await, Files::new());
    setup.group(SUBJECT, &["15550100002"]);
    let daemon = setup.daemon().await;
    daemon.link("alice", OWN_PHONE).await;
    let key = make_key(&daemon, "tenant").await;
    let file = files.path("a.backup");
    backup(&setup.data_dir(), &file).await;
    let data = data_with_key_of(&setup, &files, "moved");
    let (code, output) = restore(&data, &file, &[]).await;
    assert!(code == Some(1) && output.contains("alive in the daemon of"), "{output}");
    assert_eq!(fs::read_dir(&data).expect("a directory").count(), 1, "nothing was left there");

    // With the daemon stopped its sessions are alive nowhere: the data can move.
    daemon.child.kill();
    let (code, output) = restore(&data, &file, &[]).await;
    assert_eq!(code, Some(0), "{output}");
    let moved = setup.daemon_with(&[("ROOKERY_DATA_DIR", &data)]).await;
    moved.until_ready_by_itself("alice").await;
    until_groups_equal(&moved, "alice", &setup.world(), OWN_PHONE).await;
    assert_eq!(status_with(&moved, &key).await, 200, "its API keys are valid");
    setup.assert_one_device(OWN_PHONE);
    moved.child.kill();
    let other = data_with_key_of(&setup, &files, "forced");
    let original = setup.daemon_with(&[("ROOKERY_WHATSAPP_URL", "ws://127.0.0.1:1")]).await;
    assert_eq!(restore(&other, &file, &[]).await.0, Some(1));
    let (code, output) = restore(&other, &file, &["--force"]).await;
    assert_eq!(code, Some(0), "{output}");
    drop(original);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_the_data_directory_itself_is_backed_up_and_restored() {
    let (setup, files) = (Setup::start().await, Files::new());
    let daemon = setup.daemon().await;
    let key = make_key(&daemon, "tenant").await;
    daemon.child.kill();
    let (data, file) = (setup.data_dir(), files.path("a.backup"));
    backup(&data, &file).await;
    // A fresh machine without the key, then with another one, then with the right one.
    let fresh = files.path("fresh");
    let (code, output) = restore(&fresh, &file, &[]).await;
    assert!(code == Some(1) && output.contains("put `store.key` back first"), "{output}");
    let other = files.path("other.key");
    fs::write(&other, "ab".repeat(32)).expect("it can be written");
    let (code, output) = restore(&fresh, &file, &["--store-key-file", &other]).await;
    assert!(code == Some(1) && output.contains("encrypted with another key"), "{output}");
    let own = Path::new(&data).join("store.key").to_string_lossy().into_owned();
    let more = ["--store-key-file", &other, "--backup-key-file", &own];
    let (code, output) = restore(&fresh, &file, &more).await;
    assert_eq!(code, Some(0), "{output}");
    let daemon = setup.daemon_with(&[("ROOKERY_DATA_DIR", &fresh), ("ROOKERY_STORE_KEY_FILE", &other)]).await;
    assert_eq!(status_with(&daemon, &key).await, 200);
    daemon.child.kill();

    let content = fs::read(&file).expect("it was written");
    for (name, damaged) in [("cut", &content[..content.len() - 1]), ("other", &b"something else"[..])] {
        let broken = files.path(name);
        fs::write(&broken, damaged).expect("it can be written");
        for more in [&["--check"][..], &[]] {
            let (code, output) = restore(&data, &broken, more).await;
            assert!(code == Some(1) && output.contains("backup"), "{output}");
        }
    }
    let daemon = setup.daemon().await;
    assert_eq!(status_with(&daemon, &key).await, 200, "damaged files changed nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_read_is_put_aside_for_its_backup() {
    let (setup, files) = (Setup::start().await, Files::new());
    setup.world().add_account(AccountSpec::new("15550100002"));
    let daemon = setup.daemon().await;
    daemon.link("alice", OWN_PHONE).await;
    let (data, file) = (setup.data_dir(), files.path("a.backup"));
    backup(&data, &file).await;
    daemon.child.kill();
    let db = Path::new(&data).join("store").join("db");
    let length = fs::metadata(&db).expect("sled's file").len();
    fs::write(&db, vec![0x5a; usize::try_from(length).expect("it is small")]).expect("it can be written");
    let child = setup.spawn_daemon(&[]);
    assert_eq!(child.until_exit(TIME_MAX).await, Some(1));
    assert!(child.output().contains("damaged"), "{}", child.output());
    let (code, output) = restore(&data, &file, &[]).await;
    assert!(code == Some(0) && output.contains("store.unreadable-"), "{output}");
    let daemon = setup.daemon().await;
    daemon.until_ready_by_itself("alice").await;
    setup.assert_one_device(OWN_PHONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_daemon_does_not_start_again_is_told_to_whoever_restored() {
    let (setup, files) = (Setup::start().await, Files::new());
    let daemon = setup.daemon().await;
    let (data, file) = (setup.data_dir(), files.path("a.backup"));
    backup(&data, &file).await;
    // The pepper of the backup cannot be written.
    let in_the_way = Path::new(&data).join("api-keys.pepper.new");
    fs::create_dir(&in_the_way).expect("it can be made");
    let (code, output) = restore(&data, &file, &[]).await;
    let said = "it was restored, but the daemon does not start";
    assert!(code == Some(1) && output.contains(said) && output.contains("api-keys.pepper"), "{output}");
    assert_eq!(daemon.child.until_exit(TIME_MAX).await, Some(1), "{}", daemon.child.output());
    fs::remove_dir(&in_the_way).expect("it is there");
    let daemon = setup.daemon().await;
    assert_eq!(audited(&daemon, "restore").await.len(), 1, "it goes on where it was stopped");
}
