//! People who asked to be let in: who they are, letting them in, turning them down.

use rookery_simulator::{AccountSpec, Addressing, GroupSpec, Setting};
use serde_json::json;

use crate::harness::{ALICE, BOB, Bench, CAROL, DAVE, world_members};

async fn ready_with_requests(participants: &[&str]) -> (Bench, String, String) {
    let bench = Bench::start().await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.world.change_setting(&group, ALICE, Setting::Approval(true)).unwrap();
    for person in participants {
        bench.world.request_to_join(&group, person).unwrap();
    }
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}");
    (bench, group, path)
}

fn waiting(bench: &Bench, group: &str) -> Vec<String> {
    bench.world.group(group).unwrap().join_requests.into_iter().map(|request| request.phone).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_let_in_another_turned_down_and_somebody_who_did_not_ask_named() {
    let (bench, group, path) = ready_with_requests(&[CAROL, DAVE]).await;
    let requests = format!("{path}/membership-requests");
    let list = bench.get(&requests).await;
    assert_eq!(list.status, 200, "{list:?}");
    let mut participants: Vec<_> =
        list.body.as_array().unwrap().iter().map(|one| one["participantId"].clone()).collect();
    participants.sort_by_key(ToString::to_string);
    assert_eq!(participants, [format!("{CAROL}@c.us"), format!("{DAVE}@c.us")]);
    assert_eq!(list.body[0]["method"], "invite_link");
    assert!(list.body[0]["requestedAt"].as_u64().is_some_and(|at| at > 1_700_000_000), "{list:?}");

    bench.world.add_account(AccountSpec::new("15550100055"));
    let approved = bench.post(&format!("{requests}/approve"), json!({ "participants": [CAROL, "15550100055"] })).await;
    assert_eq!((approved.status, approved.codes()), (200, vec!["approved", "no_request"]), "{approved:?}");
    assert_eq!(approved.body["message"], "Membership requests approved");
    assert_eq!(bench.get(&path).await.members(), world_members(&bench.world, &group), "G-2");
    assert!(world_members(&bench.world, &group).contains(&CAROL.to_owned()));

    let rejected = bench.post(&format!("{requests}/reject"), json!({ "participants": [DAVE] })).await;
    assert_eq!((rejected.status, rejected.codes()), (200, vec!["rejected"]), "{rejected:?}");
    assert_eq!(rejected.body["message"], "Membership requests rejected");
    assert!(waiting(&bench, &group).is_empty() && !world_members(&bench.world, &group).contains(&DAVE.to_owned()));
    assert_eq!(bench.get(&requests).await.body, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_participants_everybody_is_meant_also_when_nobody_waits() {
    let (bench, group, path) = ready_with_requests(&[CAROL, DAVE]).await;
    let requests = format!("{path}/membership-requests");
    let approved = bench.post(&format!("{requests}/approve"), json!({})).await;
    assert_eq!((approved.status, approved.codes()), (200, vec!["approved", "approved"]), "{approved:?}");
    assert_eq!(bench.get(&path).await.members(), world_members(&bench.world, &group), "G-2");
    assert_eq!(world_members(&bench.world, &group).len(), 4);
    for decision in ["approve", "reject"] {
        let nobody = bench.post(&format!("{requests}/{decision}"), json!({})).await;
        assert_eq!((nobody.status, &nobody.body["results"]), (200, &json!([])), "{nobody:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_about_nobody_who_asked_is_a_403_with_results() {
    let (bench, group, path) = ready_with_requests(&[CAROL]).await;
    for decision in ["approve", "reject"] {
        let answer =
            bench.post(&format!("{path}/membership-requests/{decision}"), json!({ "participants": [DAVE] })).await;
        assert_eq!(answer.failure(), (403, "whatsapp_refused"), "{answer:?}");
        assert_eq!(answer.codes(), ["no_request"]);
    }
    assert_eq!(waiting(&bench, &group), [CAROL]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_decisions_are_named_and_only_admins_may_look() {
    let (bench, group, path) = ready_with_requests(&[CAROL]).await;
    let approve = format!("{path}/membership-requests/approve");
    let many: Vec<_> = (0..257).map(|number| format!("{}", 15_550_200_000_u64 + number)).collect();
    for body in [json!({ "participants": [] }), json!({ "participants": null }), json!({ "participants": many })] {
        assert_eq!(bench.post(&approve, body).await.failure(), (400, "validation_failed"));
    }
    assert_eq!(bench.post(&approve, json!({ "people": [] })).await.failure(), (400, "validation_failed"));
    let malformed = bench.post(&approve, json!({ "participants": ["carol"] })).await;
    assert_eq!(malformed.failure(), (400, "invalid_participant_id"));
    assert_eq!(waiting(&bench, &group), [CAROL]);

    let participants = vec![ALICE.to_owned()];
    let other = bench.world.add_group(GroupSpec { participants, ..GroupSpec::new("Bob's", BOB) });
    assert_eq!(bench.get("/sessions/alice/groups?refresh=true").await.status, 200);
    let refused = bench.get(&format!("/sessions/alice/groups/{other}/membership-requests")).await;
    assert_eq!(refused.failure(), (403, "whatsapp_refused"), "{refused:?}");
}
