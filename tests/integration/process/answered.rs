//! kill -9 right after an answer: the answer stays true.

use reqwest::Method;
use serde_json::{Value, json};

use super::setup::{Daemon, OWN_PHONE, Setup};

/// A change that is answered before it is on disk survives sometimes, by luck.
const ROUNDS: usize = 5;
/// A connection that WhatsApp closes at a log-out is seen before or after its answer.
const RELINK_ROUNDS: usize = 15;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_and_a_session_that_were_made_or_deleted_are_so_after_a_kill() {
    let setup = Setup::start().await;
    let daemon = setup.daemon().await;
    let (status, made) = daemon.post("/api/auth/api-keys", json!({ "name": "reader", "role": "viewer" })).await;
    assert_eq!(status, 201, "{made}");
    let daemon = setup.restart_killed(daemon).await;
    let key = made["apiKey"].as_str().expect("shown this once");
    assert_eq!(list_with(&daemon, key).await.0, 200);

    let (status, created) = daemon.post("/api/sessions", json!({ "name": "alice" })).await;
    assert_eq!(status, 201, "{created}");
    let daemon = setup.restart_killed(daemon).await;
    assert_eq!(daemon.session("alice").await, created);

    let (status, deleted) = daemon.delete("/api/sessions/alice", json!({})).await;
    assert_eq!(status, 204, "{deleted}");
    let daemon = setup.restart_killed(daemon).await;
    assert_eq!(daemon.get("/api/sessions").await, (200, json!([])));

    let id = made["id"].as_str().expect("an id");
    let (status, deleted) = daemon.delete(&format!("/api/auth/api-keys/{id}"), json!({})).await;
    assert!(matches!(status, 200 | 204), "{status} {deleted}");
    let daemon = setup.restart_killed(daemon).await;
    assert_eq!(list_with(&daemon, key).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_started_is_started_after_a_kill() {
    let setup = Setup::start().await;
    let mut daemon = setup.daemon().await;
    for round in 0..ROUNDS {
        let session = format!("alice-{round}");
        daemon.create_started(&session).await;
        daemon = setup.restart_killed(daemon).await;
        let now = daemon.session(&session).await;
        assert_eq!(now["engineLoaded"], true, "round {round}: {now:#}");
        assert!(["initializing", "qr_ready"].iter().any(|status| now["status"] == *status), "round {round}: {now:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_stopped_stays_stopped_after_a_kill() {
    let setup = Setup::start().await;
    let mut daemon = setup.daemon().await;
    daemon.link("alice", OWN_PHONE).await;
    for round in 0..ROUNDS {
        let (status, stopped) = daemon.post("/api/sessions/alice/stop", json!({})).await;
        assert_eq!((status, &stopped["status"]), (200, &json!("disconnected")), "{stopped}");
        daemon = setup.restart_killed(daemon).await;
        let now = daemon.session("alice").await;
        let seen = (&now["status"], &now["engineLoaded"], &now["phone"]);
        assert_eq!(seen, (&json!("disconnected"), &json!(false), &json!(OWN_PHONE)), "round {round}: {now:#}");
        let (status, started) = daemon.post("/api/sessions/alice/start", json!({})).await;
        assert_eq!(status, 200, "{started}");
        daemon.until_ready_by_itself("alice").await;
    }
    setup.assert_one_device(OWN_PHONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_logged_out_knows_no_account_after_a_kill() {
    let setup = Setup::start().await;
    let mut daemon = setup.daemon().await;
    for round in 0..ROUNDS {
        let session = format!("alice-{round}");
        daemon.link(&session, OWN_PHONE).await;
        let (status, out) = daemon.post(&format!("/api/sessions/{session}/logout"), json!({})).await;
        assert_eq!((status, &out["phone"]), (200, &json!(null)), "{out}");
        daemon = setup.restart_killed(daemon).await;
        let now = daemon.session(&session).await;
        let seen = (&now["status"], &now["engineLoaded"], &now["phone"], &now["lastError"]);
        let expected = (&json!("disconnected"), &json!(false), &json!(null), &json!(null));
        assert_eq!(seen, expected, "round {round}: {now:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_can_be_linked_again_right_after_it_was_logged_out() {
    let setup = Setup::start().await;
    let daemon = setup.daemon().await;
    daemon.create_started("alice").await;
    for round in 0..RELINK_ROUNDS {
        daemon.scan("alice", OWN_PHONE).await;
        daemon.until_ready("alice").await;
        let (status, out) = daemon.post("/api/sessions/alice/logout", json!({})).await;
        assert_eq!((status, &out["phone"]), (200, &json!(null)), "round {round}: {out}");
        let (status, started) = daemon.post("/api/sessions/alice/start", json!({})).await;
        assert_eq!(status, 200, "round {round}: {started}");
        let waits = |now: &Value| {
            assert_eq!(now["lastError"], json!(null), "round {round}: {now:#}");
            (now["status"] == "qr_ready").then_some(())
        };
        daemon.until_session("alice", "waiting for a phone", waits).await;
    }
}

async fn list_with(daemon: &Daemon, key: &str) -> (u16, Value) {
    daemon.try_request_with(key, Method::GET, "/api/sessions", None).await.expect("an answer")
}
