//! Groups that WhatsApp does not send whole: such a group never harms the others, and what was known about it stays.

use reqwest::Method;
use rookery_simulator::{Addressing, Fault, FaultKind, GroupSpec, Telling, ToldAt, ToldChild};
use serde_json::json;

use crate::harness::{ALICE, BOB, Bench, CAROL, until_equal, world_members};

const GROUPS: &str = "/sessions/alice/groups";

fn stub(at: &[ToldAt]) -> Telling {
    Telling { at: at.to_vec(), stub: true, ..Telling::default() }
}

/// A participant whose id nobody can read.
fn nonsense() -> Telling {
    let attributes = [("jid".to_owned(), "no id at all".to_owned())].into();
    let child = ToldChild { tag: "participant".into(), attributes, ..ToldChild::default() };
    Telling { children: vec![child], ..Telling::default() }
}

async fn with_two_groups() -> (Bench, String, String) {
    let bench = Bench::start().await;
    let whole = bench.group(&[BOB], Addressing::Lid);
    let odd = bench.world.add_group(GroupSpec { participants: vec![CAROL.into()], ..GroupSpec::new("Odd", ALICE) });
    (bench, whole, odd)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_cannot_be_read_costs_only_itself() {
    let odd_ones = [
        ("stub", stub(&[])),
        ("nonsense", nonsense()),
        ("nameless", Telling { without: vec!["subject".into()], ..Telling::default() }),
    ];
    for (name, telling) in odd_ones {
        let (bench, whole, odd) = with_two_groups().await;
        bench.world.set_telling(&odd, telling).unwrap();
        bench.link("alice", ALICE).await;
        let list = bench.get(GROUPS).await;
        let of = |id: &str| list.body.as_array().unwrap().iter().find(|group| group["id"] == id).unwrap().clone();
        assert_eq!(
            (&of(&odd)["incomplete"], &of(&odd)["participantsCount"]),
            (&json!(true), &json!(2)),
            "{name} {list:?}"
        );
        assert_eq!(of(&whole).get("incomplete"), None, "{name}");
        assert_eq!(bench.get(&format!("{GROUPS}/{odd}")).await.body["incomplete"], true, "{name}");
        // Once WhatsApp sends the group whole, a read is enough.
        bench.world.set_telling(&odd, Telling::default()).unwrap();
        let read = bench.get(&format!("{GROUPS}/{odd}?refresh=true")).await;
        assert_eq!((read.body.get("incomplete"), read.members()), (None, world_members(&bench.world, &odd)), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_an_id_takes_no_group_out_of_the_list() {
    let (mut bench, whole, odd) = with_two_groups().await;
    bench.link("alice", ALICE).await;
    let in_full = Telling { at: vec![ToldAt::Full], without: vec!["id".into()], ..Telling::default() };
    bench.world.set_telling(&odd, in_full).unwrap();
    bench.restart().await;
    bench.until_status("alice", "ready").await;
    let mut expected = [whole, odd.clone()];
    expected.sort();
    assert_eq!(bench.get(GROUPS).await.ids(), expected);
    assert_eq!(bench.get(&format!("{GROUPS}/{odd}")).await.members(), world_members(&bench.world, &odd));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stub_leaves_what_was_known_and_the_group_is_read_alone() {
    let (mut bench, _, odd) = with_two_groups().await;
    bench.link("alice", ALICE).await;
    bench.world.set_telling(&odd, stub(&[ToldAt::Full])).unwrap();
    bench.restart().await;
    bench.until_status("alice", "ready").await;
    let shown = bench.get(&format!("{GROUPS}/{odd}")).await;
    assert_eq!((&shown.body["name"], shown.members()), (&json!("Odd"), world_members(&bench.world, &odd)));
    // WhatsApp sends the group whole when it is read alone.
    until_equal(None, async || bench.get(&format!("{GROUPS}/{odd}")).await.body.get("incomplete").cloned()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stub_that_stays_one_keeps_what_was_known_and_says_so() {
    let (bench, _, odd) = with_two_groups().await;
    bench.link("alice", ALICE).await;
    bench.world.set_telling(&odd, stub(&[])).unwrap();
    let shown = bench.get(&format!("{GROUPS}/{odd}?refresh=true")).await;
    assert_eq!((&shown.body["incomplete"], shown.members()), (&json!(true), world_members(&bench.world, &odd)));
    for read in ["/settings", "/participants", "/participants.csv"] {
        let read = bench.get(&format!("{GROUPS}/{odd}{read}")).await;
        assert_eq!((read.status, read.header("warning")), (200, "199 - \"Incomplete\""), "{read:?}");
    }
    assert_eq!(bench.get(&format!("{GROUPS}.csv")).await.header("warning"), "199 - \"Incomplete\"");
    let subject = bench.put(&format!("{GROUPS}/{odd}/subject"), json!({ "subject": "New" })).await;
    assert_eq!(subject.status, 200, "{subject:?}");
    assert_eq!(bench.get(&format!("{GROUPS}/{odd}")).await.body["name"], "New", "G-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_unknown_is_left_out() {
    let (bench, _, odd) = with_two_groups().await;
    let attributes = [("addressing_mode".to_owned(), "name".to_owned()), ("size".to_owned(), "many".to_owned())].into();
    let children = [("ephemeral", "expiration", "soon"), ("appeal_status", "type", "UNHEARD_OF")];
    let children = children.map(|(tag, name, value)| ToldChild {
        tag: tag.into(),
        attributes: [(name.to_owned(), value.to_owned())].into(),
        ..ToldChild::default()
    });
    let without = ["creation", "creator", "s_t"].map(str::to_owned).to_vec();
    let telling = Telling { without, attributes, children: children.to_vec(), ..Telling::default() };
    bench.world.set_telling(&odd, telling).unwrap();
    bench.link("alice", ALICE).await;
    let shown = bench.get(&format!("{GROUPS}/{odd}")).await;
    assert_eq!((shown.body.get("incomplete"), shown.body.get("createdAt")), (None, None), "{shown:?}");
    assert_eq!(shown.members(), world_members(&bench.world, &odd));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refused_read_does_not_drop_a_group_and_two_do() {
    let (bench, whole, _) = with_two_groups().await;
    bench.link("alice", ALICE).await;
    for code in [403, 404] {
        let refuse = |times| Fault::new(FaultKind::Refuse { code, backoff_s: None }).at("w:g2:query").times(times);
        bench.world.add_fault(ALICE, refuse(1));
        let read = bench.get(&format!("{GROUPS}/{whole}?refresh=true")).await;
        assert_eq!(read.status, 200, "{code} {read:?}");
        assert_eq!(bench.put(&format!("{GROUPS}/{whole}/subject"), json!({ "subject": "Still" })).await.status, 200);
    }
    bench
        .world
        .add_fault(ALICE, Fault::new(FaultKind::Refuse { code: 404, backoff_s: None }).at("w:g2:query").times(2));
    assert_eq!(bench.get(&format!("{GROUPS}/{whole}?refresh=true")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_group_that_is_told_without_its_id_says_so_everywhere() {
    let (mut bench, whole, odd) = with_two_groups().await;
    bench.link("alice", ALICE).await;
    let path = format!("{GROUPS}/{odd}");
    bench.world.set_telling(&odd, Telling { without: vec!["id".into()], ..Telling::default() }).unwrap();
    bench.restart().await;
    bench.until_status("alice", "ready").await;
    for read in [&path, &format!("{path}?refresh=true"), &format!("{path}?stale=true")] {
        let shown = bench.get(read).await;
        let expected = (200, &json!("Odd"), &json!(true));
        assert_eq!((shown.status, &shown.body["name"], &shown.body["incomplete"]), expected, "{read} {shown:?}");
        assert_eq!(shown.members(), world_members(&bench.world, &odd), "{read}");
    }
    until_equal(None, async || bench.get(&format!("{GROUPS}/{whole}")).await.body.get("incomplete").cloned()).await;
    bench.world.set_telling(&odd, Telling::default()).unwrap();
    let read = bench.get(&format!("{path}?refresh=true")).await;
    assert_eq!((read.status, read.body.get("incomplete")), (200, None));
}

/// A group that is sent without its members does not show who is not in it.
#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_change_is_not_judged_by_a_group_that_is_not_told() {
    for telling in [stub(&[]), Telling { without: vec!["id".into()], ..Telling::default() }] {
        let bench = Bench::with(|config| config.whatsapp_timeout_ms = 500).await;
        let odd = bench.world.add_group(GroupSpec { participants: vec![CAROL.into()], ..GroupSpec::new("Odd", ALICE) });
        bench.link("alice", ALICE).await;
        bench.world.set_telling(&odd, telling.clone()).unwrap();
        let path = format!("{GROUPS}/{odd}");
        for applied in [false, true] {
            for (route, at, method, body) in [
                ("/participants/promote", "promote", Method::POST, json!({ "participants": [CAROL] })),
                ("/participants", "remove", Method::DELETE, json!({ "participants": [CAROL] })),
                ("/settings", "announcement", Method::PUT, json!({ "announce": true })),
                ("/subject", "subject", Method::PUT, json!({ "subject": format!("New {applied}") })),
                ("/description", "description", Method::PUT, json!({ "description": format!("New {applied}") })),
            ] {
                bench.world.add_fault(ALICE, Fault::new(FaultKind::Silence { apply: applied }).at(at));
                let answer = bench.call(method, &format!("{path}{route}"), Some(body)).await;
                assert_eq!(answer.failure(), (503, "outcome_unknown"), "{route} {telling:?} {applied} {answer:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_odd_groups_are_each_read_once_and_not_all_over_again() {
    let bench = Bench::start().await;
    let groups: Vec<String> = (0..20).map(|_| bench.group(&[BOB], Addressing::Lid)).collect();
    for (nth, group) in groups.iter().enumerate() {
        let without_id = Telling { without: vec!["id".into()], ..Telling::default() };
        bench.world.set_telling(group, if nth % 2 == 0 { stub(&[]) } else { without_id }).unwrap();
    }
    bench.link("alice", ALICE).await;
    // The groups without an id are not known at first.
    until_equal(10, async || bench.world.requests(ALICE, "w:g2:query")).await;
    assert_eq!(bench.world.requests(ALICE, "w:g2:participating"), 1);
    for group in &groups {
        bench.world.set_telling(group, Telling::default()).unwrap();
    }
    let refreshed = bench.get(&format!("{GROUPS}?refresh=true")).await;
    assert_eq!(refreshed.ids().len(), 20);
    for group in &groups {
        bench.world.set_telling(group, stub(&[ToldAt::Full])).unwrap();
    }
    let asked = bench.world.requests(ALICE, "w:g2:query");
    bench.get(&format!("{GROUPS}?refresh=true")).await;
    until_equal(asked + 20, async || bench.world.requests(ALICE, "w:g2:query")).await;
    assert_eq!(bench.world.requests(ALICE, "w:g2:participating"), 3);
    let list = bench.get(GROUPS).await.body;
    assert!(list.as_array().unwrap().iter().all(|group| group.get("incomplete").is_none()), "{list}");
}
