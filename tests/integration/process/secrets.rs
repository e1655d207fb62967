//! P-1 from outside: with every log line on, nothing is written that readers of logs must not know.

use reqwest::Method;
use rookery_simulator::{AccountSpec, Addable, Fault, FaultKind, GroupSpec};
use serde_json::{Value, json};

use super::child::Signal;
use super::setup::{Daemon, KEY, OWN_PHONE, Setup, TIME_MAX, groups_of};

const WRONG_KEY: &str = "almost-the-right-key-9876543210-zyxwvu";
const SUBJECT: &str = "Quarterly layoffs planning";
const NEW_SUBJECT: &str = "Zebra crossing committee";
const DESCRIPTION: &str = "Bring the violet umbrella";
const NAME: &str = "Alexandra Featherstone";
const MEMBERS: [&str; 2] = ["15550100002", "15550100003"];
const CONTACT: &str = "628123456789";
const INVITE_ONLY: &str = "628987654321";
const NOT_ON_WHATSAPP: &str = "628111222333";
const OTHER_PHONE: &str = "15550100044";
/// Ids of old groups begin with the phone number of their creator.
const OLD_GROUP: &str = "15550100055-1400000000@g.us";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_at_trace_level() {
    let setup = Setup::start().await;
    let world = setup.world();
    world.add_account(AccountSpec { name: Some(NAME.into()), ..AccountSpec::new(OWN_PHONE) });
    world.add_account(AccountSpec::new(CONTACT));
    world.add_account(AccountSpec::new(OTHER_PHONE));
    world.add_account(AccountSpec { addable: Addable::InviteOnly, ..AccountSpec::new(INVITE_ONLY) });
    let group = setup.group(SUBJECT, &MEMBERS);
    let old = GroupSpec {
        id: Some(OLD_GROUP.into()),
        participants: vec![OWN_PHONE.into()],
        ..GroupSpec::new("Old", MEMBERS[0])
    };
    world.add_group(old);

    let daemon = setup.daemon_with(&[("ROOKERY_LOG", "trace")]).await;
    let mut secrets = Secrets::default();
    for secret in [KEY, WRONG_KEY, SUBJECT, NEW_SUBJECT, DESCRIPTION, NAME, "Renamed", OWN_PHONE, OTHER_PHONE] {
        secrets.add("given", secret);
    }
    for phone in [MEMBERS[0], MEMBERS[1], CONTACT, INVITE_ONLY, NOT_ON_WHATSAPP, "15550100055"] {
        secrets.add("phone number", phone);
    }
    link_by_qr(&daemon, &mut secrets).await;
    link_by_code(&daemon, &world, &mut secrets).await;
    call_every_group_route(&daemon, &group, &mut secrets).await;
    call_badly(&daemon, &group).await;
    make_a_key(&daemon, &mut secrets).await;
    // A reconnect after a lost connection logs more than the first connect.
    world.add_fault(OWN_PHONE, Fault { kind: FaultKind::Drop { apply: false, now: true }, iq: None, count: 1 });
    daemon.until_session("alice", "cut off", |now| (now["status"] != "ready").then_some(())).await;
    daemon.until_ready("alice").await;
    for account in world.snapshot()["accounts"].as_array().into_iter().flatten() {
        secrets.add("LID", account["lid"].as_str().expect("every account has a LID"));
    }

    for file in ["store.key", "api-keys.pepper"] {
        let content = std::fs::read_to_string(std::path::Path::new(&setup.data_dir()).join(file)).expect(file);
        secrets.add(file, content.trim());
    }

    daemon.child.signal(Signal::Terminate);
    assert_eq!(daemon.child.until_exit(TIME_MAX).await, Some(0));
    let output = daemon.child.output();
    let is_complete = ["TRACE", "session status changed", "DEBUG"].iter().all(|word| output.contains(word));
    assert!(is_complete, "the log is not at trace level:\n{output}");
    secrets.assert_none_in(&output);
}

/// The texts that must not be in the log, each with its kind.
#[derive(Default)]
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn add(&mut self, kind: &'static str, secret: &str) {
        assert!(secret.len() >= 3, "too short to be looked for: {kind} `{secret}`");
        self.0.push((kind, secret.to_owned()));
    }

    fn assert_none_in(&self, output: &str) {
        let mut leaks = Vec::new();
        for line in output.lines() {
            for (kind, secret) in self.0.iter().filter(|(_, secret)| line.contains(secret)) {
                leaks.push(format!("{kind} `{secret}` in: {line}"));
            }
        }
        assert!(leaks.is_empty(), "{} lines of the log hold a secret:\n{}", leaks.len(), leaks.join("\n"));
    }
}

async fn link_by_qr(daemon: &Daemon, secrets: &mut Secrets) {
    daemon.create_started("alice").await;
    let qr = daemon.scan("alice", OWN_PHONE).await;
    secrets.add("QR", &qr);
    // Beside the keys there are a version and a platform.
    for part in qr.split(',').filter(|part| part.len() > 16) {
        secrets.add("part of the QR", part);
    }
    daemon.until_ready("alice").await;
}

async fn link_by_code(daemon: &Daemon, world: &rookery_simulator::World, secrets: &mut Secrets) {
    daemon.create_started("bob").await;
    daemon.until_session("bob", "waiting for a phone", |now| (now["status"] == "qr_ready").then_some(())).await;
    let (status, answer) = daemon.post("/api/sessions/bob/pairing-code", json!({ "phoneNumber": OTHER_PHONE })).await;
    assert_eq!(status, 201, "{answer}");
    let code = answer["pairingCode"].as_str().expect("a code").to_owned();
    secrets.add("pairing code", &code);
    secrets.add("pairing code", &format!("{}-{}", &code[..4], &code[4..]));
    let phone = world.phone(OTHER_PHONE);
    // Typing the code costs a key derivation.
    tokio::task::spawn_blocking(move || phone.enter_code(&code)).await.expect("no panic").expect("the code is right");
    daemon.until_ready("bob").await;
}

async fn call_every_group_route(daemon: &Daemon, group: &str, secrets: &mut Secrets) {
    let path = |rest: &str| groups_of("alice", &format!("/{group}{rest}"));
    let participants = |phones: &[&str]| json!({ "participants": phones });
    let all = [CONTACT, INVITE_ONLY, NOT_ON_WHATSAPP];
    let created = daemon.post(&groups_of("alice", ""), json!({ "name": "Renamed", "participants": all })).await;
    secrets.add("invite code", &invite_code(daemon.get(&path("/invite-code")).await));
    secrets.add("invite code", &invite_code(daemon.post(&path("/invite-code/revoke"), json!({})).await));
    let answers = [
        daemon.get(&groups_of("alice", "?refresh=true")).await,
        daemon.get(&path("?refresh=true")).await,
        daemon.post(&path("/participants"), participants(&all)).await,
        daemon.post(&path("/participants/promote"), participants(&[CONTACT])).await,
        daemon.post(&path("/participants/demote"), participants(&[CONTACT])).await,
        daemon.delete(&path("/participants"), participants(&[MEMBERS[1]])).await,
        daemon.put(&path("/subject"), json!({ "subject": NEW_SUBJECT })).await,
        daemon.put(&path("/description"), json!({ "description": DESCRIPTION })).await,
        daemon.get(&path("")).await,
        daemon.get(&format!("/api/sessions/alice/contacts/check/{CONTACT}")).await,
        daemon.post("/api/sessions/alice/contacts/check", json!({ "numbers": all })).await,
        daemon.get(&groups_of("alice", &format!("/{OLD_GROUP}"))).await,
        daemon.post(&path("/leave"), json!({})).await,
    ];
    assert_eq!(created.0, 201, "{created:?}");
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:#?}");
}

/// Refusals are logged elsewhere than successes.
async fn call_badly(daemon: &Daemon, group: &str) {
    let old = |rest: &str| groups_of("alice", &format!("/{OLD_GROUP}{rest}"));
    let answers = [
        (403, daemon.post(&old("/participants"), json!({ "participants": [CONTACT] })).await),
        (403, daemon.get(&old("/invite-code")).await),
        (404, daemon.get(&groups_of("alice", &format!("/{group}"))).await),
        (400, daemon.get(&groups_of("alice", &format!("/{CONTACT}@c.us"))).await),
        (400, daemon.post(&old("/participants"), json!({ "participants": [format!("{CONTACT}@g.us")] })).await),
        (404, daemon.get(&format!("/api/people/{CONTACT}?key={KEY}")).await),
    ];
    for (expected, (status, answer)) in answers {
        assert_eq!(status, expected, "{answer}");
    }
    let refused = daemon.try_request_with(WRONG_KEY, Method::GET, "/api/sessions", None).await;
    assert_eq!(refused.expect("an answer").0, 401);
}

async fn make_a_key(daemon: &Daemon, secrets: &mut Secrets) {
    let (status, made) = daemon.post("/api/auth/api-keys", json!({ "name": "another", "role": "viewer" })).await;
    assert_eq!(status, 201, "{made}");
    let key = made["apiKey"].as_str().expect("shown this once").to_owned();
    let listed = daemon.try_request_with(&key, Method::GET, "/api/sessions", None).await;
    assert_eq!(listed.expect("an answer").0, 200);
    secrets.add("API key", &key);
    let rotate = format!("/api/auth/api-keys/{}/rotate", made["id"].as_str().expect("an id"));
    let (status, rotated) = daemon.post(&rotate, json!({ "graceSeconds": 60 })).await;
    assert_eq!(status, 200, "{rotated}");
    secrets.add("rotated API key", rotated["apiKey"].as_str().expect("shown this once"));
    for path in ["/api/audit", "/api/audit/verify"] {
        assert_eq!(daemon.get(path).await.0, 200, "{path}");
    }
}

fn invite_code((status, answer): (u16, Value)) -> String {
    assert_eq!(status, 200, "{answer}");
    answer["inviteCode"].as_str().expect("a code").to_owned()
}
