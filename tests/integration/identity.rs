//! One person under two ids, in requests and in WhatsApp's answers: each person has one result, and it is true.

use reqwest::Method;
use rookery_simulator::{
    AccountSpec, Addable, Addressing, AnswerIds, Answers, Fault, FaultKind, GroupSpec, ParticipantChange, Setting,
};
use serde_json::{Value, json};

use crate::harness::{ALICE, Answer, BOB, Bench, CAROL, DAVE, world_members};

const GROUPS: &str = "/sessions/alice/groups";
const SHAPES: [AnswerIds; 3] = [AnswerIds::Both, AnswerIds::JidOnly, AnswerIds::LidOnly];

/// The LID of a person.
fn lid(bench: &Bench, phone: &str) -> String {
    let snapshot = bench.world.snapshot();
    let lid = snapshot["accounts"].as_array().and_then(|all| {
        all.iter().find(|account| account["phone"] == phone).and_then(|account| account["lid"].as_str())
    });
    format!("{}@lid", lid.unwrap_or_else(|| panic!("{snapshot}")))
}

async fn ready() -> Bench {
    let bench = Bench::start().await;
    bench.link("alice", ALICE).await;
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_added_promoted_demoted_and_removed_by_lid_whatever_the_answers_look_like() {
    let bench = ready().await;
    for addressing in [Addressing::Pn, Addressing::Lid] {
        for ids in SHAPES {
            let group = bench.group(&[BOB], addressing);
            let path = format!("{GROUPS}/{group}/participants");
            crate::harness::until_equal(200, async || bench.get(&format!("{GROUPS}/{group}")).await.status).await;
            bench.world.set_answers(Answers { ids, ..Answers::default() });
            let participants = json!({ "participants": [lid(&bench, CAROL)] });
            let steps = [
                (Method::POST, "", "added"),
                (Method::POST, "/promote", "promoted"),
                (Method::POST, "/demote", "demoted"),
                (Method::DELETE, "", "removed"),
            ];
            for (method, route, code) in steps {
                let answer = bench.call(method, &format!("{path}{route}"), Some(participants.clone())).await;
                assert_eq!((answer.status, answer.codes()), (200, vec![code]), "{addressing:?} {ids:?} {answer:?}");
                let shown = bench.get(&format!("{GROUPS}/{group}")).await;
                assert_eq!(shown.members(), world_members(&bench.world, &group), "G-2 after {code}, {ids:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_about_whom_the_answer_says_nothing_is_looked_up() {
    let bench = ready().await;
    let group = bench.group(&[BOB], Addressing::Pn);
    let path = format!("{GROUPS}/{group}/participants");
    crate::harness::until_equal(200, async || bench.get(&format!("{GROUPS}/{group}")).await.status).await;
    bench.world.set_answers(Answers { without: vec![CAROL.into()], ..Answers::default() });
    let added = bench.post(&path, json!({ "participants": [CAROL, DAVE] })).await;
    assert_eq!((added.status, added.codes()), (200, vec!["added", "added"]), "{added:?}");
    let removed = bench.delete(&path, json!({ "participants": [CAROL] })).await;
    assert_eq!((removed.status, removed.codes()), (200, vec!["removed"]), "{removed:?}");
    assert_eq!(bench.get(&format!("{GROUPS}/{group}")).await.members(), world_members(&bench.world, &group));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_only_be_invited_keeps_the_invitation_whatever_the_answers_look_like() {
    let bench = ready().await;
    let erin = "15550100005";
    bench.world.add_account(AccountSpec { addable: Addable::InviteOnly, ..AccountSpec::new(erin) });
    for (addressing, ids) in [Addressing::Pn, Addressing::Lid].into_iter().flat_map(|a| SHAPES.map(|ids| (a, ids))) {
        let group = bench.group(&[BOB], addressing);
        crate::harness::until_equal(200, async || bench.get(&format!("{GROUPS}/{group}")).await.status).await;
        bench.world.set_answers(Answers { ids, ..Answers::default() });
        let path = format!("{GROUPS}/{group}/participants");
        let participants = |fallback: bool| json!({ "participants": [lid(&bench, erin)], "inviteFallback": fallback });
        let refused = bench.post(&path, participants(false)).await;
        assert_eq!((refused.status, refused.codes()), (403, vec!["invite_required"]), "{ids:?} {refused:?}");
        let invited = bench.post(&path, participants(true)).await;
        assert_eq!((invited.status, invited.codes()), (200, vec!["invite_sent"]), "{ids:?} {invited:?}");
        let mixed = json!({ "participants": [lid(&bench, CAROL), lid(&bench, erin), BOB, lid(&bench, DAVE)] });
        let added = bench.post(&path, mixed).await;
        let codes = ["added", "invite_required", "already_member", "added"];
        assert_eq!((added.status, added.codes()), (200, codes.to_vec()), "{addressing:?} {ids:?} {added:?}");
        assert_eq!(bench.get(&format!("{GROUPS}/{group}")).await.members(), world_members(&bench.world, &group));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_for_which_somebody_was_not_removed_is_told_whatever_the_answers_look_like() {
    let bench = Bench::start().await;
    let (participants, admins) = (vec![CAROL.into()], vec![ALICE.into()]);
    let group = bench.world.add_group(GroupSpec { participants, admins, ..GroupSpec::new("Bob's", BOB) });
    let path = format!("{GROUPS}/{group}/participants");
    bench.link("alice", ALICE).await;
    for ids in SHAPES {
        bench.world.set_answers(Answers { ids, ..Answers::default() });
        bench.post(&path, json!({ "participants": [CAROL] })).await;
        let removed = bench.delete(&path, json!({ "participants": [CAROL, BOB, DAVE] })).await;
        let codes = ["removed", "not_allowed", "not_member"];
        assert_eq!((removed.status, removed.codes()), (200, codes.to_vec()), "{ids:?} {removed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ids_of_one_person_are_one_result_and_one_member() {
    let bench = ready().await;
    for addressing in [Addressing::Pn, Addressing::Lid] {
        bench.world.set_created_addressing(addressing);
        for twins in [[BOB.to_owned(), lid(&bench, BOB)], [lid(&bench, BOB), BOB.to_owned()]] {
            let made = bench.post(GROUPS, json!({ "name": "Twins", "participants": twins })).await;
            assert_eq!((made.status, made.codes()), (201, vec!["added"]), "{addressing:?} {twins:?} {made:?}");
            assert_eq!(made.body["participantsCount"], 2, "{made:?}");
            let group = made.body["id"].as_str().unwrap().to_owned();
            let shown = bench.get(&format!("{GROUPS}/{group}")).await;
            assert_eq!(shown.members(), world_members(&bench.world, &group), "G-2");
            let twins = [CAROL.to_owned(), lid(&bench, CAROL)];
            let added = bench.post(&format!("{GROUPS}/{group}/participants"), json!({ "participants": twins })).await;
            assert_eq!((added.status, added.codes()), (200, vec!["added"]), "{added:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_for_whom_whatsapp_broke_down_is_looked_up() {
    let bench = ready().await;
    let group = bench.group(&[BOB], Addressing::Pn);
    let path = format!("{GROUPS}/{group}/participants");
    crate::harness::until_equal(200, async || bench.get(&format!("{GROUPS}/{group}")).await.status).await;
    bench.world.set_answers(Answers { broken: vec![CAROL.into()], ..Answers::default() });
    let steps = [
        (Method::POST, "", "added"),
        (Method::POST, "/promote", "promoted"),
        (Method::POST, "/demote", "demoted"),
        (Method::DELETE, "", "removed"),
    ];
    for (method, route, code) in steps {
        let body = json!({ "participants": [CAROL] });
        let answer = bench.call(method, &format!("{path}{route}"), Some(body)).await;
        assert_eq!((answer.status, answer.codes()), (200, vec![code]), "{answer:?}");
        assert_eq!(bench.get(&format!("{GROUPS}/{group}")).await.members(), world_members(&bench.world, &group));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_let_in_and_turned_down_by_lid_whatever_the_answers_look_like() {
    let bench = ready().await;
    for ids in SHAPES {
        let group = bench.group(&[BOB], Addressing::Pn);
        crate::harness::until_equal(200, async || bench.get(&format!("{GROUPS}/{group}")).await.status).await;
        bench.world.change_setting(&group, ALICE, Setting::Approval(true)).unwrap();
        for phone in [CAROL, DAVE] {
            bench.world.request_to_join(&group, phone).unwrap();
        }
        bench.world.set_answers(Answers { ids, ..Answers::default() });
        for (decision, phone, code) in [("approve", CAROL, "approved"), ("reject", DAVE, "rejected")] {
            let body = json!({ "participants": [lid(&bench, phone)] });
            let decided = bench.post(&format!("{GROUPS}/{group}/membership-requests/{decision}"), body).await;
            assert_eq!((decided.status, decided.codes()), (200, vec![code]), "{ids:?} {decided:?}");
        }
        assert_eq!(bench.get(&format!("{GROUPS}/{group}")).await.members(), world_members(&bench.world, &group));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_hides_their_number_is_never_told_to_be_refused_when_named_by_it() {
    let bench = ready().await;
    let erin = "15550100005";
    bench.world.add_account(AccountSpec { number_hidden: true, ..AccountSpec::new(erin) });
    let group = bench.group(&[BOB, erin], Addressing::Lid);
    crate::harness::until_equal(200, async || bench.get(&format!("{GROUPS}/{group}")).await.status).await;
    let path = format!("{GROUPS}/{group}/participants");
    let participants = json!({ "participants": [erin] });
    for (method, route) in [(Method::POST, "/promote"), (Method::POST, "/demote"), (Method::DELETE, "")] {
        let answer = bench.call(method, &format!("{path}{route}"), Some(participants.clone())).await;
        assert!([200, 503].contains(&answer.status), "{route} {answer:?}");
        assert_ne!(answer.body["code"], "whatsapp_unanswered", "something was changed: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_answer_about_everybody_is_not_called_a_refusal() {
    let bench = ready().await;
    let group = bench.group(&[BOB], Addressing::Lid);
    crate::harness::until_equal(200, async || bench.get(&format!("{GROUPS}/{group}")).await.status).await;
    bench.world.set_answers(Answers { without: vec![CAROL.into(), DAVE.into()], typed: true, ..Answers::default() });
    let path = format!("{GROUPS}/{group}/participants");
    let added = bench.post(&path, json!({ "participants": [CAROL, DAVE] })).await;
    assert_eq!((added.status, added.codes()), (200, vec!["added", "added"]), "{added:?}");
    let told: Vec<&Value> = added.body["results"].as_array().unwrap().iter().map(|result| &result["success"]).collect();
    assert_eq!(told, [&json!(true), &json!(true)]);
}

const ERIN: &str = "15550100005";

/// The change was made. The answer may say so, or that the outcome is unknown, but nothing false.
fn says_done_or_unknown(answer: &Answer, done: &str) {
    match answer.status {
        200 => assert!(answer.codes().iter().all(|code| [done, "outcome_unknown"].contains(code)), "{answer:?}"),
        _ => assert_eq!(answer.failure(), (503, "outcome_unknown"), "{answer:?}"),
    }
    let results = answer.body["results"].as_array().cloned().unwrap_or_default();
    assert!(results.iter().all(|result| result["success"] == true || result["status"].is_null()), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_turned_down_is_never_said_not_to_be() {
    let bench = Bench::with(|config| config.whatsapp_timeout_ms = 500).await;
    bench.link("alice", ALICE).await;
    bench.world.add_account(AccountSpec { number_hidden: true, ..AccountSpec::new(ERIN) });
    for (addressing, phone) in [Addressing::Pn, Addressing::Lid].into_iter().flat_map(|a| [(a, CAROL), (a, ERIN)]) {
        for names in [vec![lid(&bench, phone)], vec![phone.to_owned()], vec![phone.to_owned(), lid(&bench, phone)]] {
            for is_silent in [false, true] {
                let group = bench.group(&[BOB], addressing);
                crate::harness::until_equal(200, async || bench.get(&format!("{GROUPS}/{group}")).await.status).await;
                bench.world.change_setting(&group, ALICE, Setting::Approval(true)).unwrap();
                bench.world.request_to_join(&group, phone).unwrap();
                let requests = format!("{GROUPS}/{group}/membership-requests");
                if is_silent {
                    bench.world.set_answers(Answers::default());
                    let silence = Fault::new(FaultKind::Silence { apply: true }).at("w:g2:membership_requests_action");
                    bench.world.add_fault(ALICE, silence);
                } else {
                    bench.world.set_answers(Answers { without: vec![phone.into()], ..Answers::default() });
                }
                let answer = bench.post(&format!("{requests}/reject"), json!({ "participants": names })).await;
                assert!(bench.world.group(&group).unwrap().join_requests.is_empty(), "{answer:?}");
                says_done_or_unknown(&answer, "rejected");
                let results = answer.body["results"].as_array().map_or(0, Vec::len);
                assert!(results <= 1, "one person, one result: {answer:?}");
                if phone == CAROL {
                    assert_eq!(answer.codes(), ["rejected"], "{addressing:?} {names:?} {is_silent}: {answer:?}");
                }
                bench.world.clear_faults(ALICE);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hides_their_number_is_never_said_to_be_none_of_the_group() {
    let bench = Bench::with(|config| config.whatsapp_timeout_ms = 500).await;
    bench.link("alice", ALICE).await;
    bench.world.add_account(AccountSpec { number_hidden: true, ..AccountSpec::new(ERIN) });
    let shapes = [
        (Answers { ids: AnswerIds::LidOnly, ..Answers::default() }, None),
        (Answers { without: vec![ERIN.into()], ..Answers::default() }, None),
        (Answers::default(), Some(FaultKind::Silence { apply: true })),
        (Answers::default(), Some(FaultKind::BreakDown { code: 500 })),
    ];
    for (answers, fault) in shapes {
        for (at, method, route, done) in [
            ("w:g2:promote", Method::POST, "/promote", "promoted"),
            ("w:g2:demote", Method::POST, "/demote", "demoted"),
            ("w:g2:remove", Method::DELETE, "", "removed"),
        ] {
            for participants in [vec![ERIN], vec![ERIN, CAROL]] {
                let group = bench.group(&[BOB, CAROL, ERIN], Addressing::Lid);
                if done == "demoted" {
                    bench.world.change_participants(&group, ParticipantChange::Promote, ALICE, &[CAROL, ERIN]).unwrap();
                }
                let path = format!("{GROUPS}/{group}");
                crate::harness::until_equal(200, async || bench.get(&path).await.status).await;
                let carol = if done == "demoted" { format!("{CAROL}*") } else { CAROL.to_owned() };
                crate::harness::until_equal(true, async || bench.get(&path).await.members().contains(&carol)).await;
                bench.world.set_answers(answers.clone());
                if let Some(fault) = fault {
                    bench.world.add_fault(ALICE, Fault::new(fault).at(at));
                }
                let body = json!({ "participants": participants });
                let answer = bench.call(method.clone(), &format!("{path}/participants{route}"), Some(body)).await;
                says_done_or_unknown(&answer, done);
                bench.world.clear_faults(ALICE);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_ids_of_one_person_are_one_result_also_when_the_answer_is_lost() {
    let bench = Bench::with(|config| config.whatsapp_timeout_ms = 500).await;
    bench.link("alice", ALICE).await;
    for addressing in [Addressing::Pn, Addressing::Lid] {
        for fault in [FaultKind::Silence { apply: true }, FaultKind::BreakDown { code: 500 }] {
            let group = bench.group(&[BOB], addressing);
            let path = format!("{GROUPS}/{group}/participants");
            crate::harness::until_equal(200, async || bench.get(&format!("{GROUPS}/{group}")).await.status).await;
            bench.world.add_fault(ALICE, Fault::new(fault).at("w:g2:add"));
            let twins = json!({ "participants": [CAROL, lid(&bench, CAROL)] });
            let added = bench.post(&path, twins).await;
            assert_eq!((added.status, added.codes()), (200, vec!["added"]), "{addressing:?} {fault:?} {added:?}");
            assert_eq!(added.body["results"][0]["status"], Value::Null, "WhatsApp gave none");
            bench.world.clear_faults(ALICE);
        }
    }
}
