//! A session's log over HTTP: pages, cursors, filters, streams, and who may see what.

use std::time::Duration;

use reqwest::{Method, Response};
use rookery_simulator::{Addressing, ParticipantChange};
use serde_json::{Value, json};

use crate::harness::{ALICE, BOB, Bench, CAROL, DAVE, KEY, until};

/// How long a piece of a stream is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

async fn page(bench: &Bench, query: &str) -> Value {
    let answer = bench.get(&format!("/sessions/alice/events{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// All events after a cursor, and the cursor behind them.
async fn all(bench: &Bench, after: &str) -> (Vec<Value>, String) {
    let (mut events, mut cursor) = (Vec::new(), after.to_owned());
    loop {
        let page = page(bench, &format!("?limit=7&after={cursor}")).await;
        cursor = page["next"].as_str().unwrap().to_owned();
        let new = page["events"].as_array().unwrap();
        if new.is_empty() {
            return (events, cursor);
        }
        events.extend(new.iter().cloned());
    }
}

/// The cursor behind all events that there are.
async fn now(bench: &Bench) -> String {
    let oldest = page(bench, "?limit=1").await["oldest"].as_str().unwrap().to_owned();
    all(bench, &oldest).await.1
}

/// Waits until this many events came after the cursor.
async fn after(bench: &Bench, cursor: &str, count: usize) -> Vec<Value> {
    until("events", async || {
        let (events, _) = all(bench, cursor).await;
        (events.len() >= count).then_some(events)
    })
    .await
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

/// A stream of server-sent events.
struct Stream {
    response: Response,
    text: String,
}

#[derive(Debug, Default, PartialEq)]
struct Sent {
    id: String,
    event: String,
    data: Value,
}

impl Stream {
    async fn open(bench: &Bench, key: &str, query: &str, last_event_id: Option<&str>) -> Response {
        let url = format!("http://{}/api/sessions/alice/events{query}", bench.daemon().local_addr());
        let request = reqwest::Client::new().get(url).header("X-API-Key", key).header("Accept", "text/event-stream");
        let request = last_event_id.into_iter().fold(request, |request, id| request.header("Last-Event-ID", id));
        request.send().await.unwrap()
    }

    async fn begin(bench: &Bench, key: &str, query: &str, last_event_id: Option<&str>) -> Self {
        let response = Self::open(bench, key, query, last_event_id).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next block; `None` once the stream has ended.
    async fn block(&mut self) -> Option<Sent> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let mut sent = Sent::default();
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("id", id)) => sent.id = id.to_owned(),
                        Some(("event", event)) => sent.event = event.to_owned(),
                        Some(("data", data)) => sent.data = serde_json::from_str(data).unwrap(),
                        _ => {}
                    }
                }
                self.text = rest.to_owned();
                return Some(sent);
            }
            let piece = tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("nothing was sent");
            self.text.push_str(std::str::from_utf8(&piece.ok()??).unwrap());
        }
    }

    /// The next event.
    async fn event(&mut self) -> Sent {
        loop {
            let sent = self.block().await.expect("the stream has ended");
            if !sent.event.is_empty() {
                return sent;
            }
        }
    }

    async fn has_ended(&mut self) -> bool {
        while self.block().await.is_some() {}
        true
    }
}

async fn key(bench: &Bench, body: Value) -> String {
    let made = bench.post("/auth/api-keys", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.body["apiKey"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_read_page_by_page_in_order_and_say_what_happened() {
    let (bench, group) = Bench::with_group().await;
    let begin = now(&bench).await;
    bench.world.change_participants(&group, ParticipantChange::Add, BOB, &[DAVE]).unwrap();
    after(&bench, &begin, 1).await;
    bench.world.change_subject(&group, BOB, "Bob's").unwrap();
    let events = after(&bench, &begin, 2).await;
    assert_eq!(kinds(&events), ["group.join", "group.update"]);
    let (joined, renamed) = (&events[0], &events[1]);
    assert_eq!(joined["groupId"], json!(group));
    assert_eq!(joined["actorId"], json!(format!("{BOB}@c.us")));
    let data = &joined["data"];
    assert_eq!((&data["groupId"], &data["participantIds"]), (&json!(group), &json!([format!("{DAVE}@c.us")])));
    assert_eq!((&data["actorId"], &data["sequence"]), (&joined["actorId"], &joined["sequence"]));
    assert!(data["timestamp"].as_i64().unwrap() > 1_600_000_000 && data.get("reconciled").is_none(), "{data}");
    assert_eq!(renamed["data"]["changes"], json!({ "name": "Bob's" }));
    assert_eq!(renamed["data"]["before"]["name"].as_str().map(str::is_empty), Some(false));
    assert_eq!(renamed["sequence"].as_u64(), joined["sequence"].as_u64().map(|number| number + 1));
    // The log begins with the session, has no gap, and each event an id of its own.
    let first = page(&bench, "?limit=1000").await;
    let numbers: Vec<u64> =
        first["events"].as_array().unwrap().iter().map(|event| event["sequence"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let ids: std::collections::BTreeSet<_> =
        first["events"].as_array().unwrap().iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(ids.len(), numbers.len());
    // Filters leave out events, and the cursor moves on all the same.
    let joins = page(&bench, &format!("?after={begin}&types=group.join,message.received")).await;
    assert_eq!((joins["events"].as_array().unwrap().len(), &joins["next"]), (1, &first["next"]));
    let others = page(&bench, &format!("?after={begin}&groupId=120363000000000009@g.us")).await;
    assert_eq!((others["events"].as_array().unwrap().len(), &others["next"]), (0, &first["next"]));
    let of_group = page(&bench, &format!("?after={begin}&groupId={group}")).await;
    assert_eq!(of_group["events"].as_array().unwrap().len(), 2);
    // A bare number is a place in the current epoch.
    let bare = page(&bench, &format!("?after={}", joined["sequence"])).await;
    assert_eq!(bare["events"][0], *renamed);
    for (query, word) in [
        ("after=soon", "soon"),
        ("after=999999", "999999"),
        ("types=group.dance", "group.dance"),
        ("groupId=x", "x"),
        ("limit=a", "limit"),
    ] {
        let refused = bench.get(&format!("/sessions/alice/events?{query}")).await;
        assert_eq!(refused.failure().0, 400, "{query}");
        assert!(refused.body["message"].as_str().unwrap().contains(word), "{refused:?}");
    }
    let gone = bench.get("/sessions/alice/events?after=5-1").await;
    assert_eq!((gone.failure(), &gone.body["oldest"]), ((410, "events_gone"), &first["oldest"]));
    assert_eq!(bench.get("/sessions/nobody/events").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_look_at_the_group_showed_later_is_told_as_that() {
    let (bench, group) = Bench::with_group().await;
    let begin = now(&bench).await;
    bench.post("/sessions/alice/stop", json!({})).await;
    bench.world.change_participants(&group, ParticipantChange::Remove, BOB, &[CAROL]).unwrap();
    bench.world.forget_waiting(ALICE);
    bench.post("/sessions/alice/start", json!({})).await;
    bench.until_status("alice", "ready").await;
    let left = until("the departure", async || {
        let found = page(&bench, &format!("?after={begin}&types=group.leave")).await;
        found["events"].get(0).cloned()
    })
    .await;
    assert_eq!(left["data"]["participantIds"], json!([format!("{CAROL}@c.us")]));
    assert_eq!((&left["data"]["reconciled"], left.get("actorId")), (&json!(true), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_what_happens_and_goes_on_where_it_was_cut_off_also_over_a_restart() {
    let (mut bench, group) = Bench::with_group().await;
    let mut stream = Stream::begin(&bench, KEY, "?types=group.update,group.join", None).await;
    let begin = stream.block().await.unwrap();
    assert!(begin.event.is_empty() && begin.id == now(&bench).await, "{begin:?}");
    bench.world.change_subject(&group, BOB, "one").unwrap();
    let one = stream.event().await;
    assert_eq!((one.event.as_str(), &one.data["data"]["changes"]["name"]), ("group.update", &json!("one")));
    assert!(one.id.ends_with(&format!("-{}", one.data["sequence"])), "{one:?}");
    drop(stream);
    bench.world.change_subject(&group, BOB, "two").unwrap();
    bench.world.change_participants(&group, ParticipantChange::Promote, ALICE, &[CAROL]).unwrap();
    bench.world.change_participants(&group, ParticipantChange::Add, BOB, &[DAVE]).unwrap();
    for is_restarted in [false, true] {
        if is_restarted {
            after(&bench, &one.id, 3).await;
            bench.restart().await;
        }
        // The header goes before the parameter: a browser keeps asking with the URL of the beginning.
        let query = format!("?types=group.update,group.join&after={}", begin.id);
        let mut stream = Stream::begin(&bench, KEY, &query, Some(&one.id)).await;
        assert_eq!(stream.block().await.unwrap().id, one.id);
        let mut told = [stream.event().await.event, stream.event().await.event];
        told.sort();
        assert_eq!(told, ["group.join", "group.update"], "restarted: {is_restarted}");
    }
    // What is gone is said before anything is streamed.
    let gone = Stream::open(&bench, KEY, "", Some("5-1")).await;
    assert_eq!(gone.status(), 410);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_sees_its_own_groups_and_its_streams_end_with_it() {
    let (bench, group) = Bench::with_group().await;
    let other = bench.group(&[BOB], Addressing::Lid);
    until("the group", async || {
        (bench.get(&format!("/sessions/alice/groups/{other}")).await.status == 200).then_some(())
    })
    .await;
    let begin = now(&bench).await;
    let alice = bench.get("/sessions/alice").await.body["id"].clone();
    let terms = json!({ "name": "tenant", "role": "viewer", "allowedSessions": [alice], "allowedGroups": [group] });
    let made = bench.post("/auth/api-keys", terms).await.body;
    let (id, tenant) = (made["id"].as_str().unwrap(), made["apiKey"].as_str().unwrap());
    let mut stream = Stream::begin(&bench, tenant, "", None).await;
    bench.world.change_subject(&other, BOB, "not theirs").unwrap();
    after(&bench, &begin, 1).await;
    bench.world.change_subject(&group, BOB, "theirs").unwrap();
    after(&bench, &begin, 2).await;
    assert_eq!(stream.event().await.data["groupId"], json!(group));
    let path = "/sessions/alice/events?limit=1000";
    let seen = bench.call_with(tenant, Method::GET, path, None).await.body;
    for event in seen["events"].as_array().unwrap() {
        assert!(event["groupId"] == json!(group) || event["event"] == "session.status", "{event}");
    }
    assert!(seen["events"].as_array().unwrap().iter().any(|event| event["event"] == "session.status"));
    assert_eq!(bench.call_with(tenant, Method::GET, "/sessions/bob/events", None).await.status, 401);
    // A stream follows its key's scope, and ends with the key within a second.
    let wider = json!({ "allowedGroups": [other] });
    assert_eq!(bench.put(&format!("/auth/api-keys/{id}"), wider).await.status, 200);
    bench.world.change_subject(&group, BOB, "theirs no more").unwrap();
    bench.world.change_subject(&other, BOB, "theirs now").unwrap();
    assert_eq!(stream.event().await.data["groupId"], json!(other));
    assert_eq!(bench.post(&format!("/auth/api-keys/{id}/revoke"), json!({})).await.status, 200);
    assert!(tokio::time::timeout(Duration::from_secs(1), stream.has_ended()).await.is_ok_and(|ended| ended));
    let expiring = json!({ "name": "short", "role": "viewer", "expiresAt": in_ms(1_500) });
    let expiring = key(&bench, expiring).await;
    let mut stream = Stream::begin(&bench, &expiring, "", None).await;
    assert!(tokio::time::timeout(Duration::from_secs(4), stream.has_ended()).await.is_ok_and(|ended| ended));
}

fn in_ms(ms: i64) -> String {
    rookery_model::Timestamp(rookery_model::Timestamp::now().0 + ms).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_have_limits_of_their_own_and_take_no_place_from_requests() {
    let bench = Bench::with(|config| {
        let limits = &mut config.http.limits;
        (limits.streams_max, limits.streams_per_key_max) = (6, 3);
        (limits.connections_max, limits.requests_per_key_max) = (4, 1);
    })
    .await;
    bench.start_session("alice").await;
    let other = key(&bench, json!({ "name": "other", "role": "viewer" })).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(Stream::begin(&bench, KEY, "", None).await);
    }
    let refused = Stream::open(&bench, KEY, "", None).await;
    assert_eq!(refused.status(), 429);
    let refused: Value = refused.json().await.unwrap();
    assert_eq!(refused["code"], "too_many_streams");
    for _ in 0..2 {
        streams.push(Stream::begin(&bench, &other, "", None).await);
    }
    assert_eq!(Stream::open(&bench, &other, "", None).await.status(), 503);
    assert_eq!(bench.get("/sessions/alice").await.status, 200, "five streams, and yet there are places");
    streams.clear();
    until("a free stream", async || (Stream::open(&bench, KEY, "", None).await.status() == 200).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_session_and_with_the_daemon() {
    let (mut bench, _) = Bench::with_group().await;
    let mut stream = Stream::begin(&bench, KEY, "", None).await;
    assert_eq!(bench.call(Method::DELETE, "/sessions/alice", None).await.status, 204);
    assert!(tokio::time::timeout(Duration::from_secs(5), stream.has_ended()).await.is_ok_and(|ended| ended));
    bench.start_session("alice").await;
    let mut stream = Stream::begin(&bench, KEY, "", None).await;
    let begun = std::time::Instant::now();
    bench.restart().await;
    assert!(stream.has_ended().await);
    assert!(begun.elapsed() < Duration::from_secs(8), "nobody waits for a stream to end");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_finds_none_of_the_events_before() {
    let (bench, group) = Bench::with_group().await;
    bench.world.change_subject(&group, BOB, "private").unwrap();
    let begin = page(&bench, "?limit=1").await;
    let (oldest, first) = (begin["oldest"].as_str().unwrap().to_owned(), begin["next"].as_str().unwrap().to_owned());
    assert_eq!(bench.post("/sessions/alice/logout", json!({})).await.status, 200);
    let gone = until("the end of the events", async || {
        let answer = bench.get(&format!("/sessions/alice/events?after={first}")).await;
        (answer.status == 410).then_some(answer)
    })
    .await;
    let later = gone.body["oldest"].as_str().unwrap();
    assert_ne!(later, oldest);
    let (left, _) = all(&bench, later).await;
    assert_eq!(left[0]["event"], "session.account_changed");
    let count = left[0]["sequence"].as_u64().unwrap();
    assert!(count > 3, "numbers go on: {count}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_tells_its_qrs_its_log_ins_and_why_it_is_not_connected_any_more() {
    let bench = Bench::start().await;
    bench.start_session("alice").await;
    let viewer = key(&bench, json!({ "name": "viewer", "role": "viewer" })).await;
    let mut of_viewer = Stream::begin(&bench, &viewer, "?after=0", None).await;
    let mut stream = Stream::begin(&bench, KEY, "?after=0&types=session.qr", None).await;
    let shown = stream.event().await;
    assert!(shown.data["data"]["qr"].as_str().unwrap().starts_with("data:image/png;base64,"), "{shown:?}");
    assert_eq!(shown.data["data"].get("qrId"), None);
    let qr = bench.get("/sessions/alice/qr").await.body;
    assert_eq!(shown.data["data"]["qr"], qr["qrCode"]);
    bench.world.phone(ALICE).scan_qr(&bench.qr("alice").await).unwrap();
    bench.until_status("alice", "ready").await;
    bench.post("/sessions/alice/stop", json!({})).await;
    let events = until("the end of the connection", async || {
        let events = page(&bench, "?limit=1000").await["events"].as_array().unwrap().clone();
        events.iter().any(|event| event["event"] == "session.disconnected").then_some(events)
    })
    .await;
    let of = |kind: &str| events.iter().find(|event| event["event"] == kind).map(|event| &event["data"]).unwrap();
    let alice = bench.get("/sessions/alice").await.body;
    assert_eq!(
        (&of("session.authenticated")["phone"], &of("session.authenticated")["sessionId"]),
        (&json!(ALICE), &alice["id"])
    );
    assert_eq!(of("session.disconnected")["reason"], "the session was stopped");
    assert_eq!(of("session.qr")["qr"], Value::Null, "it was scanned, and is not kept");
    let statuses: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "session.status")
        .map(|event| &event["data"]["status"])
        .collect();
    assert_eq!(statuses, ["initializing", "qr_ready", "authenticating", "ready", "disconnected"]);
    // Who may not ask for a QR is not told one.
    loop {
        let event = of_viewer.event().await.event;
        assert_ne!(event, "session.qr");
        if event == "session.disconnected" {
            break;
        }
    }
}

/// Reads all pages of `/api/events` with a key: pairs of session and sequence, and the cursor behind them.
async fn everything(bench: &Bench, key: &str, after: Option<&str>) -> (Vec<(String, u64)>, String) {
    let (mut seen, mut cursor) = (Vec::new(), after.map(str::to_owned));
    loop {
        let query = cursor.as_ref().map(|cursor| format!("&after={cursor}")).unwrap_or_default();
        let answer = bench.call_with(key, Method::GET, &format!("/events?limit=5{query}"), None).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let next = answer.body["next"].as_str().unwrap().to_owned();
        let events = answer.body["events"].as_array().unwrap();
        if events.is_empty() {
            return (seen, next);
        }
        let name = |event: &Value| event["sessionId"].as_str().unwrap().to_owned();
        seen.extend(events.iter().map(|event| (name(event), event["sequence"].as_u64().unwrap())));
        cursor = Some(next);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_all_sessions_of_a_key_are_one_list_and_one_stream() {
    let (mut bench, group) = Bench::with_group().await;
    bench.link("bob", BOB).await;
    let id = async |bench: &Bench, name: &str| {
        bench.get(&format!("/sessions/{name}")).await.body["id"].as_str().unwrap().to_owned()
    };
    let (alice, bob) = (id(&bench, "alice").await, id(&bench, "bob").await);
    let tenant = key(&bench, json!({ "name": "tenant", "role": "viewer", "allowedSessions": [bob] })).await;
    let (all_events, end) = everything(&bench, KEY, None).await;
    for session in [&alice, &bob] {
        let numbers: Vec<u64> = all_events.iter().filter(|(of, _)| of == session).map(|(_, number)| *number).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "{session}");
    }
    let (of_tenant, end_of_tenant) = everything(&bench, &tenant, None).await;
    assert!(!of_tenant.is_empty() && of_tenant.iter().all(|(session, _)| *session == bob));
    assert_ne!(end, end_of_tenant, "a cursor says nothing about how much happens");
    let url = format!("http://{}/api/events", bench.daemon().local_addr());
    let stream = |key: &str, last: &str| {
        let request = reqwest::Client::new().get(&url).header("X-API-Key", key).header("Accept", "text/event-stream");
        request.header("Last-Event-ID", last).send()
    };
    let response = stream(&tenant, &end_of_tenant).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut of_tenant = Stream { response, text: String::new() };
    bench.world.change_subject(&group, BOB, "both see it").unwrap();
    let told = of_tenant.event().await;
    assert_eq!((&told.data["sessionId"], told.event.as_str()), (&json!(bob), "group.update"));
    // The list goes on behind that event, after a restart as well.
    bench.restart().await;
    bench.until_status("alice", "ready").await;
    let (later, _) = everything(&bench, KEY, Some(&end)).await;
    assert!(later.iter().any(|(session, _)| *session == alice) && later.iter().any(|(session, _)| *session == bob));
    let (later, _) = everything(&bench, &tenant, Some(&told.id)).await;
    let sequence = told.data["sequence"].as_u64().unwrap();
    assert!(later.iter().all(|(session, number)| *session == bob && *number > sequence), "{later:?}");
    for cursor in ["7-1", "00", "x"] {
        assert_eq!(bench.get(&format!("/events?after={cursor}")).await.failure().0, 400, "{cursor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_has_a_history_of_who_came_and_went_by_whose_hand_and_of_what_was_set() {
    let (bench, group) = Bench::with_group().await;
    let path = format!("/sessions/alice/groups/{group}/history");
    let history = async |query: &str| {
        let answer = bench.get(&format!("{path}{query}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    };
    let settled = async |count: usize| {
        until("the history", async || {
            let entries = history("").await["entries"].as_array().unwrap().clone();
            (entries.len() >= count).then_some(entries)
        })
        .await
    };
    bench.world.change_participants(&group, ParticipantChange::Add, BOB, &[DAVE]).unwrap();
    settled(1).await;
    bench.world.change_participants(&group, ParticipantChange::Promote, BOB, &[DAVE]).unwrap();
    settled(2).await;
    bench.world.change_subject(&group, DAVE, "Dave's, now").unwrap();
    settled(3).await;
    bench.world.change_participants(&group, ParticipantChange::Remove, BOB, &[CAROL]).unwrap();
    settled(4).await;
    bench.post(&format!("/sessions/alice/groups/{group}/leave"), json!({})).await;
    let entries = settled(5).await;
    let jid = |phone: &str| format!("{phone}@c.us");
    let told: Vec<Value> =
        entries.iter().map(|entry| json!([entry["action"], entry["participantIds"], entry["actorId"]])).collect();
    assert_eq!(
        told,
        [
            json!(["added", [jid(DAVE)], jid(BOB)]),
            json!(["promoted", [jid(DAVE)], jid(BOB)]),
            json!(["changed", [], jid(DAVE)]),
            json!(["removed", [jid(CAROL)], jid(BOB)]),
            json!(["left", [jid(ALICE)], jid(ALICE)]),
        ],
        "also of a group that the account has left"
    );
    assert_eq!(entries[2]["changes"], json!({ "name": "Dave's, now" }));
    let of_dave = history(&format!("?participant={DAVE}")).await;
    assert_eq!(of_dave["entries"], json!([entries[0], entries[1]]));
    assert_eq!(history("?kinds=removed,left").await["entries"], json!([entries[3], entries[4]]));
    let later = in_ms(60_000);
    assert_eq!(history(&format!("?from={later}")).await["entries"], json!([]));
    assert_eq!(history(&format!("?to={later}")).await["entries"].as_array().unwrap().len(), 5);
    // Page by page it is the same.
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = history(&format!("?limit=2{after}")).await;
        all.extend(page["entries"].as_array().unwrap().iter().cloned());
        after = format!("&after={}", page["next"].as_str().unwrap());
        if page["hasMore"] == json!(false) {
            break;
        }
    }
    assert_eq!(all, entries);
    let csv = bench.get(&format!("/sessions/alice/groups/{group}/history.csv")).await;
    assert_eq!(csv.status, 200);
    let lines: Vec<String> = csv.text().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[0], "sequence,at,action,participantId,actorId,field,before,after");
    assert!(lines[3].contains(",changed,,") && lines[3].ends_with(",\"Dave's, now\""), "{}", lines[3]);
    for (query, word) in
        [("kinds=danced", "danced"), ("participant=x", "x"), ("from=soon", "soon"), ("after=-", "after")]
    {
        let refused = bench.get(&format!("{path}?{query}")).await;
        assert_eq!(refused.failure().0, 400, "{query}");
        assert!(refused.body["message"].as_str().unwrap().contains(word), "{refused:?}");
    }
}
