//! The store at rest: what its files show, which key opens it, and the error for another key.

use std::fs;
use std::path::{Path, PathBuf};

use rookery_store::{Batch, SessionNumber, StoreOptions, Table};
use serde_json::json;

use super::child::Child;
use super::setup::{OWN_PHONE, Setup, TIME_MAX};

const SUBJECT: &str = "Quarterly layoffs planning";

fn in_data(setup: &Setup, name: &str) -> PathBuf {
    Path::new(&setup.data_dir()).join(name)
}

/// Whether any file of the store holds this text.
fn is_on_disk(directory: &Path, text: &str) -> bool {
    fs::read_dir(directory).expect("a directory").any(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return is_on_disk(&path, text);
        }
        // A daemon that was killed leaves its socket.
        path.is_file() && fs::read(path).expect("readable").windows(text.len()).any(|window| window == text.as_bytes())
    })
}

async fn refusal(setup: &Setup, variables: &[(&str, &str)]) -> String {
    let child = setup.spawn_daemon(variables);
    assert_eq!(child.until_exit(TIME_MAX).await, Some(1), "{}", child.output());
    child.output()
}

async fn rekey(setup: &Setup, more: &[&str]) -> (Option<i32>, String) {
    let data = setup.data_dir();
    let child = Child::spawn(&[&["store", "rekey", "--data-dir", &data], more].concat(), &[]);
    (child.until_exit(TIME_MAX).await, child.output())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_encrypted_and_only_its_own_key_opens_it() {
    let setup = Setup::start().await;
    setup.group(SUBJECT, &["15550100002"]);
    let daemon = setup.daemon().await;
    daemon.link("alice", OWN_PHONE).await;
    let (code, output) = rekey(&setup, &["--new-key-file", "x"]).await;
    assert!(code == Some(1) && output.contains("another daemon uses this directory"), "{output}");
    daemon.child.kill();
    assert!(!is_on_disk(&in_data(&setup, "store"), SUBJECT));

    let (own, other) = (in_data(&setup, "store.key"), in_data(&setup, "other.key"));
    fs::write(&other, "ab".repeat(32)).expect("it can be written");
    let other = other.to_string_lossy().into_owned();
    let wrong = refusal(&setup, &[("ROOKERY_STORE_KEY_FILE", &other)]).await;
    assert!(wrong.contains(&format!("the key in `{other}` does not open the store")), "{wrong}");
    let absent = refusal(&setup, &[("ROOKERY_STORE_KEY_FILE", "/nowhere/key")]).await;
    assert!(absent.contains("there is no key in `/nowhere/key`: make one with"), "{absent}");
    let aside = own.with_extension("aside");
    fs::rename(&own, &aside).expect("made at the first start");
    let missing = refusal(&setup, &[]).await;
    assert!(missing.contains("store.key` is missing, and without it the store cannot be read"), "{missing}");
    fs::rename(&aside, &own).expect("it is there");

    let daemon = setup.daemon().await;
    daemon.until_ready_by_itself("alice").await;
    setup.assert_one_device(OWN_PHONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_opens_the_store_and_the_old_one_does_not() {
    let setup = Setup::start().await;
    let daemon = setup.daemon().await;
    let (status, made) = daemon.post("/api/sessions", json!({ "name": "alice" })).await;
    assert_eq!(status, 201, "{made}");
    daemon.child.kill();

    let credentials = in_data(&setup, "credentials");
    let new = credentials.join("rookery-store-key").to_string_lossy().into_owned();
    let (code, output) = rekey(&setup, &["--new-key-file", &new]).await;
    assert!(code == Some(0) && output.contains("--store-key-file"), "{output}");
    let old = refusal(&setup, &[]).await;
    assert!(old.contains("store.key` does not open the store"), "{old}");
    let credentials = credentials.to_string_lossy().into_owned();
    for variable in [("ROOKERY_STORE_KEY_FILE", &*new), ("CREDENTIALS_DIRECTORY", &*credentials)] {
        let daemon = setup.daemon_with(&[variable]).await;
        assert_eq!(daemon.session("alice").await["name"], "alice", "{variable:?}");
        daemon.child.kill();
    }
    let (code, output) = rekey(&setup, &["--new-key-file", &new]).await;
    assert!(code == Some(1) && output.contains("the store has its key as before"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_from_before_there_were_keys_is_encrypted_at_the_first_start() {
    let setup = Setup::start().await;
    let path = in_data(&setup, "store");
    let made = tokio::task::spawn_blocking(move || {
        let store = rookery_store::open(&path, StoreOptions::default()).expect("a new one");
        let mut batch = Batch::new();
        batch.put(SessionNumber(7), Table::Names, "k", SUBJECT);
        store.commit(batch).wait_blocking().expect("it can be written");
    });
    made.await.expect("no panic");
    assert!(is_on_disk(&in_data(&setup, "store"), SUBJECT));
    let daemon = setup.daemon().await;
    daemon.child.kill();
    assert!(!is_on_disk(Path::new(&setup.data_dir()), SUBJECT));
    let opened = rookery_store::open(
        &in_data(&setup, "store"),
        StoreOptions { key: Some(setup.store_key()), ..StoreOptions::default() },
    );
    let value = opened.expect("with the key").get(SessionNumber(7), Table::Names, b"k").expect("readable");
    assert_eq!(value.as_deref(), Some(SUBJECT.as_bytes()));
}
