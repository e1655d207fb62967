//! Sending messages to groups and people: what arrives, what is refused, and that nobody sees a message twice.

use std::time::Duration;

use reqwest::Method;
use rookery_actors::RateLimit;
use rookery_simulator::{Addressing, CommunitySpec, Fault, FaultKind, ReachoutLock, ReceivedMessage, Setting};
use serde_json::{Value, json};

use crate::harness::{ALICE, Answer, BOB, Bench, CAROL, DAVE, until, until_equal};

const NOBODY: &str = "15550100099";

/// The messages that a phone has, once there are `count`.
async fn received(bench: &Bench, phone: &str, count: usize) -> Vec<ReceivedMessage> {
    until_equal(count, async || bench.world.messages(phone).len()).await;
    bench.world.messages(phone)
}

async fn send(bench: &Bench, kind: &str, body: Value) -> Answer {
    bench.post(&format!("/sessions/alice/messages/send-{kind}"), body).await
}

/// As groups in LID addressing name somebody, digits only.
fn lid_of(bench: &Bench, phone: &str) -> String {
    let accounts = bench.world.snapshot()["accounts"].as_array().unwrap().clone();
    let account = accounts.into_iter().find(|account| account["phone"] == phone).unwrap();
    account["lid"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_reaches_everybody_in_the_group_with_its_mentions_and_the_groups_timer() {
    let (bench, group) = Bench::with_group().await;
    bench.world.change_setting(&group, ALICE, Setting::Ephemeral(Some(86_400))).unwrap();
    let path = format!("/sessions/alice/groups/{group}/settings");
    until_equal(json!(86_400), async || bench.get(&path).await.body["ephemeralSeconds"].clone()).await;

    let lid = lid_of(&bench, BOB);
    // One person, named twice.
    let mentions = [format!("{BOB}@c.us"), format!("{lid}@lid")];
    let answer =
        send(&bench, "text", json!({ "chatId": group, "text": format!("hello @{BOB}!"), "mentions": mentions })).await;

    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(answer.body["timestamp"].as_i64().is_some_and(|seconds| seconds > 1_700_000_000), "{answer:?}");
    for phone in [BOB, CAROL] {
        let message = received(&bench, phone, 1).await.remove(0);
        assert_eq!((json!(message.id), message.chat.as_str()), (answer.body["messageId"].clone(), group.as_str()));
        assert_eq!(message.text, Some(format!("hello @{lid}!")));
        assert_eq!(message.mentions, [format!("{lid}@lid")]);
        assert_eq!((message.ephemeral_s, message.sender.as_str()), (Some(86_400), ALICE));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_mentioned_and_a_link_has_the_preview_that_was_given() {
    let (bench, group) = Bench::with_group().await;
    let preview = json!({ "url": "https://example.org/", "title": "Example", "description": "A page" });
    let text = "see https://example.org/";
    let body = json!({ "chatId": group, "text": text, "mentionAll": true, "customLinkPreview": preview });
    assert_eq!(send(&bench, "text", body).await.status, 201);
    let message = received(&bench, BOB, 1).await.remove(0);
    let everybody = [BOB, CAROL].map(|phone| format!("{}@lid", lid_of(&bench, phone)));
    let mut mentions = message.mentions.clone();
    mentions.sort();
    let mut expected = everybody.to_vec();
    expected.sort();
    assert_eq!(mentions, expected, "all but the sender");
    let content = message.message();
    let shown = content.extended_text_message.as_option().unwrap();
    assert_eq!((shown.title.as_deref(), shown.description.as_deref()), (Some("Example"), Some("A page")));
    assert_eq!(shown.context_info.as_option().unwrap().non_jid_mentions, Some(1));

    let without = json!({ "chatId": group, "text": text, "linkPreview": false, "customLinkPreview": preview });
    assert_eq!(send(&bench, "text", without).await.status, 201);
    let message = received(&bench, BOB, 2).await.remove(1).message();
    assert_eq!(message.extended_text_message.as_option().unwrap().title, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn places_contacts_and_polls_reach_a_person_under_any_spelling_of_the_number() {
    let (bench, _) = Bench::with_group().await;
    for chat in ["+1 (555) 010-0004", "15550100004@s.whatsapp.net", "15550100004"] {
        let text = json!({ "chatId": chat, "text": chat });
        assert_eq!(send(&bench, "text", text).await.status, 201, "{chat}");
    }
    let place = json!({ "chatId": DAVE, "latitude": 52.5163, "longitude": "13.3777", "description": "Gate" });
    assert_eq!(send(&bench, "location", place).await.status, 201);
    let contact = json!({ "chatId": DAVE, "contactName": "Bob; B.", "contactNumber": "+1 555 010 0002" });
    assert_eq!(send(&bench, "contact", contact).await.status, 201);
    let poll = json!({ "chatId": DAVE, "name": "When?", "options": ["now", "later"], "allowMultipleAnswers": true });
    assert_eq!(send(&bench, "poll", poll).await.status, 201);

    let messages = received(&bench, DAVE, 6).await;
    let kinds: Vec<&str> = messages.iter().map(|message| message.kind.as_str()).collect();
    assert_eq!(kinds, ["text", "text", "text", "location", "contact", "poll"]);
    let place = messages[3].message();
    let place = place.location_message.as_option().unwrap();
    assert_eq!((place.degrees_latitude, place.name.as_deref()), (Some(52.5163), Some("Gate")));
    let contact = messages[4].message();
    assert!(contact.contact_message.as_option().unwrap().vcard.as_deref().unwrap().contains("waid=15550100002:"));
    assert_eq!(messages[5].text.as_deref(), Some("When?"));
    let audited = bench.get("/audit?action=messages_send").await;
    assert_eq!((&audited.body["total"], &audited.body["data"][0]["count"]), (&json!(1), &Value::Null), "{audited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_refused_and_whatsapp_gets_nothing() {
    let (bench, group) = Bench::with_group().await;
    let sent = || bench.world.requests(ALICE, "message");
    let before = sent();
    let text = |chat: &str| json!({ "chatId": chat, "text": "hi" });
    let unknown = send(&bench, "text", text("120363999999999999@g.us")).await;
    assert_eq!(unknown.failure(), (404, "group_not_found"), "{unknown:?}");
    let nobody = send(&bench, "text", text(NOBODY)).await;
    assert_eq!(nobody.failure(), (404, "not_on_whatsapp"), "{nobody:?}");
    let broken = send(&bench, "text", text("status@broadcast")).await;
    assert_eq!(broken.failure(), (400, "invalid_chat_id"), "{broken:?}");
    let twice = json!({ "chatId": group, "name": "?", "options": ["a", "a"] });
    assert_eq!(send(&bench, "poll", twice).await.failure(), (400, "validation_failed"));

    // Bob's group, in which only admins write.
    let theirs = bench.world.add_group(rookery_simulator::GroupSpec {
        participants: vec![ALICE.into()],
        ..rookery_simulator::GroupSpec::new("News", BOB)
    });
    bench.world.change_announce(&theirs, BOB, true).unwrap();
    let path = format!("/sessions/alice/groups/{theirs}");
    until_equal(json!(true), async || bench.get(&path).await.body["isAnnounce"].clone()).await;
    let members_only = send(&bench, "text", text(&theirs)).await;
    assert_eq!(members_only.failure(), (403, "announce_only"), "{members_only:?}");
    let community = bench.world.add_community(CommunitySpec::new("Park", ALICE));
    let path = format!("/sessions/alice/communities/{community}");
    until_equal(200, async || bench.get(&path).await.status).await;
    let no_chat = send(&bench, "text", text(&community)).await;
    assert_eq!(no_chat.failure(), (400, "not_a_chat"), "{no_chat:?}");
    assert_eq!(sent(), before);

    assert_eq!(bench.post("/sessions/alice/stop", json!({})).await.status, 200);
    let stopped = send(&bench, "text", text(&group)).await;
    assert_eq!(stopped.failure(), (400, "session_not_started"));
    let id = bench.get("/sessions/alice").await.body["id"].as_str().unwrap().to_owned();
    assert_eq!(stopped.body["message"], format!("Session '{id}' is not active. Start the session first."));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_takes_no_messages_is_told_from_a_restricted_account() {
    let (bench, _) = Bench::with_group().await;
    bench.world.require_token(DAVE, true);
    let body = json!({ "chatId": DAVE, "text": "hi" });
    let stranger = send(&bench, "text", body.clone()).await;
    assert_eq!(stranger.failure(), (403, "privacy_token_missing"), "{stranger:?}");

    bench.world.lock_reachout(ALICE, Some(ReachoutLock { ends: Some(4_000_000_000), reason: "BIZ_QUALITY".into() }));
    until("the restriction", async || bench.get("/sessions/alice").await.body.get("restriction").cloned()).await;
    let locked = send(&bench, "text", body.clone()).await;
    assert_eq!(locked.failure(), (403, "reachout_timelock"), "{locked:?}");

    bench.world.lock_reachout(ALICE, None);
    bench.world.trust(DAVE, ALICE);
    until("the token", async || (send(&bench, "text", body.clone()).await.status == 201).then_some(())).await;
    assert_eq!(received(&bench, DAVE, 1).await[0].text.as_deref(), Some("hi"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_acknowledgement_and_a_cut_connection_cost_nobody_a_message_and_nobody_sees_two() {
    let (bench, group) = Bench::with_group().await;
    let faults = [
        FaultKind::Silence { apply: true },
        FaultKind::Silence { apply: false },
        FaultKind::Drop { apply: true, now: false },
        FaultKind::Drop { apply: false, now: false },
    ];
    for (number, kind) in faults.into_iter().enumerate() {
        bench.until_status("alice", "ready").await;
        bench.world.add_fault(ALICE, Fault::new(kind).at("message"));
        let answer = send(&bench, "text", json!({ "chatId": group, "text": format!("{number}") })).await;
        assert_eq!(answer.status, 201, "{kind:?}: {answer:?}");
        let messages = received(&bench, CAROL, number + 1).await;
        assert_eq!(json!(messages[number].id), answer.body["messageId"], "{kind:?}");
    }
    let texts: Vec<_> = bench.world.messages(CAROL).into_iter().filter_map(|message| message.text).collect();
    assert_eq!(texts, ["0", "1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_as_good_as_an_acknowledgement() {
    let (bench, group) = Bench::with_group().await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: true }).at("message").times(50));
    let answer = send(&bench, "text", json!({ "chatId": group, "text": "hi" })).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(received(&bench, CAROL, 1).await[0].times, 1, "it was sent once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unconfirmed_message_is_sent_again_under_its_idempotency_key_and_seen_once() {
    let (mut bench, group) = Bench::with_group().await;
    let body = json!({ "chatId": group, "text": "once" });
    // Somebody's receipt would say as much as WhatsApp's own acknowledgement.
    [BOB, CAROL].into_iter().for_each(|phone| bench.world.switch_phone(phone, false));
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: true }).at("message").times(50));

    let first = bench.call_once("k", Method::POST, "/sessions/alice/messages/send-text", &body).await;
    assert_eq!(first.failure(), (503, "outcome_unknown"), "{first:?}");
    bench.restart().await;
    bench.until_status("alice", "ready").await;
    bench.world.clear_faults(ALICE);
    // Attempts that send nothing, or that WhatsApp refuses, say nothing of the first one.
    let repeat = async || bench.call_once("k", Method::POST, "/sessions/alice/messages/send-text", &body).await;
    assert_eq!(bench.post("/sessions/alice/stop", json!({})).await.status, 200);
    assert_eq!(repeat().await.failure(), (400, "session_not_started"));
    assert_eq!(bench.post("/sessions/alice/start", json!({})).await.status, 200);
    bench.until_status("alice", "ready").await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Refuse { code: 403, backoff_s: None }).at("message"));
    let refused = repeat().await;
    assert_eq!(refused.failure(), (503, "outcome_unknown"), "{refused:?}");
    assert!(refused.body["message"].as_str().unwrap().contains("whatsapp_refused"), "{refused:?}");
    let second = bench.call_once("k", Method::POST, "/sessions/alice/messages/send-text", &body).await;
    let third = bench.call_once("k", Method::POST, "/sessions/alice/messages/send-text", &body).await;

    assert_eq!((second.status, second.replayed), (201, false), "{second:?}");
    assert_eq!((third.status, third.replayed, &third.body), (201, true, &second.body));
    [BOB, CAROL].into_iter().for_each(|phone| bench.world.switch_phone(phone, true));
    let messages = received(&bench, CAROL, 1).await;
    assert_eq!(json!(messages[0].id), second.body["messageId"]);
    assert!(messages[0].times >= 2, "{messages:?}");
    let other = json!({ "chatId": group, "text": "another" });
    let reused = bench.call_once("k", Method::POST, "/sessions/alice/messages/send-text", &other).await;
    assert_eq!(reused.status, 422, "{reused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_have_a_limit_of_their_own() {
    let mut bench = Bench::start().await;
    let two_a_day = RateLimit::new(1, Duration::from_secs(86_400), 2);
    bench.restart_with(|config| config.rate_limits.limit_message = Some(two_a_day)).await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    let body = json!({ "chatId": group, "text": "hi" });
    assert_eq!(send(&bench, "text", json!({ "chatId": NOBODY, "text": "hi" })).await.status, 404, "not counted");
    for _ in 0..2 {
        assert_eq!(send(&bench, "text", body.clone()).await.status, 201);
    }
    let limited = send(&bench, "text", body).await;
    assert_eq!(limited.failure(), (429, "SEND_PACING_LIMITED"), "{limited:?}");
    assert!(limited.retry_after.is_some_and(|seconds| seconds > 3_600));
    let subject = bench.put(&format!("/sessions/alice/groups/{group}/subject"), json!({ "subject": "New" })).await;
    assert_eq!(subject.status, 200, "changes have their own limit: {subject:?}");
    assert_eq!(bench.world.messages(BOB).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_limited_to_a_group_writes_there_and_nowhere_else() {
    let (bench, group) = Bench::with_group().await;
    let other = bench.group(&[DAVE], Addressing::Lid);
    let path = format!("/sessions/alice/groups/{other}");
    until("the other group", async || (bench.get(&path).await.status == 200).then_some(())).await;
    let session = bench.get("/sessions/alice").await.body["id"].clone();
    let terms = json!({
        "name": "tenant", "role": "operator", "allowedSessions": [session],
        "allowedGroups": [group],
    });
    let made = bench.post("/auth/api-keys", terms).await;
    assert_eq!(made.status, 201, "{made:?}");
    let key = made.body["apiKey"].as_str().unwrap().to_owned();
    let sent = |chat: String| {
        let (bench, key) = (&bench, key.clone());
        async move {
            let body = json!({ "chatId": chat, "text": "hi" });
            bench.call_with(&key, Method::POST, "/sessions/alice/messages/send-text", Some(body)).await
        }
    };
    assert_eq!(sent(group).await.status, 201);
    let elsewhere = sent(other).await;
    assert_eq!(elsewhere.status, 401, "{elsewhere:?}");
    let person = sent(DAVE.to_owned()).await;
    assert_eq!(person.status, 403, "{person:?}");
    assert_eq!((bench.world.messages(CAROL).len(), bench.world.messages(DAVE).len()), (1, 0));
}
