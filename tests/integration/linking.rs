//! Linking a phone: by QR, by code, not at all.

use rookery_simulator::{Fault, FaultKind};
use serde_json::json;

use crate::harness::{ALICE, BOB, Bench, until, until_equal};

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_links_by_qr_and_the_session_becomes_ready() {
    let bench = Bench::start().await;
    bench.group(&[BOB], rookery_simulator::Addressing::Lid);
    let created = bench.post("/sessions", json!({ "name": "alice" })).await;
    assert_eq!((created.status, created.body["status"].as_str()), (201, Some("created")));
    assert_eq!(created.body["phone"], json!(null));
    assert_eq!(bench.get("/sessions/alice/groups").await.status, 400, "not started");
    let started = bench.post("/sessions/alice/start", json!({})).await;
    assert_eq!((started.status, started.body["status"].as_str()), (200, Some("initializing")));
    assert_eq!(bench.post("/sessions/alice/start", json!({})).await.body["message"], "Session is already started");
    assert_eq!(bench.get("/sessions/alice/groups").await.body["code"], "session_not_connected", "K-3");

    let qr = bench.qr("alice").await;
    let picture = bench.get("/sessions/alice/qr").await.body;
    assert_eq!(picture["status"], "qr_ready");
    assert!(picture["qrCode"].as_str().unwrap().starts_with("data:image/png;base64,iVBOR"));
    bench.world.phone(ALICE).scan_qr(&qr).unwrap();

    let session = bench.until_status("alice", "ready").await;
    assert_eq!(session["phone"], ALICE);
    assert_eq!(session["lastError"], json!(null));
    assert_eq!(session["engineLoaded"], true);
    assert!(session["pushName"].is_string() && session["connectedAt"].is_string());
    assert_eq!(bench.get("/sessions/alice/qr").await.status, 400);
    assert_eq!(bench.get("/sessions/alice/groups").await.body[0]["participantsCount"], 2);
    assert_eq!(bench.world.live_connections_max(ALICE), 1, "K-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_links_by_code() {
    let bench = Bench::start().await;
    bench.start_session("alice").await;
    bench.qr("alice").await;
    let ask = async |number: &str| bench.post("/sessions/alice/pairing-code", json!({ "phoneNumber": number })).await;
    let answer = ask(ALICE).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let code = answer.body["pairingCode"].as_str().unwrap().to_owned();
    assert_eq!(code.len(), 8);
    assert_eq!(ask(ALICE).await.body["pairingCode"], code, "asked again: the same code");
    let phone = bench.world.phone(ALICE);
    tokio::task::spawn_blocking(move || phone.enter_code(&code)).await.unwrap().unwrap();
    assert_eq!(bench.until_status("alice", "ready").await["phone"], ALICE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_links_by_code_whatever_the_daemon_is_called() {
    for name in ["Hub (Berlin) \u{1F426}", "Search for Windows", "."] {
        let bench = Bench::with(|config| config.device_name = name.into()).await;
        bench.start_session("alice").await;
        bench.qr("alice").await;
        let answer = bench.post("/sessions/alice/pairing-code", json!({ "phoneNumber": "+1 555 010-0001" })).await;
        assert_eq!(answer.status, 201, "{name}: {answer:?}");
        let (code, phone) = (answer.body["pairingCode"].as_str().unwrap().to_owned(), bench.world.phone(ALICE));
        tokio::task::spawn_blocking(move || phone.enter_code(&code)).await.unwrap().unwrap();
        assert_eq!(bench.until_status("alice", "ready").await["phone"], ALICE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_for_another_number_cancels_the_first() {
    let bench = Bench::start().await;
    bench.start_session("alice").await;
    bench.qr("alice").await;
    let ask = async |number: &str| bench.post("/sessions/alice/pairing-code", json!({ "phoneNumber": number })).await;
    let first = ask(BOB).await.body["pairingCode"].as_str().unwrap().to_owned();
    let second = ask(ALICE).await.body["pairingCode"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    let phone = bench.world.phone(ALICE);
    tokio::task::spawn_blocking(move || phone.enter_code(&second)).await.unwrap().unwrap();
    assert_eq!(bench.until_status("alice", "ready").await["phone"], ALICE);
}

#[tokio::test(flavor = "multi_thread")]
async fn linking_closes_when_nobody_comes_and_opens_again_on_a_start() {
    // The settings allow 10 s and more; a test does not wait for that.
    let bench = Bench::with(|config| config.linking_window_s = 1).await;
    bench.start_session("alice").await;
    bench.qr("alice").await;
    let session = bench.until_status("alice", "disconnected").await;
    assert!(session["lastError"].as_str().unwrap().contains("no phone linked"), "{session}");
    until_equal(Some(false), async || bench.get("/sessions/alice").await.body["engineLoaded"].as_bool()).await;
    assert_eq!(bench.post("/sessions/alice/start", json!({})).await.status, 200);
    let qr = bench.qr("alice").await;
    bench.world.phone(ALICE).scan_qr(&qr).unwrap();
    bench.until_status("alice", "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_waiting_for_a_phone_shows_a_new_qr_after_a_restart() {
    let mut bench = Bench::start().await;
    bench.start_session("alice").await;
    let before = bench.qr("alice").await;
    bench.restart().await;
    let after = until("another QR", async || Some(bench.qr("alice").await).filter(|qr| *qr != before)).await;
    bench.world.phone(ALICE).scan_qr(&after).unwrap();
    bench.until_status("alice", "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_for_linking_says_nothing_to_a_session_that_was_linked_in_it() {
    let bench = Bench::with(|config| config.linking_window_s = 2).await;
    bench.link("alice", ALICE).await;
    // Started again while the linking window of the first start runs out: the log-in takes longer than the rest of it.
    bench.post("/sessions/alice/stop", json!({})).await;
    let slow = Fault::new(FaultKind::Slow { delay_ms: 2_500 }).at("w:g2:participating");
    bench.world.add_fault(ALICE, slow);
    assert_eq!(bench.post("/sessions/alice/start", json!({})).await.status, 200);
    let session = bench.until_status("alice", "ready").await;
    assert_eq!(session["lastError"], json!(null));
}
