//! kill -9 at seeded moments: while the daemon writes, while it starts, while a phone is being linked. Afterwards the
//! same data directory must be good, and everything that was acknowledged must be true.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Method;
use rookery_simulator::{AccountSpec, Fault, FaultKind, World};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::setup::{Daemon, OWN_PHONE, Setup, devices, groups_of, until_groups_equal};
use crate::harness::until;

/// The request to unlink a device, as the simulator names it.
const UNLINK: &str = "md:remove-companion-device";
/// Each round has a kill during writes and another during the start after it.
const WRITE_ROUNDS: usize = 6;
const LINK_ROUNDS: usize = 10;
/// Time enough for some dozens of writes.
const WRITING_MS_MAX: u64 = 400;
/// From before the store is open until after the session is ready.
const STARTING_MS_MAX: u64 = 600;
/// From the scan until after the session is ready.
const LINKING_MS_MAX: u64 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_daemon_acknowledged_before_it_was_killed_is_true_after_it() {
    let setup = Setup::start().await;
    let (team, crowd) = (setup.group("Team", &["15550100002"]), setup.group("Crowd", &["15550100003"]));
    let mut moments = Moments::of(&setup);
    let mut daemon = Arc::new(setup.daemon().await);
    daemon.link("alice", OWN_PHONE).await;

    for round in 0..WRITE_ROUNDS {
        let subjects = write_subjects(&daemon, &team, round);
        let participants = add_participants(&daemon, &setup.world(), &crowd, round);
        tokio::time::sleep(moments.next(WRITING_MS_MAX)).await;
        daemon.child.kill();

        let context = format!("{moments:?}, round {round}");
        let (subjects, participants) = (subjects.await.expect("no panic"), participants.await.expect("no panic"));
        assert_subject_is_the_last(&setup.world(), &team, round, &subjects, &context);
        assert_all_are_members(&setup.world(), &crowd, &participants, &context);

        // This daemon has acknowledged nothing: it may be killed at any moment of its start.
        let starting = setup.spawn_daemon(&[]);
        tokio::time::sleep(moments.next(STARTING_MS_MAX)).await;
        starting.kill();

        daemon = Arc::new(setup.daemon().await);
        daemon.until_ready_by_itself("alice").await;
        until_groups_equal(&daemon, "alice", &setup.world(), OWN_PHONE).await;
        setup.assert_one_device(OWN_PHONE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_while_a_phone_is_being_linked_can_link_it_again() {
    let setup = Setup::start().await;
    let mut moments = Moments::of(&setup);
    for round in 0..LINK_ROUNDS {
        let (session, phone) = (format!("alice-{round}"), format!("15550101{round:03}"));
        setup.world().add_account(AccountSpec::new(&phone));
        let daemon = Arc::new(setup.daemon().await);
        daemon.create_started(&session).await;
        daemon.scan(&session, &phone).await;
        let seen = watch_status(&daemon, &session);
        tokio::time::sleep(moments.next(LINKING_MS_MAX)).await;
        daemon.child.kill();
        let seen = seen.await.expect("no panic");

        let context = format!("{moments:?}, round {round}, `{seen}` when it was killed");
        let daemon = setup.daemon().await;
        come_back(&daemon, &session, &phone, seen == "ready", &context).await;
        let (status, groups) = daemon.get(&groups_of(&session, "")).await;
        assert_eq!((status, groups), (200, json!([])), "{context}");
        assert_eq!(setup.world().live_connections_max(&phone), 1, "{context}");
        let (status, deleted) = daemon.delete(&format!("/api/sessions/{session}"), json!({})).await;
        assert_eq!(status, 204, "{context}: {deleted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_a_kill_cut_off_is_finished_at_the_next_start() {
    let setup = Setup::start().await;
    let daemon = Arc::new(setup.daemon().await);
    daemon.link("alice", OWN_PHONE).await;
    // WhatsApp does not answer the first request to unlink the device, and does not do it.
    let silence = Fault::new(FaultKind::Silence { apply: false }).at(UNLINK);
    setup.world().add_fault(OWN_PHONE, silence);
    let world = setup.world();
    let asked = || world.requests(OWN_PHONE, UNLINK);
    let asked_before = asked();
    let deleting = tokio::spawn({
        let daemon = Arc::clone(&daemon);
        async move { daemon.try_request(Method::DELETE, "/api/sessions/alice", None).await }
    });
    until("the request to unlink", async || (asked() > asked_before).then_some(())).await;
    daemon.child.kill();
    assert!(deleting.await.expect("no panic").is_err(), "it was not answered");
    assert_eq!(devices(&world, OWN_PHONE), 1);

    let daemon = setup.daemon().await;
    assert_eq!(daemon.get("/api/sessions").await, (200, json!([])));
    let finished =
        async || (daemon.get("/api/audit?action=sessions.deletion_finished").await.1["total"] == 1).then_some(());
    until("the record of the deletion", finished).await;
    assert_eq!(devices(&world, OWN_PHONE), 0);
}

/// Waits until the session is ready by itself, which it must be when it was ready before. Else the phone is linked once
/// more.
async fn come_back(daemon: &Daemon, session: &str, phone: &str, was_ready: bool, context: &str) {
    let settled = |now: &Value| match now["status"].as_str().unwrap_or_default() {
        "ready" => Some(String::new()),
        // The phone's confirmation had not reached the daemon: the session waits for a phone as before.
        "qr_ready" => Some("qr_ready".to_owned()),
        "disconnected" if now["engineLoaded"] == false => {
            Some(now["lastError"].as_str().unwrap_or_default().to_owned())
        }
        "action_required" | "failed" | "created" => panic!("{context}: {now:#}"),
        _ => None,
    };
    let outcome = daemon.until_session(session, &format!("settled ({context})"), settled).await;
    if outcome.is_empty() {
        return;
    }
    assert!(!was_ready, "{context}: it was ready, and has to be linked again: {outcome}");
    if outcome != "qr_ready" {
        assert!(outcome.contains("linking was interrupted") && outcome.contains("remove"), "{context}: {outcome}");
        let (status, started) = daemon.post(&format!("/api/sessions/{session}/start"), json!({})).await;
        assert_eq!(status, 200, "{context}: {started}");
    }
    daemon.scan(session, phone).await;
    daemon.until_ready(session).await;
}

/// The last status that the session was seen in before the daemon was gone.
fn watch_status(daemon: &Arc<Daemon>, session: &str) -> JoinHandle<String> {
    let (daemon, path) = (Arc::clone(daemon), format!("/api/sessions/{session}"));
    tokio::spawn(async move {
        let mut last = String::new();
        while let Ok((200, now)) = daemon.try_request(Method::GET, &path, None).await {
            last = now["status"].as_str().unwrap_or_default().to_owned();
        }
        last
    })
}

/// Changes the subject until the daemon is gone. Returns the subjects that were sent, and how many were acknowledged.
fn write_subjects(daemon: &Arc<Daemon>, group: &str, round: usize) -> JoinHandle<(Vec<String>, usize)> {
    let (daemon, path) = (Arc::clone(daemon), groups_of("alice", &format!("/{group}/subject")));
    tokio::spawn(async move {
        let mut sent = Vec::new();
        loop {
            let subject = format!("subject {round}.{}", sent.len());
            sent.push(subject.clone());
            match daemon.try_request(Method::PUT, &path, Some(json!({ "subject": subject }))).await {
                Ok((200, _)) => {}
                Ok(answer) => panic!("{path}: {answer:?}"),
                Err(_) => return (sent.clone(), sent.len() - 1),
            }
        }
    })
}

/// Adds one person after the other until the daemon is gone. Returns the people whose add was acknowledged.
fn add_participants(daemon: &Arc<Daemon>, world: &World, group: &str, round: usize) -> JoinHandle<Vec<String>> {
    let (daemon, path) = (Arc::clone(daemon), groups_of("alice", &format!("/{group}/participants")));
    let (world, count) = (world.clone(), AtomicUsize::new(0));
    tokio::spawn(async move {
        let mut added = Vec::new();
        loop {
            let phone = format!("15550{:06}", 200_000 + round * 1_000 + count.fetch_add(1, Ordering::Relaxed));
            world.add_account(AccountSpec::new(&phone));
            match daemon.try_request(Method::POST, &path, Some(json!({ "participants": [phone] }))).await {
                Ok((200, answer)) if answer["results"][0]["success"] == true => added.push(phone),
                Ok(answer) => panic!("{path}: {answer:?}"),
                Err(_) => return added,
            }
        }
    })
}

/// The subject is the last one that was acknowledged, or the one after it, whose answer was lost.
fn assert_subject_is_the_last(
    world: &World,
    group: &str,
    round: usize,
    (sent, acknowledged): &(Vec<String>, usize),
    context: &str,
) {
    let now = world.group(group).expect("the group exists").subject;
    let at = sent.iter().position(|subject| *subject == now);
    let is_last = match acknowledged {
        0 => at.is_none_or(|at| at == 0),
        count => at.is_some_and(|at| at + 1 >= *count),
    };
    assert!(is_last, "{context}: {acknowledged} of round {round} were acknowledged, but it is `{now}`");
}

fn assert_all_are_members(world: &World, group: &str, participants: &[String], context: &str) {
    let members = world.group(group).expect("the group exists").participants;
    for phone in participants {
        let is_member = members.iter().any(|member| member.phone == *phone);
        assert!(is_member, "{context}: adding {phone} was acknowledged, but only these are members: {members:?}");
    }
}

/// Random moments from the simulator's seed, which is printed when the test fails.
#[derive(Debug)]
struct Moments {
    #[expect(dead_code, reason = "printed when a test fails")]
    seed: u64,
    state: u64,
    last_ms: u64,
}

impl Moments {
    fn of(setup: &Setup) -> Self {
        let seed = setup.simulator.seed();
        Self { seed, state: seed, last_ms: 0 }
    }

    /// A random time below `ms_max`, by SplitMix64.
    fn next(&mut self, ms_max: u64) -> Duration {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.last_ms = (mixed ^ (mixed >> 31)) % ms_max;
        Duration::from_millis(self.last_ms)
    }
}
