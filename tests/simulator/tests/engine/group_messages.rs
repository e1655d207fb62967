//! Messages to groups, receipts, and what happens when somebody cannot read.

use std::sync::Arc;

use rookery_simulator::{GroupSpec, Mail, ParticipantChange, Simulator, World};
use whatsapp_rust::Jid;
use whatsapp_rust::prelude::*;
use whatsapp_rust::types::presence::ReceiptType;

use crate::support::{Session, simulator, until};

const ALICE: &str = "15550100001";
const BOB: &str = "15550100002";
const CAROL: &str = "15550100003";

fn text(text: &str) -> wa::Message {
    wa::Message { conversation: Some(text.to_owned()), ..Default::default() }
}

async fn send(session: &Session, gid: &str, message: wa::Message) -> String {
    let group: Jid = gid.parse().expect("an id");
    session.client.send_message(group, message).await.expect("sent").message_id
}

fn texts(world: &World, phone: &str) -> Vec<String> {
    world.messages(phone).into_iter().filter_map(|message| message.text).collect()
}

/// Alice and Bob are linked, Carol has a phone alone.
async fn team(simulator: &Simulator) -> (Session, Session, String) {
    let participants = vec![BOB.into(), CAROL.into()];
    let gid = simulator.world().add_group(GroupSpec { participants, ..GroupSpec::new("Team", ALICE) });
    (Session::linked(simulator, ALICE).await, Session::linked(simulator, BOB).await, gid)
}

#[tokio::test]
async fn every_member_reads_what_is_written_to_a_group_and_says_so() {
    let simulator = simulator().await;
    let world = simulator.world();
    let (alice, bob, gid) = team(&simulator).await;

    let first = send(&alice, &gid, text("hello, all")).await;
    let second = send(&alice, &gid, text("and again")).await;

    assert_eq!(bob.message(&first).await.conversation.as_deref(), Some("hello, all"));
    assert_eq!(bob.message(&second).await.conversation.as_deref(), Some("and again"));
    for phone in [BOB, CAROL] {
        until("both messages", || world.messages(phone).len() == 2).await;
        assert_eq!(texts(&world, phone), ["hello, all", "and again"]);
        let message = &world.messages(phone)[0];
        assert_eq!((message.chat.as_str(), message.sender.as_str(), &message.id), (gid.as_str(), ALICE, &first));
    }
    // Alice's own phone has a copy.
    assert!(world.messages(ALICE).is_empty());
    until("the copies", || world.sent_messages(ALICE).len() == 2).await;
    let told = |id: &str, from: &str| world.receipts(ALICE).iter().any(|told| told.id == id && told.from == from);
    until("the receipts", || [&first, &second].iter().all(|id| told(id, BOB) && told(id, CAROL))).await;
    assert!(world.receipts(ALICE).iter().all(|receipt| receipt.kind == "delivered" && receipt.chat == gid));
    let read = world.read_chat(CAROL, &gid).expect("read");
    assert_eq!(read, [first.clone(), second]);
    let reader = alice.receipt(&first, &ReceiptType::Read).await;
    assert!(reader.is_lid() && reader.device == 0, "{reader}");
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn phones_write_to_groups_and_to_people() {
    let simulator = simulator().await;
    let world = simulator.world();
    let (alice, bob, gid) = team(&simulator).await;

    let to_all = world.send(CAROL, &gid, Mail::text("to all")).expect("sent");
    let own = world.send(ALICE, &gid, Mail::text("from my phone")).expect("sent");
    let to_bob = world.send(ALICE, BOB, Mail::text("to Bob")).expect("sent");

    for session in [&alice, &bob] {
        assert_eq!(session.message(&to_all).await.conversation.as_deref(), Some("to all"));
    }
    let is_own = |event: &Event| match event {
        Event::Messages(batch) => {
            batch.iter().find(|inbound| inbound.info.id == own).map(|inbound| inbound.info.source.is_from_me)
        }
        _ => None,
    };
    assert!(alice.wait("the own message", is_own).await);
    let copy = alice.message(&to_bob).await;
    let copied = copy.device_sent_message.as_option().and_then(|copy| copy.message.as_option()).unwrap_or(&copy);
    assert_eq!(copied.conversation.as_deref(), Some("to Bob"));
    assert_eq!(bob.message(&to_bob).await.conversation.as_deref(), Some("to Bob"));
    assert_eq!(texts(&world, BOB), ["to all", "from my phone", "to Bob"]);
    let refused = world.send(CAROL, "120363000000000009@g.us", Mail::text("to nobody"));
    assert!(refused.is_err());
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn somebody_who_was_removed_cannot_read_the_next_message() {
    let simulator = simulator().await;
    let world = simulator.world();
    let (alice, bob, gid) = team(&simulator).await;
    let before = send(&alice, &gid, text("with Carol")).await;
    bob.message(&before).await;
    until("Carol's message", || world.messages(CAROL).len() == 1).await;
    world.switch_phone(CAROL, false);
    let unread = send(&alice, &gid, text("still with Carol")).await;
    bob.message(&unread).await;
    assert_eq!(world.could_read_last(CAROL, &gid), Some(true));
    world.switch_phone(CAROL, true);

    world.change_participants(&gid, ParticipantChange::Remove, ALICE, &[CAROL]).expect("removed");
    alice.notified("remove").await;
    let after = send(&alice, &gid, text("without Carol")).await;

    assert_eq!(bob.message(&after).await.conversation.as_deref(), Some("without Carol"));
    assert_eq!(texts(&world, CAROL), ["with Carol", "still with Carol"]);
    assert_eq!(world.could_read_last(CAROL, &gid), Some(false));
    assert_eq!(texts(&world, BOB).len(), 3);
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn a_group_refuses_those_who_may_not_write() {
    let simulator = simulator().await;
    let world = simulator.world();
    let (alice, bob, gid) = team(&simulator).await;
    send(&bob, &gid, text("while everybody may")).await;
    until("the message", || world.messages(CAROL).len() == 1).await;

    world.change_announce(&gid, ALICE, true).expect("set");
    let id = send(&bob, &gid, text("now only admins may")).await;

    let refused = |event: &Event| match event {
        Event::ServerAck(ack) if ack.id == id => Some(ack.error.clone()),
        _ => None,
    };
    assert_eq!(bob.wait("the refusal", refused).await.as_deref(), Some("403"));
    let allowed = send(&alice, &gid, text("an admin")).await;
    bob.message(&allowed).await;
    assert_eq!(texts(&world, CAROL), ["while everybody may", "an admin"]);
    assert!(world.send(CAROL, &gid, Mail::text("a member")).is_err());
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn who_cannot_read_asks_again_and_gets_the_message_once() {
    let simulator = simulator().await;
    let world = simulator.world();
    let (alice, bob, gid) = team(&simulator).await;
    send(&alice, &gid, text("first")).await;
    until("the first", || world.messages(CAROL).len() == 1).await;

    // A phone that lost its keys asks the session.
    world.lose_sender_keys(CAROL, &gid);
    let second = send(&alice, &gid, text("second")).await;
    until("the second, sent again", || world.messages(CAROL).len() == 2).await;
    assert_eq!((world.messages(CAROL)[1].id.as_str(), world.messages(CAROL)[1].times), (second.as_str(), 1));

    // A session that never got the key asks the phone.
    let lost = Mail { lose_key: true, ..Mail::text("third") };
    let third = world.send(CAROL, &gid, lost).expect("sent");
    assert_eq!(alice.message(&third).await.conversation.as_deref(), Some("third"));
    assert_eq!(bob.message(&third).await.conversation.as_deref(), Some("third"));
    assert!(world.requests(BOB, "receipt:retry") >= 1);
    let fourth = world.send(CAROL, &gid, Mail::text("fourth")).expect("sent");
    assert_eq!(bob.message(&fourth).await.conversation.as_deref(), Some("fourth"));
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn the_own_phone_gives_what_the_sender_does_not_send_again() {
    let simulator = simulator().await;
    let world = simulator.world();
    let (alice, bob, gid) = team(&simulator).await;
    world.set_resends(CAROL, false);

    let lost = Mail { lose_key: true, ..Mail::text("for later") };
    let id = world.send(CAROL, &gid, lost).expect("sent");

    assert_eq!(bob.message(&id).await.conversation.as_deref(), Some("for later"));
    assert!(world.requests(BOB, "peer:placeholder_resend") >= 1);
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn messages_and_receipts_wait_for_those_who_are_offline() {
    let simulator = simulator().await;
    let world = simulator.world();
    let (alice, bob, gid) = team(&simulator).await;
    let first = send(&alice, &gid, text("first")).await;
    bob.message(&first).await;
    let (store, others) = (bob.stop().await, alice.stop().await);

    let ids: Vec<String> =
        (0..3).map(|number| world.send(CAROL, &gid, Mail::text(format!("{number}"))).expect("sent")).collect();
    world.read_chat(CAROL, &gid).expect("read");

    let bob = Session::resume(&simulator, store).await;
    for id in &ids {
        bob.message(id).await;
    }
    let alice = Session::resume(&simulator, Arc::clone(&others)).await;
    alice.receipt(&first, &ReceiptType::Read).await;
    alice.stop().await;
    bob.stop().await;
    until("nothing that waits", || waiting(&world, BOB) == 0 && waiting(&world, ALICE) == 0).await;
}

fn waiting(world: &World, phone: &str) -> u64 {
    let snapshot = world.snapshot();
    let accounts = snapshot["accounts"].as_array().expect("a list");
    let account = accounts.iter().find(|account| account["phone"] == phone).expect("there");
    account["devices"].as_array().expect("a list").iter().filter_map(|device| device["waiting_stanzas"].as_u64()).sum()
}

#[tokio::test]
async fn a_phone_that_is_off_reads_later() {
    let simulator = simulator().await;
    let world = simulator.world();
    let (alice, bob, gid) = team(&simulator).await;
    world.switch_phone(CAROL, false);
    let first = send(&alice, &gid, text("first")).await;
    bob.message(&first).await;
    let second = world.send(BOB, CAROL, Mail::text("second")).expect("sent");
    assert!(world.messages(CAROL).is_empty());
    assert!(!world.receipts(ALICE).iter().any(|receipt| receipt.from == CAROL));

    world.switch_phone(CAROL, true);

    let ids: Vec<String> = world.messages(CAROL).into_iter().map(|message| message.id).collect();
    assert_eq!(ids, [first, second]);
    assert!(world.receipts(ALICE).iter().any(|receipt| receipt.from == CAROL));
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn a_device_that_is_linked_later_gets_the_next_message() {
    let simulator = simulator().await;
    let world = simulator.world();
    let (alice, bob, gid) = team(&simulator).await;
    let first = send(&alice, &gid, text("first")).await;
    bob.message(&first).await;

    let second_device = Session::linked(&simulator, BOB).await;
    alice.wait("the new device", |event| matches!(event, Event::DeviceListUpdate(_)).then_some(())).await;
    let second = send(&alice, &gid, text("second")).await;
    let third = world.send(CAROL, &gid, Mail::text("third")).expect("sent");

    for session in [&bob, &second_device] {
        assert_eq!(session.message(&second).await.conversation.as_deref(), Some("second"));
        assert_eq!(session.message(&third).await.conversation.as_deref(), Some("third"));
    }
    alice.stop().await;
    bob.stop().await;
    second_device.stop().await;
}
