//! Reads of many: filters, pages, counts, tables, and answers that the caller has already.

use rookery_simulator::{AccountSpec, Addressing, CommunitySpec, GroupSpec, ParticipantChange};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, CAROL, DAVE, until_equal};

const GROUPS: &str = "/sessions/alice/groups";

/// Alice's own group, one of Bob's, and a community with a group in it. Gives their ids.
async fn ready() -> (Bench, [String; 4]) {
    let bench = Bench::start().await;
    let of = |id: &str, subject: &str, owner: &str, other: &str| GroupSpec {
        id: Some(id.into()),
        participants: vec![other.into()],
        ..GroupSpec::new(subject, owner)
    };
    // The tests search for the long rows of zeros in these ids. The ids that the simulator draws for the community have
    // none.
    let own = bench.world.add_group(of("100000000001@g.us", "Über-Team", ALICE, BOB));
    let bobs = bench.world.add_group(of("100000000002@g.us", "=Bob's, \"Team\"", BOB, ALICE));
    let linked = bench.world.add_group(of("100000000003@g.us", "Benches", ALICE, CAROL));
    let spec = CommunitySpec { group: GroupSpec::new("Park", ALICE), ..CommunitySpec::new("Park", ALICE) };
    let community = bench.world.add_community(CommunitySpec { subgroups: vec![linked.clone()], ..spec });
    bench.link("alice", ALICE).await;
    (bench, [own, bobs, linked, community])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_filtered_counted_and_paged() {
    let (bench, [own, bobs, linked, community]) = ready().await;
    let all = bench.get(GROUPS).await;
    assert_eq!(all.ids().len(), 5, "with the announcement group: {all:?}");
    let cases: [(&str, Vec<&str>); 8] = [
        ("admin=false", vec![&bobs]),
        ("search=%C3%BCBER", vec![&own]),
        ("search=team", vec![&own, &bobs]),
        ("search=team&admin=true", vec![&own]),
        ("search=00000000003%40g", vec![&linked]),
        ("search=nothing", vec![]),
        ("community=none&search=00000000", vec![&own, &bobs]),
        ("community=1%40g.us", vec![]),
    ];
    for (query, expected) in cases {
        let list = bench.get(&format!("{GROUPS}?{query}")).await;
        assert_eq!((list.status, list.ids()), (200, expected.clone()), "{query}");
        assert_eq!(list.header("x-total-count"), expected.len().to_string(), "{query}");
        let count = bench.get(&format!("{GROUPS}/count?{query}")).await;
        assert_eq!(count.body["total"], expected.len(), "{query}");
    }
    let in_community = bench.get(&format!("{GROUPS}?community={community}")).await;
    assert!(in_community.ids().contains(&linked.as_str()) && in_community.ids().len() == 2, "{in_community:?}");
    let count = bench.get(&format!("{GROUPS}/count")).await;
    assert_eq!(count.body, json!({ "total": 5, "admin": 4, "communities": 1 }));
    let page = bench.get(&format!("{GROUPS}?search=team&limit=1&offset=1")).await;
    assert_eq!((page.ids(), page.header("x-total-count")), (vec![bobs.as_str()], "2"));
    assert_eq!(bench.get("/sessions/alice/communities").await.ids(), [community]);
    for query in ["admin=maybe", "community=park", "limit=ten"] {
        assert_eq!(bench.get(&format!("{GROUPS}?{query}")).await.status, 400, "{query}");
    }
    assert_eq!(bench.get(&format!("{GROUPS}/count?admin=maybe")).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn participants_are_listed_by_role_and_page() {
    let bench = Bench::start().await;
    let group = bench.group(&[BOB, CAROL, DAVE], Addressing::Lid);
    bench.world.change_participants(&group, ParticipantChange::Promote, ALICE, &[BOB]).unwrap();
    bench.link("alice", ALICE).await;
    let path = format!("{GROUPS}/{group}/participants");
    let whole = bench.get(&format!("{GROUPS}/{group}")).await.body["participants"].clone();
    let all = bench.get(&path).await;
    assert_eq!((all.status, &all.body, all.header("x-total-count")), (200, &whole, "4"));
    let numbers = |list: &Value| {
        let mut numbers: Vec<_> =
            list.as_array().unwrap().iter().map(|one| one["number"].as_str().unwrap().to_owned()).collect();
        numbers.sort();
        numbers
    };
    for (role, expected) in [("member", vec![CAROL, DAVE]), ("admin", vec![ALICE, BOB]), ("superadmin", vec![ALICE])] {
        let list = bench.get(&format!("{path}?role={role}")).await;
        assert_eq!(
            (numbers(&list.body), list.header("x-total-count")),
            (expected.iter().map(ToString::to_string).collect(), expected.len().to_string().as_str()),
            "{role}"
        );
    }
    let mut pages = Vec::new();
    for offset in 0..5 {
        let page = bench.get(&format!("{path}?limit=1&offset={offset}")).await;
        assert_eq!(page.header("x-total-count"), "4");
        pages.extend(page.body.as_array().unwrap().clone());
    }
    assert_eq!(Value::Array(pages), whole);
    let tag = all.header("etag");
    assert_eq!(bench.get_unless(tag, &path).await.status, 304);
    bench.world.change_participants(&group, ParticipantChange::Remove, ALICE, &[DAVE]).unwrap();
    until_equal(200, async || bench.get_unless(tag, &path).await.status).await;
    assert_eq!(bench.get(&format!("{path}?role=owner")).await.failure(), (400, "invalid_parameter"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_hold_every_row_quoted_and_without_formulas() {
    let (bench, [own, bobs, ..]) = ready().await;
    let table = bench.get("/sessions/alice/groups.csv?community=none&search=100").await;
    assert_eq!((table.status, table.header("content-type")), (200, "text/csv; charset=utf-8"));
    assert_eq!(table.header("content-disposition"), "attachment; filename=\"groups.csv\"");
    let expected = format!(
        "id,name,participantsCount,isAdmin,isCommunity,linkedParentJID\r\n\
         {own},Über-Team,2,true,false,\r\n\
         {bobs},\"'=Bob's, \"\"Team\"\"\",2,false,false,\r\n"
    );
    assert_eq!(table.text(), expected);
    assert_eq!(bench.get("/sessions/alice/groups.csv").await.text().lines().count(), 6);

    let path = format!("{GROUPS}/{own}/participants.csv");
    let participants = bench.get(&path).await;
    assert_eq!(participants.header("content-disposition"), "attachment; filename=\"participants-100000000001.csv\"");
    let participants = participants.text();
    assert!(participants.starts_with("id,number,name,isAdmin,isSuperAdmin\r\n"), "{participants}");
    assert!(
        participants.contains(&format!("\r\n{BOB}@c.us,{BOB},")) && participants.ends_with("\r\n"),
        "{participants}"
    );
    assert_eq!(participants.lines().count(), 3);
    assert_eq!(bench.get(&format!("{GROUPS}/1@g.us/participants.csv")).await.failure(), (404, "group_not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_group_is_a_whole_table() {
    let bench = Bench::start().await;
    let participants: Vec<String> = (0..1000).map(|number| (15_550_300_000_u64 + number).to_string()).collect();
    participants.iter().for_each(|phone| bench.world.add_account(AccountSpec::new(phone)));
    let group =
        bench.world.add_group(GroupSpec { participants: participants.clone(), ..GroupSpec::new("Large", ALICE) });
    bench.link("alice", ALICE).await;
    let table = bench.get(&format!("{GROUPS}/{group}/participants.csv")).await.text();
    assert_eq!(table.lines().count(), 1002);
    assert!(participants.iter().all(|phone| table.contains(&format!("\r\n{phone}@c.us,{phone},"))));
    assert_eq!(bench.get(&format!("{GROUPS}/{group}/participants?limit=1000&offset=1000")).await.ids().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_known_is_not_sent_again_also_after_a_restart() {
    let (mut bench, [own, ..]) = ready().await;
    let path = format!("{GROUPS}/{own}");
    // The account's own name is learnt from its first change, and is part of what is shown.
    assert_eq!(bench.put(&format!("{path}/subject"), json!({ "subject": "First" })).await.status, 200);
    until_equal(json!(format!("User {ALICE}")), async || {
        bench.get(&path).await.body["participants"][0]["name"].clone()
    })
    .await;
    let first = bench.get(&path).await;
    let tag = first.header("etag").to_owned();
    assert_eq!(tag.len(), 18, "{tag}");
    for known in [tag.clone(), format!("\"0\", W/{tag}"), "*".into()] {
        let answer = bench.get_unless(&known, &path).await;
        assert_eq!((answer.status, answer.header("etag"), &answer.body), (304, tag.as_str(), &json!("")), "{known}");
    }
    assert_eq!(bench.get_unless("\"0000000000000000\"", &path).await.body, first.body);
    assert_eq!(bench.get_unless(&tag, &format!("{path}?refresh=true")).await.status, 304, "the same was read");

    bench.restart().await;
    bench.until_status("alice", "ready").await;
    let again = bench.get(&path).await;
    assert_eq!((again.header("etag"), &again.body), (tag.as_str(), &first.body), "the same body has the same tag");
    assert_eq!(bench.get_unless(&tag, &path).await.status, 304);

    assert_eq!(bench.put(&format!("{path}/subject"), json!({ "subject": "Other" })).await.status, 200);
    let changed = bench.get_unless(&tag, &path).await;
    assert_eq!((changed.status, &changed.body["name"]), (200, &json!("Other")), "G-2");
    assert_ne!(changed.header("etag"), tag);
    assert_eq!(bench.put(&format!("{path}/subject"), json!({ "subject": "First" })).await.status, 200);
    let back = bench.get(&path).await;
    assert_eq!((&back.body, back.header("etag")), (&first.body, tag.as_str()), "as it was before");
}
