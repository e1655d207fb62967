//! A disk with too little room for changes, and enough for removals: sessions stay, and removals are carried out.

use reqwest::Method;
use rookery::config::Config;
use rookery_simulator::{Addressing, Fault, FaultKind, Mail};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, CAROL, until, until_equal, world_members};

/// Bytes of a file that fills the disk as far as the tests need.
const FILLING_BYTES: u64 = 256 << 20;

/// The disk has three quarters of what changes need, which is half as much again as removals need.
fn with_little_space(config: &mut Config) {
    let volume = rustix::fs::statvfs(config.location.data_dir.as_path()).unwrap();
    config.location.free_space_min_bytes = Some(volume.f_bavail * volume.f_frsize / 3 * 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn linked_sessions_come_back_and_are_read_and_say_what_is_missing() {
    let mut bench = Bench::start().await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    let made = async |bench: &Bench, key: &str| {
        let body = json!({ "name": "Trip", "participants": [BOB] });
        bench.call_once(key, Method::POST, "/sessions/alice/groups", &body).await
    };
    let trip = made(&bench, "k").await.body;
    bench.restart_with(with_little_space).await;
    let path = format!("/sessions/alice/groups/{group}");
    for fault in [None, Some(FaultKind::Drop { apply: false, now: true })] {
        if let Some(fault) = fault {
            bench.world.add_fault(ALICE, Fault::new(fault));
            bench.until_status("alice", "disconnected").await;
        }
        let session = bench.until_status("alice", "ready").await;
        let trouble = session["lastError"].as_str().unwrap_or_default();
        assert!(trouble.contains("the disk is nearly full"), "{session}");
        for read in [&path, &format!("{path}?refresh=true")] {
            assert_eq!(bench.get(read).await.members(), world_members(&bench.world, &group), "{read}");
        }
        let refused = bench.put(&format!("{path}/subject"), json!({ "subject": "New" })).await;
        assert_eq!(refused.failure(), (503, "storage_full"), "{refused:?}");
        assert_eq!(made(&bench, "new").await.failure(), (503, "storage_full"));
        let again = made(&bench, "k").await;
        assert_eq!((again.status, again.replayed, &again.body), (201, true, &trip), "what was done can be told");
    }
    bench.world.change_participants(&group, rookery_simulator::ParticipantChange::Add, ALICE, &[CAROL]).unwrap();
    until_equal(world_members(&bench.world, &group), async || bench.get(&path).await.members()).await;
    bench.restart_with(|config| config.location.free_space_min_bytes = None).await;
    assert_eq!(bench.until_status("alice", "ready").await["lastError"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_keys_can_be_ended_and_that_is_on_record() {
    let mut bench = Bench::start().await;
    for name in ["alice", "bob", "carol"] {
        bench
            .link(
                name,
                if name == "alice" {
                    ALICE
                } else if name == "bob" {
                    BOB
                } else {
                    CAROL
                },
            )
            .await;
    }
    let made = bench.post("/auth/api-keys", json!({ "name": "tenant" })).await.body;
    let (id, key) = (made["id"].as_str().unwrap().to_owned(), made["apiKey"].as_str().unwrap().to_owned());
    bench.restart_with(with_little_space).await;
    for name in ["alice", "bob", "carol"] {
        bench.until_status(name, "ready").await;
    }
    assert_eq!(bench.post("/sessions", json!({ "name": "dave" })).await.failure(), (503, "storage_full"));
    assert_eq!(bench.post(&format!("/auth/api-keys/{id}/revoke"), json!({})).await.status, 200);
    assert_eq!(bench.call_with(&key, Method::GET, "/sessions", None).await.status, 401);
    assert_eq!(bench.post("/sessions/alice/stop", json!({})).await.status, 200);
    assert_eq!(bench.post("/sessions/bob/logout", json!({})).await.status, 200);
    assert_eq!(bench.call(Method::DELETE, "/sessions/carol", None).await.status, 204);
    assert_eq!(bench.call(Method::DELETE, &format!("/auth/api-keys/{id}"), None).await.status, 204);
    for action in ["keys_revoke", "sessions_stop", "sessions_logout", "sessions_delete", "keys_delete"] {
        assert_eq!(bench.get(&format!("/audit?action={action}")).await.body["total"], 1, "{action}");
    }
    // A change that no caller asked for directly is on record as well, and not only once there is room.
    let changed = async |bench: &Bench| bench.get("/audit?action=sessions.account_changed").await.body["total"].clone();
    until_equal(Value::from(1), async || changed(&bench).await).await;
    bench.restart_with(|config| config.location.free_space_min_bytes = None).await;
    assert_eq!(changed(&bench).await, 1);
    assert_eq!(bench.get("/audit/verify").await.body["valid"], true);
    assert_eq!(bench.get("/sessions/alice").await.body["status"], "disconnected");
    assert_eq!(bench.get("/sessions/carol").await.status, 404);
    bench.post("/sessions/alice/start", json!({})).await;
    bench.until_status("alice", "ready").await;
}

/// Fills the disk so far that changes have no room, until it is dropped.
struct Filling(tempfile::NamedTempFile);

/// Tests that fill the disk take turns: each one reckons with the space that there is when it begins.
static FILLING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Filling {
    /// Sets the free space that is required so that only the filling makes it too little. Half of the filling is for
    /// what others write meanwhile.
    fn prepare(config: &mut Config) {
        let volume = rustix::fs::statvfs(config.location.data_dir.parent().unwrap()).unwrap();
        config.location.free_space_min_bytes = Some(volume.f_bavail * volume.f_frsize - FILLING_BYTES / 2);
    }

    async fn fill(bench: &Bench) -> Self {
        let file = tempfile::NamedTempFile::new_in(bench.data_dir()).unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILLING_BYTES).unwrap();
        until_equal(503, async || bench.get("/health/ready").await.status).await;
        Self(file)
    }

    async fn end(self, bench: &Bench) {
        self.0.close().unwrap();
        until_equal(200, async || bench.get("/health/ready").await.status).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_phone_is_linked_while_the_link_could_not_be_saved() {
    let _turn = FILLING.lock().await;
    let bench = Bench::with(Filling::prepare).await;
    bench.start_session("alice").await;
    let qr = bench.qr("alice").await;
    let filling = Filling::fill(&bench).await;
    for path in ["qr", "qr?format=text"] {
        let refused = bench.get(&format!("/sessions/alice/{path}")).await;
        assert_eq!(refused.failure(), (503, "storage_full"), "{refused:?}");
    }
    let code = bench.post("/sessions/alice/pairing-code", json!({ "phoneNumber": ALICE })).await;
    assert_eq!(code.failure(), (503, "storage_full"), "{code:?}");

    // The QR was read before the disk was full.
    bench.world.phone(ALICE).scan_qr(&qr).unwrap();
    let session = bench.until_status("alice", "action_required").await;
    let error = session["lastError"].as_str().unwrap();
    assert!(error.starts_with("the disk is nearly full, and the link could not be saved: it was ended"), "{session}");
    assert!(!error.contains("did not confirm"), "{session}");
    assert_eq!((&session["phone"], &session["boundPhone"]), (&Value::Null, &Value::Null));
    until_equal(0, async || bench.world.live_connections(ALICE)).await;

    filling.end(&bench).await;
    bench.post("/sessions/alice/start", json!({})).await;
    let qr = bench.qr("alice").await;
    bench.world.phone(ALICE).scan_qr(&qr).unwrap();
    assert_eq!(bench.until_status("alice", "ready").await["lastError"], Value::Null);
}

/// The disk has less than what removals need, and more than what a start needs.
fn with_no_space(config: &mut Config) {
    let volume = rustix::fs::statvfs(config.location.data_dir.as_path()).unwrap();
    config.location.free_space_min_bytes = Some(volume.f_bavail * volume.f_frsize * 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_no_room_even_for_removals_nothing_is_ended() {
    let mut bench = Bench::start().await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    bench.link("bob", BOB).await;
    bench.post("/sessions/bob/stop", json!({})).await;
    bench.restart_with(with_no_space).await;
    bench.until_status("alice", "ready").await;
    for session in ["alice", "bob"] {
        let before = bench.get(&format!("/sessions/{session}")).await.body;
        for route in ["stop", "logout", "force-kill", ""] {
            let (method, path) = match route {
                "" => (Method::DELETE, format!("/sessions/{session}")),
                route => (Method::POST, format!("/sessions/{session}/{route}")),
            };
            let refused = bench.call(method, &path, Some(json!({}))).await;
            assert_eq!(refused.failure(), (503, "storage_full"), "{path} {refused:?}");
        }
        let after = bench.get(&format!("/sessions/{session}")).await.body;
        assert_eq!((&after["status"], &after["phone"]), (&before["status"], &before["phone"]));
    }
    assert_eq!(bench.world.live_connections(ALICE), 1);
    assert_eq!(bench.get(&format!("/sessions/alice/groups/{group}")).await.status, 200, "reads go on");
    bench.restart_with(|config| config.location.free_space_min_bytes = None).await;
    bench.until_status("alice", "ready").await;
    bench.post("/sessions/bob/start", json!({})).await;
    bench.until_status("bob", "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_at_whatsapp_until_they_can_be_kept() {
    let _turn = FILLING.lock().await;
    let bench = Bench::with(Filling::prepare).await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    let told = async || {
        let page = bench.get("/sessions/alice/events?types=message.received&limit=1000").await.body;
        let events = page["events"].as_array().unwrap().iter();
        events.map(|event| event["data"]["body"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut sent = vec!["before".to_owned()];
    bench.world.send(BOB, &group, Mail::text("before")).unwrap();
    until_equal(sent.clone(), &told).await;
    let filling = Filling::fill(&bench).await;
    // The log notices that within a second.
    until("the connection to be closed", async || {
        sent.push(format!("message {}", sent.len()));
        bench.world.send(BOB, &group, Mail::text(sent.last().unwrap())).unwrap();
        let session = bench.get("/sessions/alice").await.body;
        let error = session["lastError"].as_str().unwrap_or_default().to_owned();
        (session["status"] == "disconnected" && error.contains("messages cannot be saved")).then_some(())
    })
    .await;
    sent.push("in private".to_owned());
    bench.world.send(CAROL, ALICE, Mail::text("in private")).unwrap();
    let kept = told().await.len();
    assert!(kept < sent.len(), "{kept} of {}", sent.len());

    filling.end(&bench).await;
    bench.until_status("alice", "ready").await;
    until_equal(sent.len(), async || told().await.len()).await;
    let mut all = told().await;
    all.sort();
    sent.sort();
    assert_eq!(all, sent);
    assert_eq!(bench.get("/sessions/alice").await.body["lastError"], Value::Null);
}
