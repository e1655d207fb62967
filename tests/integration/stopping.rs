//! A daemon that is stopped while WhatsApp has not answered: waiting callers are asked to retry, and then get the
//! result.

use std::time::Duration;

use reqwest::Method;
use rookery_simulator::{Addressing, Fault, FaultKind};
use serde_json::json;

use crate::harness::{ALICE, BOB, Bench, until};

/// Longer than the daemon waits for requests in flight here, shorter than it waits for WhatsApp.
const ANSWER_DELAY_MS: u64 = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_unanswered_at_the_stop_is_503_and_its_key_tells_the_rest_after_the_start() {
    let adjust = |config: &mut rookery::config::Config| {
        config.whatsapp_timeout_ms = 10_000;
        config.http.limits.drain_time_max = Duration::from_secs(1);
    };
    let mut bench = Bench::with(adjust).await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Slow { delay_ms: ANSWER_DELAY_MS }).at("subject"));
    let path = format!("/sessions/alice/groups/{group}/subject");
    let body = json!({ "subject": "Crew" });
    let call = bench.prepared(Method::PUT, &path, "k", &body);
    let answer = tokio::spawn(call);
    until("the request at WhatsApp", async || (bench.world.requests(ALICE, "w:g2:subject") == 1).then_some(())).await;
    bench.restart().await;
    let answer = answer.await.unwrap();
    assert_eq!(answer.failure(), (503, "outcome_unknown"), "{answer:?}");
    assert_eq!(answer.retry_after, Some(5));
    let again = bench.call_once("k", Method::PUT, &path, &body).await;
    assert_eq!((again.status, again.replayed), (200, true), "{again:?}");
    bench.until_status("alice", "ready").await;
    assert_eq!(bench.get(&format!("/sessions/alice/groups/{group}")).await.body["name"], "Crew");
    assert_eq!(bench.world.requests(ALICE, "w:g2:subject"), 1, "WhatsApp was asked once");
}
