//! A disk with too little room for changes, and enough for removals: sessions stay, and what takes something away goes on.

use reqwest::Method;
use rookery::config::Config;
use rookery_simulator::{Addressing, Fault, FaultKind};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, CAROL, world_members};

/// The disk has three quarters of what changes need, which is half as much again as removals need.
fn with_little_space(config: &mut Config) {
    let volume = rustix::fs::statvfs(config.data_dir.as_path()).unwrap();
    config.free_space_min_bytes = Some(volume.f_bavail * volume.f_frsize / 3 * 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn linked_sessions_come_back_and_are_read_and_say_what_is_missing() {
    let mut bench = Bench::start().await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
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
    }
    bench.world.change_participants(&group, rookery_simulator::ParticipantChange::Add, ALICE, &[CAROL]).unwrap();
    crate::harness::until_equal(world_members(&bench.world, &group), async || bench.get(&path).await.members()).await;
    bench.restart_with(|config| config.free_space_min_bytes = None).await;
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
    bench.restart_with(|config| config.free_space_min_bytes = None).await;
    assert_eq!(bench.get("/audit/verify").await.body["valid"], true);
    assert_eq!(bench.get("/sessions/alice").await.body["status"], "disconnected");
    assert_eq!(bench.get("/sessions/carol").await.status, 404);
    bench.post("/sessions/alice/start", json!({})).await;
    bench.until_status("alice", "ready").await;
}
