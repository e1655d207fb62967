//! WhatsApp does not answer a change: the daemon reads what was changed, and answers with what is true. The outcome is
//! unknown only when it cannot read either. Every answer is sent within the time that clients wait.

use std::time::{Duration, Instant};

use reqwest::Method;
use rookery_simulator::{AccountSpec, Addable, Addressing, Echo, Fault, FaultKind, ParticipantChange};
use serde_json::{Value, json};

use crate::harness::{ALICE, Answer, BOB, Bench, CAROL, DAVE, until, until_equal, world_members};

/// The wait for WhatsApp's answer, 5 s for the read after it, and a second for a busy machine.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500 + 5_000 + 1_000);

/// A number that nobody may add to groups.
const HERMIT: &str = "15550100029";

async fn ready_with_group() -> (Bench, String, String) {
    let bench = Bench::with(|config| config.whatsapp_timeout_ms = 500).await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}");
    (bench, group, path)
}

fn hermit() -> AccountSpec {
    AccountSpec { addable: Addable::Nobody, ..AccountSpec::new(HERMIT) }
}

/// Every way in which an answer can be missing, whether or not the request took effect.
fn without_an_answer() -> impl Iterator<Item = (bool, FaultKind)> {
    let both = |apply| [(apply, FaultKind::Silence { apply }), (apply, FaultKind::Drop { apply, now: false })];
    [true, false].into_iter().flat_map(both)
}

/// The request failed, and changed nothing: it may be tried again.
fn says_that_nothing_was_changed(answer: &Answer) {
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("whatsapp_unanswered")), "{answer:?}");
    assert!(answer.body["message"].as_str().unwrap().contains("nothing was changed"), "{answer:?}");
    assert!(answer.retry_after.is_some());
}

/// The group was not made, as far as the daemon can see.
fn says_that_none_was_seen(answer: &Answer) {
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("whatsapp_unanswered")), "{answer:?}");
    assert!(answer.body["message"].as_str().unwrap().contains("no new group was seen"), "{answer:?}");
    assert!(answer.retry_after.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_and_a_description_that_nobody_confirmed_are_looked_up() {
    for (field, shown) in [("subject", "name"), ("description", "description")] {
        for (apply, fault) in without_an_answer() {
            let (bench, group, path) = ready_with_group().await;
            bench.world.add_fault(ALICE, Fault::new(fault).at(field));
            let answer = bench.put(&format!("{path}/{field}"), json!({ field: "New" })).await;
            match apply {
                true => assert_eq!(answer.status, 200, "{fault:?} {answer:?}"),
                false => says_that_nothing_was_changed(&answer),
            }
            let now = bench.world.group(&group).unwrap();
            assert_eq!(now.subject == "New" || now.description.as_deref() == Some("New"), apply);
            let read = bench.get(&path).await.body;
            assert_eq!(read[shown] == "New", apply, "G-2 {fault:?} {read}");
            assert_eq!(bench.world.live_connections_max(ALICE), 1, "K-1");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_whose_change_nobody_confirmed_are_looked_up_one_by_one() {
    let changes = [
        (Method::POST, "", CAROL, "added"),
        (Method::POST, "/promote", BOB, "promoted"),
        (Method::POST, "/demote", DAVE, "demoted"),
        (Method::DELETE, "", BOB, "removed"),
    ];
    for (method, route, person, code) in &changes {
        for (apply, fault) in without_an_answer() {
            // Each cut in a row makes the reconnect longer: so each fault has its own daemon.
            let bench = Bench::with(|config| config.whatsapp_timeout_ms = 500).await;
            let group = bench.group(&[BOB, DAVE], Addressing::Lid);
            bench.world.change_participants(&group, ParticipantChange::Promote, ALICE, &[DAVE]).unwrap();
            bench.link("alice", ALICE).await;
            let path = format!("/sessions/alice/groups/{group}");
            bench.world.add_fault(ALICE, Fault::new(fault));
            let body = json!({ "participants": [person] });
            let path_of_change = format!("{path}/participants{route}");
            let answer = bench.call(method.clone(), &path_of_change, Some(body.clone())).await;
            match apply {
                true => assert_eq!((answer.status, answer.codes()), (200, vec![*code]), "{fault:?} {answer:?}"),
                false => says_that_nothing_was_changed(&answer),
            }
            assert_eq!(bench.get(&path).await.members(), world_members(&bench.world, &group), "G-2");
            if !apply {
                assert_eq!(bench.call(method.clone(), &path_of_change, Some(body)).await.codes(), [*code]);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_that_nobody_confirmed_each_person_is_told_apart() {
    let (bench, _, path) = ready_with_group().await;
    bench.world.add_account(hermit());
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: true }).at("add"));
    let body = json!({ "participants": [CAROL, BOB, HERMIT, DAVE] });
    let answer = bench.post(&format!("{path}/participants"), body).await;
    assert_eq!(answer.codes(), ["added", "already_member", "failed", "added"], "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_making_nobody_confirmed_is_found_by_its_key_or_by_its_looks() {
    for echo in [Echo::Before, Echo::Never] {
        for (apply, fault) in without_an_answer() {
            let (bench, _, _) = ready_with_group().await;
            bench.world.set_echo(echo);
            bench.world.add_account(hermit());
            bench.world.add_fault(ALICE, Fault::new(fault).at("create"));
            let body = json!({ "name": "Trip", "participants": [BOB, HERMIT] });
            let made = bench.post("/sessions/alice/groups", body).await;
            if !apply {
                says_that_none_was_seen(&made);
                continue;
            }
            assert_eq!((made.status, made.codes()), (201, vec!["added", "failed"]), "{echo:?} {fault:?} {made:?}");
            let id = made.body["id"].as_str().unwrap();
            assert_eq!(bench.world.group(id).unwrap().subject, "Trip");
            assert_eq!(made.body["participantsCount"], 2);
            let read = bench.get(&format!("/sessions/alice/groups/{id}")).await;
            assert_eq!(read.members(), world_members(&bench.world, id), "G-2");
            assert_eq!(bench.world.requests(ALICE, "w:g2:create"), 1, "nobody asked twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_was_not_seen_is_not_made_twice_with_one_idempotency_key() {
    let (bench, _, _) = ready_with_group().await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: false }).at("create"));
    let body = json!({ "name": "Trip", "participants": [BOB] });
    let make = || bench.call_once("k", Method::POST, "/sessions/alice/groups", &body);
    let first = make().await;
    says_that_none_was_seen(&first);
    let again = make().await;
    assert_eq!((again.status, again.replayed, again.retry_after), (503, true, first.retry_after), "{again:?}");
    assert_eq!(bench.world.requests(ALICE, "w:g2:create"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_groups_of_one_name_that_nobody_confirmed_are_not_taken_for_each_other() {
    let (bench, _, _) = ready_with_group().await;
    bench.world.set_echo(Echo::Never);
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: true }).at("create").times(2));
    let make = || bench.post("/sessions/alice/groups", json!({ "name": "Twin", "participants": [BOB] }));
    let (one, other) = tokio::join!(make(), make());
    assert_eq!((one.status, other.status), (201, 201), "{one:?} {other:?}");
    assert_ne!(one.body["id"], other.body["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_invite_code_that_nobody_confirmed_is_asked_for_once_more() {
    for (_, fault) in without_an_answer() {
        let (bench, group, path) = ready_with_group().await;
        let before = bench.world.group(&group).unwrap().invite_code;
        bench.world.add_fault(ALICE, Fault::new(fault).at("invite"));
        let code = bench.post(&format!("{path}/invite-code/revoke"), json!({})).await;
        let now = bench.world.group(&group).unwrap().invite_code;
        assert_eq!((code.status, &code.body["inviteCode"]), (200, &json!(now)), "{fault:?} {code:?}");
        assert_ne!(now, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_that_nobody_confirmed_is_looked_up() {
    for (apply, fault) in without_an_answer() {
        let (bench, _, path) = ready_with_group().await;
        bench.world.add_fault(ALICE, Fault::new(fault).at("leave"));
        let left = bench.post(&format!("{path}/leave"), json!({})).await;
        match apply {
            true => assert_eq!(left.status, 200, "{fault:?} {left:?}"),
            false => says_that_nothing_was_changed(&left),
        }
        assert_eq!(bench.get(&path).await.status == 404, apply);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_looked_up_is_unknown_in_time_and_found_out_later() {
    for apply in [true, false] {
        let (bench, group, path) = ready_with_group().await;
        bench.world.set_echo(Echo::Never);
        bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply }).at("subject"));
        bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: false }).at("query").times(10));
        let started = Instant::now();
        let answer = bench.put(&format!("{path}/subject"), json!({ "subject": "Silent" })).await;
        assert!(started.elapsed() < ANSWER_TIME_MAX, "{:?}", started.elapsed());
        assert_eq!((answer.status, &answer.body["code"]), (503, &json!("outcome_unknown")), "{answer:?}");
        assert!(answer.body["message"].as_str().unwrap().contains("may have been applied"), "{answer:?}");
        assert!(answer.retry_after.is_some());
        let subject = bench.world.group(&group).unwrap().subject;
        assert_eq!(subject == "Silent", apply);
        until_equal(json!(subject), async || bench.get(&path).await.body["name"].clone()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_never_a_409() {
    let (bench, _, path) = ready_with_group().await;
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Drop { apply: false, now: false }).at("subject"));
    // The list of groups after the next log-in is not answered: the session is not ready again in time for a read.
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: false }).at("participating").times(100));
    let answer = bench.put(&format!("{path}/subject"), json!({ "subject": "Lost" })).await;
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("outcome_unknown")), "{answer:?}");
    let refused = bench.put(&format!("{path}/subject"), json!({ "subject": "Later" })).await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (409, &json!("session_not_connected")),
        "WhatsApp was not asked"
    );
    assert_ne!(bench.get("/sessions/alice").await.body["lastError"], Value::Null);
}

/// Whether the change is true of this group in the world.
type IsTrue = fn(&Bench, &str) -> bool;

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_decisions_that_nobody_confirmed_are_looked_up() {
    let changes: [(Method, &str, Value, &str, IsTrue); 4] = [
        (Method::PUT, "settings", json!({ "announce": true }), "announcement", |bench, group| {
            bench.world.group(group).unwrap().announce
        }),
        (Method::PUT, "settings", json!({ "limitSharing": true }), "update_group_property", |bench, group| {
            bench.world.group(group).unwrap().limit_sharing
        }),
        (
            Method::POST,
            "membership-requests/approve",
            json!({ "participants": [CAROL] }),
            "membership_requests_action",
            |bench, group| world_members(&bench.world, group).contains(&CAROL.to_owned()),
        ),
        (
            Method::POST,
            "membership-requests/reject",
            json!({ "participants": [CAROL] }),
            "membership_requests_action",
            |bench, group| bench.world.group(group).unwrap().join_requests.is_empty(),
        ),
    ];
    for (method, route, body, kind, is_true) in changes {
        for apply in [true, false] {
            let (bench, group, path) = ready_with_group().await;
            bench.world.change_setting(&group, ALICE, rookery_simulator::Setting::Approval(true)).unwrap();
            bench.world.request_to_join(&group, CAROL).unwrap();
            bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply }).at(kind));
            let answer = bench.call(method.clone(), &format!("{path}/{route}"), Some(body.clone())).await;
            match apply {
                true => assert_eq!(answer.status, 200, "{route} {answer:?}"),
                false => says_that_nothing_was_changed(&answer),
            }
            assert_eq!(is_true(&bench, &group), apply, "{route}");
        }
    }
}

/// Seconds since 1970, as WhatsApp counts them.
fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_is_turned_down_unanswered_and_asks_again_is_not_said_to_wait_as_before() {
    let bench = Bench::with(|config| config.whatsapp_timeout_ms = 3_000).await;
    let group = bench.group(&[BOB], Addressing::Lid);
    bench.link("alice", ALICE).await;
    bench.world.change_setting(&group, ALICE, rookery_simulator::Setting::Approval(true)).unwrap();
    bench.world.request_to_join(&group, CAROL).unwrap();
    let asked_s = now_s();
    let silence = Fault::new(FaultKind::Silence { apply: true }).at("membership_requests_action");
    bench.world.add_fault(ALICE, silence);
    let requests = || bench.world.group(&group).unwrap().join_requests;
    let asking_again = async {
        until("the reject", async || (requests().is_empty() && now_s() > asked_s + 1).then_some(())).await;
        bench.world.request_to_join(&group, CAROL).unwrap();
    };
    let path = format!("/sessions/alice/groups/{group}/membership-requests/reject");
    let (answer, ()) = tokio::join!(bench.post(&path, json!({ "participants": [CAROL] })), asking_again);
    assert_eq!(answer.failure(), (503, "outcome_unknown"), "{answer:?}");
    assert_eq!(requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_that_nobody_confirmed_is_looked_up_and_done_if_it_was_not() {
    for (_, fault) in without_an_answer() {
        let (bench, _, _) = ready_with_group().await;
        let other = bench.world.add_group(rookery_simulator::GroupSpec::new("Bob's", BOB));
        bench.world.add_fault(ALICE, Fault::new(fault).at("invite"));
        let code = bench.world.group(&other).unwrap().invite_code;
        let joined = bench.post("/sessions/alice/groups/join", json!({ "inviteCode": code })).await;
        assert_eq!((joined.status, &joined.body["status"]), (200, &json!("joined")), "{fault:?} {joined:?}");
        assert!(world_members(&bench.world, &other).contains(&ALICE.to_owned()));
        assert_eq!(bench.get(&format!("/sessions/alice/groups/{other}")).await.status, 200, "G-2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn communities_that_nobody_confirmed_are_looked_up() {
    for apply in [true, false] {
        let (bench, group, _) = ready_with_group().await;
        let silence = |kind: &str| Fault::new(FaultKind::Silence { apply }).at(kind);
        let communities = "/sessions/alice/communities";
        bench.world.add_fault(ALICE, silence("create"));
        let made = bench.post(communities, json!({ "name": "Town" })).await;
        let town = match apply {
            true => made.body["id"].as_str().unwrap().to_owned(),
            false => {
                says_that_none_was_seen(&made);
                bench.post(communities, json!({ "name": "Town" })).await.body["id"].as_str().unwrap().to_owned()
            }
        };
        assert!(bench.world.group(&town).unwrap().is_community, "not its announcement group");
        let links = format!("{communities}/{town}/links");
        let groups = json!({ "groups": [group] });
        let parent = || bench.world.group(&group).unwrap().parent;
        for (method, kind, linked) in [(Method::POST, "links", true), (Method::DELETE, "unlink", false)] {
            bench.world.add_fault(ALICE, silence(kind));
            let answer = bench.call(method.clone(), &links, Some(groups.clone())).await;
            if !apply {
                says_that_nothing_was_changed(&answer);
                assert_eq!(bench.call(method, &links, Some(groups.clone())).await.status, 200);
            } else {
                assert_eq!(answer.status, 200, "{answer:?}");
            }
            assert_eq!(parent().is_some(), linked);
            let shown = bench.get(&format!("/sessions/alice/groups/{group}")).await.body["linkedParentJID"].clone();
            assert_eq!(shown.is_string(), linked, "G-2");
        }
        bench.world.add_fault(ALICE, silence("delete_parent"));
        let ended = bench.post(&format!("{communities}/{town}/deactivate"), json!({})).await;
        assert_eq!(ended.status == 200, apply, "{ended:?}");
        assert_eq!(bench.world.group(&town).is_none(), apply);
    }
}

/// The last state of the group is the same for a change that somebody else undid and for one that was never made.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_undid_meanwhile_is_not_said_to_have_changed_nothing() {
    let bench = Bench::with(|config| config.whatsapp_timeout_ms = 1_000).await;
    let group = bench.group(&[BOB, CAROL], Addressing::Lid);
    bench.world.change_participants(&group, ParticipantChange::Promote, ALICE, &[BOB]).unwrap();
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}");
    let undo = |route: &str| match route {
        "/participants" => bench.world.change_participants(&group, ParticipantChange::Remove, BOB, &[DAVE]),
        "/participants/promote" => bench.world.change_participants(&group, ParticipantChange::Demote, BOB, &[CAROL]),
        "/description" => bench.world.change_description(&group, BOB, None),
        _ => bench.world.change_announce(&group, BOB, false),
    };
    for (route, at, method, body) in [
        ("/participants", "w:g2:add", Method::POST, json!({ "participants": [DAVE] })),
        ("/participants/promote", "w:g2:promote", Method::POST, json!({ "participants": [CAROL] })),
        ("/settings", "w:g2:announcement", Method::PUT, json!({ "announce": true })),
        ("/description", "w:g2:description", Method::PUT, json!({ "description": "New" })),
    ] {
        bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: true }).at(at));
        let asked = bench.world.requests(ALICE, at);
        let path = format!("{path}{route}");
        let call = bench.call(method, &path, Some(body));
        let undone = async {
            until("the request", async || (bench.world.requests(ALICE, at) > asked).then_some(())).await;
            undo(route).unwrap();
        };
        let (answer, ()) = tokio::join!(call, undone);
        assert_eq!(answer.failure(), (503, "outcome_unknown"), "{route} {answer:?}");
        bench.world.clear_faults(ALICE);
    }
    // Two people in one request: one stays and the other does not.
    let erin = "15550100005";
    bench.world.phone(erin);
    bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: true }).at("w:g2:add"));
    let asked = bench.world.requests(ALICE, "w:g2:add");
    let participants = format!("{path}/participants");
    let call = bench.post(&participants, json!({ "participants": [DAVE, erin] }));
    let undone = async {
        until("the request", async || (bench.world.requests(ALICE, "w:g2:add") > asked).then_some(())).await;
        undo("/participants").unwrap();
    };
    let (answer, ()) = tokio::join!(call, undone);
    assert_eq!((answer.status, answer.codes()), (200, vec!["outcome_unknown", "added"]), "{answer:?}");
    assert_eq!(answer.body["results"][0]["success"], false);
}
