//! Linking a client, and logging in again.

use rookery_simulator::{AccountSpec, SimulatorError};
use whatsapp_rust::prelude::*;

use crate::support::{Session, simulator};

const ALICE: &str = "15550100001";

#[tokio::test]
async fn a_scanned_client_gets_the_phones_keys_and_name_and_is_connected() {
    let simulator = simulator().await;
    let world = simulator.world();
    world.add_account(AccountSpec { name: Some("Alice".into()), ..AccountSpec::new(ALICE) });

    let session = Session::linked(&simulator, ALICE).await;

    assert_eq!(session.client.push_name(), "Alice");
    assert_eq!(session.client.pn().map(|jid| jid.user.to_string()).as_deref(), Some(ALICE));
    assert_eq!(world.live_connections(ALICE), 1);
    assert_eq!(world.live_connections_max(ALICE), 1);
    session.stop().await;
}

#[tokio::test]
async fn a_qr_code_links_once() {
    let simulator = simulator().await;
    let session = Session::start(&simulator).await;
    let qr = session.qr().await;
    let phone = simulator.world().phone(ALICE);

    phone.scan_qr(&qr).expect("the first scan links");

    assert!(matches!(phone.scan_qr(&qr), Err(SimulatorError::UnknownQr)));
    assert!(matches!(phone.scan_qr("hello"), Err(SimulatorError::BadQr(_))));
    session.stop().await;
}

#[tokio::test]
async fn a_code_typed_on_the_phone_links_the_client() {
    let simulator = simulator().await;
    let world = simulator.world();
    let phone = world.phone(ALICE);
    let session = Session::start(&simulator).await;
    session.qr().await;
    let code = session.pairing_code(ALICE).await;

    assert!(matches!(world.phone("15550100002").enter_code(&code), Err(SimulatorError::NoPairingCode)));
    tokio::task::spawn_blocking(move || phone.enter_code(&code)).await.expect("no panic").expect("the code is taken");

    session.connected().await;
    assert_eq!(session.client.pn().map(|jid| jid.user.to_string()).as_deref(), Some(ALICE));
    session.stop().await;
}

#[tokio::test]
async fn a_linked_client_logs_in_again_with_the_short_handshake() {
    let simulator = simulator().await;
    let world = simulator.world();
    let store = Session::linked(&simulator, ALICE).await.stop().await;
    assert_eq!(world.requests(ALICE, "handshake:ik"), 0);

    let session = Session::resume(&simulator, store).await;
    session.connected().await;

    assert_eq!(world.requests(ALICE, "handshake:ik"), 1);
    assert_eq!(world.live_connections_max(ALICE), 1);
    session.stop().await;
}

#[tokio::test]
async fn an_unlinked_client_is_logged_out_and_not_let_in_again() {
    let simulator = simulator().await;
    let world = simulator.world();
    let session = Session::linked(&simulator, ALICE).await;

    world.phone(ALICE).unlink_devices();

    let logged_out = |event: &Event| match event {
        Event::LoggedOut(event) => Some(event.on_connect),
        _ => None,
    };
    assert!(!session.wait("logged out", logged_out).await);
    let session = Session::resume(&simulator, session.stop().await).await;
    assert!(session.wait("refused", logged_out).await);
    session.stop().await;
}

#[tokio::test]
async fn a_second_login_of_a_device_replaces_the_first() {
    let simulator = simulator().await;
    let session = Session::linked(&simulator, ALICE).await;

    let second = Session::resume(&simulator, session.store.clone()).await;

    session.wait("replaced", |event| matches!(event, Event::StreamReplaced(_)).then_some(())).await;
    assert_eq!(simulator.world().live_connections_max(ALICE), 2);
    second.stop().await;
    session.stop().await;
}
