//! Sessions connect through their proxy, and never past it.

use rookery_simulator::{ProxyBehaviour, ProxyProtocol, ProxyServer};
use serde_json::{Value, json};

use crate::harness::{ALICE, Answer, BOB, Bench, until, until_equal};

const PROXY: &str = "/sessions/alice/proxy";
/// The password of every test's proxy.
pub(crate) const PASSWORD: &str = "proxy-password-4711";

/// A daemon that names WhatsApp by a name, so that a proxy has something to resolve.
async fn bench() -> Bench {
    Bench::with(|config| config.whatsapp_url = config.whatsapp_url.replace("127.0.0.1", "localhost")).await
}

async fn proxy(protocol: ProxyProtocol) -> ProxyServer {
    let credentials = (protocol != ProxyProtocol::Socks4).then_some(("user", PASSWORD));
    ProxyServer::start(protocol, credentials).await.unwrap()
}

async fn create(bench: &Bench, name: &str, proxy: Option<&str>) {
    // The shortest waits between reconnects.
    let body = json!({ "name": name, "proxyUrl": proxy, "config": { "reconnectBaseDelay": 1_000 } });
    let created = bench.post("/sessions", body).await;
    assert_eq!(created.status, 201, "{created:?}");
}

async fn start(bench: &Bench, name: &str) {
    assert_eq!(bench.post(&format!("/sessions/{name}/start"), json!({})).await.status, 200);
}

/// Links a session that is started.
async fn link(bench: &Bench, name: &str, phone: &str) {
    let qr = bench.qr(name).await;
    bench.world.phone(phone).scan_qr(&qr).unwrap();
    bench.until_status(name, "ready").await;
}

async fn set(bench: &Bench, proxy: Option<&str>) -> Answer {
    let answer = bench.patch(PROXY, json!({ "proxyUrl": proxy })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

async fn until_error(bench: &Bench, name: &str, expected: &str) {
    let path = format!("/sessions/{name}");
    let error = async || bench.get(&path).await.body["lastError"].as_str().unwrap_or_default().to_owned();
    until(expected, async || error().await.ends_with(expected).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_links_through_each_kind_of_proxy_which_resolves_the_name() {
    for protocol in [ProxyProtocol::Http, ProxyProtocol::Socks4, ProxyProtocol::Socks5] {
        let (mut bench, proxy) = (bench().await, proxy(protocol).await);
        create(&bench, "alice", Some(&proxy.url())).await;
        let shown = bench.get(PROXY).await;
        let expected = json!({
            "enabled": true,
            "proxyType": proxy.url().split("://").next(),
            "proxyHost": proxy.address().to_string(),
            "hasCredentials": protocol != ProxyProtocol::Socks4,
        });
        assert_eq!(shown.body, expected);
        start(&bench, "alice").await;
        link(&bench, "alice", ALICE).await;
        let targets = proxy.targets();
        assert!(!targets.is_empty() && targets.iter().all(|target| target.starts_with("localhost:")), "{targets:?}");
        assert_eq!(bench.get("/sessions/alice/groups").await.status, 200);

        bench.restart().await;
        bench.until_status("alice", "ready").await;
        assert!(proxy.targets().len() > targets.len(), "the proxy is kept over a restart");
        assert_eq!(bench.get(PROXY).await.body, expected);
        assert_eq!(proxy.connections(), bench.world.live_connections(ALICE));

        drop(proxy);
        until_error(&bench, "alice", "the proxy cannot be reached: the connection was refused").await;
        assert_eq!(bench.world.live_connections(ALICE), 0, "never past the proxy");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_proxy_takes_effect_at_once_and_lasts() {
    let (bench, first, second) = (bench().await, proxy(ProxyProtocol::Socks5).await, proxy(ProxyProtocol::Http).await);
    create(&bench, "alice", None).await;
    let none = json!({ "enabled": false, "proxyType": null, "proxyHost": null, "hasCredentials": false });
    assert_eq!(bench.get(PROXY).await.body, none);
    start(&bench, "alice").await;
    link(&bench, "alice", ALICE).await;

    for (proxy, other) in [(&first, &second), (&second, &first)] {
        assert_eq!(set(&bench, Some(&proxy.url())).await.body["enabled"], true);
        until_equal((1, 0), async || (proxy.connections(), other.connections())).await;
        bench.until_status("alice", "ready").await;
    }
    let asked = second.targets().len();
    set(&bench, Some(&second.url())).await;
    assert_eq!(bench.get("/sessions/alice").await.body["status"], "ready", "the same proxy changes nothing");
    assert_eq!(set(&bench, None).await.body, none);
    until_equal(0, async || second.connections()).await;
    bench.until_status("alice", "ready").await;
    assert_eq!(second.targets().len(), asked);

    // A stopped session stays stopped.
    assert_eq!(bench.post("/sessions/alice/stop", json!({})).await.status, 200);
    set(&bench, Some(&first.url())).await;
    let asked = first.targets().len();
    assert_eq!(bench.get("/sessions/alice").await.body["status"], "disconnected");
    start(&bench, "alice").await;
    bench.until_status("alice", "ready").await;
    assert!(first.targets().len() > asked);
    // A change, and a stop right behind it.
    set(&bench, None).await;
    let stopped = bench.post("/sessions/alice/stop", json!({})).await;
    assert_eq!((stopped.status, &stopped.body["status"]), (200, &json!("disconnected")), "{stopped:?}");
    until_equal(0, async || bench.world.live_connections(ALICE)).await;
    assert_eq!(bench.get("/sessions/alice").await.body["engineLoaded"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_does_not_connect_is_told_and_another_one_remedies_it() {
    let (bench, working) = (bench().await, proxy(ProxyProtocol::Socks5).await);
    create(&bench, "alice", None).await;
    start(&bench, "alice").await;
    link(&bench, "alice", ALICE).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut cases: Vec<(Option<ProxyServer>, String, &str)> = vec![
        (None, format!("socks5://{nobody}"), "the proxy cannot be reached: the connection was refused"),
        (None, "http://proxy.invalid:1".into(), "the proxy cannot be reached: its name cannot be resolved"),
    ];
    for protocol in [ProxyProtocol::Http, ProxyProtocol::Socks5] {
        let asking = proxy(protocol).await;
        let wrong = asking.url().replace(PASSWORD, "wrong");
        let without = asking.url().replace(&format!("user:{PASSWORD}@"), "");
        cases.push((None, wrong, "the proxy refuses the user name and the password"));
        cases.push((Some(asking), without, "the proxy asks for a user name and a password"));
    }
    for (protocol, refusal) in [
        (ProxyProtocol::Http, "the proxy does not connect to WhatsApp: it answers 403"),
        (ProxyProtocol::Socks4, "the proxy does not connect to WhatsApp: it says that it failed"),
        (ProxyProtocol::Socks5, "the proxy does not connect to WhatsApp: it is not allowed to"),
    ] {
        for (behaviour, expected) in [
            (ProxyBehaviour::Refuse, refusal),
            (ProxyBehaviour::Close, "the proxy closed the connection"),
            (ProxyBehaviour::Hang, "the proxy does not answer"),
        ] {
            let proxy = proxy(protocol).await;
            proxy.behave(behaviour);
            let url = proxy.url();
            cases.push((Some(proxy), url, expected));
        }
    }
    for (_proxy, url, expected) in &cases {
        set(&bench, Some(url)).await;
        until_error(&bench, "alice", expected).await;
        assert_eq!(bench.get("/sessions/alice").await.body["engineLoaded"], true, "it goes on trying");
    }
    assert_eq!(bench.world.live_connections(ALICE), 0);
    set(&bench, Some(&working.url())).await;
    let session = bench.until_status("alice", "ready").await;
    assert_eq!(session["lastError"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_sessions_behind_two_proxies_those_of_the_living_one_notice_nothing() {
    const EACH: usize = 25;
    let bench = bench().await;
    let (living, dying) = (proxy(ProxyProtocol::Socks5).await, proxy(ProxyProtocol::Http).await);
    for (letter, phone, proxy) in [("a", ALICE, &living), ("b", BOB, &dying)] {
        for nth in 0..EACH {
            let name = format!("{letter}-{nth}00");
            create(&bench, &name, Some(&proxy.url())).await;
            start(&bench, &name).await;
        }
        // The others wait for a phone, which takes a connection, too.
        link(&bench, &format!("{letter}-000"), phone).await;
    }
    let with_status = async |letter: &str, status: &str| {
        let sessions = bench.get("/sessions?limit=100").await.body;
        let sessions = sessions.as_array().unwrap().iter();
        let of_letter = sessions.filter(|session| session["name"].as_str().unwrap().starts_with(letter));
        of_letter.filter(|session| session["status"] == status).count()
    };
    for letter in ["a", "b"] {
        until_equal(EACH - 1, async || with_status(letter, "qr_ready").await).await;
    }
    let asked = living.targets().len();
    dying.behave(ProxyBehaviour::Hang);
    dying.cut();
    until_equal((0, 0), async || (with_status("b", "ready").await, with_status("b", "qr_ready").await)).await;
    // All of its sessions are trying again now, and hang. One of the other proxy's is not kept from connecting.
    create(&bench, "a-new", Some(&living.url())).await;
    start(&bench, "a-new").await;
    bench.qr("a-new").await;
    assert_eq!((with_status("a", "ready").await, with_status("a", "qr_ready").await), (1, EACH));
    assert_eq!(living.targets().len(), asked + 1, "nobody else connected again");
    until_error(&bench, "b-000", "the proxy does not answer").await;
    assert_eq!((bench.world.live_connections(ALICE), bench.world.live_connections(BOB)), (1, 0));

    dying.behave(ProxyBehaviour::Connect);
    bench.until_status("b-000", "ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_the_credentials_and_only_a_key_without_scopes_sets_a_proxy() {
    let (bench, proxy) = (bench().await, proxy(ProxyProtocol::Http).await);
    create(&bench, "alice", Some(&proxy.url())).await;
    start(&bench, "alice").await;
    link(&bench, "alice", ALICE).await;
    let shown: Vec<Value> = [
        bench.get(PROXY).await.body,
        set(&bench, Some(&proxy.url().replace("user", "other"))).await.body,
        bench.get("/sessions/alice").await.body,
        bench.get("/sessions").await.body,
        bench.get("/audit").await.body,
        bench.patch(PROXY, json!({ "proxyUrl": format!("{}/path", proxy.url()) })).await.body,
    ]
    .into();
    assert!(shown.iter().all(|body| !body.to_string().contains(PASSWORD)), "{shown:?}");

    let scoped = json!({ "name": "tenant", "role": "operator", "allowedSessions": ["alice"] });
    let scoped = bench.post("/auth/api-keys", scoped).await.body["apiKey"].as_str().unwrap().to_owned();
    let refused = bench
        .call_with(&scoped, reqwest::Method::PATCH, PROXY, Some(json!({ "proxyUrl": "http://127.0.0.1:25" })))
        .await;
    assert_eq!(refused.failure(), (403, "scoped_key"), "{refused:?}");
    assert_eq!(bench.call_with(&scoped, reqwest::Method::GET, PROXY, None).await.status, 200);
}
