//! The requests that one key may have in flight: each counts until it is answered, whatever it waits for.

use reqwest::Method;
use rookery_simulator::{Addressing, Fault, FaultKind};
use serde_json::json;

use crate::harness::{ALICE, BOB, Bench, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_counts_until_whatsapp_has_answered_it() {
    let bench = Bench::with(|config| config.http.limits.requests_per_key_max = 1).await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    let made = bench.post("/auth/api-keys", json!({ "name": "another" })).await;
    let other = made.body["apiKey"].as_str().unwrap();
    let path = format!("/sessions/alice/groups/{group}");
    for (method, rest, kind, asked, body) in [
        (Method::GET, "/invite-code", "invite", "w:g2:invite", None),
        (Method::PUT, "/subject", "subject", "w:g2:subject", Some(json!({ "subject": "New" }))),
    ] {
        bench.world.add_fault(ALICE, Fault::new(FaultKind::Slow { delay_ms: 1_000 }).at(kind));
        let slow_path = format!("{path}{rest}");
        let slow = bench.call(method, &slow_path, body);
        let meanwhile = async {
            until("WhatsApp to be asked", async || (bench.world.requests(ALICE, asked) > 0).then_some(())).await;
            let same = bench.get("/sessions").await;
            assert_eq!((same.failure(), same.retry_after), ((429, "too_many_in_flight"), Some(1)), "{rest}");
            assert_eq!(bench.call_with(other, Method::GET, "/sessions", None).await.status, 200, "{rest}");
        };
        let (slow, ()) = tokio::join!(slow, meanwhile);
        assert_eq!(slow.status, 200, "{slow:?}");
        // The task that carries a change through may end a moment after its answer.
        until("the share to be free", async || (bench.get("/sessions").await.status == 200).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_sessions_and_keys_and_no_more() {
    let bench = Bench::with(|config| (config.sessions_max, config.api_keys_max) = (2, 3)).await;
    let session = |number: u32| bench.post("/sessions", json!({ "name": format!("session-{number}") }));
    // At once, so that none is counted before another is there.
    let made = tokio::join!(session(1), session(2), session(3), session(4));
    let mut statuses = [made.0, made.1, made.2, made.3].map(|answer| answer.status);
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 201, 409, 409]);
    let refused = session(5).await;
    assert_eq!(refused.failure(), (409, "too_many_sessions"));
    assert!(refused.body["message"].as_str().unwrap().contains("--sessions-max"), "{refused:?}");
    let listed = bench.get("/sessions").await.body;
    let id = listed[0]["id"].as_str().unwrap();
    assert_eq!(bench.call(Method::DELETE, &format!("/sessions/{id}"), None).await.status, 204);
    assert_eq!(session(6).await.status, 201);

    let key = |number: u32| bench.post("/auth/api-keys", json!({ "name": format!("key-{number}") }));
    assert_eq!((key(1).await.status, key(2).await.status), (201, 201), "beside the bootstrap key");
    assert_eq!(key(3).await.failure(), (409, "too_many_keys"));
}
