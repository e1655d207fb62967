//! The real binary as a child process against the simulator: starting, stopping, being killed, and what it writes.
//! Nothing in here reaches into the daemon: the tests know only HTTP, the exit code and the output.

mod answered;
mod attacks;
mod audited;
mod backups;
mod child;
mod crash_points;
mod delivered;
mod demo;
mod encrypted;
mod hardened;
mod heard;
mod idempotent;
mod killed;
mod layout;
mod messaged;
mod secrets;
mod setup;
mod told;

use std::time::{Duration, Instant};

use serde_json::json;

use child::{Child, Signal};
pub(crate) use setup::KEY;
use setup::{OWN_PHONE, Setup, groups_of, until_groups_equal};

/// Bad settings are found before anything is opened, a lock after the store's directory was checked.
const REFUSAL_TIME_MAX: Duration = Duration::from_secs(10);
/// Nothing is in flight, so the daemon uses none of its ten seconds for that.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_comes_back_ready_with_its_groups_and_no_new_qr() {
    let setup = Setup::start().await;
    let team = setup.group("Team", &["15550100002", "15550100003"]);
    let club = setup.group("Book Club", &["15550100004"]);
    let daemon = setup.daemon().await;
    daemon.link("alice", OWN_PHONE).await;
    let renamed = daemon.put(&groups_of("alice", &format!("/{team}/subject")), json!({"subject": "Crew"})).await;
    assert_eq!(renamed.0, 200, "{renamed:?}");
    daemon.child.kill();
    setup.world().change_subject(&club, "15550100004", "Chess Club").expect("members may");

    let started_at = Instant::now();
    let daemon = setup.daemon().await;
    daemon.until_ready_by_itself("alice").await;
    assert!(started_at.elapsed() < Duration::from_secs(3), "ready after {:?}", started_at.elapsed());

    until_groups_equal(&daemon, "alice", &setup.world(), OWN_PHONE).await;
    let (_, team) = daemon.get(&groups_of("alice", &format!("/{team}"))).await;
    assert_eq!(team["name"], "Crew");
    let (_, club) = daemon.get(&groups_of("alice", &format!("/{club}"))).await;
    assert_eq!(club["name"], "Chess Club", "changed while there was no daemon");
    setup.assert_one_device(OWN_PHONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_a_daemon_with_a_ready_session_at_once_and_it_comes_back() {
    let setup = Setup::start().await;
    setup.group("Team", &["15550100002"]);
    let daemon = setup.daemon().await;
    daemon.link("alice", OWN_PHONE).await;

    let asked_at = Instant::now();
    daemon.child.signal(Signal::Terminate);
    let code = daemon.child.until_exit(SHUTDOWN_TIME_MAX).await;
    assert_eq!(code, Some(0), "after {:?}:\n{}", asked_at.elapsed(), daemon.child.output());

    let daemon = setup.daemon().await;
    daemon.until_ready_by_itself("alice").await;
    until_groups_equal(&daemon, "alice", &setup.world(), OWN_PHONE).await;
    setup.assert_one_device(OWN_PHONE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_same_data_directory_refuses_to_start() {
    let setup = Setup::start().await;
    let first = setup.daemon().await;

    let second = setup.spawn_daemon(&[]);
    let code = second.until_exit(REFUSAL_TIME_MAX).await;
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    let output = second.output().to_lowercase();
    assert!(output.contains("another") && output.contains("director"), "{output}");

    let (status, _) = first.get("/api/sessions").await;
    assert_eq!(status, 200, "the first one goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_setting_ends_with_64_and_is_named() {
    let setup = Setup::start().await;
    let cases = [
        ("ROOKERY_LISTEN", "somewhere", "ROOKERY_LISTEN is `somewhere`"),
        ("ROOKERY_LOG", "rookery=loud", "ROOKERY_LOG is `rookery=loud`"),
        ("ROOKERY_CONNECTS_PER_SECOND", "0", "ROOKERY_CONNECTS_PER_SECOND is `0`"),
        ("ROOKERY_BOOTSTRAP_KEY", "short", "ROOKERY_BOOTSTRAP_KEY must be 32 to 256 characters"),
        ("ROOKERY_TRUSTED_PROXIES", "127.0.0.1,proxy", "ROOKERY_TRUSTED_PROXIES is `127.0.0.1,proxy`"),
        ("ROOKERY_KEY_RATE", "many", "ROOKERY_KEY_RATE is `many`, but must be `off`, or a count"),
        ("ROOKERY_WHATSAPP_URL", "wss://web.whatsapp.com/ws/chat", "must be a ws:// or wss:// URL on loopback"),
        ("ROOKERY_WHATSAPP_URL", "ws://192.0.2.1:7700/ws/chat", "must be a ws:// or wss:// URL on loopback"),
    ];
    for (variable, value, expected) in cases {
        let child = setup.spawn_daemon(&[(variable, value)]);
        let code = child.until_exit(REFUSAL_TIME_MAX).await;
        let output = child.output();
        assert_eq!(code, Some(64), "{variable}={value}: {output}");
        assert!(output.contains(expected), "{variable}={value}: {output}");
        assert!(!output.contains("short"), "a secret is not repeated: {output}");
    }

    // A flag wins over its variable, the earlier names of variables count, and an empty variable is not set.
    let calls = [
        ("serve --listen=here", "ROOKERY_LISTEN=there", "--listen is `here`"),
        ("--listen=here", "ROOKERY_LISTEN=there", "--listen is `here`"),
        ("serve", "ROOKERY_PACE_ADD=1/w:1 ROOKERY_LIMIT_ADD=", "ROOKERY_PACE_ADD is `1/w:1`"),
        ("serve", "ROOKERY_SESSIONS_MAX= ROOKERY_PACE_ADD=x ROOKERY_LIMIT_ADD=y", "ROOKERY_LIMIT_ADD is `y`"),
    ];
    for (arguments, variables, expected) in calls {
        let variables: Vec<_> = variables.split(' ').filter_map(|variable| variable.split_once('=')).collect();
        let child = Child::spawn(&arguments.split(' ').collect::<Vec<_>>(), &variables);
        assert_eq!(child.until_exit(REFUSAL_TIME_MAX).await, Some(64), "{expected}: {}", child.output());
        assert!(child.output().contains(expected), "{expected}: {}", child.output());
    }
    // Another command reads its own settings only.
    let other = Child::spawn(&["reset-keys"], &[("ROOKERY_LISTEN", "here"), ("ROOKERY_DATA_DIR", "/nowhere")]);
    assert_eq!(other.until_exit(REFUSAL_TIME_MAX).await, Some(1), "{}", other.output());
    assert!(other.output().contains("rookery: there is no store in `/nowhere`"), "{}", other.output());

    let unknown = Child::spawn(&["serve", "--no-such-flag"], &[]);
    assert_eq!(unknown.until_exit(REFUSAL_TIME_MAX).await, Some(64));
    assert!(unknown.output().contains("--no-such-flag"), "{}", unknown.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn this_build_says_that_it_is_for_loopback_only() {
    let version = Child::spawn(&["--version"], &[]);
    assert_eq!(version.until_exit(REFUSAL_TIME_MAX).await, Some(0));
    assert!(version.output().contains("loopback only"), "{}", version.output());

    // Without the setting the URL would be WhatsApp's own, which this build must not connect to.
    let serve = Child::spawn(&["serve", "--listen", "127.0.0.1:0"], &[]);
    assert_eq!(serve.until_exit(REFUSAL_TIME_MAX).await, Some(64), "{}", serve.output());
    assert!(serve.output().contains("ROOKERY_WHATSAPP_URL"), "{}", serve.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_pepper_of_its_keys_a_daemon_says_what_to_do_and_changes_nothing() {
    let setup = Setup::start().await;
    let daemon = setup.daemon().await;
    let (status, made) = daemon.post("/api/auth/api-keys", json!({ "name": "alice" })).await;
    assert_eq!(status, 201, "{made}");
    let running = Child::spawn(&["reset-keys"], &[("ROOKERY_DATA_DIR", &setup.data_dir())]);
    assert_eq!(running.until_exit(REFUSAL_TIME_MAX).await, Some(1));
    assert!(running.output().contains("stop the daemon first"), "{}", running.output());
    daemon.child.kill();

    let pepper = std::path::Path::new(&setup.data_dir()).join("api-keys.pepper");
    let content = std::fs::read(&pepper).expect("made with the first key");
    for spoil in [None, Some("0".repeat(64))] {
        std::fs::remove_file(&pepper).expect("it is there");
        if let Some(other) = &spoil {
            std::fs::write(&pepper, other).expect("it can be written");
        }
        let refused = setup.spawn_daemon(&[]);
        assert_eq!(refused.until_exit(REFUSAL_TIME_MAX).await, Some(1));
        assert!(refused.output().contains("put it back from a backup, or run `rookery reset-keys`"), "{spoil:?}");
        std::fs::write(&pepper, &content).expect("it can be written");
    }
    let daemon = setup.daemon().await;
    let key = made["apiKey"].as_str().expect("shown this once");
    let list = daemon.try_request_with(key, reqwest::Method::GET, "/api/sessions", None).await;
    assert_eq!(list.expect("an answer").0, 200, "put back, all is as before");
    daemon.child.kill();

    let reset = Child::spawn(&["reset-keys", "--data-dir", &setup.data_dir()], &[]);
    assert_eq!(reset.until_exit(REFUSAL_TIME_MAX).await, Some(0), "{}", reset.output());
    assert!(reset.output().contains("removed 2 API keys"), "{}", reset.output());
    let daemon = setup.daemon_with(&[("ROOKERY_BOOTSTRAP_KEY", "")]).await;
    assert!(daemon.child.output().contains("admin key (shown this once"), "{}", daemon.child.output());
}
