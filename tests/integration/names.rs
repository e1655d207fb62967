//! Names of people: what they call themselves, and how the phone's owner saved them. Known also after a restart.

use rookery_simulator::Addressing;
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, CAROL, until_equal};

async fn name_of(bench: &Bench, path: &str, phone: &str) -> Value {
    let group = bench.get(path).await.body;
    let participants = group["participants"].as_array().cloned().unwrap_or_default();
    participants.iter().find(|person| person["number"] == phone).map_or(Value::Null, |person| person["name"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_shown_once_it_is_known_and_the_saved_one_wins() {
    let mut bench = Bench::start().await;
    let group = bench.group(&[BOB, CAROL], Addressing::Lid);
    bench.world.rename(BOB, "Bobby");
    bench.world.rename(CAROL, "Caro");
    bench.world.set_contact(ALICE, CAROL, "Carol from work");
    bench.link("alice", ALICE).await;
    let path = format!("/sessions/alice/groups/{group}");
    until_equal(json!(format!("User {ALICE}")), async || name_of(&bench, &path, ALICE).await).await;
    until_equal(json!("Carol from work"), async || name_of(&bench, &path, CAROL).await).await;
    assert_eq!(name_of(&bench, &path, BOB).await, Value::Null, "nothing was heard of him");
    for (actor, name) in [(BOB, "Bobby"), (CAROL, "Carol from work")] {
        bench.world.change_subject(&group, actor, &format!("by {actor}")).unwrap();
        until_equal(json!(format!("by {actor}")), async || bench.get(&path).await.body["name"].clone()).await;
        until_equal(json!(name), async || name_of(&bench, &path, actor).await).await;
    }
    bench.restart().await;
    bench.until_status("alice", "ready").await;
    for (person, name) in [(BOB, "Bobby"), (CAROL, "Carol from work")] {
        assert_eq!(name_of(&bench, &path, person).await, name, "kept over a restart");
    }
}
