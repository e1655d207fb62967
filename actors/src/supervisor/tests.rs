//! Sessions over a store that refuses, delays or holds something else than this version writes.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::gateway::Gateway;
use crate::options::SessionOptions;
use crate::session::record::Link;
use crate::unwilling_store::{Unwilling, nothing};
use rookery_model::{ConfigChange, SessionStatus};
use rookery_store::Store as _;

async fn start_over(store: &Arc<Unwilling>) -> Running {
    let options = SessionOptions { whatsapp_url: "ws://127.0.0.1:1".into(), ..SessionOptions::default() };
    start(options, store.clone(), store.log.clone()).await.unwrap()
}

async fn create(gateway: &Gateway, name: &str) -> SessionId {
    gateway.create_session(name.parse().unwrap(), rookery_model::SessionConfig::default(), None).await.unwrap().id
}

fn change() -> ConfigChange {
    ConfigChange { auto_reject_calls: Some(true), ..ConfigChange::default() }
}

/// Waits until the session is as `reached` wants it; prints the last state when it never is.
async fn until(gateway: &Gateway, id: SessionId, reached: impl Fn(&Session) -> bool) -> Arc<Session> {
    let began = Instant::now();
    loop {
        let session = gateway.session(id).unwrap();
        if reached(&session) {
            return session;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{session:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn says(session: &Session, text: &str) -> bool {
    session.last_error.as_ref().is_some_and(|error| error.contains(text))
}

const ALICE: SessionNumber = SessionNumber(1);
const CAROL: SessionNumber = SessionNumber(3);

#[tokio::test]
async fn a_record_that_cannot_be_read_is_one_failed_session_that_can_be_deleted() {
    let store = Unwilling::new();
    let running = start_over(&store).await;
    let alice = create(&running.gateway, "alice").await;
    let bob = create(&running.gateway, "bob").await;
    create(&running.gateway, "carol").await;
    running.shutdown().await;
    let mut record = store.record(ALICE);
    record["status"] = json!("of another version");
    store.put_record(ALICE, serde_json::to_vec(&record).unwrap());
    store.put_record(CAROL, "no JSON at all");
    store.put(CAROL, Table::Device, b"device", "credentials");

    let running = start_over(&store).await;
    let gateway = &running.gateway;
    assert!(gateway.configure(bob, change()).await.unwrap().auto_reject_calls);
    let carol = gateway.find("unreadable-3").unwrap();
    assert_eq!(gateway.find("alice").unwrap(), alice);
    for id in [alice, carol] {
        let session = gateway.session(id).unwrap();
        assert!(session.status == SessionStatus::Failed && says(&session, "delete the session"), "{session:?}");
        let refused = gateway.start_session(id, false).await;
        assert!(matches!(refused, Err(CommandError::NotLoaded(_))), "{refused:?}");
    }
    running.shutdown().await;
    assert_eq!(store.record(ALICE), record, "the version that wrote it can go on with it");

    let running = start_over(&store).await;
    assert_eq!(running.gateway.find("unreadable-3").unwrap(), carol, "its id stays");
    store.refuse(|change| change.table == Table::Device);
    assert!(running.gateway.delete_session(carol).await.is_err());
    assert!(running.gateway.session(carol).is_ok(), "it can be deleted again");
    store.refuse(nothing);
    for id in [alice, carol] {
        running.gateway.delete_session(id).await.unwrap();
    }
    assert_eq!(store.get(CAROL, Table::Device, b"device"), Ok(None));
    running.shutdown().await;
    let running = start_over(&store).await;
    assert_eq!(running.gateway.sessions().iter().map(|session| session.id).collect::<Vec<_>>(), [bob]);
    running.shutdown().await;
}

#[tokio::test]
async fn a_deletion_that_cannot_be_finished_keeps_nobody_from_starting() {
    let store = Unwilling::new();
    let running = start_over(&store).await;
    create(&running.gateway, "alice").await;
    let bob = create(&running.gateway, "bob").await;
    running.shutdown().await;
    let mut record = store.record(ALICE);
    record["deleting"] = json!(true);
    store.put_record(ALICE, serde_json::to_vec(&record).unwrap());
    store.put(ALICE, Table::Device, b"device", "credentials");
    store.refuse(|change| change.table == Table::Device);
    let running = start_over(&store).await;
    assert_eq!(running.gateway.sessions().iter().map(|session| session.id).collect::<Vec<_>>(), [bob]);
    store.refuse(nothing);
    tokio::time::pause();
    let began = Instant::now();
    while store.get(ALICE, Table::Device, b"device") != Ok(None) {
        assert!(began.elapsed() < Duration::from_secs(30), "it is not tried again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    running.shutdown().await;
}

#[tokio::test]
async fn a_session_that_takes_long_to_read_makes_no_other_one_wait() {
    let store = Unwilling::new();
    let running = start_over(&store).await;
    let alice = create(&running.gateway, "alice").await;
    let bob = create(&running.gateway, "bob").await;
    running.shutdown().await;
    store.hold(Some(ALICE));
    let running = start_over(&store).await;
    let gateway = running.gateway.clone();
    let asked = tokio::spawn(async move { gateway.configure(alice, change()).await });
    assert!(running.gateway.configure(bob, change()).await.unwrap().auto_reject_calls);
    create(&running.gateway, "carol").await;
    assert!(!asked.is_finished(), "whoever asks for it waits");
    store.hold(None);
    assert!(asked.await.unwrap().unwrap().auto_reject_calls);
    running.shutdown().await;
}

#[tokio::test]
async fn a_record_that_could_not_be_saved_is_shown_and_saved_later() {
    let store = Unwilling::new();
    let running = start_over(&store).await;
    let alice = create(&running.gateway, "alice").await;
    store.refuse(|change| change.table == Table::Sessions);
    let refused = running.gateway.configure(alice, change()).await;
    assert!(matches!(refused, Err(CommandError::Unsaved(StoreError::LowSpace { .. }))), "{refused:?}");
    until(&running.gateway, alice, |session| says(session, "could not be saved yet: the disk is nearly full")).await;
    assert_eq!(store.record(ALICE)["config"]["autoRejectCalls"], false);
    let again = running.gateway.configure(alice, change()).await;
    assert!(again.is_err(), "what is so already, but not on disk, is no success: {again:?}");
    store.refuse(nothing);
    tokio::time::pause();
    until(&running.gateway, alice, |session| session.last_error.is_none()).await;
    assert_eq!(store.record(ALICE)["config"]["autoRejectCalls"], true);
    running.shutdown().await;
}

#[tokio::test]
async fn credentials_that_could_not_be_wiped_are_shown_and_wiped_later_also_after_a_restart() {
    let store = Unwilling::new();
    let running = start_over(&store).await;
    let alice = create(&running.gateway, "alice").await;
    running.shutdown().await;
    // Killed while it was being linked: such credentials are wiped.
    let mut record = store.record(ALICE);
    record["link"] = json!(Link::Linking);
    store.put_record(ALICE, serde_json::to_vec(&record).unwrap());
    store.put(ALICE, Table::Device, b"device", "credentials");
    store.refuse(|change| change.table == Table::Device);
    for _ in 0..2 {
        let running = start_over(&store).await;
        until(&running.gateway, alice, |session| says(session, "could not be wiped yet")).await;
        running.shutdown().await;
        assert_eq!((&store.record(ALICE)["wiping"], &store.record(ALICE)["link"]), (&json!(true), &json!(Link::None)));
    }
    let running = start_over(&store).await;
    until(&running.gateway, alice, |session| says(session, "could not be wiped yet")).await;
    store.refuse(nothing);
    tokio::time::pause();
    let session = until(&running.gateway, alice, |session| !session.engine_loaded).await;
    assert!(says(&session, "linking was interrupted"), "{session:?}");
    assert_eq!(store.get(ALICE, Table::Device, b"device"), Ok(None));
    until(&running.gateway, alice, |_| store.record(ALICE)["wiping"] == json!(false)).await;
    running.shutdown().await;
}
