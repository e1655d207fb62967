//! Removals from the log: whose records go, which record says so, and what a wrong clock cannot do.

use std::collections::BTreeMap;

use super::super::record::Gap;
use super::super::record::{Because, LogBounds, Removal, gap_key, gap_value};
use super::*;

/// A row, and the value that somebody puts there; `None` removes the row.
type Tampering = (Vec<u8>, Option<Vec<u8>>);

const HOUR: Duration = Duration::from_secs(3_600);

fn by(key: Uuid, action: &str) -> AuditEvent {
    AuditEvent { api_key_id: Some(key), ..entry(action) }
}

fn of(key: Uuid) -> AuditFilter {
    AuditFilter { api_key: Some(key), ..AuditFilter::default() }
}

/// Waits long enough for surplus records to be removed.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(60)).await;
}

impl Bench {
    /// The records about removals, oldest first.
    async fn removals(&self) -> Vec<Removal> {
        let filter = AuditFilter { action: Some("audit_remove".into()), ..AuditFilter::default() };
        let (page, _) = self.audit.page(filter, 0, usize::MAX).await.unwrap();
        page.into_iter().rev().filter_map(|record| record.entry.removal).map(|removal| *removal).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_floods_the_log_pushes_out_nobody_elses_records() {
    let (quiet, flooding) = (Uuid::new_v4(), Uuid::new_v4());
    let retention = Retention { days: 90, records_max: 200 };
    let mut bench = Bench::over(open_memory(), retention);
    for round in 0..5 {
        for number in 0..150 {
            bench.audit.note(by(flooding, "session_config_set")).await;
            if number % 15 == 0 {
                bench.audit.note(by(quiet, "groups_create")).await;
            }
        }
        settle().await;
        assert_eq!(bench.ids(of(quiet), 0, 99).await.1, 10 * (round + 1), "all of them are there");
        let whole = bench.whole().await;
        assert!((160..=200).contains(&whole.records()), "{whole:?}");
        assert_eq!(bench.ids(AuditFilter::default(), 0, 1).await.1 as u64, whole.records());
        // Missing records are accounted for after a restart as well.
        let store = bench.close().await;
        assert_eq!(verify(&*store).unwrap(), Verdict::Whole(whole));
        bench = Bench::over(store, retention);
    }
    let removals = bench.removals().await;
    let shares: BTreeMap<&str, u64> =
        removals.iter().flat_map(|removal| &removal.by_api_key).map(|(key, count)| (key.as_str(), *count)).collect();
    assert_eq!(shares.into_keys().collect::<Vec<_>>(), [flooding.to_string().as_str()], "and it is told whose went");
    let removed = bench.whole().await.removed;
    assert_eq!(
        removals.last().map(|removal| (removal.because, removal.removed_in_all)),
        Some((Because::Share, removed))
    );
    let shown = bench.ids(AuditFilter::default(), 0, 9_999).await.0;
    assert!(
        shown.is_sorted_by(|one, other| one > other)
            && shown.len() == 800 + removals.len() - usize::try_from(removed).unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn callers_without_a_key_have_one_share_whatever_their_addresses() {
    let bench = Bench::over(open_memory(), Retention { days: 90, records_max: 200 });
    let key = Uuid::new_v4();
    for _ in 0..50 {
        bench.audit.note(by(key, "groups_create")).await;
    }
    for number in 0..500_u32 {
        bench.audit.note(refusal("groups_list", &std::net::Ipv4Addr::from(number).to_string())).await;
    }
    settle().await;
    assert_eq!(bench.ids(of(key), 0, 99).await.1, 50);
    assert!(bench.whole().await.records() <= 200);
}

#[tokio::test(start_paused = true)]
async fn records_that_go_without_a_record_of_it_are_found_out() {
    let bench = Bench::over(open_memory(), Retention { days: 90, records_max: 100 });
    for _ in 0..150 {
        bench.audit.note(entry("x")).await;
    }
    settle().await;
    let whole = bench.whole().await;
    assert!(whole.removed > 50, "{whole:?}");
    let store = bench.close().await;
    let hash = |id| match find(&*store, id).unwrap() {
        Found::Hash(hash) => hash,
        other => panic!("{other:?}"),
    };
    assert_eq!(find(&*store, 0).unwrap(), Found::Removed);
    let last_gone = whole.removed - 1;
    let (gap, record) = (hash(last_gone), row(&*store, 140));
    let cases: [(&str, Vec<Tampering>); 4] = [
        (
            "a record, and a gap in its place",
            vec![(record::key(140), None), (gap_key(140), Some(gap_value(Gap { last: 140, hash: hash(140) })))],
        ),
        ("what says which are missing", vec![(gap_key(0), None)]),
        (
            "more at the beginning",
            vec![
                (record::key(whole.removed), None),
                (gap_key(0), Some(gap_value(Gap { last: whole.removed, hash: hash(whole.removed) }))),
            ],
        ),
        ("one is back", vec![(record::key(last_gone), Some(record::value(gap, b"{}")))]),
    ];
    for (what, changes) in cases {
        let before: Vec<_> =
            changes.iter().map(|(key, _)| store.get(SessionNumber::DAEMON, Table::Audit, key).unwrap()).collect();
        for (key, value) in &changes {
            put(&*store, key, value.clone()).await;
        }
        assert!(matches!(verify(&*store).unwrap(), Verdict::Broken { .. }), "{what}");
        for ((key, _), value) in changes.iter().zip(before) {
            put(&*store, key, value).await;
        }
        assert_eq!(verify(&*store).unwrap(), Verdict::Whole(whole), "{what}");
    }
    assert_eq!(row(&*store, 140), record);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_100_days_ahead_for_a_while_removes_nothing() {
    let (set, clock) = SetClock::new();
    let bench = Bench::by(open_memory(), Retention::default(), clock.clone());
    let watch = tokio::spawn(async move { clock.run().await });
    for _ in 0..100 {
        bench.audit.note(entry("x")).await;
    }
    // Whenever in the hour it is, the check for old records falls into one of these.
    for _ in 0..6 {
        set.ahead(100);
        tokio::time::sleep(HOUR * 2 / 3).await;
        set.ahead(0);
        tokio::time::sleep(HOUR / 2).await;
    }
    assert_eq!(bench.whole().await.records(), 100);
    // A clock that stays wrong takes days, and people notice: each removal is a record and a log line.
    set.ahead(100);
    tokio::time::sleep(HOUR * 4).await;
    let whole = bench.whole().await;
    assert!((1..=40).contains(&whole.removed), "{whole:?}");
    watch.abort();
}

#[tokio::test(start_paused = true)]
async fn what_is_older_than_the_log_is_kept_goes_an_hour_at_a_time_and_the_chain_holds() {
    let (set, clock) = SetClock::new();
    let bench = Bench::by(open_memory(), Retention { days: 7, records_max: 10_000 }, clock.clone());
    let watch = tokio::spawn(async move { clock.run().await });
    for _ in 0..25 {
        bench.audit.note(entry("x")).await;
    }
    set.ahead(8);
    tokio::time::sleep(HOUR * 6).await;
    let removals = bench.removals().await;
    assert_eq!(removals.iter().map(|removal| removal.because).collect::<Vec<_>>(), vec![Because::Age; removals.len()]);
    assert_eq!(removals.last().map(|removal| removal.removed_in_all), Some(25), "the records of that are of today");
    assert_eq!(bench.whole().await.removed, 25);
    let ids = bench.ids(AuditFilter::default(), 0, 99).await;
    assert_eq!(ids.1, removals.len());
    watch.abort();
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_cut_before_that_was_noted_gets_its_record() {
    let store = Bench::with_records(20).await.close().await;
    let Found::Hash(before_first) = find(&*store, 4).unwrap() else { panic!("it is there") };
    for id in 0..5 {
        put(&*store, &record::key(id), None).await;
    }
    let extent = LogBounds { first: 5, before_first, ..chain::extent(&*store).unwrap() };
    put(&*store, EXTENT_KEY, Some(serde_json::to_vec(&extent).unwrap())).await;
    let Verdict::Whole(whole) = verify(&*store).unwrap() else { panic!("is whole") };
    assert_eq!((whole.removed, whole.last_removal), (5, None));
    assert_eq!(find(&*store, 4).unwrap(), Found::Hash(before_first));
    let bench = Bench::over(store, Retention::default());
    settle().await;
    let whole = bench.whole().await;
    assert_eq!((whole.removed, whole.last_removal, whole.extent.first), (5, Some(20), 0));
    assert_eq!(bench.removals().await.iter().map(|removal| removal.because).collect::<Vec<_>>(), [Because::Before]);
}
