//! People who may only be invited get WhatsApp's private invitation, when the caller asks for it.

use rookery_simulator::{AccountSpec, Addable, Addressing};
use serde_json::json;

use crate::harness::{ALICE, BOB, Bench, CAROL, DAVE, world_members};

async fn ready() -> (Bench, String, String) {
    let bench = Bench::start().await;
    for phone in [CAROL, DAVE] {
        bench.world.add_account(AccountSpec { addable: Addable::InviteOnly, ..AccountSpec::new(phone) });
    }
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}/participants");
    (bench, group, path)
}

/// The groups that this phone was invited to by message.
fn invited(bench: &Bench, phone: &str) -> Vec<String> {
    bench.world.messages(phone).into_iter().filter_map(|message| Some(message.invitation?.group)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_invitations_is_a_success() {
    let (bench, group, path) = ready().await;
    let refused = bench.post(&path, json!({ "participants": [CAROL, DAVE] })).await;
    assert_eq!((refused.status, refused.codes()), (403, vec!["invite_required", "invite_required"]));
    assert!(invited(&bench, CAROL).is_empty());
    let sent = bench.post(&path, json!({ "participants": [CAROL, DAVE], "inviteFallback": true })).await;
    assert_eq!((sent.status, sent.codes()), (200, vec!["invite_sent", "invite_sent"]), "{sent:?}");
    assert_eq!((invited(&bench, CAROL), invited(&bench, DAVE)), (vec![group.clone()], vec![group.clone()]));
    assert_eq!(world_members(&bench.world, &group), [format!("{ALICE}*"), BOB.into()], "invited is not added");
    let shown = bench.get(&format!("/sessions/alice/groups/{group}")).await;
    assert_eq!(shown.members(), world_members(&bench.world, &group), "G-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_invites_too() {
    let (bench, _, _) = ready().await;
    let body = json!({ "name": "New", "participants": [BOB, CAROL], "inviteFallback": true });
    let created = bench.post("/sessions/alice/groups", body).await;
    assert_eq!((created.status, created.codes()), (201, vec!["added", "invite_sent"]), "{created:?}");
    assert_eq!(created.body["participantsCount"], 2);
    assert_eq!(invited(&bench, CAROL), [created.body["id"].as_str().unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_adding_and_making_know_it() {
    let (bench, group, path) = ready().await;
    let body = json!({ "participants": [BOB], "inviteFallback": true });
    let unknown = json!(["property inviteFallback should not exist"]);
    for route in [format!("{path}/promote"), format!("{path}/demote")] {
        assert_eq!(bench.post(&route, body.clone()).await.body["message"], unknown);
    }
    assert_eq!(bench.delete(&path, body).await.body["message"], unknown);
    let wrong = bench.post(&path, json!({ "participants": [CAROL], "inviteFallback": "yes" })).await;
    assert_eq!(wrong.body["message"], json!(["inviteFallback must be a boolean value"]));
    assert_eq!(world_members(&bench.world, &group), [format!("{ALICE}*"), BOB.into()]);
    assert!(invited(&bench, CAROL).is_empty());
}
