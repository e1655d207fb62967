//! The audit log: who changed what, the results, and who was refused.

use reqwest::Method;
use rookery_simulator::{Addressing, Fault, FaultKind};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::harness::{ALICE, BOB, Bench, CAROL, until, until_equal};

/// The records that match, newest first.
async fn records(bench: &Bench, query: &str) -> Vec<Value> {
    let answer = bench.get(&format!("/audit?{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let data = answer.body["data"].as_array().unwrap().clone();
    assert_eq!(answer.body["total"], json!(data.len()));
    data
}

async fn last(bench: &Bench, action: &str) -> Value {
    let found = records(bench, &format!("action={action}")).await;
    found.into_iter().next().unwrap_or_else(|| panic!("no {action}"))
}

async fn ready() -> (Bench, String) {
    let bench = Bench::start().await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    (bench, group)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_noted_with_who_what_where_and_what_became_of_each_person() {
    let (bench, group) = ready().await;
    let participants = json!({ "participants": [CAROL, "15550100099", BOB] });
    let path = format!("/sessions/alice/groups/{group}/participants");
    let added = bench.post(&path, participants).await;
    assert_eq!(added.status, 200, "{added:?}");
    let record = last(&bench, "participants_add").await;
    let session = bench.get("/sessions/alice").await.body["id"].clone();
    assert_eq!(record["outcome"], "done");
    assert_eq!(record["apiKeyName"], "bootstrap");
    assert_eq!([&record["sessionId"], &record["groupId"]], [&session, &json!(group)]);
    assert_eq!(record["requestId"], json!(added.header("x-request-id")));
    assert_eq!([&record["ipAddress"], &record["statusCode"]], [&json!("127.0.0.1"), &json!(200)]);
    let mut told: Vec<_> = added.codes();
    told.sort_unstable();
    let results = record["results"].as_object().unwrap();
    assert_eq!(results.keys().collect::<Vec<_>>(), told);
    assert_eq!(results["added"], json!([format!("{CAROL}@c.us")]));

    let made = bench.post("/sessions/alice/groups", json!({ "name": "Trip", "participants": [BOB] })).await;
    let record = last(&bench, "groups_create").await;
    assert_eq!([&record["targetId"], &record["statusCode"]], [&made.body["id"], &json!(201)]);
    let key = bench.post("/auth/api-keys", json!({ "name": "tenant" })).await;
    assert_eq!(last(&bench, "keys_create").await["targetId"], key.body["id"]);
    let text = Value::from(records(&bench, "limit=1000").await).to_string();
    for secret in ["Trip", key.body["apiKey"].as_str().unwrap()] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_was_refused_or_was_answered_again_is_noted_as_that() {
    let (bench, group) = ready().await;
    let subject = format!("/sessions/alice/groups/{group}/subject");
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Refuse { code: 403, backoff_s: None }).at("subject"));
    let body = json!({ "subject": "New" });
    assert_eq!(bench.put(&subject, body.clone()).await.status, 403);
    let record = last(&bench, "groups_set_subject").await;
    assert_eq!(json!([record["outcome"], record["code"]]), json!(["failed", "whatsapp_refused"]));
    for replayed in [Value::Null, json!(true)] {
        assert_eq!(bench.call_once("k", Method::PUT, &subject, &body).await.status, 200);
        // The answer does not wait for the record of its replay.
        until_equal(replayed, async || last(&bench, "groups_set_subject").await["replayed"].clone()).await;
    }

    let viewer = bench.post("/auth/api-keys", json!({ "name": "reader", "role": "viewer" })).await.body;
    let key = viewer["apiKey"].as_str().unwrap();
    assert_eq!(bench.call_with(key, Method::PUT, &subject, Some(body)).await.status, 403);
    assert_eq!(bench.call_with("rk_wrong", Method::GET, "/sessions", None).await.status, 401);
    assert_eq!(bench.get("/sessions/alice/groups").await.status, 200);
    // The answers do not wait for the records of their refusals.
    let refused = until("both refusals", async || {
        let refused = records(&bench, "outcome=refused").await;
        (refused.len() == 2).then_some(refused)
    });
    let refused = refused.await;
    assert_eq!(json!([refused[0]["action"], refused[0]["code"]]), json!(["sessions_list", "api_key_invalid"]));
    assert!(refused[0].get("apiKeyId").is_none());
    assert_eq!(json!([refused[1]["code"], refused[1]["apiKeyId"]]), json!(["insufficient_permissions", viewer["id"]]));
    let id = viewer["id"].as_str().unwrap();
    assert_eq!(records(&bench, &format!("apiKeyId={id}&groupId={group}")).await.len(), 1);
    assert_eq!(records(&bench, "action=groups_list").await.len(), 0, "reads are not noted");
    assert_eq!(bench.get("/audit?apiKeyId=x").await.failure(), (400, "invalid_parameter"));
    assert_eq!(bench.get("/audit?from=yesterday").await.failure(), (400, "invalid_parameter"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_client_hangs_up_is_carried_out_and_noted() {
    let (bench, group) = ready().await;
    // WhatsApp's answer is late, so that the client is gone by then.
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Slow { delay_ms: 500 }).at("subject"));
    let body = r#"{"subject":"New"}"#;
    let request = format!(
        "PUT /api/sessions/alice/groups/{group}/subject HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\ncontent-length: {}\r\n\r\n{body}",
        crate::harness::KEY,
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(bench.daemon().local_addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    until("WhatsApp to be asked", async || (bench.world.requests(ALICE, "w:g2:subject") > 0).then_some(())).await;
    drop(stream);
    until_equal(1, async || records(&bench, "action=groups_set_subject&outcome=done").await.len()).await;
    assert_eq!(bench.world.group(&group).unwrap().subject, "New");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_whole_after_a_restart_and_proves_it() {
    let (mut bench, _) = ready().await;
    let before = bench.get("/audit/verify").await.body;
    assert_eq!(before["valid"], true, "{before}");
    bench.restart().await;
    let after = bench.get("/audit/verify").await.body;
    assert_eq!(
        [&after["valid"], &after["lastId"], &after["lastHash"]],
        [&json!(true), &before["lastId"], &before["lastHash"]]
    );
    bench.post("/sessions", json!({ "name": "another" })).await;
    let last = bench.get("/audit/verify").await.body;
    assert_eq!(last["lastId"].as_u64(), before["lastId"].as_u64().map(|id| id + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_from_before_a_start_is_on_record_before_it_is_given_again() {
    let mut bench = Bench::start().await;
    bench.link("alice", ALICE).await;
    let body = json!({ "name": "Once", "participants": [BOB] });
    let make = async |bench: &Bench| bench.call_once("k", Method::POST, "/sessions/alice/groups", &body).await;
    let made = make(&bench).await;
    assert_eq!(made.status, 201, "{made:?}");
    bench.restart().await;
    assert!(make(&bench).await.replayed);
    // A killed daemon may have saved the answer and not the record. So this replay's record has everything, and is
    // written at once.
    let records = bench.get("/audit?action=groups_create").await.body;
    assert_eq!(records["total"], 2, "{records}");
    let [again, first] = [0, 1].map(|at| records["data"][at].clone());
    assert_eq!((&again["replayed"], &again["targetId"]), (&json!(true), &made.body["id"]));
    assert_eq!((&again["results"], again["results"].is_object()), (&first["results"], true));
    assert!(make(&bench).await.replayed);
    // Later replays do not wait for their records, which have no results.
    until_equal(json!([3, null]), async || {
        let records = bench.get("/audit?action=groups_create").await.body;
        json!([records["total"], records["data"][0]["results"]])
    })
    .await;
}
