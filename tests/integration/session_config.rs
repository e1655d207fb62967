//! An operator's settings for a session: kept over restarts, and carried out.

use reqwest::Method;
use rookery_simulator::{Fault, FaultKind};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, until, until_equal};

const CONFIG: &str = "/sessions/alice/config";

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_changed_field_by_field_set_back_and_kept() {
    let mut bench = Bench::start().await;
    assert_eq!(bench.post("/sessions", json!({ "name": "alice" })).await.status, 201);
    let default = json!({ "autoRejectCalls": false, "maxReconnectAttempts": null, "reconnectBaseDelay": 5000 });
    assert_eq!(bench.get(CONFIG).await.body, default);
    let changed = bench.patch(CONFIG, json!({ "autoRejectCalls": true, "maxReconnectAttempts": 3 })).await;
    let expected = json!({ "autoRejectCalls": true, "maxReconnectAttempts": 3, "reconnectBaseDelay": 5000 });
    assert_eq!((changed.status, &changed.body), (200, &expected));
    bench.restart().await;
    assert_eq!(bench.get(CONFIG).await.body, expected);
    assert_eq!(bench.patch(CONFIG, json!({})).await.body, expected);
    let back = json!({ "autoRejectCalls": null, "maxReconnectAttempts": null, "reconnectBaseDelay": null });
    assert_eq!(bench.patch(CONFIG, back).await.body, default);
    assert_eq!(bench.get(CONFIG).await.body, default);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_may_be_made_with_its_configuration() {
    let bench = Bench::start().await;
    let config = json!({ "maxReconnectAttempts": 0, "reconnectBaseDelay": 300_000 });
    assert_eq!(bench.post("/sessions", json!({ "name": "alice", "config": config })).await.status, 201);
    let expected = json!({ "autoRejectCalls": false, "maxReconnectAttempts": 0, "reconnectBaseDelay": 300_000 });
    assert_eq!(bench.get(CONFIG).await.body, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_configurations_are_named_and_change_nothing() {
    let bench = Bench::start().await;
    let refused = bench.post("/sessions", json!({ "name": "alice", "config": { "autoRejectCalls": 1 } })).await;
    assert_eq!(refused.body["message"], json!(["config.autoRejectCalls must be a boolean value"]));
    assert_eq!(bench.get("/sessions").await.body, json!([]));
    assert_eq!(bench.post("/sessions", json!({ "name": "alice" })).await.status, 201);
    let before = bench.get(CONFIG).await.body;
    let cases = [
        (json!({ "maxReconnectAttempts": 21 }), "maxReconnectAttempts must not be greater than 20"),
        (json!({ "reconnectBaseDelay": 999 }), "reconnectBaseDelay must not be less than 1000"),
        (json!({ "autoRejectCalls": true, "calls": 1 }), "property calls should not exist"),
    ];
    for (body, message) in cases {
        let answer = bench.patch(CONFIG, body).await;
        assert_eq!((answer.failure(), &answer.body["message"]), ((400, "validation_failed"), &json!([message])));
    }
    assert_eq!(bench.get(CONFIG).await.body, before);
    assert_eq!(bench.get("/sessions/nobody/config").await.failure(), (404, "session_not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_rejected_from_the_moment_on_that_it_is_wanted() {
    let bench = Bench::start().await;
    bench.link("alice", ALICE).await;
    bench.world.call(BOB, ALICE);
    let changed = bench.patch(CONFIG, json!({ "autoRejectCalls": true })).await;
    assert_eq!((changed.status, &changed.body["autoRejectCalls"]), (200, &Value::Bool(true)));
    let before = bench.world.requests(ALICE, "call:reject");
    bench.world.call(BOB, ALICE);
    until("a rejected call", async || (bench.world.requests(ALICE, "call:reject") > before).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_gives_up_after_the_reconnects_that_it_may_try() {
    let bench = Bench::start().await;
    bench.start_session("alice").await;
    let change = json!({ "maxReconnectAttempts": 0 });
    assert_eq!(bench.call(Method::PATCH, "/sessions/alice/config", Some(change)).await.status, 200);
    let qr = bench.qr("alice").await;
    bench.world.phone(ALICE).scan_qr(&qr).unwrap();
    bench.until_status("alice", "ready").await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Drop { apply: false, now: true }));
    let session = bench.until_status("alice", "failed").await;
    assert!(session["lastError"].as_str().unwrap().contains("maxReconnectAttempts"), "{session}");
    until_equal(Some(false), async || bench.get("/sessions/alice").await.body["engineLoaded"].as_bool()).await;
    assert_eq!(bench.post("/sessions/alice/start", json!({})).await.status, 200);
    bench.until_status("alice", "ready").await;
}
