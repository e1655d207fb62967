//! `Idempotency-Key` on group writes: carried out once, answered as often as asked, also after a restart.

use reqwest::Method;
use rookery_simulator::{Addressing, Fault, FaultKind};
use serde_json::{Value, json};

use crate::harness::{ALICE, Answer, BOB, Bench, CAROL, until};

const GROUPS: &str = "/sessions/alice/groups";

async fn groups(bench: &Bench) -> usize {
    bench.get(GROUPS).await.body.as_array().map_or(0, Vec::len)
}

fn code(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body["code"].as_str().unwrap_or_default())
}

fn new_group() -> Value {
    json!({ "name": "Once", "participants": [BOB] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_made_once_for_one_key_also_over_a_restart() {
    let mut bench = Bench::start().await;
    bench.link("alice", ALICE).await;
    let first = bench.call_once("k", Method::POST, GROUPS, &new_group()).await;
    assert_eq!((first.status, first.replayed), (201, false), "{first:?}");
    let again = bench.call_once("k", Method::POST, GROUPS, &new_group()).await;
    assert_eq!((again.status, again.replayed, &again.body), (201, true, &first.body));
    bench.restart().await;
    // The answer is known in every state of the session, also while the session connects.
    let again = bench.call_once("k", Method::POST, GROUPS, &new_group()).await;
    assert_eq!((again.status, again.replayed, &again.body), (201, true, &first.body));
    let other = json!({ "name": "Twice", "participants": [BOB] });
    let other = bench.call_once("k", Method::POST, GROUPS, &other).await;
    assert_eq!(code(&other), (422, "idempotency_key_reused"));
    bench.until_status("alice", "ready").await;
    assert_eq!(groups(&bench).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_calls_at_the_same_time_one_is_carried_out_and_the_others_are_told() {
    let bench = Bench::start().await;
    bench.link("alice", ALICE).await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Slow { delay_ms: 500 }).at("create"));
    let (body, other) = (new_group(), json!({ "name": "Other", "participants": [BOB] }));
    let first = bench.call_once("k", Method::POST, GROUPS, &body);
    let others = async {
        until("the group at WhatsApp", async || (bench.world.requests(ALICE, "w:g2:create") > 0).then_some(())).await;
        let same = bench.call_once("k", Method::POST, GROUPS, &body).await;
        (same, bench.call_once("k", Method::POST, GROUPS, &other).await)
    };
    let (first, (same, other)) = tokio::join!(first, others);
    assert_eq!((code(&same), same.retry_after.is_some()), ((409, "idempotency_key_in_use"), true));
    assert_eq!(code(&other), (422, "idempotency_key_reused"));
    assert_eq!((first.status, first.replayed), (201, false));
    assert!(bench.call_once("k", Method::POST, GROUPS, &body).await.replayed);
    assert_eq!(groups(&bench).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_is_kept_and_not_tried_again() {
    let bench = Bench::with(|config| config.whatsapp_timeout_ms = 500).await;
    bench.link("alice", ALICE).await;
    for request in ["create", "participating"] {
        bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: true }).at(request).times(100));
    }
    // The notification about the group would show the outcome.
    bench.world.set_echo(rookery_simulator::Echo::Never);
    let first = bench.call_once("k", Method::POST, GROUPS, &new_group()).await;
    assert_eq!(code(&first), (503, "outcome_unknown"), "{first:?}");
    let again = bench.call_once("k", Method::POST, GROUPS, &new_group()).await;
    assert_eq!((code(&again), again.replayed, again.retry_after), (code(&first), true, first.retry_after));
    assert!(first.retry_after.is_some());
    assert_eq!(bench.world.requests(ALICE, "w:g2:create"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_whatsapp_is_kept_unless_it_is_for_the_moment() {
    let bench = Bench::start().await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    let (path, body) = (format!("{GROUPS}/{group}/subject"), json!({ "subject": "Refused" }));
    // After a 429 the session's changes pause: the key is free, but WhatsApp is not asked.
    let table = [("a", 403, 403, true, 403), ("b", 503, 503, false, 200), ("c", 429, 429, false, 429)];
    for (key, refusal, status, kept, then) in table {
        bench.world.add_fault(ALICE, Fault::new(FaultKind::Refuse { code: refusal, backoff_s: None }));
        assert_eq!(bench.call_once(key, Method::PUT, &path, &body).await.status, status);
        let again = bench.call_once(key, Method::PUT, &path, &body).await;
        assert_eq!((again.replayed, again.status), (kept, then), "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_before_whatsapp_was_asked_leaves_the_key_free() {
    let bench = Bench::start().await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.start_session("alice").await;
    let path = format!("{GROUPS}/{group}/participants");
    let (broken, body) = (json!({ "participants": "nobody" }), json!({ "participants": [CAROL] }));
    let refused = bench.call_once("k", Method::POST, &path, &broken).await;
    assert_eq!(code(&refused), (400, "validation_failed"));
    let refused = bench.call_once("k", Method::POST, &path, &body).await;
    assert_eq!(code(&refused), (409, "session_not_connected"));
    let qr = bench.qr("alice").await;
    bench.world.phone(ALICE).scan_qr(&qr).unwrap();
    bench.until_status("alice", "ready").await;
    let added = bench.call_once("k", Method::POST, &path, &body).await;
    assert_eq!((added.status, added.codes(), added.replayed), (200, vec!["added"], false));
    // Without the key WhatsApp would be asked again, and say that Carol is a member already.
    assert_eq!(bench.call_once("k", Method::POST, &path, &body).await.codes(), ["added"]);
    assert_eq!(bench.post(&path, body).await.codes(), ["already_member"]);
}
