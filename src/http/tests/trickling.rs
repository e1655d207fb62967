//! A request whose head was let in and whose body comes later: all checks are made again before anything is done.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use rookery_model::Timestamp;
use tokio::sync::mpsc::{Sender, channel};

use super::*;
use crate::auth::KeyChange;

const GROUP: &str = "120363021234567890@g.us";
const BODY: &str = r#"{"name":"made-meanwhile"}"#;

/// The change of the key while the body came.
#[derive(Copy, Clone, Debug)]
enum Meanwhile {
    Nothing,
    Revoked,
    Deleted,
    Expired,
    Rotated,
    RoleLowered,
    OtherSession,
    OtherGroup,
    OtherAddress,
    SessionReplaced,
}

impl Fixture {
    /// A request whose body comes in pieces.
    fn begun(&self, line: &str, key: &str) -> (Request<Body>, Sender<Result<Bytes, Infallible>>) {
        let (method, path) = line.split_once(' ').unwrap();
        let (sender, body) = channel::<Result<Bytes, Infallible>>(2);
        let body = futures_util::stream::unfold(body, async |mut body| body.recv().await.map(|part| (part, body)));
        let request = Request::builder().method(method).uri(path).header("x-api-key", key);
        (request.body(Body::from_stream(body)).unwrap(), sender)
    }

    async fn happen(&self, what: Meanwhile, id: uuid::Uuid) {
        let keys = &self.app.keys;
        let change = match what {
            Meanwhile::Nothing => return,
            Meanwhile::Revoked => return drop(keys.revoke(id).await.unwrap()),
            Meanwhile::Deleted => return keys.remove(id).await.unwrap(),
            Meanwhile::Rotated => return drop(keys.rotate(id, Duration::ZERO).await.unwrap()),
            Meanwhile::SessionReplaced => {
                self.app.gateway.delete_session(self.app.gateway.find("alice").unwrap()).await.unwrap();
                return self.session("alice").await;
            }
            Meanwhile::Expired => KeyChange { expires_at: Some(Some(Timestamp(1))), ..KeyChange::default() },
            Meanwhile::RoleLowered => KeyChange { role: Some(Role::Viewer), ..KeyChange::default() },
            Meanwhile::OtherSession => {
                let bob = self.app.gateway.find("bob").unwrap();
                KeyChange { allowed_sessions: Some(vec![bob]), ..KeyChange::default() }
            }
            Meanwhile::OtherGroup => {
                let other = ["1@g.us".parse().unwrap()].into();
                KeyChange { allowed_groups: Some(Some(other)), ..KeyChange::default() }
            }
            Meanwhile::OtherAddress => {
                KeyChange { allowed_ips: Some(vec!["192.0.2.0/24".parse().unwrap()]), ..KeyChange::default() }
            }
        };
        keys.update(id, change).await.unwrap();
    }
}

/// Method, path, and the status code of a call that is let in with a body of no use.
fn routes_with_bodies() -> [(&'static str, u16); 6] {
    [
        ("POST /api/auth/api-keys", 201),
        ("POST /api/sessions", 201),
        ("PATCH /api/sessions/alice/config", 400),
        ("POST /api/sessions/alice/stop", 200),
        ("PUT /api/sessions/alice/groups/120363021234567890@g.us/subject", 400),
        ("PUT /api/sessions/alice/groups/120363021234567890@g.us/picture", 400),
    ]
}

/// The status code of a call after this change.
fn expected(what: Meanwhile, line: &str, served: u16) -> u16 {
    let (of_session, of_group) = (line.contains("/alice"), line.contains(GROUP));
    match what {
        Meanwhile::Nothing => served,
        Meanwhile::Revoked | Meanwhile::Deleted | Meanwhile::Expired => 401,
        Meanwhile::Rotated | Meanwhile::OtherAddress => 401,
        Meanwhile::RoleLowered => 403,
        Meanwhile::OtherSession => {
            if of_session {
                401
            } else {
                403
            }
        }
        Meanwhile::OtherGroup => {
            if of_group {
                401
            } else {
                403
            }
        }
        Meanwhile::SessionReplaced => {
            if of_session {
                404
            } else {
                served
            }
        }
    }
}

#[tokio::test]
async fn what_changed_while_a_body_came_counts_before_anything_is_done() {
    use Meanwhile as M;
    for what in [
        M::Nothing,
        M::Revoked,
        M::Deleted,
        M::Expired,
        M::Rotated,
        M::RoleLowered,
        M::OtherSession,
        M::OtherGroup,
        M::OtherAddress,
        M::SessionReplaced,
    ] {
        for (line, served) in routes_with_bodies() {
            let fixture = Fixture::start().await;
            fixture.session("alice").await;
            fixture.session("bob").await;
            // Without this admin key, the other one could not be revoked.
            fixture.key(Role::Admin, &[]).await;
            let terms = KeyTerms { role: Role::Admin, ..KeyTerms::named("alice") };
            let (key, secret) = fixture.app.keys.create(terms).await.unwrap();
            let sessions = fixture.app.gateway.sessions().len();
            let (request, sender) = fixture.begun(line, secret.reveal());
            let mut answer = Box::pin(fixture.answer(request));
            let (start, end) = BODY.split_at(5);
            sender.send(Ok(start.into())).await.unwrap();
            // Taken out of the channel: the head was let in.
            while sender.capacity() < sender.max_capacity() {
                assert!(futures_util::poll!(&mut answer).is_pending(), "{line}");
                tokio::task::yield_now().await;
            }
            fixture.happen(what, key.id()).await;
            let keys = fixture.app.keys.list().len();
            sender.send(Ok(end.into())).await.unwrap();
            drop(sender);
            let answer = answer.await;
            let status = expected(what, line, served);
            assert_eq!(answer.status().as_u16(), status, "{what:?}, {line}");
            if !matches!(status, 200 | 201) {
                let now = (fixture.app.keys.list().len(), fixture.app.gateway.sessions().len());
                assert_eq!(now, (keys, sessions), "{what:?}, {line}: nothing was made");
            }
            fixture.running.shutdown().await;
        }
    }
}

#[tokio::test]
async fn a_replay_is_not_for_a_key_that_was_revoked_while_the_body_came() {
    let fixture = Fixture::start().await;
    fixture.session("alice").await;
    let (key, secret) = fixture.app.keys.create(KeyTerms::named("alice")).await.unwrap();
    let (mut request, sender) = fixture.begun("POST /api/sessions/alice/groups", secret.reveal());
    request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
    let mut answer = Box::pin(fixture.answer(request));
    assert!(futures_util::poll!(&mut answer).is_pending());
    fixture.app.keys.revoke(key.id()).await.unwrap();
    drop(sender);
    let answer = answer.await;
    assert_eq!((answer.status().as_u16(), &body_of(answer).await["code"]), (401, &json!("api_key_revoked")));
    fixture.running.shutdown().await;
}

/// Everything in the document that has a body gets it from the authorization layer: a handler that reads it otherwise would be late.
#[tokio::test]
async fn the_gate_reads_the_body_of_every_route_that_has_one() {
    let fixture = Fixture::start().await;
    fixture.session("alice").await;
    let admin = fixture.key(Role::Admin, &[]).await;
    for route in routes().iter().filter(|route| !route.method.is_safe()) {
        let has_body = (route.describe)().operation.request_body.is_some();
        let path = route.path.replace("{session}", "alice").replace("{key}", "5f0c6e9a-3f43-4bb0-9a52-6a2f8f7f3c11");
        let path = path.replace("{group}", GROUP).replace("{community}", GROUP);
        let line = format!("{} {path}", route.method);
        let answer = fixture.send(&line, &admin, "{ broken").await;
        let (status, answer) = (answer.status().as_u16(), body_of(answer).await);
        assert!(!has_body || answer["code"] == "invalid_json", "{line}: {status} {answer}");
        assert_ne!(status, 500, "{line}: {answer}");
        // Makes the session again, if the call was its end.
        if line == "DELETE /api/sessions/alice" {
            fixture.session("alice").await;
        }
    }
    fixture.running.shutdown().await;
}
