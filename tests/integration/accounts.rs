//! A session belongs to the account that linked it first: another account sees nothing of it and leaves nothing in it.

use reqwest::Method;
use rookery_simulator::GroupSpec;
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, CAROL, until, until_equal};

const GROUPS: &str = "/sessions/alice/groups";

/// A session that Alice linked. She has one group, which Bob is in too; Bob has another one.
async fn linked_by_alice() -> (Bench, String, String) {
    let bench = Bench::start().await;
    let shared = bench.world.add_group(GroupSpec { participants: vec![BOB.into()], ..GroupSpec::new("Shared", ALICE) });
    let of_bob = bench.world.add_group(GroupSpec { participants: vec![CAROL.into()], ..GroupSpec::new("Bob's", BOB) });
    bench.link("alice", ALICE).await;
    (bench, shared, of_bob)
}

/// The device is removed at the phone.
async fn unlink(bench: &Bench) {
    bench.world.phone(ALICE).unlink_devices();
    bench.until_status("alice", "action_required").await;
}

async fn start(bench: &Bench, body: Value) {
    let started = bench.post("/sessions/alice/start", body).await;
    assert_eq!(started.status, 200, "{started:?}");
}

async fn scan(bench: &Bench, phone: &str) {
    let qr = bench.qr("alice").await;
    bench.world.phone(phone).scan_qr(&qr).unwrap();
}

async fn audited(bench: &Bench, action: &str) -> usize {
    let records = bench.get(&format!("/audit?action={action}")).await.body;
    records["data"].as_array().unwrap_or_else(|| panic!("{records}")).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_with_another_account_is_unlinked_at_once_and_nothing_of_it_is_read() {
    let (bench, shared, _) = linked_by_alice().await;
    unlink(&bench).await;
    start(&bench, json!({})).await;
    scan(&bench, BOB).await;
    let session = bench.until_status("alice", "action_required").await;
    assert!(session["lastError"].as_str().unwrap().starts_with("linked to another account"), "{session}");
    assert_eq!((&session["phone"], &session["pushName"]), (&json!(null), &json!(null)));
    assert_eq!(session["boundPhone"], ALICE, "whose phone it is for");
    assert_eq!(bench.world.requests(BOB, "w:g2:participating"), 0, "none of Bob's groups were asked for");
    until_equal(0, async || bench.world.live_connections(BOB)).await;
    until_equal(1, async || audited(&bench, "sessions.other_account").await).await;
    // The session is still Alice's.
    start(&bench, json!({})).await;
    scan(&bench, ALICE).await;
    bench.until_status("alice", "ready").await;
    assert_eq!(bench.get(GROUPS).await.ids(), [shared]);
    let freed = bench.post("/sessions/alice/logout", json!({})).await;
    assert_eq!((freed.status, &freed.body["boundPhone"]), (200, &json!(null)), "{freed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_account_links_again_and_keeps_what_is_its_own() {
    let (bench, shared, _) = linked_by_alice().await;
    let tenant = tenant(&bench, &shared).await;
    unlink(&bench).await;
    start(&bench, json!({})).await;
    scan(&bench, ALICE).await;
    bench.until_status("alice", "ready").await;
    assert_eq!(bench.call_with(&tenant, Method::GET, GROUPS, None).await.ids(), [shared]);
}

/// An operator's key for one group of the session.
async fn tenant(bench: &Bench, group: &str) -> String {
    let body = json!({ "name": "tenant", "allowedSessions": ["alice"], "allowedGroups": [group] });
    bench.post("/auth/api-keys", body).await.body["apiKey"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_change_of_accounts_ends_what_belongs_to_the_one_before() {
    let (bench, shared, of_bob) = linked_by_alice().await;
    let tenant_of_alice = tenant(&bench, &shared).await;
    let made = json!({ "name": "Made", "participants": [CAROL] });
    let by_alice = bench.call_once("k", Method::POST, GROUPS, &made).await;
    assert_eq!(by_alice.status, 201, "{by_alice:?}");
    unlink(&bench).await;
    start(&bench, json!({ "allowAccountChange": true })).await;
    scan(&bench, BOB).await;
    assert_eq!(bench.until_status("alice", "ready").await["phone"], BOB);
    let mut expected = [shared.clone(), of_bob];
    expected.sort();
    assert_eq!(bench.get(GROUPS).await.ids(), expected);
    let refused = bench.call_with(&tenant_of_alice, Method::GET, GROUPS, None).await;
    assert_eq!(refused.failure(), (401, "account_changed"), "also the group that both accounts are in");
    let listed = bench.call_with(&tenant_of_alice, Method::GET, "/sessions", None).await;
    assert_eq!(listed.ids(), [""; 0], "Bob's number and name are not for Alice's tenant");
    let by_bob = bench.call_once("k", Method::POST, GROUPS, &made).await;
    assert_eq!((by_bob.status, by_bob.replayed), (201, false), "{by_bob:?}");
    assert_ne!(by_bob.body["id"], by_alice.body["id"]);
    until_equal(1, async || audited(&bench, "sessions.account_changed").await).await;
    // An operator makes a new key for the new account.
    let tenant_of_bob = tenant(&bench, &shared).await;
    assert_eq!(bench.call_with(&tenant_of_bob, Method::GET, GROUPS, None).await.ids(), [shared]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_key_without_limits_may_allow_another_account() {
    let (bench, ..) = linked_by_alice().await;
    let body = json!({ "name": "operator", "allowedSessions": ["alice"] });
    let key = bench.post("/auth/api-keys", body).await.body["apiKey"].as_str().unwrap().to_owned();
    unlink(&bench).await;
    let start = async |body: Value| bench.call_with(&key, Method::POST, "/sessions/alice/start", Some(body)).await;
    assert_eq!(start(json!({ "allowAccountChange": true })).await.failure(), (403, "scoped_key"));
    assert_eq!(start(json!({ "allowAccountChange": "perhaps" })).await.status, 400);
    assert_eq!(start(json!({ "allowAccountChange": false })).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_out_frees_the_session_for_any_account_also_over_a_restart() {
    let (mut bench, ..) = linked_by_alice().await;
    assert_eq!(bench.post("/sessions/alice/logout", json!({})).await.status, 200);
    bench.restart().await;
    start(&bench, json!({})).await;
    scan(&bench, BOB).await;
    assert_eq!(bench.until_status("alice", "ready").await["phone"], BOB);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binding_outlives_a_restart_and_so_does_an_unlinked_device() {
    let (mut bench, ..) = linked_by_alice().await;
    unlink(&bench).await;
    bench.restart().await;
    start(&bench, json!({})).await;
    scan(&bench, BOB).await;
    let error = until("the refusal", async || {
        let session = bench.get("/sessions/alice").await.body;
        Some(session["lastError"].as_str()?.to_owned()).filter(|error| error.starts_with("linked to another account"))
    });
    error.await;
    assert_eq!(bench.world.requests(BOB, "w:g2:participating"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_unlinked_at_the_phone_is_freed_by_a_log_out() {
    let (mut bench, _, of_bob) = linked_by_alice().await;
    unlink(&bench).await;
    let freed = bench.post("/sessions/alice/logout", json!({})).await;
    let shown = (freed.status, &freed.body["status"], &freed.body["boundPhone"], &freed.body["lastError"]);
    assert_eq!(shown, (200, &json!("disconnected"), &json!(null), &json!(null)), "{freed:?}");
    assert_eq!(bench.post("/sessions/alice/logout", json!({})).await.failure(), (400, "session_not_started"));
    bench.restart().await;
    start(&bench, json!({})).await;
    scan(&bench, BOB).await;
    bench.until_status("alice", "ready").await;
    assert!(bench.get(GROUPS).await.ids().contains(&of_bob.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_change_of_accounts_outlives_the_news_that_the_phone_unlinked_the_device() {
    let (bench, _, of_bob) = linked_by_alice().await;
    assert_eq!(bench.post("/sessions/alice/stop", json!({})).await.status, 200);
    bench.world.phone(ALICE).unlink_devices();
    start(&bench, json!({ "allowAccountChange": true })).await;
    bench.until_status("alice", "action_required").await;
    start(&bench, json!({})).await;
    scan(&bench, BOB).await;
    bench.until_status("alice", "ready").await;
    assert!(bench.get(GROUPS).await.ids().contains(&of_bob.as_str()));
}
