//! WhatsApp misbehaves: silence, cut connections, refusals, ends for good. Callers get true answers in time.

use rookery_simulator::{Addressing, Fault, FaultKind};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, until_equal};

async fn ready_with_group() -> (Bench, String, String) {
    let bench = Bench::with(|config| config.whatsapp_timeout_ms = 500).await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}");
    (bench, group, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_leaves_reads_of_the_cache_alone() {
    let (bench, _, path) = ready_with_group().await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: false }).at("query"));
    let refresh = bench.get(&format!("{path}?refresh=true")).await;
    assert_eq!(refresh.status, 503, "{refresh:?}");
    assert!(refresh.retry_after.is_some());
    assert_eq!(bench.get(&path).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_the_status_that_fits() {
    let (bench, _, path) = ready_with_group().await;
    for (code, status) in
        [(401, 403), (403, 403), (404, 404), (406, 400), (410, 404), (500, 503), (503, 503), (429, 429)]
    {
        let refuse = FaultKind::Refuse { code, backoff_s: (code == 429).then_some(7) };
        bench.world.add_fault(ALICE, Fault::new(refuse));
        let answer = bench.put(&format!("{path}/subject"), json!({ "subject": "Refused" })).await;
        assert_eq!(answer.status, status, "{code}: {answer:?}");
        assert_eq!(
            (answer.body["statusCode"].as_u64(), answer.body["message"].is_string()),
            (Some(status.into()), true)
        );
        assert_eq!(answer.retry_after.is_some(), matches!(status, 429 | 503), "{code}: {answer:?}");
        if code == 429 {
            assert_eq!(answer.retry_after, Some(7), "WhatsApp's own hint");
        }
    }
    assert_eq!(bench.get(&path).await.body["name"], "Team");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_connection_comes_back_by_itself() {
    let (bench, _, path) = ready_with_group().await;
    for fault in [FaultKind::Drop { apply: false, now: true }, FaultKind::StreamError] {
        bench.world.add_fault(ALICE, Fault::new(fault));
        bench.until_status("alice", "disconnected").await;
        let answer = bench.get(&path).await;
        assert!(matches!(answer.status, 200 | 409), "{answer:?}");
        let session = bench.until_status("alice", "ready").await;
        assert_eq!(session["lastError"], Value::Null);
        assert_eq!(bench.get(&path).await.status, 200);
    }
    assert_eq!(bench.world.live_connections_max(ALICE), 1, "K-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_end_for_good_has_its_own_reason() {
    let ends = [
        (FaultKind::Replaced, "another client", Value::Null, true),
        (FaultKind::Ban, "banned", json!("tos_block"), true),
        (FaultKind::LoggedOut, "logged out at the phone", Value::Null, false),
    ];
    for (fault, reason, restriction, keeps_account) in ends {
        let (bench, _, path) = ready_with_group().await;
        bench.world.add_fault(ALICE, Fault::new(fault));
        let session = bench.until_status("alice", "action_required").await;
        assert!(session["lastError"].as_str().unwrap().contains(reason), "{session}");
        assert_eq!(session["restriction"]["kind"], restriction, "{session}");
        assert_eq!(session["phone"].is_string(), keeps_account, "{session}");
        until_equal(Some(false), async || bench.get("/sessions/alice").await.body["engineLoaded"].as_bool()).await;
        assert_eq!(bench.get(&path).await.body["message"], "Session is not started");
        assert_eq!(bench.post("/sessions/alice/start", json!({})).await.status, 200);
        match fault {
            FaultKind::LoggedOut => {
                let qr = bench.qr("alice").await;
                bench.world.phone(ALICE).scan_qr(&qr).unwrap();
                bench.until_status("alice", "ready").await;
            }
            FaultKind::Ban => drop(bench.until_status("alice", "action_required").await),
            _ => drop(bench.until_status("alice", "ready").await),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_removed_at_the_phone_while_we_were_away_is_found_out_at_the_log_in() {
    let (mut bench, _, _) = ready_with_group().await;
    bench.world.phone(ALICE).unlink_devices();
    bench.until_status("alice", "action_required").await;
    bench.restart().await;
    let session = bench.until_status("alice", "action_required").await;
    assert!(session["lastError"].as_str().unwrap().contains("logged out at the phone"), "{session}");
}
