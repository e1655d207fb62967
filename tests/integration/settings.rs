//! Settings of a group: changed one after the other, true at WhatsApp, and shown by the next read (G-2).

use rookery_simulator::{Addressing, Fault, FaultKind, GroupSpec, Setting};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, until_equal};

async fn ready_with_group() -> (Bench, String, String) {
    let bench = Bench::start().await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}/settings");
    (bench, group, path)
}

/// The settings in the simulator's world, as the daemon writes them.
fn world_settings(bench: &Bench, group: &str) -> Value {
    let group = bench.world.group(group).unwrap();
    let who = |all| if all { "all" } else { "admins" };
    let mut settings = json!({
        "announce": group.announce, "locked": group.locked, "memberAddMode": who(group.members_add),
        "membershipApproval": group.approval, "memberLinkMode": who(group.members_link),
        "memberShareHistoryMode": who(group.members_share_history), "limitSharing": group.limit_sharing,
        "noFrequentlyForwarded": group.no_frequently_forwarded, "allowAdminReports": group.admin_reports,
        "groupHistory": group.group_history,
    });
    if let Some(seconds) = group.ephemeral_s {
        settings["ephemeralSeconds"] = json!(seconds);
    }
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn every_setting_can_be_changed_alone_and_back() {
    let (bench, group, path) = ready_with_group().await;
    let cases = [
        ("announce", json!(true), json!(false)),
        ("locked", json!(true), json!(false)),
        ("ephemeralSeconds", json!(86_400), json!(0)),
        ("ephemeralSeconds", json!(604_800), Value::Null),
        ("memberAddMode", json!("all"), json!("admins")),
        ("membershipApproval", json!(true), json!(false)),
        ("memberLinkMode", json!("all"), json!("admins")),
        ("memberShareHistoryMode", json!("all"), json!("admins")),
        ("limitSharing", json!(true), json!(false)),
        ("noFrequentlyForwarded", json!(true), json!(false)),
        ("allowAdminReports", json!(true), json!(false)),
        ("groupHistory", json!(true), json!(false)),
    ];
    for (name, there, back) in cases {
        for value in [&there, &back] {
            let answer = bench.put(&path, json!({ name: value })).await;
            assert_eq!(answer.body, json!({ "success": true, "message": "Group settings updated" }), "{name}");
            let now = bench.get(&path).await;
            let expected = world_settings(&bench, &group);
            assert_eq!((now.status, &now.body), (200, &expected), "G-2: {name} {value}");
            let off = name == "ephemeralSeconds" && value != &there;
            assert_eq!(now.body[name], if off { Value::Null } else { value.clone() }, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_settings_change_together_and_the_group_shows_them() {
    let (bench, group, path) = ready_with_group().await;
    let answer = bench.put(&path, json!({ "locked": true, "announce": true, "memberAddMode": "all" })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let world = bench.world.group(&group).unwrap();
    assert!(world.locked && world.announce && world.members_add);
    let shown = bench.get(&format!("/sessions/alice/groups/{group}")).await.body;
    assert_eq!(json!([shown["locked"], shown["announce"], shown["isAnnounce"]]), json!([true, true, true]), "G-2");
    bench.world.change_setting(&group, ALICE, Setting::Approval(true)).unwrap();
    until_equal(world_settings(&bench, &group), async || bench.get(&path).await.body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_settings_that_fail_half_way_it_is_said_which_were_applied() {
    let (bench, group, path) = ready_with_group().await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Refuse { code: 403, backoff_s: None }).at("locked"));
    let body = json!({ "groupHistory": true, "locked": true, "announce": true });
    let answer = bench.put(&path, body).await;
    assert_eq!(answer.failure(), (403, "whatsapp_refused"), "{answer:?}");
    let outcome = json!({ "applied": ["announce"], "failed": "locked", "notTried": ["groupHistory"] });
    assert_eq!(answer.body["settings"], outcome);
    let message = answer.body["message"].as_str().unwrap();
    assert!(message.starts_with("locked was not set: "), "{message}");
    let world = bench.world.group(&group).unwrap();
    assert_eq!([world.announce, world.locked, world.group_history], [true, false, false]);
    assert_eq!(bench.get(&path).await.body, world_settings(&bench, &group), "G-2");

    bench.world.add_fault(ALICE, Fault::new(FaultKind::Refuse { code: 403, backoff_s: None }).at("locked"));
    let alone = bench.put(&path, json!({ "locked": true })).await;
    assert_eq!((alone.failure(), alone.body.get("settings")), ((403, "whatsapp_refused"), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_are_named_and_nothing_is_sent() {
    let (bench, group, path) = ready_with_group().await;
    let before = bench.world.group(&group).unwrap();
    let bodies = [
        json!({}),
        json!({ "announce": "yes", "locked": true }),
        json!({ "announce": true, "foo": 1 }),
        json!({ "ephemeralSeconds": -1 }),
        json!({ "memberAddMode": "everyone" }),
    ];
    for body in bodies {
        let answer = bench.put(&path, body).await;
        assert_eq!(answer.failure(), (400, "validation_failed"), "{answer:?}");
    }
    assert_eq!(bench.world.group(&group).unwrap(), before);
    let unknown = bench.get("/sessions/alice/groups/1@g.us/settings").await;
    assert_eq!(unknown.failure(), (404, "group_not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_is_no_admin_may_read_settings_and_not_change_them() {
    let bench = Bench::start().await;
    let participants = vec![ALICE.to_owned()];
    let group = bench.world.add_group(GroupSpec { participants, ..GroupSpec::new("Bob's", BOB) });
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}/settings");
    assert_eq!(bench.get(&path).await.body, world_settings(&bench, &group));
    let answer = bench.put(&path, json!({ "announce": true })).await;
    assert_eq!(answer.failure(), (403, "whatsapp_refused"), "{answer:?}");
    assert!(!bench.world.group(&group).unwrap().announce);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_for_which_there_was_no_time_were_not_tried() {
    let bench = Bench::with(|config| config.whatsapp_timeout_ms = 500).await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: true }).at("announcement"));
    let body = json!({ "groupHistory": true, "locked": true, "announce": true });
    let answer = bench.put(&format!("/sessions/alice/groups/{group}/settings"), body).await;
    assert_eq!(answer.failure(), (503, "whatsapp_unanswered"), "{answer:?}");
    assert_eq!(answer.body["settings"], json!({ "applied": ["announce"], "notTried": ["locked", "groupHistory"] }));
    assert_eq!(bench.world.requests(ALICE, "w:g2:locked"), 0);
    let world = bench.world.group(&group).unwrap();
    assert_eq!([world.announce, world.locked, world.group_history], [true, false, false]);
}
