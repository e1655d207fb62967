//! Votes in polls: the account's own as others read them, and those of others as they are told.

use buffa::MessageField;
use rookery_simulator::{Addressing, Mail};
use serde_json::{Value, json};
use waproto::whatsapp as wa;

use crate::harness::{ALICE, Answer, BOB, Bench, CAROL, DAVE, until_equal};

/// A poll of a phone, in which everybody has one vote.
fn poll(options: &[&str]) -> Mail {
    let option = |name: &&str| wa::message::poll_creation_message::Option {
        option_name: Some((*name).to_owned()),
        ..Default::default()
    };
    let poll = wa::message::PollCreationMessage {
        name: Some("When?".to_owned()),
        options: options.iter().map(option).collect(),
        selectable_options_count: Some(1),
        ..Default::default()
    };
    let context = wa::MessageContextInfo { message_secret: Some(vec![7; 32]), ..Default::default() };
    let message = wa::Message {
        poll_creation_message_v3: MessageField::some(poll),
        message_context_info: MessageField::some(context),
        ..Default::default()
    };
    message.into()
}

async fn vote(bench: &Bench, chat: &str, poll: &str, options: &[&str]) -> Answer {
    let body = json!({ "chatId": chat, "pollMessageId": poll, "options": options });
    bench.post("/sessions/alice/messages/vote-poll", body).await
}

/// Who chose what, by option.
async fn votes(bench: &Bench, chat: &str, poll: &str) -> Value {
    let answer = bench.get(&format!("/sessions/alice/messages/{chat}/{poll}/votes")).await;
    let Some(options) = answer.body.as_array() else { return answer.body };
    let voters = |option: &Value| -> Vec<Value> {
        option["voters"].as_array().unwrap().iter().map(|voter| voter["senderId"].clone()).collect()
    };
    options.iter().map(|option| json!([option["option"], voters(option)])).collect()
}

async fn told(bench: &Bench) -> Vec<Value> {
    let page = bench.get("/sessions/alice/events?types=message.poll_vote&limit=1000").await.body;
    let events = page["events"].as_array().unwrap().iter();
    events.map(|event| json!([event["data"]["senderId"], event["data"]["id"], event["data"]["options"]])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_accounts_vote_is_read_by_who_made_the_poll_and_can_be_changed_and_taken_back() {
    for addressing in [Addressing::Lid, Addressing::Pn] {
        let mut bench = Bench::start().await;
        let group = bench.group(&[BOB, CAROL], addressing);
        bench.link("alice", ALICE).await;
        let of_bob = bench.world.send(BOB, &group, poll(&["Monday", "Tuesday"])).unwrap();
        until_equal(json!([["Monday", []], ["Tuesday", []]]), async || votes(&bench, &group, &of_bob).await).await;
        let alice = format!("{ALICE}@c.us");
        for (at, options) in [vec!["Monday"], vec!["Tuesday"], vec![]].into_iter().enumerate() {
            let voted = vote(&bench, &group, &of_bob, &options).await;
            assert_eq!((voted.status, &voted.body), (200, &json!({ "success": true })), "{voted:?}");
            let chosen: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
            until_equal(Some(chosen), async || bench.world.vote_of(BOB, ALICE, &group, &of_bob)).await;
            assert_eq!(told(&bench).await[at], json!([alice, of_bob, options]));
            let by = |option: &str| if options.contains(&option) { vec![alice.clone()] } else { vec![] };
            let expected = json!([["Monday", by("Monday")], ["Tuesday", by("Tuesday")]]);
            assert_eq!(votes(&bench, &group, &of_bob).await, expected);
            bench.restart().await;
            bench.until_status("alice", "ready").await;
        }
        let many = vote(&bench, &group, &of_bob, &["Monday", "Tuesday"]).await;
        let unknown = vote(&bench, &group, &of_bob, &["Sunday"]).await;
        for (refused, words) in [(many, "no more than 1"), (unknown, "Sunday is not: Monday, Tuesday")] {
            assert!(refused.status == 400 && refused.body["message"].to_string().contains(words), "{refused:?}");
        }
        let text = bench.world.send(BOB, &group, Mail::text("hi")).unwrap();
        until_equal((400, "not_a_poll".to_owned()), async || {
            let answer = vote(&bench, &group, &text, &[]).await;
            (answer.status, answer.failure().1.to_owned())
        })
        .await;
        assert_eq!(vote(&bench, &group, "AB", &[]).await.failure(), (404, "message_not_found"));
        let deletion = json!({ "chatId": group, "messageId": of_bob });
        assert_eq!(bench.post("/sessions/alice/messages/delete", deletion).await.status, 200);
        let path = format!("/sessions/alice/messages/{group}/{of_bob}/votes");
        assert_eq!(bench.get(&path).await.failure(), (400, "message_deleted"));
        assert_eq!(vote(&bench, &group, &of_bob, &["Monday"]).await.failure(), (400, "message_deleted"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_of_others_are_told_with_what_they_chose() {
    for addressing in [Addressing::Lid, Addressing::Pn] {
        let bench = Bench::start().await;
        let group = bench.group(&[BOB, CAROL], addressing);
        bench.link("alice", ALICE).await;
        for (chat, voter) in [(group.as_str(), CAROL), (DAVE, DAVE)] {
            let body = json!({ "chatId": chat, "name": "When?", "options": ["Monday", "Tuesday"], "allowMultipleAnswers": true });
            let sent = bench.post("/sessions/alice/messages/send-poll", body).await;
            let id = sent.body["messageId"].as_str().unwrap();
            let before = told(&bench).await.len();
            let place = if chat == DAVE { ALICE } else { chat };
            bench.world.vote(voter, place, id, &["Tuesday", "Monday"]).unwrap();
            until_equal(before + 1, async || told(&bench).await.len()).await;
            let by = format!("{voter}@c.us");
            assert_eq!(told(&bench).await[before], json!([by, id, ["Monday", "Tuesday"]]));
            assert_eq!(votes(&bench, chat, id).await, json!([["Monday", [by]], ["Tuesday", [by]]]));
            bench.world.vote(voter, place, id, &[]).unwrap();
            until_equal(before + 2, async || told(&bench).await.len()).await;
            assert_eq!(votes(&bench, chat, id).await, json!([["Monday", []], ["Tuesday", []]]));
        }
        // Of a poll from before the session: that there is a vote is known, and not what for.
        let old = bench.world.send(BOB, &group, Mail { id: Some("3AOLD".to_owned()), ..poll(&["Yes", "No"]) }).unwrap();
        let message = bench.world.messages(CAROL).into_iter().find(|message| message.id == old).unwrap();
        let mut unknown = message.message();
        let of_other = wa::message::PollUpdateMessage {
            poll_creation_message_key: MessageField::some(wa::MessageKey {
                remote_jid: Some(group.clone()),
                id: Some("3ANONE".to_owned()),
                ..Default::default()
            }),
            vote: MessageField::some(wa::message::PollEncValue {
                enc_payload: Some(vec![1; 60]),
                enc_iv: Some(vec![2; 12]),
            }),
            ..Default::default()
        };
        unknown.poll_creation_message_v3 = MessageField::none();
        unknown.poll_update_message = MessageField::some(of_other);
        bench.world.send(CAROL, &group, unknown.into()).unwrap();
        until_equal(5, async || told(&bench).await.len()).await;
        assert_eq!(told(&bench).await[4], json!([format!("{CAROL}@c.us"), "3ANONE", null]));
    }
}
