//! Messages that refer to earlier ones: what arrives at the phones, and what is refused.

use rookery_simulator::{Addressing, Mail, ReceivedMessage};
use serde_json::{Value, json};

use crate::harness::{ALICE, Answer, BOB, Bench, CAROL, DAVE, until, until_equal};

async fn post(bench: &Bench, route: &str, body: Value) -> Answer {
    bench.post(&format!("/sessions/alice/messages/{route}"), body).await
}

/// What a phone got that refers to this message, or quotes it.
async fn about(bench: &Bench, phone: &str, id: &str, kind: &str) -> ReceivedMessage {
    until(&format!("{kind} about {id}"), async || {
        let all = bench.world.messages(phone);
        let is_it = |message: &ReceivedMessage| {
            let refers = [&message.target, &message.quoted].into_iter().any(|to| to.as_deref() == Some(id));
            refers && message.kind == kind
        };
        all.into_iter().rfind(is_it)
    })
    .await
}

/// Bob writes to the group and Dave to the account: the ids of both, once they are in the log.
async fn written(bench: &Bench, group: &str) -> (String, String) {
    let in_group = bench.world.send(BOB, group, Mail::text("who comes?")).unwrap();
    let alone = bench.world.send(DAVE, ALICE, Mail::text("and you?")).unwrap();
    until_equal(json!(2), async || bench.get("/sessions/alice/messages").await.body["total"].clone()).await;
    (in_group, alone)
}

fn lid_of(bench: &Bench, phone: &str) -> String {
    let accounts = bench.world.snapshot()["accounts"].as_array().unwrap().clone();
    let account = accounts.into_iter().find(|account| account["phone"] == phone).unwrap();
    format!("{}@lid", account["lid"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_and_reactions_name_the_message_and_its_author_as_the_chat_does() {
    for addressing in [Addressing::Lid, Addressing::Pn] {
        let bench = Bench::start().await;
        let group = bench.group(&[BOB, CAROL], addressing);
        bench.link("alice", ALICE).await;
        let (asked, alone) = written(&bench, &group).await;
        let body = json!({ "chatId": group, "quotedMessageId": asked, "text": format!("@{CAROL} and I"), "mentions": [CAROL] });
        assert_eq!(post(&bench, "reply", body).await.status, 201);
        let reply = about(&bench, CAROL, &asked, "text").await;
        let bob = if addressing == Addressing::Lid { lid_of(&bench, BOB) } else { format!("{BOB}@s.whatsapp.net") };
        let content = reply.message();
        let context = content.extended_text_message.as_option().unwrap().context_info.as_option().unwrap();
        assert_eq!(context.participant.as_deref(), Some(bob.as_str()));
        assert_eq!(context.quoted_message.as_option().unwrap().conversation.as_deref(), Some("who comes?"));
        assert_eq!(reply.mentions.len(), 1);

        let body = json!({ "chatId": group, "messageId": asked, "emoji": "👍" });
        assert_eq!(post(&bench, "react", body).await.body, json!({ "success": true }));
        let reaction = about(&bench, BOB, &asked, "reaction").await;
        assert_eq!(reaction.text.as_deref(), Some("👍"));
        let content = reaction.message();
        let key = content.reaction_message.as_option().unwrap().key.as_option().unwrap();
        assert_eq!((key.participant.as_deref(), key.from_me), (Some(bob.as_str()), Some(false)));

        let quoting = json!({ "chatId": DAVE, "text": "me, too", "quotedMessageId": alone });
        assert_eq!(post(&bench, "send-text", quoting).await.status, 201);
        assert_eq!(about(&bench, DAVE, &alone, "text").await.text.as_deref(), Some("me, too"));

        let forward = json!({ "fromChatId": DAVE, "toChatId": group, "messageId": alone });
        let forwarded = post(&bench, "forward", forward).await;
        assert_eq!(forwarded.status, 201, "{forwarded:?}");
        let id = forwarded.body["messageId"].as_str().unwrap().to_owned();
        let got = until("the forward", async || bench.world.messages(BOB).into_iter().find(|one| one.id == id)).await;
        assert_eq!((got.text.as_deref(), got.forwarded), (Some("and you?"), true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn own_messages_are_edited_and_deleted_and_the_log_shows_it() {
    let (bench, group) = Bench::with_group().await;
    for chat in [group.as_str(), DAVE] {
        let phone = if chat == DAVE { DAVE } else { BOB };
        let sent = post(&bench, "send-text", json!({ "chatId": chat, "text": "at seven" })).await.body;
        let id = sent["messageId"].as_str().unwrap().to_owned();
        let edited = post(&bench, "edit", json!({ "chatId": chat, "messageId": id, "body": "at eight" })).await;
        assert_eq!((edited.status, &edited.body["messageId"]), (200, &json!(id)), "{edited:?}");
        let edit = about(&bench, phone, &id, "edit").await;
        assert_eq!((edit.edit.as_deref(), edit.text.as_deref()), (Some("1"), Some("at eight")));
        let history = |index: usize| {
            let path = format!("/sessions/alice/messages/{chat}/history");
            let bench = &bench;
            async move { bench.get(&path).await.body[index].clone() }
        };
        assert_eq!(history(0).await["body"], "at eight");
        let forwarded =
            post(&bench, "forward", json!({ "fromChatId": chat, "toChatId": CAROL, "messageId": id })).await;
        let forwarded = forwarded.body["messageId"].as_str().unwrap().to_owned();
        let is_it = |one: &ReceivedMessage| one.id == forwarded;
        let got = until("the forward", async || bench.world.messages(CAROL).into_iter().find(is_it)).await;
        assert_eq!(got.text.as_deref(), Some("at eight"), "as it can be read now");
        let reply = json!({ "chatId": chat, "quotedMessageId": id, "text": "or later" });
        assert_eq!(post(&bench, "reply", reply).await.status, 201);
        let content = about(&bench, phone, &id, "text").await.message();
        let context = content.extended_text_message.as_option().unwrap().context_info.as_option().unwrap();
        let quoted = context.quoted_message.as_option().unwrap();
        assert_eq!(quoted.extended_text_message.as_option().unwrap().text.as_deref(), Some("at eight"));

        let deletion = json!({ "chatId": chat, "messageId": id });
        assert_eq!(post(&bench, "delete", deletion.clone()).await.body, json!({ "success": true }));
        assert_eq!(about(&bench, phone, &id, "revoke").await.edit.as_deref(), Some("7"));
        assert_eq!((history(1).await["type"].clone(), history(1).await["body"].clone()), (json!("revoked"), json!("")));
        assert_eq!(post(&bench, "delete", deletion).await.failure(), (400, "message_deleted"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_deletes_what_others_wrote_and_nobody_else_does() {
    let (bench, group) = Bench::with_group().await;
    let (asked, alone) = written(&bench, &group).await;
    let of_dave = json!({ "chatId": DAVE, "messageId": alone });
    assert_eq!(post(&bench, "delete", of_dave).await.failure(), (403, "not_own_message"));
    let edit = json!({ "chatId": group, "messageId": asked, "body": "no" });
    assert_eq!(post(&bench, "edit", edit).await.failure(), (403, "not_own_message"));
    let deleted = post(&bench, "delete", json!({ "chatId": group, "messageId": asked })).await;
    assert_eq!(deleted.status, 200, "{deleted:?}");
    let revocation = about(&bench, CAROL, &asked, "revoke").await;
    assert_eq!(revocation.edit.as_deref(), Some("8"));
    let content = revocation.message();
    let key = content.protocol_message.as_option().unwrap().key.as_option().unwrap();
    assert_eq!((key.from_me, key.participant.as_deref()), (Some(false), Some(lid_of(&bench, BOB).as_str())));

    let other = bench.world.add_group(rookery_simulator::GroupSpec {
        participants: vec![ALICE.to_owned()],
        ..rookery_simulator::GroupSpec::new("Bob's", BOB)
    });
    let theirs = bench.world.send(BOB, &other, Mail::text("mine")).unwrap();
    until_equal(200, async || bench.get(&format!("/sessions/alice/messages/{other}/{theirs}/reactions")).await.status)
        .await;
    until_equal(200, async || bench.get(&format!("/sessions/alice/groups/{other}")).await.status).await;
    let refused = post(&bench, "delete", json!({ "chatId": other, "messageId": theirs })).await;
    assert_eq!(refused.failure(), (403, "not_admin"));
    let unknown = json!({ "chatId": group, "messageId": theirs, "emoji": "👍" });
    assert_eq!(
        post(&bench, "react", unknown.clone()).await.failure(),
        (404, "message_not_found"),
        "it is in another chat"
    );
    for emoji in ["", "👍🏽", "❤", "❤️", "👨‍👩‍👧‍👦", "🇩🇪", "5️⃣"] {
        let body = json!({ "chatId": group, "messageId": "AB", "emoji": emoji });
        assert_eq!(post(&bench, "react", body).await.status, 404, "{emoji}");
    }
    for emoji in ["yes", "👍👍", " 👍", "5", "\u{200D}"] {
        let body = json!({ "chatId": group, "messageId": "AB", "emoji": emoji });
        let refused = post(&bench, "react", body).await;
        assert!(refused.status == 400 && refused.body["message"].to_string().contains("emoji must be"), "{refused:?}");
    }
    bench.post("/sessions/alice/stop", json!({})).await;
    assert_eq!(post(&bench, "react", unknown).await.failure(), (400, "session_not_started"), "that comes first");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_pinned_for_all_and_starred_and_deleted_for_the_account_alone() {
    let (bench, group) = Bench::with_group().await;
    let (asked, alone) = written(&bench, &group).await;
    let pinned = async |id: &str| {
        until("the pin", async || {
            let all = bench.world.messages(CAROL);
            let pins = all.into_iter().filter(|message| message.message().pin_in_chat_message.is_set());
            pins.map(|message| (message.edit.clone(), message.message())).find(|(_, message)| {
                let pin = message.pin_in_chat_message.as_option().unwrap();
                pin.key.as_option().unwrap().id.as_deref() == Some(id)
            })
        })
        .await
    };
    let body = json!({ "chatId": group, "messageId": asked, "durationSeconds": 86_400 });
    assert_eq!(post(&bench, "pin", body).await.body, json!({ "success": true }));
    let (edit, message) = pinned(&asked).await;
    let context = message.message_context_info.as_option().unwrap();
    let key = message.pin_in_chat_message.as_option().unwrap().key.as_option().unwrap();
    assert_eq!((edit.as_deref(), context.message_add_on_duration_in_secs), (Some("2"), Some(86_400)));
    assert_eq!((key.from_me, key.participant.as_deref()), (Some(false), Some(lid_of(&bench, BOB).as_str())));
    let for_an_hour = json!({ "chatId": group, "messageId": asked, "durationSeconds": 3_600 });
    assert_eq!(post(&bench, "pin", for_an_hour).await.status, 400);
    assert_eq!(post(&bench, "unpin", json!({ "chatId": group, "messageId": asked })).await.status, 200);
    assert_eq!(
        bench.get("/sessions/alice/events?types=message.sent").await.body["events"],
        json!([]),
        "nothing was said"
    );

    let marks = async || {
        let all = bench.world.app_state(ALICE).into_iter();
        let mut marks: Vec<_> =
            all.filter(|(index, _)| ["star", "deleteMessageForMe"].contains(&index[0].as_str())).collect();
        marks.sort_by(|one, other| one.0.cmp(&other.0));
        marks
    };
    for (chat, id, star) in [(group.as_str(), &asked, true), (DAVE, &alone, true), (DAVE, &alone, false)] {
        let starred = post(&bench, "star", json!({ "chatId": chat, "messageId": id, "star": star })).await;
        assert_eq!((starred.status, &starred.body), (200, &json!({ "success": true })), "{starred:?}");
    }
    let deletion = json!({ "chatId": DAVE, "messageId": alone, "forEveryone": false });
    assert_eq!(post(&bench, "delete", deletion).await.body, json!({ "success": true }));
    let seen: Vec<_> = marks()
        .await
        .into_iter()
        .map(|(index, value)| {
            let star = value.star_action.as_option().and_then(|action| action.starred);
            (index, star, value.delete_message_for_me_action.is_set())
        })
        .collect();
    let index = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (dave, bob) = (format!("{DAVE}@s.whatsapp.net"), lid_of(&bench, BOB));
    assert_eq!(
        seen,
        [
            (index(&["deleteMessageForMe", &dave, &alone, "0", "0"]), None, true),
            (index(&["star", &group, &asked, "0", &bob]), Some(true), false),
            (index(&["star", &dave, &alone, "0", "0"]), Some(false), false),
        ]
    );
    assert!(bench.world.messages(DAVE).iter().all(|message| message.kind != "revoke"), "nobody else hears of it");
    let missing = post(&bench, "star", json!({ "chatId": DAVE, "messageId": alone })).await;
    assert!(missing.body["message"].to_string().contains("star must be"), "{missing:?}");
}
