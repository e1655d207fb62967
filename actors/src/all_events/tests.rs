//! Pages of one session and of all, over events that cannot be read.

use rookery_model::{EventKind, SessionConfig};
use rookery_store::{Append, SpaceUse, open_memory};
use serde_json::Map;

use super::*;
use crate::options::SessionOptions;
use crate::session::record::SessionRecord;
use crate::session_log::{EventPage, Redo, SessionEvents};

struct Bench {
    log: Arc<EventLog>,
    directory: Arc<Directory>,
}

impl Bench {
    fn new() -> Self {
        Self { log: EventLog::open_memory(), directory: Arc::default() }
    }

    async fn session(&self, name: &str, number: u32) -> Arc<SessionHandle> {
        let record = SessionRecord::new(name.parse().unwrap());
        let (number, options) = (SessionNumber(number), SessionOptions::default());
        let entry = SessionHandle::new(number, record.to_model(false), SessionConfig::default(), &options, &self.log);
        let entry = Arc::new(entry);
        let loading = entry.log.clone();
        tokio::task::spawn_blocking(move || loading.load(&*open_memory()).map(drop)).await.unwrap().unwrap();
        self.directory.insert(entry.clone());
        entry
    }

    /// Appends so many events of a session, after its latest; some of them as nobody can read them.
    async fn append(&self, entry: &SessionHandle, count: u64, is_readable: bool) {
        let first = entry.log.latest() + 1;
        let numbers = first..first + count;
        let event = |number| Event { number, ..Event::of_session(entry.id, EventKind::SessionStatus, Map::new()) };
        let events: Vec<Event> = numbers.map(event).collect();
        if is_readable {
            entry.log.append(&events, &Redo::default(), SpaceUse::Writing).unwrap().await.unwrap();
        } else {
            let events = events.iter().map(|_| b"damaged".to_vec()).collect();
            let append = Append {
                session: entry.number,
                first,
                events,
                redo: Vec::new(),
                index: Vec::new(),
                space: SpaceUse::Writing,
            };
            self.log.append(append).await.unwrap();
        }
        entry.log.publish(first + count - 1);
    }

    async fn page(&self, position: u64, told: u64) -> AllEventsPage {
        let all = AllEvents::new(Arc::downgrade(&self.log), self.directory.clone());
        all.page(LogPlace { position, told }, 100, |_| true, |_| true).await.unwrap()
    }
}

async fn page(entry: &SessionHandle, after: u64) -> EventPage {
    SessionEvents::new(&entry.log).page(after, 100, |_| true).await.unwrap()
}

fn numbers(page: &EventPage) -> Vec<u64> {
    page.events.iter().map(|event| event.number).collect()
}

fn positions(page: &AllEventsPage) -> Vec<u64> {
    page.events.iter().map(|(position, _)| *position).collect()
}

#[tokio::test]
async fn a_page_ends_before_what_cannot_be_read_and_the_next_one_says_where_it_goes_on() {
    let bench = Bench::new();
    let alice = bench.session("alice", 1).await;
    for (count, is_readable) in [(2, true), (1, false), (2, true), (2, false)] {
        bench.append(&alice, count, is_readable).await;
    }
    let first = page(&alice, 0).await;
    assert_eq!((numbers(&first), first.seen, first.has_more, first.gap), (vec![1, 2], 2, true, None));
    let gap = page(&alice, 2).await;
    assert_eq!((numbers(&gap), gap.gap), (vec![], Some(3)));
    let second = page(&alice, 3).await;
    assert_eq!((numbers(&second), second.seen, second.has_more, second.gap), (vec![4, 5], 5, true, None));
    assert_eq!(page(&alice, 5).await.gap, Some(7));
    // Also behind more than one look reads.
    bench.append(&alice, 600, false).await;
    bench.append(&alice, 1, true).await;
    assert_eq!(page(&alice, 5).await.gap, Some(607));
    assert_eq!(numbers(&page(&alice, 607).await), [608]);
    let end = page(&alice, 608).await;
    assert_eq!((numbers(&end), end.has_more, end.gap), (vec![], false, None));
}

#[tokio::test]
async fn in_the_whole_log_a_gap_is_told_once_and_only_to_those_who_could_see_it() {
    let bench = Bench::new();
    let (alice, bob) = (bench.session("alice", 1).await, bench.session("bob", 2).await);
    bench.append(&alice, 2, true).await;
    bench.append(&bob, 2, false).await;
    bench.append(&alice, 1, true).await;
    bench.append(&bob, 1, true).await;
    let first = bench.page(0, 0).await;
    assert_eq!((positions(&first), first.seen, first.is_gap), (vec![1, 2], 2, false));
    let gap = bench.page(2, 0).await;
    assert_eq!((positions(&gap), gap.seen, gap.is_gap), (vec![], 2, true));
    // Once it was told, reading goes on, and a later gap is told again.
    let rest = bench.page(2, 4).await;
    assert_eq!((positions(&rest), rest.seen, rest.is_gap, rest.has_more), (vec![5, 6], 6, false, false));
    bench.append(&alice, 1, false).await;
    assert!(bench.page(6, 4).await.is_gap && bench.page(2, 4).await.seen == 6);
    // Whoever may see alice only has no gap in what is bob's.
    let all = AllEvents::new(Arc::downgrade(&bench.log), bench.directory.clone());
    let of_alice =
        all.page(LogPlace { position: 0, told: 0 }, 100, |session| session.name.as_str() == "alice", |_| true);
    assert_eq!(positions(&of_alice.await.unwrap()), [1, 2, 5]);
    // A deleted session is nobody's gap.
    bench.directory.remove(bob.id);
    bench.directory.remove(alice.id);
    let nothing = bench.page(0, 0).await;
    assert_eq!((positions(&nothing), nothing.seen, nothing.has_more), (vec![], 7, false));
}
