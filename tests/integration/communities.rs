//! Communities: made, read, filled with groups, emptied and ended.

use reqwest::Method;
use rookery_simulator::{Addressing, CommunitySpec, Fault, FaultKind, GroupSpec};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, CAROL};

const COMMUNITIES: &str = "/sessions/alice/communities";

/// Alice has a group and a community without one.
async fn ready() -> (Bench, String, String) {
    let bench = Bench::start().await;
    let group = bench.group(&[BOB], Addressing::Lid);
    let community = bench.world.add_community(CommunitySpec::new("Park", ALICE));
    bench.link("alice", ALICE).await;
    (bench, group, community)
}

/// The ids of a community's groups, as its route and as the world have them, sorted.
async fn groups_of(bench: &Bench, community: &str) -> (Vec<String>, Vec<String>) {
    let answer = bench.get(&format!("{COMMUNITIES}/{community}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let id = |group: &Value| group["id"].as_str().unwrap().to_owned();
    let shown = answer.body["groups"].as_array().unwrap().iter().map(id).collect();
    let mut there: Vec<_> = bench.world.subgroups(community).into_iter().map(|group| group.id).collect();
    there.sort();
    (shown, there)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_community_is_made_with_what_was_asked_for() {
    let bench = Bench::start().await;
    bench.link("alice", ALICE).await;
    let body = json!({ "name": "Park", "description": "Trees", "membershipApproval": true, "generalChat": true });
    let made = bench.call_once("k", Method::POST, COMMUNITIES, &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let again = bench.call_once("k", Method::POST, COMMUNITIES, &body).await;
    assert_eq!((again.replayed, &again.body), (true, &made.body));
    let id = made.body["id"].as_str().unwrap();
    let world = bench.world.group(id).unwrap();
    assert!(world.is_community);
    assert_eq!((world.subject.as_str(), world.description.as_deref()), ("Park", Some("Trees")));
    assert_eq!(
        json!([made.body["name"], made.body["description"], made.body["isAdmin"]]),
        json!(["Park", "Trees", true])
    );
    let groups = made.body["groups"].as_array().unwrap();
    let count = |flag: &str| groups.iter().filter(|group| group[flag] == true).count();
    assert_eq!([groups.len(), count("isAnnouncementGroup"), count("isGeneralChat"), count("isMember")], [2, 1, 1, 2]);
    assert_eq!(bench.get(COMMUNITIES).await.ids(), [id], "G-2");
    assert_eq!(bench.get(&format!("{COMMUNITIES}/{id}")).await.body, made.body);
    let listed = bench.get("/sessions/alice/groups").await;
    assert_eq!(listed.ids().len(), 3, "with its groups");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_community_whose_groups_cannot_be_read_after_it_was_made_is_answered_all_the_same() {
    let bench = Bench::start().await;
    bench.link("alice", ALICE).await;
    let refuse = FaultKind::Refuse { code: 503, backoff_s: None };
    bench.world.add_fault(ALICE, Fault::new(refuse).at("participating"));
    let body = json!({ "name": "Park", "generalChat": true });
    let made = bench.call_once("k", Method::POST, COMMUNITIES, &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.body["id"].as_str().unwrap();
    assert_eq!(bench.get(&format!("{COMMUNITIES}/{id}")).await.body["groups"].as_array().unwrap().len(), 2);
    assert!(bench.call_once("k", Method::POST, COMMUNITIES, &body).await.replayed);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_linked_and_unlinked_and_each_is_answered_for() {
    let (bench, group, community) = ready().await;
    let other = bench.world.add_group(GroupSpec { participants: vec![ALICE.into()], ..GroupSpec::new("Bob's", BOB) });
    let links = format!("{COMMUNITIES}/{community}/links");
    let body = json!({ "groups": [group, other, group] });
    let linked = bench.call_once("k", Method::POST, &links, &body).await;
    assert_eq!((linked.status, linked.codes()), (200, vec!["linked", "not_allowed"]), "{linked:?}");
    assert_eq!(linked.body["message"], "Groups linked");
    assert_eq!(bench.world.group(&group).unwrap().parent.as_ref(), Some(&community));
    assert!(bench.call_once("k", Method::POST, &links, &body).await.replayed);
    let (shown, there) = groups_of(&bench, &community).await;
    assert_eq!(shown, there);
    let path = format!("/sessions/alice/groups/{group}");
    assert_eq!(bench.get(&path).await.body["linkedParentJID"], json!(community), "G-2");
    let all = bench.get(&format!("/sessions/alice/groups?community={community}")).await;
    assert_eq!(all.ids(), there);

    let twice = bench.post(&links, json!({ "groups": [group, other] })).await;
    assert_eq!((twice.failure(), twice.codes()), ((403, "whatsapp_refused"), vec!["already_linked", "not_allowed"]));

    let unlinked = bench.delete(&links, json!({ "groups": [group], "removeOrphans": true })).await;
    assert_eq!((unlinked.status, unlinked.codes()), (200, vec!["unlinked"]), "{unlinked:?}");
    assert_eq!(unlinked.body["message"], "Groups unlinked");
    assert_eq!(bench.world.group(&group).unwrap().parent, None);
    assert_eq!(bench.get(&path).await.body["linkedParentJID"], Value::Null, "G-2");
    let participants = bench.world.group(&community).unwrap().participants;
    assert!(participants.iter().all(|person| person.phone != BOB), "an orphan");

    let again = bench.delete(&links, json!({ "groups": [group] })).await;
    assert_eq!(again.codes(), ["not_linked"], "it is there, and not in the community: {again:?}");
    let announcements = there.into_iter().find(|id| *id != group && *id != community).unwrap();
    let announcements = bench.delete(&links, json!({ "groups": [announcements] })).await;
    assert_eq!(announcements.codes(), ["not_allowed"], "{announcements:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_made_in_a_community() {
    let (bench, _, community) = ready().await;
    let path = format!("{COMMUNITIES}/{community}/groups");
    let made = bench.post(&path, json!({ "name": "Benches", "participants": [CAROL] })).await;
    assert_eq!((made.status, made.codes()), (201, vec!["added"]), "{made:?}");
    let id = made.body["id"].as_str().unwrap();
    assert_eq!(bench.world.group(id).unwrap().parent.as_ref(), Some(&community));
    assert_eq!(made.body["linkedParentJID"], json!(community));
    assert_eq!(
        bench.get(&format!("/sessions/alice/groups/{id}")).await.body["linkedParentJID"],
        json!(community),
        "G-2"
    );
    let (shown, there) = groups_of(&bench, &community).await;
    assert_eq!(shown, there);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_community_that_has_ended_is_gone_and_its_groups_go_on() {
    let (bench, group, community) = ready().await;
    bench.world.link(&community, ALICE, &[&group]).unwrap();
    assert_eq!(bench.get("/sessions/alice/groups?refresh=true").await.status, 200);
    let path = format!("{COMMUNITIES}/{community}/deactivate");
    for replayed in [false, true] {
        let ended = bench.call_once("k", Method::POST, &path, &json!({})).await;
        assert_eq!((ended.status, ended.replayed), (200, replayed), "{ended:?}");
        assert_eq!(ended.body, json!({ "success": true, "message": "Community deactivated" }));
    }
    assert!(bench.world.group(&community).is_none());
    assert_eq!(bench.get(COMMUNITIES).await.body, json!([]), "G-2");
    assert_eq!(bench.get("/sessions/alice/groups").await.ids(), [group.as_str()]);
    assert_eq!(bench.get(&format!("/sessions/alice/groups/{group}")).await.body["linkedParentJID"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_community_or_no_group_is_named_and_nothing_is_sent() {
    let (bench, group, community) = ready().await;
    let groups = json!({ "groups": [group] });
    let not_one = format!("{COMMUNITIES}/{group}");
    assert_eq!(bench.get(&not_one).await.failure(), (400, "not_a_community"));
    assert_eq!(bench.post(&format!("{not_one}/links"), groups.clone()).await.failure(), (400, "not_a_community"));
    assert_eq!(bench.post(&format!("{not_one}/deactivate"), json!({})).await.failure(), (400, "not_a_community"));
    let unknown = format!("{COMMUNITIES}/1@g.us/links");
    assert_eq!(bench.post(&unknown, groups.clone()).await.failure(), (404, "group_not_found"));
    assert_eq!(bench.get(&format!("{COMMUNITIES}/park")).await.failure(), (400, "invalid_group_id"));

    let links = format!("{COMMUNITIES}/{community}/links");
    let many: Vec<_> = (0..65).map(|number| format!("{number}@g.us")).collect();
    for body in [json!({}), json!({ "groups": [] }), json!({ "groups": many }), json!({ "groups": [group], "x": 1 })] {
        assert_eq!(bench.post(&links, body).await.failure(), (400, "validation_failed"));
    }
    let malformed = bench.delete(&links, json!({ "groups": ["park", group, "1@c.us"] })).await;
    assert_eq!(malformed.failure(), (400, "invalid_group_id"));
    assert_eq!(malformed.body["message"], "park, 1@c.us are not group ids: it is written like 120363021234567890@g.us");
    let itself = bench.post(&links, json!({ "groups": [community] })).await;
    assert_eq!(itself.failure(), (400, "invalid_request"), "{itself:?}");
    for body in [json!({}), json!({ "name": "x".repeat(101) }), json!({ "name": "Park", "generalChat": 1 })] {
        assert_eq!(bench.post(COMMUNITIES, body).await.failure(), (400, "validation_failed"));
    }
    assert_eq!(bench.world.requests(ALICE, "w:g2:links") + bench.world.requests(ALICE, "w:g2:unlink"), 0);
    assert_eq!(bench.world.requests(ALICE, "w:g2:create"), 0);
}
