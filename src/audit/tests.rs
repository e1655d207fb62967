//! The log over a store in memory: its order, its proof, its pages, and its removals.

mod removal;

use std::time::Duration;

use rookery_model::{SessionId, Timestamp};
use rookery_store::{BATCH_OPERATIONS_MAX, Batch, Row, SessionNumber, Table, Ticket, open_memory};
use uuid::Uuid;

use super::chain::Whole;
use super::record::{ChainHash, EXTENT_KEY};
use super::*;
use crate::clock::tests::SetClock;
use crate::little_space::open_with_little_space;

fn entry(action: &str) -> AuditEvent {
    AuditEvent { status_code: 200, request_id: "r".into(), ..AuditEvent::of(action.into(), Outcome::Done) }
}

fn refusal(action: &str, from: &str) -> AuditEvent {
    AuditEvent { outcome: Outcome::Refused, ip_address: Some(from.parse().unwrap()), ..entry(action) }
}

struct Bench {
    store: Arc<dyn Store>,
    audit: Audit,
    task: JoinHandle<()>,
}

impl Bench {
    fn over(store: Arc<dyn Store>, retention: Retention) -> Self {
        Self::by(store, retention, Clock::new())
    }

    fn by(store: Arc<dyn Store>, retention: Retention, clock: Clock) -> Self {
        let (audit, task) = Audit::open(store.clone(), retention, clock).unwrap();
        Self { store, audit, task }
    }

    fn new() -> Self {
        Self::over(open_memory(), Retention::default())
    }

    async fn with_records(count: u64) -> Self {
        let bench = Self::new();
        for number in 0..count {
            bench.audit.note(entry(if number % 2 == 0 { "even" } else { "odd" })).await;
        }
        bench
    }

    /// Ends the task, and gives the store back.
    async fn close(self) -> Arc<dyn Store> {
        drop(self.audit);
        self.task.await.unwrap();
        self.store
    }

    /// The result of verifying the whole log, which must be intact.
    async fn whole(&self) -> Whole {
        match self.audit.verify().await.unwrap() {
            Verdict::Whole(whole) => whole,
            broken @ Verdict::Broken { .. } => panic!("{broken:?}"),
        }
    }

    async fn ids(&self, filter: AuditFilter, offset: usize, limit: usize) -> (Vec<u64>, usize) {
        let (page, total) = self.audit.page(filter, offset, limit).await.unwrap();
        (page.iter().map(|record| record.id).collect(), total)
    }
}

fn row(store: &dyn Store, id: u64) -> Vec<u8> {
    store.get(SessionNumber::DAEMON, Table::Audit, &record::key(id)).unwrap().unwrap()
}

async fn put(store: &dyn Store, key: &[u8], value: Option<Vec<u8>>) {
    let mut batch = Batch::new();
    match value {
        Some(value) => batch.put(SessionNumber::DAEMON, Table::Audit, key, value),
        None => batch.delete(SessionNumber::DAEMON, Table::Audit, key),
    }
    store.commit(batch).await.unwrap();
}

#[tokio::test]
async fn records_follow_on_each_other_also_over_a_restart() {
    let bench = Bench::with_records(3).await;
    let bench = Bench::over(bench.close().await, Retention::default());
    for _ in 0..300 {
        bench.audit.note(entry("more")).await;
    }
    let whole = bench.whole().await;
    assert_eq!((whole.records(), whole.removed, whole.extent.head().unwrap().0), (303, 0, 302));
    assert_eq!(bench.ids(AuditFilter::default(), 0, 3).await, (vec![302, 301, 300], 303));
    let store = bench.close().await;
    assert_eq!(verify(&*store).unwrap(), Verdict::Whole(whole));
    assert_eq!(find(&*store, 302).unwrap(), Found::Hash(whole.extent.last));
    assert_eq!(find(&*store, 303).unwrap(), Found::Nowhere);
    assert_eq!(verify(&*open_memory()).unwrap(), Verdict::Whole(Whole::default()));
}

#[tokio::test]
async fn writes_at_the_same_time_each_have_a_place() {
    let bench = Bench::new();
    let audit = Arc::new(bench.audit);
    let notes = (0..500).map(|_| {
        let audit = audit.clone();
        tokio::spawn(async move { audit.note(entry("many")).await })
    });
    for note in notes.collect::<Vec<_>>() {
        note.await.unwrap();
    }
    let Verdict::Whole(whole) = audit.verify().await.unwrap() else { panic!("is whole") };
    assert_eq!(whole.extent.next, 500);
}

#[tokio::test]
async fn whoever_changes_a_record_is_found_out_and_the_record_named() {
    let changed = |value: Vec<u8>| {
        let text = String::from_utf8_lossy(&value[32..]).replace("\"even\"", "\"EVEN\"");
        [&value[..32], text.as_bytes()].concat()
    };
    let store = Bench::with_records(600).await.close().await;
    let before: Vec<_> = [100, 101, 599].map(|id| row(&*store, id)).into();
    let beyond = record::value(ChainHash::default(), b"{}");
    let rehashed = {
        let value = changed(before[0].clone());
        let (previous, _) = record::split_value(&row(&*store, 99)).map(|(hash, _)| (hash, ())).unwrap();
        record::value(previous.after(&value[32..]), &value[32..])
    };
    let cases: [(u64, Option<Vec<u8>>, u64, &str); 7] = [
        (100, Some(changed(before[0].clone())), 100, "was changed, or the one before it was"),
        (100, Some(rehashed), 101, "was changed, or the one before it was"),
        (100, Some(before[1].clone()), 100, "was changed, or the one before it was"),
        (100, Some(b"short".to_vec()), 100, "is cut short"),
        (100, None, 100, "is missing"),
        (599, None, 599, "is missing"),
        (600, Some(beyond), 600, "lies behind the end of the log"),
    ];
    for (id, value, named, why) in cases {
        let original = store.get(SessionNumber::DAEMON, Table::Audit, &record::key(id)).unwrap();
        put(&*store, &record::key(id), value).await;
        assert_eq!(verify(&*store).unwrap(), Verdict::Broken { id: named, why }, "{id}");
        put(&*store, &record::key(id), original).await;
        assert!(matches!(verify(&*store).unwrap(), Verdict::Whole(_)));
    }
    // Cut off at the end, with an extent that fits: only the head that was noted elsewhere shows it.
    let mut extent = chain::extent(&*store).unwrap();
    let noted = extent.head().unwrap();
    put(&*store, &record::key(599), None).await;
    let Found::Hash(before) = find(&*store, 598).unwrap() else { panic!("it is there") };
    (extent.next, extent.last) = (599, before);
    put(&*store, EXTENT_KEY, Some(serde_json::to_vec(&extent).unwrap())).await;
    assert!(matches!(verify(&*store).unwrap(), Verdict::Whole(_)));
    assert_ne!(find(&*store, noted.0).unwrap(), Found::Hash(noted.1));
}

#[tokio::test]
async fn pages_are_cut_from_what_matches_newest_first() {
    let bench = Bench::with_records(600).await;
    let odd = || AuditFilter { action: Some("odd".into()), ..AuditFilter::default() };
    assert_eq!(bench.ids(AuditFilter::default(), 0, 2).await, (vec![599, 598], 600));
    assert_eq!(bench.ids(AuditFilter::default(), 299, 3).await, (vec![300, 299, 298], 600));
    assert_eq!(bench.ids(AuditFilter::default(), 598, 9).await, (vec![1, 0], 600));
    assert_eq!(bench.ids(AuditFilter::default(), 600, 9).await, (vec![], 600));
    assert_eq!(bench.ids(odd(), 0, 2).await, (vec![599, 597], 300));
    assert_eq!(bench.ids(odd(), 299, 2).await, (vec![1], 300));
}

#[tokio::test]
async fn a_filter_asks_for_everything_at_once() {
    let (session, key) = (SessionId::random(), Uuid::new_v4());
    let bench = Bench::new();
    let of = |session_id, api_key_id, group: Option<&str>| AuditEvent {
        session_id,
        api_key_id,
        group_id: group.map(str::to_owned),
        ..entry("x")
    };
    bench.audit.note(of(Some(session), None, None)).await;
    bench.audit.note(of(Some(session), Some(key), Some("1@g.us"))).await;
    bench.audit.note(AuditEvent { outcome: Outcome::Failed, ..of(None, Some(key), None) }).await;
    let all = AuditFilter::default;
    let (later, earlier) = (Timestamp(Timestamp::now().0 + 60_000), Timestamp(0));
    for (filter, ids) in [
        (AuditFilter { session: Some(session), ..all() }, vec![1, 0]),
        (AuditFilter { api_key: Some(key), ..all() }, vec![2, 1]),
        (AuditFilter { api_key: Some(key), session: Some(session), ..all() }, vec![1]),
        (AuditFilter { group: Some("1@g.us".parse().unwrap()), ..all() }, vec![1]),
        (AuditFilter { outcome: Some(Outcome::Failed), ..all() }, vec![2]),
        (AuditFilter { from: Some(later), ..all() }, vec![]),
        (AuditFilter { to: Some(earlier), ..all() }, vec![]),
        (AuditFilter { from: Some(earlier), to: Some(later), ..all() }, vec![2, 1, 0]),
    ] {
        let total = ids.len();
        assert_eq!(bench.ids(filter.clone(), 0, 9).await, (ids, total), "{filter:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_refusals_is_a_few_records_that_count_it_wherever_it_comes_from() {
    let bench = Bench::new();
    for number in 0..1_000_u32 {
        bench.audit.note_unchanged(refusal("groups_list", &std::net::Ipv4Addr::from(number).to_string()));
    }
    bench.audit.note_unchanged(refusal("groups_get", "192.0.2.2"));
    bench.audit.note(entry("a write")).await;
    assert_eq!(bench.ids(AuditFilter::default(), 0, 9).await.1, 3, "the first of each, and the write");
    tokio::time::sleep(Duration::from_secs(75)).await;
    let (page, total) = bench.audit.page(AuditFilter::default(), 0, 9).await.unwrap();
    assert_eq!((total, page[0].entry.count, &*page[0].entry.action), (4, 999, "groups_list"));
    bench.audit.note_unchanged(refusal("groups_list", "192.0.2.1"));
    bench.audit.note_unchanged(refusal("groups_list", "192.0.2.1"));
    let bench = Bench::over(bench.close().await, Retention::default());
    assert_eq!(bench.ids(AuditFilter::default(), 0, 9).await.1, 6, "what was counted is written at the end");
}

#[tokio::test(start_paused = true)]
async fn nobody_can_use_up_the_kinds_of_refusals_that_others_are_told_apart_by() {
    let (bench, flooding, quiet) = (Bench::new(), Uuid::new_v4(), Uuid::new_v4());
    let of = |key, action: &str, from: u32| AuditEvent {
        api_key_id: Some(key),
        ..refusal(action, &std::net::Ipv4Addr::from(from).to_string())
    };
    for number in 0..5_000_u32 {
        bench.audit.note_unchanged(of(flooding, "groups_list", number));
        bench.audit.note_unchanged(refusal(&format!("action_{number}"), "192.0.2.1"));
        // The task's queue has another limit.
        if number % 100 == 0 {
            bench.audit.note(entry("a write")).await;
        }
    }
    for number in 0..10 {
        bench.audit.note_unchanged(of(quiet, "groups_get", number));
    }
    let bench = Bench::over(bench.close().await, Retention::default());
    let refused = |api_key| AuditFilter { outcome: Some(Outcome::Refused), api_key, ..AuditFilter::default() };
    let (page, total) = bench.audit.page(refused(None), 0, usize::MAX).await.unwrap();
    assert_eq!(page.iter().map(|record| record.entry.count).sum::<u64>(), 10_010);
    assert!(total <= 2 * 66 + 10, "{total}");
    assert_eq!(bench.audit.page(refused(Some(quiet)), 0, 99).await.unwrap().1, 10, "each told apart");
}

#[tokio::test(start_paused = true)]
async fn replays_are_a_record_at_once_and_one_with_a_count() {
    let (bench, key) = (Bench::new(), Uuid::new_v4());
    let call = |replayed| AuditEvent { api_key_id: Some(key), replayed, ..entry("participants_add") };
    bench.audit.note(call(false)).await;
    (0..500).for_each(|_| bench.audit.note_unchanged(call(true)));
    let bench = Bench::over(bench.close().await, Retention::default());
    let (page, _) = bench.audit.page(AuditFilter::default(), 0, 9).await.unwrap();
    let told: Vec<_> = page.iter().map(|record| (record.entry.replayed, record.entry.count)).collect();
    assert_eq!(told, [(true, 499), (true, 1), (false, 1)]);
}

#[tokio::test(start_paused = true)]
async fn the_messages_of_a_key_in_a_session_are_one_record_a_minute() {
    let (bench, key) = (Bench::new(), Uuid::new_v4());
    let call = |session: SessionId, action: &str| AuditEvent {
        api_key_id: Some(key),
        session_id: Some(session),
        sends: true,
        ..entry(action)
    };
    let (busy, quiet) = (SessionId::random(), SessionId::random());
    for _ in 0..15 {
        bench.audit.note(call(busy, "messages_send_text")).await;
        bench.audit.note(call(busy, "messages_send_poll")).await;
    }
    bench.audit.note(call(quiet, "messages_send_text")).await;
    bench.audit.note(AuditEvent { outcome: Outcome::Failed, ..call(busy, "messages_send_text") }).await;
    assert_eq!(bench.ids(AuditFilter::default(), 0, 9).await.1, 3, "the first of each, at once");
    tokio::time::sleep(Duration::from_secs(75)).await;
    bench.audit.note(call(busy, "messages_send_text")).await;
    bench.audit.note(call(busy, "messages_send_text")).await;
    let bench = Bench::over(bench.close().await, Retention::default());
    let (page, _) = bench.audit.page(AuditFilter::default(), 0, 9).await.unwrap();
    assert!(page.iter().all(|record| &*record.entry.action == "messages_send"));
    let told: Vec<_> = page.iter().map(|record| (record.entry.session_id, record.entry.count)).collect();
    let expected = [(busy, 1), (busy, 1), (busy, 29), (busy, 1), (quiet, 1), (busy, 1)];
    assert_eq!(told, expected.map(|(session, count)| (Some(session), count)));
}

/// A store whose commits can be made to fail.
struct Failing {
    store: Arc<dyn Store>,
    fails: AtomicBool,
}

impl Store for Failing {
    fn commit(&self, batch: Batch) -> Ticket {
        if self.fails.load(Ordering::Relaxed) {
            // A batch that no store takes.
            let mut refused = Batch::new();
            (0..=BATCH_OPERATIONS_MAX).for_each(|_| refused.delete(SessionNumber::DAEMON, Table::Audit, "x"));
            return self.store.commit(refused);
        }
        self.store.commit(batch)
    }

    fn get(&self, session: SessionNumber, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(session, table, key)
    }

    fn scan_prefix(&self, session: SessionNumber, table: Table, prefix: &[u8]) -> Result<Vec<Row>, StoreError> {
        self.store.scan_prefix(session, table, prefix)
    }

    fn scan_all(&self, table: Table) -> Result<Vec<(SessionNumber, Row)>, StoreError> {
        self.store.scan_all(table)
    }

    fn export(&self, to: &mut dyn std::io::Write) -> Result<(), StoreError> {
        self.store.export(to)
    }

    fn import(&self, from: &mut dyn std::io::Read) -> Result<(), StoreError> {
        self.store.import(from)
    }

    fn health(&self) -> Health {
        self.store.health()
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_written_later_and_nothing_is_changed_until_then() {
    let failing = Arc::new(Failing { store: open_memory(), fails: AtomicBool::new(false) });
    let bench = Bench::over(failing.clone(), Retention::default());
    bench.audit.note(entry("before")).await;
    failing.fails.store(true, Ordering::Relaxed);
    for _ in 0..100 {
        bench.audit.note(entry("meanwhile")).await;
    }
    for _ in 0..3 {
        assert!(matches!(bench.audit.check_writable(false), Err(AuditError::Unwritable)), "until it works again");
    }
    failing.fails.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(2)).await;
    bench.audit.check_writable(false).unwrap();
    assert_eq!(bench.ids(AuditFilter::default(), 0, 1).await, (vec![100], 101));
    bench.whole().await;
}

#[tokio::test]
async fn a_record_that_does_not_fit_takes_no_other_with_it() {
    let bench = Bench::new();
    let huge = AuditEvent { request_id: "x".repeat(20_000), ..entry("huge") };
    let notes = [entry("one"), huge, entry("two"), entry("three")].map(|entry| bench.audit.note(entry));
    futures_util::future::join_all(notes).await;
    bench.audit.check_writable(false).unwrap();
    assert_eq!(bench.ids(AuditFilter::default(), 0, 9).await, (vec![2, 1, 0], 3));
    assert!(matches!(bench.audit.verify().await.unwrap(), Verdict::Whole(_)));
}

#[tokio::test]
async fn with_little_space_left_removals_are_noted_and_other_changes_refused() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::over(open_with_little_space(directory.path()), Retention::default());
    bench.audit.note(entry("change")).await;
    assert!(matches!(bench.audit.check_writable(false), Err(AuditError::LowSpace)));
    assert_eq!(bench.ids(AuditFilter::default(), 0, 9).await, (vec![], 0));
    bench.audit.check_writable(true).unwrap();
    bench.audit.note(AuditEvent { removes: true, ..entry("removal") }).await;
    assert_eq!(bench.ids(AuditFilter::default(), 0, 9).await, (vec![1, 0], 2), "in order, with what waited");
    assert!(matches!(bench.audit.check_writable(false), Err(AuditError::LowSpace)));
    bench.whole().await;
}

#[tokio::test(start_paused = true)]
async fn what_failed_in_different_groups_is_not_one_record_until_there_are_very_many() {
    let bench = Bench::new();
    let failed = |group: usize| AuditEvent {
        outcome: Outcome::Failed,
        code: Some("whatsapp_unanswered".into()),
        api_key_id: Some(Uuid::from_u128(7)),
        group_id: Some(format!("{group}@g.us")),
        ..entry("groups_set_subject")
    };
    for group in 0..40 {
        for _ in 0..3 {
            bench.audit.note_unchanged(failed(group));
        }
    }
    tokio::time::sleep(Duration::from_secs(80)).await;
    let (records, _) = bench.audit.page(AuditFilter::default(), 0, 1_000).await.unwrap();
    let groups: std::collections::BTreeSet<_> =
        records.iter().filter_map(|record| record.entry.group_id.clone()).collect();
    assert!(groups.len() >= 33, "32 groups, and the others together: {}", groups.len());
    assert_eq!(records.iter().map(|record| record.entry.count).sum::<u64>(), 120);
    assert!(records.len() < 70, "{}", records.len());
}
