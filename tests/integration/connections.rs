//! The connection to WhatsApp is silent, or away: sessions say so, send nothing, and come back by themselves.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use reqwest::Method;
use rookery_simulator::{AccountSpec, Addressing, Fault, FaultKind};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, CAROL, until, until_equal};
use crate::line::Line;

/// A request that is refused before it is sent needs no read: its answer takes far less than the 5 s of a read.
const AT_ONCE: Duration = Duration::from_secs(1);

async fn with_line(whatsapp_timeout_ms: u64) -> (Bench, Line) {
    let line = OnceLock::new();
    let bench = Bench::with(|config| {
        let near = line.get_or_init(|| Line::to(&config.whatsapp_url));
        config.whatsapp_url = near.url();
        config.whatsapp_timeout_ms = whatsapp_timeout_ms;
    });
    let bench = bench.await;
    (bench, line.into_inner().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_hears_nothing_is_not_ready_and_sends_nothing() {
    let (bench, line) = with_line(500).await;
    let group = bench.group(&[BOB, CAROL], Addressing::Lid);
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}");

    let id = bench.daemon().gateway().find("alice").unwrap();
    let heard_at = || bench.daemon().gateway().heard_at(id).unwrap().unwrap();

    line.fall_silent();
    // The first change is sent, and its result is unknown.
    let lost = bench.put(&format!("{path}/subject"), json!({ "subject": "Lost" })).await;
    assert_eq!(lost.failure(), (503, "outcome_unknown"), "{lost:?}");
    let session = bench.until_status("alice", "disconnected").await;
    let reason = session["lastError"].as_str().unwrap_or_default();
    assert!(reason.contains("nothing was heard") || reason.contains("cannot be reached"), "{session}");

    let writes = [
        (Method::POST, "/sessions/alice/groups".to_owned(), json!({ "name": "New", "participants": [BOB] })),
        (Method::PUT, format!("{path}/subject"), json!({ "subject": "Later" })),
        (Method::POST, format!("{path}/participants/promote"), json!({ "participants": [BOB] })),
    ];
    for (at, (method, path, body)) in writes.iter().enumerate() {
        let begun = Instant::now();
        let refused = bench.call_once(&format!("deaf-{at}"), method.clone(), path, body).await;
        assert_eq!(refused.failure(), (409, "session_not_connected"), "{refused:?}");
        assert!(begun.elapsed() < AT_ONCE, "{path} took {:?}", begun.elapsed());
    }
    assert_eq!(bench.get(&path).await.failure(), (409, "session_not_connected"));
    let heard_before = heard_at();
    // No notification of this change can arrive.
    bench.world.leave(&group, CAROL).unwrap();

    line.come_back();
    let session = bench.until_status("alice", "ready").await;
    assert_eq!(session["lastError"], Value::Null);
    assert!(heard_at() > heard_before);
    assert_eq!(bench.get(&path).await.members(), [format!("{ALICE}*"), BOB.to_owned()]);
    assert_eq!(bench.get(&path).await.body["name"], "Team", "what was sent into the silence is lost");
    for (at, (method, path, body)) in writes.iter().enumerate() {
        let done = bench.call_once(&format!("deaf-{at}"), method.clone(), path, body).await;
        assert!(matches!(done.status, 200 | 201) && !done.replayed, "{done:?}");
    }
    assert_eq!(bench.world.requests(ALICE, "w:g2:create"), 1);
    assert_eq!(bench.world.requests(ALICE, "w:g2:subject"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_sessions_are_back_when_whatsapp_is() {
    let (bench, line) = with_line(2_000).await;
    let phones: Vec<String> = (0..20).map(|nth| format!("155501002{nth:02}")).collect();
    for (nth, phone) in phones.iter().enumerate() {
        bench.world.add_account(AccountSpec::new(phone));
        bench.link(&format!("session-{nth}"), phone).await;
    }
    let statuses = async || {
        let sessions = bench.get("/sessions").await.body;
        let word = |session: &Value| session["status"].as_str().unwrap().to_owned();
        let mut words: Vec<String> = sessions.as_array().unwrap().iter().map(word).collect();
        words.dedup();
        words
    };
    line.go_away();
    until_equal(vec!["disconnected".to_owned()], statuses).await;
    // Each session has tried at least once more.
    until("the reason at every session", async || {
        let sessions = bench.get("/sessions").await.body;
        let knows =
            |session: &Value| session["lastError"].as_str().is_some_and(|text| text.contains("cannot be reached"));
        sessions.as_array().unwrap().iter().all(knows).then_some(())
    })
    .await;
    line.come_back();
    until_equal(vec!["ready".to_owned()], statuses).await;
    for phone in &phones {
        assert_eq!(bench.world.live_connections_max(phone), 1, "K-1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_reach_whatsapp_since_its_start_says_so() {
    let (mut bench, line) = with_line(2_000).await;
    bench.link("alice", ALICE).await;
    for cut in [Line::go_away, Line::fall_silent] {
        cut(&line);
        bench.restart().await;
        let begins = "not connected yet, trying again: WhatsApp cannot be reached";
        let session = until("the reason", async || {
            let session = bench.get("/sessions/alice").await.body;
            session["lastError"].as_str().is_some_and(|text| text.starts_with(begins)).then_some(session)
        })
        .await;
        assert_eq!(session["status"], "initializing", "{session}");
        line.come_back();
        assert_eq!(bench.until_status("alice", "ready").await["lastError"], Value::Null);
    }
    // The same before a phone is linked.
    line.go_away();
    bench.start_session("bob").await;
    let knows = |session: &Value| session["lastError"].as_str().is_some_and(|text| text.contains("cannot be reached"));
    until("the reason", async || knows(&bench.get("/sessions/bob").await.body).then_some(())).await;
    line.come_back();
    assert_eq!(bench.until_status("bob", "qr_ready").await["lastError"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_the_connection_before_to_close() {
    let bench = Bench::start().await;
    bench.link("alice", ALICE).await;
    for _ in 0..5 {
        let stopping = async {
            let stopped = bench.post("/sessions/alice/stop", json!({})).await;
            assert_eq!(stopped.status, 200, "{stopped:?}");
        };
        let starting = async {
            // From here on the session is closing, or closed.
            bench.until_status("alice", "disconnected").await;
            let started = bench.post("/sessions/alice/start", json!({})).await;
            assert_eq!(started.status, 200, "{started:?}");
        };
        tokio::join!(stopping, starting);
        bench.until_status("alice", "ready").await;
    }
    bench.world.add_fault(ALICE, Fault::new(FaultKind::LoggedOut));
    let session = bench.until_status("alice", "action_required").await;
    assert!(session["lastError"].as_str().unwrap().contains("start the session"), "{session}");
    let started = bench.post("/sessions/alice/start", json!({})).await;
    assert_eq!(started.status, 200, "{started:?}");
    let qr = bench.qr("alice").await;
    bench.world.phone(ALICE).scan_qr(&qr).unwrap();
    bench.until_status("alice", "ready").await;
    assert_eq!(bench.world.live_connections_max(ALICE), 1, "K-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_whatsapp_did_before_it_broke_down_is_found() {
    let bench = Bench::start().await;
    let group = bench.group(&[BOB, CAROL], Addressing::Lid);
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}");
    let writes = [
        ("create", Method::POST, "/sessions/alice/groups".to_owned(), json!({ "name": "Once", "participants": [BOB] })),
        ("subject", Method::PUT, format!("{path}/subject"), json!({ "subject": "New" })),
        ("promote", Method::POST, format!("{path}/participants/promote"), json!({ "participants": [BOB] })),
        ("remove", Method::DELETE, format!("{path}/participants"), json!({ "participants": [CAROL] })),
    ];
    for (at, method, path, body) in &writes {
        let key = format!("key-{at}");
        bench.world.add_fault(ALICE, Fault::new(FaultKind::Refuse { code: 503, backoff_s: None }).at(*at));
        let refused = bench.call_once(&key, method.clone(), path, body).await;
        let expected = if *at == "create" { "whatsapp_unanswered" } else { "whatsapp_refused" };
        assert_eq!(refused.failure(), (503, expected), "{at} {refused:?}");
        assert!(refused.retry_after.is_some());
        // The change was looked for and not found, so the key is free. A new group may come late, so its key is not
        // free.
        let key = if *at == "create" {
            let again = bench.call_once(&key, method.clone(), path, body).await;
            assert!(again.replayed && again.failure() == (503, expected), "{again:?}");
            "another-key".to_owned()
        } else {
            key
        };
        bench.world.add_fault(ALICE, Fault::new(FaultKind::BreakDown { code: 500 }).at(*at));
        let done = bench.call_once(&key, method.clone(), path, body).await;
        assert!(matches!(done.status, 200 | 201) && !done.replayed, "{at} {done:?}");
        let again = bench.call_once(&key, method.clone(), path, body).await;
        assert!(again.replayed && again.status == done.status, "{at} {again:?}");
    }
    let made = bench.world.groups().into_iter().filter(|group| group.subject == "Once").count();
    assert_eq!(made, 1, "one group");
}
