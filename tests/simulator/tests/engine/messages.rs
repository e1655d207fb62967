//! Messages between people, names of contacts, and calls.

use rookery_simulator::{Fault, FaultKind};
use whatsapp_rust::Jid;
use whatsapp_rust::prelude::*;

use crate::support::{Session, simulator};

const ALICE: &str = "15550100001";
const BOB: &str = "15550100002";
const CAROL: &str = "15550100003";

fn text(text: &str) -> wa::Message {
    wa::Message { conversation: Some(text.to_owned()), ..Default::default() }
}

async fn send(session: &Session, to: &str, message: wa::Message) -> String {
    session.client.send_message(Jid::pn(to), message).await.expect("sent").message_id
}

#[tokio::test]
async fn a_phone_reads_texts_and_invitations_and_linked_devices_get_them_too() {
    let simulator = simulator().await;
    let world = simulator.world();
    world.phone(CAROL);
    let alice = Session::linked(&simulator, ALICE).await;
    let bob = Session::linked(&simulator, BOB).await;

    let first = send(&alice, BOB, text("hello")).await;
    let invite = wa::message::GroupInviteMessage {
        group_jid: Some("120363000000000001@g.us".into()),
        invite_code: Some("code".into()),
        invite_expiration: Some(1_800_000_000),
        group_name: Some("Team".into()),
        caption: Some("join us".into()),
        ..Default::default()
    };
    let message = wa::Message { group_invite_message: MessageField::some(invite), ..Default::default() };
    send(&alice, CAROL, message).await;
    send(&alice, BOB, text("again")).await;

    let is_text = |wanted: &'static str| {
        move |event: &Event| match event {
            Event::Messages(batch) => {
                batch.iter().any(|inbound| inbound.message.conversation.as_deref() == Some(wanted)).then_some(())
            }
            _ => None,
        }
    };
    bob.wait("the message", is_text("hello")).await;
    bob.wait("the second message", is_text("again")).await;
    let texts: Vec<_> = world.messages(BOB).into_iter().map(|message| message.text.unwrap_or_default()).collect();
    assert_eq!(texts, ["hello", "again"]);
    assert_eq!((&world.messages(BOB)[0].id, world.messages(BOB)[0].sender.as_str()), (&first, ALICE));
    let invitation = world.messages(CAROL)[0].invitation.clone().expect("an invitation");
    assert_eq!((invitation.group.as_str(), invitation.code.as_str()), ("120363000000000001@g.us", "code"));
    assert_eq!((invitation.group_name.as_str(), invitation.caption.as_deref()), ("Team", Some("join us")));
    assert_eq!(invitation.expiration, 1_800_000_000);
    assert!(world.messages(ALICE).is_empty());

    // A message the other way round, so that both Signal sessions go on.
    send(&bob, ALICE, text("hello yourself")).await;
    alice.wait("the answer", is_text("hello yourself")).await;
    assert_eq!(world.messages(ALICE)[0].sender, BOB);
    alice.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn a_refused_message_is_not_delivered() {
    let simulator = simulator().await;
    let world = simulator.world();
    world.phone(BOB);
    let alice = Session::linked(&simulator, ALICE).await;
    world.add_fault(ALICE, Fault::new(FaultKind::Refuse { code: 463, backoff_s: None }).at("message"));

    let id = send(&alice, BOB, text("refused")).await;

    let refused = |event: &Event| match event {
        Event::ServerAck(ack) if ack.id == id => Some(ack.error.is_some()),
        _ => None,
    };
    assert!(alice.wait("the refusal", refused).await);
    assert!(world.messages(BOB).is_empty());
    send(&alice, BOB, text("delivered")).await;
    alice.wait("the ack", |event| matches!(event, Event::ServerAck(_)).then_some(())).await;
    assert_eq!(world.messages(BOB).len(), 1);
    alice.stop().await;
}

#[tokio::test]
async fn what_a_device_sends_reaches_the_other_devices_of_its_account() {
    let simulator = simulator().await;
    let world = simulator.world();
    world.phone(BOB);
    // The sender is linked last: devices are not notified of devices that are linked later.
    let second = Session::linked(&simulator, ALICE).await;
    let first = Session::linked(&simulator, ALICE).await;

    send(&first, BOB, text("for Bob")).await;

    let copied = |event: &Event| match event {
        Event::Messages(batch) => batch.iter().find(|inbound| inbound.info.source.is_from_me).map(|inbound| {
            let copy = inbound.message.device_sent_message.as_option();
            let sent = copy.and_then(|copy| copy.message.as_option()).unwrap_or(&inbound.message);
            (sent.conversation.clone().unwrap_or_default(), inbound.info.source.chat.clone())
        }),
        _ => None,
    };
    let (words, chat) = second.wait("the copy", copied).await;
    assert_eq!(words, "for Bob");
    let lid = Jid::lid(lid_of(&world, BOB));
    assert!([Jid::pn(BOB), lid].contains(&chat), "{chat}");
    assert_eq!(world.messages(BOB).len(), 1);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn messages_run_into_silence_and_cut_connections() {
    let simulator = simulator().await;
    let world = simulator.world();
    world.phone(BOB);
    let alice = Session::linked(&simulator, ALICE).await;
    send(&alice, BOB, text("delivered")).await;
    crate::support::until("the first", || world.messages(BOB).len() == 1).await;

    world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: true }).at("message"));
    send(&alice, BOB, text("delivered without a word")).await;
    crate::support::until("the second", || world.messages(BOB).len() == 2).await;
    world.add_fault(ALICE, Fault::new(FaultKind::Drop { apply: false, now: false }).at("message"));
    send(&alice, BOB, text("lost")).await;
    alice.connected().await;

    assert_eq!(world.messages(BOB).len(), 2);
    assert_eq!(world.requests(ALICE, "message"), 3);
    alice.stop().await;
}

fn lid_of(world: &rookery_simulator::World, phone: &str) -> String {
    let snapshot = world.snapshot();
    let accounts = snapshot["accounts"].as_array().expect("a list");
    let account = accounts.iter().find(|account| account["phone"] == phone).expect("there");
    account["lid"].as_str().expect("each has one").to_owned()
}

#[tokio::test]
async fn names_of_contacts_come_at_login_and_at_once() {
    let simulator = simulator().await;
    let world = simulator.world();
    world.set_contact(ALICE, BOB, "Bob Builder");
    let session = Session::start(&simulator).await;
    let qr = session.qr().await;
    world.phone(ALICE).scan_qr(&qr).expect("the phone scans");
    let named = |event: &Event| match event {
        Event::ContactUpdate(update) => update.action.full_name.clone().map(|name| (update.jid.to_string(), name)),
        _ => None,
    };
    let bob = Jid::pn(BOB).to_string();
    assert_eq!(session.wait("the contact", named).await, (bob.clone(), "Bob Builder".to_owned()));

    world.set_contact(ALICE, BOB, "Bob");
    assert_eq!(session.wait("the new name", named).await, (bob, "Bob".to_owned()));
    world.set_contact(ALICE, CAROL, "Carol");
    assert_eq!(session.wait("another contact", named).await.1, "Carol");
    session.client.chat_actions().save_contact(&Jid::pn(CAROL), Some("C.".into()), None, false).await.expect("saved");
    world.set_contact(ALICE, CAROL, "Carol again");
    let again = |event: &Event| named(event).filter(|(_, name)| name == "Carol again");
    session.wait("a change after one of the device's own", again).await;
    session.stop().await;
}

#[tokio::test]
async fn a_changed_name_is_in_what_others_see() {
    let simulator = simulator().await;
    let world = simulator.world();
    let participants = vec![BOB.into()];
    let gid = world
        .add_group(rookery_simulator::GroupSpec { participants, ..rookery_simulator::GroupSpec::new("Team", ALICE) });
    let session = Session::linked(&simulator, ALICE).await;

    world.rename(BOB, "Robert");
    world.change_subject(&gid, BOB, "Renamed").expect("members may");

    let notify = |event: &Event| match event {
        Event::Notification(node) => node.get().get_attr("notify").map(|name| name.as_str().into_owned()),
        _ => None,
    };
    assert_eq!(session.wait("the notification", notify).await, "Robert");
    session.stop().await;
}

#[tokio::test]
async fn a_call_rings_and_its_rejection_is_counted() {
    let simulator = simulator().await;
    let world = simulator.world();
    let session = Session::linked(&simulator, ALICE).await;

    let id = world.call(BOB, ALICE);

    let call = |event: &Event| match event {
        Event::IncomingCall(call) if call.action.call_id() == id => Some(call.clone()),
        _ => None,
    };
    let call = session.wait("the call", call).await;
    session.client.voip().reject(&call).await.expect("rejected");
    crate::support::until("the rejection", || world.requests(ALICE, "call:reject") == 1).await;
    session.stop().await;
}
