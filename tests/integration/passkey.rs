//! Linking an account that asks for its passkey, by the API alone, and every way in which that can fail.

use rookery_simulator::{Fault, FaultKind, PasskeyManner, SoftwarePasskey};
use rookery_store::{Batch, Table, get_parts, layout, put_parts};
use serde_json::{Value, json};

use crate::harness::{ALICE, Answer, BOB, Bench, until, until_equal};

const PASSKEY: &str = "/sessions/alice/passkey";
const CONFIRM: &str = "/sessions/alice/passkey/confirm";

/// A daemon whose steps have this many seconds, and an account that asks for its passkey.
async fn gated(window_s: u64, manner: PasskeyManner) -> (Bench, SoftwarePasskey) {
    let bench = Bench::with(|config| config.passkey_window_s = window_s).await;
    let passkey = SoftwarePasskey::generate().unwrap();
    bench.world.require_credential(ALICE, Some(passkey.credential()), manner);
    bench.start_session("alice").await;
    (bench, passkey)
}

async fn scan(bench: &Bench) -> Value {
    let qr = bench.qr("alice").await;
    bench.world.phone(ALICE).scan_qr(&qr).unwrap();
    asked(bench).await
}

async fn asked(bench: &Bench) -> Value {
    let session = bench.until_status("alice", "action_required").await;
    assert_eq!(session["linking"]["step"], "passkey", "{session}");
    session
}

async fn sign(bench: &Bench, passkey: &SoftwarePasskey) -> Value {
    let options = bench.get(PASSKEY).await;
    assert_eq!(options.status, 200, "{options:?}");
    serde_json::from_str(&passkey.sign(&options.body.to_string()).unwrap()).unwrap()
}

async fn answer(bench: &Bench, passkey: &SoftwarePasskey) -> Answer {
    let signed = sign(bench, passkey).await;
    bench.post(PASSKEY, signed).await
}

async fn code(bench: &Bench) -> String {
    let step = async || {
        let linking = bench.get("/sessions/alice").await.body["linking"].clone();
        (linking["step"] == "passkey_confirmation").then(|| linking["code"].as_str().unwrap().to_owned())
    };
    until("a code to compare", step).await
}

async fn until_error(bench: &Bench, expected: &str) {
    let error = async || bench.get("/sessions/alice").await.body["lastError"].as_str().unwrap_or_default().to_owned();
    until(expected, async || error().await.contains(expected).then_some(())).await;
}

/// Links from a new QR on.
async fn links_after_all(bench: &Bench, passkey: &SoftwarePasskey) {
    bench.world.require_passkey(ALICE, Some(passkey));
    scan(bench).await;
    assert_eq!(answer(bench, passkey).await.status, 200);
    code(bench).await;
    assert_eq!(bench.post(CONFIRM, json!({})).await.status, 200);
    let session = bench.until_status("alice", "ready").await;
    assert_eq!((&session["lastError"], &session["linking"]), (&json!(null), &json!(null)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_linked_with_its_passkey_and_the_code_that_the_phone_shows() {
    let (mut bench, passkey) = gated(600, PasskeyManner::Links).await;
    assert_eq!(bench.get(PASSKEY).await.failure(), (404, "passkey_not_requested"));
    bench.qr("alice").await;
    assert_eq!(bench.get("/sessions/alice").await.body["linking"]["step"], "qr");
    let session = scan(&bench).await;
    assert!(session["lastError"].as_str().unwrap().contains("/passkey"), "{session}");
    assert!(session["linking"]["expiresAt"].is_string() && session["linking"]["code"].is_null(), "{session}");
    assert_eq!(bench.get("/sessions/alice/qr").await.status, 400);
    assert_eq!(bench.post(CONFIRM, json!({})).await.failure(), (409, "passkey_code_not_shown"));

    let options = bench.get(PASSKEY).await.body;
    assert_eq!((&options["rpId"], &options["userVerification"]), (&json!("whatsapp.com"), &json!("required")));
    assert_eq!(bench.post("/sessions/alice/pairing-code", json!({ "phoneNumber": ALICE })).await.status, 400);
    let answered = answer(&bench, &passkey).await;
    assert_eq!((answered.status, &answered.body["name"]), (200, &json!("alice")), "{answered:?}");
    assert!(answered.body["lastError"].as_str().unwrap().starts_with("the passkey's answer was sent"), "{answered:?}");
    let code = code(&bench).await;
    assert_eq!(code.replace('-', ""), bench.world.passkey_code(ALICE).unwrap());
    assert_eq!(bench.get(PASSKEY).await.failure(), (404, "passkey_not_requested"));
    let confirmed = bench.post(CONFIRM, json!({})).await;
    assert_eq!(confirmed.status, 200, "{confirmed:?}");
    assert!(confirmed.body["lastError"].as_str().unwrap().starts_with("the code was confirmed"), "{confirmed:?}");
    let session = bench.until_status("alice", "ready").await;
    assert_eq!((&session["phone"], &session["linking"]), (&json!(ALICE), &json!(null)));
    bench.restart().await;
    bench.until_status("alice", "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_code_leads_to_the_passkey_too() {
    let (bench, passkey) = gated(600, PasskeyManner::Links).await;
    bench.qr("alice").await;
    let made = bench.post("/sessions/alice/pairing-code", json!({ "phoneNumber": ALICE })).await;
    let text = made.body["pairingCode"].as_str().unwrap().to_owned();
    let linking = bench.get("/sessions/alice").await.body["linking"].clone();
    assert_eq!((&linking["step"], &linking["code"]), (&json!("pairing_code"), &json!(null)), "{linking}");
    let phone = bench.world.phone(ALICE);
    tokio::task::spawn_blocking(move || phone.enter_code(&text)).await.unwrap().unwrap();
    asked(&bench).await;
    assert_eq!(answer(&bench, &passkey).await.status, 200);
    code(&bench).await;
    assert_eq!(bench.post(CONFIRM, json!({})).await.status, 200);
    bench.until_status("alice", "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_whatsapp_refuses_begins_linking_anew() {
    let (bench, passkey) = gated(600, PasskeyManner::Links).await;
    scan(&bench).await;
    let stranger = SoftwarePasskey::generate().unwrap();
    let refused = answer(&bench, &stranger).await;
    assert_eq!(refused.failure(), (403, "whatsapp_refused"), "{refused:?}");
    until_error(&bench, "WhatsApp refused the passkey (code 403); link the phone again").await;
    links_after_all(&bench, &passkey).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_right_is_not_sent_and_ends_nothing() {
    let (bench, passkey) = gated(600, PasskeyManner::Links).await;
    scan(&bench).await;
    let good = sign(&bench, &passkey).await;
    let other = passkey.sign(&json!({ "challenge": "b2xk" }).to_string()).unwrap();
    let outdated = bench.post(PASSKEY, serde_json::from_str(&other).unwrap()).await;
    assert_eq!(outdated.failure(), (400, "passkey_outdated"), "{outdated:?}");
    for body in [json!({}), json!({ "id": "a" }), json!({ "response": good["response"] })] {
        assert_eq!(bench.post(PASSKEY, body).await.status, 400);
    }
    assert_eq!(bench.world.requests(ALICE, "passkey:refused"), 0);
    asked(&bench).await;
    // Of two answers at once, one is sent.
    let twice = tokio::join!(bench.post(PASSKEY, good.clone()), bench.post(PASSKEY, good));
    let mut statuses = [twice.0.status, twice.1.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "one is taken");
    code(&bench).await;
    let twice = tokio::join!(bench.post(CONFIRM, json!({})), bench.post(CONFIRM, json!({})));
    let mut statuses = [twice.0.status, twice.1.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    bench.until_status("alice", "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_go_on_in_time_ends_the_attempt_and_linking_begins_anew() {
    // Nobody signs.
    let (bench, passkey) = gated(1, PasskeyManner::Links).await;
    scan(&bench).await;
    until_error(&bench, "nobody answered with the passkey in time").await;
    // Nobody confirms.
    scan(&bench).await;
    assert_eq!(answer(&bench, &passkey).await.status, 200);
    code(&bench).await;
    until_error(&bench, "nobody confirmed the code in time").await;
    // The phone goes on with nothing, or with something that cannot be read, or its owner says no.
    let cases = [
        (PasskeyManner::StaysSilent, "the phone did not go on after the passkey's answer"),
        (PasskeyManner::Babbles, "WhatsApp's part of it could not be read, or did not come"),
        (PasskeyManner::Declines, "the phone did not accept the device"),
    ];
    for (manner, expected) in cases {
        bench.world.require_credential(ALICE, Some(passkey.credential()), manner);
        scan(&bench).await;
        assert_eq!(answer(&bench, &passkey).await.status, 200);
        if manner == PasskeyManner::Declines {
            code(&bench).await;
            assert_eq!(bench.post(CONFIRM, json!({})).await.status, 200);
        }
        until_error(&bench, expected).await;
        until_equal(Value::Bool(true), async || bench.get("/sessions/alice").await.body["engineLoaded"].clone()).await;
    }
    links_after_all(&bench, &passkey).await;
    assert_eq!(bench.world.live_connections_max(ALICE), 1, "K-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_can_be_stopped_restarted_and_logged_out_while_a_passkey_is_asked_for() {
    let (mut bench, passkey) = gated(600, PasskeyManner::Links).await;
    scan(&bench).await;
    let stopped = bench.post("/sessions/alice/stop", json!({})).await;
    assert_eq!(stopped.status, 200, "{stopped:?}");
    assert_eq!((&stopped.body["linking"], &stopped.body["engineLoaded"]), (&json!(null), &json!(false)));
    assert_eq!((&stopped.body["status"], &stopped.body["lastError"]), (&json!("disconnected"), &json!(null)));
    assert_eq!(bench.get(PASSKEY).await.failure(), (404, "passkey_not_requested"));
    assert_eq!(bench.post("/sessions/alice/start", json!({})).await.status, 200);
    scan(&bench).await;
    bench.restart().await;
    scan(&bench).await;
    assert_eq!(bench.post("/sessions/alice/force-kill", json!({})).await.status, 200);
    until_equal(json!(false), async || bench.get("/sessions/alice").await.body["engineLoaded"].clone()).await;
    assert_eq!(bench.post("/sessions/alice/start", json!({})).await.status, 200);
    // The session is Bob's now: Alice's passkey does not help her.
    bench.world.require_passkey(ALICE, None);
    let qr = bench.qr("alice").await;
    bench.world.phone(BOB).scan_qr(&qr).unwrap();
    bench.until_status("alice", "ready").await;
    bench.world.phone(BOB).unlink_devices();
    bench.until_status("alice", "action_required").await;
    bench.world.require_passkey(ALICE, Some(&passkey));
    assert_eq!(bench.post("/sessions/alice/start", json!({})).await.status, 200);
    scan(&bench).await;
    assert_eq!(answer(&bench, &passkey).await.status, 200);
    code(&bench).await;
    assert_eq!(bench.post(CONFIRM, json!({})).await.status, 200);
    until_error(&bench, "linked to another account").await;
    assert_eq!(bench.delete("/sessions/alice", json!({})).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_ends_the_attempt() {
    use rookery_simulator::{ProxyProtocol, ProxyServer};
    let (bench, passkey) = gated(600, PasskeyManner::Links).await;
    let proxy = ProxyServer::start(ProxyProtocol::Http, None).await.unwrap();
    assert_eq!(bench.patch("/sessions/alice/proxy", json!({ "proxyUrl": proxy.url() })).await.status, 200);
    until_equal(1, async || proxy.connections()).await;
    scan(&bench).await;
    proxy.cut();
    until_error(&bench, "linking failed: the connection").await;
    assert_eq!(bench.get(PASSKEY).await.failure(), (404, "passkey_not_requested"));
    // So does another proxy, which takes effect at once.
    scan(&bench).await;
    assert_eq!(bench.patch("/sessions/alice/proxy", json!({ "proxyUrl": null })).await.status, 200);
    until_equal(0, async || proxy.connections()).await;
    links_after_all(&bench, &passkey).await;
    assert_eq!(proxy.connections(), 0);
    bench.world.add_fault(ALICE, Fault::new(FaultKind::StreamError));
    bench.until_status("alice", "ready").await;
}

/// A device that was linked before keeps the account's LID: the engine proves then that it is the one that the phone
/// accepted, and nobody compares a code.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_the_phone_knows_is_linked_without_comparing_a_code() {
    let (mut bench, passkey) = gated(600, PasskeyManner::Links).await;
    bench.qr("alice").await;
    bench.link("bob", BOB).await;
    bench
        .restart_after(|store| {
            let devices = store.scan_all(Table::Device).unwrap().into_iter().map(|(session, _)| session);
            let mut sessions: Vec<_> = devices.collect();
            sessions.dedup();
            let device = |session| {
                let record = get_parts(store, session, Table::Device, layout::DEVICE).unwrap().unwrap();
                serde_json::from_slice::<Value>(&record).unwrap()
            };
            let (mut ours, linked) = (device(sessions[0]), device(sessions[1]));
            assert!(ours["lid"].is_null() && !linked["lid"].is_null());
            ours["lid"] = linked["lid"].clone();
            let mut batch = Batch::new();
            let record = serde_json::to_vec(&ours).unwrap();
            put_parts(store, &mut batch, sessions[0], Table::Device, layout::DEVICE, &record).unwrap();
            store.commit(batch).wait_blocking().unwrap();
        })
        .await;
    scan(&bench).await;
    assert_eq!(answer(&bench, &passkey).await.status, 200);
    bench.until_status("alice", "ready").await;
    assert_eq!(bench.world.passkey_code(ALICE), None);
}
