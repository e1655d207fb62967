//! Keys that are limited to groups: their owners see and change only these groups of a session.

use std::collections::HashSet;

use reqwest::Method;
use rookery_simulator::{Addressing, Answers, CommunitySpec, Fault, FaultKind, GroupSpec};
use serde_json::{Value, json};

use crate::harness::{ALICE, Answer, BOB, Bench, CAROL, DAVE, until, until_equal};

const GROUPS: &str = "/sessions/alice/groups";
const COMMUNITIES: &str = "/sessions/alice/communities";

/// A client with a key of its own.
struct Tenant<'a> {
    bench: &'a Bench,
    id: String,
    key: String,
}

impl<'a> Tenant<'a> {
    async fn new(bench: &'a Bench, groups: &[&str], creates: bool) -> Self {
        let sessions = ["alice"];
        let body = json!({
            "name": "tenant", "allowedSessions": sessions, "allowedGroups": groups, "allowGroupCreation": creates,
        });
        let made = bench.post("/auth/api-keys", body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let text = |name: &str| made.body[name].as_str().unwrap().to_owned();
        Self { bench, id: text("id"), key: text("apiKey") }
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Answer {
        self.bench.call_with(&self.key, method, path, Some(body)).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.bench.call_with(&self.key, Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, body).await
    }

    /// The groups that the key is limited to.
    async fn scope(&self) -> Vec<String> {
        let key = self.bench.get(&format!("/auth/api-keys/{}", self.id)).await.body;
        key["allowedGroups"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }
}

/// Alice is in two groups that are hers, one of Bob's, and a community.
async fn ready() -> (Bench, [String; 3], String) {
    let bench = Bench::start().await;
    let (mine, other) = (bench.group(&[BOB], Addressing::Lid), bench.group(&[CAROL], Addressing::Pn));
    let bobs = bench.world.add_group(GroupSpec { participants: vec![ALICE.into()], ..GroupSpec::new("Bob's", BOB) });
    let community = bench.world.add_community(CommunitySpec::new("Park", ALICE));
    bench.link("alice", ALICE).await;
    (bench, [mine, other, bobs], community)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_one_group_sees_no_other_in_any_list() {
    let (bench, [mine, other, _], community) = ready().await;
    let tenant = Tenant::new(&bench, &[&mine], false).await;
    for refresh in ["false", "true"] {
        let list = tenant.get(&format!("{GROUPS}?refresh={refresh}")).await;
        assert_eq!((list.ids(), list.header("x-total-count")), (vec![mine.as_str()], "1"));
    }
    assert_eq!(tenant.get(&format!("{GROUPS}/count")).await.body, json!({ "total": 1, "admin": 1, "communities": 0 }));
    let table = tenant.get("/sessions/alice/groups.csv").await.text();
    assert_eq!((table.lines().count(), table.contains(&mine)), (2, true), "{table}");
    assert_eq!(tenant.get(&format!("{GROUPS}?search={other}")).await.ids(), [""; 0]);
    assert_eq!(tenant.get(COMMUNITIES).await.ids(), [""; 0]);
    assert_eq!(tenant.get(&format!("{COMMUNITIES}/{community}")).await.failure(), (401, "group_not_allowed"));

    let all = bench.get(GROUPS).await;
    let unlimited = bench.get_unless(all.header("etag"), GROUPS).await.status;
    let list = tenant.get(GROUPS).await;
    assert_eq!(unlimited, 304);
    assert_ne!(list.header("etag"), all.header("etag"), "a tag tells nothing about other groups");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_one_group_changes_that_one_and_no_other() {
    let (bench, [mine, other, _], _) = ready().await;
    let tenant = Tenant::new(&bench, &[&mine], false).await;
    let participants = json!({ "participants": [CAROL] });
    for (group, status) in [(&mine, 200), (&other, 401)] {
        let path = format!("{GROUPS}/{group}");
        assert_eq!(tenant.get(&path).await.status, status);
        assert_eq!(tenant.get(&format!("{path}/participants.csv")).await.status, status);
        assert_eq!(tenant.get(&format!("{path}/invite-code")).await.status, status);
        assert_eq!(
            tenant.call(Method::PUT, &format!("{path}/subject"), json!({ "subject": "Mine" })).await.status,
            status
        );
        assert_eq!(
            tenant.call(Method::DELETE, &format!("{path}/participants"), participants.clone()).await.status,
            match status {
                200 => 403,
                refused => refused,
            }
        );
        assert_eq!(
            tenant.post(&format!("{path}/leave"), json!({})).await.failure(),
            (403, "group_creation_not_allowed")
        );
    }
    assert_eq!(bench.world.group(&other).unwrap().subject, "Team");
    for (method, path) in [
        (Method::POST, "/sessions/alice/stop"),
        (Method::POST, "/sessions/alice/logout"),
        (Method::DELETE, "/sessions/alice"),
        (Method::PATCH, "/sessions/alice/config"),
    ] {
        assert_eq!(tenant.call(method, path, json!({})).await.failure(), (403, "group_scoped_key"), "{path}");
    }
    assert_eq!(tenant.get("/sessions/alice").await.body["status"], "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_makes_is_its_own() {
    let (bench, [mine, ..], _) = ready().await;
    let refused = Tenant::new(&bench, &[&mine], false).await;
    let body = json!({ "name": "Trip", "participants": [BOB] });
    assert_eq!(refused.post(GROUPS, body.clone()).await.failure(), (403, "group_creation_not_allowed"));
    let tenant = Tenant::new(&bench, &[], true).await;
    assert_eq!(tenant.get(GROUPS).await.ids(), [""; 0]);
    let made = tenant.post(GROUPS, body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.body["id"].as_str().unwrap();
    assert_eq!((tenant.get(GROUPS).await.ids(), tenant.scope().await), (vec![id], vec![id.to_owned()]));

    let town = tenant.post(COMMUNITIES, json!({ "name": "Town", "generalChat": true })).await;
    assert_eq!(town.status, 201, "{town:?}");
    let town_id = town.body["id"].as_str().unwrap();
    let within = json!({ "name": "Street", "participants": [BOB] });
    let street = tenant.post(&format!("{COMMUNITIES}/{town_id}/groups"), within).await;
    assert_eq!(street.status, 201, "{street:?}");
    assert_eq!(tenant.scope().await.len(), 5, "two groups, the community, its announcements and its chat");
    let seen = tenant.get(&format!("{COMMUNITIES}/{town_id}")).await;
    assert_eq!(seen.body["groups"].as_array().map(Vec::len), Some(3), "{seen:?}");
    assert_eq!(refused.get(GROUPS).await.ids(), [&mine], "nobody else's");
    assert_eq!(tenant.post(&format!("{GROUPS}/{id}/leave"), json!({})).await.status, 200);
    assert!(!tenant.scope().await.contains(&id.to_owned()), "whoever is in it later is somebody else");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_others_are_neither_linked_nor_seen_in_a_community() {
    let (bench, [mine, other, _], community) = ready().await;
    let announcements = announcements_of(&bench, &community).await;
    let tenant = Tenant::new(&bench, &[&mine, &community, &announcements], false).await;
    let links = format!("{COMMUNITIES}/{community}/links");
    for method in [Method::POST, Method::DELETE] {
        let both = tenant.call(method, &links, json!({ "groups": [mine, other] })).await;
        assert_eq!(both.failure(), (401, "group_not_allowed"));
    }
    assert_eq!(bench.world.group(&mine).unwrap().parent, None, "nothing was done");
    assert_eq!(bench.post(&links, json!({ "groups": [other] })).await.status, 200);
    assert_eq!(tenant.post(&links, json!({ "groups": [mine] })).await.status, 200);
    let seen = tenant.get(&format!("{COMMUNITIES}/{community}")).await;
    let ids: Vec<_> =
        seen.body["groups"].as_array().unwrap().iter().map(|group| group["id"].as_str().unwrap()).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>(), [mine.as_str(), &announcements].iter().collect());
}

/// The id of a community's announcement group.
async fn announcements_of(bench: &Bench, community: &str) -> String {
    let groups = bench.get(&format!("{COMMUNITIES}/{community}")).await.body["groups"].clone();
    let announcements = groups.as_array().unwrap().iter().find(|group| group["isAnnouncementGroup"] == true);
    announcements.unwrap()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_adds_people_to_a_community_needs_a_key_for_its_announcement_group() {
    let (bench, [mine, other, _], community) = ready().await;
    let (links, participants) = (format!("{COMMUNITIES}/{community}/links"), format!("{GROUPS}/{mine}/participants"));
    assert_eq!(bench.post(&links, json!({ "groups": [mine] })).await.status, 200);
    let announcements = announcements_of(&bench, &community).await;
    let requests = format!("{GROUPS}/{mine}/membership-requests/approve");
    let calls = [
        (participants.clone(), json!({ "participants": [CAROL] })),
        (requests, json!({})),
        (links, json!({ "groups": [other] })),
        (format!("{COMMUNITIES}/{community}/groups"), json!({ "name": "Street", "participants": [DAVE] })),
    ];
    for scope in [vec![&mine, &other, &community], vec![&mine, &other, &announcements]] {
        let scope: Vec<&str> = scope.into_iter().map(String::as_str).collect();
        let some = Tenant::new(&bench, &scope, true).await;
        for (path, body) in &calls {
            assert_eq!(some.post(path, body.clone()).await.failure(), (401, "group_not_allowed"), "{path}");
        }
        // The scope is checked before the body.
        let refused = some.post(&participants, json!({ "participants": "x" })).await;
        assert_eq!(refused.failure(), (401, "group_not_allowed"));
    }
    assert_eq!(bench.world.group(&announcements).unwrap().participants.len(), 2, "nobody came in");
    let both = Tenant::new(&bench, &[&mine, &other, &community, &announcements], true).await;
    for (path, body) in &calls {
        let done = both.post(path, body.clone()).await;
        assert!([200, 201].contains(&done.status), "{path} {done:?}");
    }
    // A change to a group that is in no community is allowed as before.
    assert_eq!(bench.call(Method::DELETE, &participants, Some(json!({ "participants": [CAROL] }))).await.status, 200);
    let alone = bench.group(&[BOB], Addressing::Lid);
    until_equal(200, async || bench.get(&format!("{GROUPS}/{alone}")).await.status).await;
    let of_one = Tenant::new(&bench, &[&alone], false).await;
    let added = of_one.post(&format!("{GROUPS}/{alone}/participants"), json!({ "participants": [CAROL] })).await;
    assert_eq!(added.status, 200, "{added:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reaches_every_group_of_a_community_needs_a_key_for_all_of_them() {
    let (bench, [mine, other, _], community) = ready().await;
    let links = format!("{COMMUNITIES}/{community}/links");
    assert_eq!(bench.post(&links, json!({ "groups": [mine, other] })).await.status, 200);
    let groups = bench.get(&format!("{COMMUNITIES}/{community}")).await.body["groups"].clone();
    let all: Vec<_> = groups.as_array().unwrap().iter().map(|group| group["id"].as_str().unwrap()).collect();
    let announcement = groups.as_array().unwrap().iter().find(|group| group["isAnnouncementGroup"] == true).unwrap();
    let announcement = announcement["id"].as_str().unwrap();
    let participants = json!({ "participants": [BOB] });

    let some = Tenant::new(&bench, &[&community, &mine, announcement], true).await;
    let (of_community, of_announcement) = (format!("{GROUPS}/{community}"), format!("{GROUPS}/{announcement}"));
    for (method, path, body) in [
        (Method::POST, format!("{of_community}/leave"), json!({})),
        (Method::POST, format!("{of_announcement}/leave"), json!({})),
        (Method::DELETE, format!("{of_community}/participants"), participants.clone()),
        (Method::DELETE, format!("{of_announcement}/participants"), participants.clone()),
        (Method::DELETE, links.clone(), json!({ "groups": [mine] })),
        (Method::POST, format!("{COMMUNITIES}/{community}/deactivate"), json!({})),
    ] {
        let refused = some.call(method, &path, body).await;
        assert_eq!(refused.failure(), (401, "group_not_allowed"), "{path}");
    }
    assert_eq!(bench.world.group(&mine).unwrap().parent.as_ref(), Some(&community), "nothing was done");
    // A change to one group only is allowed as before.
    let removed = some.call(Method::DELETE, &format!("{GROUPS}/{mine}/participants"), participants).await;
    assert_eq!(removed.status, 200, "{removed:?}");

    let every: Vec<_> = all.iter().copied().chain([community.as_str()]).collect();
    let whole = Tenant::new(&bench, &every, true).await;
    assert_eq!(whole.call(Method::DELETE, &links, json!({ "groups": [mine] })).await.status, 200);
    assert_eq!(whole.post(&format!("{COMMUNITIES}/{community}/deactivate"), json!({})).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_code_leads_into_new_groups_and_not_into_those_of_others() {
    let (bench, [mine, other, _], _) = ready().await;
    let outside = bench.world.add_group(GroupSpec { participants: vec![CAROL.into()], ..GroupSpec::new("Club", BOB) });
    let code = |group: &str| bench.world.group(group).unwrap().invite_code;
    let join = format!("{GROUPS}/join");
    let (shut, tenant) = (Tenant::new(&bench, &[&mine], false).await, Tenant::new(&bench, &[&mine], true).await);
    let body = json!({ "inviteCode": code(&outside) });
    assert_eq!(shut.post(&join, body.clone()).await.failure(), (403, "group_creation_not_allowed"));
    let info = |group: &str| format!("{GROUPS}/join-info?code={}", code(group));
    let viewer = json!({
        "name": "viewer", "role": "viewer", "allowedSessions": ["alice"], "allowedGroups": [mine], "allowGroupCreation": true,
    });
    let viewer = bench.post("/auth/api-keys", viewer).await.body["apiKey"].as_str().unwrap().to_owned();
    for (group, of_tenant, of_viewer) in [(&mine, 200, 200), (&other, 401, 401), (&outside, 200, 401)] {
        let seen = bench.call_with(&viewer, Method::GET, &info(group), None).await;
        let seen = (shut.get(&info(group)).await.status, tenant.get(&info(group)).await.status, seen.status);
        assert_eq!(seen, (403, of_tenant, of_viewer), "{group}");
    }

    let foreign = tenant.post(&join, json!({ "inviteCode": code(&other) })).await;
    assert_eq!(foreign.failure(), (401, "group_not_allowed"), "the session is in it, the key is not");
    assert_eq!(tenant.scope().await, [mine.as_str()]);
    let anywhere = json!({ "name": "wide", "allowedGroups": [], "allowGroupCreation": true });
    let wide = bench.post("/auth/api-keys", anywhere).await.body["apiKey"].as_str().unwrap().to_owned();
    let refused = bench.call_with(&wide, Method::POST, &join, Some(body.clone())).await;
    assert_eq!(refused.failure(), (403, "several_sessions"));
    let joined = tenant.post(&join, body).await;
    assert_eq!((joined.status, &joined.body["groupId"]), (200, &json!(outside)), "{joined:?}");
    until_equal(200, async || tenant.get(&format!("{GROUPS}/{outside}")).await.status).await;
    let mut expected = vec![mine, outside];
    expected.sort();
    assert_eq!(tenant.scope().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_not_given_again_to_a_key_that_may_not_touch_what_it_made_any_more() {
    let (bench, [mine, ..], _) = ready().await;
    let tenant = Tenant::new(&bench, &[&mine], true).await;
    let body = json!({ "name": "Trip", "participants": [BOB] });
    let make = async || {
        let answer = bench.call_once_with(&tenant.key, "trip", Method::POST, GROUPS, &body).await;
        (answer.status, answer.body)
    };
    let (status, made) = make().await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(make().await, (201, made.clone()), "again");
    let narrowed = json!({ "allowedGroups": [mine] });
    let path = format!("/auth/api-keys/{}", tenant.id);
    assert_eq!(bench.put(&path, narrowed).await.status, 200);
    let (status, refused) = make().await;
    assert_eq!((status, &refused["code"]), (401, &json!("group_not_allowed")), "{refused}");
    assert_eq!(bench.world.groups().iter().filter(|group| group.subject == "Trip").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_answer_tells_a_narrowed_key_of_no_group_that_is_not_its_own() {
    let (bench, [mine, other, _], community) = ready().await;
    let announcements = announcements_of(&bench, &community).await;
    let tenant = Tenant::new(&bench, &[&mine, &other, &community, &announcements], true).await;
    let calls = [
        (format!("{COMMUNITIES}/{community}/links"), json!({ "groups": [mine, other] })),
        (COMMUNITIES.to_owned(), json!({ "name": "Mine", "generalChat": true })),
    ];
    let mut made = Vec::new();
    for (path, body) in &calls {
        let once = async || bench.call_once_with(&tenant.key, path, Method::POST, path, body).await;
        let first = once().await;
        assert!([200, 201].contains(&first.status), "{first:?}");
        assert_eq!(once().await.body, first.body);
        made.push(first.body);
    }
    // The other group is not the tenant's any more, nor is the community's general chat.
    let narrowed = json!({ "allowedGroups": [mine, community, announcements, made[1]["id"]] });
    assert_eq!(bench.put(&format!("/auth/api-keys/{}", tenant.id), narrowed).await.status, 200);
    for (path, body) in &calls {
        let refused = bench.call_once_with(&tenant.key, path, Method::POST, path, body).await;
        assert_eq!(refused.failure(), (401, "group_not_allowed"), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_the_account_was_got_into_by_others_does_not_become_a_keys_own() {
    let (bench, [mine, ..], _) = ready().await;
    let tenant = Tenant::new(&bench, &[&mine], true).await;
    // The session gets no notification about this group.
    let secret = GroupSpec { participants: vec![ALICE.into()], quiet: true, ..GroupSpec::new("Secret", BOB) };
    let secret = bench.world.add_group(secret);
    let code = bench.world.group(&secret).unwrap().invite_code;
    bench.world.set_answers(Answers { join_of_member: 304, ..Answers::default() });
    let refused = tenant.post(&format!("{GROUPS}/join"), json!({ "inviteCode": code })).await;
    assert_eq!(refused.failure(), (401, "group_not_allowed"), "{refused:?}");
    assert_eq!(tenant.scope().await, [mine]);
    assert_eq!(tenant.get(&format!("{GROUPS}/{secret}")).await.failure(), (401, "group_not_allowed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_narrowed_while_its_group_is_made_does_not_get_it() {
    let (bench, [mine, ..], _) = ready().await;
    let tenant = Tenant::new(&bench, &[&mine], true).await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Slow { delay_ms: 600 }).at("create"));
    let narrowing = async {
        until("the group", async || bench.world.groups().iter().find(|group| group.subject == "Trip").map(drop)).await;
        let path = format!("/auth/api-keys/{}", tenant.id);
        assert_eq!(bench.put(&path, json!({ "allowGroupCreation": false })).await.status, 200);
    };
    let (made, ()) = tokio::join!(tenant.post(GROUPS, json!({ "name": "Trip", "participants": [BOB] })), narrowing);
    assert_eq!(made.status, 201, "what was done is told: {made:?}");
    assert_eq!(tenant.scope().await, [mine]);
}
