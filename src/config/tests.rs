//! Every setting as flags and variables give it.

use rookery_actors::{RateLimit, WHATSAPP_URL};

use super::reader::rate_limit;
use super::*;

const LOOPBACK: &str = "ws://127.0.0.1:7700/ws/chat";

fn flags(change: impl FnOnce(&mut ServeArguments)) -> ServeArguments {
    let mut flags = ServeArguments { whatsapp_url: Some(LOOPBACK.into()), ..ServeArguments::default() };
    change(&mut flags);
    flags
}

fn resolve_variable(name: &str, value: &str) -> Result<Config, ConfigError> {
    Config::resolve(flags(|_| ()), |asked| (asked == name).then(|| value.into()))
}

#[test]
fn a_flag_wins_over_its_variable_and_an_empty_variable_is_none() {
    let given = flags(|flags| flags.listen = Some("127.0.0.1:1".into()));
    let config = Config::resolve(given, |_| Some("".into())).unwrap();
    assert_eq!((config.listen.port(), config.connecting_max), (1, 50));
    let config = resolve_variable("ROOKERY_LISTEN", "[::1]:9").unwrap();
    assert_eq!(config.listen.to_string(), "[::1]:9");
    assert_eq!(resolve_variable("ROOKERY_HTTP_CONNECTIONS_MAX", "7").unwrap().http.limits.connections_max, 7);
    let allow = resolve_variable("ROOKERY_FETCH_ALLOW", "10.0.0.7:8080, media.example.com").unwrap().fetch_allow;
    assert_eq!(Ok(allow), "10.0.0.7:8080,media.example.com".parse());
}

#[test]
fn a_bad_value_names_itself_its_source_and_what_is_allowed() {
    let cases = [
        ("ROOKERY_LISTEN", "localhost", "ROOKERY_LISTEN is `localhost`, but must be an address and port"),
        ("ROOKERY_CONNECTS_PER_SECOND", "0", "is `0`, but must be a whole number from 1 to 1000"),
        ("ROOKERY_WHATSAPP_TIMEOUT_MS", "20 s", "is `20 s`, but must be a whole number from 100 to 20000"),
        ("ROOKERY_FETCH_ALLOW", "10.0.0.0/8", "is `10.0.0.0/8`, but must be comma-separated hosts"),
        ("ROOKERY_LIMIT_CREATE", "ten", "is `ten`, but must be `off`, or a count per s, min, h or d and a burst"),
        ("ROOKERY_PACE_QUERY", "1/w:1", "such as 10/h:5"),
        ("ROOKERY_LOG", "rookery=loud", "ROOKERY_LOG is `rookery=loud`, but must be a log filter"),
    ];
    for (name, value, expected) in cases {
        let error = resolve_variable(name, value).map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with(name) && error.contains(expected), "{error}");
    }
    let given = flags(|flags| flags.connecting_max = Some("many".into()));
    let error = Config::resolve(given, |_| None).map(|_| ()).unwrap_err().to_string();
    assert_eq!(error, "--connecting-max is `many`, but must be a whole number from 1 to 10000");
}

#[test]
fn a_pace_is_a_count_in_a_time_and_a_burst_or_off() {
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
        assert_eq!(rate_limit(text, 1), expected, "{text}");
    }
}

#[test]
fn rate_limits_are_the_actors_own_unless_told_otherwise() {
    assert_eq!(resolve_variable("ROOKERY_LOG", "info").unwrap().rate_limits, RateLimits::default());
    // The second is the name of before.
    for variable in ["ROOKERY_LIMIT_CREATE", "ROOKERY_PACE_CREATE"] {
        let rate_limits = resolve_variable(variable, "off").unwrap().session_options().rate_limits;
        assert_eq!(rate_limits, RateLimits { create: None, ..RateLimits::default() });
    }
    let flags = RateLimitArguments { limit_write: Some("7/s:9".into()), ..RateLimitArguments::default() };
    let write = flags.resolve(|_| None).unwrap().write;
    assert_eq!(write, Some(RateLimit::new(7, Duration::from_secs(1), 9)));
    let error = resolve_variable("ROOKERY_LIMIT_ADD", "60/min:255").map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("a burst of 256 or more as one request may name that many people"), "{error}");
}

#[test]
fn a_bad_bootstrap_key_is_not_repeated() {
    let error = resolve_variable("ROOKERY_BOOTSTRAP_KEY", "hunter2").map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("ROOKERY_BOOTSTRAP_KEY must be 32 to 256 characters") && !error.contains("hunter2"));
    let config = resolve_variable("ROOKERY_BOOTSTRAP_KEY", &"k".repeat(32)).unwrap();
    assert!(!format!("{config:?}").contains("kkkk"));
}

#[test]
fn a_bootstrap_key_on_the_command_line_is_refused_and_not_repeated() {
    let given = flags(|flags| flags.bootstrap_key = Some("k".repeat(32).into()));
    let error = Config::resolve(given, |_| None).map(|_| ()).unwrap_err().to_string();
    for other_way in ["--bootstrap-key-file", "ROOKERY_BOOTSTRAP_KEY", "rookery-bootstrap-key"] {
        assert!(error.starts_with("--bootstrap-key must be given") && error.contains(other_way), "{error}");
    }
    assert!(!error.contains("kkkk"));
    let config = resolve_variable("ROOKERY_BOOTSTRAP_KEY_FILE", "/etc/rookery/key").unwrap();
    assert_eq!(config.bootstrap_key_file, Some("/etc/rookery/key".into()));
    assert_eq!((config.api_keys_max, config.sessions_max), (1_000, 10_000));
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
    let without = ServeArguments::default();
    assert_eq!(Config::resolve(without, |_| None).is_ok(), own);
}
