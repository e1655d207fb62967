//! Our own limits, which protect the account, and the pauses that WhatsApp asks for.

use std::time::Duration;

use reqwest::Method;
use rookery_actors::{RateLimit, RateLimits};
use rookery_simulator::{Addressing, Fault, FaultKind};
use serde_json::json;

use crate::harness::{ALICE, BOB, Bench, CAROL, DAVE};

const HOUR: Duration = Duration::from_secs(3_600);
const NO_LIMITS: RateLimits =
    RateLimits { create: None, add: None, write: None, query: None, lookup: None, message: None };

async fn ready_with_group(rate_limits: RateLimits) -> (Bench, String) {
    let bench = Bench::with(|config| config.rate_limits = rate_limits.into()).await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}");
    (bench, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_holds_says_when_to_come_back_and_keeps_whatsapp_out() {
    let one_an_hour = Some(RateLimit::new(1, HOUR, 1));
    let rate_limits = RateLimits {
        create: one_an_hour,
        add: Some(RateLimit::new(3, HOUR, 3)),
        write: one_an_hour,
        query: one_an_hour,
        lookup: None,
        message: None,
    };
    let (bench, path) = ready_with_group(rate_limits).await;
    let subject = |text: &str| json!({ "subject": text });
    let group = json!({ "name": "New", "participants": [BOB] });
    assert_eq!(bench.put(&format!("{path}/subject"), subject("One")).await.status, 200);
    assert_eq!(bench.post("/sessions/alice/groups", group.clone()).await.status, 201);
    assert_eq!(bench.get(&format!("{path}/invite-code")).await.status, 200);
    let participants = json!({ "participants": [CAROL, DAVE] });
    assert_eq!(bench.post(&format!("{path}/participants"), participants).await.status, 200);

    let kinds = ["w:g2:subject", "w:g2:create", "w:g2:invite", "w:g2:add", "w:g2:query", "w:g2:participating"];
    let requests = || kinds.map(|kind| bench.world.requests(ALICE, kind));
    let before = requests();
    let refused = [
        (bench.put(&format!("{path}/subject"), subject("Two")).await, "changing groups", "1 at once and 1 an hour"),
        (bench.post("/sessions/alice/groups", group).await, "creating groups", "1 at once and 1 an hour"),
        (bench.get(&format!("{path}/invite-code")).await, "questions to WhatsApp", "1 at once and 1 an hour"),
        (bench.get(&format!("{path}?refresh=true")).await, "questions to WhatsApp", "1 at once and 1 an hour"),
        (
            bench.post(&format!("{path}/participants"), json!({ "participants": [CAROL] })).await,
            "adding people",
            "3 at once and 3 an hour",
        ),
    ];
    for (answer, limit, allowed) in refused {
        assert_eq!(answer.failure(), (429, "pacing_limited"), "{answer:?}");
        assert!(answer.retry_after.is_some_and(|seconds| (1..=3_600).contains(&seconds)), "{answer:?}");
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.contains(limit) && message.contains(allowed), "{message}");
    }
    for _ in 0..20 {
        assert_eq!((bench.get(&path).await.status, bench.get("/sessions/alice/groups").await.status), (200, 200));
    }
    assert_eq!(requests(), before, "nothing was sent, and reads from the cache are free");
    assert_eq!(bench.get(&path).await.body["name"], "One");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_leaves_an_idempotency_key_free() {
    let rate_limits = RateLimits { write: Some(RateLimit::new(1, Duration::from_secs(1), 1)), ..NO_LIMITS };
    let (bench, path) = ready_with_group(rate_limits).await;
    let (subject, body) = (format!("{path}/subject"), json!({ "subject": "Once" }));
    assert_eq!(bench.put(&subject, json!({ "subject": "First" })).await.status, 200);
    let paced = bench.call_once("k", Method::PUT, &subject, &body).await;
    assert_eq!((paced.failure(), paced.retry_after), ((429, "pacing_limited"), Some(1)));
    tokio::time::sleep(Duration::from_secs(paced.retry_after.unwrap())).await;
    let done = bench.call_once("k", Method::PUT, &subject, &body).await;
    assert_eq!((done.status, done.replayed), (200, false), "whoever comes back then is let through: {done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_whatsapp_asks_to_slow_down_writes_pause_and_reads_go_on() {
    let (bench, path) = ready_with_group(NO_LIMITS).await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Refuse { code: 429, backoff_s: Some(30) }).at("subject"));
    let first = bench.put(&format!("{path}/subject"), json!({ "subject": "One" })).await;
    assert_eq!((first.status, first.retry_after), (429, Some(30)), "{first:?}");
    let before = bench.world.requests(ALICE, "w:g2:subject");
    let participants = json!({ "participants": [CAROL] });
    let paused = [
        bench.put(&format!("{path}/subject"), json!({ "subject": "Two" })).await,
        bench.post(&format!("{path}/participants"), participants.clone()).await,
        bench.post("/sessions/alice/groups", json!({ "name": "New", "participants": [BOB] })).await,
    ];
    for answer in paused {
        assert_eq!(answer.failure(), (429, "rate_limited_by_whatsapp"), "{answer:?}");
        assert!(answer.retry_after.is_some_and(|seconds| (20..=30).contains(&seconds)), "{answer:?}");
    }
    assert_eq!(bench.world.requests(ALICE, "w:g2:subject"), before);
    assert_eq!(bench.world.requests(ALICE, "w:g2:add") + bench.world.requests(ALICE, "w:g2:create"), 0);
    assert_eq!(bench.get(&path).await.body["name"], "Team");
    assert_eq!(bench.get(&format!("{path}?refresh=true")).await.status, 200);
    assert_eq!(bench.get(&format!("{path}/invite-code")).await.status, 200);
}
