//! The admin API, as a test in another language uses it.

use std::net::SocketAddr;

use rookery_simulator::{Role, Simulator, SimulatorOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use whatsapp_rust::prelude::*;

use crate::support::Session;

const ALICE: &str = "15550100001";
const BOB: &str = "15550100002";

/// Status and body. One request per connection.
async fn request(url: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    let host = url.split('/').nth(2).expect("a host");
    let mut stream = TcpStream::connect(host.parse::<SocketAddr>().expect("an address")).await.expect("connected");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn everything_can_be_driven_over_http() {
    let options = SimulatorOptions { admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))), ..Default::default() };
    let simulator = Simulator::start(options).await.expect("started");
    let admin = simulator.admin_url().expect("it listens");
    let post = async |path: &str, body: Value| request(&admin, "POST", path, &body.to_string()).await;
    post("/admin/accounts", json!({ "phone": ALICE, "name": "Alice" })).await;
    post("/admin/accounts", json!({ "phone": BOB, "addable": "invite_only" })).await;
    let session = Session::start(&simulator).await;

    // The port for clients serves this route too.
    let scan = format!("/admin/mock-phone/scan-qr?phone={ALICE}");
    let (status, answer) = request(&simulator.url(), "POST", &scan, &session.qr().await).await;
    assert_eq!((status, &answer["phone"]), (200, &json!(ALICE)));
    session.connected().await;

    let group = json!({ "subject": "Team", "owner": ALICE, "participants": [BOB], "addressing": "pn" });
    let (_, answer) = post("/admin/groups", group).await;
    let gid = answer["id"].as_str().expect("an id").to_owned();
    let change = json!({ "actor": ALICE, "participants": [BOB] });
    assert_eq!(post(&format!("/admin/groups/{gid}/promote"), change.clone()).await.0, 200);
    assert_eq!(simulator.world().group(&gid).expect("there").participants[1].role, Role::Admin);
    assert_eq!(post(&format!("/admin/groups/{gid}/subject"), json!({ "actor": ALICE, "subject": "New" })).await.0, 200);
    assert_eq!(post(&format!("/admin/groups/{gid}/add"), change.clone()).await.0, 409);
    assert_eq!(post("/admin/groups/1@g.us/add", change).await.0, 404);
    assert_eq!(post("/admin/faults", json!({ "phone": ALICE, "fault": "no such" })).await.0, 400);
    assert_eq!(post("/admin/faults", json!({ "phone": ALICE, "fault": "logged_out" })).await.0, 200);
    session.wait("logged out", |event| matches!(event, Event::LoggedOut(_)).then_some(())).await;

    let (_, world) = request(&admin, "GET", "/admin/world", "").await;
    assert_eq!(world["groups"][0]["subject"], "New");
    assert_eq!(world["accounts"][0]["requests"]["login"], 1);
    session.stop().await;
}

#[tokio::test]
async fn settings_requests_pictures_communities_and_people_are_driven_over_http() {
    let options = SimulatorOptions { admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))), ..Default::default() };
    let simulator = Simulator::start(options).await.expect("started");
    let admin = simulator.admin_url().expect("it listens");
    let post = async |path: &str, body: Value| {
        let (status, answer) = request(&admin, "POST", path, &body.to_string()).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    };
    let group = post("/admin/groups", json!({ "subject": "Team", "owner": ALICE })).await;
    let gid = group["id"].as_str().expect("an id").to_owned();
    let change = async |kind: &str, mut body: Value| {
        body["actor"] = body["actor"].as_str().unwrap_or(ALICE).into();
        post(&format!("/admin/groups/{gid}/{kind}"), body).await
    };

    let set = change("setting", json!({ "setting": { "members_link": true } })).await;
    assert_eq!(set["members_link"], true);
    assert_eq!(change("setting", json!({ "setting": { "ephemeral": 86400 } })).await["ephemeral_s"], 86400);
    change("setting", json!({ "setting": { "approval": true } })).await;
    let asked = change("request-to-join", json!({ "actor": BOB })).await;
    assert_eq!(asked["join_requests"][0], json!({ "phone": BOB, "requestor": BOB, "method": "invite_link" }));
    let approved = change("approve", json!({ "participants": [BOB] })).await;
    assert_eq!(approved["participants"][1]["phone"], BOB);
    assert!(change("picture", json!({ "jpeg_base64": "/9j/4AAQ" })).await["picture_id"].is_string());
    assert!(change("picture", json!({})).await["picture_id"].is_null());

    let body = json!({ "subject": "Town", "owner": ALICE, "general_chat": true });
    let community = post("/admin/communities", body).await;
    assert_eq!(community["subgroups"].as_array().map(Vec::len), Some(2));
    let id = community["id"].as_str().expect("an id");
    for kind in ["link", "unlink"] {
        post(&format!("/admin/groups/{id}/{kind}"), json!({ "actor": ALICE, "groups": [gid] })).await;
        let parent = simulator.world().group(&gid).expect("there").parent;
        assert_eq!(parent.is_some(), kind == "link");
    }
    post(&format!("/admin/groups/{id}/deactivate"), json!({ "actor": ALICE })).await;

    post(&format!("/admin/accounts/{ALICE}/name"), json!({ "name": "Alice" })).await;
    post(&format!("/admin/accounts/{ALICE}/contacts"), json!({ "contact": BOB, "name": "Bob" })).await;
    assert!(post("/admin/calls", json!({ "from": BOB, "to": ALICE })).await["id"].is_string());
    let (_, messages) = request(&admin, "GET", &format!("/admin/accounts/{ALICE}/messages"), "").await;
    assert_eq!(messages, json!([]));
}

#[tokio::test]
async fn what_is_not_told_as_it_should_is_driven_over_http() {
    let options = SimulatorOptions { admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))), ..Default::default() };
    let simulator = Simulator::start(options).await.expect("started");
    let admin = simulator.admin_url().expect("it listens");
    let post = async |path: &str, body: Value| request(&admin, "POST", path, &body.to_string()).await;
    post("/admin/accounts", json!({ "phone": BOB, "number_hidden": true })).await;
    let body = json!({ "subject": "Team", "owner": ALICE, "participants": [BOB], "quiet": true });
    let (_, group) = post("/admin/groups", body).await;
    let gid = group["id"].as_str().expect("an id");

    let child = json!({ "tag": "participant", "attributes": { "jid": "no id at all" } });
    let telling = json!({ "at": ["full"], "stub": true, "without": ["subject"], "children": [child] });
    let (status, told) = post(&format!("/admin/groups/{gid}/telling"), telling).await;
    assert_eq!((status, &told["at"]), (200, &json!(["full"])));
    assert_eq!(post(&format!("/admin/groups/{gid}/telling"), json!({ "stubs": true })).await.0, 422);
    assert_eq!(post("/admin/groups/1@g.us/telling", json!({})).await.0, 404);

    let suspension = json!({ "suspended": true, "appeal": "in_review" });
    let (_, suspended) = post(&format!("/admin/groups/{gid}/suspension"), suspension).await;
    assert_eq!(suspended["suspended"], true);
    let (_, going_on) = post(&format!("/admin/groups/{gid}/suspension"), json!({ "suspended": false })).await;
    assert_eq!(going_on["suspended"], false);

    let answers = json!({ "ids": "lid_only", "without": [BOB], "join_of_member": 304 });
    let (_, shown) = post("/admin/answers", answers).await;
    assert_eq!((&shown["typed"], &shown["revoked_link"]), (&json!(false), &json!(410)));

    let renumber = format!("/admin/accounts/{BOB}/number");
    assert_eq!(post(&renumber, json!({ "number": ALICE })).await.0, 409);
    assert_eq!(post(&renumber, json!({ "number": "15550100009" })).await.0, 200);
    let (_, world) = request(&admin, "GET", "/admin/world", "").await;
    assert_eq!(world["groups"][0]["participants"][1]["phone"], "15550100009");
    assert_eq!(world["accounts"][1]["number_hidden"], true);
}

#[tokio::test]
async fn phones_write_read_and_change_over_http() {
    let options = SimulatorOptions { admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))), ..Default::default() };
    let simulator = Simulator::start(options).await.expect("started");
    let admin = simulator.admin_url().expect("it listens");
    let post = async |path: &str, body: Value| {
        let (status, answer) = request(&admin, "POST", path, &body.to_string()).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    };
    let alice = |action: &str| format!("/admin/accounts/{ALICE}/{action}");
    post("/admin/accounts", json!({ "phone": BOB })).await;

    let file = json!({ "kind": "voice", "base64": "T2dnUw==", "mimetype": "audio/ogg; codecs=opus" });
    let id = post(&alice("send"), json!({ "to": BOB, "file": file })).await["id"].clone();
    post(&alice("send"), json!({ "to": BOB, "text": "hear this", "id": "3A01" })).await;
    let (_, received) = request(&admin, "GET", &format!("/admin/accounts/{BOB}/messages"), "").await;
    assert_eq!(
        (&received[0]["id"], &received[0]["kind"], &received[1]["text"]),
        (&id, &json!("voice"), &json!("hear this"))
    );
    let content = received[1]["content"].as_str().expect("a message").to_owned();
    post(&alice("send"), json!({ "to": BOB, "content": content, "edit": "edit" })).await;
    let read = post(&format!("/admin/accounts/{BOB}/read"), json!({ "chat": ALICE })).await;
    assert_eq!(read["ids"].as_array().map(Vec::len), Some(3));
    let (_, receipts) = request(&admin, "GET", &alice("receipts"), "").await;
    assert_eq!(receipts.as_array().expect("a list").iter().filter(|told| told["kind"] == "read").count(), 3);
    let file = format!("/admin/accounts/{BOB}/files/{}", id.as_str().expect("an id"));
    assert_eq!(request(&admin, "GET", &file, "").await.0, 200);
    assert_eq!(post("/admin/media", json!({ "files": true, "auth": true, "ttl_s": 60 })).await["files"], 0);
    assert_eq!(request(&admin, "GET", &file, "").await.0, 400);

    post(&alice("type"), json!({ "chat": BOB, "typing": "composing" })).await;
    assert_eq!(simulator.world().typing(ALICE, BOB), Some(rookery_simulator::Typing::Composing));
    post(
        &alice("manner"),
        json!({ "on": false, "online": true, "resends": false, "history": "none", "requires_token": true }),
    )
    .await;
    assert_eq!(simulator.world().presence(ALICE), Some(true));
    let profile = post(&alice("profile"), json!({ "about": "busy", "jpeg_base64": "/9j/", "block": BOB })).await;
    assert_eq!(profile, json!({ "about": "busy", "picture_bytes": 3, "blocked": [BOB] }));
    post(&alice("trust"), json!({ "other": BOB })).await;
    assert!(simulator.world().trusts(ALICE, BOB));
    post(&alice("app-state"), json!({ "index": ["archive", "15550100002@s.whatsapp.net"], "value": "" })).await;
    let (_, state) = request(&admin, "GET", &alice("app-state"), "").await;
    assert_eq!(state[0]["index"][0], "archive");
    for wrong in
        [json!({ "to": BOB }), json!({ "to": BOB, "text": "a", "content": "" }), json!({ "to": "x", "text": "a" })]
    {
        assert_eq!(request(&admin, "POST", &alice("send"), &wrong.to_string()).await.0, 400, "{wrong}");
    }
    let (_, key) = request(&admin, "GET", "/admin/root-key", "").await;
    assert_eq!(key["root_key"], simulator.root_key());
}
