//! Reads of groups while their session is not ready: refused, unless the cache will do.

use reqwest::Method;
use rookery_simulator::{Addressing, CommunitySpec, Fault, FaultKind};
use serde_json::json;

use crate::harness::{ALICE, BOB, Bench};

const GROUPS: &str = "/sessions/alice/groups";
const COMMUNITIES: &str = "/sessions/alice/communities";

/// Every read of groups that is answered from the cache.
fn reads(group: &str, community: &str) -> [String; 9] {
    [
        COMMUNITIES.into(),
        format!("{COMMUNITIES}/{community}"),
        GROUPS.into(),
        format!("{GROUPS}/count"),
        format!("{GROUPS}.csv"),
        format!("{GROUPS}/{group}"),
        format!("{GROUPS}/{group}/participants"),
        format!("{GROUPS}/{group}/participants.csv"),
        format!("{GROUPS}/{group}/settings"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_ready_is_409_or_with_stale_the_cache_and_its_age() {
    let bench = Bench::start().await;
    let group = bench.group(&[BOB], Addressing::Lid);
    let community = bench.world.add_community(CommunitySpec::new("Park", ALICE));
    bench.link("alice", ALICE).await;
    let mut ready = Vec::new();
    for path in reads(&group, &community) {
        let fresh = bench.get(&path).await;
        let stale = bench.get(&format!("{path}?stale=true")).await;
        assert_eq!((stale.status, &stale.body), (200, &fresh.body), "{path}");
        assert_eq!((stale.header("age"), stale.header("warning")), ("", ""), "it is ready: {path}");
        ready.push(fresh);
    }

    // The next log-in does not finish: the list of groups is not answered.
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: false }).at("participating").times(100));
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Drop { apply: false, now: true }));
    bench.until_status("alice", "authenticating").await;
    for (path, ready) in reads(&group, &community).into_iter().zip(ready) {
        let no = bench.get(&format!("{path}?stale=false")).await;
        assert_eq!(no.failure(), (409, "session_not_connected"), "{path}");
        assert_eq!(bench.get(&path).await.failure(), (409, "session_not_connected"), "{path}");
        let stale = bench.get(&format!("{path}?stale=true")).await;
        assert_eq!((stale.status, &stale.body), (200, &ready.body), "{path}");
        let age: u64 = stale.header("age").parse().unwrap();
        assert!(age < 120, "{path}: {age}");
        assert_eq!(stale.header("warning"), "110 - \"Response is Stale\"", "{path}");
        assert_eq!(stale.header("etag"), ready.header("etag"), "{path}");
    }
    let path = format!("{GROUPS}/{group}");
    let tag = bench.get(&format!("{path}?stale=true")).await.header("etag").to_owned();
    let unchanged = bench.get_unless(&tag, &format!("{path}?stale=true")).await;
    assert_eq!((unchanged.status, unchanged.header("age").is_empty()), (304, false));
    let unknown = bench.get(&format!("{GROUPS}/120363999999999999@g.us?stale=true")).await;
    assert_eq!(unknown.failure(), (404, "group_not_found"));
    for query in ["stale=yes", "stale=true&refresh=true"] {
        assert_eq!(bench.get(&format!("{path}?{query}")).await.failure(), (400, "invalid_parameter"), "{query}");
    }
    let write = bench.put(&format!("{path}/subject?stale=true"), json!({ "subject": "No" })).await;
    assert_eq!(write.failure(), (409, "session_not_connected"), "only reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_sees_no_more_of_a_stale_cache_and_before_the_first_read_there_is_none() {
    let bench = Bench::start().await;
    let (mine, other) = (bench.group(&[BOB], Addressing::Lid), bench.group(&[BOB], Addressing::Lid));
    bench.start_session("alice").await;
    bench.qr("alice").await;
    assert_eq!(bench.get(&format!("{GROUPS}?stale=true")).await.failure(), (409, "session_not_connected"));
    let qr = bench.qr("alice").await;
    bench.world.phone(ALICE).scan_qr(&qr).unwrap();
    bench.until_status("alice", "ready").await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: false }).at("participating").times(100));
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Drop { apply: false, now: true }));
    bench.until_status("alice", "authenticating").await;
    let body = json!({ "name": "tenant", "role": "viewer", "allowedSessions": ["alice"], "allowedGroups": [mine] });
    let key = bench.post("/auth/api-keys", body).await.body["apiKey"].as_str().unwrap().to_owned();
    let list = bench.call_with(&key, Method::GET, &format!("{GROUPS}?stale=true"), None).await;
    assert_eq!(list.ids(), [mine.as_str()]);
    let foreign = bench.call_with(&key, Method::GET, &format!("{GROUPS}/{other}?stale=true"), None).await;
    assert_eq!(foreign.failure(), (401, "group_not_allowed"));
    assert_eq!(bench.post("/sessions/alice/stop", json!({})).await.status, 200);
    assert_eq!(bench.get(&format!("{GROUPS}?stale=true")).await.failure(), (400, "session_not_started"));
}
