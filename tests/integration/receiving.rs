//! Messages that come: each is told once, as what it is, whatever happens on its way.

use buffa::MessageField;
use rookery_simulator::{Addressing, Mail};
use serde_json::{Value, json};
use waproto::whatsapp as wa;
use waproto::whatsapp::message::protocol_message::Type as ProtocolType;

use crate::harness::{ALICE, BOB, Bench, CAROL, DAVE, until, until_equal};

/// The events of these kinds that alice has, oldest first: kind and data.
async fn told(bench: &Bench, kinds: &str) -> Vec<(String, Value)> {
    let page = bench.get(&format!("/sessions/alice/events?types={kinds}&limit=1000")).await;
    assert_eq!(page.status, 200, "{page:?}");
    let events = page.body["events"].as_array().unwrap().clone();
    events.iter().map(|event| (event["event"].as_str().unwrap().to_owned(), event["data"].clone())).collect()
}

/// The same, once there are `count`.
async fn until_told(bench: &Bench, kinds: &str, count: usize) -> Vec<(String, Value)> {
    until_equal(count, async || told(bench, kinds).await.len()).await;
    told(bench, kinds).await
}

const MESSAGES: &str = "message.received,message.sent";

#[tokio::test(flavor = "multi_thread")]
async fn a_text_in_a_group_is_told_with_its_author_and_its_chat() {
    for addressing in [Addressing::Lid, Addressing::Pn] {
        let bench = Bench::start().await;
        let group = bench.group(&[BOB, CAROL], addressing);
        bench.link("alice", ALICE).await;
        let id = bench.world.send(BOB, &group, Mail::text("hello")).unwrap();
        let (kind, message) = until_told(&bench, MESSAGES, 1).await.remove(0);
        assert_eq!(kind, "message.received");
        let expected = json!({
            "id": id, "from": group, "to": format!("{ALICE}@c.us"), "chatId": group, "body": "hello", "type": "text",
            "fromMe": false, "isGroup": true, "kind": "group", "author": format!("{BOB}@c.us"), "senderPhone": BOB,
        });
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&message[field], value, "{field} in {message}");
        }
        assert_eq!(message["contact"]["pushName"], json!(format!("User {BOB}")));
        assert!(message["timestamp"].as_i64().is_some_and(|seconds| seconds > 1_700_000_000), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_message_and_our_own_from_another_device_are_told() {
    let (bench, group) = Bench::with_group().await;
    bench.world.send(DAVE, ALICE, Mail::text("to alice")).unwrap();
    until_told(&bench, MESSAGES, 1).await;
    bench.world.send(ALICE, DAVE, Mail::text("from the phone")).unwrap();
    until_told(&bench, MESSAGES, 2).await;
    let sent = bench.post("/sessions/alice/messages/send-text", json!({ "chatId": group, "text": "by call" })).await;
    assert_eq!(sent.status, 201, "{sent:?}");
    // It is on disk before the call is answered.
    let all = told(&bench, MESSAGES).await;
    let [(received, from_dave), (sent_elsewhere, to_dave), (sent_here, in_group)] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert_eq!(
        [received, sent_elsewhere, sent_here].map(String::as_str),
        ["message.received", "message.sent", "message.sent"]
    );
    let dave = json!(format!("{DAVE}@c.us"));
    assert_eq!((&from_dave["chatId"], &from_dave["from"], &from_dave["kind"]), (&dave, &dave, &json!("individual")));
    assert_eq!((&to_dave["chatId"], &to_dave["to"], &to_dave["fromMe"]), (&dave, &dave, &json!(true)));
    assert_eq!((&in_group["id"], &in_group["body"]), (&sent.body["messageId"], &json!("by call")));
    assert_eq!((&in_group["chatId"], &in_group["author"]), (&json!(group), &json!(format!("{ALICE}@c.us"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_a_message_is_told_and_seen_in_its_chat() {
    let (bench, group) = Bench::with_group().await;
    let id = bench.world.send(BOB, &group, Mail::text("at seven")).unwrap();
    let other = bench.world.send(CAROL, &group, Mail::text("fine")).unwrap();
    until_told(&bench, MESSAGES, 2).await;
    bench.world.send(BOB, &group, edit(&id, "at eight")).unwrap();
    bench.world.send(CAROL, &group, reaction(&group, &id, "👍")).unwrap();
    bench.world.send(DAVE, ALICE, Mail::text("elsewhere")).unwrap();
    // Neither wrote what is changed here.
    bench.world.send(CAROL, &group, edit(&id, "never")).unwrap();
    bench.world.send(CAROL, &group, revocation(&group, &id, None)).unwrap();
    bench.world.send(CAROL, &group, revocation(&group, &id, Some(&lid_jid(&bench, BOB)))).unwrap();
    bench.world.send(CAROL, &group, revocation(&group, &other, None)).unwrap();

    let changes = until_told(&bench, "message.edited,message.revoked,message.reaction", 3).await;
    let mut seen: Vec<Value> = changes
        .iter()
        .map(|(kind, data)| json!([kind, data["id"], data["body"], data["reaction"], data["senderId"]]))
        .collect();
    seen.sort_by_key(Value::to_string);
    let carol = format!("{CAROL}@c.us");
    assert_eq!(
        seen,
        [
            json!(["message.edited", id, "at eight", null, null]),
            json!(["message.reaction", id, null, "👍", carol]),
            json!(["message.revoked", other, "", null, null]),
        ]
    );

    let history = bench.get(&format!("/sessions/alice/messages/{group}/history")).await;
    let shown: Vec<Value> =
        history.body.as_array().unwrap().iter().map(|m| json!([m["id"], m["type"], m["body"]])).collect();
    assert_eq!(shown, [json!([other, "revoked", ""]), json!([id, "text", "at eight"])]);
    let reactions = bench.get(&format!("/sessions/alice/messages/{group}/{id}/reactions")).await;
    assert_eq!(
        (&reactions.body[0]["emoji"], &reactions.body[0]["senders"][0]["senderId"]),
        (&json!("👍"), &json!(carol))
    );
    let none = bench.get(&format!("/sessions/alice/messages/{group}/nothing/reactions")).await;
    assert_eq!(none.failure(), (404, "message_not_found"));
    bench.world.send(CAROL, &group, reaction(&group, &id, "")).unwrap();
    until_told(&bench, "message.reaction", 2).await;
    assert_eq!(told(&bench, "message.edited,message.revoked").await.len(), 2, "only authors change messages");
    assert_eq!(bench.get(&format!("/sessions/alice/messages/{group}/{id}/reactions")).await.body, json!([]));

    let all = bench.get("/sessions/alice/messages?limit=2").await.body;
    assert_eq!((&all["total"], all["messages"].as_array().unwrap().len()), (&json!(3), 2), "{all}");
    let of_group = bench.get(&format!("/sessions/alice/messages?chatId={group}&offset=1")).await.body;
    assert_eq!((&of_group["total"], &of_group["messages"][0]["waMessageId"]), (&json!(2), &json!(id)));
    assert_eq!(of_group["messages"][0]["metadata"], json!({ "edited": true }));
    let of_bob = bench.get(&format!("/sessions/alice/messages?from={BOB}")).await.body;
    assert_eq!((&of_bob["total"], &of_bob["messages"][0]["direction"]), (&json!(1), &json!("incoming")), "{of_bob}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decrypted_is_told_and_once_more_when_it_can() {
    let (bench, group) = Bench::with_group().await;
    bench.world.send(BOB, &group, Mail::text("first")).unwrap();
    until_told(&bench, MESSAGES, 1).await;
    let lost = bench.world.send(BOB, &group, Mail { lose_key: true, ..Mail::text("second") }).unwrap();
    let all = until_told(&bench, MESSAGES, 3).await;
    let [_, (_, masked), (_, readable)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((&masked["id"], &masked["type"], &masked["body"]), (&json!(lost), &json!("masked"), &json!("")));
    assert_eq!(
        (&readable["id"], &readable["type"], &readable["body"]),
        (&json!(lost), &json!("text"), &json!("second"))
    );
    assert_eq!(readable["replaces"], masked["sequence"]);
    let history = bench.get(&format!("/sessions/alice/messages/{group}/history")).await.body;
    let bodies: Vec<&Value> = history.as_array().unwrap().iter().map(|message| &message["body"]).collect();
    assert_eq!(bodies, ["second", "first"], "{history}");
    assert_eq!(bench.get(&format!("/sessions/alice/messages?chatId={group}")).await.body["total"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_limited_to_a_group_sees_its_messages_alone() {
    let (bench, group) = Bench::with_group().await;
    let other = bench.group(&[CAROL], Addressing::Lid);
    for (to, text) in [(group.as_str(), "here"), (&other, "there"), (ALICE, "in private")] {
        bench.world.send(CAROL, to, Mail::text(text)).unwrap();
    }
    until_told(&bench, MESSAGES, 3).await;
    let key = json!({ "name": "guest", "role": "viewer", "allowedGroups": [group] });
    let key = bench.post("/auth/api-keys", key).await.body["apiKey"].as_str().unwrap().to_owned();
    let read =
        async |path: &str| bench.call_with(&key, reqwest::Method::GET, &format!("/sessions/alice/{path}"), None).await;
    let page = read(&format!("events?types={MESSAGES}")).await.body;
    let bodies: Vec<&Value> = page["events"].as_array().unwrap().iter().map(|event| &event["data"]["body"]).collect();
    assert_eq!(bodies, ["here"], "{page}");
    let list = read("messages").await.body;
    assert_eq!((&list["total"], &list["messages"][0]["body"]), (&json!(1), &json!("here")), "{list}");
    assert_eq!(read(&format!("messages/{group}/history")).await.body[0]["body"], "here");
    assert_eq!(read(&format!("messages/{other}/history")).await.failure(), (401, "group_not_allowed"));
    for path in [format!("messages/{CAROL}/history"), format!("messages?chatId={CAROL}")] {
        assert_eq!(read(&path).await.failure().0, 403, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_texts_are_not_kept_nothing_of_them_is_told() {
    let bench = Bench::with(|config| config.store_message_text = false).await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    let id = bench.world.send(BOB, &group, Mail::text("words of no use")).unwrap();
    bench.world.send(BOB, &group, edit(&id, "other words of no use")).unwrap();
    bench.world.send(BOB, &group, reaction(&group, &id, "👍")).unwrap();
    let reacted = &until_told(&bench, "message.reaction", 1).await[0].1;
    let shown = json!([reacted["reaction"], reacted["removed"], reacted["textStored"]]);
    assert_eq!(shown, json!(["", false, false]), "{reacted}");
    let reactions = bench.get(&format!("/sessions/alice/messages/{group}/{id}/reactions")).await.body;
    assert_eq!(reactions[0]["senders"][0]["senderId"], format!("{BOB}@c.us"), "that there is one is known");
    let record = &bench.get("/sessions/alice/messages").await.body["messages"][0];
    assert_eq!(json!([record["body"], record["textStored"]]), json!(["", false]), "{record}");
    bench.world.send(BOB, &group, reaction(&group, &id, "")).unwrap();
    assert_eq!(until_told(&bench, "message.reaction", 2).await[1].1["removed"], true);
    let all = until_told(&bench, "message.received,message.edited", 2).await;
    for (kind, message) in &all {
        assert_eq!((&message["body"], &message["textStored"]), (&json!(""), &json!(false)), "{kind}: {message}");
    }
    assert_eq!(all[0].1["type"], "text");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_waited_come_in_their_order_and_once_also_if_whatsapp_did_not_hear_that_they_came() {
    let (mut bench, group) = Bench::with_group().await;
    let text = |number: usize| format!("message {number}");
    let bodies = async |bench: &Bench| {
        let all = told(bench, MESSAGES).await;
        all.iter().map(|(_, data)| data["body"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let expected: Vec<String> = (0..60).map(text).collect();
    for body in &expected[..20] {
        bench.world.send(BOB, &group, Mail::text(body)).unwrap();
    }
    until_equal(expected[..20].to_vec(), async || bodies(&bench).await).await;
    assert_eq!(bench.post("/sessions/alice/stop", json!({})).await.status, 200);
    for body in &expected[20..40] {
        bench.world.send(BOB, &group, Mail::text(body)).unwrap();
    }
    // No receipt arrives: the server gives all of them to the next connection once more.
    bench.world.lose_receipts(ALICE, true);
    bench.post("/sessions/alice/start", json!({})).await;
    until_equal(expected[..40].to_vec(), async || bodies(&bench).await).await;
    bench.restart().await;
    bench.until_status("alice", "ready").await;
    bench.world.lose_receipts(ALICE, false);
    for body in &expected[40..] {
        bench.world.send(BOB, &group, Mail::text(body)).unwrap();
    }
    until_equal(expected, async || bodies(&bench).await).await;
    let numbers: Vec<u64> =
        told(&bench, MESSAGES).await.iter().map(|(_, data)| data["sequence"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_another_account_is_told_before_the_session_is_that_accounts() {
    let (bench, group) = Bench::with_group().await;
    bench.world.send(BOB, &group, Mail::text("for alice")).unwrap();
    until_told(&bench, MESSAGES, 1).await;
    bench.world.phone(ALICE).unlink_devices();
    bench.until_status("alice", "action_required").await;
    bench.post("/sessions/alice/start", json!({ "allowAccountChange": true })).await;
    let qr = bench.qr("alice").await;
    bench.world.phone(CAROL).scan_qr(&qr).unwrap();
    let has_keys = async || {
        let accounts = bench.world.snapshot()["accounts"].as_array().unwrap().clone();
        let carol = accounts.into_iter().find(|account| account["phone"] == CAROL).unwrap();
        carol["devices"][0]["one_time_prekeys"].as_u64().is_some_and(|keys| keys > 0).then_some(())
    };
    until("the keys of carol's device", has_keys).await;
    bench.world.send(BOB, CAROL, Mail::text("for carol")).unwrap();
    bench.until_status("alice", "ready").await;
    let all = until_told(&bench, MESSAGES, 1).await;
    assert_eq!((&all[0].1["body"], &all[0].1["to"]), (&json!("for carol"), &json!(format!("{CAROL}@c.us"))), "{all:?}");
    assert_eq!(bench.get("/sessions/alice/messages").await.body["total"], 1);
    assert_eq!(bench.get(&format!("/sessions/alice/messages/{group}/history")).await.body, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_uses_the_id_of_anothers_message_changes_nothing_of_it() {
    let (bench, group) = Bench::with_group().await;
    let id = bench.world.send(BOB, &group, Mail::text("of bob")).unwrap();
    until_told(&bench, MESSAGES, 1).await;
    bench.world.send(CAROL, &group, Mail { id: Some(id.clone()), ..Mail::text("of carol") }).unwrap();
    until_told(&bench, MESSAGES, 2).await;
    bench.world.send(CAROL, &group, edit(&id, "by carol")).unwrap();
    bench.world.send(BOB, &group, edit(&id, "by bob")).unwrap();
    until_told(&bench, "message.edited", 2).await;
    bench.world.send(CAROL, &group, revocation(&group, &id, None)).unwrap();
    until_told(&bench, "message.revoked", 1).await;
    let history = bench.get(&format!("/sessions/alice/messages/{group}/history")).await.body;
    let shown: Vec<Value> =
        history.as_array().unwrap().iter().map(|m| json!([m["author"], m["type"], m["body"]])).collect();
    let [bob, carol] = [BOB, CAROL].map(|phone| format!("{phone}@c.us"));
    assert_eq!(shown, [json!([carol, "revoked", ""]), json!([bob, "text", "by bob"])]);
    // Who answers the message answers the first one.
    let reply = json!({ "chatId": group, "quotedMessageId": id, "text": "yes" });
    assert_eq!(bench.post("/sessions/alice/messages/reply", reply).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_messages_cost_nobody_the_others() {
    let (bench, group) = Bench::with_group().await;
    let odd = |count: usize| "\u{1}".repeat(count);
    let logins = bench.world.requests(ALICE, "login");
    let poll = wa::message::PollCreationMessage {
        name: Some(odd(200_000)),
        options: (0..20_000)
            .map(|_| wa::message::poll_creation_message::Option {
                option_name: Some("x".repeat(40)),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let poll = wa::Message { poll_creation_message: MessageField::some(poll), ..Default::default() };
    let mails = [
        Mail::text(odd(70_000)),
        Mail::text("\u{1F600}".repeat(300_000)),
        Mail { id: Some("X".repeat(3_000)), ..Mail::text("a long id") },
        edit(&odd(22_000), "nothing"),
        revocation(&group, &odd(22_000), None),
        reaction(&group, &odd(22_000), &odd(90_000)),
        reaction(&group, "AB", &odd(90_000)),
        edit("AB", &odd(200_000)),
        poll.into(),
        wa::Message::default().into(),
    ];
    for mail in mails {
        for to in [group.as_str(), ALICE] {
            bench.world.send(BOB, to, mail.clone()).unwrap();
        }
    }
    for to in [group.as_str(), ALICE] {
        bench.world.send(CAROL, to, Mail::text("as usual")).unwrap();
    }
    let usual = async || {
        let all = told(&bench, "message.received").await;
        all.iter().filter(|(_, data)| data["body"] == "as usual").count()
    };
    until_equal(2, usual).await;
    let waiting = async || {
        let accounts = bench.world.snapshot()["accounts"].as_array().unwrap().clone();
        let alice = accounts.into_iter().find(|account| account["phone"] == ALICE).unwrap();
        alice["devices"][0]["waiting_stanzas"].clone()
    };
    until_equal(json!(0), waiting).await;
    assert_eq!(bench.world.requests(ALICE, "login"), logins, "no connection was lost");
    let all = bench.get(&format!("/sessions/alice/messages?chatId={group}&limit=1000")).await;
    assert_eq!((all.status, all.body["total"].as_u64() >= Some(3)), (200, true), "{}", all.body["total"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_takes_no_more_changes_and_a_change_is_of_its_own_chat() {
    let (bench, group) = Bench::with_group().await;
    let id = bench.world.send(BOB, &group, Mail::text("a surprise party")).unwrap();
    until_told(&bench, MESSAGES, 1).await;
    bench.world.send(CAROL, &group, reaction(&group, &id, "👍")).unwrap();
    until_told(&bench, "message.reaction", 1).await;
    bench.world.send(BOB, &group, revocation(&group, &id, None)).unwrap();
    until_told(&bench, "message.revoked", 1).await;
    bench.world.send(BOB, &group, edit(&id, "a surprise party again")).unwrap();
    bench.world.send(CAROL, &group, reaction(&group, &id, "❤️")).unwrap();
    // In a chat with a person, of a message in the group.
    bench.world.send(BOB, ALICE, revocation(&group, "AB", None)).unwrap();
    bench.world.send(BOB, ALICE, reaction(&group, "AB", "👍")).unwrap();
    for (from, to) in [(BOB, group.as_str()), (CAROL, group.as_str()), (BOB, ALICE)] {
        bench.world.send(from, to, Mail::text("the end")).unwrap();
    }
    until_told(&bench, MESSAGES, 4).await;
    let changes = told(&bench, "message.edited,message.revoked,message.reaction").await;
    assert_eq!(changes.len(), 2, "{changes:?}");
    let listed = bench.get(&format!("/sessions/alice/messages?chatId={group}&offset=2")).await.body;
    let record = &listed["messages"][0];
    assert_eq!(json!([record["type"], record["body"], record["metadata"]]), json!(["revoked", "", null]), "{record}");
    assert_eq!(bench.get(&format!("/sessions/alice/messages/{group}/{id}/reactions")).await.body, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_has_its_own_mentions_and_a_text_that_is_too_long_says_so() {
    let (bench, group) = Bench::with_group().await;
    let greeting = wa::Message {
        extended_text_message: MessageField::some(text_with("hi", &[lid_jid(&bench, ALICE)])),
        ..Default::default()
    };
    let id = bench.world.send(BOB, &group, greeting.into()).unwrap();
    until_told(&bench, MESSAGES, 1).await;
    let history = async || bench.get(&format!("/sessions/alice/messages/{group}/history")).await.body[0].clone();
    assert_eq!(history().await["mentionedIds"], json!([format!("{ALICE}@c.us")]));
    bench.world.send(BOB, &group, edit_with(&id, "hi all", &[lid_jid(&bench, CAROL)])).unwrap();
    until_told(&bench, "message.edited", 1).await;
    assert_eq!(history().await["mentionedIds"], json!([format!("{CAROL}@c.us")]));
    bench.world.send(BOB, &group, edit(&id, &"x".repeat(70_000))).unwrap();
    let long = &until_told(&bench, "message.edited", 2).await[1].1;
    assert_eq!((long["body"].as_str().map(str::len), &long["truncated"]), (Some(65_536), &json!(true)));
    let shown = history().await;
    assert_eq!((&shown["truncated"], &shown["mentionedIds"]), (&json!(true), &Value::Null));
    let listed = bench.get("/sessions/alice/messages").await.body;
    assert_eq!(listed["messages"][0]["truncated"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_say_where_the_next_one_begins_also_where_long_texts_end_them() {
    let (bench, group) = Bench::with_group().await;
    for number in 0..5 {
        bench.world.send(BOB, &group, Mail::text(format!("{number}{}", "\u{1F600}".repeat(65_000)))).unwrap();
    }
    until_told(&bench, MESSAGES, 5).await;
    let count = |body: &Value| body.as_array().unwrap().len();
    let first = bench.get(&format!("/sessions/alice/messages/{group}/history?limit=2")).await;
    let next = format!("/messages/{group}/history?limit=2&offset=2>; rel=\"next\"");
    assert!(count(&first.body) == 2 && first.header("link").ends_with(&next), "{:?}", first.headers);
    let last = bench.get(&format!("/sessions/alice/messages/{group}/history?limit=3&offset=2")).await;
    assert_eq!((count(&last.body), last.headers.get("link")), (3, None));

    for number in 5..20 {
        bench.world.send(BOB, &group, Mail::text(format!("{number}{}", "\u{1F600}".repeat(65_000)))).unwrap();
    }
    until_told(&bench, "message.received", 20).await;
    let (mut seen, mut offset) = (Vec::new(), Some(0));
    while let Some(at) = offset {
        let page = bench.get(&format!("/sessions/alice/messages?offset={at}")).await.body;
        let messages = page["messages"].as_array().unwrap();
        seen.extend(messages.iter().map(|message| message["waMessageId"].clone()));
        offset = page["nextOffset"].as_u64();
        assert_eq!((page["total"].as_u64(), messages.is_empty()), (Some(20), false));
    }
    assert_eq!((seen.len(), seen.iter().collect::<std::collections::HashSet<_>>().len()), (20, 20));
}

/// Whoever writes it gives an earlier message another text.
fn edit(id: &str, text: &str) -> Mail {
    edit_with(id, text, &[])
}

fn edit_with(id: &str, text: &str, mentioned_jid: &[String]) -> Mail {
    let text = MessageField::some(text_with(text, mentioned_jid));
    let edited = wa::Message { extended_text_message: text, ..Default::default() };
    let protocol = wa::message::ProtocolMessage {
        key: MessageField::some(wa::MessageKey { id: Some(id.to_owned()), from_me: Some(true), ..Default::default() }),
        r#type: Some(ProtocolType::MESSAGE_EDIT),
        edited_message: MessageField::some(edited),
        ..Default::default()
    };
    let message = wa::Message { protocol_message: MessageField::some(protocol), ..Default::default() };
    Mail { edit: Some("1"), ..message.into() }
}

fn text_with(text: &str, mentioned_jid: &[String]) -> wa::message::ExtendedTextMessage {
    let context = wa::ContextInfo { mentioned_jid: mentioned_jid.to_vec(), ..Default::default() };
    let context_info = MessageField::some(context);
    wa::message::ExtendedTextMessage { text: Some(text.to_owned()), context_info, ..Default::default() }
}

/// Whoever writes it deletes an earlier message, of `author` if not of their own.
pub(crate) fn revocation(group: &str, id: &str, author: Option<&str>) -> Mail {
    let key = wa::MessageKey {
        remote_jid: Some(group.to_owned()),
        id: Some(id.to_owned()),
        from_me: Some(author.is_none()),
        participant: author.map(str::to_owned),
    };
    let protocol = wa::message::ProtocolMessage {
        key: MessageField::some(key),
        r#type: Some(ProtocolType::REVOKE),
        ..Default::default()
    };
    let message = wa::Message { protocol_message: MessageField::some(protocol), ..Default::default() };
    Mail { edit: Some(if author.is_some() { "8" } else { "7" }), ..message.into() }
}

fn reaction(group: &str, id: &str, emoji: &str) -> Mail {
    let key = wa::MessageKey { remote_jid: Some(group.to_owned()), id: Some(id.to_owned()), ..Default::default() };
    let reaction = wa::message::ReactionMessage {
        key: MessageField::some(key),
        text: Some(emoji.to_owned()),
        ..Default::default()
    };
    wa::Message { reaction_message: MessageField::some(reaction), ..Default::default() }.into()
}

fn lid_jid(bench: &Bench, phone: &str) -> String {
    let accounts = bench.world.snapshot()["accounts"].as_array().unwrap().clone();
    let account = accounts.into_iter().find(|account| account["phone"] == phone).unwrap();
    format!("{}@lid", account["lid"].as_str().unwrap())
}
