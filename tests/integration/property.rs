//! Random requests of two sessions and of somebody else, with faults in between: after every step the daemon's answer,
//! the simulated WhatsApp and what both sessions show agree. The seed is printed when a run fails; `ROOKERY_TEST_SEED`
//! repeats it.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use rookery_simulator::{
    Addressing, Fault, FaultKind, GroupSpec, GroupView, JoinMethod, ParticipantChange, Role, Setting,
};
use serde_json::{Value, json};

use crate::harness::{ALICE, Answer, BOB, Bench, CAROL, DAVE, until_equal};

const STEPS: usize = 150;
const ERIN: &str = "15550100005";
const NOBODY: &str = "15550100099";
const PEOPLE: [&str; 6] = [ALICE, BOB, CAROL, DAVE, ERIN, NOBODY];
/// The accounts with sessions, and their sessions' names.
const SESSIONS: [(&str, &str); 2] = [("alice", ALICE), ("bob", BOB)];
/// Groups at any time: more would only make each step longer.
const GROUPS_MAX: usize = 6;

struct Run {
    bench: Bench,
    rng: StdRng,
    /// The step cuts the connection. After several cuts in a row the session is not back in time to ask WhatsApp.
    disconnects: bool,
    /// What was done, to find the cause of a failure.
    log: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_whatsapp_and_both_sessions_agree_after_every_step() {
    let bench = Bench::with(|config| config.whatsapp_timeout_ms = 500).await;
    let rng = StdRng::seed_from_u64(bench.seed());
    let mut run = Run { bench, rng, disconnects: false, log: Vec::new() };
    run.bench.world.phone(ERIN);
    for addressing in [Addressing::Lid, Addressing::Pn] {
        let participants = [BOB, CAROL, DAVE].map(str::to_owned).to_vec();
        run.bench.world.add_group(GroupSpec { participants, addressing, ..GroupSpec::new("Team", ALICE) });
    }
    for (name, phone) in SESSIONS {
        run.bench.link(name, phone).await;
    }
    for step in 0..STEPS {
        let failed = std::panic::AssertUnwindSafe(run.step());
        if let Err(panic) = futures_util::FutureExt::catch_unwind(failed).await {
            let log = &run.log[run.log.len().saturating_sub(12)..];
            let seed = run.bench.seed();
            #[expect(clippy::print_stderr, reason = "a failed run has to be repeatable")]
            {
                eprintln!("step {step}, ROOKERY_TEST_SEED={seed}; the last ones:\n{}", log.join("\n"));
            }
            std::panic::resume_unwind(panic);
        }
    }
}

impl Run {
    async fn step(&mut self) {
        if self.rng.random_bool(0.35) {
            self.somebody_else();
        } else {
            self.a_session().await;
        }
        for (name, phone) in SESSIONS {
            self.shows_the_world(name, phone).await;
        }
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        *all.choose(&mut self.rng).unwrap()
    }

    fn a_group(&mut self) -> Option<GroupView> {
        let groups = self.bench.world.groups();
        groups.choose(&mut self.rng).cloned()
    }

    fn some_participants(&mut self) -> Vec<&'static str> {
        let count = self.rng.random_range(1..=3);
        PEOPLE.sample(&mut self.rng, count).copied().collect()
    }

    fn a_setting(&mut self) -> Setting {
        let on = self.rng.random();
        match self.rng.random_range(0..6) {
            0 => Setting::Announce(on),
            1 => Setting::Locked(on),
            2 => Setting::Ephemeral(on.then_some(86_400)),
            3 => Setting::MembersAdd(on),
            4 => Setting::NoFrequentlyForwarded(on),
            _ => Setting::Approval(on),
        }
    }

    /// A phone or another device changes something. A change that WhatsApp refuses has no effect.
    fn somebody_else(&mut self) {
        let Some(group) = self.a_group() else { return };
        let (gid, actor) = (group.id.as_str(), self.one_of(&PEOPLE[..5]));
        let (participants, setting) = (self.some_participants(), self.a_setting());
        let number = self.rng.random_range(0..1_000_000);
        let world = self.bench.world.clone();
        let what = self.rng.random_range(0..10);
        let done = match what {
            0 | 1 => world.change_participants(gid, ParticipantChange::Add, actor, &participants),
            2 => world.change_participants(gid, ParticipantChange::Remove, actor, &participants),
            3 => world.change_participants(gid, ParticipantChange::Promote, actor, &participants),
            4 => world.change_participants(gid, ParticipantChange::Demote, actor, &participants),
            5 => world.change_subject(gid, actor, &format!("subject {number}")),
            6 => world.change_description(gid, actor, (number % 3 > 0).then_some("about")),
            7 => world.change_setting(gid, actor, setting),
            8 => world.request_to_join(gid, actor),
            _ if group.participants.len() > 3 => world.leave(gid, actor),
            _ => Ok(()),
        };
        self.log.push(format!("{actor} elsewhere: {what} in {gid} with {participants:?} {setting:?}: {done:?}"));
    }

    /// A session does something, perhaps while WhatsApp misbehaves.
    async fn a_session(&mut self) {
        let (session, phone) = self.one_of(&SESSIONS);
        let groups = format!("/sessions/{session}/groups");
        let fault = self.a_fault();
        if let Some(fault) = fault {
            self.bench.world.add_fault(phone, Fault::new(fault));
        }
        if self.rng.random_bool(0.1) {
            let slow = Fault::new(FaultKind::Slow { delay_ms: 200 }).at("w:g2:query").times(3);
            self.bench.world.add_fault(phone, slow);
        }
        self.disconnects = matches!(fault, Some(FaultKind::Drop { .. }));
        let group = self.a_group();
        let what = self.rng.random_range(0..12);
        self.log.push(format!("{session}: {what} in {:?}, {fault:?}", group.as_ref().map(|group| &group.id)));
        match (what, group) {
            (0, _) if self.bench.world.groups().len() < GROUPS_MAX => self.create(&groups).await,
            (1..=5, Some(group)) => self.change_participants(&groups, &group).await,
            (6, Some(group)) => self.change_text(&groups, &group, "subject").await,
            (7, Some(group)) => self.change_text(&groups, &group, "description").await,
            (8, Some(group)) => self.change_setting(&groups, &group).await,
            (9, Some(group)) if group.participants.len() > 3 => self.leave(&groups, &group, phone).await,
            (10, Some(group)) => self.join(&groups, &group, phone).await,
            (11, Some(group)) => self.decide(&groups, &group).await,
            _ => {}
        }
        self.bench.world.clear_faults(phone);
        self.bench.until_status(session, "ready").await;
    }

    fn a_fault(&mut self) -> Option<FaultKind> {
        let apply = self.rng.random();
        match self.rng.random_range(0..20) {
            0 => Some(FaultKind::Silence { apply }),
            1 => Some(FaultKind::Drop { apply, now: false }),
            2 => Some(FaultKind::Slow { delay_ms: 50 }),
            3 => Some(FaultKind::Refuse { code: 500, backoff_s: None }),
            _ => None,
        }
    }

    fn now(&self, group: &GroupView) -> GroupView {
        self.bench.world.group(&group.id).unwrap()
    }

    async fn call(&mut self, method: Method, path: &str, body: Value) -> Answer {
        let answer = self.bench.call(method.clone(), path, Some(body.clone())).await;
        self.log.push(format!("  {method} {path} {body} -> {} {}", answer.status, answer.body));
        if answer.body["code"] == "outcome_unknown" {
            assert!(self.disconnects, "there was somebody to ask: {answer:?}");
        }
        assert_ne!(answer.status, 500, "{answer:?}");
        answer
    }

    async fn create(&mut self, groups: &str) {
        let (before, participants) = (self.bench.world.groups().len(), self.some_participants());
        let answer = self.call(Method::POST, groups, json!({ "name": "Made", "participants": participants })).await;
        let made = self.bench.world.groups().len() - before;
        assert!(is_unknown(&answer) || made == usize::from(answer.status == 201), "{answer:?}");
        if answer.status == 201 {
            let group = self.bench.world.group(answer.body["id"].as_str().unwrap()).unwrap();
            self.results_are_true(&answer, &group, |member| member.is_some());
        }
    }

    async fn change_participants(&mut self, groups: &str, group: &GroupView) {
        type IsTrue = fn(Option<Role>) -> bool;
        let changes: [(Method, &str, IsTrue); 4] = [
            (Method::POST, "", |role| role.is_some()),
            (Method::DELETE, "", |role| role.is_none()),
            (Method::POST, "/promote", |role| role.is_some_and(|role| role != Role::Member)),
            (Method::POST, "/demote", |role| role == Some(Role::Member)),
        ];
        let (method, route, is_true) = changes.choose(&mut self.rng).cloned().unwrap();
        let mut participants: Vec<String> = self.some_participants().into_iter().map(str::to_owned).collect();
        if self.rng.random_bool(0.2) {
            participants.extend(self.twin_of(&participants[0]));
        }
        let path = format!("{groups}/{}/participants{route}", group.id);
        let answer = self.call(method, &path, json!({ "participants": participants })).await;
        let now = self.now(group);
        if answer.body["results"].is_array() {
            self.results_are_true(&answer, &now, is_true);
        } else if !is_unknown(&answer) {
            assert_ne!(answer.status, 200);
            assert_eq!(now.participants, group.participants, "refused, and yet changed: {answer:?}");
        }
    }

    /// The person's LID.
    fn twin_of(&self, phone: &str) -> Option<String> {
        let snapshot = self.bench.world.snapshot();
        let account = snapshot["accounts"].as_array()?.iter().find(|account| account["phone"] == phone)?.clone();
        Some(format!("{}@lid", account["lid"].as_str()?))
    }

    /// Each person whose result is a success is as the request asked for.
    fn results_are_true(&self, answer: &Answer, group: &GroupView, is_true: impl Fn(Option<Role>) -> bool) {
        let mut named = BTreeSet::new();
        for result in answer.body["results"].as_array().unwrap() {
            let id = result["id"].as_str().unwrap();
            assert!(named.insert(id), "one result a person: {answer:?}");
            let number = id.split('@').next().unwrap();
            let member = group.participants.iter().find(|member| member.phone == number || member.lid == number);
            if result["success"] == true {
                assert!(is_true(member.map(|member| member.role)), "{result} is not true of {group:?}");
            }
        }
    }

    async fn change_text(&mut self, groups: &str, group: &GroupView, field: &str) {
        let text = format!("Umbrella {field} {}", self.rng.random_range(0..1_000_000));
        let answer = self.call(Method::PUT, &format!("{groups}/{}/{field}", group.id), json!({ field: text })).await;
        let now = self.now(group);
        let has_it = now.subject == text || now.description.as_deref() == Some(&text);
        assert!(is_unknown(&answer) || has_it == (answer.status == 200), "{answer:?}");
    }

    async fn change_setting(&mut self, groups: &str, group: &GroupView) {
        let (one, other) = (self.rng.random::<bool>(), self.rng.random::<bool>());
        let body = json!({ "announce": one, "locked": other });
        let answer = self.call(Method::PUT, &format!("{groups}/{}/settings", group.id), body).await;
        let now = self.now(group);
        if answer.status == 200 {
            assert_eq!((now.announce, now.locked), (one, other), "{answer:?}");
        } else if !is_unknown(&answer) {
            let applied = answer.body["settings"]["applied"] == json!(["announce"]);
            let expected = (if applied { one } else { group.announce }, group.locked);
            assert_eq!((now.announce, now.locked), expected, "{answer:?}");
        }
    }

    async fn leave(&mut self, groups: &str, group: &GroupView, phone: &str) {
        let answer = self.call(Method::POST, &format!("{groups}/{}/leave", group.id), json!({})).await;
        let was_in = group.participants.iter().any(|member| member.phone == phone);
        let is_in = self.now(group).participants.iter().any(|member| member.phone == phone);
        assert!(is_unknown(&answer) || is_in == (was_in && answer.status != 200), "{answer:?}");
    }

    async fn join(&mut self, groups: &str, group: &GroupView, phone: &str) {
        let body = json!({ "inviteCode": group.invite_code });
        let answer = self.call(Method::POST, &format!("{groups}/join"), body).await;
        let now = self.now(group);
        let is_in = now.participants.iter().any(|member| member.phone == phone);
        if answer.status == 200 {
            let pending = answer.body["status"] == "pending_approval";
            let asked = now.join_requests.iter().any(|r| r.phone == phone && r.method == JoinMethod::InviteLink);
            assert!(if pending { asked } else { is_in }, "{answer:?} {now:?}");
        } else if !is_unknown(&answer) {
            assert_eq!(is_in, group.participants.iter().any(|member| member.phone == phone), "{answer:?}");
        }
    }

    async fn decide(&mut self, groups: &str, group: &GroupView) {
        let decision = self.one_of(&["approve", "reject"]);
        let path = format!("{groups}/{}/membership-requests/{decision}", group.id);
        let answer = self.call(Method::POST, &path, json!({})).await;
        let now = self.now(group);
        if answer.body["results"].is_array() {
            self.results_are_true(&answer, &now, |role| role.is_some() == (decision == "approve"));
        } else if !is_unknown(&answer) {
            assert_eq!(now.join_requests, group.join_requests, "{answer:?}");
        }
    }

    /// The session lists just the groups that its account is in, and shows each as WhatsApp has it.
    async fn shows_the_world(&self, session: &str, phone: &str) {
        let is_in = |group: &GroupView| group.participants.iter().any(|member| member.phone == phone);
        let mine: Vec<GroupView> = self.bench.world.groups().into_iter().filter(is_in).collect();
        let expected: BTreeSet<String> = mine.iter().map(|group| group.id.clone()).collect();
        let groups = format!("/sessions/{session}/groups");
        until_equal(expected, async || {
            let list = self.bench.get(&groups).await.body;
            list.as_array().into_iter().flatten().map(|group| group["id"].as_str().unwrap().to_owned()).collect()
        })
        .await;
        for group in mine {
            until_equal(of_world(&group), async || of_answer(&self.bench.get(&format!("{groups}/{}", group.id)).await))
                .await;
        }
    }
}

/// The answer claims nothing.
fn is_unknown(answer: &Answer) -> bool {
    answer.body["code"] == "outcome_unknown"
}

/// A group as the simulator has it, in the words of the API.
fn of_world(group: &GroupView) -> Value {
    let mut members: Vec<Value> = group
        .participants
        .iter()
        .map(|member| json!([member.phone, member.role != Role::Member, member.role == Role::SuperAdmin]))
        .collect();
    members.sort_by_key(Value::to_string);
    let who = |all: bool| if all { "all" } else { "admins" };
    json!({
        "name": group.subject,
        "description": group.description,
        "members": members,
        "announce": group.announce,
        "locked": group.locked,
        "ephemeralSeconds": group.ephemeral_s,
        "memberAddMode": who(group.members_add),
        "membershipApproval": group.approval,
        "noFrequentlyForwarded": group.no_frequently_forwarded,
    })
}

fn of_answer(answer: &Answer) -> Value {
    let group = &answer.body;
    let participants = group["participants"].as_array().into_iter().flatten();
    let mut members: Vec<Value> =
        participants.map(|person| json!([person["number"], person["isAdmin"], person["isSuperAdmin"]])).collect();
    members.sort_by_key(Value::to_string);
    json!({
        "name": group["name"],
        "description": group["description"],
        "members": members,
        "announce": group["announce"],
        "locked": group["locked"],
        "ephemeralSeconds": group["ephemeralSeconds"],
        "memberAddMode": group["memberAddMode"],
        "membershipApproval": group["membershipApproval"],
        "noFrequentlyForwarded": group["noFrequentlyForwarded"],
    })
}
