//! Numbers that WhatsApp knows under another spelling, and numbers without an account: both are looked up before they are used.

use reqwest::Method;
use rookery::config::Config;
use rookery_actors::RateLimit;
use rookery_simulator::{AccountSpec, Addressing, Fault, FaultKind, ParticipantChange};
use serde_json::{Value, json};
use std::time::Duration;

use crate::harness::{ALICE, Answer, BOB, Bench, CAROL, until_equal, world_members};

/// As people write a number, and as WhatsApp knows its account: of Mexico, Brazil and Argentina, each in both directions.
const PAIRS: [(&str, &str); 6] = [
    ("525550100077", "5215550100077"),
    ("5215550100078", "525550100078"),
    ("5584999990001", "558499990001"),
    ("558499990002", "5584999990002"),
    ("541155501234", "5491155501234"),
    ("5491155501235", "541155501235"),
];
const NOBODY: &str = "15550100099";

/// Alice with a group of hers, and an account for each of the pairs. `is_told`: WhatsApp finds the accounts under both
/// spellings by itself.
async fn ready(is_told: bool) -> (Bench, String, String) {
    let bench = Bench::start().await;
    for (written, known) in PAIRS {
        let spellings = if is_told { vec![written.to_owned()] } else { Vec::new() };
        bench.world.add_account(AccountSpec { spellings, ..AccountSpec::new(known) });
    }
    let group = bench.group(&[BOB], Addressing::Pn);
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}/participants");
    (bench, group, path)
}

fn lookups(bench: &Bench) -> u64 {
    bench.world.requests(ALICE, "usync:contact")
}

fn results(answer: &Answer) -> Vec<(String, String, Value)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let results = answer.body["results"].as_array().cloned().unwrap_or_default();
    results.iter().map(|one| (text(&one["id"]), text(&one["code"]), one["requested"].clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_spelling_is_the_same_person_in_every_request() {
    for is_told in [true, false] {
        let (bench, group, path) = ready(is_told).await;
        let before = lookups(&bench);
        let written: Vec<String> =
            PAIRS.iter().map(|(written, _)| format!("+{} {}", &written[..2], &written[2..])).collect();
        let body = json!({ "participants": written });
        for (method, route, code) in [
            (Method::POST, "", "added"),
            (Method::POST, "/promote", "promoted"),
            (Method::POST, "/demote", "demoted"),
            (Method::DELETE, "", "removed"),
        ] {
            let answer = bench.call(method, &format!("{path}{route}"), Some(body.clone())).await;
            let expected: Vec<_> = PAIRS
                .iter()
                .zip(&written)
                .map(|((_, known), text)| (format!("{known}@c.us"), code.to_owned(), json!(text)))
                .collect();
            assert_eq!(results(&answer), expected, "{answer:?}");
        }
        assert!(!world_members(&bench.world, &group).iter().any(|member| member.starts_with("52")));
        // One question where WhatsApp finds both spellings, and a second one for the other spellings.
        assert_eq!(lookups(&bench) - before, if is_told { 1 } else { 2 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_spellings_of_one_person_are_one_result() {
    let (bench, _, path) = ready(true).await;
    let (written, known) = PAIRS[0];
    let answer =
        bench.post(&path, json!({ "participants": [written, known, format!("{known}:7@s.whatsapp.net")] })).await;
    assert_eq!(results(&answer), [(format!("{known}@c.us"), "added".to_owned(), json!(written))], "{answer:?}");
    // As WhatsApp knows it: nothing to repeat.
    let again = bench.post(&path, json!({ "participants": [known, CAROL] })).await;
    assert_eq!(again.codes(), ["already_member", "added"], "{again:?}");
    assert!(results(&again).iter().all(|(_, _, requested)| requested.is_null()), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsapp_is_not_asked_to_add_a_number_without_an_account() {
    let (bench, group, path) = ready(false).await;
    let adds = || bench.world.requests(ALICE, "w:g2:add");
    let before = adds();
    for _ in 0..2 {
        let nobody = bench.post(&path, json!({ "participants": [NOBODY, "525550100999"] })).await;
        assert_eq!(nobody.failure(), (403, "not_on_whatsapp"), "{nobody:?}");
        assert_eq!(nobody.codes(), ["not_on_whatsapp"; 2]);
        assert_eq!(nobody.body["results"][0].get("status"), None, "WhatsApp gave none: {nobody:?}");
    }
    assert_eq!(adds(), before);
    let some = bench.post(&path, json!({ "participants": [NOBODY, CAROL] })).await;
    assert_eq!((some.status, some.codes()), (200, vec!["not_on_whatsapp", "added"]), "{some:?}");
    assert_eq!(world_members(&bench.world, &group).len(), 3);

    let groups = bench.world.groups().len();
    let made = bench.post("/sessions/alice/groups", json!({ "name": "New", "participants": [NOBODY] })).await;
    assert_eq!((made.failure(), made.codes()), ((403, "not_on_whatsapp"), vec!["not_on_whatsapp"]), "{made:?}");
    assert_eq!(bench.world.groups().len(), groups, "no group with nobody in it");
    let body = json!({ "name": "New", "participants": [NOBODY, PAIRS[0].0] });
    let made = bench.post("/sessions/alice/groups", body).await;
    assert_eq!((made.status, made.codes()), (201, vec!["not_on_whatsapp", "added"]), "{made:?}");
    // Whoever is in the group, or asked to be let in, has an account: WhatsApp decides.
    for decision in ["approve", "reject"] {
        let path = format!("/sessions/alice/groups/{group}/membership-requests/{decision}");
        let answer = bench.post(&path, json!({ "participants": [NOBODY] })).await;
        assert_eq!((answer.failure(), answer.codes()), ((403, "whatsapp_refused"), vec!["no_request"]), "{answer:?}");
    }
    let removed = bench.delete(&path, json!({ "participants": [NOBODY] })).await;
    assert_eq!((removed.failure(), removed.codes()), ((403, "whatsapp_refused"), vec!["not_member"]), "{removed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_be_let_in_is_decided_under_any_spelling() {
    let (bench, group, _) = ready(true).await;
    let (written, known) = PAIRS[2];
    let settings = format!("/sessions/alice/groups/{group}/settings");
    assert_eq!(bench.put(&settings, json!({ "membershipApproval": true })).await.status, 200);
    for (decision, code) in [("reject", "rejected"), ("approve", "approved")] {
        bench.world.request_to_join(&group, known).unwrap();
        let path = format!("/sessions/alice/groups/{group}/membership-requests/{decision}");
        let answer = bench.post(&path, json!({ "participants": [written] })).await;
        assert_eq!(results(&answer), [(format!("{known}@c.us"), code.to_owned(), json!(written))], "{answer:?}");
    }
    assert!(world_members(&bench.world, &group).contains(&known.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_checked_one_by_one_and_many_at_once() {
    let (bench, _, _) = ready(true).await;
    let (written, known) = PAIRS[4];
    let path = "/sessions/alice/contacts/check";
    let answer = bench.get(&format!("{path}/%2B{}%20{}", &written[..2], &written[2..])).await;
    let expected = json!({ "number": written, "exists": true, "whatsappId": format!("{known}@c.us") });
    assert_eq!((answer.status, &answer.body), (200, &expected), "{answer:?}");
    let nobody = bench.get(&format!("{path}/{NOBODY}")).await;
    assert_eq!(nobody.body, json!({ "number": NOBODY, "exists": false }), "{nobody:?}");
    let before = lookups(&bench);
    let many = bench.post(path, json!({ "numbers": [written, NOBODY, CAROL, format!("+{CAROL}"), ALICE] })).await;
    let carol = json!({ "number": CAROL, "exists": true, "whatsappId": format!("{CAROL}@c.us") });
    let alice = json!({ "number": ALICE, "exists": true, "whatsappId": format!("{ALICE}@c.us") });
    assert_eq!(many.body, json!([expected, { "number": NOBODY, "exists": false }, carol, alice]), "{many:?}");
    assert_eq!(lookups(&bench) - before, 1, "only one was not known");
    for number in ["alice", "0555", "7000000000001@lid"] {
        assert_eq!(bench.get(&format!("{path}/{number}")).await.failure(), (400, "invalid_number"), "{number}");
    }
    assert_eq!(bench.post(path, json!({ "numbers": [] })).await.failure(), (400, "validation_failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_remembered_over_a_restart_and_forgotten_with_the_account() {
    let (mut bench, _, path) = ready(true).await;
    let (written, known) = PAIRS[0];
    let check = format!("/sessions/alice/contacts/check/{written}");
    assert_eq!(bench.get(&check).await.body["exists"], true);
    bench.restart().await;
    bench.until_status("alice", "ready").await;
    let before = lookups(&bench);
    let answer = bench.post(&path, json!({ "participants": [written] })).await;
    assert_eq!(results(&answer), [(format!("{known}@c.us"), "added".to_owned(), json!(written))], "{answer:?}");
    assert_eq!(lookups(&bench), before);

    assert_eq!(bench.post("/sessions/alice/logout", json!({})).await.status, 200);
    assert_eq!(bench.post("/sessions/alice/start", json!({})).await.status, 200);
    let qr = bench.qr("alice").await;
    bench.world.phone(BOB).scan_qr(&qr).unwrap();
    bench.until_status("alice", "ready").await;
    let before = bench.world.requests(BOB, "usync:contact");
    assert_eq!(bench.get(&check).await.body["exists"], true);
    assert_eq!(bench.world.requests(BOB, "usync:contact"), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_go_as_given_where_whatsapp_does_not_say() {
    let (mut bench, _, path) = ready(true).await;
    let (written, known) = PAIRS[0];
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Refuse { code: 500, backoff_s: None }).at("usync"));
    let answer = bench.post(&path, json!({ "participants": [written, CAROL] })).await;
    assert_eq!(answer.codes(), ["not_on_whatsapp", "added"], "WhatsApp refused the number as it was given: {answer:?}");

    let half_known = "has no WhatsApp account under this spelling, and the other spelling";
    assert!(answer.body["results"][0]["message"].as_str().unwrap().starts_with(half_known), "{answer:?}");

    // Checks use up the limit of lookups; commands may use that of queries.
    let once_a_day = RateLimit::new(1, Duration::from_secs(86_400), 1);
    let limits = |config: &mut Config| {
        (config.rate_limits.limit_lookup, config.rate_limits.limit_query) = (Some(once_a_day), Some(once_a_day));
    };
    bench.restart_with(limits).await;
    bench.until_status("alice", "ready").await;
    assert_eq!(bench.get(&format!("/sessions/alice/contacts/check/{NOBODY}")).await.status, 200);
    let limited = bench.get(&format!("/sessions/alice/contacts/check/{}", PAIRS[2].0)).await;
    assert_eq!(limited.failure(), (429, "pacing_limited"), "{limited:?}");
    assert!(limited.retry_after.is_some());
    let answer = bench.post(&path, json!({ "participants": [PAIRS[2].0] })).await;
    assert_eq!(answer.codes(), ["added"], "{answer:?}");
    let answer = bench.post(&path, json!({ "participants": [written, known] })).await;
    assert_eq!(answer.codes(), ["not_on_whatsapp", "added"], "both limits are reached: {answer:?}");

    bench.restart_with(|config| config.number_lookup = false).await;
    bench.until_status("alice", "ready").await;
    let before = lookups(&bench);
    let answer = bench.delete(&path, json!({ "participants": [PAIRS[4].0, known] })).await;
    assert_eq!(answer.codes(), ["not_member", "removed"], "{answer:?}");
    assert_eq!(lookups(&bench), before, "no lookup but what the answers need");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsapps_limit_of_lookups_pauses_lookups_and_nothing_else() {
    let (bench, _, path) = ready(true).await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Refuse { code: 429, backoff_s: Some(3_600) }).at("usync"));
    let check = format!("/sessions/alice/contacts/check/{}", PAIRS[0].0);
    for _ in 0..2 {
        let refused = bench.get(&check).await;
        assert_eq!((refused.failure(), refused.retry_after.is_some()), ((429, "rate_limited_by_whatsapp"), true));
        assert!(refused.body["message"].as_str().unwrap().contains("lookups of numbers pause"), "{refused:?}");
    }
    let answer = bench.post(&path, json!({ "participants": [CAROL] })).await;
    assert_eq!(answer.codes(), ["added"], "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_whatsapp_does_not_know_any_more_is_looked_up_again() {
    let (bench, _, path) = ready(true).await;
    let (written, known) = PAIRS[0];
    let check = format!("/sessions/alice/contacts/check/{written}");
    assert_eq!(bench.get(&check).await.body["whatsappId"], format!("{known}@c.us"));
    bench.world.change_number(known, written).unwrap();
    // The account is remembered under its number of before. WhatsApp's refusal ends that.
    let first = bench.post(&path, json!({ "participants": [written] })).await;
    assert_eq!(first.codes(), ["not_on_whatsapp"], "{first:?}");
    let second = bench.post(&path, json!({ "participants": [written] })).await;
    assert_eq!(results(&second), [(format!("{written}@c.us"), "added".to_owned(), Value::Null)], "{second:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_many_ask_about_at_once_are_asked_once() {
    let (bench, _, path) = ready(true).await;
    let (written, known) = PAIRS[2];
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Slow { delay_ms: 300 }).at("usync"));
    let before = lookups(&bench);
    let add = || bench.post(&path, json!({ "participants": [written] }));
    let check = || bench.get("/sessions/alice/contacts/check/5584999990001");
    let (one, two, three, four) = tokio::join!(add(), add(), check(), check());
    for answer in [&three, &four] {
        assert_eq!(answer.body["whatsappId"], format!("{known}@c.us"), "{answer:?}");
    }
    let mut codes = [one, two].map(|answer| results(&answer).remove(0)).map(|(id, code, _)| (id, code));
    codes.sort();
    assert_eq!(codes, ["added", "already_member"].map(|code| (format!("{known}@c.us"), code.to_owned())));
    assert_eq!(lookups(&bench) - before, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_without_asking_whatsapp_leaves_the_idempotency_key_free() {
    let (bench, _, _) = ready(true).await;
    let body = json!({ "name": "New", "participants": [NOBODY] });
    for _ in 0..2 {
        let made = bench.call_once("k", Method::POST, "/sessions/alice/groups", &body).await;
        assert_eq!((made.failure(), made.replayed), ((403, "not_on_whatsapp"), false), "{made:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_joins_a_group_ends_what_was_known_of_their_number() {
    let bench = Bench::start().await;
    let (group, other) = (bench.group(&[BOB], Addressing::Pn), bench.group(&[BOB], Addressing::Pn));
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}/participants");
    let (written, known) = PAIRS[2];
    let add = async || bench.post(&path, json!({ "participants": [written] })).await;
    assert_eq!(add().await.failure(), (403, "not_on_whatsapp"));
    bench.world.add_account(AccountSpec::new(known));
    assert_eq!(add().await.failure(), (403, "not_on_whatsapp"), "for ten minutes");
    bench.world.change_participants(&other, ParticipantChange::Add, ALICE, &[known]).unwrap();
    let joined = format!("/sessions/alice/groups/{other}");
    until_equal(3, async || bench.get(&joined).await.body["participants"].as_array().map_or(0, Vec::len)).await;
    let added = add().await;
    assert_eq!((added.status, added.codes()), (200, vec!["added"]), "{added:?}");
}
