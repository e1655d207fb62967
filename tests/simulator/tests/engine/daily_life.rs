//! Presence, profile, block list, app state, privacy tokens, and requests that the simulator does not know.

use std::sync::Arc;
use std::time::Duration;

use rookery_simulator::{Mail, PhoneHistory, Typing};
use whatsapp_rust::prelude::*;
use whatsapp_rust::types::presence::ChatPresence;
use whatsapp_rust::wacore::request::InfoQuery;
use whatsapp_rust::{Jid, Server};

use crate::support::{Session, simulator, until};

const ALICE: &str = "15550100001";
const BOB: &str = "15550100002";

#[tokio::test]
async fn presence_is_told_at_once_and_at_each_change() {
    let simulator = simulator().await;
    let world = simulator.world();
    let alice = Session::linked(&simulator, ALICE).await;
    world.set_online(BOB, true);
    let unavailable = |event: &Event| match event {
        Event::Presence(presence) => Some((presence.unavailable, presence.last_seen.is_some())),
        _ => None,
    };

    alice.client.presence().subscribe(Jid::pn(BOB)).await.expect("sent");
    assert!(!alice.wait("the present state", unavailable).await.0);
    world.set_online(BOB, false);
    assert_eq!(alice.wait("the change", unavailable).await, (true, true));

    world.type_in(BOB, ALICE, Typing::Composing);
    let typing = |event: &Event| match event {
        Event::ChatPresence(update) => Some(update.state),
        _ => None,
    };
    assert_eq!(alice.wait("typing", typing).await, ChatPresence::Composing);
    alice.client.chatstate().send_recording(&Jid::pn(BOB)).await.expect("sent");
    until("the recording", || world.typing(ALICE, BOB) == Some(Typing::Recording)).await;
    alice.stop().await;
}

#[tokio::test]
async fn a_profile_is_set_by_the_device_and_by_the_phone() {
    let simulator = simulator().await;
    let world = simulator.world();
    let alice = Session::linked(&simulator, ALICE).await;
    let second = Session::linked(&simulator, ALICE).await;
    let jpeg = [&[0xFF, 0xD8, 0xFF][..], &[7; 100]].concat();

    alice.client.profile().set_status_text("at work").await.expect("set");
    let about = |event: &Event| match event {
        Event::UserAboutUpdate(update) => Some(update.status.clone()),
        _ => None,
    };
    assert_eq!(second.wait("the text", about).await, "at work");
    assert_eq!(world.about(ALICE), "at work");
    alice.client.profile().set_profile_picture(jpeg.clone()).await.expect("set");
    let picture = |event: &Event| match event {
        Event::PictureUpdate(update) => Some(update.removed),
        _ => None,
    };
    assert!(!second.wait("the picture", picture).await);
    assert_eq!(world.account_picture(ALICE), Some(jpeg.clone()));
    let url =
        alice.client.contacts().get_profile_picture(&Jid::pn(ALICE), false).await.expect("asked").expect("there").url;
    assert_eq!(crate::support::http_get(&url).await, jpeg);
    alice.client.profile().remove_profile_picture().await.expect("removed");
    assert!(second.wait("the removal", picture).await);
    assert!(alice.client.contacts().get_profile_picture(&Jid::pn(ALICE), false).await.is_ok_and(|none| none.is_none()));

    alice.client.profile().set_push_name("Alice A.").await.expect("set");
    let name = |event: &Event| match event {
        Event::SelfPushNameUpdated(update) => Some(update.new_name.clone()),
        _ => None,
    };
    assert_eq!(second.wait("the name", name).await, "Alice A.");
    until("the name in the world", || world.snapshot()["accounts"][0]["name"] == "Alice A.").await;
    alice.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn somebody_who_is_blocked_reaches_nobody() {
    let simulator = simulator().await;
    let world = simulator.world();
    world.phone(BOB);
    let alice = Session::linked(&simulator, ALICE).await;
    // Blocking needs both ids of a person.
    alice.client.contacts().is_on_whatsapp(&[Jid::pn(BOB)]).await.expect("asked");

    alice.client.blocking().block(&Jid::pn(BOB)).await.expect("blocked");

    assert_eq!(world.blocked(ALICE), [BOB]);
    assert!(alice.client.blocking().is_blocked(&Jid::pn(BOB)).await.expect("asked"));
    world.send(BOB, ALICE, Mail::text("hello?")).expect("taken");
    assert!(world.messages(ALICE).is_empty());
    alice.client.blocking().unblock(&Jid::pn(BOB)).await.expect("unblocked");
    let id = world.send(BOB, ALICE, Mail::text("hello!")).expect("taken");
    alice.message(&id).await;
    alice.stop().await;
}

#[tokio::test]
async fn what_one_device_sets_for_a_chat_the_phone_and_the_others_know() {
    let simulator = simulator().await;
    let world = simulator.world();
    let first = Session::linked(&simulator, ALICE).await;
    let second = Session::linked(&simulator, ALICE).await;
    let bob = Jid::pn(BOB);

    first.client.chat_actions().pin_chat(&bob).await.expect("pinned");

    let pinned = |event: &Event| match event {
        Event::PinUpdate(update) => Some(update.jid.clone()),
        _ => None,
    };
    assert_eq!(second.wait("the pin", pinned).await, bob);
    let state = world.app_state(ALICE);
    let (_, value) = state.iter().find(|(index, _)| index[0] == "pin_v1").expect("there");
    assert_eq!(value.pin_action.as_option().and_then(|action| action.pinned), Some(true));

    let archive = wa::sync_action_value::ArchiveChatAction { archived: Some(true), ..Default::default() };
    let value = wa::SyncActionValue { archive_chat_action: MessageField::some(archive), ..Default::default() };
    world.set_app_state(ALICE, &["archive", &bob.to_string()], value).expect("known");
    for session in [&first, &second] {
        session.wait("the archive", |event| matches!(event, Event::ArchiveUpdate(_)).then_some(())).await;
    }
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_stranger_needs_a_token() {
    let simulator = simulator().await;
    let world = simulator.world();
    world.require_token(BOB, true);
    let alice = Session::linked(&simulator, ALICE).await;
    let send = |text: &'static str| {
        let message = wa::Message { conversation: Some(text.into()), ..Default::default() };
        alice.client.send_message(Jid::pn(BOB), message)
    };

    let id = send("refused").await.expect("sent").message_id;
    let refused = |event: &Event| match event {
        Event::ServerAck(ack) if ack.id == id => Some(ack.error.clone()),
        _ => None,
    };
    assert_eq!(alice.wait("the refusal", refused).await.as_deref(), Some("463"));
    // The client has given a token of its account in the meantime.
    until("the token for Bob", || world.trusts(ALICE, BOB)).await;

    world.trust(BOB, ALICE);
    let stored = || async { alice.client.tc_token().get_all_jids().await.is_ok_and(|jids| !jids.is_empty()) };
    let wait = async {
        while !stored().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("a token");
    send("taken").await.expect("sent");
    until("the message", || world.messages(BOB).len() == 1).await;
    alice.stop().await;
}

#[tokio::test]
async fn an_unknown_request_is_an_error() {
    let simulator = simulator().await;
    let alice = Session::linked(&simulator, ALICE).await;

    let query = InfoQuery::get("w:unheard:of", Jid::new("", Server::Pn), None);
    let answer = alice.client.send_iq(query).await;

    assert!(matches!(answer, Err(IqError::ServerError { code: 501, .. })), "{answer:?}");
    alice.stop().await;
}

#[tokio::test]
async fn a_phone_tells_a_new_device_about_its_chats_or_that_there_are_none() {
    let simulator = simulator().await;
    let world = simulator.world();
    world.send(BOB, ALICE, Mail::text("before you were linked")).expect("sent");
    let alice = Session::linked_with_history(&simulator, ALICE).await;
    let chats = |event: &Event| match event {
        Event::HistorySync(history) => Some(history.get().expect("readable").conversations.len()),
        _ => None,
    };
    assert_eq!(alice.wait("the history", chats).await, 1);
    world.set_phone_history(BOB, PhoneHistory::None);
    let bob = Session::linked(&simulator, BOB).await;
    until("the receipt", || world.requests(BOB, "receipt:peer_msg") + world.requests(BOB, "receipt:hist_sync") >= 2)
        .await;
    let _ = Arc::clone(&bob.store);
    alice.stop().await;
    bob.stop().await;
}
