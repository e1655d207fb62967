//! Sessions: stop, kill, log-out, delete, many at once, and that none is affected by another (S-3).

use rookery_simulator::{Addressing, Fault, FaultKind};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, CAROL, until_equal};

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_session_keeps_its_credentials() {
    let mut bench = Bench::start().await;
    bench.link("alice", ALICE).await;
    for route in ["stop", "force-kill"] {
        let stopped = bench.post(&format!("/sessions/alice/{route}"), json!({})).await;
        assert_eq!((stopped.status, &stopped.body["status"]), (200, &json!("disconnected")), "{stopped:?}");
        assert_eq!(stopped.body["engineLoaded"], false);
        until_equal(0, async || bench.world.live_connections(ALICE)).await;
        assert_eq!(bench.post("/sessions/alice/stop", json!({})).await.status, 200, "stopped already");
        assert_eq!(bench.get("/sessions/alice/groups").await.body["message"], "Session is not started");
        assert_eq!(bench.post("/sessions/alice/start", json!({})).await.status, 200);
        bench.until_status("alice", "ready").await;
    }
    bench.post("/sessions/alice/stop", json!({})).await;
    bench.restart().await;
    assert_eq!(bench.get("/sessions/alice").await.body["status"], "disconnected", "stopped stays stopped");
    assert_eq!(bench.world.live_connections_max(ALICE), 1, "K-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_out_unlinks_the_device_and_the_phone_can_link_again() {
    let bench = Bench::start().await;
    assert_eq!(bench.post("/sessions", json!({ "name": "alice" })).await.status, 201);
    assert_eq!(bench.post("/sessions/alice/logout", json!({})).await.status, 400, "not running");
    bench.post("/sessions/alice/start", json!({})).await;
    let qr = bench.qr("alice").await;
    bench.world.phone(ALICE).scan_qr(&qr).unwrap();
    bench.until_status("alice", "ready").await;
    let out = bench.post("/sessions/alice/logout", json!({})).await;
    assert_eq!((out.status, &out.body["phone"]), (200, &Value::Null), "{out:?}");
    bench.post("/sessions/alice/start", json!({})).await;
    let qr = bench.qr("alice").await;
    bench.world.phone(ALICE).scan_qr(&qr).unwrap();
    bench.until_status("alice", "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unconfirmed_log_out_is_said_and_keeps_the_credentials() {
    let bench = Bench::start().await;
    bench.link("alice", ALICE).await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: false }).at("remove-companion-device"));
    let out = bench.post("/sessions/alice/logout", json!({})).await;
    assert_eq!((out.status, &out.body["code"]), (502, &json!("SESSION_LOGOUT_INCOMPLETE")), "{out:?}");
    until_equal(Some(false), async || bench.get("/sessions/alice").await.body["engineLoaded"].as_bool()).await;
    assert_eq!(bench.get("/sessions/alice").await.body["phone"], ALICE);
    bench.post("/sessions/alice/start", json!({})).await;
    bench.until_status("alice", "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_session_is_unlinked_wiped_and_its_name_is_free() {
    let mut bench = Bench::start().await;
    bench.link("alice", ALICE).await;
    let id = bench.get("/sessions/alice").await.body["id"].as_str().unwrap().to_owned();
    assert_eq!(bench.post("/sessions", json!({ "name": "alice" })).await.status, 409);
    assert_eq!(bench.call(reqwest::Method::DELETE, &format!("/sessions/{id}"), None).await.status, 204);
    assert_eq!(bench.get(&format!("/sessions/{id}")).await.status, 404);
    assert_eq!(bench.world.requests(ALICE, "md:remove-companion-device"), 1);
    bench.link("alice", ALICE).await;
    bench.restart().await;
    bench.until_status("alice", "ready").await;
    assert_eq!(bench.get("/sessions").await.body.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_newest_first_and_found_by_name_or_uuid() {
    let bench = Bench::start().await;
    let mut ids = Vec::new();
    for name in ["one", "two", "three"] {
        ids.push(bench.post("/sessions", json!({ "name": name })).await.body["id"].as_str().unwrap().to_owned());
        // Two sessions of one millisecond have no order by age.
        let created = bench.get(&format!("/sessions/{name}")).await.body["createdAt"].clone();
        until_equal(true, async || json!(rookery_model::Timestamp::now().to_string()) != created).await;
    }
    let list = bench.get("/sessions").await.body;
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|session| session["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["three", "two", "one"]);
    assert_eq!(bench.get(&format!("/sessions/{}", ids[1])).await.body["name"], "two");
    assert_eq!(bench.get("/sessions?limit=1&offset=1").await.body[0]["name"], "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_session_is_not_felt_by_another() {
    let bench = Bench::with(|config| config.whatsapp_timeout_ms = 3_000).await;
    let alices = bench.group(&[BOB], Addressing::Lid);
    let spec = rookery_simulator::GroupSpec::new("Carol's", CAROL);
    let carols = bench.world.add_group(spec);
    bench.link("alice", ALICE).await;
    bench.link("carol", CAROL).await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: false }).times(100));
    let stalled = async {
        let path = format!("/sessions/alice/groups/{alices}/subject");
        bench.put(&path, json!({ "subject": "stalled" })).await.status
    };
    let lively = async {
        for n in 0..50 {
            let path = format!("/sessions/carol/groups/{carols}");
            let subject = json!({ "subject": format!("subject {n}") });
            assert_eq!(bench.put(&format!("{path}/subject"), subject).await.status, 200);
            assert_eq!(bench.get(&path).await.body["name"], format!("subject {n}"));
        }
    };
    tokio::select! {
        biased;
        status = stalled => panic!("fifty writes of another session took longer than one time limit ({status})"),
        () = lively => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_out_before_a_phone_was_linked_closes_the_session() {
    let bench = Bench::start().await;
    bench.start_session("alice").await;
    bench.qr("alice").await;
    let out = bench.post("/sessions/alice/logout", json!({})).await;
    assert_eq!((out.status, &out.body["status"]), (200, &json!("disconnected")), "{out:?}");
    assert_eq!(out.body["engineLoaded"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_connected_is_unlinked_too_when_it_is_deleted() {
    let bench = Bench::start().await;
    let devices = |bench: &Bench| {
        let snapshot = bench.world.snapshot();
        let accounts = snapshot["accounts"].as_array().unwrap();
        let alice = accounts.iter().find(|account| account["phone"] == ALICE).unwrap();
        alice["devices"].as_array().unwrap().len()
    };
    for route in ["stop", "force-kill", "stop at the same time"] {
        bench.link("alice", ALICE).await;
        assert_eq!(devices(&bench), 1);
        let (path, delete) = ("/sessions/alice", reqwest::Method::DELETE);
        let deleted = match route.strip_suffix(" at the same time") {
            None => {
                assert_eq!(bench.post(&format!("{path}/{route}"), json!({})).await.status, 200, "{route}");
                bench.call(delete, path, None).await
            }
            Some(route) => {
                let stop = format!("{path}/{route}");
                tokio::join!(bench.post(&stop, json!({})), bench.call(delete, path, None)).1
            }
        };
        assert_eq!((deleted.status, devices(&bench)), (204, 0), "{route} {deleted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_deleted_sessions_device_may_be_left_is_on_record() {
    let bench = Bench::start().await;
    bench.link("alice", ALICE).await;
    let silence = Fault::new(FaultKind::Silence { apply: false }).at("md:remove-companion-device").times(9);
    bench.world.add_fault(ALICE, silence);
    assert_eq!(bench.call(reqwest::Method::DELETE, "/sessions/alice", None).await.status, 204);
    until_equal(json!(1), async || bench.get("/audit?action=sessions.device_left").await.body["total"].clone()).await;
    let record = bench.get("/audit?action=sessions.device_left").await.body["data"][0].clone();
    assert_eq!((&record["outcome"], record["sessionId"].is_string()), (&json!("failed"), true), "{record}");
}
