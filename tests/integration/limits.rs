//! What WhatsApp allows an account: told by the session, by an event, in the audit log, and in refusals.

use rookery_simulator::{AccountSpec, Addable, Addressing, Fault, FaultKind, NewChatLimit, ReachoutLock};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, CAROL, until_equal};

const LIMITS: &str = "/sessions/alice/limits";
const PRESENCE: &str = "/sessions/alice/presence";

async fn lifted(bench: &Bench) -> usize {
    let records = bench.get("/audit?action=sessions.restriction_lifted").await.body;
    records["data"].as_array().unwrap_or_else(|| panic!("{records}")).len()
}

/// Seconds since 1970, and the same as the API writes it.
fn in_an_hour() -> (u64, String) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let end = rookery_model::Timestamp(i64::try_from(now + 3_600).unwrap() * 1_000);
    (now + 3_600, end.to_string())
}

async fn restriction(bench: &Bench) -> Value {
    bench.get("/sessions/alice").await.body["restriction"].clone()
}

async fn audited(bench: &Bench) -> usize {
    let records = bench.get("/audit?action=sessions.restricted").await.body;
    records["data"].as_array().unwrap_or_else(|| panic!("{records}")).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_shows_everywhere_and_explains_refusals_until_it_is_lifted() {
    let bench = Bench::start().await;
    let group = bench.group(&[BOB], Addressing::Pn);
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}/participants");
    until_equal(json!(false), async || bench.get(LIMITS).await.body["reachoutTimelock"]["isActive"].clone()).await;
    let limits = bench.get(LIMITS).await.body;
    let unlocked = json!({ "isActive": false, "expiresAt": null, "reason": null });
    let none = json!({ "restriction": null, "reachoutTimelock": unlocked, "newChats": null, "pauses": [] });
    assert_eq!(limits, none);

    let (ends, end) = in_an_hour();
    bench.world.lock_reachout(ALICE, Some(ReachoutLock { ends: Some(ends), reason: "BIZ_QUALITY".into() }));
    let expected = json!({ "kind": "reachout_timelock", "code": "BIZ_QUALITY", "expiresAt": end });
    until_equal(expected.clone(), async || restriction(&bench).await).await;
    let limits = bench.get(LIMITS).await.body;
    let locked = json!({ "isActive": true, "expiresAt": end, "reason": "BIZ_QUALITY" });
    assert_eq!((&limits["restriction"], &limits["reachoutTimelock"]), (&expected, &locked));
    assert_eq!(bench.get("/sessions/alice").await.body["status"], "ready", "it stays connected");
    until_equal(1, async || audited(&bench).await).await;

    for (path, body) in [
        (path.as_str(), json!({ "participants": [CAROL] })),
        ("/sessions/alice/groups", json!({ "name": "New", "participants": [CAROL] })),
    ] {
        let refused = bench.post(path, body).await;
        assert_eq!(refused.failure(), (403, "reachout_timelock"), "{refused:?}");
        assert!(refused.body["message"].as_str().unwrap().contains(&end), "{refused:?}");
    }

    let lock = ReachoutLock { ends: Some(ends), reason: "BIZ_QUALITY".into() };
    bench.world.lock_reachout(ALICE, None);
    until_equal(json!(null), async || restriction(&bench).await).await;
    until_equal(1, async || lifted(&bench).await).await;
    assert_eq!(bench.post(&path, json!({ "participants": [CAROL] })).await.status, 200);
    // It is the account's, and goes with it.
    bench.world.lock_reachout(ALICE, Some(lock));
    until_equal(expected, async || restriction(&bench).await).await;
    let freed = bench.post("/sessions/alice/logout", json!({})).await;
    assert_eq!((freed.status, &freed.body["restriction"]), (200, &json!(null)), "{freed:?}");
    assert_eq!(bench.get(LIMITS).await.body["reachoutTimelock"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_known_from_the_log_in_lasts_over_a_restart_and_ends_with_its_time() {
    let mut bench = Bench::start().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    bench.world.lock_reachout(ALICE, Some(ReachoutLock { ends: Some(now + 6), reason: "DEFAULT".into() }));
    bench.link("alice", ALICE).await;
    until_equal(json!("reachout_timelock"), async || restriction(&bench).await["kind"].clone()).await;
    let requests = || bench.world.requests(ALICE, "w:mex:fetch_reachout_timelock");
    assert_eq!(requests(), 1);
    bench.world.add_fault(ALICE, Fault::new(FaultKind::StreamError));
    bench.until_status("alice", "disconnected").await;
    bench.until_status("alice", "ready").await;
    assert_eq!(requests(), 1, "at most once in ten minutes");
    // The new daemon gets no answer to its question.
    bench
        .world
        .add_fault(ALICE, Fault::new(FaultKind::Refuse { code: 500, backoff_s: None }).at("fetch_reachout_timelock"));
    bench.restart().await;
    bench.until_status("alice", "ready").await;
    assert_eq!(restriction(&bench).await["kind"], "reachout_timelock");
    until_equal(json!(null), async || restriction(&bench).await).await;
    assert_eq!(bench.get(LIMITS).await.body["reachoutTimelock"]["isActive"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_may_mean_the_lock_is_not_called_so_unless_there_is_one() {
    let bench = Bench::start().await;
    let group = bench.group(&[BOB], Addressing::Pn);
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}/participants");
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Refuse { code: 463, backoff_s: None }).at("add"));
    let refused = bench.post(&path, json!({ "participants": [CAROL] })).await;
    assert_eq!(refused.failure(), (403, "whatsapp_refused"), "{refused:?}");
    assert_eq!(restriction(&bench).await, json!(null));
    // The same about one person.
    let person = "15550100077";
    bench.world.add_account(AccountSpec { addable: Addable::Refused(463), ..AccountSpec::new(person) });
    let results = bench.post(&path, json!({ "participants": [person, CAROL] })).await;
    assert_eq!(results.codes(), ["failed", "added"]);
}

/// Notifications are handled in no order.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_changes_at_once_the_one_that_whatsapp_has_holds() {
    let bench = Bench::start().await;
    bench.link("alice", ALICE).await;
    until_equal(1, async || bench.world.requests(ALICE, "w:mex:fetch_reachout_timelock")).await;
    let lock = |seconds| ReachoutLock { ends: Some(in_an_hour().0 + seconds), reason: "DEFAULT".into() };
    for seconds in 0..20 {
        bench.world.lock_reachout(ALICE, Some(lock(seconds)));
        bench.world.lock_reachout(ALICE, None);
    }
    until_equal(2, async || bench.world.requests(ALICE, "w:mex:fetch_reachout_timelock")).await;
    until_equal(json!(null), async || restriction(&bench).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_question_that_is_not_answered_leaves_the_other() {
    for fault in [FaultKind::Refuse { code: 500, backoff_s: None }, FaultKind::Silence { apply: false }] {
        let bench = Bench::start().await;
        let (ends, end) = in_an_hour();
        bench.world.limit_new_chats(ALICE, Some(NewChatLimit { total: 50, used: 12, ends }));
        bench.world.add_fault(ALICE, Fault::new(fault).at("fetch_reachout_timelock"));
        bench.link("alice", ALICE).await;
        let chats = json!({ "used": 12, "limit": 50, "resetsAt": end });
        until_equal(chats, async || bench.get(LIMITS).await.body["newChats"].clone()).await;
        assert_eq!(bench.get(LIMITS).await.body["reachoutTimelock"], json!(null));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_chats_and_pauses_are_shown() {
    let bench = Bench::start().await;
    let (ends, end) = in_an_hour();
    bench.world.limit_new_chats(ALICE, Some(NewChatLimit { total: 50, used: 12, ends }));
    let group = bench.group(&[BOB], Addressing::Pn);
    bench.link("alice", ALICE).await;
    let chats = |used: u32| json!({ "used": used, "limit": 50, "resetsAt": end });
    let shown = async || bench.get(LIMITS).await.body["newChats"].clone();
    until_equal(chats(12), shown).await;
    bench.world.limit_new_chats(ALICE, Some(NewChatLimit { total: 50, used: 50, ends }));
    until_equal(chats(50), shown).await;
    bench.world.limit_new_chats(ALICE, None);
    until_equal(json!(null), shown).await;

    bench.world.add_fault(ALICE, Fault::new(FaultKind::Refuse { code: 429, backoff_s: Some(90) }));
    let refused = bench.put(&format!("/sessions/alice/groups/{group}/subject"), json!({ "subject": "Other" })).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    let pauses = bench.get(LIMITS).await.body["pauses"].clone();
    assert_eq!((pauses.as_array().unwrap().len(), &pauses[0]["what"]), (1, &json!("changes")), "{pauses}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_may_not_connect_says_so_until_it_is_started_again() {
    let bench = Bench::start().await;
    bench.link("alice", ALICE).await;
    for (code, words) in [(403, "locked this account"), (406, "banned this account"), (402, "banned this account")] {
        bench.world.add_fault(ALICE, Fault::new(FaultKind::Fail { code }));
        let session = bench.until_status("alice", "action_required").await;
        let expected = json!({ "kind": "tos_block", "code": code.to_string(), "expiresAt": null });
        assert_eq!(session["restriction"], expected, "{session}");
        assert!(session["lastError"].as_str().unwrap().contains(words), "{session}");
        assert_eq!(bench.get(LIMITS).await.body["restriction"], expected);
        bench.world.clear_faults(ALICE);
        until_equal(Some(false), async || bench.get("/sessions/alice").await.body["engineLoaded"].as_bool()).await;
        let started = bench.post("/sessions/alice/start", json!({})).await;
        assert_eq!((started.status, &started.body["restriction"]), (200, &expected), "WhatsApp has not said yet");
        let session = bench.until_status("alice", "ready").await;
        assert_eq!(session["restriction"], json!(null));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_to_be_offline_is_so_after_every_log_in() {
    let mut bench = Bench::start().await;
    bench.start_session("alice").await;
    assert_eq!(bench.put(PRESENCE, json!({ "available": true })).await.failure(), (409, "session_not_connected"));
    let qr = bench.qr("alice").await;
    bench.world.phone(ALICE).scan_qr(&qr).unwrap();
    bench.until_status("alice", "ready").await;
    until_equal(Some(true), async || bench.world.presence(ALICE)).await;
    let set = async |available: bool| {
        let answer = bench.put(PRESENCE, json!({ "available": available })).await;
        assert_eq!((answer.status, &answer.body["success"]), (200, &json!(true)), "{answer:?}");
        until_equal(Some(available), async || bench.world.presence(ALICE)).await;
    };
    set(false).await;
    set(true).await;
    set(false).await;
    let sent = || bench.world.requests(ALICE, "presence:unavailable");
    let before = sent();
    bench.world.add_fault(ALICE, Fault::new(FaultKind::StreamError));
    until_equal(true, async || sent() > before).await;
    until_equal(Some(false), async || bench.world.presence(ALICE)).await;
    bench.until_status("alice", "ready").await;
    bench.restart().await;
    bench.until_status("alice", "ready").await;
    until_equal(Some(false), async || bench.world.presence(ALICE)).await;
    for body in [json!({}), json!({ "available": "perhaps" }), json!({ "available": null })] {
        let refused = bench.put(PRESENCE, body).await;
        assert_eq!(refused.body["message"], json!(["available must be a boolean value"]), "{refused:?}");
    }
}
