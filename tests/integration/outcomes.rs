//! Every result code of a person, each through WhatsApp's own code for it.

use rookery_simulator::{AccountSpec, Addable, Addressing, GroupSpec, ParticipantChange, Setting};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, CAROL, DAVE, world_members};

/// The result of adding this person: its code, WhatsApp's code, the success, and the status of an answer about them
/// alone.
async fn added(bench: &Bench, path: &str, person: &str) -> Value {
    let answer = bench.post(&format!("{path}/participants"), json!({ "participants": [person] })).await;
    let result = &answer.body["results"][0];
    json!([result["code"], result["status"], result["success"], answer.status])
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_of_an_add_has_its_word() {
    let bench = Bench::start().await;
    let refused = [
        ("15550100021", Addable::InviteOnly, json!(["invite_required", 403, false, 403])),
        ("15550100022", Addable::Nobody, json!(["not_allowed", 403, false, 403])),
        ("15550100023", Addable::Refused(401), json!(["blocked", 401, false, 403])),
        ("15550100024", Addable::Refused(417), json!(["not_allowed", 417, false, 403])),
        ("15550100025", Addable::Refused(500), json!(["failed", 500, false, 403])),
        ("15550100026", Addable::Refused(429), json!(["rate_limited", 429, false, 403])),
    ];
    for (phone, addable, _) in &refused {
        bench.world.add_account(AccountSpec { addable: *addable, ..AccountSpec::new(*phone) });
    }
    let group = bench.group(&[BOB, DAVE], Addressing::Lid);
    bench.world.leave(&group, DAVE).unwrap();
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}");
    assert_eq!(added(&bench, &path, BOB).await, json!(["already_member", 409, false, 403]));
    assert_eq!(added(&bench, &path, DAVE).await, json!(["recently_left", 408, false, 403]));
    // WhatsApp was not asked to add it.
    assert_eq!(added(&bench, &path, "15550100099").await, json!(["not_on_whatsapp", null, false, 403]));
    bench.world.set_participants_max(&group, 2);
    assert_eq!(added(&bench, &path, CAROL).await, json!(["group_full", 419, false, 403]));
    bench.world.set_participants_max(&group, 100);
    assert_eq!(added(&bench, &path, CAROL).await, json!(["added", 200, true, 200]));
    for (phone, _, expected) in refused {
        assert_eq!(added(&bench, &path, phone).await, expected, "{phone}");
    }
    // The last add got a 429 from WhatsApp: the session's changes pause, and the answer says so.
    let paused = bench.post(&format!("{path}/participants"), json!({ "participants": [BOB] })).await;
    assert_eq!((paused.status, &paused.body["code"]), (429, &json!("rate_limited_by_whatsapp")));
    assert_eq!(bench.get(&path).await.members(), world_members(&bench.world, &group));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_proposes_somebody_hears_that_an_admin_has_to_agree() {
    let bench = Bench::start().await;
    let participants = vec![ALICE.to_owned()];
    let group = bench.world.add_group(GroupSpec { participants, ..GroupSpec::new("Bob's", BOB) });
    for setting in [Setting::Approval(true), Setting::MembersAdd(true)] {
        bench.world.change_setting(&group, BOB, setting).unwrap();
    }
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}");
    assert_eq!(added(&bench, &path, CAROL).await, json!(["approval_pending", 421, false, 403]));
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_promoting_and_demoting_have_theirs() {
    let bench = Bench::start().await;
    let participants = [ALICE, CAROL].map(str::to_owned).to_vec();
    let group = bench.world.add_group(GroupSpec { participants, ..GroupSpec::new("Bob's", BOB) });
    bench.world.change_participants(&group, ParticipantChange::Promote, BOB, &[ALICE]).unwrap();
    bench.link("alice", ALICE).await;
    let participants = format!("/sessions/alice/groups/{group}/participants");
    let body = |person: &str| json!({ "participants": [person] });
    let table = [
        (bench.post(&format!("{participants}/promote"), body(DAVE)).await, "not_member"),
        (bench.post(&format!("{participants}/promote"), body(CAROL)).await, "promoted"),
        (bench.post(&format!("{participants}/demote"), body(CAROL)).await, "demoted"),
        (bench.post(&format!("{participants}/demote"), body(BOB)).await, "not_allowed"),
        (bench.delete(&participants, body(BOB)).await, "not_allowed"),
        (bench.delete(&participants, body(DAVE)).await, "not_member"),
        (bench.delete(&participants, body(CAROL)).await, "removed"),
    ];
    for (answer, code) in table {
        assert_eq!(answer.codes(), [code], "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ones_own_number_is_named_and_nothing_is_sent() {
    let bench = Bench::start().await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    let participants = format!("/sessions/alice/groups/{group}/participants");
    let body = json!({ "participants": [CAROL, ALICE] });
    let new = json!({ "name": "New", "participants": [ALICE] });
    for answer in [
        bench.post(&participants, body.clone()).await,
        bench.delete(&participants, body).await,
        bench.post("/sessions/alice/groups", new).await,
    ] {
        assert_eq!(answer.status, 400, "{answer:?}");
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("participants names {ALICE}@c.us")), "{message}");
    }
    for kind in ["w:g2:add", "w:g2:remove", "w:g2:create"] {
        assert_eq!(bench.world.requests(ALICE, kind), 0);
    }
}
