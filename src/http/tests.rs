//! The router as a whole, without sessions: what the layers and the key check answer before any handler runs.

mod access;
mod idempotent;
mod limits;
mod trickling;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use axum::routing::get;
use rookery_actors::{Running, SessionOptions};
use rookery_store::open_memory;
use serde_json::{Value, json};

use super::*;
use crate::app::Parts;
use crate::audit::{Audit, Retention};
use crate::auth::{ApiKeys, KeyLimits, KeyTerms, Pepper};
use crate::batches::Batches;
use crate::clock::Clock;
use crate::config::{HttpLimits, HttpOptions};
use crate::http::middleware::request_context;
use crate::idempotency::Idempotency;
use crate::media::Media;
use crate::picture::Pictures;
use crate::url_fetch::{FetchAllow, Fetcher, Guard};
use crate::webhooks::{Stored, WebhookOptions, Webhooks};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const UNKNOWN_ID: &str = "5f0c6e9a-3f43-4bb0-9a52-6a2f8f7f3c11";

struct Fixture {
    app: Arc<App>,
    running: Running,
}

impl Fixture {
    async fn start() -> Self {
        Self::with(HttpOptions::default()).await
    }

    async fn with(options: HttpOptions) -> Self {
        let (store, pepper) = (open_memory(), Pepper::generate().unwrap());
        let limits = KeyLimits {
            rate: options.limits.key_rate,
            in_flight_max: options.limits.requests_per_key_max,
            streams_max: options.limits.streams_per_key_max,
            keys_max: 1_000,
        };
        let keys = Arc::new(ApiKeys::open(Arc::clone(&store), pepper, limits, Clock::new()).await.unwrap());
        let settings = SessionOptions { whatsapp_url: "ws://127.0.0.1:9/ws/chat".into(), ..SessionOptions::default() };
        let idempotency = Idempotency::open(Arc::clone(&store), Clock::new()).unwrap();
        let (audit, _) = Audit::open(Arc::clone(&store), Retention::default(), Clock::new()).unwrap();
        let (audit, log) = (Arc::new(audit), rookery_store::EventLog::open_memory());
        let running = rookery_actors::start(settings, Arc::clone(&store), log).await.unwrap();
        let (gateway, guard) = (running.gateway.clone(), Guard::new(FetchAllow::default()));
        let directory = tempfile::tempdir().unwrap();
        let pictures = Pictures::new(Fetcher::new(guard.clone()).unwrap());
        let media = Media::new(directory.path(), &HttpLimits::default(), Fetcher::new(guard.clone()).unwrap());
        let media = Arc::new(media);
        let batches = Batches::new(Arc::clone(&store));
        let cursor_key = rookery_store::EventKey::generate().unwrap();
        let tls = rookery_actors::tls_config().unwrap();
        let webhooks = WebhookOptions { retry_time: Duration::from_secs(60), guard, tls };
        let webhooks = Webhooks::open(Stored::default(), &store, &gateway, &media, &keys, &audit, webhooks).unwrap();
        let parts = Parts { gateway, keys, idempotency, audit, pictures, media, batches, webhooks, cursor_key };
        Self { app: Arc::new(App::new(parts, options)), running }
    }

    async fn key(&self, role: Role, sessions: &[&str]) -> String {
        let allowed_sessions = sessions.iter().map(|session| self.app.gateway.find(session).unwrap()).collect();
        self.key_with(KeyTerms { role, allowed_sessions, ..KeyTerms::named("alice") }).await
    }

    async fn key_with(&self, terms: KeyTerms) -> String {
        self.app.keys.create(terms).await.unwrap().1.reveal().to_owned()
    }

    async fn session(&self, name: &str) {
        self.app
            .gateway
            .create_session(name.parse().unwrap(), rookery_model::SessionConfig::default(), None)
            .await
            .unwrap();
    }

    /// Method and path, key, body.
    async fn send(&self, line: &str, key: &str, body: &str) -> Response<Body> {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        if !key.is_empty() {
            request = request.header("x-api-key", key);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        self.answer(request).await
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let router = router(&self.app, &Arc::new(Sockets::new(&self.app)));
        request_context::answer(&self.app.http, router, HERE, request).await
    }
}

async fn body_of(response: Response<Body>) -> Value {
    let bytes = to_bytes(response.into_body(), 1_000_000).await.unwrap();
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}

#[tokio::test]
async fn every_failure_has_the_one_shape() {
    let fixture = Fixture::start().await;
    let admin = fixture.key(Role::Admin, &[]).await;
    fixture.session("alice").await;
    let unknown_group = "GET /api/sessions/alice/groups/family";
    let cases = [
        ("GET /api/nope", "", "", 404, "route_not_found", json!("Cannot GET /api/nope")),
        ("PATCH /api/sessions", "", "", 405, "method_not_allowed", json!("Cannot PATCH /api/sessions")),
        ("GET /api/sessions", "", "", 401, "api_key_missing", json!("API key is required")),
        ("GET /api/sessions", "rk_wrong", "", 401, "api_key_invalid", json!("Invalid API key")),
        ("GET /api/sessions/x", &admin, "", 404, "session_not_found", json!("Session with id 'x' not found")),
        ("GET /api/sessions?limit=a", &admin, "", 400, "invalid_parameter", json!("limit must be a number, not a")),
        ("GET /api/sessions/%FF", &admin, "", 400, "invalid_parameter", json!("the path is not UTF-8")),
        ("POST /api/sessions", &admin, "[]", 400, "invalid_json", json!("the body must be a JSON object")),
        (
            unknown_group,
            &admin,
            "",
            400,
            "invalid_group_id",
            json!("family is not a group id: it is written like 120363021234567890@g.us"),
        ),
        ("GET /api/sessions/alice/groups", &admin, "", 400, "session_not_started", json!("Session is not started")),
    ];
    for (line, key, body, status, code, message) in cases {
        let response = fixture.send(line, key, body).await;
        assert_eq!(response.status().as_u16(), status, "{line}");
        assert!(response.headers().contains_key("x-request-id"), "{line}");
        let reason = response.status().canonical_reason().unwrap();
        let expected = json!({"message": message, "error": reason, "statusCode": status, "code": code});
        assert_eq!(body_of(response).await, expected, "{line}");
    }
    fixture.running.shutdown().await;
}

#[tokio::test]
async fn other_methods_are_named_in_allow() {
    let fixture = Fixture::start().await;
    let response = fixture.send("PUT /api/sessions/alice", "", "").await;
    let mut allowed: Vec<_> = response.headers()["allow"].to_str().unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!((response.status(), allowed), (StatusCode::METHOD_NOT_ALLOWED, vec!["DELETE", "GET", "HEAD"]));
    fixture.running.shutdown().await;
}

#[tokio::test]
async fn the_role_is_checked_before_the_body_is_looked_at() {
    let fixture = Fixture::start().await;
    let (viewer, operator) = (fixture.key(Role::Viewer, &[]).await, fixture.key(Role::Operator, &[]).await);
    let cases = [
        ("POST /api/sessions", &viewer, "Insufficient permissions. Required: operator"),
        ("DELETE /api/sessions/x", &viewer, "Insufficient permissions. Required: operator"),
        ("GET /api/sessions/x/qr", &viewer, "Insufficient permissions. Required: operator"),
        ("POST /api/sessions/x/groups/y/participants", &viewer, "Insufficient permissions. Required: operator"),
        ("POST /api/auth/api-keys", &operator, "Insufficient permissions. Required: admin"),
    ];
    for (line, key, message) in cases {
        let response = fixture.send(line, key, "{ broken").await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{line}");
        assert_eq!(body_of(response).await["message"], message, "{line}");
    }
    assert_eq!(fixture.send("POST /api/sessions", &operator, "{ broken").await.status(), StatusCode::BAD_REQUEST);
    fixture.running.shutdown().await;
}

#[tokio::test]
async fn a_scoped_key_sees_and_touches_only_its_sessions() {
    let fixture = Fixture::start().await;
    for name in ["alice", "bob"] {
        fixture.session(name).await;
    }
    let scoped = fixture.key(Role::Admin, &["alice"]).await;
    let cases = [
        ("GET /api/sessions/alice", 200),
        ("GET /api/sessions/bob", 401),
        (&format!("GET /api/sessions/{UNKNOWN_ID}"), 401),
        ("POST /api/sessions", 403),
        ("GET /api/auth/api-keys", 403),
        ("POST /api/auth/validate", 200),
    ];
    for (line, status) in cases {
        assert_eq!(fixture.send(line, &scoped, "").await.status().as_u16(), status, "{line}");
    }
    let response = fixture.send("GET /api/sessions", &scoped, "").await;
    assert_eq!(response.headers()["x-total-count"], "1");
    let list = body_of(response).await;
    assert_eq!((list.as_array().map(Vec::len), &list[0]["name"]), (Some(1), &json!("alice")));
    fixture.running.shutdown().await;
}

#[tokio::test]
async fn keys_are_made_listed_and_removed_over_http() {
    let fixture = Fixture::start().await;
    let admin = fixture.key(Role::Admin, &[]).await;
    let response = fixture.send("POST /api/auth/api-keys", &admin, r#"{"name":"bob","role":"viewer"}"#).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let made = body_of(response).await;
    let (id, key) = (made["id"].as_str().unwrap(), made["apiKey"].as_str().unwrap());
    let valid = fixture.send("POST /api/auth/validate", key, "").await;
    assert_eq!(body_of(valid).await, json!({"valid": true, "role": "viewer"}));

    let list = body_of(fixture.send("GET /api/auth/api-keys", &admin, "").await).await;
    assert_eq!((list.as_array().map(Vec::len), list.to_string().contains(key)), (Some(2), false));
    let one = format!("/api/auth/api-keys/{id}");
    assert_eq!(body_of(fixture.send(&format!("GET {one}"), &admin, "").await).await["usageCount"], 1);
    assert_eq!(fixture.send(&format!("DELETE {one}"), &admin, "").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(fixture.send("POST /api/auth/validate", key, "").await.status(), StatusCode::UNAUTHORIZED);
    let the_admin = list.as_array().unwrap().iter().find(|key| key["role"] == "admin").unwrap();
    let last = format!("DELETE /api/auth/api-keys/{}", the_admin["id"].as_str().unwrap());
    assert_eq!(fixture.send(&last, &admin, "").await.status(), StatusCode::CONFLICT);
    fixture.running.shutdown().await;
}

#[tokio::test]
async fn the_documentation_needs_no_key_and_loads_nothing_from_elsewhere() {
    let fixture = Fixture::start().await;
    let document = fixture.send("GET /api/docs-json", "", "").await;
    assert_eq!(
        (document.status(), &document.headers()["content-type"]),
        (StatusCode::OK, &"application/json".parse().unwrap())
    );
    assert_eq!(body_of(document).await["openapi"], "3.1.0");
    let page = fixture.send("GET /api/docs", "", "").await;
    assert_eq!(
        (page.status(), &page.headers()["x-content-type-options"]),
        (StatusCode::OK, &"nosniff".parse().unwrap())
    );
    assert!(
        page.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .starts_with("default-src 'none'; style-src 'sha256-")
    );
    let page = to_bytes(page.into_body(), 1_000_000).await.unwrap();
    let page = std::str::from_utf8(&page).unwrap();
    for route in routes() {
        assert!(page.contains(&format!("</span> {}</h3>", route.path)), "{}", route.path);
    }
    for outward in ["<script", " src=", "@import", "url(", "<link"] {
        assert!(!page.contains(outward), "{outward}");
    }
    fixture.running.shutdown().await;
}

#[tokio::test]
async fn a_key_counts_only_the_sessions_it_may_see() {
    let fixture = Fixture::start().await;
    for name in ["alice", "bob"] {
        fixture.session(name).await;
    }
    for (key, total) in [(fixture.key(Role::Viewer, &[]).await, 2), (fixture.key(Role::Viewer, &["bob"]).await, 1)] {
        let overview = body_of(fixture.send("GET /api/sessions/stats/overview", &key, "").await).await;
        assert_eq!((&overview["total"], &overview["byStatus"]["created"]), (&json!(total), &json!(total)));
    }
    fixture.session("stats").await;
    let admin = fixture.key(Role::Admin, &[]).await;
    assert_eq!(body_of(fixture.send("GET /api/sessions/stats", &admin, "").await).await["name"], "stats");
    fixture.running.shutdown().await;
}

#[tokio::test]
async fn a_panic_in_a_handler_is_a_500_in_the_one_shape() {
    async fn panics() {
        panic!("a defect");
    }
    let router: Router = Router::new().route("/", get(panics));
    let response = request_context::answer(&HttpOptions::default(), router, HERE, Request::new(Body::empty())).await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(body_of(response).await["message"], "Internal server error");
}
