//! Who may call which route: every route of the document with every kind of key. A route without a line here fails the
//! test. Sessions are not started, so that admitted calls end with their refusal and change nothing at WhatsApp.

use std::time::Duration;

use rookery_model::{SessionId, Timestamp};

use super::*;
use crate::auth::{Key, KeyChange};

const GROUP: &str = "120363021234567890@g.us";
const OTHER_GROUP: &str = "120363021234567891@g.us";

/// The role that a route needs, how far the route reaches, and the status code for a key that may call it.
#[derive(Copy, Clone)]
struct Line {
    role: Option<Role>,
    scope: Scope,
    served: u16,
}

const fn open() -> Line {
    Line { role: None, scope: Scope::Path, served: 200 }
}

const fn viewer(served: u16) -> Line {
    Line { role: Some(Role::Viewer), scope: Scope::Path, served }
}

const fn operator(scope: Scope, served: u16) -> Line {
    Line { role: Some(Role::Operator), scope, served }
}

const fn admin(served: u16) -> Line {
    Line { role: Some(Role::Admin), scope: Scope::Everything, served }
}

/// 400 is `session_not_started`, or a body without a needed field.
fn line(route: &str) -> Line {
    use Scope::{Everything, Membership, Path, Session};
    let (method, path) = route.split_once(' ').unwrap();
    match (method, path.strip_prefix("/api").unwrap()) {
        ("get", "/health" | "/health/live" | "/health/ready" | "/docs" | "/docs-json") => open(),
        ("post", "/auth/validate") => viewer(200),
        ("get", "/auth/api-keys" | "/audit" | "/audit/verify") => admin(200),
        ("post", "/auth/api-keys") => admin(400),
        ("get" | "put" | "delete", "/auth/api-keys/{key}") => admin(404),
        ("post", "/auth/api-keys/{key}/revoke" | "/auth/api-keys/{key}/rotate") => admin(404),
        ("get", "/events" | "/sessions" | "/sessions/stats/overview") => viewer(200),
        ("post", "/sessions") => operator(Everything, 400),
        ("get", "/sessions/{session}" | "/sessions/{session}/config") => viewer(200),
        ("delete", "/sessions/{session}") => operator(Session, 204),
        ("post", "/sessions/{session}/start" | "/sessions/{session}/stop") => operator(Session, 200),
        ("post", "/sessions/{session}/logout" | "/sessions/{session}/pairing-code") => operator(Session, 400),
        ("post", "/sessions/{session}/force-kill") => operator(Session, 400),
        ("get", "/sessions/{session}/qr") => operator(Session, 400),
        ("patch", "/sessions/{session}/config") => operator(Session, 200),
        ("get", "/sessions/{session}/proxy") => operator(Session, 200),
        ("patch", "/sessions/{session}/proxy") => operator(Everything, 400),
        ("get", "/sessions/{session}/passkey") => operator(Session, 404),
        ("post", "/sessions/{session}/passkey") => operator(Session, 400),
        ("post", "/sessions/{session}/passkey/confirm") => operator(Session, 404),
        ("get", "/sessions/{session}/limits" | "/sessions/{session}/events") => viewer(200),
        ("put", "/sessions/{session}/presence") => operator(Session, 400),
        (_, path) if path.starts_with("/sessions/{session}/chats/") => operator(Session, 400),
        (_, path) if path.starts_with("/sessions/{session}/profile/") => operator(Session, 400),
        ("get", "/sessions/{session}/webhooks" | "/webhooks") => operator(Path, 200),
        ("post", "/sessions/{session}/webhooks") => operator(Path, 400),
        ("post", "/sessions/{session}/webhooks/{webhook}/replay") => operator(Path, 400),
        ("post", "/webhooks/{webhook}/replay") => operator(Everything, 400),
        (_, path) if path.starts_with("/sessions/{session}/webhooks/{webhook}") => operator(Path, 404),
        ("post", "/webhooks") => operator(Everything, 400),
        ("get", "/webhooks/delivery-failures") => Line { role: Some(Role::Admin), ..operator(Path, 200) },
        ("post", "/webhooks/delivery-failures/redrive") => Line { role: Some(Role::Admin), ..operator(Path, 200) },
        (_, path) if path.starts_with("/webhooks/{webhook}") => operator(Everything, 404),
        ("get", "/sessions/{session}/groups/join-info") => Line { scope: Membership, ..viewer(400) },
        ("get", "/sessions/{session}/contacts/check/{number}") => operator(Session, 400),
        ("post", "/sessions/{session}/contacts/check") => operator(Session, 400),
        ("post", "/sessions/{session}/messages/batch/{batch}/cancel") => operator(Path, 404),
        ("get", "/sessions/{session}/messages/batch/{batch}") => viewer(404),
        ("post", path) if path.starts_with("/sessions/{session}/messages/") => operator(Path, 400),
        ("get", "/sessions/{session}/messages" | "/sessions/{session}/messages/{chat}/history") => viewer(200),
        ("get", "/sessions/{session}/messages/{chat}/{message}/reactions") => viewer(404),
        ("get", "/sessions/{session}/messages/{chat}/{message}/media") => viewer(404),
        ("get", "/sessions/{session}/messages/{chat}/{message}/receipts") => viewer(404),
        ("get", "/sessions/{session}/messages/{chat}/{message}/votes") => viewer(404),
        ("get", "/sessions/{session}/groups/{group}/history" | "/sessions/{session}/groups/{group}/history.csv") => {
            viewer(200)
        }
        ("get", path) if path.starts_with("/sessions/{session}/") => viewer(400),
        ("post", "/sessions/{session}/groups" | "/sessions/{session}/groups/join") => operator(Membership, 400),
        ("post", "/sessions/{session}/groups/{group}/leave") => operator(Membership, 400),
        ("post", "/sessions/{session}/communities") => operator(Membership, 400),
        ("post", "/sessions/{session}/communities/{community}/groups") => operator(Membership, 400),
        ("post", "/sessions/{session}/communities/{community}/deactivate") => operator(Membership, 400),
        ("post" | "delete", "/sessions/{session}/communities/{community}/links") => operator(Path, 400),
        ("put", path) if path.starts_with("/sessions/{session}/groups/{group}/") => operator(Path, 400),
        ("delete", "/sessions/{session}/groups/{group}/picture") => operator(Path, 400),
        ("post" | "delete", "/sessions/{session}/groups/{group}/participants") => operator(Path, 400),
        ("post", path) if path.starts_with("/sessions/{session}/groups/{group}/") => operator(Path, 400),
        _ => panic!("{route} has no line here: who may call it?"),
    }
}

/// A kind of key, with one such key and the routes that refuse it.
struct Caller {
    kind: &'static str,
    secret: String,
    refusal: Refusals,
}

/// The routes that refuse a kind of key.
#[derive(Copy, Clone, PartialEq)]
enum Refusals {
    /// All routes: the key itself is refused.
    Always,
    /// Routes that need a role above this one.
    Above(Role),
    /// Routes of every other session.
    OtherSession,
    /// Routes of every other group.
    OtherGroup {
        /// The key may make, join and leave groups.
        creates: bool,
    },
}

impl Refusals {
    /// The status code that this kind of key gets from this route.
    fn expected(self, line: Line, path: &str) -> u16 {
        let Some(role) = line.role else { return line.served };
        let names_group = ["{group}", "{community}", "{chat}"].iter().any(|name| path.contains(name));
        match self {
            Self::Always => 401,
            Self::Above(own) if own < role => 403,
            Self::Above(_) => line.served,
            Self::OtherSession if line.scope == Scope::Everything => 403,
            Self::OtherSession if path.contains("{session}") => 401,
            Self::OtherGroup { .. } if matches!(line.scope, Scope::Session | Scope::Everything) => 403,
            Self::OtherGroup { creates: false } if line.scope == Scope::Membership => 403,
            Self::OtherGroup { .. } if names_group => 401,
            Self::OtherSession | Self::OtherGroup { .. } => line.served,
        }
    }
}

impl Fixture {
    async fn terms(&self, terms: KeyTerms) -> (Arc<Key>, String) {
        let (key, secret) = self.app.keys.create(terms).await.unwrap();
        (key, secret.reveal().to_owned())
    }

    /// One caller of each kind; `other` is a session outside of their scopes.
    async fn callers(&self, other: SessionId) -> Vec<Caller> {
        let admin = || KeyTerms { role: Role::Admin, ..KeyTerms::named("alice") };
        let keys = &self.app.keys;
        // Without this admin key, the next one could not be revoked.
        self.terms(admin()).await;
        let (revoked, revoked_secret) = self.terms(admin()).await;
        keys.revoke(revoked.id()).await.unwrap();
        let (expired, expired_secret) = self.terms(admin()).await;
        let past = KeyChange { expires_at: Some(Some(Timestamp(Timestamp::now().0 - 1))), ..KeyChange::default() };
        keys.update(expired.id(), past).await.unwrap();
        let (rotated, rotated_secret) = self.terms(admin()).await;
        keys.rotate(rotated.id(), Duration::ZERO).await.unwrap();
        let elsewhere = KeyTerms { allowed_ips: vec!["192.0.2.0/24".parse().unwrap()], ..admin() };
        let other_session = KeyTerms { allowed_sessions: vec![other], ..admin() };
        let groups = || Some([OTHER_GROUP.parse().unwrap()].into());
        let other_group = KeyTerms { allowed_groups: groups(), ..admin() };
        let creator = KeyTerms { allowed_groups: groups(), allow_group_creation: true, ..admin() };
        let of = |role| KeyTerms { role, ..admin() };
        let mut callers = vec![
            ("no key", String::new(), Refusals::Always),
            ("a wrong key", "rk_wrong".into(), Refusals::Always),
            ("a revoked key", revoked_secret, Refusals::Always),
            ("an expired key", expired_secret, Refusals::Always),
            ("a key before its rotation", rotated_secret, Refusals::Always),
        ];
        for (kind, terms, refusal) in [
            ("a key from elsewhere", elsewhere, Refusals::Always),
            ("a viewer", of(Role::Viewer), Refusals::Above(Role::Viewer)),
            ("a key of another session", other_session, Refusals::OtherSession),
            ("a key of another group", other_group, Refusals::OtherGroup { creates: false }),
            ("a key of another group that makes some", creator, Refusals::OtherGroup { creates: true }),
            ("an operator", of(Role::Operator), Refusals::Above(Role::Operator)),
            ("an admin", admin(), Refusals::Above(Role::Admin)),
        ] {
            callers.push((kind, self.terms(terms).await.1, refusal));
        }
        callers.into_iter().map(|(kind, secret, refusal)| Caller { kind, secret, refusal }).collect()
    }
}

#[tokio::test]
async fn every_route_lets_in_who_may_call_it_and_nobody_else() {
    let mut options = HttpOptions::default();
    (options.limits.key_rate, options.limits.failed_logins) = (None, None);
    let fixture = Fixture::with(options).await;
    fixture.session("other").await;
    let callers = fixture.callers(fixture.app.gateway.find("other").unwrap()).await;
    let document = openapi::document(routes());
    let mut cells = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let line = line(&format!("{method} {path}"));
            assert_eq!(operation["x-required-role"].as_str(), line.role.map(Role::as_str), "{method} {path}");
            for caller in &callers {
                // Each cell has a session of its own, so that no cell depends on what another one did.
                let session = format!("alice-{cells}");
                fixture.session(&session).await;
                let there = path.replace("{session}", &session).replace("{key}", UNKNOWN_ID);
                let there =
                    ["{group}", "{community}", "{chat}"].iter().fold(there, |all, name| all.replace(name, GROUP));
                let there = there.replace("{number}", "15550100001");
                let request = format!("{} {there}", method.to_uppercase());
                let status = fixture.send(&request, &caller.secret, "").await.status().as_u16();
                assert_eq!(status, caller.refusal.expected(line, path), "{request} with {}", caller.kind);
                cells += 1;
            }
        }
    }
    assert_eq!(cells, routes().len() * callers.len());
    fixture.running.shutdown().await;
}

#[tokio::test]
async fn what_a_key_may_not_touch_is_the_same_whether_or_not_it_is_there() {
    let fixture = Fixture::start().await;
    fixture.session("alice").await;
    let terms = KeyTerms { allowed_groups: Some([GROUP.parse().unwrap()].into()), ..KeyTerms::named("alice") };
    let key = fixture.key_with(terms).await;
    let answer = async |path: &str| {
        let response = fixture.send(&format!("GET /api/sessions/alice/{path}"), &key, "").await;
        (response.status().as_u16(), body_of(response).await["code"].as_str().unwrap_or_default().to_owned())
    };
    let [own, other] = [GROUP, OTHER_GROUP].map(|group| group.replace('@', "%40"));
    assert_eq!(answer(&format!("groups/{own}")).await, (400, "session_not_started".into()));
    assert_eq!(answer(&format!("groups/{other}")).await, (401, "group_not_allowed".into()));
    assert_eq!(answer(&format!("groups/{OTHER_GROUP}/")).await, (401, "group_not_allowed".into()));
    assert_eq!(answer(&format!("communities/{other}")).await, (401, "group_not_allowed".into()));
    assert_eq!(answer("groups/family").await, (400, "invalid_group_id".into()));
    fixture.running.shutdown().await;
}

#[tokio::test]
async fn a_key_is_changed_rotated_and_revoked_over_http() {
    let fixture = Fixture::start().await;
    fixture.session("alice").await;
    let admin = fixture.key(Role::Admin, &[]).await;
    let made = body_of(fixture.send("POST /api/auth/api-keys", &admin, r#"{"name":"bob"}"#).await).await;
    let (id, first) = (made["id"].as_str().unwrap(), made["apiKey"].as_str().unwrap());
    let one = format!("/api/auth/api-keys/{id}");
    let status = async |key: &str| fixture.send("GET /api/sessions/alice", key, "").await.status().as_u16();

    let change = r#"{"role":"viewer","allowedSessions":["alice"],"allowedGroups":["1@g.us"]}"#;
    let changed = body_of(fixture.send(&format!("PUT {one}"), &admin, change).await).await;
    let id_of_alice = fixture.app.gateway.find("alice").unwrap();
    assert_eq!(
        json!([changed["role"], changed["allowedSessions"], changed["allowedGroups"], changed["allowGroupCreation"]]),
        json!(["viewer", [id_of_alice], ["1@g.us"], false])
    );
    let rotate = async |body: &str| {
        let response = fixture.send(&format!("POST {one}/rotate"), &admin, body).await;
        assert_eq!(response.status(), StatusCode::OK);
        body_of(response).await
    };
    let rotated = rotate("").await;
    let second = rotated["apiKey"].as_str().unwrap();
    assert!(rotated["previousKeyExpiresAt"].is_string());
    assert_eq!([status(first).await, status(second).await], [200, 200]);
    let rotated = rotate(r#"{"graceSeconds":0}"#).await;
    assert!(rotated.get("previousKeyExpiresAt").is_none());
    assert_eq!([status(first).await, status(second).await], [401, 401]);
    let third = rotated["apiKey"].as_str().unwrap();
    let too_long = fixture.send(&format!("POST {one}/rotate"), &admin, r#"{"graceSeconds":2592001}"#).await;
    assert_eq!(body_of(too_long).await["message"][0], "graceSeconds must not be greater than 2592000");

    let revoked = body_of(fixture.send(&format!("POST {one}/revoke"), &admin, "").await).await;
    assert_eq!((&revoked["isActive"], status(third).await), (&json!(false), 401));
    let again = fixture.send(&format!("POST {one}/rotate"), &admin, "").await;
    assert_eq!(body_of(again).await["code"], "api_key_revoked");
    let list = body_of(fixture.send("GET /api/auth/api-keys", &admin, "").await).await;
    assert_eq!(list.as_array().map(Vec::len), Some(2));
    fixture.running.shutdown().await;
}
