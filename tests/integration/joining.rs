//! Getting into groups by invite code, and what a code shows before that.

use rookery_simulator::{Answers, Fault, FaultKind, GroupSpec, Setting};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, CAROL, until_equal, world_members};

const JOIN: &str = "/sessions/alice/groups/join";

async fn ready_with_group_of_bob() -> (Bench, String, String) {
    let bench = Bench::start().await;
    let spec = GroupSpec { description: Some("Books".into()), ..GroupSpec::new("Book Club", BOB) };
    let group = bench.world.add_group(GroupSpec { participants: vec![CAROL.into()], ..spec });
    bench.link("alice", ALICE).await;
    let code = bench.world.group(&group).unwrap().invite_code;
    (bench, group, code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_tells_about_its_group_and_lets_in() {
    let (bench, group, code) = ready_with_group_of_bob().await;
    for code in [code.clone(), format!("https%3A%2F%2Fchat.whatsapp.com%2F{code}%3Fmode%3Dwwt")] {
        let info = bench.get(&format!("/sessions/alice/groups/join-info?code={code}")).await;
        assert_eq!(info.status, 200, "{info:?}");
        let told = json!([info.body["id"], info.body["name"], info.body["description"], info.body["participantCount"]]);
        assert_eq!(told, json!([group, "Book Club", "Books", 2]));
    }
    let joined = bench.post(JOIN, json!({ "inviteCode": code })).await;
    let expected = json!({ "success": true, "groupId": group, "status": "joined" });
    assert_eq!((joined.status, &joined.body), (200, &expected), "{joined:?}");
    assert!(world_members(&bench.world, &group).contains(&ALICE.to_owned()));
    let path = format!("/sessions/alice/groups/{group}");
    assert_eq!(bench.get(&path).await.members(), world_members(&bench.world, &group), "G-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_link_lets_in_once_for_one_idempotency_key() {
    let (bench, group, code) = ready_with_group_of_bob().await;
    let body = json!({ "inviteCode": format!("chat.whatsapp.com/{code}?x=1") });
    for replayed in [false, true] {
        let joined = bench.call_once("k", reqwest::Method::POST, JOIN, &body).await;
        assert_eq!((joined.status, joined.replayed, &joined.body["groupId"]), (200, replayed, &json!(group)));
    }
    assert_eq!(bench.get("/sessions/alice/groups").await.ids(), [group]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_admins_approve_joining_is_asking() {
    let (bench, group, code) = ready_with_group_of_bob().await;
    bench.world.change_setting(&group, BOB, Setting::Approval(true)).unwrap();
    let asked = bench.post(JOIN, json!({ "inviteCode": code })).await;
    let expected = json!({ "success": true, "groupId": group, "status": "pending_approval" });
    assert_eq!((asked.status, &asked.body), (200, &expected), "{asked:?}");
    assert_eq!(bench.world.group(&group).unwrap().join_requests[0].phone, ALICE);
    let path = format!("/sessions/alice/groups/{group}");
    assert_eq!(bench.get(&path).await.status, 404);
    bench.world.approve_requests(&group, BOB, &[ALICE]).unwrap();
    until_equal(200, async || bench.get(&path).await.status).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_that_lead_nowhere_are_refused_each_in_its_way() {
    let (bench, group, code) = ready_with_group_of_bob().await;
    let unknown = "AbCdEfGhIjKlMnOpQrStUv";
    bench.world.revoke_invite(&group, BOB).unwrap();
    let revoked = (404, "invite_revoked");
    let cases =
        [(unknown, (400, "invite_code_invalid"), (404, "invite_code_unknown")), (code.as_str(), revoked, revoked)];
    for (code, of_join, of_info) in cases {
        let joined = bench.post(JOIN, json!({ "inviteCode": code })).await;
        assert_eq!(joined.failure(), of_join, "{joined:?}");
        let info = bench.get(&format!("/sessions/alice/groups/join-info?code={code}")).await;
        assert_eq!(info.failure(), of_info, "{info:?}");
    }
    let message = bench.post(JOIN, json!({ "inviteCode": unknown })).await.body["message"].to_string();
    assert!(message.contains("The invite code is not valid"), "{message}");
    for (refusal, status) in [(401, 403), (403, 403), (404, 404), (410, 404), (406, 400)] {
        bench.world.add_fault(ALICE, Fault::new(FaultKind::Refuse { code: refusal, backoff_s: None }).at("invite"));
        assert_eq!(bench.post(JOIN, json!({ "inviteCode": unknown })).await.status, status, "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_code_is_named_and_nothing_is_sent() {
    let (bench, _, _) = ready_with_group_of_bob().await;
    let bodies = [json!({}), json!({ "inviteCode": "" }), json!({ "inviteCode": "https://example.com/abc" })];
    for body in bodies.into_iter().chain([json!({ "inviteCode": "x".repeat(129) }), json!({ "inviteCode": 1 })]) {
        let answer = bench.post(JOIN, body).await;
        assert_eq!(answer.failure(), (400, "validation_failed"));
        assert!(answer.body["message"].to_string().contains("inviteCode"), "{answer:?}");
    }
    for query in ["", "?code=", "?code=a%20b"] {
        let answer = bench.get(&format!("/sessions/alice/groups/join-info{query}")).await;
        assert_eq!(answer.failure(), (400, "invalid_parameter"), "{query}: {answer:?}");
    }
    assert_eq!(bench.world.requests(ALICE, "w:g2:invite"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn words_of_routes_are_not_taken_for_groups() {
    let (bench, _, _) = ready_with_group_of_bob().await;
    let table = [
        (bench.get("/sessions/alice/groups/count").await, 200),
        (bench.get("/sessions/alice/groups.csv").await, 200),
        (bench.get("/sessions/alice/groups/join").await, 405),
        (bench.get("/sessions/alice/groups/groups.csv").await, 400),
    ];
    for (answer, status) in table {
        assert_eq!(answer.status, status, "{answer:?}");
    }
    assert_eq!(bench.get("/sessions/alice/groups").await.body, Value::Array(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_joins_again_is_told_so_whatever_whatsapp_answers() {
    let (bench, group, code) = ready_with_group_of_bob().await;
    assert_eq!(bench.post(JOIN, json!({ "inviteCode": code })).await.status, 200);
    for join_of_member in [409, 304, 200] {
        bench.world.set_answers(Answers { join_of_member, ..Answers::default() });
        let joined = bench.post(JOIN, json!({ "inviteCode": code })).await;
        let expected = json!({ "success": true, "groupId": group, "status": "joined", "alreadyMember": true });
        assert_eq!((joined.status, &joined.body), (200, &expected), "{join_of_member}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_code_of_a_private_invitation_is_told_where_it_goes() {
    let (bench, ..) = ready_with_group_of_bob().await;
    let private = bench.post(JOIN, json!({ "inviteCode": "AbCdEfGhIjKlMnOp" })).await;
    assert_eq!(private.failure(), (400, "validation_failed"));
    assert!(private.body["message"][0].as_str().unwrap().contains("private invitation"), "{private:?}");
    let asked = bench.get("/sessions/alice/groups/join-info?code=AbCdEfGhIjKlMnOp").await;
    assert_eq!(asked.status, 400);
    assert!(asked.body["message"].as_str().unwrap().contains("private invitation"), "{asked:?}");
}
