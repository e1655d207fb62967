//! Every setting as flags give it. Variables are tried with the daemon itself (`tests/integration/process.rs`).

use clap::FromArgMatches as _;
use rookery_actors::{RateLimit, RateLimits};

use super::parsers::rate_limit_of;
use super::*;

fn command() -> Command {
    <Config as clap::Args>::augment_args(Command::new("rookery").no_binary_name(true))
}

fn parse(flags: &[&str]) -> Result<Config, String> {
    let given = without_variables(command()).try_get_matches_from(flags);
    given.and_then(|given| Config::from_arg_matches(&given)).map_err(|error| error.to_string())
}

#[test]
fn every_flag_has_a_variable_of_its_name() {
    for arg in command().get_arguments() {
        let flag = arg.get_long().unwrap();
        let expected = match flag {
            "credentials-dir" => "CREDENTIALS_DIRECTORY".to_owned(),
            _ => format!("ROOKERY_{}", flag.replace('-', "_").to_uppercase()),
        };
        assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(&*expected));
    }
}

#[test]
fn defaults_are_those_of_the_parts() {
    let config = Config::default();
    let (ours, theirs) = (config.session_options(), SessionOptions::default());
    assert_eq!(ours.rate_limits, RateLimits::default());
    assert_eq!(
        (ours.whatsapp_url, ours.whatsapp_timeout, ours.connects_per_second, ours.connecting_max),
        (theirs.whatsapp_url, theirs.whatsapp_timeout, theirs.connects_per_second, theirs.connecting_max)
    );
    assert_eq!(
        (ours.requests_per_session_max, ours.linking_window, ours.passkey_window, ours.sessions_max),
        (theirs.requests_per_session_max, theirs.linking_window, theirs.passkey_window, theirs.sessions_max)
    );
    assert_eq!(config.retention(), Retention::default());
    assert_eq!((config.listen.to_string(), config.location.data_dir), ("127.0.0.1:2785".into(), "./data".into()));
    assert!(config.http.trusted_proxies.is_empty() && config.fetch_allow == FetchAllow::default());
    assert_eq!(config.http.cors_origins, CorsOrigins::default());
}

#[test]
fn flags_are_read() {
    let config = parse(&[
        "--listen=[::1]:9",
        "--http-connections-max=7",
        "--header-timeout-s=8",
        "--fetch-allow=10.0.0.7:8080, media.example.com",
        "--trusted-proxies=127.0.0.1, 10.0.0.0/8",
        "--cors-origins=https://a.example",
        "--pace-create=off",
        "--key-rate=off",
        "--limit-write=7/s:9",
    ]);
    let config = config.unwrap();
    assert_eq!(config.listen.to_string(), "[::1]:9");
    assert_eq!((config.http.limits.connections_max, config.http.limits.header_time_max.as_secs()), (7, 8));
    assert_eq!(Ok(config.fetch_allow.clone()), "10.0.0.7:8080,media.example.com".parse());
    assert_eq!(config.http.trusted_proxies, ["127.0.0.1", "10.0.0.0/8"].map(|range| range.parse().unwrap()));
    assert_eq!(Ok(config.http.cors_origins.clone()), "https://a.example".parse());
    assert_eq!(config.http.limits.key_rate, None);
    let rate_limits = config.session_options().rate_limits;
    let write = Some(RateLimit::new(7, Duration::from_secs(1), 9));
    assert_eq!(rate_limits, RateLimits { create: None, write, ..RateLimits::default() });
}

#[test]
fn a_bad_value_names_its_flag_and_what_is_allowed() {
    let cases = [
        ("--listen", "localhost", "an address and port"),
        ("--connects-per-second", "0", "a whole number from 1 to 1000"),
        ("--connecting-max", "many", "a whole number from 1 to 10000"),
        ("--whatsapp-timeout-ms", "20 s", "a whole number from 100 to 20000"),
        ("--drain-timeout-s", "31", "a whole number from 1 to 30"),
        ("--fetch-allow", "10.0.0.0/8", "comma-separated hosts"),
        ("--fetch-allow", "", "comma-separated hosts"),
        ("--cors-origins", "", "comma-separated origins"),
        ("--trusted-proxies", "10.0.0.1,", "comma-separated addresses or CIDR ranges"),
        ("--data-dir", "", "a path"),
        ("--trusted-proxies", "", "comma-separated addresses or CIDR ranges"),
        ("--limit-create", "ten", "`off`, or a count per s, min, h or d and a burst, such as 10/h:5"),
        (
            "--limit-add",
            "60/min:255",
            "such as 10/h:256, with a burst of 256 or more as one request may name that many people",
        ),
        ("--log", "rookery=loud", "a log filter"),
        ("--device-name", " ", "1 to 40 characters"),
        ("--device-name", "Hub\n", "1 to 40 characters"),
        ("--device-name", "0123456789012345678901234567890123456789x", "1 to 40 characters"),
        ("--number-lookup", "yes", "true or false"),
        ("--store-message-text", "no", "true or false"),
        ("--limit-lookup", "20", "`off`, or a count"),
        ("--limit-message", "30/week", "`off`, or a count"),
        ("--whatsapp-url", "http://127.0.0.1/", "loopback"),
    ];
    for (flag, value, allowed) in cases {
        let error = parse(&[&format!("{flag}={value}")]).map(|_| ()).unwrap_err();
        assert!(error.contains(&format!("{flag} is `{value}`, but must be ")) && error.contains(allowed), "{error}");
    }
}

#[test]
fn a_rate_limit_is_a_count_in_a_time_and_a_burst_or_off() {
    let hour = Duration::from_secs(3_600);
    let cases = [
        ("off", Some(None)),
        ("10/h:5", Some(Some(RateLimit::new(10, hour, 5)))),
        ("1/s:1", Some(Some(RateLimit::new(1, Duration::from_secs(1), 1)))),
        ("60/min:256", Some(Some(RateLimit::new(60, Duration::from_secs(60), 256)))),
        ("1000000/d:1000000", Some(Some(RateLimit::new(1_000_000, hour * 24, 1_000_000)))),
        ("0/h:5", None),
        ("10/h:0", None),
        ("10/h", None),
        ("10:5", None),
        ("10/hour:5", None),
        ("-1/h:5", None),
        ("10/h:1000001", None),
        ("", None),
    ];
    for (text, expected) in cases {
        assert_eq!(rate_limit_of(text, 1), expected, "{text}");
    }
}

#[test]
fn a_bootstrap_key_on_the_command_line_is_refused_and_not_repeated() {
    let error = parse(&["--bootstrap-key", &"k".repeat(32)]).map(|_| ()).unwrap_err();
    for other_way in ["--bootstrap-key-file", "ROOKERY_BOOTSTRAP_KEY", "rookery-bootstrap-key"] {
        assert!(error.contains("--bootstrap-key must be given") && error.contains(other_way), "{error}");
    }
    assert!(!error.contains("kkkk"));
    let config = Config { bootstrap_key: Some("k".repeat(32).as_str().into()), ..Config::default() };
    assert!(!format!("{config:?}").contains("kkkk"));
    let config = parse(&["--bootstrap-key-file=/etc/rookery/key"]).unwrap();
    assert_eq!(config.bootstrap_key_file, Some("/etc/rookery/key".into()));
}

#[test]
fn a_whatsapp_url_is_encrypted_or_on_loopback() {
    let own = !cfg!(feature = "simulator");
    let cases = [
        (WHATSAPP_URL, own),
        ("wss://example.com/ws/chat", own),
        ("ws://example.com/ws/chat", false),
        ("ws://127.0.0.1.example.com/", false),
        ("ws://localhost:7700/ws/chat", true),
        ("ws://[::1]:7700/ws/chat", true),
        ("wss://127.8.9.1:7700/ws/chat", true),
        ("http://127.0.0.1:7700/", false),
        ("127.0.0.1:7700", false),
        ("", false),
    ];
    for (url, allowed) in cases {
        assert_eq!(is_whatsapp_url_allowed(url), allowed, "{url}");
    }
    assert_eq!(Config::default().check().is_ok(), own);
}
