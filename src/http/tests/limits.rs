//! Limits per key, per address, of requests in flight and of URLs; and the headers for browsers.

use std::time::Duration;

use rookery_actors::RateLimit;

use super::*;

fn options(change: impl FnOnce(&mut HttpOptions)) -> HttpOptions {
    let mut options = HttpOptions::default();
    change(&mut options);
    options
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_key_is_told_its_share_and_refused_beyond_it() {
    let pace = RateLimit::new(1, Duration::from_secs(3_600), 2);
    let fixture = Fixture::with(options(|options| options.limits.key_rate = Some(pace))).await;
    let (alice, bob) = (fixture.key(Role::Viewer, &[]).await, fixture.key(Role::Viewer, &[]).await);
    for (key, status, remaining) in [(&alice, 200, "1"), (&alice, 200, "0"), (&alice, 429, "0"), (&bob, 200, "1")] {
        let response = fixture.send("GET /api/sessions", key, "").await;
        assert_eq!(response.status().as_u16(), status);
        let told = [header(&response, "ratelimit-limit"), header(&response, "ratelimit-remaining")];
        assert_eq!(told, ["2", remaining]);
        let reset: u64 = header(&response, "ratelimit-reset").parse().unwrap();
        assert!((3_599..=7_200).contains(&reset), "{reset}");
        if status == 429 {
            let wait: u64 = header(&response, "retry-after").parse().unwrap();
            assert!((3_590..=3_600).contains(&wait), "{wait}");
            assert_eq!(body_of(response).await["code"], "rate_limited");
        }
    }
    let unknown = fixture.send("GET /api/sessions", "rk_wrong", "").await;
    assert!(!unknown.headers().contains_key("ratelimit-limit"));
    fixture.running.shutdown().await;
}

#[tokio::test]
async fn guessing_keys_is_slowed_down_by_address_and_a_right_key_still_works() {
    let proxy = |options: &mut HttpOptions| {
        options.limits.failed_logins = Some(RateLimit::new(1, Duration::from_secs(60), 2));
        options.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    };
    let fixture = Fixture::with(options(proxy)).await;
    let key = fixture.key(Role::Viewer, &[]).await;
    let ask = async |key: &str, from: &str| {
        let request = Request::builder().uri("/api/sessions").header("x-api-key", key);
        let response = fixture.answer(request.header("x-forwarded-for", from).body(Body::empty()).unwrap()).await;
        (response.status().as_u16(), header(&response, "retry-after").to_owned())
    };
    let (here, there) = ("192.0.2.1", "192.0.2.2");
    assert_eq!([ask("rk_a", here).await.0, ask("rk_b", here).await.0], [401, 401]);
    let (status, retry_after) = ask("rk_c", here).await;
    assert_eq!(status, 429);
    assert!((50..=60).contains(&retry_after.parse::<u32>().unwrap()), "{retry_after}");
    assert_eq!([ask("rk_c", there).await.0, ask(&key, here).await.0], [401, 200]);
    fixture.running.shutdown().await;
}

#[tokio::test]
async fn an_address_is_the_one_that_trusted_proxies_name() {
    let trusted = options(|options| options.trusted_proxies = vec!["127.0.0.1".parse().unwrap()]);
    for (options, forwarded, status) in [
        (HttpOptions::default(), "192.0.2.1", 401),
        (trusted.clone(), "192.0.2.1", 200),
        (trusted.clone(), "192.0.2.1, 198.51.100.1", 401),
        (trusted.clone(), "198.51.100.1, 192.0.2.1", 200),
        (trusted, "unknown", 401),
    ] {
        let fixture = Fixture::with(options).await;
        let terms = KeyTerms { allowed_ips: vec!["192.0.2.0/24".parse().unwrap()], ..KeyTerms::named("alice") };
        let key = fixture.key_with(terms).await;
        let request = Request::builder().uri("/api/sessions").header("x-api-key", key);
        let response = fixture.answer(request.header("x-forwarded-for", forwarded).body(Body::empty()).unwrap()).await;
        assert_eq!(response.status().as_u16(), status, "{forwarded}");
        fixture.running.shutdown().await;
    }
}

#[tokio::test]
async fn what_is_in_flight_is_limited_per_key_and_in_all() {
    for (key_max, all_max, status, code) in [(1, 9, 429, "too_many_in_flight"), (9, 1, 503, "overloaded")] {
        let limits = |options: &mut HttpOptions| {
            (options.limits.requests_per_key_max, options.limits.requests_max) = (key_max, all_max);
        };
        let fixture = Fixture::with(options(limits)).await;
        fixture.session("alice").await;
        let key = fixture.key(Role::Operator, &[]).await;
        // The request's body never ends, so that the request stays in flight.
        let (sender, body) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::convert::Infallible>>(1);
        let body = futures_util::stream::unfold(body, async |mut body| body.recv().await.map(|part| (part, body)));
        let slow = Request::builder().method("POST").uri("/api/sessions").header("x-api-key", &key);
        let slow = slow.body(Body::from_stream(body)).unwrap();
        let mut slow = Box::pin(fixture.answer(slow));
        assert!(futures_util::poll!(&mut slow).is_pending());
        let refused = fixture.send("GET /api/sessions", &key, "").await;
        assert_eq!((refused.status().as_u16(), header(&refused, "retry-after")), (status, "1"));
        assert_eq!(body_of(refused).await["code"], code);
        assert_eq!(fixture.send("GET /api/health", "", "").await.status(), 200, "open routes are always served");
        drop(sender);
        assert_eq!(slow.await.status(), 400);
        assert_eq!(fixture.send("GET /api/sessions", &key, "").await.status(), 200);
        fixture.running.shutdown().await;
    }
}

#[tokio::test]
async fn a_url_and_a_body_have_a_length() {
    let limits = |options: &mut HttpOptions| {
        (options.limits.url_bytes_max, options.limits.body_bytes_max) = (100, 50);
    };
    let fixture = Fixture::with(options(limits)).await;
    let key = fixture.key(Role::Operator, &[]).await;
    let long = format!("GET /api/sessions?name={}", "a".repeat(100));
    let refused = fixture.send(&long, &key, "").await;
    assert_eq!((refused.status().as_u16(), body_of(refused).await["code"].clone()), (414, json!("url_too_long")));
    let refused = fixture.send("POST /api/sessions", &key, &" ".repeat(51)).await;
    assert_eq!((refused.status().as_u16(), body_of(refused).await["code"].clone()), (413, json!("body_too_large")));
    fixture.running.shutdown().await;
}

#[tokio::test]
async fn every_answer_tells_browsers_to_be_careful_and_names_no_server() {
    let fixture = Fixture::start().await;
    let key = fixture.key(Role::Viewer, &[]).await;
    for (line, key) in
        [("GET /api/sessions", &*key), ("GET /api/sessions", ""), ("GET /nope", ""), ("GET /api/health", "")]
    {
        let response = fixture.send(line, key, "").await;
        let told = ["x-content-type-options", "x-frame-options", "referrer-policy", "cache-control"];
        assert_eq!(told.map(|name| header(&response, name)), ["nosniff", "DENY", "no-referrer", "no-store"], "{line}");
        assert_eq!(header(&response, "content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
        for absent in ["server", "x-powered-by", "access-control-allow-origin", "vary"] {
            assert!(!response.headers().contains_key(absent), "{absent}");
        }
    }
    fixture.running.shutdown().await;
}

#[tokio::test]
async fn only_named_pages_may_call_from_a_browser() {
    let page = "https://app.example.com";
    let fixture = Fixture::with(options(|options| options.cors_origins = page.parse().unwrap())).await;
    let key = fixture.key(Role::Viewer, &[]).await;
    let ask = async |method: &str, origin: &str, key: &str| {
        let request = Request::builder().method(method).uri("/api/sessions").header("origin", origin);
        let request = request.header("access-control-request-method", "POST").header("x-api-key", key);
        fixture.answer(request.body(Body::empty()).unwrap()).await
    };
    let question = ask("OPTIONS", page, "").await;
    assert_eq!((question.status().as_u16(), header(&question, "access-control-allow-origin")), (204, page));
    assert!(header(&question, "access-control-allow-headers").contains("X-API-Key"));
    assert_eq!(header(&question, "access-control-allow-methods"), "GET, POST, PUT, PATCH, DELETE");
    let answer = ask("GET", page, &key).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "access-control-allow-origin")), (200, page));
    assert!(header(&answer, "access-control-expose-headers").contains("RateLimit-Remaining"));
    let refused = ask("GET", page, "rk_wrong").await;
    assert_eq!((refused.status().as_u16(), header(&refused, "access-control-allow-origin")), (401, page), "readable");

    let (question, answer) = (ask("OPTIONS", "https://evil.example", "").await, ask("GET", "null", &key).await);
    assert_eq!((question.status().as_u16(), answer.status().as_u16()), (405, 200));
    for response in [question, answer] {
        assert!(!response.headers().contains_key("access-control-allow-origin"));
        assert_eq!(header(&response, "vary"), "Origin");
    }
    fixture.running.shutdown().await;
}
