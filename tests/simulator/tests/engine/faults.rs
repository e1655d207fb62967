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
