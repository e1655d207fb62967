//! What the account does in chats beside writing, as others and its own devices see it.

use reqwest::Method;
use rookery_simulator::{Mail, Typing};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, CAROL, DAVE, until_equal};

async fn chat(bench: &Bench, what: &str, body: Value) {
    let done = bench.post(&format!("/sessions/alice/chats/{what}"), body).await;
    assert_eq!((done.status, &done.body["success"]), (200, &json!(true)), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn others_see_that_the_account_types_and_has_read() {
    let (bench, group) = Bench::with_group().await;
    for (state, seen) in [("typing", Typing::Composing), ("recording", Typing::Recording), ("paused", Typing::Paused)] {
        for to in [group.as_str(), DAVE] {
            chat(&bench, "typing", json!({ "chatId": to, "state": state })).await;
            until_equal(Some(seen), async || bench.world.typing(ALICE, to)).await;
        }
    }

    let ids: Vec<String> =
        [BOB, CAROL, BOB].map(|from| bench.world.send(from, &group, Mail::text("hi")).unwrap()).into();
    let total = format!("/sessions/alice/messages?chatId={group}");
    until_equal(json!(3), async || bench.get(&total).await.body["total"].clone()).await;
    let read_of = |phone: &str| {
        let receipts = bench.world.receipts(phone).into_iter();
        receipts
            .filter(|receipt| receipt.kind == "read" && receipt.from == ALICE)
            .map(|receipt| receipt.id)
            .collect::<Vec<_>>()
    };
    chat(&bench, "read", json!({ "chatId": group, "messageIds": [ids[0], ids[1]] })).await;
    until_equal((vec![ids[0].clone()], vec![ids[1].clone()]), async || (read_of(BOB), read_of(CAROL))).await;
    chat(&bench, "read", json!({ "chatId": group })).await;
    until_equal(vec![ids[0].clone(), ids[2].clone()], async || read_of(BOB)).await;
    let unknown = bench.post("/sessions/alice/chats/read", json!({ "chatId": group, "messageIds": ["3EB0"] })).await;
    assert_eq!(unknown.failure(), (404, "message_not_found"));
    // A chat in which nobody has written.
    chat(&bench, "read", json!({ "chatId": DAVE })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_accounts_own_devices_show_chats_as_they_were_set() {
    let (bench, group) = Bench::with_group().await;
    let set = |name: &str| {
        let all = bench.world.app_state(ALICE).into_iter();
        all.filter(|(index, _)| index[0] == name && index.get(1) == Some(&group)).map(|(_, value)| value).next_back()
    };
    let archived = || set("archive").and_then(|value| value.archive_chat_action.as_option()?.archived);
    let pinned = || set("pin_v1").and_then(|value| value.pin_action.as_option()?.pinned);
    let muted = || set("mute").and_then(|value| value.mute_action.as_option()?.muted);
    let read = || set("markChatAsRead").and_then(|value| value.mark_chat_as_read_action.as_option()?.read);
    for on in [true, false] {
        chat(&bench, "archive", json!({ "chatId": group, "archive": on })).await;
        chat(&bench, "pin", json!({ "chatId": group, "pin": on })).await;
        let until = if on { json!(4_102_444_800_000_i64) } else { Value::Null };
        chat(&bench, "mute", json!({ "chatId": group, "muteUntil": until })).await;
        until_equal((Some(on), Some(on), Some(on)), async || (archived(), pinned(), muted())).await;
    }
    chat(&bench, "unread", json!({ "chatId": group })).await;
    until_equal(Some(false), async || read()).await;
    chat(&bench, "delete", json!({ "chatId": group })).await;
    until_equal(true, async || set("deleteChat").is_some()).await;
    let cleared = bench.call(Method::DELETE, &format!("/sessions/alice/chats/{group}/messages"), None).await;
    assert_eq!(cleared.status, 200, "{cleared:?}");
    until_equal(true, async || set("clearChat").is_some()).await;

    for (what, body) in [
        ("mute", json!({ "chatId": group, "muteUntil": 1_000 })),
        ("mute", json!({ "chatId": group })),
        ("archive", json!({ "chatId": group })),
        ("typing", json!({ "chatId": group, "state": "sleeping" })),
        ("read", json!({ "chatId": group, "messageIds": [] })),
    ] {
        let answer = bench.post(&format!("/sessions/alice/chats/{what}"), body).await;
        assert_eq!(answer.failure(), (400, "validation_failed"), "{answer:?}");
    }
}
