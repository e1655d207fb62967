//! A simulator that is stopped and started again on the same file, and what it remembers of groups.

use std::net::SocketAddr;
use std::path::PathBuf;

use rookery_simulator::{GroupSpec, ParticipantChange, Role, Simulator, SimulatorError, SimulatorOptions};
use whatsapp_rust::{GroupSubject, Jid};

use crate::support::{Session, simulator};

const ALICE: &str = "15550100001";
const BOB: &str = "15550100002";

/// A file of this test's own, which is gone afterwards.
struct StateFile(PathBuf);

impl StateFile {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("rookery-simulator-{}-{name}.json", std::process::id())))
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        // The file may never have been written.
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn started(listen: SocketAddr, file: &StateFile) -> Simulator {
    let options = SimulatorOptions { listen, state: Some(file.0.clone()), ..Default::default() };
    Simulator::start(options).await.expect("the simulator starts")
}

#[tokio::test]
async fn a_restarted_simulator_knows_devices_groups_and_what_waits() {
    let file = StateFile::new("restarted");
    let simulator = started(SocketAddr::from(([127, 0, 0, 1], 0)), &file).await;
    let address: SocketAddr = simulator.url().split('/').nth(2).and_then(|host| host.parse().ok()).expect("an address");
    let session = Session::linked(&simulator, ALICE).await;
    let world = simulator.world();
    world.set_contact(ALICE, BOB, "Bob");
    let gid = world.add_group(GroupSpec { participants: vec![BOB.into()], ..GroupSpec::new("Team", ALICE) });
    let id: Jid = gid.parse().expect("a JID");
    session.notified("create").await;
    session.client.send_text(Jid::pn(BOB), "before").await.expect("sent");
    crate::support::until("Bob's phone has it", || world.messages(BOB).len() == 1).await;
    let store = session.stop().await;
    world.change_participants(&gid, ParticipantChange::Promote, ALICE, &[BOB]).expect("promoted");
    world.change_subject(&gid, BOB, "Sales @ Lagos").expect("renamed");
    let (seed, before) = (simulator.seed(), world.group(&gid));
    simulator.stop().await.expect("written");

    let simulator = started(address, &file).await;
    assert_eq!((simulator.seed(), simulator.world().group(&gid)), (seed, before));
    let session = Session::resume(&simulator, store).await;
    session.notified("promote").await;
    session.notified("subject").await;
    session.client.groups().set_subject(&id, GroupSubject::new("Renamed").expect("valid")).await.expect("renamed");
    session.client.send_text(Jid::pn(BOB), "after").await.expect("sent");

    let world = simulator.world();
    crate::support::until("Bob's phone has both", || world.messages(BOB).len() == 2).await;
    assert_eq!(world.messages(BOB)[1].text.as_deref(), Some("after"), "decrypted with the session from before");
    let group = world.group(&gid).expect("there");
    assert_eq!((group.subject.as_str(), group.participants[1].role), ("Renamed", Role::Admin));
    assert_eq!(world.live_connections_max(ALICE), 1);
    session.stop().await;
}

#[tokio::test]
async fn a_file_that_is_no_world_is_refused_by_name() {
    let file = StateFile::new("broken");
    std::fs::write(&file.0, "{}").expect("written");

    let options = SimulatorOptions { state: Some(file.0.clone()), ..Default::default() };
    let refused = Simulator::start(options).await.map(|_| ()).expect_err("refused");

    assert!(matches!(&refused, SimulatorError::StateFile { path, .. } if *path == file.0), "{refused:?}");
}

#[tokio::test]
async fn the_history_has_every_state_of_a_group_with_its_author_until_it_is_fetched() {
    let simulator = simulator().await;
    let world = simulator.world();
    let gid = world.add_group(GroupSpec::new("Team", ALICE));
    world.phone(BOB);
    assert!(world.history_after(0).is_empty(), "nobody asked for it yet");

    world.record_history(true);
    world.change_participants(&gid, ParticipantChange::Add, ALICE, &[BOB]).expect("added");
    world.change_participants(&gid, ParticipantChange::Promote, ALICE, &[ALICE]).expect("no change");
    world.leave(&gid, BOB).expect("left");

    let history = world.history_after(0);
    let sizes = |change: &rookery_simulator::GroupChange| change.view.as_ref().map(|view| view.participants.len());
    assert_eq!(history.iter().map(sizes).collect::<Vec<_>>(), [Some(1), Some(2), Some(1)]);
    let actors: Vec<_> = history.iter().map(|change| change.actor.as_deref()).collect();
    assert_eq!(actors, [None, Some(ALICE), Some(BOB)]);
    assert!(history.is_sorted_by_key(|change| (change.number, change.at_us)));
    assert_eq!(world.history_after(2).len(), 1);
    assert_eq!(world.history_after(0).len(), 1, "what was fetched is forgotten");
}
