//! Messages in bulk: each is sent once, over restarts, with the rights that its key has at that moment.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{ALICE, Answer, BOB, Bench, CAROL, DAVE, until, until_equal};

const BULK: &str = "/sessions/alice/messages/send-bulk";
const NOBODY: &str = "15550100099";

fn text(chat: &str, text: &str) -> Value {
    json!({ "chatId": chat, "type": "text", "content": { "text": text } })
}

/// As fast as batches may be.
fn fast() -> Value {
    json!({ "delayBetweenMessages": 1_000, "randomizeDelay": false })
}

async fn begin(bench: &Bench, id: &str, messages: &[Value]) -> Answer {
    let begun = bench.post(BULK, json!({ "batchId": id, "messages": messages, "options": fast() })).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    begun
}

async fn batch(bench: &Bench, id: &str) -> Value {
    bench.get(&format!("/sessions/alice/messages/batch/{id}")).await.body
}

/// The batch, once its status is one that it ends with.
async fn ended(bench: &Bench, id: &str) -> Value {
    let is_over = |batch: &Value| ["completed", "cancelled", "failed"].iter().any(|status| batch["status"] == *status);
    until("the batch is over", async || Some(batch(bench, id).await).filter(is_over)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_is_sent_and_one_that_cannot_be_does_not_hold_up_the_rest() {
    let (bench, group) = Bench::with_group().await;
    let document = json!({ "base64": STANDARD.encode("a,b"), "filename": "{name}.csv" });
    let messages = [
        json!({ "chatId": group, "type": "text", "content": { "text": "Hi {name}", "mentions": [BOB] }, "variables": { "name": "Bob" } }),
        text(NOBODY, "nobody"),
        json!({ "chatId": DAVE, "type": "document", "content": { "document": document, "caption": "of {name}" }, "variables": { "name": "Dave" } }),
    ];
    let begun = begin(&bench, "b 1/x", &messages).await;
    assert_eq!((&begun.body["status"], &begun.body["totalMessages"]), (&json!("pending"), &json!(3)));
    let path = begun.body["statusUrl"].as_str().unwrap().trim_start_matches("/api").to_owned();
    assert!(path.ends_with("/messages/batch/b%201%2Fx"), "{path}");
    let batch = until("the batch is over", async || {
        Some(bench.get(&path).await.body).filter(|batch| batch["status"] == "completed")
    })
    .await;
    assert_eq!(batch["progress"], json!({ "total": 3, "sent": 2, "failed": 1, "pending": 0, "cancelled": 0 }));
    let results = batch["results"].as_array().unwrap();
    assert_eq!((&results[1]["status"], &results[1]["error"]["code"]), (&json!("failed"), &json!("not_on_whatsapp")));
    assert_eq!((&results[1]["chatId"], &results[1]["messageId"]), (&json!(NOBODY), &Value::Null));
    assert!(batch["startedAt"].is_string() && batch["completedAt"].is_string(), "{batch}");

    until_equal(1, async || bench.world.messages(BOB).len()).await;
    let message = &bench.world.messages(BOB)[0];
    assert_eq!((json!(message.id), message.text.as_deref()), (results[0]["messageId"].clone(), Some("Hi Bob")));
    until_equal(1, async || bench.world.messages(DAVE).len()).await;
    let message = &bench.world.messages(DAVE)[0];
    let filename = message.media.as_ref().and_then(|media| media.filename.as_deref());
    assert_eq!((message.text.as_deref(), filename), (Some("of Dave"), Some("Dave.csv")));

    let again = bench.post(BULK, json!({ "batchId": "b 1/x", "messages": messages })).await;
    assert_eq!(again.failure(), (400, "batch_exists"), "{again:?}");
    let unknown = bench.get("/sessions/alice/messages/batch/none").await;
    assert_eq!(unknown.failure(), (404, "batch_not_found"), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_goes_on_after_a_restart_and_waits_for_a_session_that_is_stopped() {
    let (mut bench, group) = Bench::with_group().await;
    begin(&bench, "b", &[text(&group, "1"), text(&group, "2"), text(&group, "3")]).await;
    until_equal(1, async || bench.world.messages(CAROL).len()).await;
    bench.restart().await;
    let batch = ended(&bench, "b").await;
    assert_eq!((&batch["status"], &batch["progress"]["sent"]), (&json!("completed"), &json!(3)), "{batch}");
    until_equal(3, async || bench.world.messages(CAROL).len()).await;
    assert!(bench.world.messages(CAROL).iter().all(|message| message.times == 1));

    begin(&bench, "c", &[text(&group, "4"), text(&group, "5")]).await;
    until_equal(4, async || bench.world.messages(CAROL).len()).await;
    assert_eq!(bench.post("/sessions/alice/stop", json!({})).await.status, 200);
    assert_eq!(self::batch(&bench, "c").await["progress"]["pending"], 1);
    assert_eq!(bench.post("/sessions/alice/start", json!({})).await.status, 200);
    assert_eq!(ended(&bench, "c").await["progress"]["sent"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_cancelled_or_stops_at_the_first_failure_when_it_is_to() {
    let (bench, group) = Bench::with_group().await;
    let begun = bench.post(BULK, json!({ "batchId": "b", "messages": [text(&group, "1"), text(&group, "2")], "options": { "delayBetweenMessages": 60_000 } })).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    until_equal(json!(1), async || batch(&bench, "b").await["progress"]["sent"].clone()).await;
    let path = "/sessions/alice/messages/batch/b/cancel";
    let cancelled = bench.post(path, json!({})).await;
    assert_eq!((cancelled.status, &cancelled.body["status"]), (200, &json!("cancelled")), "{cancelled:?}");
    let progress = json!({ "total": 2, "sent": 1, "failed": 0, "pending": 0, "cancelled": 1 });
    assert_eq!((&cancelled.body["progress"], cancelled.body.get("results")), (&progress, None));
    assert_eq!(batch(&bench, "b").await["results"][1]["status"], "cancelled");
    assert_eq!(bench.post(path, json!({})).await.failure(), (400, "batch_over"));

    let options = json!({ "delayBetweenMessages": 1_000, "stopOnError": true });
    let messages = [text(NOBODY, "1"), text(&group, "2")];
    assert_eq!(bench.post(BULK, json!({ "batchId": "c", "messages": messages, "options": options })).await.status, 202);
    let stopped = ended(&bench, "c").await;
    assert_eq!((&stopped["status"], &stopped["progress"]["cancelled"]), (&json!("failed"), &json!(1)), "{stopped}");
    assert_eq!(bench.world.requests(ALICE, "message"), 1, "nothing else was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_the_rights_of_its_key_and_ends_with_it() {
    let (bench, group) = Bench::with_group().await;
    let session = bench.get("/sessions/alice").await.body["id"].clone();
    let limited = json!({ "name": "l", "role": "operator", "allowedSessions": [session], "allowedGroups": [group] });
    let made = bench.post("/auth/api-keys", limited).await;
    let (id, key) = (made.body["id"].as_str().unwrap(), made.body["apiKey"].as_str().unwrap());
    let call = async |body: Value| bench.call_with(key, reqwest::Method::POST, BULK, Some(body)).await;
    let elsewhere = call(json!({ "messages": [text(&group, "1"), text(DAVE, "2")] })).await;
    assert_eq!(elsewhere.failure(), (403, "group_scoped_key"), "{elsewhere:?}");

    // Others see it, and it does not see theirs.
    let slow = json!({ "delayBetweenMessages": 60_000 });
    let body = json!({ "batchId": "l", "messages": [text(&group, "1"), text(&group, "2")], "options": slow });
    assert_eq!(call(body).await.status, 202);
    begin(&bench, "a", &[text(DAVE, "1")]).await;
    let look = async |id: &str| {
        bench.call_with(key, reqwest::Method::GET, &format!("/sessions/alice/messages/batch/{id}"), None).await.status
    };
    assert_eq!((look("l").await, look("a").await), (200, 404));

    let fast = json!({ "batchId": "f", "messages": (0..30).map(|n| text(&group, &n.to_string())).collect::<Vec<_>>(), "options": fast() });
    assert_eq!(call(fast).await.status, 202);
    until_equal(json!(1), async || batch(&bench, "f").await["progress"]["sent"].clone()).await;
    assert_eq!(bench.post(&format!("/auth/api-keys/{id}/revoke"), json!({})).await.status, 200);
    let ended = ended(&bench, "f").await;
    assert_eq!(ended["status"], "cancelled", "{ended}");
    assert!(ended["progress"]["sent"].as_u64().unwrap() < 5, "{ended}");
}
