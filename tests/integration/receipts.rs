//! Receipts of messages that a session sent: who has them, and when all do.

use rookery_simulator::{Addressing, Mail};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, CAROL, DAVE, until_equal};

async fn sent(bench: &Bench, chat: &str) -> String {
    let answer = bench.post("/sessions/alice/messages/send-text", json!({ "chatId": chat, "text": "hi" })).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.body["messageId"].as_str().unwrap().to_owned()
}

/// What was told of this message, oldest first: status and number.
async fn acks(bench: &Bench, id: &str) -> Vec<Value> {
    let page = bench.get("/sessions/alice/events?types=message.ack&limit=1000").await.body;
    let of_it = page["events"].as_array().unwrap().iter().filter(|event| event["data"]["messageId"] == id);
    of_it.map(|event| json!([event["data"]["status"], event["data"]["ack"]])).collect()
}

async fn status(bench: &Bench, id: &str) -> Value {
    let listed = bench.get("/sessions/alice/messages").await.body;
    let mut messages = listed["messages"].as_array().unwrap().iter();
    messages.find(|message| message["waMessageId"] == id).unwrap()["status"].clone()
}

async fn receipts(bench: &Bench, chat: &str, id: &str) -> Value {
    bench.get(&format!("/sessions/alice/messages/{chat}/{id}/receipts")).await.body
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_group_a_step_is_told_once_when_all_have_come_so_far() {
    for addressing in [Addressing::Lid, Addressing::Pn] {
        let mut bench = Bench::start().await;
        let group = bench.group(&[BOB, CAROL], addressing);
        bench.link("alice", ALICE).await;
        let id = sent(&bench, &group).await;
        until_equal(vec![json!(["delivered", 2])], async || acks(&bench, &id).await).await;
        assert_eq!(status(&bench, &id).await, "delivered");
        let all = receipts(&bench, &group, &id).await;
        assert_eq!(json!([all["recipients"], all["delivered"], all["read"]]), json!([2, 2, 0]), "{all}");
        let mut people: Vec<&str> =
            all["receipts"].as_array().unwrap().iter().map(|one| one["participantId"].as_str().unwrap()).collect();
        people.sort_unstable();
        assert_eq!(people, [BOB, CAROL].map(|phone| format!("{phone}@c.us")));

        bench.world.read_chat(BOB, &group).unwrap();
        until_equal(json!(1), async || receipts(&bench, &group, &id).await["read"].clone()).await;
        assert_eq!((acks(&bench, &id).await.len(), status(&bench, &id).await), (1, json!("delivered")));
        // Neither a start nor a new member changes what is missing.
        bench.restart().await;
        bench.until_status("alice", "ready").await;
        bench.world.change_participants(&group, rookery_simulator::ParticipantChange::Add, ALICE, &[DAVE]).unwrap();
        bench.world.read_chat(CAROL, &group).unwrap();
        until_equal(vec![json!(["delivered", 2]), json!(["read", 3])], async || acks(&bench, &id).await).await;
        assert_eq!(status(&bench, &id).await, "read");
        let all = receipts(&bench, &group, &id).await;
        assert_eq!(json!([all["recipients"], all["delivered"], all["read"]]), json!([2, 2, 2]), "{all}");

        let told = bench.get("/sessions/alice/events?types=message.receipts&limit=1000").await.body;
        let events = told["events"].as_array().unwrap().iter();
        let steps = events.flat_map(|event| event["data"]["receipts"].as_array().unwrap());
        let mut steps: Vec<_> = steps.map(|step| json!([step["participantId"], step["status"]])).collect();
        steps.sort_by_key(Value::to_string);
        let [bob, carol] = [BOB, CAROL].map(|phone| format!("{phone}@c.us"));
        let expected = [(&bob, "delivered"), (&bob, "read"), (&carol, "delivered"), (&carol, "read")];
        assert_eq!(steps, expected.map(|(person, status)| json!([person, status])), "each step is told once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_person_each_step_is_told_and_only_own_messages_have_receipts() {
    let (bench, group) = Bench::with_group().await;
    let id = sent(&bench, DAVE).await;
    until_equal(vec![json!(["delivered", 2])], async || acks(&bench, &id).await).await;
    bench.world.read_chat(DAVE, ALICE).unwrap();
    until_equal(vec![json!(["delivered", 2]), json!(["read", 3])], async || acks(&bench, &id).await).await;
    let all = receipts(&bench, DAVE, &id).await;
    assert_eq!(json!([all["recipients"], all["delivered"], all["read"]]), json!([1, 1, 1]), "{all}");
    let dave = &all["receipts"][0];
    assert_eq!(dave["participantId"], format!("{DAVE}@c.us"));
    assert!(dave["deliveredAt"].is_string() && dave["readAt"].is_string() && dave["playedAt"].is_null(), "{dave}");
    assert_eq!(status(&bench, &id).await, "read");

    let theirs = bench.world.send(BOB, &group, Mail::text("mine")).unwrap();
    let path = format!("/sessions/alice/messages/{group}/{theirs}/receipts");
    until_equal(403, async || bench.get(&path).await.status).await;
    assert_eq!(bench.get(&path).await.failure(), (403, "not_own_message"));
    let unknown = bench.get(&format!("/sessions/alice/messages/{group}/{id}/receipts")).await;
    assert_eq!(unknown.failure(), (404, "message_not_found"), "it is in another chat");
}
