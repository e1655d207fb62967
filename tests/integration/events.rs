//! The daemon's events about groups: every change once, whichever way the daemon learnt of it, also changes while the
//! daemon was away.

use std::time::Duration;

use rookery_actors::{Failpoint, SessionEvents};
use rookery_model::Event;
use rookery_simulator::{Addressing, ParticipantChange, ReachoutLock, Setting, SoftwarePasskey};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, CAROL, DAVE};

/// How long an event is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads a session's events one after the other.
struct EventReader {
    log: SessionEvents,
    /// The number of the latest event that was returned.
    position: u64,
}

impl EventReader {
    async fn next(&mut self) -> Event {
        let mut latest = self.log.latest();
        let news = latest.wait_for(|latest| *latest > self.position);
        tokio::time::timeout(PATIENCE, news).await.expect("no event came").unwrap();
        let page = self.log.page(self.position, 1, |_| true).await.unwrap();
        assert_eq!(page.gap, None);
        self.position = page.seen;
        page.events.into_iter().next().expect("an event that was told is there")
    }
}

/// The next event of a group, short enough to compare: kind, people, author and changes. Skips other events.
async fn next(events: &mut EventReader) -> Value {
    loop {
        let event = events.next().await;
        if event.group.is_some() {
            let changes = event.data.get("changes").cloned().unwrap_or_default();
            return json!([event.kind.as_str(), event.data["participantIds"], event.actor, changes]);
        }
    }
}

/// The events of the session from now on.
async fn events_of_alice(bench: &Bench) -> EventReader {
    let gateway = bench.daemon().gateway();
    let log = gateway.events(gateway.find("alice").unwrap()).await.unwrap();
    EventReader { position: *log.latest().borrow(), log }
}

fn jid(phone: &str) -> String {
    format!("{phone}@c.us")
}

async fn ready(addressing: Addressing) -> (Bench, String, String, EventReader) {
    let bench = Bench::start().await;
    let group = bench.group(&[BOB, CAROL], addressing);
    bench.world.change_participants(&group, ParticipantChange::Promote, ALICE, &[BOB]).unwrap();
    bench.link("alice", ALICE).await;
    let events = events_of_alice(&bench).await;
    let path = format!("/sessions/alice/groups/{group}");
    (bench, group, path, events)
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_made_elsewhere_are_told_with_their_author() {
    for addressing in [Addressing::Lid, Addressing::Pn] {
        let (bench, group, _, mut events) = ready(addressing).await;
        let by_bob = json!(jid(BOB));
        bench.world.change_participants(&group, ParticipantChange::Add, BOB, &[DAVE]).unwrap();
        assert_eq!(next(&mut events).await, json!(["group.join", [jid(DAVE)], by_bob, null]));
        bench.world.change_participants(&group, ParticipantChange::Promote, BOB, &[CAROL]).unwrap();
        assert_eq!(next(&mut events).await, json!(["group.promote", [jid(CAROL)], by_bob, null]));
        bench.world.change_participants(&group, ParticipantChange::Remove, BOB, &[DAVE]).unwrap();
        assert_eq!(next(&mut events).await, json!(["group.leave", [jid(DAVE)], by_bob, null]));
        bench.world.change_subject(&group, BOB, "Bob's").unwrap();
        assert_eq!(next(&mut events).await, json!(["group.update", [], by_bob, { "name": "Bob's" }]));
        bench.world.change_setting(&group, BOB, Setting::Ephemeral(Some(86_400))).unwrap();
        assert_eq!(next(&mut events).await, json!(["group.update", [], by_bob, { "ephemeralSeconds": 86_400 }]));
        bench.world.revoke_invite(&group, BOB).unwrap();
        assert_eq!(next(&mut events).await, json!(["group.invite_revoked", [], by_bob, null]));
        bench.world.leave(&group, CAROL).unwrap();
        assert_eq!(next(&mut events).await, json!(["group.leave", [jid(CAROL)], jid(CAROL), null]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn own_changes_are_told_once_and_by_ourselves() {
    let (bench, _, path, mut events) = ready(Addressing::Lid).await;
    let me = json!(jid(ALICE));
    for n in 0..10 {
        let subject = format!("subject {n}");
        assert_eq!(bench.put(&format!("{path}/subject"), json!({ "subject": subject })).await.status, 200);
        assert_eq!(next(&mut events).await, json!(["group.update", [], me, { "name": subject }]));
    }
    let participants = json!({ "participants": [DAVE, BOB] });
    assert_eq!(bench.post(&format!("{path}/participants"), participants).await.codes(), ["added", "already_member"]);
    assert_eq!(next(&mut events).await, json!(["group.join", [jid(DAVE)], me, null]));
    let made = bench.post("/sessions/alice/groups", json!({ "name": "New", "participants": [BOB] })).await;
    assert_eq!(made.status, 201);
    assert_eq!(next(&mut events).await, json!(["group.join", [jid(ALICE)], me, null]), "the group came, with us in it");
    assert_eq!(bench.post(&format!("{path}/leave"), json!({})).await.status, 200);
    assert_eq!(next(&mut events).await, json!(["group.leave", [jid(ALICE)], me, null]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_while_a_session_was_away_is_told_once_after_its_start() {
    for replayed in [false, true] {
        let (mut bench, group, path, _) = ready(Addressing::Lid).await;
        bench.post(&format!("{path}/participants"), json!({ "participants": [DAVE] })).await;
        assert_eq!(bench.post("/sessions/alice/stop", json!({})).await.status, 200);
        bench.world.change_participants(&group, ParticipantChange::Remove, BOB, &[DAVE]).unwrap();
        bench.world.change_participants(&group, ParticipantChange::Demote, ALICE, &[BOB]).unwrap();
        bench.world.change_subject(&group, ALICE, "Changed").unwrap();
        if !replayed {
            bench.world.forget_waiting(ALICE);
        }
        bench.restart().await;
        let mut events = events_of_alice(&bench).await;
        assert_eq!(bench.post("/sessions/alice/start", json!({})).await.status, 200);
        let mut told = Vec::new();
        while told.len() < 3 {
            let event = next(&mut events).await;
            told.push(json!([event[0], event[1], event[3]]));
        }
        told.sort_by_key(Value::to_string);
        let expected = [
            json!(["group.demote", [jid(BOB)], null]),
            json!(["group.leave", [jid(DAVE)], null]),
            json!(["group.update", [], { "name": "Changed" }]),
        ];
        assert_eq!(told, expected, "replayed: {replayed}");
        bench.until_status("alice", "ready").await;
        // One last change: once its event is here, all events before it are too.
        bench.world.change_subject(&group, ALICE, "Last").unwrap();
        assert_eq!(next(&mut events).await[3], json!({ "name": "Last" }), "nothing is told twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_go_on_over_a_restart_and_one_session_listens_to_itself_alone() {
    let (mut bench, group, _, mut events) = ready(Addressing::Lid).await;
    bench.link("bob", BOB).await;
    bench.world.change_subject(&group, BOB, "first").unwrap();
    let gateway = bench.daemon().gateway();
    let alice = gateway.find("alice").unwrap();
    let first = loop {
        let event = events.next().await;
        assert_eq!(event.session, alice, "of no other session");
        if event.kind.as_str() == "group.update" {
            break event;
        }
    };
    assert!(first.occurred_at <= first.seen_at && first.number > 1, "{first:?}");
    bench.restart().await;
    bench.until_status("alice", "ready").await;
    let mut events = events_of_alice(&bench).await;
    bench.world.change_subject(&group, BOB, "second").unwrap();
    let mut last = None;
    while last.as_ref().is_none_or(|event: &Event| event.kind.as_str() != "group.update") {
        let event = events.next().await;
        assert!(last.is_none_or(|last| last.number + 1 == event.number), "{event:?}");
        last = Some(event);
    }
    assert!(last.is_some_and(|last| last.number > first.number));
}

/// A reader that applies the events of a group ends with the state of the group, however often the session crashes on
/// the way: no event comes twice, and none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn events_add_up_over_crashes() {
    let (bench, group, _, mut events) = ready(Addressing::Lid).await;
    let gateway = bench.daemon().gateway();
    let alice = gateway.find("alice").unwrap();
    let mut members = std::collections::BTreeSet::from([ALICE, BOB, CAROL].map(jid));
    for round in 0..40 {
        let change = if round % 2 == 0 { ParticipantChange::Add } else { ParticipantChange::Remove };
        bench.world.change_participants(&group, change, BOB, &[DAVE]).unwrap();
        if round % 9 == 4 {
            // The session may still be restarting from the last crash.
            let _ = gateway.fail(alice, Failpoint::ActorPanic);
            bench.until_status("alice", "ready").await;
        }
    }
    bench.until_status("alice", "ready").await;
    bench.world.change_subject(&group, BOB, "the end").unwrap();
    let mut number = None;
    loop {
        let event = events.next().await;
        assert!(number.is_none_or(|number| number + 1 == event.number), "{number:?} {event:?}");
        number = Some(event.number);
        for id in event.data.get("participantIds").and_then(Value::as_array).into_iter().flatten() {
            let id = id.as_str().unwrap().to_owned();
            let is_new = match event.kind.as_str() {
                "group.join" => members.insert(id),
                "group.leave" => members.remove(&id),
                _ => true,
            };
            assert!(is_new, "told twice: {event:?}");
        }
        if event.data.get("changes").is_some_and(|changes| changes["name"] == "the end") {
            break;
        }
    }
    assert_eq!(members, [ALICE, BOB, CAROL].map(jid).into());
}

/// The data of the next event of this kind, without the session's id. Skips others.
async fn next_of(events: &mut EventReader, kind: &str) -> Value {
    loop {
        let event = events.next().await;
        if event.kind.as_str() == kind {
            let mut data = event.data;
            data.shift_remove("sessionId").unwrap();
            return Value::Object(data);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restrictions_and_the_steps_of_a_link_with_a_passkey_are_told() {
    let bench = Bench::start().await;
    let passkey = SoftwarePasskey::generate().unwrap();
    bench.world.require_passkey(ALICE, Some(&passkey));
    bench.start_session("alice").await;
    let mut events = events_of_alice(&bench).await;
    let qr = bench.qr("alice").await;
    bench.world.phone(ALICE).scan_qr(&qr).unwrap();
    let step = next_of(&mut events, "session.passkey").await;
    assert_eq!((&step["step"], step["expiresAt"].is_string()), (&json!("passkey"), true), "{step}");
    let options = bench.get("/sessions/alice/passkey").await.body.to_string();
    let signed = serde_json::from_str(&passkey.sign(&options).unwrap()).unwrap();
    assert_eq!(bench.post("/sessions/alice/passkey", signed).await.status, 200);
    let step = next_of(&mut events, "session.passkey").await;
    assert_eq!((&step["step"], step.get("code")), (&json!("passkey_confirmation"), None), "{step}");
    assert_eq!(bench.post("/sessions/alice/passkey/confirm", json!({})).await.status, 200);
    bench.until_status("alice", "ready").await;

    bench.world.lock_reachout(ALICE, Some(ReachoutLock { ends: None, reason: "SCAM".into() }));
    let told = json!({ "active": true, "kind": "reachout_timelock", "code": "SCAM", "expiresAt": null });
    assert_eq!(next_of(&mut events, "session.restriction").await, told);
    bench.world.lock_reachout(ALICE, None);
    let told = json!({ "active": false, "kind": "reachout_timelock", "code": "SCAM", "expiresAt": null });
    assert_eq!(next_of(&mut events, "session.restriction").await, told);
}
