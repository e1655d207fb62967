use serde_json::json;
use tokio::sync::oneshot;

use super::*;
use crate::options::RateLimits;

const ALICE: ParticipantIds = ParticipantIds { phone: std::num::NonZeroU64::new(15_550_100_001), lid: None };

struct Bench {
    refresher: Refresher,
    cache: GroupCache,
    creations: Creations,
}

impl Bench {
    fn new() -> Self {
        let rate_limiter = Arc::new(RateLimiter::new(&RateLimits::default()));
        let refresher = Refresher::new(SessionId::random(), rate_limiter);
        let mut bench = Self { refresher, cache: GroupCache::default(), creations: Creations::default() };
        bench.cache.apply_read_all(0, AllGroups { groups: vec![record()], unreadable: 0 });
        bench
    }

    fn read_back(&mut self) -> oneshot::Receiver<Result<GroupRead, CommandError>> {
        let (reply, answer) = oneshot::channel();
        let question = ReadQuestion::ReadBack { group: group(), write: None, reply };
        self.refresher.ask(question, true, &self.cache, &mut self.creations, &ALICE);
        answer
    }

    fn share(&mut self) -> oneshot::Receiver<Result<usize, CommandError>> {
        let (reply, answer) = oneshot::channel();
        let answering = move |cache: Result<&mut GroupCache, CommandError>| {
            let _ = reply.send(cache.map(|cache| cache.summaries().len()));
        };
        self.refresher.share(SharedRead { scope: Scope::One(group()), answer: Box::new(answering) });
        answer
    }

    fn one_read(&mut self, answer: Result<Option<GroupRecord>, CommandError>) {
        let asked = self.cache.sequence();
        self.refresher.one_read(&group(), asked, answer.map(|record| record.map(Box::new)), &mut self.cache);
    }
}

fn group() -> GroupId {
    record().id
}

fn record() -> GroupRecord {
    serde_json::from_value(json!({ "id": "120363000000000001@g.us" })).unwrap()
}

fn read_now() -> Step {
    Step::ReadOne { group: group(), delay: Duration::ZERO }
}

#[tokio::test(start_paused = true)]
async fn callers_share_a_read_and_a_command_gets_one_that_was_asked_for_after_it() {
    let mut bench = Bench::new();
    let (mut one, mut other) = (bench.share(), bench.share());
    let mut command = bench.read_back();
    assert_eq!(bench.refresher.take_steps(), [read_now()]);
    bench.one_read(Ok(Some(record())));
    assert_eq!((one.try_recv().unwrap(), other.try_recv().unwrap()), (Ok(1), Ok(1)));
    assert!(command.try_recv().is_err(), "its read has only begun");
    assert_eq!(bench.refresher.take_steps(), [read_now()]);
    bench.one_read(Ok(Some(record())));
    assert!(command.try_recv().unwrap().unwrap().record.is_some());
    assert!(bench.refresher.take_steps().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_absence_is_checked_once_before_it_is_believed() {
    let mut bench = Bench::new();
    let mut command = bench.read_back();
    bench.refresher.take_steps();
    bench.one_read(Ok(None));
    assert_eq!(bench.refresher.take_steps(), [Step::ReadOne { group: group(), delay: ABSENCE_CHECK_DELAY }]);
    assert!(command.try_recv().is_err());
    bench.one_read(Ok(None));
    assert!(command.try_recv().unwrap().unwrap().record.is_none() && !bench.cache.has(&group()));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_when_the_engine_ends_is_told_so() {
    let mut bench = Bench::new();
    let (mut caller, mut command) = (bench.share(), bench.read_back());
    bench.refresher.end();
    assert_eq!(caller.try_recv().unwrap(), Err(CommandError::NotConnected));
    assert!(matches!(command.try_recv().unwrap(), Err(CommandError::NotConnected)));
}

#[tokio::test(start_paused = true)]
async fn a_doubt_is_read_after_a_moment_and_waits_while_the_session_is_not_ready() {
    let mut bench = Bench::new();
    bench.cache.mark_for_read(&group());
    bench.refresher.schedule_doubts(&bench.cache);
    let [Step::WakeUp { due: Due::Doubts, delay }] = bench.refresher.take_steps()[..] else { panic!("no wake-up") };
    bench.refresher.due(Due::Doubts, true, &mut bench.cache);
    assert!(bench.refresher.take_steps().is_empty(), "too early");
    tokio::time::advance(delay).await;
    bench.refresher.due(Due::Doubts, false, &mut bench.cache);
    assert!(bench.refresher.take_steps().is_empty(), "the next log-in reads all");
    bench.refresher.schedule_doubts(&bench.cache);
    let delay = bench.refresher.take_steps().into_iter().find_map(|step| match step {
        Step::WakeUp { delay, .. } => Some(delay),
        _ => None,
    });
    tokio::time::advance(delay.unwrap()).await;
    bench.refresher.due(Due::Doubts, true, &mut bench.cache);
    assert_eq!(bench.refresher.take_steps(), [read_now()]);
}
