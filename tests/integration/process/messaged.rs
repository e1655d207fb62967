//! Messages of a daemon that is killed with -9: a client that repeats its requests loses none and sends none twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use reqwest::Method;
use rookery_simulator::{AccountSpec, World};
use serde_json::json;
use tokio::task::JoinSet;

use super::setup::{Daemon, OWN_PHONE, Setup};
use super::told::events_after;
use crate::harness::until;

const ROUNDS: usize = 6;
/// Messages that are sent at once in each round.
const MESSAGES: usize = 24;
/// No limits of our own: they are not what is tested.
const NO_LIMITS: [(&str, &str); 2] = [("ROOKERY_LIMIT_MESSAGE", "off"), ("ROOKERY_LIMIT_LOOKUP", "off")];
const PERSON: &str = "15550100002";

#[tokio::test(flavor = "multi_thread")]
async fn repeated_messages_of_a_killed_daemon_are_sent_and_seen_once() {
    let setup = Setup::start().await;
    let world = setup.world();
    world.add_account(AccountSpec::new(PERSON));
    let team = setup.group("Team", &[PERSON, "15550100003"]);
    let mut daemon = Arc::new(setup.daemon_with(&NO_LIMITS).await);
    daemon.link("alice", OWN_PHONE).await;

    let mut expected: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..ROUNDS {
        let seen_before = world.messages(PERSON).len();
        let sending = send_all(&daemon, &team, round);
        // Another moment in each round: after none, some, or most of them have arrived.
        let wanted = seen_before + round * MESSAGES / ROUNDS;
        until("some of the messages", async || (world.messages(PERSON).len() >= wanted).then_some(())).await;
        daemon.child.kill();
        let acknowledged = sending.join_all().await;

        daemon = Arc::new(setup.daemon_with(&NO_LIMITS).await);
        daemon.until_ready_by_itself("alice").await;
        for (text, id) in send_all(&daemon, &team, round).join_all().await {
            let id = id.unwrap_or_else(|| panic!("round {round}: {text} was not sent"));
            expected.insert(text, id);
        }
        for (text, id) in acknowledged {
            assert!(id.is_none_or(|id| expected[&text] == id), "round {round}: {text} has another id now");
        }
        assert_seen_once(&world, &expected, round).await;
        assert_told_once(&daemon, &expected, round).await;
    }
}

/// Batches that are being sent at once, and the messages of each.
const BATCHES: usize = 6;
const MESSAGES_OF_BATCH: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_a_killed_daemon_go_on_and_nobody_gets_a_message_twice() {
    let setup = Setup::start().await;
    let world = setup.world();
    world.add_account(AccountSpec::new(PERSON));
    let team = setup.group("Team", &[PERSON, "15550100003"]);
    let mut daemon = setup.daemon_with(&NO_LIMITS).await;
    daemon.link("alice", OWN_PHONE).await;
    for batch in 0..BATCHES {
        let message = |number: usize| {
            let chat = if number.is_multiple_of(2) { PERSON } else { &team };
            json!({ "chatId": chat, "type": "text", "content": { "text": format!("{batch}-{number}") } })
        };
        let messages: Vec<_> = (0..MESSAGES_OF_BATCH).map(message).collect();
        let options = json!({ "delayBetweenMessages": 1_000, "randomizeDelay": false });
        let body = json!({ "batchId": batch.to_string(), "messages": messages, "options": options });
        let path = "/api/sessions/alice/messages/send-bulk";
        let (status, answer) =
            daemon.try_once(Method::POST, &format!("make {batch}"), path, &body).await.expect("an answer");
        assert_eq!(status, 202, "{answer}");
    }
    for round in 1..BATCHES {
        // In the middle of the messages that are sent at about the same time.
        let wanted = round * MESSAGES_OF_BATCH + round - 3.min(round);
        until("some of the messages", async || (world.messages(PERSON).len() >= wanted).then_some(())).await;
        daemon.child.kill();
        daemon = setup.daemon_with(&NO_LIMITS).await;
    }
    let all = BATCHES * MESSAGES_OF_BATCH;
    until("all messages", async || (world.messages(PERSON).len() >= all).then_some(())).await;
    for batch in 0..BATCHES {
        let path = format!("/api/sessions/alice/messages/batch/{batch}");
        let over = async || {
            let (_, batch) = daemon.get(&path).await;
            (batch["status"] == "completed").then_some(batch)
        };
        assert_eq!(until("the batch is over", over).await["progress"]["sent"], MESSAGES_OF_BATCH);
    }
    let seen = world.messages(PERSON);
    let texts: std::collections::BTreeSet<_> = seen.iter().filter_map(|message| message.text.clone()).collect();
    assert_eq!((seen.len(), texts.len()), (all, all), "{seen:?}");
    assert!(seen.iter().all(|message| message.kind == "text"));
}

/// The log has each message once.
async fn assert_told_once(daemon: &Daemon, expected: &BTreeMap<String, String>, round: usize) {
    let (events, _) = events_after(daemon, "0", &format!("round {round}")).await;
    let sent = events.iter().filter(|event| event["event"] == "message.sent").map(|event| &event["data"]);
    let mut told = BTreeMap::new();
    for data in sent {
        let (text, id) = (data["body"].as_str().expect("a text"), data["id"].as_str().expect("an id"));
        assert_eq!(told.insert(text.to_owned(), id.to_owned()), None, "round {round}: told twice: {data}");
    }
    assert_eq!(&told, expected, "round {round}");
}

/// Sends the messages of a round, to the person and to the group by turns. Returns each text with its message's id; `None`: the
/// daemon did not say that it was sent.
fn send_all(daemon: &Arc<Daemon>, team: &str, round: usize) -> JoinSet<(String, Option<String>)> {
    let mut sending = JoinSet::new();
    for number in 0..MESSAGES {
        let (daemon, chat) = (Arc::clone(daemon), if number % 2 == 0 { PERSON } else { team }.to_owned());
        sending.spawn(async move {
            let text = format!("{round}-{number}");
            let body = json!({ "chatId": chat, "text": text });
            let path = "/api/sessions/alice/messages/send-text";
            let answer = daemon.try_once(Method::POST, &text, path, &body).await.ok();
            let sent = answer.filter(|(status, _)| *status == 201);
            (text, sent.and_then(|(_, body)| Some(body["messageId"].as_str()?.to_owned())))
        });
    }
    sending
}

/// All expected messages are at the person's phone, each once.
async fn assert_seen_once(world: &World, expected: &BTreeMap<String, String>, round: usize) {
    until("all messages", async || (world.messages(PERSON).len() >= expected.len()).then_some(())).await;
    let seen = world.messages(PERSON);
    let texts: BTreeMap<String, String> =
        seen.iter().map(|message| (message.text.clone().unwrap_or_default(), message.id.clone())).collect();
    assert_eq!(&texts, expected, "round {round}");
    assert_eq!(seen.len(), expected.len(), "round {round}: {seen:?}");
}
