//! The twelve group routes: what they answer, what becomes true at WhatsApp, and what the next read shows (G-2).

use rookery_simulator::{AccountSpec, Addable, Addressing, ParticipantChange};
use serde_json::json;

use crate::harness::{ALICE, Answer, BOB, Bench, CAROL, DAVE, until_equal, world_members};

const NOT_ON_WHATSAPP: &str = "15550100099";

async fn ready_with_group(members: &[&str], addressing: Addressing) -> (Bench, String, String) {
    let bench = Bench::start().await;
    let group = bench.group(members, addressing);
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}");
    (bench, group, path)
}

async fn shows_what_is_true(bench: &Bench, group: &str, path: &str) {
    assert_eq!(bench.get(path).await.members(), world_members(&bench.world, group), "seed {}", bench.seed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_created_and_the_refused_are_named_and_not_counted() {
    let bench = Bench::start().await;
    bench.world.add_account(AccountSpec { addable: Addable::InviteOnly, ..AccountSpec::new(DAVE) });
    bench.link("alice", ALICE).await;
    let participants = [BOB, DAVE, NOT_ON_WHATSAPP, BOB];
    let created = bench.post("/sessions/alice/groups", json!({ "name": "New", "participants": participants })).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.codes(), ["added", "invite_required", "not_on_whatsapp"]);
    assert_eq!(created.body["participantsCount"], 2);
    assert_eq!((&created.body["name"], &created.body["isAdmin"]), (&json!("New"), &json!(true)));
    let group = created.body["id"].as_str().unwrap();
    let path = format!("/sessions/alice/groups/{group}");
    assert_eq!(bench.get(&path).await.members(), [format!("{ALICE}*"), BOB.into()]);
    shows_what_is_true(&bench, group, &path).await;
    assert_eq!(bench.get("/sessions/alice/groups").await.body[0]["id"], group);
}

async fn every_participant_route(addressing: Addressing) {
    let (bench, group, path) = ready_with_group(&[BOB], addressing).await;
    let participants = format!("{path}/participants");

    let added = bench.post(&participants, json!({ "participants": [format!("{CAROL}@c.us"), BOB] })).await;
    assert_eq!((added.status, added.codes()), (200, vec!["added", "already_member"]));
    assert_eq!(added.body["message"], "Participants added");
    assert_eq!(added.body["results"][0]["id"], format!("{CAROL}@c.us"));
    assert_eq!(added.body["results"][1]["status"], 409);
    shows_what_is_true(&bench, &group, &path).await;

    let lid = bench.world.group(&group).unwrap().participants.iter().find(|p| p.phone == CAROL).unwrap().lid.clone();
    let by_lid = json!({ "participants": [format!("{lid}@lid")] });
    let person = if addressing == Addressing::Lid { by_lid } else { json!({ "participants": [CAROL] }) };
    let promoted = bench.post(&format!("{participants}/promote"), person).await;
    assert_eq!((promoted.status, promoted.codes()), (200, vec!["promoted"]), "{promoted:?}");
    assert_eq!(promoted.body["results"][0]["id"], format!("{CAROL}@c.us"), "one name per person");
    shows_what_is_true(&bench, &group, &path).await;

    let body = json!({ "participants": [format!("{CAROL}@s.whatsapp.net"), DAVE] });
    let demoted = bench.post(&format!("{participants}/demote"), body).await;
    assert_eq!((demoted.status, demoted.codes()), (200, vec!["demoted", "not_member"]));
    shows_what_is_true(&bench, &group, &path).await;

    let removed = bench.delete(&participants, json!({ "participants": [CAROL, BOB] })).await;
    assert_eq!((removed.status, removed.codes()), (200, vec!["removed", "removed"]));
    assert_eq!(bench.get(&path).await.members(), [format!("{ALICE}*")]);
    shows_what_is_true(&bench, &group, &path).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn participants_change_in_a_group_addressed_by_lid() {
    every_participant_route(Addressing::Lid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn participants_change_in_a_group_addressed_by_phone_number() {
    every_participant_route(Addressing::Pn).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_in_which_everyone_failed_is_a_403_with_results() {
    let (bench, group, path) = ready_with_group(&[BOB], Addressing::Lid).await;
    let body = json!({ "participants": [BOB, NOT_ON_WHATSAPP] });
    let answer = bench.post(&format!("{path}/participants"), body).await;
    assert_eq!((answer.status, answer.codes()), (403, vec!["already_member", "not_on_whatsapp"]));
    assert_eq!((&answer.body["statusCode"], &answer.body["code"]), (&json!(403), &json!("whatsapp_refused")));
    shows_what_is_true(&bench, &group, &path).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subject_and_description_change_and_the_next_read_shows_it() {
    let (bench, group, path) = ready_with_group(&[BOB], Addressing::Lid).await;
    let answer = bench.put(&format!("{path}/subject"), json!({ "subject": "Über-Team" })).await;
    assert_eq!(answer.body, json!({ "success": true, "message": "Group subject updated" }));
    assert_eq!(bench.get(&path).await.body["name"], "Über-Team", "G-2");
    assert_eq!(bench.get("/sessions/alice/groups").await.body[0]["name"], "Über-Team");
    let longest = "é".repeat(2_048);
    let too_long = bench.put(&format!("{path}/description"), json!({ "description": format!("{longest}x") })).await;
    assert_eq!(too_long.failure(), (400, "validation_failed"));
    for description in ["first", "second", "", &longest] {
        let answer = bench.put(&format!("{path}/description"), json!({ "description": description })).await;
        assert_eq!(answer.body, json!({ "success": true, "message": "Group description updated" }));
        let expected = if description.is_empty() { json!(null) } else { json!(description) };
        assert_eq!(bench.get(&path).await.body["description"], expected, "G-2");
        assert_eq!(bench.world.group(&group).unwrap().description.unwrap_or_default(), description);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_description_that_changed_meanwhile_is_read_again_and_replaced() {
    let (bench, group, path) = ready_with_group(&[BOB], Addressing::Lid).await;
    // The notification of Bob's change and our request cross each other.
    bench.world.change_description(&group, BOB, Some("Bob's")).unwrap();
    let answer = bench.put(&format!("{path}/description"), json!({ "description": "Alice's" })).await;
    assert_eq!(answer.status, 200);
    assert_eq!(bench.world.group(&group).unwrap().description.as_deref(), Some("Alice's"));
    until_equal(json!("Alice's"), async || bench.get(&path).await.body["description"].clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_invite_code_is_read_and_rotated() {
    let (bench, group, path) = ready_with_group(&[BOB], Addressing::Lid).await;
    let read = bench.get(&format!("{path}/invite-code")).await;
    let code = bench.world.group(&group).unwrap().invite_code;
    let link = format!("https://chat.whatsapp.com/{code}");
    assert_eq!((read.status, read.body), (200, json!({ "inviteCode": code, "inviteLink": link })));
    let revoked = bench.post(&format!("{path}/invite-code/revoke"), json!({})).await;
    let new = bench.world.group(&group).unwrap().invite_code;
    assert_ne!(new, code);
    assert_eq!((revoked.status, &revoked.body["inviteCode"]), (200, &json!(new)));
    assert_eq!(revoked.body["message"], "Invite code revoked and new one generated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_was_left_is_gone() {
    let (bench, group, path) = ready_with_group(&[BOB], Addressing::Lid).await;
    let left = bench.post(&format!("{path}/leave"), json!({})).await;
    assert_eq!(left.body, json!({ "success": true, "message": "Left the group" }));
    let gone = bench.get(&path).await;
    assert_eq!((gone.status, &gone.body["message"]), (404, &json!(format!("Group {group} not found"))));
    assert_eq!(bench.get("/sessions/alice/groups").await.body, json!([]));
    assert_eq!(bench.get("/sessions/alice/groups?refresh=true").await.body, json!([]));
    assert_eq!(world_members(&bench.world, &group), [format!("{BOB}*")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_groups_page_stably() {
    let bench = Bench::start().await;
    for _ in 0..1000 {
        bench.group(&[], Addressing::Lid);
    }
    bench.link("alice", ALICE).await;
    let mut seen: Vec<String> = Vec::new();
    for offset in (0..1100).step_by(170) {
        let page = bench.get(&format!("/sessions/alice/groups?limit=170&offset={offset}")).await;
        seen.extend(page.body.as_array().unwrap().iter().map(|group| group["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(seen.len(), 1000);
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "ordered by id, each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_refused_with_whatsapps_code() {
    let bench = Bench::start().await;
    let participants = vec![ALICE.to_owned()];
    let spec = rookery_simulator::GroupSpec { participants, ..rookery_simulator::GroupSpec::new("Bob's", BOB) };
    let group = bench.world.add_group(spec);
    bench.world.change_locked(&group, BOB, true).unwrap();
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}");
    let refused = |answer: Answer| {
        assert_eq!((answer.status, &answer.body["code"]), (403, &json!("whatsapp_refused")), "{answer:?}");
        assert!(answer.body["message"].as_str().unwrap().contains("was refused by WhatsApp (code 40"), "{answer:?}");
    };
    refused(bench.put(&format!("{path}/subject"), json!({ "subject": "Mine" })).await);
    refused(bench.post(&format!("{path}/participants"), json!({ "participants": [CAROL] })).await);
    refused(bench.get(&format!("{path}/invite-code")).await);
    refused(bench.post(&format!("{path}/invite-code/revoke"), json!({})).await);
    assert_eq!(bench.get(&path).await.body["name"], "Bob's");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_named() {
    let (bench, _, path) = ready_with_group(&[BOB], Addressing::Lid).await;
    let table = [
        (
            bench.get("/sessions/alice/groups/nonsense").await,
            400,
            json!("nonsense is not a group id: it is written like 120363021234567890@g.us"),
        ),
        (bench.get("/sessions/alice/groups/1@g.us").await, 404, json!("Group 1@g.us not found")),
        (bench.get("/sessions/nobody/groups").await, 404, json!("Session with id 'nobody' not found")),
    ];
    for (answer, status, message) in table {
        assert_eq!((answer.status, &answer.body["message"]), (status, &message));
    }
    let participants = json!({ "participants": [BOB, "alice", "12@g.us"] });
    let answer = bench.post(&format!("{path}/participants"), participants).await;
    assert_eq!(answer.status, 400);
    let message = answer.body["message"].to_string();
    assert!(message.contains("alice") && message.contains("12@g.us") && !message.contains(BOB), "{message}");
    for body in [json!({}), json!({ "subject": "" }), json!({ "subject": "x".repeat(101) }), json!({ "subject": 1 })] {
        assert_eq!(bench.put(&format!("{path}/subject"), body).await.status, 400);
    }
    assert_eq!(bench.world.requests(ALICE, "w:g2:subject"), 0);
}

/// The codec takes each of these for an id or a word of the protocol.
const LIKE_IDS: [&str; 6] = ["@", "Sales @ Lagos", "write to me@home", "15550100001@s.whatsapp.net", "7@lid", "admin"];

#[tokio::test(flavor = "multi_thread")]
async fn a_description_may_look_like_an_id() {
    let (bench, group, path) = ready_with_group(&[BOB], Addressing::Lid).await;
    for text in LIKE_IDS {
        let set = bench.put(&format!("{path}/description"), json!({ "description": text })).await;
        assert_eq!(set.status, 200, "{text} {set:?}");
        assert_eq!(bench.world.group(&group).unwrap().description.as_deref(), Some(text));
        assert_eq!(bench.get(&format!("{path}?refresh=true")).await.body["description"], text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_may_look_like_an_id() {
    let (bench, group, path) = ready_with_group(&[BOB], Addressing::Lid).await;
    bench.world.change_participants(&group, ParticipantChange::Promote, ALICE, &[BOB]).unwrap();
    for text in LIKE_IDS {
        let set = bench.put(&format!("{path}/subject"), json!({ "subject": text })).await;
        assert_eq!(set.status, 200, "{text} {set:?}");
        assert_eq!(bench.world.group(&group).unwrap().subject, text);
        assert_eq!(bench.get(&format!("{path}?refresh=true")).await.body["name"], text);
        let elsewhere = format!("{text} elsewhere@home");
        bench.world.change_subject(&group, BOB, &elsewhere).unwrap();
        until_equal(json!(elsewhere), async || bench.get(&path).await.body["name"].clone()).await;
    }
    assert_eq!(bench.get("/sessions/alice").await.body["status"], "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_or_community_may_have_a_name_that_looks_like_an_id() {
    let bench = Bench::start().await;
    bench.world.add_account(AccountSpec { name: Some("dave@home".into()), ..AccountSpec::new(DAVE) });
    bench.link("alice", ALICE).await;
    for text in LIKE_IDS {
        let made = bench.post("/sessions/alice/groups", json!({ "name": text, "participants": [DAVE] })).await;
        assert_eq!((made.status, &made.body["name"]), (201, &json!(text)), "{made:?}");
        let group = made.body["id"].as_str().unwrap();
        assert_eq!(bench.world.group(group).unwrap().subject, text);
        assert_eq!(bench.get(&format!("/sessions/alice/groups/{group}?refresh=true")).await.body["name"], text);
        let community = json!({ "name": text, "description": text });
        let made = bench.post("/sessions/alice/communities", community).await;
        let shown = (made.status, &made.body["name"], &made.body["description"]);
        assert_eq!(shown, (201, &json!(text), &json!(text)), "{made:?}");
    }
    assert_eq!(bench.get("/sessions/alice").await.body["status"], "ready");
}
