//! Changes made elsewhere, and in which order they arrive: the cache follows them without a request (G-1).

use std::time::{Duration, Instant};

use rookery_simulator::{Addressing, Echo, Fault, FaultKind, ParticipantChange};
use serde_json::json;

use crate::harness::{ALICE, BOB, Bench, CAROL, DAVE, until, until_equal, world_members};

async fn ready_with_group(addressing: Addressing) -> (Bench, String, String) {
    let bench = Bench::start().await;
    let group = bench.group(&[BOB, CAROL], addressing);
    bench.world.change_participants(&group, ParticipantChange::Promote, ALICE, &[BOB]).unwrap();
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}");
    (bench, group, path)
}

fn reads(bench: &Bench) -> u64 {
    bench.world.requests(ALICE, "w:g2:query") + bench.world.requests(ALICE, "w:g2:participating")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_made_elsewhere_shows_without_a_request() {
    for addressing in [Addressing::Lid, Addressing::Pn] {
        let (bench, group, path) = ready_with_group(addressing).await;
        let asked = reads(&bench);
        bench.world.change_participants(&group, ParticipantChange::Add, BOB, &[DAVE]).unwrap();
        bench.world.change_participants(&group, ParticipantChange::Promote, BOB, &[CAROL]).unwrap();
        until_equal(world_members(&bench.world, &group), async || bench.get(&path).await.members()).await;
        bench.world.change_participants(&group, ParticipantChange::Remove, BOB, &[DAVE]).unwrap();
        until_equal(world_members(&bench.world, &group), async || bench.get(&path).await.members()).await;
        bench.world.change_subject(&group, BOB, "Bob was here").unwrap();
        bench.world.change_description(&group, BOB, Some("read this")).unwrap();
        bench.world.change_announce(&group, BOB, true).unwrap();
        bench.world.change_locked(&group, BOB, true).unwrap();
        let expected = json!(["Bob was here", "read this", true, true, true, true]);
        until_equal(expected, async || {
            let g = bench.get(&path).await.body;
            json!([g["name"], g["description"], g["announce"], g["isAnnounce"], g["isReadOnly"], g["locked"]])
        })
        .await;
        assert_eq!(reads(&bench), asked, "the notifications told everything");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_pairs_in_one_burst_leave_the_cache_equal_to_the_world() {
    for addressing in [Addressing::Lid, Addressing::Pn] {
        let (bench, group, path) = ready_with_group(addressing).await;
        let pair = [(ParticipantChange::Promote, CAROL), (ParticipantChange::Demote, CAROL)];
        let mut burst = pair.repeat(200);
        burst.push((ParticipantChange::Promote, CAROL));
        bench.world.burst(&group, BOB, &burst).unwrap();
        until_equal(world_members(&bench.world, &group), async || bench.get(&path).await.members()).await;
        // One last change: once it is shown, every change before it has been applied.
        bench.world.change_subject(&group, BOB, "after the burst").unwrap();
        until_equal(json!("after the burst"), async || bench.get(&path).await.body["name"].clone()).await;
        until_equal(world_members(&bench.world, &group), async || bench.get(&path).await.members()).await;
        let refreshed = bench.get(&format!("{path}?refresh=true")).await.members();
        assert_eq!(refreshed, world_members(&bench.world, &group), "seed {}", bench.seed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_races_with_changes_never_goes_back() {
    let (bench, group, path) = ready_with_group(Addressing::Lid).await;
    let slow = Fault::new(FaultKind::Slow { delay_ms: 300 }).at("query").times(8);
    bench.world.add_fault(ALICE, slow);
    let refresh = format!("{path}?refresh=true");
    let racing = async {
        for n in 0..20 {
            bench.world.change_subject(&group, BOB, &format!("subject {n}")).unwrap();
            let change = if n % 2 == 0 { ParticipantChange::Promote } else { ParticipantChange::Demote };
            bench.world.change_participants(&group, change, BOB, &[CAROL]).unwrap();
            until_equal(world_members(&bench.world, &group), async || bench.get(&path).await.members()).await;
        }
    };
    let (refreshed, ()) = tokio::join!(async { futures(&bench, &refresh).await }, racing);
    assert!(refreshed.iter().all(|status| *status == 200), "{refreshed:?}");
    let group_now = bench.world.group(&group).unwrap();
    until_equal(json!(group_now.subject), async || bench.get(&path).await.body["name"].clone()).await;
    until_equal(world_members(&bench.world, &group), async || bench.get(&path).await.members()).await;
}

/// Four refreshes, one after the other.
async fn futures(bench: &Bench, path: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(bench.get(path).await.status);
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn refreshes_at_the_same_time_share_one_request() {
    let (bench, _, path) = ready_with_group(Addressing::Lid).await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Slow { delay_ms: 200 }).at("query"));
    let before = bench.world.requests(ALICE, "w:g2:query");
    let refresh = format!("{path}?refresh=true");
    let answers = tokio::join!(bench.get(&refresh), bench.get(&refresh), bench.get(&refresh), bench.get(&refresh));
    assert_eq!([answers.0.status, answers.1.status, answers.2.status, answers.3.status], [200; 4]);
    assert_eq!(bench.world.requests(ALICE, "w:g2:query"), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_echo_of_our_own_change_counts_once_before_and_after_the_answer() {
    for echo in [Echo::Before, Echo::After] {
        let (bench, group, path) = ready_with_group(Addressing::Lid).await;
        bench.world.set_echo(echo);
        for n in 0..10 {
            let participants = json!({ "participants": [DAVE] });
            assert_eq!(bench.post(&format!("{path}/participants"), participants.clone()).await.codes(), ["added"]);
            assert!(bench.get(&path).await.members().contains(&DAVE.to_owned()), "G-2");
            assert_eq!(
                bench.post(&format!("{path}/participants/promote"), participants.clone()).await.codes(),
                ["promoted"]
            );
            assert!(bench.get(&path).await.members().contains(&format!("{DAVE}*")), "G-2");
            assert_eq!(bench.delete(&format!("{path}/participants"), participants).await.codes(), ["removed"]);
            assert_eq!(bench.get(&path).await.members(), world_members(&bench.world, &group), "G-2");
            let subject = format!("subject {n}");
            assert_eq!(bench.put(&format!("{path}/subject"), json!({ "subject": subject })).await.status, 200);
            assert_eq!(bench.get(&path).await.body["name"], subject, "G-2");
        }
        bench.world.change_subject(&group, BOB, "the last word").unwrap();
        until_equal(json!("the last word"), async || bench.get(&path).await.body["name"].clone()).await;
        until_equal(world_members(&bench.world, &group), async || bench.get(&path).await.members()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn being_added_to_and_removed_from_a_group_shows() {
    let (bench, _, _) = ready_with_group(Addressing::Lid).await;
    let spec = rookery_simulator::GroupSpec::new("Bob's", BOB);
    let group = bench.world.add_group(spec);
    let path = format!("/sessions/alice/groups/{group}");
    assert_eq!(bench.get(&path).await.status, 404);
    bench.world.change_participants(&group, ParticipantChange::Add, BOB, &[ALICE]).unwrap();
    until_equal(200, async || bench.get(&path).await.status).await;
    assert_eq!(bench.get(&path).await.members(), world_members(&bench.world, &group));
    bench.world.change_participants(&group, ParticipantChange::Remove, BOB, &[ALICE]).unwrap();
    until_equal(404, async || bench.get(&path).await.status).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_while_disconnected_is_there_after_the_reconnect() {
    let (bench, group, path) = ready_with_group(Addressing::Lid).await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Drop { apply: false, now: true }));
    bench.world.change_participants(&group, ParticipantChange::Remove, BOB, &[CAROL]).unwrap();
    bench.world.change_subject(&group, BOB, "while you were away").unwrap();
    bench.until_status("alice", "disconnected").await;
    bench.until_status("alice", "ready").await;
    assert_eq!(bench.get(&path).await.members(), world_members(&bench.world, &group), "K-3");
    assert_eq!(bench.get(&path).await.body["name"], "while you were away");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_cannot_be_read_makes_no_other_one_wait() {
    const NEW_NUMBER: &str = "15550109999";
    let bench = Bench::with(|config| config.whatsapp_timeout_ms = 300).await;
    let (hurt, other) = (bench.group(&[BOB], Addressing::Pn), bench.group(&[CAROL], Addressing::Pn));
    bench.link("alice", ALICE).await;
    // A notification puts the group `hurt` in doubt, and the read of the group is not answered.
    let silence = Fault::new(FaultKind::Silence { apply: true }).at("w:g2:query").times(1);
    bench.world.add_fault(ALICE, silence);
    bench.world.change_number(BOB, "15550108888").unwrap();
    until("the read of the first group", async || (bench.world.requests(ALICE, "w:g2:query") > 0).then_some(())).await;
    // The next read of `hurt` is five seconds later. The notification about `other` must not wait for it.
    bench.world.change_number(CAROL, NEW_NUMBER).unwrap();
    let began = Instant::now();
    let path = format!("/sessions/alice/groups/{other}");
    until_equal(world_members(&bench.world, &other), async || bench.get(&path).await.members()).await;
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let path = format!("/sessions/alice/groups/{hurt}");
    until_equal(world_members(&bench.world, &hurt), async || bench.get(&path).await.members()).await;
}
