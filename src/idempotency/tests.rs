//! A key's life, against the store in memory.

use bytes::Bytes;
use rookery_store::open_memory;
use uuid::Uuid;

use super::record::KEPT_MS;
use super::*;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const LATER: Timestamp = Timestamp(NOW.0 + KEPT_MS);
/// The time when all records of now have been swept.
const MUCH_LATER: Timestamp = Timestamp(NOW.0 + KEPT_MS + 3_600_000);

fn at(now: Timestamp) -> Times {
    Times { ended: now, made: now }
}

struct Bench {
    store: Arc<dyn Store>,
    keys: Arc<Idempotency>,
    session: SessionNumber,
    api_key: Uuid,
}

impl Bench {
    fn new() -> Self {
        Self::with(Limits { per_session: 6, all: 8 })
    }

    fn with(limits: Limits) -> Self {
        let store = open_memory();
        let keys = Idempotency::with(Arc::clone(&store), limits, Clock::new()).unwrap();
        Self { store, keys, session: SessionNumber(1), api_key: Uuid::new_v4() }
    }

    /// As after a restart.
    fn reopened(self) -> Self {
        let keys = Idempotency::with(Arc::clone(&self.store), self.keys.limits, Clock::new()).unwrap();
        Self { keys, ..self }
    }

    fn slot(&self, key: &str) -> Slot {
        Slot::new(self.session, 0, self.api_key, key)
    }

    async fn start(&self, key: &str, body: &str, now: Timestamp) -> Result<Start, IdempotencyError> {
        self.begin(key, body, None, now).await
    }

    /// Begins a call that sends a message.
    async fn begin(
        &self,
        key: &str,
        body: &str,
        seed: Option<MessageSeed>,
        now: Timestamp,
    ) -> Result<Start, IdempotencyError> {
        let call = Call { user: self.api_key, fingerprint: Fingerprint::of(&[body.as_bytes()]), seed };
        self.keys.start_at(self.slot(key), call, at(now)).await
    }

    async fn first(&self, key: &str, now: Timestamp) -> Execution {
        match self.start(key, "body", now).await {
            Ok(Start::First(call)) => call,
            other => panic!("{}", word(&other)),
        }
    }

    async fn word(&self, key: &str, body: &str, now: Timestamp) -> &'static str {
        // A first call ends here, as interrupted.
        word(&self.start(key, body, now).await)
    }

    fn rows(&self) -> usize {
        let rows = |table| self.store.scan_all(table).unwrap().len();
        rows(Table::IdempotentAnswers) + rows(Table::IdempotentHours)
    }
}

fn answer(body: impl Into<Bytes>) -> KeptResponse {
    let headers = vec![("retry-after".into(), "5".into())];
    KeptResponse { status: 201, headers, body: body.into(), happened: None }
}

fn word(start: &Result<Start, IdempotencyError>) -> &'static str {
    match start {
        Ok(Start::First(_)) => "first",
        Ok(Start::Again(_)) => "again",
        Err(IdempotencyError::InUse) => "in use",
        Err(IdempotencyError::Reused) => "reused",
        Err(IdempotencyError::Interrupted) => "interrupted",
        Err(IdempotencyError::TooMany) => "too many",
        Err(_) => "failed",
    }
}

#[tokio::test]
async fn a_call_that_runs_is_in_use_and_one_that_is_over_is_answered_again() {
    let bench = Bench::new();
    let call = bench.first("k", NOW).await;
    assert_eq!(bench.word("k", "body", NOW).await, "in use");
    assert_eq!(bench.word("k", "other", NOW).await, "reused");
    call.keep(answer("done")).await.unwrap();
    assert_eq!(bench.word("k", "other", NOW).await, "reused");
    let Ok(Start::Again(Replay { answer: again, .. })) = bench.start("k", "body", NOW).await else { panic!() };
    assert_eq!(again, answer("done"));
}

#[tokio::test]
async fn a_restart_keeps_answers_and_makes_what_ran_interrupted() {
    let bench = Bench::new();
    bench.first("over", NOW).await.keep(answer("done")).await.unwrap();
    let running = bench.first("running", NOW).await;
    let bench = bench.reopened();
    assert_eq!(bench.word("over", "body", NOW).await, "again");
    assert_eq!(bench.word("over", "other", NOW).await, "reused");
    assert_eq!(bench.word("running", "body", NOW).await, "interrupted");
    assert_eq!(bench.word("running", "other", NOW).await, "reused");
    drop(running);
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_its_key_interrupted_and_not_in_use() {
    let bench = Bench::new();
    drop(bench.first("k", NOW).await);
    assert_eq!(bench.word("k", "body", NOW).await, "interrupted");
}

#[tokio::test]
async fn a_released_key_is_free_and_leaves_nothing_behind() {
    let bench = Bench::new();
    bench.first("k", NOW).await.release().await.unwrap();
    assert_eq!((bench.rows(), bench.keys.book().kept_in_all), (0, 0));
    assert_eq!(bench.word("k", "other", NOW).await, "first");
}

#[tokio::test]
async fn a_key_is_free_again_after_a_day() {
    let bench = Bench::new();
    bench.first("over", NOW).await.keep(answer("done")).await.unwrap();
    drop(bench.first("cut off", NOW).await);
    let last = Timestamp(LATER.0 - 1);
    assert_eq!(
        (bench.word("over", "body", last).await, bench.word("cut off", "body", last).await),
        ("again", "interrupted")
    );
    bench.first("over", LATER).await.keep(answer("done anew")).await.unwrap();
    assert_eq!(bench.word("cut off", "other", LATER).await, "first");
    assert_eq!((bench.rows(), bench.keys.book().kept_in_all), (4, 2), "replaced, not joined");
}

#[tokio::test]
async fn a_sweep_removes_what_has_expired_and_nothing_else() {
    let bench = Bench::new();
    bench.first("old", NOW).await.keep(answer("x".repeat(40_000))).await.unwrap();
    let running = bench.first("running", NOW).await;
    bench.first("new", MUCH_LATER).await.keep(answer("done")).await.unwrap();
    let bench = bench.reopened();
    assert_eq!(bench.keys.sweep_at(LATER).await.unwrap(), 0, "not before its whole hour has expired");
    assert_eq!(bench.keys.sweep_at(MUCH_LATER).await.unwrap(), 2);
    assert_eq!(bench.keys.sweep_at(MUCH_LATER).await.unwrap(), 0);
    assert_eq!((bench.rows(), bench.keys.book().kept_in_all), (2, 1));
    assert_eq!(bench.keys.book().hours.len(), 1);
    assert_eq!(bench.word("new", "body", MUCH_LATER).await, "again");
    drop(running);
}

#[tokio::test]
async fn a_sweep_leaves_a_call_alone_that_runs() {
    let bench = Bench::new();
    let running = bench.first("k", NOW).await;
    assert_eq!(bench.keys.sweep_at(MUCH_LATER).await.unwrap(), 0);
    running.keep(answer("done")).await.unwrap();
    assert_eq!(bench.word("k", "body", NOW).await, "again");
}

#[tokio::test]
async fn many_records_are_removed_in_batches_that_the_store_takes() {
    let bench = Bench::with(Limits { per_session: 100, all: 100 });
    for n in 0..30 {
        let body = Bytes::from(vec![b'x'; RECORD_BYTES_MAX - 1024]);
        bench.first(&n.to_string(), NOW).await.keep(answer(body)).await.unwrap();
    }
    assert_eq!(bench.keys.sweep_at(MUCH_LATER).await.unwrap(), 30);
    assert_eq!(bench.rows(), 0);
}

#[tokio::test]
async fn a_session_that_is_gone_is_forgotten_and_no_other() {
    let bench = Bench::new();
    bench.first("k", NOW).await.keep(answer("done")).await.unwrap();
    let other = Slot::new(SessionNumber(2), 0, bench.api_key, "k");
    let call = Call { user: bench.api_key, fingerprint: Fingerprint::of(&[]), seed: None };
    let Ok(Start::First(call)) = bench.keys.start_at(other, call, at(NOW)).await else { panic!() };
    call.keep(answer("done")).await.unwrap();
    bench.keys.forget(bench.session).await.unwrap();
    assert_eq!((bench.rows(), bench.keys.book().kept_in_all), (2, 1));
    assert_eq!(bench.word("k", "other", NOW).await, "first");
}

#[tokio::test]
async fn an_api_key_may_use_as_many_as_it_leaves_free_also_after_a_restart() {
    let bench = Bench::new();
    for key in ["a", "b", "c"] {
        bench.first(key, NOW).await.keep(answer("done")).await.unwrap();
    }
    let bench = bench.reopened();
    assert_eq!(bench.word("d", "body", NOW).await, "too many");
    assert_eq!(bench.word("a", "body", NOW).await, "again", "those that are known still are");
    let of = |session, api_key| {
        let (store, keys) = (Arc::clone(&bench.store), Arc::clone(&bench.keys));
        Bench { store, keys, session, api_key }
    };
    let elsewhere = of(SessionNumber(2), bench.api_key);
    assert_eq!(elsewhere.word("a", "body", NOW).await, "first");
    assert_eq!(elsewhere.word("b", "body", NOW).await, "too many", "four of eight in all");
    let stranger = of(bench.session, Uuid::new_v4());
    for (key, expected) in [("a", "first"), ("b", "first"), ("c", "too many")] {
        assert_eq!(
            stranger.word(key, "body", NOW).await,
            expected,
            "of the three that were left in the session: {key}"
        );
    }
    bench.keys.sweep_at(MUCH_LATER).await.unwrap();
    assert_eq!(bench.word("d", "body", MUCH_LATER).await, "first");
}

#[tokio::test]
async fn an_answer_too_large_to_keep_leaves_the_key_interrupted() {
    let bench = Bench::new();
    let body = vec![b'x'; RECORD_BYTES_MAX];
    let kept = bench.first("k", NOW).await.keep(answer(body)).await;
    assert!(matches!(kept, Err(IdempotencyError::TooLarge(_))));
    assert_eq!(bench.word("k", "body", NOW).await, "interrupted");
}

#[tokio::test]
async fn a_call_that_sends_a_message_is_begun_again_with_the_seed_that_it_had() {
    let seed = |byte| Some(MessageSeed::from_bytes([byte; MessageSeed::BYTES]));
    let bench = Bench::new();
    let Ok(Start::First(call)) = bench.begin("k", "body", seed(1), NOW).await else { panic!("a first call") };
    assert_eq!(call.seed(), seed(1));
    drop(call);

    // As after a crash, and once more after that. An attempt that does nothing does not undo the earlier ones.
    let bench = bench.reopened();
    for fresh in [2, 3] {
        let Ok(Start::First(call)) = bench.begin("k", "body", seed(fresh), NOW).await else { panic!("begun again") };
        assert_eq!((call.seed(), call.is_resumed()), (seed(1), true));
        call.release().await.unwrap();
        let Ok(Start::First(call)) = bench.begin("k", "body", seed(fresh), NOW).await else { panic!("begun again") };
        assert_eq!(call.seed(), seed(1));
        assert_eq!(word(&bench.begin("k", "body", seed(9), NOW).await), "in use");
    }
    assert_eq!(word(&bench.begin("k", "other", seed(4), NOW).await), "reused");
    assert_eq!((bench.rows(), bench.keys.book().kept_in_all), (2, 1));
    let Ok(Start::First(call)) = bench.begin("k", "body", seed(5), NOW).await else { panic!("begun again") };
    call.keep(answer("sent")).await.unwrap();
    assert_eq!(word(&bench.begin("k", "body", seed(6), NOW).await), "again");

    // A call of another kind stays interrupted.
    drop(bench.first("other", NOW).await);
    assert_eq!(word(&bench.begin("other", "body", seed(7), NOW).await), "interrupted");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_ahead_at_a_start_frees_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("clock");
    let clock = |days: i64| {
        let (set, system) = crate::clock::tests::SetClock::new();
        set.ahead(days);
        Clock::of(move || system.system(), file.clone())
    };
    clock(0).keep();
    let (store, api_key) = (open_memory(), Uuid::from_u128(1));
    let slot = Bench::new().slot("k");
    let start = async |days: i64| {
        let keys = Idempotency::open(store.clone(), clock(days)).unwrap();
        keys.start(slot, Call { user: api_key, fingerprint: Fingerprint::of(&[b"body"]), seed: None }).await
    };
    let Ok(Start::First(call)) = start(0).await else { panic!("nobody was here before") };
    drop(call);
    for days in [2, 100, -100] {
        assert!(!matches!(start(days).await, Ok(Start::First(_))), "{days}");
    }
}

#[tokio::test]
async fn what_layout_1_kept_is_answered_again_and_goes_with_its_session() {
    let bench = Bench::new();
    let body = "x".repeat(40_000);
    bench.first("k", NOW).await.keep(answer(body.clone())).await.unwrap();
    // As layout 1 had it: all rows at the daemon, under the session's id.
    let id = SessionId::random();
    let mut batch = Batch::new();
    for (_, (key, value)) in bench.store.scan_all(Table::IdempotentAnswers).unwrap() {
        batch.delete(bench.session, Table::IdempotentAnswers, key.as_slice());
        let key = [b"r", &id.0.as_bytes()[..], &key].concat();
        batch.put(SessionNumber::DAEMON, Table::IdempotentAnswers, key, value);
    }
    for (_, (key, value)) in bench.store.scan_all(Table::IdempotentHours).unwrap() {
        batch.delete(bench.session, Table::IdempotentHours, key.as_slice());
        let key = [b"h", &key[..4], &id.0.as_bytes()[..], &key[4..]].concat();
        batch.put(SessionNumber::DAEMON, Table::IdempotentAnswers, key, value);
    }
    let foreign = [b"r", &SessionId::random().0.as_bytes()[..], &[0; 32], &[0xFF, 0]].concat();
    batch.put(SessionNumber::DAEMON, Table::IdempotentAnswers, foreign, "of a session that is not there");
    bench.store.commit(batch).await.unwrap();

    let (store, session) = (Arc::clone(&bench.store), bench.session);
    let migrated = spawn_blocking(move || migrate(&*store, || Ok(HashMap::from([(id, session)]))));
    migrated.await.unwrap().unwrap();
    let bench = bench.reopened();
    let Ok(Start::Again(Replay { answer: again, .. })) = bench.start("k", "body", NOW).await else { panic!() };
    assert_eq!(again, answer(body));
    assert_eq!(bench.rows(), 4, "three parts and a row of the index");
    rookery_store::wipe_session(&*bench.store, bench.session, rookery_store::Wipe::Session).await.unwrap();
    bench.keys.forget(bench.session).await.unwrap();
    assert_eq!((bench.rows(), bench.keys.book().kept_in_all), (0, 0));
}
