//! Idempotency keys through the authorization layer, in front of a handler that counts its calls.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::header;
use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, post};
use tokio::sync::Notify;

use super::*;

const GROUPS: &str = "/api/sessions/{session}/groups/{group}";
const PATH: &str = "/api/sessions/alice/groups/team";
const BODY: &str = r#"{"name":"Team"}"#;

/// Counts calls. The body decides the outcome of a call.
#[derive(Default)]
struct Handler {
    calls: AtomicUsize,
    begun: Notify,
    go_on: Notify,
}

impl Handler {
    async fn answer(&self, body: &str) -> axum::response::Response {
        let count = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        self.begun.notify_one();
        match body {
            "panic" => panic!("a defect"),
            "wait" => self.go_on.notified().await,
            "nothing" => return ApiError::Query("nothing was done".into()).into_response(),
            "unknown" => return ApiError::TooSlow { may_have_changed: true }.into_response(),
            _ => {}
        }
        (StatusCode::CREATED, [(header::LOCATION, "/there")], format!("call {count}")).into_response()
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

struct Bench {
    fixture: Fixture,
    key: String,
    handler: Arc<Handler>,
    router: Router,
}

impl Bench {
    async fn start() -> Self {
        let fixture = Fixture::start().await;
        fixture.session("alice").await;
        let key = fixture.key(Role::Operator, &[]).await;
        let handler = Arc::<Handler>::default();
        let counting = Arc::clone(&handler);
        let handle = move |body: String| async move { counting.answer(&body).await };
        let routes: MethodRouter<Arc<App>> = post(handle.clone()).put(handle);
        let routes = routes.route_layer(AuthLayer::new(&fixture.app, GROUP_WRITE, "groups_test"));
        let router = Router::new().route(GROUPS, routes).with_state(Arc::clone(&fixture.app));
        Self { fixture, key, handler, router }
    }

    fn call(&self, line: &str, key: &str, body: &str) -> impl Future<Output = Seen> + Send + 'static {
        let (method, path) = line.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(path).header("x-api-key", &self.key);
        let request = if key.is_empty() { request } else { request.header("idempotency-key", key) };
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let router = self.router.clone();
        async move {
            let response = request_context::answer(&HttpOptions::default(), router, HERE, request).await;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let body = to_bytes(response.into_body(), 1_000_000).await.unwrap();
            let code = serde_json::from_slice::<Value>(&body).map(|body| body["code"].as_str().map(str::to_owned));
            Seen {
                status,
                said: code.ok().flatten().unwrap_or_else(|| String::from_utf8(body.to_vec()).unwrap()),
                location: text("location"),
                retry_after: text("retry-after"),
                replayed: text("idempotency-replayed").as_deref() == Some("true"),
            }
        }
    }

    async fn post(&self, key: &str, body: &str) -> Seen {
        self.call(&format!("POST {PATH}"), key, body).await
    }
}

/// The response; for a failure, its code.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    status: u16,
    said: String,
    location: Option<String>,
    retry_after: Option<String>,
    replayed: bool,
}

impl Seen {
    fn line(&self) -> (u16, &str, bool) {
        (self.status, &self.said, self.replayed)
    }
}

#[tokio::test]
async fn the_same_call_gets_the_same_answer_and_another_is_refused() {
    let bench = Bench::start().await;
    let first = bench.post("k", BODY).await;
    assert_eq!(first.line(), (201, "call 1", false));
    let again = bench.post("k", BODY).await;
    assert_eq!(again, Seen { replayed: true, ..first }, "headers too");

    let id = bench.fixture.app.gateway.find("alice").unwrap();
    let by_id = format!("POST /api/sessions/{id}/groups/team/");
    assert_eq!(bench.call(&by_id, "k", BODY).await.line(), (201, "call 1", true), "one session under two names");
    let others = [
        (format!("POST {PATH}"), "{}"),
        (format!("PUT {PATH}"), BODY),
        ("POST /api/sessions/alice/groups/family".into(), BODY),
    ];
    for (line, body) in others {
        assert_eq!(bench.call(&line, "k", body).await.line(), (422, "idempotency_key_reused", false), "{line}");
    }
    assert_eq!(bench.handler.calls(), 1);
    assert_eq!(bench.post("other", BODY).await.line(), (201, "call 2", false));
    assert_eq!(bench.post("", BODY).await.line(), (201, "call 3", false), "without a key");
    bench.fixture.running.shutdown().await;
}

#[tokio::test]
async fn keys_of_other_callers_and_sessions_are_other_keys() {
    let bench = Bench::start().await;
    bench.fixture.session("bob").await;
    assert_eq!(bench.post("k", BODY).await.line(), (201, "call 1", false));
    let other_session = bench.call("POST /api/sessions/bob/groups/team", "k", BODY).await;
    assert_eq!(other_session.line(), (201, "call 2", false));
    let key = bench.fixture.key(Role::Operator, &[]).await;
    let bench = Bench { key, ..bench };
    assert_eq!(bench.post("k", BODY).await.line(), (201, "call 3", false));
    bench.fixture.running.shutdown().await;
}

#[tokio::test]
async fn what_was_refused_before_anything_was_done_does_not_use_up_the_key() {
    let bench = Bench::start().await;
    for count in 1..=2 {
        assert_eq!(bench.post("k", "nothing").await.line(), (400, "invalid_parameter", false));
        assert_eq!(bench.handler.calls(), count);
    }
    assert_eq!(bench.post("k", BODY).await.line(), (201, "call 3", false), "free for any body");
    assert_eq!(bench.post("\u{fc}", BODY).await.line(), (400, "idempotency_key_invalid", false));
    let too_large = " ".repeat(HttpLimits::default().body_bytes_max + 1);
    assert_eq!(bench.post("large", &too_large).await.line(), (413, "body_too_large", false));
    assert_eq!(bench.handler.calls(), 3);
    bench.fixture.running.shutdown().await;
}

#[tokio::test]
async fn an_unknown_outcome_and_a_panic_use_up_the_key() {
    let bench = Bench::start().await;
    let first = bench.post("k", "unknown").await;
    assert_eq!((first.line(), first.retry_after.is_some()), ((503, "outcome_unknown", false), true));
    assert_eq!(bench.post("k", "unknown").await, Seen { replayed: true, ..first });
    assert_eq!(bench.post("p", "panic").await.line(), (500, "internal_error", false));
    assert_eq!(bench.post("p", "panic").await.line(), (500, "internal_error", true));
    assert_eq!(bench.handler.calls(), 2);
    bench.fixture.running.shutdown().await;
}

#[tokio::test]
async fn a_call_whose_client_hangs_up_is_carried_through_and_answered_to_the_next() {
    let bench = Bench::start().await;
    let hanging_up = tokio::spawn(bench.call(&format!("POST {PATH}"), "k", "wait"));
    bench.handler.begun.notified().await;
    hanging_up.abort();
    assert!(hanging_up.await.is_err());
    let meanwhile = bench.post("k", "wait").await;
    assert_eq!((meanwhile.line(), meanwhile.retry_after.is_some()), ((409, "idempotency_key_in_use", false), true));
    assert_eq!(bench.post("k", BODY).await.line(), (422, "idempotency_key_reused", false));
    bench.handler.go_on.notify_one();
    let until_over = async {
        loop {
            let answer = bench.post("k", "wait").await;
            if answer.status != 409 {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(20), until_over).await.unwrap();
    assert_eq!((answer.line(), bench.handler.calls()), ((201, "call 1", true), 1));
    bench.fixture.running.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_to_keep_is_given_once() {
    let bench = Bench::start().await;
    let routes: MethodRouter<Arc<App>> = post(async || "x".repeat(crate::idempotency::RECORD_BYTES_MAX));
    let routes = routes.route_layer(AuthLayer::new(&bench.fixture.app, GROUP_WRITE, "groups_test"));
    let router = Router::new().route(GROUPS, routes).with_state(Arc::clone(&bench.fixture.app));
    let bench = Bench { router, ..bench };
    assert_eq!(bench.post("k", BODY).await.status, 200);
    assert_eq!(bench.post("k", BODY).await.line(), (409, "idempotency_key_interrupted", false));
    bench.fixture.running.shutdown().await;
}
