//! Webhooks of the real binary: kill -9 while a receiver drops, stalls and fails, and what must not be in the log.

use std::collections::BTreeMap;
use std::time::Duration;

use rookery_simulator::{AccountSpec, ParticipantChange};
use serde_json::{Value, json};

use super::backups::{Files, backup, restore};
use super::setup::{Daemon, OWN_PHONE, Setup};
use crate::harness::until;
use crate::receiver::{Arrived, BROKEN, OK, Reaction, Receiver};

const ROUNDS: u64 = 6;
const CHANGES_PER_ROUND: usize = 60;
const PERSON: &str = "15550100004";
const SECRET: &str = "a-webhook-secret-nobody-may-read";
const TOKEN: &str = "a-token-in-the-url";

/// Numbers that look random, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// Some reactions, of which two failures at most follow each other: after more of them a delivery waits for longer than a test.
    fn reactions(&mut self, count: usize) -> Vec<Reaction> {
        let mut failures = 0;
        let mut reaction = || {
            let (reaction, has_failed) = match self.next(8) {
                0 if failures < 2 => (BROKEN, true),
                1 if failures < 2 => (Reaction::Cut, true),
                2 => (Reaction::Silence(Duration::from_millis(self.next(150))), false),
                _ => (OK, false),
            };
            failures = if has_failed { failures + 1 } else { 0 };
            reaction
        };
        let mut reactions: Vec<Reaction> = (1..count).map(|_| reaction()).collect();
        reactions.push(OK);
        reactions
    }
}

/// A daemon that may deliver to this receiver.
pub(super) async fn daemon_for(setup: &Setup, receiver: &Receiver) -> Daemon {
    setup.daemon_with(&[("ROOKERY_FETCH_ALLOW", &format!("127.0.0.1:{}", receiver.port))]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_delivered_in_order_however_often_the_daemon_is_killed() {
    let (setup, receiver) = (Setup::start().await, Receiver::start().await);
    setup.world().add_account(AccountSpec::new(PERSON));
    let group = setup.group("Bustle", &[]);
    let mut daemon = daemon_for(&setup, &receiver).await;
    daemon.link("alice", OWN_PHONE).await;
    let url = receiver.url(&format!("/?{TOKEN}"));
    let body = json!({ "url": url, "events": ["group.join", "group.leave"], "secret": SECRET, "retryCount": 5 });
    let (status, made) = daemon.post("/api/sessions/alice/webhooks", body).await;
    assert_eq!(status, 201, "{made}");
    let mut chance = Chance(setup.simulator.seed());
    for _ in 0..ROUNDS {
        receiver.next(chance.reactions(12));
        for change in 0..CHANGES_PER_ROUND {
            let change = if change % 2 == 0 { ParticipantChange::Add } else { ParticipantChange::Remove };
            setup.world().change_participants(&group, change, OWN_PHONE, &[PERSON]).expect("an admin may");
        }
        tokio::time::sleep(Duration::from_millis(chance.next(400))).await;
        daemon.child.kill();
        daemon = daemon_for(&setup, &receiver).await;
        daemon.until_ready_by_itself("alice").await;
    }
    let path = format!("/api/sessions/alice/events?limit=1000&types=group.join,group.leave&after={}", made["position"]);
    let events = until("everything that is in the log", async || {
        let (_, page) = daemon.get(&path).await;
        let events = page["events"].as_array().expect("a list").clone();
        let arrived = receiver.arrived();
        let taken = by_number(&arrived);
        let is_all = events.iter().all(|event| taken.contains_key(&event["sequence"].as_u64().unwrap_or_default()));
        is_all.then_some(events)
    })
    .await;
    let arrived = receiver.arrived();
    let by_number = by_number(&arrived);
    assert!(events.len() > 50, "hardly anything happened: {}", events.len());
    assert_eq!(by_number.len(), events.len(), "nothing was invented");
    let firsts: Vec<u64> = first_of_each(&arrived);
    assert!(firsts.is_sorted(), "in order: {firsts:?}");
    for event in &events {
        let deliveries = &by_number[&event["sequence"].as_u64().expect("a number")];
        assert!(deliveries.iter().all(|one| one.raw == deliveries[0].raw), "the same delivery each time: {event}");
        assert_eq!(deliveries[0].body["data"]["participantIds"], event["data"]["participantIds"]);
    }
    for secret in [SECRET, TOKEN] {
        assert!(!daemon.child.output().contains(secret), "{secret} was logged");
    }
}

pub(super) fn by_number(arrived: &[Arrived]) -> BTreeMap<u64, Vec<&Arrived>> {
    let mut by_number = BTreeMap::<u64, Vec<&Arrived>>::new();
    for one in arrived {
        by_number.entry(one.sequence()).or_default().push(one);
    }
    by_number
}

/// The numbers in the order in which each came first.
pub(super) fn first_of_each(arrived: &[Arrived]) -> Vec<u64> {
    let mut firsts = Vec::new();
    for one in arrived {
        if !firsts.contains(&one.sequence()) {
            firsts.push(one.sequence());
        }
    }
    firsts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_was_acknowledged_goes_on_after_a_kill() {
    let (setup, receiver) = (Setup::start().await, Receiver::start().await);
    setup.world().add_account(AccountSpec::new(PERSON));
    let group = setup.group("Bustle", &[]);
    let mut daemon = daemon_for(&setup, &receiver).await;
    daemon.link("alice", OWN_PHONE).await;
    let body = json!({ "url": receiver.url("/"), "events": ["group.join", "group.leave"] });
    let (_, made) = daemon.post("/api/sessions/alice/webhooks", body).await;
    let webhook = format!("/api/sessions/alice/webhooks/{}", made["id"].as_str().expect("an id"));
    for change in [ParticipantChange::Add, ParticipantChange::Remove].into_iter().cycle().take(20) {
        setup.world().change_participants(&group, change, OWN_PHONE, &[PERSON]).expect("an admin may");
    }
    let first = until("all", async || Some(receiver.arrived()).filter(|arrived| arrived.len() == 20)).await;
    for (action, times) in [("replay", 2), ("resume", 3)] {
        receiver.always(Reaction::Cut);
        let from = json!({ "from": first[0].sequence() });
        assert_eq!(daemon.post(&format!("{webhook}/{action}"), from).await.0, 200, "{action}");
        daemon.child.kill();
        receiver.always(OK);
        daemon = daemon_for(&setup, &receiver).await;
        let count = |number: u64| receiver.arrived().iter().filter(|one| one.sequence() == number).count();
        let is_all = || first.iter().all(|one| count(one.sequence()) >= times);
        until(action, async || is_all().then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_session_takes_its_webhooks_with_it() {
    let (setup, receiver) = (Setup::start().await, Receiver::start().await);
    let daemon = daemon_for(&setup, &receiver).await;
    daemon.link("alice", OWN_PHONE).await;
    let body = json!({ "url": receiver.url("/"), "events": ["*"] });
    assert_eq!(daemon.post("/api/sessions/alice/webhooks", body).await.0, 201);
    let (_, listed) = daemon.get("/api/webhooks").await;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(daemon.delete("/api/sessions/alice", json!({})).await.0, 204);
    assert_eq!(daemon.get("/api/webhooks").await.1, Value::Array(Vec::new()));
    daemon.child.kill();
    let daemon = daemon_for(&setup, &receiver).await;
    assert_eq!(daemon.get("/api/webhooks").await.1, Value::Array(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_webhook_goes_on_with_what_happens_after_the_restore() {
    let (setup, receiver, files) = (Setup::start().await, Receiver::start().await, Files::new());
    let group = setup.group("Team", &[]);
    let daemon = daemon_for(&setup, &receiver).await;
    daemon.link("alice", OWN_PHONE).await;
    let body = json!({ "url": receiver.url("/"), "events": ["group.update"], "secret": SECRET });
    assert_eq!(daemon.post("/api/sessions/alice/webhooks", body).await.0, 201);
    let rename = async |subject: &str| {
        setup.world().change_subject(&group, OWN_PHONE, subject).expect("an admin may");
        until(subject, async || {
            let is_told = |one: &Arrived| one.body["data"]["changes"]["name"] == subject;
            receiver.arrived().into_iter().find(is_told)
        })
        .await
    };
    rename("before").await;
    let (data, file) = (setup.data_dir(), files.path("a.backup"));
    backup(&data, &file).await;
    rename("after").await;
    let (code, output) = restore(&data, &file, &["--force"]).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(!output.contains(SECRET));
    daemon.until_ready_by_itself("alice").await;
    let told = rename("much later").await;
    assert!(told.header("x-openwa-signature").starts_with("sha256="), "the secret is there: {told:?}");
}
