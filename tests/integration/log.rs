//! P-1 over the whole run: all log lines of every test are checked, at trace level, those of daemons in this process
//! and those of child processes. At the end of each test, no line may have a text that the test's world knows.

use std::collections::HashSet;
use std::io;
use std::sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError};

use rookery_simulator::World;
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The simulator logs about its own world; it is no part of the daemon.
const FILTER: &str = "trace,rookery_simulator=off";
/// The prefix of each key that the daemon made; lists show some characters more of a key.
const KEY_PREFIX: &str = "rk_";
const KEY_CHARS_SHOWN: usize = 8;
/// Digits of a phone number or a LID.
const PERSON_DIGITS: std::ops::RangeInclusive<usize> = 10..=15;
/// Shorter texts are words that a program may use itself.
const TEXT_CHARS_MIN: usize = 8;

/// The parts of the log that are searched: the whole log would be gigabytes.
#[derive(Default)]
struct Seen {
    /// Lines without their digits.
    lines: HashSet<String>,
    /// Runs of digits that may be a person.
    participants: HashSet<String>,
    /// Lines that hold a key, or a proxy's password.
    with_keys: Vec<String>,
}

static SEEN: LazyLock<Mutex<Seen>> = LazyLock::new(Mutex::default);

fn seen() -> MutexGuard<'static, Seen> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to collect the log of this process.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let lines = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(FILTER)).with_writer(Lines);
        lines.with_ansi(false).without_time().init();
    });
}

/// Adds what another process logged.
pub(crate) fn add(output: &str) {
    let mut seen = seen();
    output.lines().for_each(|line| seen.add(line));
}

/// Asserts that nothing that this world knows was logged so far, and no key.
///
/// # Panics
/// When something was.
pub(crate) fn assert_none_of(world: &World) {
    // A test that failed says why itself.
    if std::thread::panicking() {
        return;
    }
    let snapshot = world.snapshot();
    let phones = list(&snapshot, "accounts").filter_map(|account| account["phone"].as_str());
    let messages = phones.flat_map(|phone| [world.messages(phone), world.sent_messages(phone)].concat());
    let texts: Vec<String> = messages.filter_map(|message| message.text).collect();
    let leak = seen().leak_of(&snapshot, &texts);
    assert!(leak.is_none(), "{}", leak.unwrap_or_default());
}

impl Seen {
    fn add(&mut self, line: &str) {
        let runs = line.split(|char: char| !char.is_ascii_digit());
        for run in runs.filter(|run| PERSON_DIGITS.contains(&run.len())) {
            if !self.participants.contains(run) {
                self.participants.insert(run.to_owned());
            }
        }
        let made = line.match_indices(KEY_PREFIX).any(|(at, _)| {
            let rest = line[at + KEY_PREFIX.len()..].bytes();
            rest.take_while(u8::is_ascii_hexdigit).count() > KEY_CHARS_SHOWN
        });
        let secrets = [crate::harness::KEY, crate::process::KEY, crate::proxies::PASSWORD];
        if made || secrets.iter().any(|key| line.contains(key)) {
            self.with_keys.push(line.to_owned());
        }
        let line = without_digits(line);
        if !self.lines.contains(&line) {
            self.lines.insert(line);
        }
    }

    /// What should not have been logged; `messages`: the texts of messages.
    fn leak_of(&self, snapshot: &Value, messages: &[String]) -> Option<String> {
        let participants = list(snapshot, "accounts").flat_map(|account| [&account["phone"], &account["lid"]]);
        let person = participants.filter_map(Value::as_str).find(|person| self.participants.contains(*person));
        if let Some(person) = person {
            return Some(format!("`{person}` was logged"));
        }
        let known = list(snapshot, "groups").chain(list(snapshot, "accounts"));
        let texts = known.flat_map(|of| ["subject", "description", "name"].map(|field| of[field].as_str()));
        for text in texts.flatten().chain(messages.iter().map(String::as_str)) {
            let text = without_digits(text);
            let text = text.trim();
            if text.len() >= TEXT_CHARS_MIN
                && let Some(line) = self.lines.iter().find(|line| line.contains(text))
            {
                return Some(format!("`{text}` was logged: {line}"));
            }
        }
        (!self.with_keys.is_empty()).then(|| format!("keys were logged: {:#?}", self.with_keys))
    }
}

/// The members of a list in the snapshot.
fn list<'a>(snapshot: &'a Value, of: &str) -> impl Iterator<Item = &'a Value> {
    snapshot[of].as_array().into_iter().flatten()
}

fn without_digits(text: &str) -> String {
    text.chars().filter(|char| !char.is_ascii_digit()).collect()
}

/// Adds each line of the log to `SEEN`.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        add(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

#[test]
fn what_must_not_be_logged_is_seen_wherever_it_stands() {
    let world = json!({
        "accounts": [{ "phone": "15550100001", "lid": "123456789012345", "name": "Alexandra" }],
        "groups": [{ "subject": "Layoffs 2027, part 2", "description": null }],
    });
    let lines = [
        ("linked 15550100001@s.whatsapp.net", true),
        ("jid=123456789012345:7@lid", true),
        ("to 115550100001", false),
        ("renamed to Layoffs 2027, part 2!", true),
        ("Alexandra", true),
        ("Alex", false),
        ("sent: see you at noon", true),
        ("rk_0123456789abcdef", true),
        ("rk_01234...", false),
        (crate::harness::KEY, true),
    ];
    for (line, is_leak) in lines {
        let mut seen = Seen::default();
        seen.add(line);
        assert_eq!(seen.leak_of(&world, &["see you at noon".into()]).is_some(), is_leak, "{line}");
    }
}
