//! Two candidates for the event log, measured alike: redb with one file a day, and fjall with one keyspace a day. Beside them
//! the log itself, as it came of them.
//!
//! `cargo bench -p rookery-store --bench event_log [-- EVENTS [CANDIDATE]]`: 10 million events of 1,000 sessions unless told
//! otherwise (some 8 GB on the volume of the temporary directory). Each step runs in a process of its own, so that memory and the time
//! to open after a kill are those of one candidate. The results are in `actors/README.md`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench says what it measured, and fails as tests do")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{ReadableDatabase, TableDefinition};
use rookery_store::{Append, EventLog, EventLogOptions, SessionNumber, SpaceUse};

/// What an event takes on disk: its JSON, encrypted.
const EVENT_BYTES: usize = 320;
const SESSIONS: u32 = 1_000;
const DAYS: u32 = 30;
/// How a group was to be written, of a small change.
const REDO_BYTES: usize = 200;
const CACHE_BYTES: usize = 8 * 1024 * 1024;
/// A message's chat and id lead to its number.
const CHATS: u64 = 20;

type Key = [u8; 12];

fn key(session: u32, number: u64) -> Key {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&session.to_be_bytes());
    key[4..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Session, chat, and number of the event: a chat's messages in their order.
fn chat_key(session: u32, number: u64) -> [u8; 20] {
    let mut chat = [0; 20];
    chat[..4].copy_from_slice(&session.to_be_bytes());
    chat[4..12].copy_from_slice(&(number % CHATS).to_be_bytes());
    chat[12..].copy_from_slice(&number.to_be_bytes());
    chat
}

/// Bytes that no compression makes smaller.
fn value(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(EVENT_BYTES);
    while bytes.len() < EVENT_BYTES {
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9) ^ (state >> 27);
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

type Event = (u32, u64);

trait Candidate {
    fn open(path: &Path) -> Self;
    /// On disk when this returns.
    fn append(&mut self, day: u32, events: &[Event]);
    /// So many events of a session from this number on; returns their bytes.
    fn read(&self, session: u32, from: u64, count: usize) -> usize;
    /// The newest 50 of a chat, one by its number in the chat, and how many there are.
    fn newest(&self, session: u32, chat: u64) -> usize;
    fn one(&self, session: u32, number: u64) -> bool;
    fn count(&self, session: u32, chat: u64) -> usize;
    fn drop_day(&mut self, day: u32);
}

const EVENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("events");
const CHAT: TableDefinition<'_, &[u8], ()> = TableDefinition::new("chats");

struct Redb {
    path: PathBuf,
    days: Vec<(u32, redb::Database)>,
}

impl Redb {
    fn file(path: &Path, day: u32) -> PathBuf {
        path.join(format!("{day:03}.redb"))
    }

    /// Each day has a cache of its own.
    fn database(path: &Path) -> redb::Database {
        redb::Database::builder().set_cache_size(CACHE_BYTES / DAYS as usize).create(path).unwrap()
    }

    fn each<T>(&self, mut with: impl FnMut(&redb::ReadTransaction) -> Option<T>) -> Option<T> {
        self.days.iter().rev().find_map(|(_, database)| with(&database.begin_read().unwrap()))
    }
}

impl Candidate for Redb {
    fn open(path: &Path) -> Self {
        let days = (0..=DAYS).filter(|day| Self::file(path, *day).exists());
        Self { path: path.to_owned(), days: days.map(|day| (day, Self::database(&Self::file(path, day)))).collect() }
    }

    fn append(&mut self, day: u32, events: &[Event]) {
        if self.days.last().is_none_or(|(last, _)| *last != day) {
            self.days.push((day, Self::database(&Self::file(&self.path, day))));
        }
        let database = &self.days.last().unwrap().1;
        let write = database.begin_write().unwrap();
        {
            let mut rows = write.open_table(EVENTS).unwrap();
            let mut chats = write.open_table(CHAT).unwrap();
            for (session, number) in events {
                rows.insert(&key(*session, *number)[..], &value(*number)[..]).unwrap();
                chats.insert(&chat_key(*session, *number)[..], ()).unwrap();
            }
        }
        write.commit().unwrap();
    }

    fn read(&self, session: u32, from: u64, count: usize) -> usize {
        let (mut left, mut bytes) = (count, 0);
        for (_, database) in &self.days {
            let read = database.begin_read().unwrap();
            let rows = read.open_table(EVENTS).unwrap();
            let range = rows.range::<&[u8]>(&key(session, from)[..]..&key(session + 1, 0)[..]).unwrap();
            for row in range.take(left) {
                bytes += row.unwrap().1.value().len();
                left -= 1;
            }
        }
        bytes
    }

    fn newest(&self, session: u32, chat: u64) -> usize {
        let mut found = 0;
        self.each(|read| {
            let (chats, rows) = (read.open_table(CHAT).unwrap(), read.open_table(EVENTS).unwrap());
            let range = chats.range::<&[u8]>(&prefix(session, chat)[..]..&prefix(session, chat + 1)[..]).unwrap();
            for row in range.rev().take(50 - found) {
                let number = u64::from_be_bytes(row.unwrap().0.value()[12..].try_into().unwrap());
                found += usize::from(rows.get(&key(session, number)[..]).unwrap().is_some());
            }
            (found == 50).then_some(())
        });
        found
    }

    fn one(&self, session: u32, number: u64) -> bool {
        let key = key(session, number);
        self.each(|read| read.open_table(EVENTS).unwrap().get(&key[..]).unwrap().map(|_| ())).is_some()
    }

    fn count(&self, session: u32, chat: u64) -> usize {
        let mut count = 0;
        self.each::<()>(|read| {
            let chats = read.open_table(CHAT).unwrap();
            count += chats.range::<&[u8]>(&prefix(session, chat)[..]..&prefix(session, chat + 1)[..]).unwrap().count();
            None
        });
        count
    }

    fn drop_day(&mut self, day: u32) {
        self.days.retain(|(of, _)| *of != day);
        std::fs::remove_file(Self::file(&self.path, day)).unwrap();
    }
}

fn prefix(session: u32, chat: u64) -> [u8; 12] {
    let mut prefix = [0; 12];
    prefix[..4].copy_from_slice(&session.to_be_bytes());
    prefix[4..].copy_from_slice(&chat.to_be_bytes());
    prefix
}

struct Fjall {
    database: Database,
    days: Vec<(u32, Keyspace, Keyspace)>,
}

impl Fjall {
    fn options() -> KeyspaceCreateOptions {
        use fjall::config::{FilterPolicy, PartitioningPolicy, PinningPolicy};
        KeyspaceCreateOptions::default()
            .max_memtable_size(4 * 1024 * 1024)
            .filter_policy(FilterPolicy::disabled())
            .index_block_partitioning_policy(PartitioningPolicy::all(true))
            .index_block_pinning_policy(PinningPolicy::all(false))
    }

    fn day(database: &Database, day: u32) -> (u32, Keyspace, Keyspace) {
        let rows = database.keyspace(&format!("{day:03}-events"), Self::options).unwrap();
        (day, rows, database.keyspace(&format!("{day:03}-chats"), Self::options).unwrap())
    }
}

impl Candidate for Fjall {
    fn open(path: &Path) -> Self {
        let builder = Database::builder(path.join("fjall")).cache_size(CACHE_BYTES as u64).worker_threads(1);
        let database = builder.max_journaling_size(64 * 1024 * 1024).max_cached_files(Some(64)).open().unwrap();
        let known = (0..=DAYS).filter(|day| database.keyspace_exists(&format!("{day:03}-events")));
        Self { days: known.map(|day| Self::day(&database, day)).collect(), database }
    }

    fn append(&mut self, day: u32, events: &[Event]) {
        if self.days.last().is_none_or(|(last, ..)| *last != day) {
            self.days.push(Self::day(&self.database, day));
        }
        let (_, rows, chats) = self.days.last().unwrap();
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (session, number) in events {
            batch.insert(rows, key(*session, *number), value(*number));
            batch.insert(chats, chat_key(*session, *number), []);
        }
        batch.commit().unwrap();
    }

    fn read(&self, session: u32, from: u64, count: usize) -> usize {
        let (mut left, mut bytes) = (count, 0);
        for (_, rows, _) in &self.days {
            for row in rows.range(key(session, from)..key(session + 1, 0)).take(left) {
                bytes += row.value().unwrap().len();
                left -= 1;
            }
        }
        bytes
    }

    fn newest(&self, session: u32, chat: u64) -> usize {
        let mut found = 0;
        for (_, rows, chats) in self.days.iter().rev() {
            for row in chats.range(prefix(session, chat)..prefix(session, chat + 1)).rev().take(50 - found) {
                let number = u64::from_be_bytes(row.key().unwrap()[12..].try_into().unwrap());
                found += usize::from(rows.get(key(session, number)).unwrap().is_some());
            }
        }
        found
    }

    fn one(&self, session: u32, number: u64) -> bool {
        let key = key(session, number);
        self.days.iter().rev().any(|(_, rows, _)| rows.get(key).unwrap().is_some())
    }

    fn count(&self, session: u32, chat: u64) -> usize {
        let days = self.days.iter();
        days.map(|(_, _, chats)| chats.range(prefix(session, chat)..prefix(session, chat + 1)).count()).sum()
    }

    fn drop_day(&mut self, day: u32) {
        let at = self.days.iter().position(|(of, ..)| *of == day).unwrap();
        let (_, rows, chats) = self.days.remove(at);
        self.database.delete_keyspace(rows).unwrap();
        self.database.delete_keyspace(chats).unwrap();
    }
}

/// The log as it is; it has no chats.
struct Log {
    log: EventLog,
    now_ms: Arc<AtomicI64>,
}

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

impl Candidate for Log {
    fn open(path: &Path) -> Self {
        let now_ms = Arc::new(AtomicI64::new(i64::from(DAYS) * DAY_MS));
        let clock = Arc::clone(&now_ms);
        let now: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(move || clock.load(Ordering::Relaxed));
        if !path.join("events").exists() {
            now_ms.store(0, Ordering::Relaxed);
        }
        let options = EventLogOptions { now, free_space_min_bytes: 0, ..EventLogOptions::default() };
        Self { log: EventLog::open(&path.join("events"), options).unwrap(), now_ms }
    }

    fn append(&mut self, day: u32, events: &[Event]) {
        self.now_ms.store(i64::from(day) * DAY_MS, Ordering::Relaxed);
        // As they come: an append for each, all on their way at once.
        let tickets: Vec<_> = events
            .iter()
            .map(|(session, number)| {
                let (session, events) = (SessionNumber(*session + 1), vec![value(*number)]);
                let redo = vec![7; REDO_BYTES];
                self.log.append(Append {
                    session,
                    first: number + 1,
                    events,
                    redo,
                    index: Vec::new(),
                    space: SpaceUse::Writing,
                })
            })
            .collect();
        tickets.into_iter().for_each(|ticket| ticket.wait_blocking().unwrap());
    }

    fn read(&self, session: u32, from: u64, count: usize) -> usize {
        let (mut read, mut bytes, mut next) = (0, 0, from + 1);
        while read < count {
            let events = self.log.read(SessionNumber(session + 1), next..=u64::MAX, count - read).unwrap();
            let Some((last, _)) = events.last() else { break };
            next = last + 1;
            read += events.len();
            bytes += events.iter().map(|(_, event)| event.len()).sum::<usize>();
        }
        bytes
    }

    fn newest(&self, _: u32, _: u64) -> usize {
        1
    }

    fn one(&self, session: u32, number: u64) -> bool {
        let number = number + 1;
        !self.log.read(SessionNumber(session + 1), number..=number, 1).unwrap().is_empty()
    }

    fn count(&self, _: u32, _: u64) -> usize {
        1
    }

    fn drop_day(&mut self, day: u32) {
        self.now_ms.store(i64::from(day + 31) * DAY_MS, Ordering::Relaxed);
        self.log.trim().unwrap();
    }
}

/// The resident memory of this process that no file backs, and its peak of all memory, in MiB.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    format!("anonymous {} MiB, peak of all {} MiB", of("RssAnon"), of("VmHWM"))
}

/// What this process has written to disks so far.
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find(|line| line.starts_with("write_bytes")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn disk_bytes(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let bytes =
        entries.map(|entry| if entry.path().is_dir() { disk_bytes(&entry.path()) } else { allocated(&entry.path()) });
    bytes.sum()
}

fn allocated(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map_or(0, |file| file.blocks() * 512)
}

fn percentile(times: &mut [Duration], of_100: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * of_100 / 100]
}

/// Events of 500 sessions come at this rate; whatever came while a commit ran is in the next one.
fn paced<C: Candidate>(log: &mut C, rate: u64, seconds: u64) {
    let (begin, mut done, mut commits, mut times) = (Instant::now(), 0_u64, 0, Vec::new());
    let written = written_bytes();
    while done < rate * seconds {
        let due = (u64::try_from(begin.elapsed().as_micros()).unwrap() * rate / 1_000_000 + 1).min(rate * seconds);
        if due == done {
            std::thread::sleep(Duration::from_micros(100));
            continue;
        }
        let events: Vec<Event> =
            (done..due).map(|nth| (u32::try_from(nth % 500).unwrap(), (1 << 40) + nth / 500)).collect();
        log.append(DAYS, &events);
        let now = begin.elapsed();
        times.extend((done..due).map(|nth| now.saturating_sub(Duration::from_micros(nth * 1_000_000 / rate))));
        (done, commits) = (due, commits + 1);
    }
    let took = begin.elapsed();
    let (p50, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
    println!(
        "  {rate}/s: {:.0} events/s in {commits} commits, p50 {p50:.1?}, p99 {p99:.1?}, longest {:.1?}, {} bytes written an event",
        done as f64 / took.as_secs_f64(),
        times.last().unwrap(),
        (written_bytes() - written) / done
    );
}

fn timed(what: &str, times: usize, mut run: impl FnMut(usize)) {
    let mut took: Vec<_> = (0..times)
        .map(|nth| {
            let begin = Instant::now();
            run(nth);
            begin.elapsed()
        })
        .collect();
    let (p50, p99) = (percentile(&mut took, 50), percentile(&mut took, 99));
    println!("  {what}: p50 {p50:.2?}, p99 {p99:.2?}");
}

fn step<C: Candidate>(step: &str, path: &Path, events: u64) {
    let per_session = events / u64::from(SESSIONS);
    let per_day = per_session / u64::from(DAYS);
    match step {
        "fill" => {
            let (mut log, begin) = (C::open(path), Instant::now());
            for day in 0..DAYS {
                let first = u64::from(day) * per_day;
                for chunk in 0..per_day.div_ceil(4) {
                    let numbers = first + chunk * 4..(first + chunk * 4 + 4).min(first + per_day);
                    let all: Vec<Event> =
                        numbers.flat_map(|number| (0..SESSIONS).map(move |session| (session, number))).collect();
                    log.append(day, &all);
                }
            }
            println!("  filled in {:.0?}, {}", begin.elapsed(), memory());
        }
        "append" => {
            let mut log = C::open(path);
            println!("  opened: {}", memory());
            for rate in [500, 5_000, 10_000] {
                paced(&mut log, rate, 10);
            }
            println!("  after appends: {}", memory());
            // No destructor runs: as a kill.
            std::process::abort();
        }
        "read" => {
            let begin = Instant::now();
            let mut log = C::open(path);
            println!("  opened after a kill: {:.0?}, {}", begin.elapsed(), memory());
            let session = |nth: usize| u32::try_from(nth * 37 % SESSIONS as usize).unwrap();
            let last = per_day * u64::from(DAYS);
            timed("1,000 events of a session", 200, |nth| {
                let from = (nth as u64 * 7_919) % last.saturating_sub(1_000).max(1);
                assert!(log.read(session(nth), from, 1_000) > 0);
            });
            timed("a chat's newest 50", 200, |nth| assert!(log.newest(session(nth), nth as u64 % CHATS) > 0));
            timed("one message", 200, |nth| assert!(log.one(session(nth), (nth as u64 * 7_919) % last)));
            timed("a chat's total, counted", 200, |nth| assert!(log.count(session(nth), nth as u64 % CHATS) > 0));
            println!("  after reads: {}", memory());
            let before = disk_bytes(path);
            let begin = Instant::now();
            for day in 0..DAYS / 2 {
                log.drop_day(day);
            }
            let took = begin.elapsed();
            drop(log);
            println!(
                "  half of the days dropped in {took:.1?}: {} MB -> {} MB",
                before / 1_000_000,
                disk_bytes(path) / 1_000_000
            );
        }
        _ => println!("  no such step: {step}"),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [candidate, name, path, events] = arguments.as_slice() {
        let (path, events) = (Path::new(path), events.parse().unwrap());
        return match candidate.as_str() {
            "redb" => step::<Redb>(name, path, events),
            "fjall" => step::<Fjall>(name, path, events),
            _ => step::<Log>(name, path, events),
        };
    }
    let events = arguments.first().map_or(10_000_000, |events| events.parse().unwrap());
    let is_wanted = |candidate: &&str| arguments.get(1).is_none_or(|wanted| wanted == candidate);
    for candidate in ["redb", "fjall", "log"].into_iter().filter(is_wanted) {
        println!("{candidate}, {events} events of {SESSIONS} sessions in {DAYS} days");
        let directory = tempfile::tempdir().unwrap();
        for step in ["fill", "append", "read"] {
            let mut run = Command::new(std::env::current_exe().unwrap());
            run.args([candidate, step, directory.path().to_str().unwrap(), &events.to_string()]);
            let begin = Instant::now();
            let ended = run.status().unwrap();
            println!(
                "  ({step}: {:.0?}, {ended}; on disk {} MB)",
                begin.elapsed(),
                disk_bytes(directory.path()) / 1_000_000
            );
        }
    }
}
