//! The event log of the real binary: kill -9 while events come, and backups of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rookery_simulator::{AccountSpec, ParticipantChange, World};
use serde_json::{Value, json};

use super::backups::{Files, backup, restore};
use super::setup::{Daemon, OWN_PHONE, Setup, until_groups_equal};
use crate::harness::until;

const ROUNDS: usize = 8;
pub(super) const PEOPLE: [&str; 3] = ["15550100004", "15550100005", "15550100006"];
/// From before the first event until after some hundred.
const TELLING_MS_MAX: u64 = 700;

/// All events after a cursor: page by page, until there are no more. Checks that the numbers have no gap.
pub(super) async fn events_after(daemon: &Daemon, cursor: &str, context: &str) -> (Vec<Value>, String) {
    let (mut events, mut cursor): (Vec<Value>, String) = (Vec::new(), cursor.to_owned());
    loop {
        let (status, page) = daemon.get(&format!("/api/sessions/alice/events?limit=100&after={cursor}")).await;
        assert_eq!(status, 200, "{context}: {page}");
        for event in page["events"].as_array().expect("a list") {
            let number = event["sequence"].as_u64().expect("a number");
            let before = events.last().and_then(|event| event["sequence"].as_u64());
            assert!(before.is_none_or(|before| before + 1 == number), "{context}: a gap before {number}");
            events.push(event.clone());
        }
        cursor = page["next"].as_str().expect("a cursor").to_owned();
        if page["hasMore"] == false {
            return (events, cursor);
        }
    }
}

/// The members that a group has for a reader of its events. Nobody comes or goes twice.
pub(super) fn members_by_events(events: &[Value], mut members: BTreeSet<String>, context: &str) -> BTreeSet<String> {
    for event in events {
        for id in event["data"]["participantIds"].as_array().into_iter().flatten() {
            let id = id.as_str().expect("an id").to_owned();
            let is_news = match event["event"].as_str().expect("a kind") {
                "group.join" => members.insert(id),
                "group.leave" => members.remove(&id),
                _ => true,
            };
            assert!(is_news, "{context}: told twice: {event}");
        }
    }
    members
}

/// Members come and go until this is told to stop.
pub(super) fn bustle(world: World, group: String, is_over: Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut nth = 0;
        while !is_over.load(Ordering::Relaxed) {
            let person = PEOPLE[nth % PEOPLE.len()];
            for change in [ParticipantChange::Add, ParticipantChange::Remove] {
                // Refused where the last round ended in between.
                let _ = world.change_participants(&group, change, OWN_PHONE, &[person]);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            nth += 1;
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_told_once_and_in_order_however_often_the_daemon_is_killed() {
    let setup = Setup::start().await;
    for person in PEOPLE {
        setup.world().add_account(AccountSpec::new(person));
    }
    let group = setup.group("Bustle", &[]);
    let mut daemon = setup.daemon().await;
    daemon.link("alice", OWN_PHONE).await;
    let (_, begin) = events_after(&daemon, "0", "the beginning").await;
    let (mut cursor, mut members) = (begin, BTreeSet::from([format!("{OWN_PHONE}@c.us")]));
    let (seed, mut told) = (setup.simulator.seed(), 0);
    for round in 0..ROUNDS {
        let context = format!("seed {seed}, round {round}");
        let is_over = Arc::new(AtomicBool::new(false));
        let bustling = bustle(setup.world(), group.clone(), Arc::clone(&is_over));
        let wait = (seed.rotate_left(u32::try_from(round).unwrap_or_default() * 7)) % TELLING_MS_MAX;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        // What was shown is on disk: it is there after the kill, and the same.
        let (shown, _) = events_after(&daemon, &cursor, &context).await;
        daemon = setup.restart_killed(daemon).await;
        is_over.store(true, Ordering::Relaxed);
        bustling.await.expect("no panic");
        daemon.until_ready_by_itself("alice").await;
        until_groups_equal(&daemon, "alice", &setup.world(), OWN_PHONE).await;
        let now: BTreeSet<String> = setup
            .world()
            .group(&group)
            .expect("it is there")
            .participants
            .into_iter()
            .map(|who| format!("{}@c.us", who.phone))
            .collect();
        // The last change may be on its way to the log when the cache shows it.
        let settled = async || {
            let (events, end) = events_after(&daemon, &cursor, &context).await;
            let after = members_by_events(&events, members.clone(), &context);
            (after == now).then_some((events, end))
        };
        let (events, end) = until("events that add up", settled).await;
        assert_eq!(events[..shown.len()], shown[..], "{context}: what was shown is as it was");
        (cursor, members, told) = (end, now, told + events.len());
    }
    assert!(told > ROUNDS * 4, "hardly anything happened: {told}");
    let (all, _) = events_after(&daemon, "0", "the end").await;
    assert_eq!(all[0]["sequence"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_log_has_its_events_and_begins_a_new_epoch() {
    let (setup, files) = (Setup::start().await, Files::new());
    let group = setup.group("Team", &[]);
    let daemon = setup.daemon().await;
    daemon.link("alice", OWN_PHONE).await;
    let subject = async |daemon: &Daemon, subject: &str| {
        let path = format!("/api/sessions/alice/groups/{group}/subject");
        let (status, body) = daemon.put(&path, json!({ "subject": subject })).await;
        assert_eq!(status, 200, "{body}");
        until("the event", async || {
            let (events, _) = events_after(daemon, "0", subject).await;
            events.iter().any(|event| event["data"]["changes"]["name"] == subject).then_some(())
        })
        .await;
    };
    subject(&daemon, "before").await;
    let (data, file) = (setup.data_dir(), files.path("a.backup"));
    backup(&data, &file).await;
    let (before, cursor_before) = events_after(&daemon, "0", "before").await;
    subject(&daemon, "after").await;
    let (_, cursor_after) = events_after(&daemon, "0", "after").await;
    let mut epochs = BTreeSet::from([epoch_of(&cursor_before)]);
    for round in 0..2 {
        let (code, output) = restore(&data, &file, &["--force"]).await;
        assert_eq!(code, Some(0), "{output}");
        daemon.until_ready_by_itself("alice").await;
        for cursor in [&cursor_before, &cursor_after] {
            let (status, gone) = daemon.get(&format!("/api/sessions/alice/events?after={cursor}")).await;
            assert_eq!((status, &gone["code"]), (410, &json!("events_gone")), "{gone}");
            let oldest = gone["oldest"].as_str().expect("a cursor");
            assert!(epochs.iter().all(|epoch| *epoch < epoch_of(oldest)), "{oldest} after {epochs:?}");
            let (events, _) = events_after(&daemon, oldest, "restored").await;
            assert_eq!(events[..before.len()], before[..], "round {round}");
            // What happened after the backup was made is found once more, as it is news to this log.
            until("the difference", async || {
                let (events, _) = events_after(&daemon, oldest, "restored").await;
                let found = events.iter().find(|event| event["data"]["changes"]["name"] == "after").cloned();
                found.filter(|event| event["data"]["reconciled"] == true)
            })
            .await;
        }
        let (_, page) = daemon.get("/api/sessions/alice/events").await;
        epochs.insert(epoch_of(page["next"].as_str().expect("a cursor")));
    }
    assert_eq!(epochs.len(), 3, "each restore has an epoch of its own");
    let logs = std::fs::read_dir(std::path::Path::new(&data).join("events")).expect("a directory").count();
    assert_eq!(logs, 1, "logs that were replaced are removed");
}

fn epoch_of(cursor: &str) -> u64 {
    cursor.split_once('-').expect("a cursor").0.parse().expect("a number")
}
