//! Webhooks against a receiver that fails, stalls and goes away: everything arrives, in order, with the same ids.

mod tls;

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Method;
use rookery_simulator::{Addressing, ParticipantChange};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::harness::{ALICE, BOB, Bench, CAROL, DAVE, until};
use crate::receiver::{Arrived, BROKEN, GONE, OK, Reaction, Receiver};

const HOOKS: &str = "/sessions/alice/webhooks";
const SECRET: &str = "a-secret-of-sixteen-or-more";

/// A session that is ready with one group in which Bob is an admin, and a receiver that webhooks may go to.
async fn ready() -> (Bench, Receiver, String) {
    ready_with(|_| {}).await
}

async fn ready_with(adjust: impl FnOnce(&mut rookery::config::Config)) -> (Bench, Receiver, String) {
    let receiver = Receiver::start().await;
    let bench = Bench::with(|config| {
        config.fetch_allow = format!("127.0.0.1:{}", receiver.port).parse().unwrap();
        adjust(config);
    })
    .await;
    let group = bench.group(&[BOB, CAROL], Addressing::Lid);
    bench.world.change_participants(&group, ParticipantChange::Promote, ALICE, &[BOB]).unwrap();
    bench.link("alice", ALICE).await;
    (bench, receiver, group)
}

async fn hook(bench: &Bench, path: &str, body: Value) -> String {
    let made = bench.post(path, body).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.body["id"].as_str().unwrap().to_owned()
}

/// Bob changes Dave's membership this often: as many events.
fn churn(bench: &Bench, group: &str, times: usize) {
    for time in 0..times {
        let change = if time % 2 == 0 { ParticipantChange::Add } else { ParticipantChange::Remove };
        bench.world.change_participants(group, change, BOB, &[DAVE]).unwrap();
    }
}

/// Waits until this many deliveries arrived.
async fn arrived(receiver: &Receiver, count: usize) -> Vec<Arrived> {
    until("deliveries", async || Some(receiver.arrived()).filter(|arrived| arrived.len() >= count)).await
}

async fn shown(bench: &Bench, id: &str) -> Value {
    let answer = bench.get(&format!("{HOOKS}/{id}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

async fn until_shown(bench: &Bench, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until("the webhook", async || Some(shown(bench, id).await).filter(&wanted)).await
}

fn sequences(arrived: &[Arrived]) -> Vec<u64> {
    arrived.iter().map(Arrived::sequence).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_arrives_signed_and_in_order() {
    let (bench, receiver, group) = ready().await;
    let made = bench
        .post(
            HOOKS,
            json!({
                "url": receiver.url("/hook?token=1"), "events": ["group.join", "group.leave"], "secret": SECRET,
                "headers": { "Authorization": "Bearer 7", "Content-Type": "text/plain", "X-OpenWA-Event": "x" },
            }),
        )
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    for hidden in ["secret", "headers"] {
        assert_eq!(made.body.get(hidden), None, "{made:?}");
    }
    assert_eq!((&made.body["active"], &made.body["retryCount"]), (&json!(true), &json!(3)));
    churn(&bench, &group, 4);
    let arrived = arrived(&receiver, 4).await;
    let kinds: Vec<&str> = arrived.iter().map(Arrived::event).collect();
    assert_eq!(kinds, ["group.join", "group.leave", "group.join", "group.leave"]);
    assert!(arrived.windows(2).all(|two| two[0].sequence() < two[1].sequence()));
    assert_eq!(receiver.connections(), 1, "the connection is kept");
    let first = &arrived[0];
    let alice = bench.get("/sessions/alice").await.body;
    let keys: Vec<&String> = first.body.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["event", "timestamp", "sessionId", "idempotencyKey", "deliveryId", "data"]);
    assert_eq!((&first.body["sessionId"], first.path.as_str()), (&alice["id"], "/hook?token=1"));
    assert_eq!(first.body["data"]["participantIds"], json!([format!("{DAVE}@c.us")]));
    assert_eq!((first.header("content-type"), first.header("authorization")), ("application/json", "Bearer 7"));
    assert_eq!((first.header("x-openwa-event"), first.header("x-openwa-retry-count")), ("group.join", "0"));
    assert_eq!(first.header("x-openwa-delivery-id"), first.body["deliveryId"]);
    assert_eq!(first.header("webhook-id"), first.body["idempotencyKey"]);
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(first.raw.as_bytes());
    let expected = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    assert_eq!(first.header("x-openwa-signature"), expected);
    assert!(first.header("webhook-signature").starts_with("v1,"));

    let id = made.body["id"].as_str().unwrap();
    let deliveries = bench.get(&format!("{HOOKS}/{id}/deliveries?status=delivered&limit=2")).await.body;
    assert_eq!(deliveries.as_array().unwrap().len(), 2, "{deliveries}");
    assert_eq!((&deliveries[0]["statusCode"], &deliveries[0]["response"]), (&json!(200), &json!("ok")));
    let shown = until_shown(&bench, id, |hook| hook["lag"] == 0).await;
    assert!(shown["lastTriggeredAt"].is_string(), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_gets_everything_in_order_with_the_same_ids() {
    let (bench, receiver, group) = ready().await;
    let silence = Reaction::Silence(Duration::from_millis(300));
    receiver.next([BROKEN, Reaction::Cut, OK, BROKEN, silence]);
    let body = json!({ "url": receiver.url("/"), "events": ["group.join", "group.leave"], "retryCount": 5 });
    hook(&bench, HOOKS, body).await;
    churn(&bench, &group, 6);
    let arrived = arrived(&receiver, 9).await;
    let mut distinct = sequences(&arrived);
    distinct.dedup();
    assert_eq!(distinct.len(), 6, "{:?}", sequences(&arrived));
    assert!(distinct.is_sorted());
    let first: Vec<&Arrived> = arrived.iter().take(3).collect();
    assert!(first.iter().all(|one| one.raw == first[0].raw), "every attempt is the same delivery");
    let attempts: Vec<&str> = first.iter().map(|one| one.header("x-openwa-retry-count")).collect();
    assert_eq!(attempts, ["0", "1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_pauses_the_webhook_until_it_is_resumed() {
    let (bench, receiver, group) = ready().await;
    receiver.always(GONE);
    let id = hook(&bench, HOOKS, json!({ "url": receiver.url("/"), "events": ["group.join", "group.leave"] })).await;
    churn(&bench, &group, 3);
    let paused = until_shown(&bench, &id, |hook| hook["pausedReason"] == "receiver_gone").await;
    assert!(paused["pausedMessage"].as_str().unwrap().contains("410"), "{paused}");
    assert_eq!(receiver.arrived().len(), 1);
    let audit = bench.get("/audit?action=webhooks.paused").await.body;
    assert_eq!(audit["data"][0]["targetId"], json!(id), "{audit}");
    let failures = bench.get("/webhooks/delivery-failures").await.body;
    assert_eq!((&failures[0]["webhookId"], &failures[0]["lastStatusCode"]), (&json!(id), &json!(410)), "{failures}");

    receiver.always(OK);
    let resumed = bench.post(&format!("{HOOKS}/{id}/resume"), json!({})).await;
    assert_eq!((resumed.status, &resumed.body["pausedReason"]), (200, &Value::Null), "{resumed:?}");
    let arrived = arrived(&receiver, 4).await;
    assert_eq!(sequences(&arrived)[0], sequences(&arrived)[1]);
    assert!(sequences(&arrived).is_sorted());
    until_shown(&bench, &id, |hook| hook["lag"] == 0).await;
    assert_eq!(bench.get("/webhooks/delivery-failures").await.body, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_while_the_receiver_was_away_arrives_after_a_restart() {
    let (mut bench, receiver, group) = ready().await;
    receiver.always(BROKEN);
    let body = json!({ "url": receiver.url("/"), "events": ["group.join", "group.leave"], "retryCount": 1 });
    let id = hook(&bench, HOOKS, body).await;
    churn(&bench, &group, 5);
    arrived(&receiver, 1).await;
    until_shown(&bench, &id, |hook| hook["nextAttemptAt"].is_string() && hook["signed"] == false).await;
    until("a failure", async || {
        let failures = bench.get("/webhooks/delivery-failures?sessionId=alice").await.body;
        (failures[0]["attempts"] == 1 && failures[0]["lastStatusCode"] == 500).then_some(())
    })
    .await;
    bench.restart().await;
    bench.until_status("alice", "ready").await;
    // The failure was kept, so that the time for repeating it goes on.
    assert_eq!(bench.get("/webhooks/delivery-failures").await.body[0]["webhookId"], json!(id));
    receiver.always(OK);
    let before = receiver.arrived().len();
    assert_eq!(bench.post(&format!("{HOOKS}/{id}/resume"), json!({})).await.status, 200);
    let all = arrived(&receiver, before + 5).await;
    assert!(sequences(&all).is_sorted(), "{:?}", sequences(&all));
    let mut distinct = sequences(&all);
    distinct.dedup();
    assert_eq!(distinct.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_the_receiver_asked_for_goes_on_after_a_restart() {
    let (mut bench, receiver, group) = ready().await;
    receiver
        .always(Reaction::Answer("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n"));
    let id = hook(&bench, HOOKS, json!({ "url": receiver.url("/"), "events": ["group.join"] })).await;
    churn(&bench, &group, 1);
    let waits = |hook: &Value| hook["nextAttemptAt"].is_string();
    let first = until_shown(&bench, &id, waits).await["nextAttemptAt"].clone();
    bench.restart().await;
    let second = until_shown(&bench, &id, waits).await["nextAttemptAt"].clone();
    assert_eq!((first, receiver.arrived().len()), (second, 1));
    receiver.always(OK);
    assert_eq!(bench.post(&format!("{HOOKS}/{id}/resume"), json!({})).await.status, 200);
    arrived(&receiver, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_receiver_delays_nobody_else() {
    let (bench, receiver, group) = ready().await;
    let dead = Receiver::start().await;
    let body = |url: &str| json!({ "url": url, "events": ["group.join", "group.leave"] });
    // Its port is not allowed: each attempt fails.
    assert_eq!(bench.post(HOOKS, body(&dead.url("/"))).await.failure(), (400, "destination_not_allowed"));
    receiver.next([Reaction::Silence(Duration::from_secs(60))]);
    hook(&bench, HOOKS, body(&receiver.url("/dead"))).await;
    churn(&bench, &group, 2);
    arrived(&receiver, 1).await;
    hook(&bench, HOOKS, body(&receiver.url("/alive"))).await;
    churn(&bench, &group, 20);
    let all = until("deliveries", async || {
        let alive: Vec<_> = receiver.arrived().into_iter().filter(|one| one.path == "/alive").collect();
        (alive.len() >= 20).then_some(alive)
    })
    .await;
    assert!(sequences(&all).windows(2).all(|two| two[0] + 1 == two[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_delivered_again_from_a_number_or_a_time() {
    let (bench, receiver, group) = ready().await;
    let id = hook(&bench, HOOKS, json!({ "url": receiver.url("/"), "events": ["group.join", "group.leave"] })).await;
    churn(&bench, &group, 4);
    let first = arrived(&receiver, 4).await;
    let replay = format!("{HOOKS}/{id}/replay");
    let from = first[2].sequence();
    assert_eq!(bench.post(&replay, json!({ "from": from })).await.status, 200);
    let again = arrived(&receiver, 6).await;
    assert_eq!(sequences(&again[4..]), sequences(&first[2..]));
    assert_eq!(again[4].raw, first[2].raw, "the same delivery with the same ids");
    assert_eq!(bench.post(&replay, json!({ "from": "2020-01-01T00:00:00Z" })).await.status, 200);
    let all = arrived(&receiver, 10).await;
    assert_eq!(sequences(&all[6..]), sequences(&first));
    for (from, expected) in [
        (json!(0), (400, "validation_failed")),
        (json!("yesterday"), (400, "validation_failed")),
        (json!(9_999), (400, "invalid_parameter")),
        (json!("2999-01-01T00:00:00Z"), (400, "invalid_parameter")),
        (Value::Null, (400, "validation_failed")),
    ] {
        let refused = bench.post(&replay, json!({ "from": from })).await;
        assert_eq!(refused.failure(), expected, "{from}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_delivery_is_tried_again_alone() {
    let (bench, receiver, group) = ready().await;
    receiver.always(BROKEN);
    let body = json!({ "url": receiver.url("/"), "events": ["group.join", "group.leave"], "retryCount": 1 });
    hook(&bench, HOOKS, body).await;
    churn(&bench, &group, 2);
    let failure = until("a failure", async || {
        Some(bench.get("/webhooks/delivery-failures").await.body[0].clone()).filter(|failure| failure.is_object())
    })
    .await;
    let redrive = "/webhooks/delivery-failures/redrive";
    let still = bench.post(redrive, json!({ "ids": [failure["id"]] })).await;
    assert_eq!((&still.body["failed"], &still.body["remaining"]), (&json!(1), &json!(1)), "{still:?}");
    receiver.always(OK);
    let done = bench.post(redrive, json!({})).await;
    assert_eq!((&done.body["delivered"], &done.body["remaining"]), (&json!(1), &json!(0)), "{done:?}");
    // What waited behind it goes on.
    until("both", async || {
        let mut taken = sequences(&receiver.arrived());
        taken.dedup();
        (taken.len() == 2).then_some(())
    })
    .await;
    assert_eq!(bench.get("/webhooks/delivery-failures").await.body, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_out_of_turn_skips_nothing_of_a_replay() {
    let (bench, receiver, group) = ready().await;
    let id = hook(&bench, HOOKS, json!({ "url": receiver.url("/"), "events": ["group.join", "group.leave"] })).await;
    churn(&bench, &group, 4);
    let first = arrived(&receiver, 4).await;
    receiver.always(GONE);
    churn(&bench, &group, 1);
    until_shown(&bench, &id, |hook| hook["pausedReason"] == "receiver_gone").await;
    receiver.always(OK);
    let replay = json!({ "from": first[1].sequence() });
    assert_eq!(bench.post(&format!("{HOOKS}/{id}/replay"), replay).await.status, 200);
    let redriven = bench.post("/webhooks/delivery-failures/redrive", json!({})).await.body;
    assert_eq!(redriven["delivered"], 1, "{redriven}");
    assert_eq!(bench.post(&format!("{HOOKS}/{id}/resume"), json!({})).await.status, 200);
    let all = arrived(&receiver, 10).await;
    assert_eq!(sequences(&all[6..9]), sequences(&first[1..]), "the replay is whole");
    assert_eq!((all[9].sequence(), all.len()), (all[4].sequence(), 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_subscriptions_and_switches_decide_what_arrives() {
    let (bench, receiver, group) = ready().await;
    let other = bench.group(&[BOB, CAROL], Addressing::Lid);
    bench.world.change_participants(&other, ParticipantChange::Promote, ALICE, &[BOB]).unwrap();
    let filters = json!({ "conditions": [{ "field": "groupId", "operator": "is", "value": other }] });
    let all = hook(&bench, HOOKS, json!({ "url": receiver.url("/all"), "events": ["*"], "filters": filters })).await;
    let silent = hook(&bench, HOOKS, json!({ "url": receiver.url("/none") })).await;
    churn(&bench, &group, 2);
    churn(&bench, &other, 2);
    let of = |path: &str, kind: &str| {
        let of_path = receiver.arrived().into_iter().filter(|one| one.path == path && one.event() == kind);
        of_path.map(|one| one.body["data"]["groupId"].clone()).collect::<Vec<_>>()
    };
    until("the other group's events", async || (of("/all", "group.leave").len() == 1).then_some(())).await;
    assert!(of("/all", "group.join").iter().all(|group| *group == json!(other)));
    until_shown(&bench, &silent, |hook| hook["lag"] == 0).await;
    assert!(receiver.arrived().iter().all(|one| one.path == "/all"), "messages are subscribed to by default");

    let hook = format!("{HOOKS}/{all}");
    let off = bench.put(&hook, json!({ "active": false, "filters": null })).await;
    assert_eq!((off.status, &off.body["active"], &off.body["filters"]), (200, &json!(false), &Value::Null));
    let before = receiver.arrived().len();
    churn(&bench, &group, 2);
    until_shown(&bench, &all, |hook| hook["lag"].as_u64() >= Some(2)).await;
    assert_eq!(receiver.arrived().len(), before);
    assert_eq!(bench.put(&hook, json!({ "active": true })).await.status, 200);
    arrived(&receiver, before + 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_is_one_delivery_now() {
    let (bench, receiver, _) = ready().await;
    let id = hook(&bench, HOOKS, json!({ "url": receiver.url("/"), "active": false })).await;
    let test = format!("{HOOKS}/{id}/test");
    let tried = bench.post(&test, json!({})).await;
    assert_eq!(tried.body, json!({ "success": true, "statusCode": 200 }));
    assert_eq!(receiver.arrived()[0].event(), "test");
    receiver.always(BROKEN);
    let failed = bench.post(&test, json!({})).await.body;
    assert_eq!((&failed["success"], &failed["statusCode"]), (&json!(false), &json!(500)), "{failed}");
    receiver.always(Reaction::Answer("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"));
    let redirected = bench.post(&test, json!({})).await.body;
    assert!(redirected["error"].as_str().unwrap().contains("redirects are not followed"), "{redirected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_webhook_gets_the_events_of_all_sessions() {
    let (bench, receiver, group) = ready().await;
    let wide = "/webhooks";
    let body = json!({ "sessionIds": "*", "url": receiver.url("/"), "events": ["group.join", "session.status"] });
    let made = bench.post(wide, body).await;
    assert_eq!((made.status, &made.body["sessionIds"]), (201, &json!("*")), "{made:?}");
    let id = made.body["id"].as_str().unwrap();
    bench.link("bob", BOB).await;
    bench.world.change_participants(&group, ParticipantChange::Add, BOB, &[DAVE]).unwrap();
    let alice = bench.get("/sessions/alice").await.body["id"].clone();
    let bob = bench.get("/sessions/bob").await.body["id"].clone();
    until("events of both", async || {
        let arrived = receiver.arrived();
        let has = |id: &Value, kind| arrived.iter().any(|one| one.body["sessionId"] == *id && one.event() == kind);
        (has(&alice, "group.join") && has(&bob, "group.join") && has(&bob, "session.status")).then_some(())
    })
    .await;
    assert_eq!(bench.get(&format!("{HOOKS}/{id}")).await.status, 404, "it is no session's own");
    let all = bench.get(wide).await.body;
    assert_eq!(all.as_array().unwrap().len(), 1);
    let replayed = bench.post(&format!("{wide}/{id}/replay"), json!({ "from": 1 })).await;
    assert_eq!(replayed.failure(), (400, "validation_failed"), "{replayed:?}");
    let replayed = bench.post(&format!("{wide}/{id}/replay"), json!({ "sessionId": "bob", "from": 1 })).await;
    assert_eq!(replayed.status, 200, "{replayed:?}");
    assert_eq!(bench.delete(&format!("{wide}/{id}"), json!({})).await.status, 204);
    assert_eq!(bench.get(&format!("{wide}/{id}")).await.failure(), (404, "webhook_not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_key_delivers_what_it_may_see_and_ends_its_webhooks() {
    let (bench, receiver, group) = ready().await;
    let other = bench.group(&[BOB, CAROL], Addressing::Lid);
    bench.world.change_participants(&other, ParticipantChange::Promote, ALICE, &[BOB]).unwrap();
    let terms = json!({ "name": "tenant", "allowedSessions": ["alice"], "allowedGroups": [other] });
    let key = bench.post("/auth/api-keys", terms).await.body;
    let (secret, key_id) = (key["apiKey"].as_str().unwrap(), key["id"].as_str().unwrap());
    let own = json!({ "url": receiver.url("/own"), "events": ["*"] });
    let made = bench.call_with(secret, Method::POST, HOOKS, Some(own)).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.body["id"].as_str().unwrap().to_owned();
    let wide = hook(&bench, HOOKS, json!({ "url": receiver.url("/wide"), "events": ["group.join"] })).await;
    // What others made delivers more than the key may see: it may not be turned to another receiver.
    let turned = json!({ "url": receiver.url("/own") });
    let taken = bench.call_with(secret, Method::PUT, &format!("{HOOKS}/{wide}"), Some(turned)).await;
    assert_eq!(taken.failure(), (404, "webhook_not_found"));
    let listed = bench.call_with(secret, Method::GET, "/webhooks", None).await.body;
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    for both in [&group, &other] {
        churn(&bench, both, 1);
    }
    let joins = |path: &str| {
        let of_path = receiver.arrived().into_iter().filter(|one| one.path == path && one.event() == "group.join");
        of_path.map(|one| one.body["data"]["groupId"].clone()).collect::<Vec<_>>()
    };
    let both = [json!(group), json!(other)];
    let has_all = |joins: Vec<Value>, groups: &[Value]| groups.iter().all(|group| joins.contains(group)).then_some(());
    until("all", async || has_all(joins("/wide"), &both).and(has_all(joins("/own"), &both[1..]))).await;
    assert!(joins("/own").iter().all(|group| *group == json!(other)));
    let resume = format!("{HOOKS}/{id}/resume");
    let terms = |sessions: Value| json!({ "allowedSessions": sessions, "allowedGroups": [other] });
    bench.start_session("other").await;
    bench.put(&format!("/auth/api-keys/{key_id}"), terms(json!(["other"]))).await;
    until_shown(&bench, &id, |hook| hook["pausedReason"] == "key_narrowed").await;
    assert_eq!(bench.post(&resume, json!({})).await.failure(), (409, "webhook_key_ended"));
    bench.put(&format!("/auth/api-keys/{key_id}"), terms(json!(["alice"]))).await;
    assert_eq!(bench.post(&resume, json!({})).await.status, 200);
    assert_eq!(bench.post(&format!("/auth/api-keys/{key_id}/revoke"), json!({})).await.status, 200);
    until_shown(&bench, &id, |hook| hook["pausedReason"] == "key_ended").await;
    assert_eq!(bench.post(&resume, json!({})).await.failure(), (409, "webhook_key_ended"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_key_that_changes_a_webhook_gets_neither_its_secrets_nor_more_than_it_may_see() {
    let (bench, receiver, group) = ready().await;
    let headers = json!({ "Authorization": "Bearer of the operator" });
    let body = json!({ "url": receiver.url("/first"), "events": ["group.join"], "headers": headers, "secret": SECRET });
    let id = hook(&bench, HOOKS, body).await;
    let key = bench.post("/auth/api-keys", json!({ "name": "tenant", "allowedSessions": ["alice"] })).await.body;
    let (secret, key_id) = (key["apiKey"].as_str().unwrap(), key["id"].as_str().unwrap());
    let path = format!("{HOOKS}/{id}");
    let change = async |body: Value| bench.call_with(secret, Method::PUT, &path, Some(body)).await;
    let url = receiver.url("/second");
    for kept in [json!({ "url": url }), json!({ "url": url, "secret": "" }), json!({ "url": url, "headers": {} })] {
        assert_eq!(change(kept.clone()).await.failure(), (400, "secrets_of_another_key"), "{kept}");
    }
    // Whoever changes something else first is no nearer to them.
    assert_eq!(change(json!({ "retryCount": 2, "url": receiver.url("/first") })).await.status, 200);
    assert_eq!(change(json!({ "secret": "a-secret-of-the-tenant" })).await.status, 200);
    assert_eq!(change(json!({ "url": url })).await.failure(), (400, "secrets_of_another_key"));
    let taken = change(json!({ "url": url, "secret": "", "headers": {} })).await;
    assert_eq!((taken.status, &taken.body["signed"]), (200, &json!(false)), "{taken:?}");
    churn(&bench, &group, 1);
    let told = arrived(&receiver, 1).await;
    assert_eq!((told[0].path.as_str(), told[0].header("authorization")), ("/second", ""));
    assert_eq!(bench.post(&format!("/auth/api-keys/{key_id}/revoke"), json!({})).await.status, 200);
    until_shown(&bench, &id, |hook| hook["pausedReason"] == "key_ended").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_url_takes_over_from_a_receiver_that_hangs() {
    let (bench, receiver, group) = ready().await;
    receiver.next([Reaction::Silence(Duration::from_secs(60))]);
    let id = hook(&bench, HOOKS, json!({ "url": receiver.url("/hangs"), "events": ["group.join"] })).await;
    churn(&bench, &group, 1);
    arrived(&receiver, 1).await;
    assert_eq!(bench.put(&format!("{HOOKS}/{id}"), json!({ "url": receiver.url("/answers") })).await.status, 200);
    let both = arrived(&receiver, 2).await;
    assert_eq!((both[1].path.as_str(), &both[1].raw), ("/answers", &both[0].raw));
    let failed = bench.get(&format!("{HOOKS}/{id}/deliveries?status=failed")).await.body;
    assert_eq!(failed, json!([]), "the first one was not waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_webhook_is_named() {
    let (bench, receiver, _) = ready().await;
    let url = receiver.url("/");
    let with = |field: &str, value: Value| {
        let mut body = json!({ "url": url });
        body[field] = value;
        body
    };
    let long = "x".repeat(1_025);
    let cases = [
        (json!({}), "url should not be empty"),
        (with("url", json!("ftp://example.com/")), "url must be a URL address"),
        (with("events", json!([])), "events should not be empty"),
        (with("events", json!(["group.dance"])), "events has `group.dance`"),
        (with("secret", Value::Null), "secret must be a string; an empty one in a change removes it"),
        (with("secret", json!("")), "secret must be longer than or equal to 16 characters"),
        (with("secret", json!("whsec_not-base64-at-all")), "secret begins with whsec_"),
        (with("sessionIds", json!("*")), "property sessionIds should not exist"),
        (
            with("filters", json!({ "conditions": [{ "field": "isGroup", "operator": "contains", "value": true }] })),
            "filters.conditions.0.operator must be is, isNot or equals",
        ),
        (with("secret", json!("short")), "secret must be longer than or equal to 16 characters"),
        (with("headers", json!({ "Host": "x" })), "headers.Host belongs to the connection"),
        (with("headers", json!({ "X-A": "a\nb" })), "headers.X-A must be a string"),
        (with("headers", json!({ "X-A": long })), "headers.X-A must be a string"),
        (with("headers", json!({ "b c": "x" })), "headers.b c is not the name"),
        (with("retryCount", json!(6)), "retryCount must not be greater than 5"),
        (with("filters", json!({ "conditions": [{ "field": "shoe" }] })), "filters.conditions.0.field must be one of"),
        (
            with("filters", json!({ "conditions": [{ "field": "isGroup", "operator": "is", "value": "yes" }] })),
            "filters.conditions.0.value must be true or false",
        ),
        (with("colour", json!(1)), "property colour should not exist"),
    ];
    for (body, expected) in cases {
        let refused = bench.post(HOOKS, body.clone()).await;
        assert_eq!(refused.failure(), (400, "validation_failed"), "{body}");
        let messages = refused.body["message"].to_string();
        assert!(messages.contains(expected), "{body}: {messages}");
    }
    let userinfo = bench.post(HOOKS, json!({ "url": "https://user:pass@example.com/" })).await;
    assert_eq!(userinfo.body["message"], "Webhook URL must not contain credentials (userinfo)");
    for url in [
        "http:8.8.8.8",
        "http:///8.8.8.8",
        r"http://8.8.8.8\@127.0.0.2/",
        "http://8.8.8.8/#x",
        "http://@8.8.8.8/",
        "http://8.8.8.8:0/",
        "http://8.8.8.8/\u{0}",
    ] {
        assert_eq!(bench.post(HOOKS, json!({ "url": url })).await.failure(), (400, "validation_failed"), "{url:?}");
    }
    for url in ["http://127.0.0.1:1/", "http://169.254.169.254/latest", "http://[::1]/", "http://localhost:9/"] {
        let refused = bench.post(HOOKS, json!({ "url": url })).await;
        assert_eq!(refused.failure(), (400, "destination_not_allowed"), "{url}");
        assert!(refused.body["message"].as_str().unwrap().starts_with("Destination address is not allowed"));
    }
    for _ in 0..16 {
        hook(&bench, HOOKS, json!({ "url": url })).await;
    }
    let one_more = bench.post(HOOKS, json!({ "url": url })).await;
    let expected = "Webhook limit reached for this session (16/16); delete one before registering another";
    assert_eq!((one_more.status, &one_more.body["message"]), (400, &json!(expected)));
    let unknown = bench.get(&format!("{HOOKS}/5f0c6e9a-3f43-4bb0-9a52-6a2f8f7f3c11")).await;
    assert_eq!(unknown.body["message"], "Webhook with id '5f0c6e9a-3f43-4bb0-9a52-6a2f8f7f3c11' not found");
    assert_eq!(bench.get(&format!("{HOOKS}/nope")).await.status, 404);
}
