//! The audit log on disk: an answered change is in it after a kill, and `rookery audit verify` detects changes to the
//! log.

use std::path::Path;

use rookery_store::{Batch, SessionNumber, StoreOptions, Table};
use serde_json::json;

use super::child::Child;
use super::setup::{Setup, TIME_MAX};

async fn verify(setup: &Setup, more: &[&str]) -> (Option<i32>, String) {
    let data = setup.data_dir();
    let child = Child::spawn(&[&["audit", "verify", "--data-dir", &data], more].concat(), &[]);
    (child.until_exit(TIME_MAX).await, child.output())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_in_the_log_and_a_changed_record_is_named() {
    let setup = Setup::start().await;
    let daemon = setup.daemon().await;
    for number in 0..5 {
        let (status, made) = daemon.post("/api/sessions", json!({ "name": format!("alice-{number}") })).await;
        assert_eq!(status, 201, "{made}");
    }
    let (code, output) = verify(&setup, &[]).await;
    assert!(code == Some(1) && output.contains("GET /api/audit/verify"), "while it runs: {output}");
    daemon.child.kill();

    let (code, output) = verify(&setup, &[]).await;
    assert!(code == Some(0) && output.contains("whole: 5 records, the last one is 4:"), "{output}");
    let noted = output.split_whitespace().last().expect("the last record").to_owned();
    assert_eq!(verify(&setup, &["--noted", &noted]).await.0, Some(0));
    let (code, output) = verify(&setup, &["--noted", &format!("4:{}", "0".repeat(64))]).await;
    assert!(code == Some(1) && output.contains("record 4 is not the one that was noted"), "{output}");
    assert_eq!(verify(&setup, &["--noted", "4:x"]).await.0, Some(64));

    let path = Path::new(&setup.data_dir()).join("store");
    let options = StoreOptions { key: Some(setup.store_key()), ..StoreOptions::default() };
    let key = [&b"e"[..], &2_u64.to_be_bytes()].concat();
    let tampered = tokio::task::spawn_blocking(move || {
        let store = rookery_store::open(&path, options).expect("nobody has it open");
        let mut value = store.get(SessionNumber::DAEMON, Table::Audit, &key).expect("readable").expect("it is there");
        let last = value.len() - 3;
        value[last] ^= 1;
        let mut batch = Batch::new();
        batch.put(SessionNumber::DAEMON, Table::Audit, key, value);
        store.commit(batch).wait_blocking().expect("it can be written");
    });
    tampered.await.expect("no panic");
    let (code, output) = verify(&setup, &[]).await;
    assert!(code == Some(1) && output.contains("the audit log was changed: record 2 was changed"), "{output}");
}
