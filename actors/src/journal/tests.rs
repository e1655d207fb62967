//! The journal over a store in memory, without an actor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rookery_model::{
    AllGroups, GroupAction, GroupEventKind, GroupNotification, GroupRecord, Member, ParticipantId, ParticipantIds,
    Role, Versions,
};
use rookery_store::{Change, EventLog, SessionNumber, Table};
use serde_json::json;

use super::*;
use crate::session::loading::Loaded;
use crate::session::record::{Link, SessionRecord};
use crate::session_log::{SessionEvents, SessionLog};
use crate::unwilling_store::{Unwilling, nothing};

mod messages;

const ALICE: SessionNumber = SessionNumber(1);
const ME: u64 = 15_550_100_001;

struct Bench {
    target: Target,
    store: Arc<Unwilling>,
    events: Arc<EventLog>,
    record: SessionRecord,
    journal: Journal,
    cache: GroupCache,
    /// The version of the member list, and the time of the latest change.
    version: u64,
    at: u64,
}

fn person(digits: u64) -> ParticipantIds {
    ParticipantId::Phone(digits).into()
}

fn group() -> GroupId {
    "120363000000000001@g.us".parse().unwrap()
}

fn refused() -> StoreError {
    StoreError::LowSpace { free_bytes: 1, needed_bytes: 2 }
}

impl Bench {
    /// A session with one group of so many members, all of it on disk.
    async fn new(members: u64) -> Self {
        let mut record = SessionRecord::new("alice".parse().unwrap());
        (record.link, record.groups_stored, record.started) = (Link::Linked, true, true);
        let mut known: GroupRecord = serde_json::from_value(json!({ "id": group() })).unwrap();
        known.members = (ME..ME + members).map(|digits| Member::plain(person(digits))).collect();
        known.participants_version = Some(1);
        let mut cache = GroupCache::restore(person(ME), Vec::new(), crate::group_cache::Names::default(), false);
        cache.apply_read_all(0, AllGroups { groups: vec![known], unreadable: 0 });
        let journal = Journal::new(record.id, 0, BTreeMap::new());
        let store = Unwilling::new();
        let events = store.log.clone();
        let log = Arc::new(SessionLog::new(&events, record.id, ALICE));
        let loading = (store.clone(), log.clone());
        tokio::task::spawn_blocking(move || loading.1.load(&*loading.0).map(drop)).await.unwrap().unwrap();
        let target = Target { store: store.clone(), log, number: ALICE };
        let mut bench = Self { target, store, events, record, journal, cache, version: 1, at: 1_700_000_000 };
        bench.journal.note_record(false);
        bench.write().await;
        assert!(bench.journal.is_quiet(&bench.cache));
        bench
    }

    /// Writes a batch; returns what the actor is to do then.
    async fn write(&mut self) -> AfterWrite {
        self.journal.take_from(&mut self.cache);
        let draft = self.journal.draft(&mut self.cache, true).expect("there is something to write");
        self.write_draft(draft).await
    }

    async fn write_draft(&mut self, draft: Draft) -> AfterWrite {
        self.record.last_event = draft.last_event;
        let written = write(&self.target, draft.has_record().then(|| self.record.clone()), draft).await;
        self.written(written)
    }

    /// The number of the latest event on disk.
    fn last_event(&self) -> u64 {
        self.target.log.latest()
    }

    /// The next batch is refused.
    fn refuse(&mut self, has_room: bool) -> Option<AfterWrite> {
        self.journal.take_from(&mut self.cache);
        let draft = self.journal.draft(&mut self.cache, has_room)?;
        Some(self.journal.written(Written::refused(draft, refused()), &mut self.cache))
    }

    /// A batch is on disk, or not: waiting callers are answered.
    fn written(&mut self, written: Written) -> AfterWrite {
        let mut after = self.journal.written(written, &mut self.cache);
        after.answers.drain(..).for_each(|(then, saved)| then(saved));
        after
    }

    /// WhatsApp sends a notification about members.
    fn told(&mut self, action: GroupAction) {
        let is_of_members = matches!(action, GroupAction::Added(_) | GroupAction::Removed(_));
        let versions = Versions { previous: Some(self.version), this: self.version + 1 };
        self.version += u64::from(is_of_members);
        self.at += 1;
        let versions = is_of_members.then_some(versions);
        let notification = GroupNotification { group: group(), author: None, at: self.at, versions, action };
        self.cache.apply_event(notification);
    }

    fn added(&mut self, digits: u64) {
        self.told(GroupAction::Added(vec![Member::plain(person(digits))]));
    }

    fn removed(&mut self, digits: u64) {
        self.told(GroupAction::Removed(vec![person(digits)]));
    }

    /// The events on disk: numbers and kinds.
    async fn events(&self) -> Vec<(u64, &'static str)> {
        let page = SessionEvents::new(&self.target.log).page(0, usize::MAX, |_| true).await.unwrap();
        assert_eq!((page.seen, page.gap), (self.last_event(), None));
        page.events.iter().map(|event| (event.number, event.kind.as_str())).collect()
    }

    /// What a start would read.
    fn reloaded(&self) -> Loaded {
        let log = SessionLog::new(&self.events, self.record.id, ALICE);
        Loaded::read(&*self.target.store, &log, ALICE).unwrap()
    }
}

#[tokio::test]
async fn events_are_numbered_by_the_batch_that_is_on_disk_and_a_refused_one_leaves_no_gap() {
    let mut bench = Bench::new(3).await;
    bench.added(1);
    bench.write().await;
    assert_eq!(bench.last_event(), 1);
    bench.added(2);
    bench.refuse(true).unwrap();
    assert_eq!(bench.last_event(), 1);
    bench.removed(1);
    bench.journal.retry();
    bench.write().await;
    assert_eq!(bench.last_event(), 3);
    assert_eq!(bench.events().await, [(1, "group.join"), (2, "group.join"), (3, "group.leave")]);
    let mut loaded = bench.reloaded();
    assert_eq!(loaded.last_event(), 3);
    assert_eq!(loaded.cache().record(&group()), bench.cache.record(&group()));
}

#[tokio::test]
async fn a_large_group_is_stored_by_its_changes_and_read_as_it_was() {
    let (seed, mut bench) = (rand::random::<u64>(), Bench::new(300).await);
    let mut random = StdRng::seed_from_u64(seed);
    let mut bytes = 0;
    for _ in 0..200 {
        for _ in 0..random.random_range(1..4) {
            let digits = ME + random.random_range(1..400);
            match random.random_range(0..4) {
                0 => bench.added(digits),
                1 => bench.removed(digits),
                2 => bench.told(GroupAction::Promoted(vec![person(digits)])),
                _ => bench.told(GroupAction::Subject(format!("subject {digits}"))),
            }
        }
        bench.journal.take_from(&mut bench.cache);
        let Some(draft) = bench.journal.draft(&mut bench.cache, true) else { continue };
        bytes += usize::from(matches!(draft.groups.first(), Some(GroupDraft { write: GroupWrite::Whole(_), .. })));
        bench.write_draft(draft).await;
        let mut loaded = bench.reloaded();
        assert_eq!(loaded.cache().record(&group()), bench.cache.record(&group()), "seed {seed}");
    }
    assert!((3..=12).contains(&bytes), "written whole {bytes} times of 200, seed {seed}");
}

#[tokio::test]
async fn while_a_batch_is_to_be_written_again_the_record_alone_is_written_for_those_who_wait() {
    let mut bench = Bench::new(3).await;
    bench.added(1);
    let after = bench.refuse(true).unwrap();
    assert_eq!((after.retry_in, after.has_trouble_changed), (Some(RETRY), true));
    assert!(bench.journal.draft(&mut bench.cache, true).is_none(), "nobody waits for the rest");
    let answered = Arc::new(AtomicU64::new(0));
    let then = |answered: &Arc<AtomicU64>| {
        let answered = Arc::clone(answered);
        let word = move |saved: Result<(), StoreError>| answered.store(1 + u64::from(saved.is_ok()), Ordering::Relaxed);
        Box::new(word) as WhenSaved
    };
    bench.journal.note_record(true);
    bench.journal.when_saved(then(&answered));
    let draft = bench.journal.draft(&mut bench.cache, true).unwrap();
    assert!(draft.is_of_session() && draft.is_removal);
    bench.written(Written::refused(draft, refused()));
    assert_eq!(answered.load(Ordering::Relaxed), 1, "it is told that it is not saved");
    assert!(bench.journal.draft(&mut bench.cache, true).is_none(), "it was tried");
    bench.journal.when_saved(then(&answered));
    let draft = bench.journal.draft(&mut bench.cache, true).unwrap();
    bench.write_draft(draft).await;
    assert_eq!(answered.load(Ordering::Relaxed), 2);
    assert!(
        bench.journal.trouble().is_some_and(|trouble| trouble.starts_with("groups and events could not be saved yet"))
    );
    bench.journal.retry();
    bench.write().await;
    assert_eq!(bench.last_event(), 1);
    assert_eq!(bench.journal.trouble(), None);
}

#[tokio::test]
async fn what_happened_to_the_session_itself_is_told_with_its_record_whatever_waits_of_its_groups() {
    let mut bench = Bench::new(3).await;
    bench.added(1);
    bench.journal.tell(EventKind::AccountChanged, Map::new());
    bench.journal.note_record(true);
    bench.refuse(true).unwrap();
    for has_room in [true, false] {
        let draft = bench.journal.draft(&mut bench.cache, has_room).unwrap();
        let kinds: Vec<_> = draft.events.iter().map(|event| event.kind).collect();
        assert!(draft.is_of_session() && kinds == [EventKind::AccountChanged], "{draft:?}");
        bench.written(Written::refused(draft, refused()));
        bench.journal.note_record(true);
    }
    let draft = bench.journal.draft(&mut bench.cache, true).unwrap();
    let after = bench.write_draft(draft).await;
    assert_eq!((bench.last_event(), after.kinds), (1, vec![EventKind::AccountChanged]));
    bench.journal.retry();
    bench.write().await;
    assert_eq!(bench.last_event(), 2);
    assert_eq!(bench.events().await, [(1, "session.account_changed"), (2, "group.join")]);
}

#[tokio::test]
async fn what_cannot_be_written_for_long_is_told_as_the_difference_and_nothing_that_is_of_no_state_is_lost() {
    let mut bench = Bench::new(3).await;
    bench.told(GroupAction::Told(GroupEventKind::InviteRevoked, Vec::new()));
    bench.refuse(true).unwrap();
    for _ in 0..EVENTS_WAITING_MAX {
        bench.added(7);
        bench.removed(7);
        bench.added(8);
        bench.removed(ME + 1);
        bench.journal.take_from(&mut bench.cache);
    }
    let waiting = &bench.journal.waiting_events;
    assert!(waiting.len() <= EVENTS_WAITING_MAX);
    let kind = |waiting: &&WaitingEvent| waiting.event.kind == EventKind::Group(GroupEventKind::InviteRevoked);
    assert_eq!(waiting.iter().filter(kind).count(), 1);
    // A listener who follows the events ends with the group's current members.
    let mut members: BTreeSet<String> = (0..3).map(|nth| format!("{}@c.us", ME + nth)).collect();
    for WaitingEvent { event, .. } in waiting {
        for id in event.data["participantIds"].as_array().unwrap() {
            let id = id.as_str().unwrap().to_owned();
            let changed = match event.kind.as_str() {
                "group.join" => members.insert(id),
                "group.leave" => members.remove(&id),
                _ => true,
            };
            assert!(changed, "told twice: {event:?}");
        }
    }
    assert_eq!(members.into_iter().collect::<Vec<_>>(), [ME, ME + 2, 8].map(|digits| format!("{digits}@c.us")));
    bench.journal.retry();
    bench.write().await;
    assert!(bench.last_event() > 1 && bench.reloaded().cache().record(&group()) == bench.cache.record(&group()));
}

#[tokio::test]
async fn a_burst_is_told_whole_and_a_group_is_never_ahead_of_its_events() {
    let mut bench = Bench::new(3).await;
    let groups = (0..900_u64).map(|nth| {
        let mut record: GroupRecord =
            serde_json::from_value(json!({ "id": format!("12036310000{nth}@g.us") })).unwrap();
        record.members = (0..=nth % 60).map(|digits| Member::plain(person(ME + digits))).collect();
        record
    });
    let mut groups: Vec<GroupRecord> = groups.collect();
    let read = |groups: &[GroupRecord]| AllGroups { groups: groups.to_vec(), unreadable: 0 };
    bench.cache.apply_read_all(bench.cache.sequence(), read(&groups));
    while !bench.journal.is_quiet(&bench.cache) {
        bench.write().await;
    }
    let before = bench.last_event();
    // In each group somebody came, somebody left, and the subject is new.
    for group in &mut groups {
        group.members.remove(0);
        group.members.extend((0..40).map(|digits| Member::plain(person(77 + digits))));
        group.subject = "x".repeat(60);
    }
    bench.cache.apply_read_all(bench.cache.sequence(), read(&groups));
    let mut told = std::collections::HashMap::<GroupId, usize>::new();
    while !bench.journal.is_quiet(&bench.cache) {
        bench.journal.take_from(&mut bench.cache);
        let draft = bench.journal.draft(&mut bench.cache, true).unwrap();
        for event in &draft.events {
            *told.entry(event.group.clone().unwrap()).or_default() += 1;
        }
        let untold: Vec<_> = draft.groups.iter().filter(|group| told.get(&group.id) < Some(&3)).collect();
        assert!(untold.is_empty(), "saved without their events: {untold:?}");
        assert_eq!(bench.write_draft(draft).await.retry_in, None);
    }
    assert!(bench.journal.waiting_events.is_empty());
    assert!(bench.last_event() - before >= 3 * 900);
    let events = bench.events().await;
    assert_eq!(events.last().unwrap().0, bench.last_event());
}

#[tokio::test]
async fn what_happened_to_one_group_beyond_what_a_batch_holds_is_told_as_the_difference() {
    let mut bench = Bench::new(3).await;
    for _ in 0..3_000 {
        bench.added(7);
        bench.removed(7);
    }
    bench.added(8);
    bench.write().await;
    let last = bench.last_event();
    assert!(last < 10 && bench.journal.waiting_events.is_empty(), "{last}");
    assert_eq!(bench.reloaded().cache().record(&group()), bench.cache.record(&group()));
}

/// Everything but the session's key: what a store refuses once its volume is nearly full.
fn all_of_groups(change: &Change) -> bool {
    matches!(change.table, Table::Groups | Table::GroupDeltas)
}

#[tokio::test]
async fn a_crash_between_the_log_and_the_store_tells_nothing_twice_and_loses_nothing() {
    for members in [3, 300] {
        let mut bench = Bench::new(members).await;
        bench.added(7);
        bench.write().await;
        bench.store.refuse(all_of_groups);
        bench.added(8);
        bench.told(GroupAction::Subject("new".to_owned()));
        assert!(bench.write().await.retry_in.is_some());
        assert_eq!(bench.last_event(), 3, "the events are on disk");
        // What happens to the session itself meanwhile takes nothing from what the groups lack.
        bench.journal.tell(EventKind::Passkey, Map::new());
        bench.journal.note_record(false);
        bench.write().await;
        assert_eq!(bench.last_event(), 4);
        bench.removed(ME + 1);
        let mut loaded = bench.reloaded();
        let mut expected = bench.cache.record(&group()).unwrap().into_owned();
        assert_eq!(expected.members.len() as u64, members + 1);
        expected = loaded.cache().record(&group()).unwrap().into_owned();
        assert_eq!((expected.members.len() as u64, expected.subject.as_str()), (members + 2, "new"));
        // WhatsApp shows what it shows after a start: only what was not told before is told.
        let now = bench.cache.record(&group()).unwrap().into_owned();
        let asked = loaded.cache().sequence();
        loaded.cache().apply_read_all(asked, AllGroups { groups: vec![now.clone()], unreadable: 0 });
        let told: Vec<_> = loaded.cache().take_diffs().into_iter().map(|diff| diff.kind).collect();
        assert_eq!(told, [GroupEventKind::Leave]);
        // Without a crash, the group is written once the store takes it.
        bench.store.refuse(nothing);
        bench.journal.retry();
        bench.write().await;
        assert!(bench.journal.behind.is_empty() && bench.journal.trouble().is_none());
        assert_eq!(bench.last_event(), 5);
        assert_eq!(bench.reloaded().cache().record(&group()), bench.cache.record(&group()));
    }
}

#[tokio::test]
async fn the_session_s_record_is_as_new_as_its_events_after_a_crash_and_never_older_than_it_was() {
    let mut bench = Bench::new(3).await;
    bench.store.refuse(|change| change.table == Table::Sessions);
    bench.record.push_name = Some("first".to_owned());
    bench.journal.tell(EventKind::Restriction, Map::new());
    bench.journal.note_record(false);
    bench.write().await;
    assert_eq!(bench.last_event(), 1);
    assert_eq!(bench.reloaded().push_name(), Some("first"));
    // A later record without an event is newer than the one in the log.
    bench.store.refuse(nothing);
    bench.record.push_name = Some("second".to_owned());
    bench.journal.note_record(false);
    bench.journal.retry();
    bench.write().await;
    assert_eq!(bench.reloaded().push_name(), Some("second"));
}

#[tokio::test]
async fn a_change_of_accounts_leaves_no_earlier_event_readable() {
    let mut bench = Bench::new(3).await;
    bench.added(7);
    bench.write().await;
    // One more is written in the same batch as the change of accounts.
    bench.added(8);
    bench.journal.take_from(&mut bench.cache);
    bench.journal.tell(EventKind::AccountChanged, Map::new());
    bench.journal.note_record(false);
    bench.write().await;
    let log = SessionEvents::new(&bench.target.log);
    assert_eq!(log.page(0, 9, |_| true).await.unwrap().gap, Some(2));
    let rest = log.page(2, 9, |_| true).await.unwrap().events;
    assert_eq!(
        rest.iter().map(|event| (event.number, event.kind)).collect::<Vec<_>>(),
        [(3, EventKind::AccountChanged)]
    );
    let log = bench.target.log.clone();
    let oldest = tokio::task::spawn_blocking(move || log.oldest()).await.unwrap().unwrap();
    assert_eq!((oldest, bench.reloaded().last_event()), (3, 3));
}

#[tokio::test]
async fn a_session_with_many_groups_is_written_in_batches_that_the_store_takes() {
    let mut bench = Bench::new(3).await;
    let groups = (2..800_u64).map(|nth| {
        let mut record: GroupRecord = serde_json::from_value(json!({ "id": format!("1203630000{nth}@g.us") })).unwrap();
        record.members = (0..nth).map(|digits| Member { person: person(ME + digits), role: Role::Member }).collect();
        record
    });
    let all = AllGroups { groups: groups.collect(), unreadable: 0 };
    let ids: Vec<GroupId> = all.groups.iter().map(|group| group.id.clone()).collect();
    bench.cache.apply_read_all(bench.cache.sequence(), all);
    while !bench.journal.is_quiet(&bench.cache) {
        let after = bench.write().await;
        assert_eq!(after.retry_in, None, "{:?}", bench.journal.trouble());
    }
    let mut loaded = bench.reloaded();
    for id in &ids {
        assert_eq!(loaded.cache().record(id), bench.cache.record(id));
    }
    assert_eq!(bench.last_event(), ids.len() as u64 + 1, "one came with each, and one group went");
}
