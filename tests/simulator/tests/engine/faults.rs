//! Faults, as the client meets them.

use std::time::Duration;

use rookery_simulator::{Fault, FaultKind, GroupSpec, Simulator};
use whatsapp_rust::prelude::*;
use whatsapp_rust::{GroupError, GroupSubject, IqError, Jid};

use crate::support::{Session, simulator};

const ALICE: &str = "15550100001";

async fn with_group() -> (Simulator, Session, Jid) {
    let simulator = simulator().await;
    let gid = simulator.world().add_group(GroupSpec::new("Team", ALICE));
    let session = Session::linked(&simulator, ALICE).await;
    (simulator, session, gid.parse().expect("a JID"))
}

async fn rename(session: &Session, id: &Jid) -> Result<(), GroupError> {
    session.client.groups().set_subject(id, GroupSubject::new("Renamed").expect("valid")).await
}

fn subject(simulator: &Simulator, id: &Jid) -> String {
    simulator.world().group(&id.to_string()).expect("there").subject
}

#[tokio::test]
async fn a_request_is_refused_once_with_a_backoff() {
    let (simulator, session, id) = with_group().await;
    simulator.world().add_fault(ALICE, Fault::new(FaultKind::Refuse { code: 429, backoff_s: Some(7) }));

    let refused = rename(&session, &id).await;

    assert!(
        matches!(refused, Err(GroupError::Iq(IqError::ServerError { code: 429, backoff: Some(7), .. }))),
        "{refused:?}"
    );
    assert_eq!(subject(&simulator, &id), "Team");
    rename(&session, &id).await.expect("the second is not hit");
    session.stop().await;
}

#[tokio::test]
async fn a_silent_server_may_have_applied_the_change() {
    let (simulator, session, id) = with_group().await;
    for apply in [false, true] {
        simulator.world().add_fault(ALICE, Fault::new(FaultKind::Silence { apply }).at("subject"));
        let answer = tokio::time::timeout(Duration::from_millis(300), rename(&session, &id)).await;
        assert!(answer.is_err(), "there is no answer");
        assert_eq!(subject(&simulator, &id) == "Renamed", apply);
    }
    session.stop().await;
}

#[tokio::test]
async fn a_cut_connection_comes_back() {
    let (simulator, session, id) = with_group().await;
    simulator.world().add_fault(ALICE, Fault::new(FaultKind::Drop { apply: true, now: false }));

    rename(&session, &id).await.expect_err("the connection is gone");

    assert_eq!(subject(&simulator, &id), "Renamed");
    session.connected().await;
    assert_eq!(simulator.world().live_connections_max(ALICE), 1);
    session.stop().await;
}

#[tokio::test]
async fn a_late_answer_is_an_answer() {
    let (simulator, session, id) = with_group().await;
    simulator.world().add_fault(ALICE, Fault::new(FaultKind::Slow { delay_ms: 100 }).at("w:g2:subject"));
    let started = std::time::Instant::now();

    rename(&session, &id).await.expect("answered");

    assert!(started.elapsed() >= Duration::from_millis(100));
    session.stop().await;
}

#[tokio::test]
async fn changes_outside_of_the_group_namespace_run_into_faults_too() {
    let (simulator, session, id) = with_group().await;
    let (world, groups) = (simulator.world(), session.client.groups());
    let is_limited = || world.group(&id.to_string()).expect("there").limit_sharing;
    let refuse = FaultKind::Refuse { code: 429, backoff_s: Some(7) };

    // One fault for each name of the operation, and one that names nothing.
    let names =
        ["update_group_property", "WAWebMexUpdateGroupPropertyJobMutation", "w:mex:update_group_property", "w:mex"];
    let faults = names.map(|name| Fault::new(refuse).at(name)).into_iter().chain([Fault::new(refuse)]);
    for fault in faults {
        world.add_fault(ALICE, fault.clone());
        let refused = groups.set_limit_sharing(&id, true).await.expect_err("refused");
        assert!(format!("{refused:?}").contains("429"), "{fault:?}: {refused:?}");
    }
    assert!(!is_limited());
    assert_eq!(world.requests(ALICE, "w:mex:update_group_property"), 5);

    for apply in [false, true] {
        world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply }).at("update_group_property"));
        let set = groups.set_limit_sharing(&id, true);
        assert!(tokio::time::timeout(Duration::from_millis(300), set).await.is_err(), "there is no answer");
        assert_eq!(is_limited(), apply);
    }

    world.add_fault(ALICE, Fault::new(FaultKind::Drop { apply: true, now: false }).at("w:profile:picture:set"));
    groups.set_profile_picture(&id, vec![0xFF, 0xD8, 0xFF]).await.expect_err("the connection is gone");
    assert!(world.group(&id.to_string()).expect("there").picture_id.is_some());
    session.connected().await;
    session.stop().await;
}

#[tokio::test]
async fn a_stream_error_is_survived_and_a_ban_is_not() {
    let (simulator, session, _) = with_group().await;
    simulator.world().add_fault(ALICE, Fault::new(FaultKind::StreamError));
    session.connected().await;

    simulator.world().add_fault(ALICE, Fault::new(FaultKind::Ban));
    session.wait("the ban", |event| matches!(event, Event::TemporaryBan(_)).then_some(())).await;

    let session = Session::resume(&simulator, session.stop().await).await;
    session.wait("the ban at login", |event| matches!(event, Event::TemporaryBan(_)).then_some(())).await;
    let session = Session::resume(&simulator, session.stop().await).await;
    session.connected().await;
    session.stop().await;
}
