//! Participants, groups, flags and numbers as people write them: responses have the canonical form.

use reqwest::Method;
use rookery_simulator::{Addressing, GroupSpec};
use serde_json::json;

use crate::harness::{ALICE, BOB, Bench, CAROL};

#[tokio::test(flavor = "multi_thread")]
async fn a_number_in_many_spellings_is_one_person_with_one_result() {
    let bench = Bench::start().await;
    let group = bench.group(&[BOB], Addressing::Pn);
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}/participants");
    let (country, rest) = CAROL.split_at(1);
    let (area, local) = rest.split_at(3);
    let spellings = [
        format!("+{country} ({area}) {local}"),
        format!("00{CAROL}"),
        format!("\u{202A}+{country}\u{A0}{area}\u{2011}{local}\u{202C}"),
        format!("{CAROL}:3@s.whatsapp.net"),
        format!("{CAROL}@c.us"),
        CAROL.to_owned(),
    ];
    for (method, route, code) in [
        (Method::POST, "", "added"),
        (Method::POST, "/promote", "promoted"),
        (Method::POST, "/demote", "demoted"),
        (Method::DELETE, "", "removed"),
    ] {
        let body = json!({ "participants": spellings });
        let answer = bench.call(method, &format!("{path}{route}"), Some(body)).await;
        let expected = json!([{ "id": format!("{CAROL}@c.us"), "requested": spellings[0], "success": true, "status": 200, "code": code }]);
        assert_eq!(answer.body["results"], expected, "{answer:?}");
    }
    let refused = bench.post(&path, json!({ "participants": ["+44 (0)20 7946 0958", "0155 5010", BOB] })).await;
    assert_eq!(refused.failure(), (400, "invalid_participant_id"));
    assert!(refused.body["message"].to_string().contains("+44 (0)20 7946 0958"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_groups_of_a_key_hold_however_a_group_is_written() {
    let bench = Bench::start().await;
    let (mine, other) = (bench.group(&[BOB], Addressing::Lid), bench.group(&[CAROL], Addressing::Pn));
    let community = bench.world.add_community(rookery_simulator::CommunitySpec::new("Park", ALICE));
    bench.link("alice", ALICE).await;
    let bare = |group: &str| group.trim_end_matches("@g.us").to_owned();
    let made = bench
        .post("/auth/api-keys", json!({ "name": "tenant", "allowedGroups": [bare(&mine)], "role": "operator" }))
        .await;
    assert_eq!((made.status, &made.body["allowedGroups"]), (201, &json!([mine])), "{made:?}");
    let key = made.body["apiKey"].as_str().unwrap();
    for (group, status) in [(&mine, 200), (&other, 401), (&community, 401)] {
        let digits = bare(group);
        for written in [group.clone(), digits.clone(), format!("%20{digits}"), format!("%E2%80%8E{digits}%40g.us")] {
            let path = format!("/sessions/alice/groups/{written}");
            assert_eq!(bench.call_with(key, Method::GET, &path, None).await.status, status, "{path}");
            let renamed = Some(json!({ "subject": "Mine" }));
            let answer = bench.call_with(key, Method::PUT, &format!("{path}/subject"), renamed).await;
            assert_eq!(answer.status, status, "{path}");
        }
    }
    assert_eq!(bench.world.group(&other).unwrap().subject, "Team");
    // Refusals of one kind about one group are one record.
    for (group, outcome, count) in [(&mine, "done", 4), (&other, "refused", 1)] {
        let log = bench.get(&format!("/audit?groupId={}&action=groups_set_subject", bare(group))).await;
        let records = log.body["data"].as_array().unwrap();
        assert!(records.iter().all(|record| record["outcome"] == outcome) && records.len() == count, "{log:?}");
    }
    let linked = bench
        .post(&format!("/sessions/alice/communities/{}/links", bare(&community)), json!({ "groups": [bare(&other)] }))
        .await;
    assert_eq!((linked.status, &linked.body["results"][0]["id"]), (200, &json!(other)), "{linked:?}");
    let listed = bench.get(&format!("/sessions/alice/groups?community={}", bare(&community))).await;
    assert!(listed.ids().contains(&other.as_str()), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_and_numbers_may_be_texts() {
    let bench = Bench::start().await;
    let group = bench.world.add_group(GroupSpec { participants: vec![BOB.into()], ..GroupSpec::new("Team", ALICE) });
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}/settings");
    let body = json!({ "announce": "true", "locked": "False", "ephemeralSeconds": "86400" });
    let answer = bench.call(Method::PUT, &path, Some(body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let shown = bench.get(&format!("/sessions/alice/groups/{group}")).await.body;
    let settings = ["announce", "locked", "ephemeralSeconds"].map(|name| &shown[name]);
    assert_eq!(settings, [&json!(true), &json!(false), &json!(86_400)], "{shown}");
    let refused = bench.call(Method::PUT, &path, Some(json!({ "announce": "on", "ephemeralSeconds": "1d" }))).await;
    assert_eq!(refused.failure(), (400, "validation_failed"));
}
