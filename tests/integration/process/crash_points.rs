//! The real binary dies at each place on the way of an event, from the log to a webhook's receiver: every event is told once, in order,
//! and adds up to what the group is; every event is delivered.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rookery_simulator::AccountSpec;
use serde_json::json;

use super::delivered::{by_number, daemon_for, first_of_each};
use super::setup::{OWN_PHONE, Setup, TIME_MAX, until_groups_equal};
use super::told::{PEOPLE, bustle, events_after, members_by_events};
use crate::harness::until;
use crate::receiver::Receiver;

/// The crashes at each place: during the start, and while events come.
const TIMES: [u32; 4] = [1, 2, 5, 9];
/// The same at a place that is reached once a second.
const RARE_TIMES: [u32; 3] = [1, 2, 3];

async fn dies_at(point: &str, times: &[u32]) {
    let (setup, receiver) = (Setup::start().await, Receiver::start().await);
    for person in PEOPLE {
        setup.world().add_account(AccountSpec::new(person));
    }
    let group = setup.group("Bustle", &[]);
    let allowed = format!("127.0.0.1:{}", receiver.port);
    let daemon = daemon_for(&setup, &receiver).await;
    daemon.link("alice", OWN_PHONE).await;
    let body = json!({ "url": receiver.url("/"), "events": ["group.join", "group.leave"] });
    let (status, made) = daemon.post("/api/sessions/alice/webhooks", body).await;
    assert_eq!(status, 201, "{made}");
    let (_, begin) = events_after(&daemon, "0", point).await;
    daemon.child.kill();
    for nth in times {
        let crash = format!("{point}:{nth}");
        let is_over = Arc::new(AtomicBool::new(false));
        let bustling = bustle(setup.world(), group.clone(), Arc::clone(&is_over));
        let child = setup.spawn_daemon(&[("ROOKERY_FETCH_ALLOW", &allowed), ("ROOKERY_CRASH_AT", &crash)]);
        assert_eq!(child.until_exit(TIME_MAX).await, None, "it did not abort at {crash}");
        is_over.store(true, Ordering::Relaxed);
        bustling.await.expect("no panic");
    }
    let daemon = daemon_for(&setup, &receiver).await;
    daemon.until_ready_by_itself("alice").await;
    until_groups_equal(&daemon, "alice", &setup.world(), OWN_PHONE).await;
    let members = setup.world().group(&group).expect("it is there").participants;
    let now: BTreeSet<String> = members.into_iter().map(|who| format!("{}@c.us", who.phone)).collect();
    let events = until("events that add up", async || {
        let (events, _) = events_after(&daemon, &begin, point).await;
        let own = BTreeSet::from([format!("{OWN_PHONE}@c.us")]);
        (members_by_events(&events, own, point) == now).then_some(events)
    })
    .await;
    let wanted = |event: &&serde_json::Value| matches!(event["event"].as_str(), Some("group.join" | "group.leave"));
    let numbers: BTreeSet<u64> = events.iter().filter(wanted).filter_map(|event| event["sequence"].as_u64()).collect();
    assert!(numbers.len() > 8, "{point}: hardly anything happened: {numbers:?}");
    until("all deliveries", async || {
        let arrived = receiver.arrived();
        let taken: BTreeSet<u64> = by_number(&arrived).into_keys().collect();
        (taken == numbers).then_some(())
    })
    .await;
    let arrived = receiver.arrived();
    assert!(first_of_each(&arrived).is_sorted(), "{point}: in order");
    for deliveries in by_number(&arrived).into_values() {
        assert!(deliveries.iter().all(|one| one.raw == deliveries[0].raw), "{point}: the same delivery each time");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_not_in_the_log_yet_come_later() {
    dies_at("BeforeLog", &TIMES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_in_the_log_and_were_not_told_are_told() {
    dies_at("Logged", &TIMES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_were_told_and_are_not_in_the_store_are_not_told_again() {
    dies_at("Published", &TIMES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_in_the_store_are_not_told_again() {
    dies_at("Stored", &TIMES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_whose_position_was_not_written_comes_again() {
    dies_at("Delivered", &TIMES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_go_on_from_a_position_that_was_written() {
    dies_at("PositionSaved", &RARE_TIMES).await;
}
