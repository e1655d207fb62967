//! Events over Socket.IO, at the level of its packets: what clients get and may get, and clients that misbehave. `tests/socketio`
//! has the real client.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use rookery_simulator::{Addressing, ParticipantChange};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{ALICE, BOB, Bench, CAROL, DAVE, KEY, until};

/// How long a packet is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Groups of [`ready_with_many`].
const GROUPS: usize = 150;

/// As [`Bench::with_group`], with many groups: changes of one group that follow each other closely may be one event.
async fn ready_with_many() -> (Bench, Vec<String>) {
    let bench = Bench::start().await;
    let groups = (0..GROUPS).map(|_| bench.group(&[BOB, CAROL], Addressing::Lid)).collect::<Vec<_>>();
    for group in &groups {
        bench.world.change_participants(group, ParticipantChange::Promote, ALICE, &[BOB]).unwrap();
    }
    bench.link("alice", ALICE).await;
    (bench, groups)
}

/// A client over a websocket.
struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// Messages that came while something else was waited for.
    messages: VecDeque<Value>,
    asked: u64,
}

impl Socket {
    /// A transport without a client in the namespace.
    async fn open(bench: &Bench, headers: &[(&'static str, &str)]) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // A client that does not read is noticed soon.
        socket.set_recv_buffer_size(8 * 1024).unwrap();
        let address = bench.daemon().local_addr();
        let stream = socket.connect(address).await.unwrap();
        let mut request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(format!(
            "ws://{address}/socket.io/?EIO=4&transport=websocket"
        ))
        .unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (stream, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        let mut socket = Self { stream, messages: VecDeque::new(), asked: 0 };
        let opening = socket.packet().await.unwrap();
        assert!(opening.starts_with("0{"), "{opening}");
        socket
    }

    /// A client in the namespace.
    async fn connect(bench: &Bench, key: &str) -> Self {
        let mut socket = Self::open(bench, &[]).await;
        socket.say(&format!("40/events,{}", json!({ "apiKey": key }))).await;
        let connected = socket.packet().await.unwrap();
        assert!(connected.starts_with("40/events,{\"sid\":"), "{connected}");
        socket
    }

    async fn say(&mut self, packet: &str) {
        self.stream.send(Message::text(packet)).await.unwrap();
    }

    /// The next packet but pings, which are answered; `None`: the transport has ended.
    async fn packet(&mut self) -> Option<String> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("nothing came");
            match next {
                Some(Ok(Message::Text(text))) if text.as_str() == "2" => self.say("3").await,
                Some(Ok(Message::Text(text))) => return Some(text.as_str().to_owned()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// The next message of the daemon; `None`: the client is not in the namespace any more.
    async fn message(&mut self) -> Option<Value> {
        if let Some(message) = self.messages.pop_front() {
            return Some(message);
        }
        let packet = self.packet().await?;
        let Some(message) = packet.strip_prefix("42/events,") else {
            assert!(packet == "41/events," || packet == "1", "{packet}");
            return None;
        };
        let [name, message] = serde_json::from_str::<[Value; 2]>(message).unwrap();
        assert_eq!(name, "message");
        Some(message)
    }

    /// The next event, short enough to compare.
    async fn event(&mut self) -> Value {
        let message = self.message().await.expect("the client has to go");
        assert_eq!(message["type"], "event", "{message}");
        message["payload"].clone()
    }

    /// The error with which the client has to leave.
    async fn farewell(&mut self) -> Value {
        let message = self.message().await.expect("no reason was given");
        assert_eq!((&message["type"], self.message().await), (&json!("error"), None));
        message["code"].clone()
    }

    async fn has_ended(&mut self) -> bool {
        while self.packet().await.is_some() {}
        true
    }

    /// The reply to a message.
    async fn ask(&mut self, message: Value) -> Value {
        self.asked += 1;
        let begin = format!("43/events,{}[", self.asked);
        self.say(&format!("42/events,{}{}", self.asked, json!(["message", message]))).await;
        loop {
            let packet = self.packet().await.expect("the transport has ended");
            if let Some(reply) = packet.strip_prefix(&begin) {
                return serde_json::from_str(&format!("[{reply}")).map(|[reply]: [Value; 1]| reply).unwrap();
            }
            let message = packet.strip_prefix("42/events,").unwrap_or_else(|| panic!("{packet}"));
            self.messages.push_back(serde_json::from_str::<[Value; 2]>(message).unwrap()[1].clone());
        }
    }

    /// The type of the reply to a message, or its code.
    async fn outcome(&mut self, message: Value) -> String {
        let reply = self.ask(message).await;
        assert!(reply["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{reply}");
        let code = if reply["type"] == "error" { &reply["code"] } else { &reply["type"] };
        code.as_str().unwrap().to_owned()
    }

    async fn subscribe(&mut self, session: &str, events: Value) -> String {
        self.outcome(json!({ "type": "subscribe", "sessionId": session, "events": events })).await
    }
}

async fn key(bench: &Bench, body: Value) -> (String, String) {
    let made = bench.post("/auth/api-keys", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    (made.body["id"].as_str().unwrap().to_owned(), made.body["apiKey"].as_str().unwrap().to_owned())
}

async fn id_of(bench: &Bench, session: &str) -> Value {
    bench.get(&format!("/sessions/{session}")).await.body["id"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_get_what_they_subscribed_to_once_and_in_order() {
    let (bench, groups) = ready_with_many().await;
    let group = &groups[0];
    bench.link("bob", BOB).await;
    let mut every = Socket::connect(&bench, KEY).await;
    let mut of_bob = Socket::connect(&bench, KEY).await;
    let mut joins = Socket::connect(&bench, KEY).await;
    let nobody = Socket::connect(&bench, KEY).await;
    assert_eq!(every.subscribe("*", json!(["*"])).await, "subscribed");
    assert_eq!(every.subscribe("alice", json!(["*"])).await, "subscribed");
    assert_eq!(of_bob.subscribe("bob", json!(["*"])).await, "subscribed");
    let asked = json!({ "type": "subscribe", "sessionId": "alice", "events": ["group.join", "x", "message.sent"], "requestId": "r" });
    let mut reply = joins.ask(asked).await;
    reply.as_object_mut().unwrap().remove("timestamp");
    let alice = id_of(&bench, "alice").await;
    let expected =
        json!({ "type": "subscribed", "sessionId": alice, "events": ["group.join", "message.sent"], "requestId": "r" });
    assert_eq!(reply, expected);

    for (number, group) in groups.iter().enumerate() {
        bench.world.change_subject(group, BOB, &format!("number {number}")).unwrap();
    }
    bench.world.change_participants(group, ParticipantChange::Add, BOB, &[DAVE]).unwrap();
    let epoch = bench.get("/sessions/alice/events?limit=1").await.body["next"].as_str().unwrap().to_owned();
    let epoch = epoch.split_once('-').unwrap().0.to_owned();
    let (mut numbers, mut of_alice) = (Vec::new(), Vec::new());
    while of_alice.len() <= GROUPS || !of_alice.contains(&json!("group.join")) {
        let message = every.message().await.unwrap();
        let event = &message["payload"];
        if event["sessionId"] == alice {
            assert_eq!(message["cursor"], json!(format!("{epoch}-{}", event["data"]["sequence"])));
            numbers.push(event["data"]["sequence"].as_u64().unwrap());
            of_alice.push(event["event"].clone());
        }
    }
    assert_eq!(numbers, (numbers[0]..numbers[0] + numbers.len() as u64).collect::<Vec<_>>(), "each once, none missing");
    // Bob's session sees the same changes, with numbers of its own.
    let bob = id_of(&bench, "bob").await;
    loop {
        let event = of_bob.event().await;
        assert_eq!(event["sessionId"], bob);
        if event["event"] == "group.join" {
            break;
        }
    }
    let joined = joins.event().await;
    assert_eq!((&joined["event"], &joined["data"]["groupId"]), (&json!("group.join"), &json!(group)));
    assert_eq!(joined["data"]["participantIds"], json!([format!("{DAVE}@c.us")]));

    // What is not asked for any more does not come. The other subscription stays.
    assert_eq!(every.outcome(json!({ "type": "unsubscribe", "sessionId": "*" })).await, "unsubscribed");
    assert_eq!(joins.outcome(json!({ "type": "unsubscribe", "sessionId": "alice" })).await, "unsubscribed");
    bench.world.change_participants(group, ParticipantChange::Remove, BOB, &[DAVE]).unwrap();
    while every.event().await["event"] != "group.leave" {}
    assert_eq!(joins.ask(json!({ "type": "ping" })).await["type"], "pong");
    assert!(joins.messages.is_empty(), "{:?}", joins.messages);
    drop(nobody);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_say_what_is_wrong_with_a_message() {
    let (bench, _) = Bench::with_group().await;
    let mut socket = Socket::connect(&bench, KEY).await;
    let cases = [
        (json!({ "type": "ping" }), "pong"),
        (json!({ "type": "subscribe", "sessionId": "nobody", "events": ["*"] }), "INVALID_SESSION"),
        (json!({ "type": "subscribe", "events": ["*"] }), "INVALID_SESSION"),
        (json!({ "type": "subscribe", "sessionId": 7, "events": ["*"] }), "INVALID_SESSION"),
        (json!({ "type": "subscribe", "sessionId": "alice" }), "INVALID_EVENTS"),
        (json!({ "type": "subscribe", "sessionId": "alice", "events": ["nonsense"] }), "INVALID_EVENTS"),
        (json!({ "type": "subscribe", "sessionId": "alice", "events": "*" }), "INVALID_EVENTS"),
        (json!({ "type": "unsubscribe" }), "INVALID_SESSION"),
        (json!({ "type": "unsubscribe", "sessionId": "nobody" }), "INVALID_SESSION"),
        (json!({ "type": "unsubscribe", "sessionId": "00000000-0000-4000-8000-000000000000" }), "unsubscribed"),
        (json!({ "type": "send" }), "INVALID_MESSAGE"),
        (json!({}), "INVALID_MESSAGE"),
        (Value::Null, "INVALID_MESSAGE"),
        (json!([1]), "INVALID_MESSAGE"),
    ];
    for (message, outcome) in cases {
        assert_eq!(socket.outcome(message.clone()).await, outcome, "{message}");
    }
    // An event with another name, and one without a message.
    for event in [r#"42/events,900["other",{"type":"ping"}]"#, r#"42/events,900["message"]"#] {
        socket.say(event).await;
        let reply = socket.packet().await.unwrap();
        assert!(reply.starts_with("43/events,900[{\"type\":\"error\",\"code\":\"INVALID_MESSAGE\""), "{reply}");
    }
    // What asks for no reply gets none, and another namespace is nobody's.
    socket.say(r#"42/events,["message",{"type":"ping"}]"#).await;
    socket.say(r#"42/other,1["message",{"type":"ping"}]"#).await;
    socket.say(r#"42["message",{"type":"ping"}]"#).await;
    assert_eq!(socket.outcome(json!({ "type": "ping" })).await, "pong");
    for broken in ["42/events,1[", "4x", "451-/events,[\"message\",{\"_placeholder\":true,\"num\":0}]"] {
        let mut socket = Socket::connect(&bench, KEY).await;
        socket.say(broken).await;
        assert_eq!(socket.farewell().await, "INVALID_MESSAGE", "{broken}");
    }
    let mut socket = Socket::connect(&bench, KEY).await;
    socket
        .say(&format!("42/events,1{}", json!(["message", { "type": "ping", "requestId": "x".repeat(17_000) }])))
        .await;
    assert_eq!(socket.farewell().await, "INVALID_MESSAGE");
    // Not even a packet of Engine.IO.
    let mut socket = Socket::connect(&bench, KEY).await;
    socket.say("hello").await;
    assert!(socket.has_ended().await);
    let mut socket = Socket::connect(&bench, KEY).await;
    socket.stream.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(socket.farewell().await, "INVALID_MESSAGE");
    let mut socket = Socket::open(&bench, &[]).await;
    socket.say("40").await;
    assert_eq!(socket.packet().await.unwrap(), r#"44{"message":"Invalid namespace"}"#);
    socket.say("40/admin,{}").await;
    assert_eq!(socket.packet().await.unwrap(), r#"44/admin,{"message":"Invalid namespace"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_in_by_its_key_alone_and_sees_what_the_key_sees() {
    let (bench, group) = Bench::with_group().await;
    bench.start_session("carol").await;
    let other = bench.group(&[BOB], Addressing::Lid);
    until("the group", async || {
        (bench.get(&format!("/sessions/alice/groups/{other}")).await.status == 200).then_some(())
    })
    .await;
    for (auth, code) in
        [("{}", "API key required"), ("", "API key required"), (r#"{"apiKey":"wrong"}"#, "Authentication failed")]
    {
        let mut socket = Socket::open(&bench, &[]).await;
        socket.say(&format!("40/events,{auth}")).await;
        assert!(socket.packet().await.unwrap().starts_with("40/events,"));
        let told = socket.message().await.unwrap();
        assert_eq!(
            (&told["type"], &told["code"], &told["message"]),
            (&json!("error"), &json!("UNAUTHORIZED"), &json!(code))
        );
        assert_eq!(socket.message().await, None);
        assert!(socket.has_ended().await);
    }
    // By a header, which the client's own word goes before.
    let mut socket = Socket::open(&bench, &[("x-api-key", KEY)]).await;
    socket.say("40/events,").await;
    assert!(socket.packet().await.unwrap().starts_with("40/events,"));
    assert_eq!(socket.subscribe("alice", json!(["*"])).await, "subscribed");

    let alice = id_of(&bench, "alice").await;
    let terms = json!({ "name": "one session", "role": "viewer", "allowedSessions": [alice] });
    let (_, of_session) = key(&bench, terms).await;
    let mut of_session = Socket::connect(&bench, &of_session).await;
    assert_eq!(of_session.subscribe("*", json!(["*"])).await, "FORBIDDEN_SESSION");
    assert_eq!(of_session.subscribe("carol", json!(["*"])).await, "FORBIDDEN_SESSION");
    assert_eq!(of_session.subscribe("nobody", json!(["*"])).await, "FORBIDDEN_SESSION");
    for session in ["carol", "nobody"] {
        let unsubscribe = json!({ "type": "unsubscribe", "sessionId": session });
        assert_eq!(of_session.outcome(unsubscribe).await, "FORBIDDEN_SESSION", "the same whether or not it exists");
    }
    assert_eq!(of_session.subscribe("alice", json!(["session.qr"])).await, "FORBIDDEN_EVENTS");
    assert_eq!(of_session.subscribe("alice", json!(["*"])).await, "subscribed");
    let terms = json!({ "name": "one group", "role": "admin", "allowedGroups": [group] });
    let (id, of_group) = key(&bench, terms).await;
    let mut of_group = Socket::connect(&bench, &of_group).await;
    assert_eq!(of_group.subscribe("*", json!(["*"])).await, "FORBIDDEN_SESSION");
    assert_eq!(of_group.subscribe("alice", json!(["*"])).await, "subscribed");
    bench.world.change_subject(&other, BOB, "not theirs").unwrap();
    bench.world.change_subject(&group, BOB, "theirs").unwrap();
    let told = [of_session.event().await, of_session.event().await].map(|event| event["data"]["groupId"].to_string());
    assert_eq!(BTreeSet::from(told), BTreeSet::from([&group, &other].map(|group| json!(group).to_string())));
    assert_eq!(of_group.event().await["data"]["groupId"], json!(group));
    // A change of the key's scope counts for what comes after it.
    let wider = json!({ "allowedGroups": [other] });
    assert_eq!(bench.put(&format!("/auth/api-keys/{id}"), wider).await.status, 200);
    bench.world.change_subject(&group, BOB, "theirs no more").unwrap();
    bench.world.change_subject(&other, BOB, "theirs now").unwrap();
    assert_eq!(of_group.event().await["data"]["groupId"], json!(other));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qr_is_for_operators_and_can_be_scanned() {
    let bench = Bench::start().await;
    let (_, viewer) = key(&bench, json!({ "name": "viewer", "role": "viewer" })).await;
    let [mut operator, mut viewer] = [Socket::connect(&bench, KEY).await, Socket::connect(&bench, &viewer).await];
    for socket in [&mut operator, &mut viewer] {
        assert_eq!(socket.subscribe("*", json!(["*"])).await, "subscribed");
    }
    bench.start_session("alice").await;
    let shown = loop {
        let event = operator.event().await;
        if event["event"] == "session.qr" {
            break event;
        }
    };
    assert_eq!(shown["data"]["qr"], bench.get("/sessions/alice/qr").await.body["qrCode"]);
    bench.world.phone(ALICE).scan_qr(&bench.qr("alice").await).unwrap();
    loop {
        let event = viewer.event().await;
        assert_ne!(event["event"], "session.qr");
        if event["data"]["status"] == "ready" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_leaves_with_its_key_within_a_second() {
    let (bench, _) = Bench::with_group().await;
    let made = Instant::now();
    let (id, revoked) = key(&bench, json!({ "name": "revoked", "role": "viewer" })).await;
    let (_, expiring) = key(&bench, json!({ "name": "short", "role": "viewer", "expiresAt": in_ms(2_000) })).await;
    let [mut revoked, mut expiring] =
        [Socket::connect(&bench, &revoked).await, Socket::connect(&bench, &expiring).await];
    for socket in [&mut revoked, &mut expiring] {
        assert_eq!(socket.subscribe("*", json!(["*"])).await, "subscribed");
    }
    assert_eq!(bench.post(&format!("/auth/api-keys/{id}/revoke"), json!({})).await.status, 200);
    let begun = Instant::now();
    assert_eq!(revoked.farewell().await, "UNAUTHORIZED");
    assert!(revoked.has_ended().await);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(expiring.farewell().await, "UNAUTHORIZED");
    assert!(expiring.has_ended().await);
    assert!(made.elapsed() < Duration::from_secs(5), "{:?}", made.elapsed());
}

fn in_ms(ms: i64) -> String {
    rookery_model::Timestamp(rookery_model::Timestamp::now().0 + ms).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_one_key_and_all_streams_have_a_number() {
    let bench = Bench::with(|config| config.http.limits.streams_max = 34).await;
    let (_, tenant) = key(&bench, json!({ "name": "tenant", "role": "viewer" })).await;
    let mut all = Vec::new();
    for _ in 0..16 {
        all.push(Socket::connect(&bench, &tenant).await);
    }
    assert_eq!(Socket::connect(&bench, &tenant).await.farewell().await, "RATE_LIMITED");
    // Another key gets half of what is left.
    for _ in 0..9 {
        all.push(Socket::connect(&bench, KEY).await);
    }
    assert_eq!(Socket::connect(&bench, KEY).await.farewell().await, "RATE_LIMITED");
    assert_eq!(bench.get("/sessions").await.status, 200);
    // Who leaves makes room.
    all[0].say("41/events,").await;
    assert!(all[0].has_ended().await);
    drop(all.pop());
    until("a place", async || Socket::connect(&bench, &tenant).await.may_stay().await.then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_says_a_limited_number_of_things_and_a_flood_ends_its_client() {
    let bench = Bench::start().await;
    let (_, other) = key(&bench, json!({ "name": "other", "role": "viewer" })).await;
    let [mut socket, mut of_same_key] = [Socket::connect(&bench, KEY).await, Socket::connect(&bench, KEY).await];
    let mut other = Socket::connect(&bench, &other).await;
    let begun = Instant::now();
    for number in 0..100 {
        for socket in [&mut socket, &mut of_same_key] {
            let ping = json!(["message", { "type": "ping", "requestId": number }]);
            socket.say(&format!("42/events,{number}{ping}")).await;
        }
    }
    let mut allowed = 0;
    for number in 0..100 {
        for socket in [&mut socket, &mut of_same_key] {
            let reply = socket.packet().await.unwrap();
            let begin = format!("43/events,{number}[");
            assert!(reply.starts_with(&begin) && reply.contains(&format!("\"requestId\":{number}")), "{reply}");
            allowed += usize::from(reply.contains("pong"));
        }
    }
    let most = 121 + usize::try_from(begun.elapsed().as_millis()).unwrap() * 60 / 1_000;
    assert!((120..=most).contains(&allowed), "{allowed} of {most}");
    assert_eq!(other.outcome(json!({ "type": "ping" })).await, "pong");
    let begun = Instant::now();
    loop {
        if socket.stream.send(Message::text("42/events,[\"message\",{\"type\":\"ping\"}]")).await.is_err() {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "the flood goes on");
    }
    assert_eq!(other.outcome(json!({ "type": "ping" })).await, "pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn transports_without_a_client_go_after_a_while() {
    let bench = Bench::start().await;
    let begun = Instant::now();
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(Socket::open(&bench, &[]).await);
    }
    let polling = Polling::open(&bench).await;
    let mut socket = Socket::connect(&bench, KEY).await;
    for stranger in &mut strangers {
        assert!(stranger.has_ended().await);
    }
    while polling.poll().await.0 == 200 {}
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(socket.outcome(json!({ "type": "ping" })).await, "pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_session_tells_its_subscribers_that_alone() {
    let bench = Bench::start().await;
    let [mut every, mut of_one] = [Socket::connect(&bench, KEY).await, Socket::connect(&bench, KEY).await];
    assert_eq!(every.subscribe("*", json!(["*"])).await, "subscribed");
    for phone in [ALICE, BOB, CAROL] {
        bench.link("alice", phone).await;
        let id = id_of(&bench, "alice").await;
        assert_eq!(of_one.subscribe("alice", json!(["session.status", "session.disconnected"])).await, "subscribed");
        assert_eq!(bench.call(Method::DELETE, "/sessions/alice", None).await.status, 204);
        let told = loop {
            let told = of_one.message().await.unwrap();
            // The last event of the link may come behind the subscription.
            if told["payload"]["data"]["status"] != "ready" {
                break told;
            }
        };
        assert_eq!((&told["type"], &told["sessionId"]), (&json!("unsubscribed"), &id));
    }
    bench.start_session("alice").await;
    let id = id_of(&bench, "alice").await;
    loop {
        let event = every.event().await;
        assert_ne!(event["event"], "session.disconnected", "{event}");
        if event["sessionId"] == id {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_goes_and_the_others_get_everything() {
    let (mut bench, groups) = ready_with_many().await;
    bench.restart_with(|config| config.http.limits.streams_max = 3).await;
    bench.until_status("alice", "ready").await;
    let [mut stuck, mut other] = [Socket::connect(&bench, KEY).await, Socket::connect(&bench, KEY).await];
    for socket in [&mut stuck, &mut other] {
        assert_eq!(socket.subscribe("alice", json!(["group.update"])).await, "subscribed");
    }
    assert!(!Socket::connect(&bench, KEY).await.may_stay().await);
    // 4 KB an event, in all more than the system, the transport and the daemon keep.
    for round in 0..4 {
        let given: BTreeSet<String> =
            (0..GROUPS).map(|number| format!("{round} {number} {}", "x".repeat(2_000))).collect();
        for (group, description) in groups.iter().zip(&given) {
            bench.world.change_description(group, BOB, Some(description)).unwrap();
        }
        let mut told = BTreeSet::new();
        while told.len() < GROUPS {
            told.insert(other.event().await["data"]["changes"]["description"].as_str().unwrap().to_owned());
        }
        assert_eq!(told, given);
    }
    until("the end of the client that is stuck", async || {
        // It says that it lives, and does not read.
        let _ = stuck.stream.send(Message::text("3")).await;
        Socket::connect(&bench, KEY).await.may_stay().await.then_some(())
    })
    .await;
    assert_eq!(other.outcome(json!({ "type": "ping" })).await, "pong");
}

impl Socket {
    /// Whether the client was let in.
    async fn may_stay(&mut self) -> bool {
        self.say(r#"42/events,1["message",{"type":"ping"}]"#).await;
        self.packet().await.is_some_and(|packet| packet.starts_with("43/events,1["))
    }
}

/// A client over long polling.
struct Polling<'a> {
    bench: &'a Bench,
    client: reqwest::Client,
    sid: String,
}

impl<'a> Polling<'a> {
    async fn open(bench: &'a Bench) -> Self {
        let client = reqwest::Client::new();
        let opening = client.get(Self::url(bench, "")).send().await.unwrap().text().await.unwrap();
        let opening: Value = serde_json::from_str(opening.strip_prefix('0').unwrap()).unwrap();
        assert_eq!(opening["upgrades"], json!(["websocket"]));
        let sid = opening["sid"].as_str().unwrap().to_owned();
        let polling = Self { bench, client, sid };
        assert_eq!(polling.poll().await, (200, "2".to_owned()));
        polling.post("3").await;
        polling
    }

    async fn connect(bench: &'a Bench, key: &str) -> Self {
        let polling = Self::open(bench).await;
        polling.post(&format!("40/events,{}", json!({ "apiKey": key }))).await;
        assert!(polling.poll().await.1.starts_with("40/events,"));
        polling
    }

    fn url(bench: &Bench, sid: &str) -> String {
        let sid = if sid.is_empty() { String::new() } else { format!("&sid={sid}") };
        format!("http://{}/socket.io/?EIO=4&transport=polling{sid}", bench.daemon().local_addr())
    }

    async fn poll(&self) -> (u16, String) {
        let answered = self.client.get(Self::url(self.bench, &self.sid)).timeout(PATIENCE).send().await.unwrap();
        (answered.status().as_u16(), answered.text().await.unwrap())
    }

    async fn post(&self, packets: &str) -> u16 {
        let post = self.client.post(Self::url(self.bench, &self.sid)).body(packets.to_owned());
        post.timeout(PATIENCE).send().await.unwrap().status().as_u16()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_polling_carries_the_same() {
    let (bench, groups) = ready_with_many().await;
    let polling = Polling::connect(&bench, KEY).await;
    let subscribe = json!(["message", { "type": "subscribe", "sessionId": "alice", "events": ["group.update"] }]);
    assert_eq!(
        polling.post(&format!("42/events,1{subscribe}\u{1e}42/events,2[\"message\",{{\"type\":\"ping\"}}]")).await,
        200
    );
    let mut replies = String::new();
    while replies.matches("43/events,").count() < 2 {
        replies += &polling.poll().await.1;
    }
    assert!(replies.contains("subscribed") && replies.contains("pong"), "{replies}");
    let given: BTreeSet<String> = (0..GROUPS).map(|number| format!("number {number}")).collect();
    for (group, name) in groups.iter().zip(&given) {
        bench.world.change_subject(group, BOB, name).unwrap();
    }
    let (mut names, mut sequences) = (BTreeSet::new(), Vec::new());
    while names.len() < GROUPS {
        for packet in polling.poll().await.1.split('\u{1e}') {
            if packet == "2" {
                assert_eq!(polling.post("3").await, 200);
            } else {
                let [_, message] =
                    serde_json::from_str::<[Value; 2]>(packet.strip_prefix("42/events,").unwrap()).unwrap();
                let data = &message["payload"]["data"];
                sequences.push(data["sequence"].as_u64().unwrap());
                names.insert(data["changes"]["name"].as_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(names, given);
    assert!(sequences.is_sorted() && sequences.len() == GROUPS, "{sequences:?}");
    // Two gets at once, and a post that is too large.
    assert_eq!(polling.post(&"x".repeat(600_000)).await, 413);
    // A ping that waits may answer one of them before the other comes.
    until("a refused get", async || {
        let (one, two) = tokio::join!(polling.poll(), polling.poll());
        [one.0, two.0].contains(&400).then_some(())
    })
    .await;
    assert_eq!(polling.poll().await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_to_a_websocket_is_tried_once_and_one_that_fails_ends_the_transport() {
    let bench = Bench::start().await;
    let polling = Polling::connect(&bench, KEY).await;
    let attempt = async || {
        let address = bench.daemon().local_addr();
        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket&sid={}", polling.sid);
        tokio_tungstenite::client_async(url, stream).await
    };
    let (mut stream, _) = attempt().await.unwrap();
    stream.send(Message::text("2probe")).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), Message::text("3probe"));
    assert!(attempt().await.is_err(), "there is one already");
    drop(stream);
    until("the end of the transport", async || (polling.poll().await.0 == 400).then_some(())).await;
    // What is no websocket.
    let url = format!("http://{}/socket.io/?EIO=4&transport=websocket", bench.daemon().local_addr());
    assert_eq!(polling.client.get(url).send().await.unwrap().status(), 400);
    let path = |path: &str| format!("http://{}/socket.io/{path}", bench.daemon().local_addr());
    for (url, status) in [
        (path(""), 400),
        (path("?EIO=3&transport=polling"), 400),
        (path("?EIO=4&transport=polling&sid=AAAA"), 400),
        (path("x"), 404),
    ] {
        assert_eq!(polling.client.get(&url).send().await.unwrap().status(), status, "{url}");
    }
    let delete = polling.client.request(Method::DELETE, path("?EIO=4&transport=polling")).send().await.unwrap();
    assert_eq!(delete.status(), 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_end_with_the_daemon_and_nobody_waits_for_them() {
    let (mut bench, group) = Bench::with_group().await;
    let mut socket = Socket::connect(&bench, KEY).await;
    let mut stranger = Socket::open(&bench, &[]).await;
    assert_eq!(socket.subscribe("*", json!(["*"])).await, "subscribed");
    let begun = Instant::now();
    bench.restart().await;
    assert!(socket.has_ended().await && stranger.has_ended().await);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    bench.until_status("alice", "ready").await;
    let mut socket = Socket::connect(&bench, KEY).await;
    assert_eq!(socket.subscribe("alice", json!(["group.update"])).await, "subscribed");
    bench.world.change_subject(&group, BOB, "later").unwrap();
    assert_eq!(socket.event().await["data"]["changes"]["name"], "later");
}
