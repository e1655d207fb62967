//! Messages that come while the daemon is killed with -9, over and over: each is in the log once.

use std::collections::BTreeMap;
use std::time::Duration;

use rookery_simulator::{AccountSpec, Mail, World};

use super::setup::{Daemon, OWN_PHONE, Setup};
use super::told::events_after;

const PERSON: &str = "15550100002";
const MESSAGES: usize = 10_000;
/// Kills while messages come, and while the daemon catches up.
const KILLS: usize = 12;
/// Messages that are written one after the other, before others get their turn.
const AT_ONCE: usize = 25;
/// Messages whose key is lost on its way: they, and those in the group until the sender hears of it, cannot be read at first.
const KEYS_LOST: [usize; 2] = [0, MESSAGES - 200];
/// From the connection until well into the messages that waited.
const LIFE_MS_MAX: u64 = 1_200;
/// The time to catch up with what is left.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_messages_are_in_the_log_once_each_however_often_the_daemon_is_killed() {
    let setup = Setup::start().await;
    let world = setup.world();
    world.add_account(AccountSpec::new(PERSON));
    let team = setup.group("Team", &[PERSON, "15550100003"]);
    let mut daemon = setup.daemon().await;
    daemon.link("alice", OWN_PHONE).await;

    let writing = tokio::spawn(write(world, team));
    let seed = setup.simulator.seed();
    for kill in 0..KILLS {
        let life = seed.rotate_left(u32::try_from(kill).unwrap_or_default() * 5) % LIFE_MS_MAX;
        tokio::time::sleep(Duration::from_millis(life)).await;
        daemon.child.kill();
        daemon = setup.daemon().await;
    }
    let written = writing.await.expect("no panic");
    assert_eq!(written.len(), MESSAGES);

    let begun = std::time::Instant::now();
    let heard = loop {
        // Those that cannot be read yet are counted, too.
        let (_, page) = daemon.get("/api/sessions/alice/messages?limit=1").await;
        let total = page["total"].as_u64().expect("a number");
        if total >= MESSAGES as u64 {
            let heard = heard(&daemon, &format!("seed {seed}")).await;
            if heard.len() == MESSAGES || begun.elapsed() > PATIENCE {
                break heard;
            }
        }
        assert!(begun.elapsed() < PATIENCE, "seed {seed}: {total} of {MESSAGES} messages");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let missing: Vec<_> = written.iter().filter(|(id, _)| !heard.contains_key(*id)).take(9).collect();
    assert!(missing.is_empty(), "seed {seed}: {} of {MESSAGES} messages, without {missing:?}", heard.len());
    assert_eq!(heard, written, "seed {seed}");
}

/// Bob writes to the group, and to the session's account by turns. Returns the text of each message, by id.
async fn write(world: World, team: String) -> BTreeMap<String, String> {
    let mut written = BTreeMap::new();
    for number in 0..MESSAGES {
        let text = format!("message {number}");
        let to = if number % 2 == 0 { &team } else { OWN_PHONE };
        let lose_key = KEYS_LOST.contains(&number);
        let id = world.send(PERSON, to, Mail { lose_key, ..Mail::text(&text) }).expect("a member may write");
        written.insert(id, text);
        if number % AT_ONCE == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    written
}

/// The readable text of each message in the log, by id. Each is there once, or once unreadable and then once more.
async fn heard(daemon: &Daemon, context: &str) -> BTreeMap<String, String> {
    let (events, _) = events_after(daemon, "0", context).await;
    let (mut heard, mut masked) = (BTreeMap::new(), BTreeMap::new());
    for event in events.iter().filter(|event| event["event"] == "message.received") {
        let data = &event["data"];
        let id = data["id"].as_str().expect("an id").to_owned();
        let is_first = if data["type"] == "masked" {
            masked.insert(id.clone(), data["sequence"].clone()).is_none() && !heard.contains_key(&id)
        } else {
            let replaces = data.get("replaces").cloned();
            assert_eq!(replaces, masked.get(&id).cloned(), "{context}: {event}");
            heard.insert(id, data["body"].as_str().map(str::to_owned).unwrap_or_default()).is_none()
        };
        assert!(is_first, "{context}: told twice: {}", data["id"]);
    }
    heard
}
