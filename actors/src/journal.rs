//! The way of a session's changes to disk: numbered events into the log, and then changed records into the store.
//! Decides what is in the next batch; [`mod@write`] puts it together and commits it.
//!
//! ```text
//! nothing to write --something changed--> a batch of all that changed (one at a time; what changes meanwhile is in the next)
//! a batch's events --in the log--> they are published, and the batch's records are written
//! a batch's records --in the store--> callers who waited for the record are answered
//! either one --refused--> it is written once more after a while; until then the record and the session's own
//!                         events are written, where the record changed or a caller waits for it
//! ```
//!
//! An event gets its number with its batch, so a refused batch leaves no gap. The log has, beside the events, how their
//! groups and the session's record were to be written, until that is done: a crash in between neither reports a change
//! twice nor loses it.

mod draft;
mod filling;
mod write;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rookery_model::{Event, EventKind, GroupId, SessionId};
use rookery_store::StoreError;
use serde_json::Map;
use tracing::{info, warn};

use crate::group_cache::{GroupCache, Stored};
use crate::session_log::RedoGroup;
pub(crate) use draft::{Claim, Draft, GroupWrite, Keeping, is_large};
use draft::{GroupDraft, WaitingEvent, event_of};
pub(crate) use write::{Target, Written, write};

/// Events that are in no batch yet while the disk refuses. Beyond this number, a group's events are replaced by the
/// difference between its stored and its current state.
const EVENTS_WAITING_MAX: usize = 2_048;
/// The same while the disk does not refuse: more than thousands of groups that changed while the session was not
/// connected.
const EVENTS_WAITING_HARD_MAX: usize = 65_536;
/// Bytes of the events of one batch: some hundred events, which one commit of the log takes in a few milliseconds.
const EVENTS_BYTES_MAX: usize = 150 * 1024;
/// The same for the events of one group, which are not split over batches.
const EVENTS_BYTES_HARD_MAX: usize = 512 * 1024;
/// Operations of a batch that are left for the session's record and its place in the log.
const OPERATIONS_RESERVED: usize = 10;
/// Names in one batch, and as many phone numbers.
const NAMES_PER_BATCH_MAX: usize = 32;
/// Changes of a large group that are stored beside its record, before the record is written anew: a change of one
/// member costs a 32nd of the record in the long run.
const DELTAS_MAX: u8 = 32;

/// The wait before all is written once more: the disk needs a moment. The wait doubles, up to 16 s.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_DOUBLINGS_MAX: u32 = 3;

/// Called when the record is on disk, or with the error when it is not.
pub(crate) type WhenSaved = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// The callback, and the result that it gets.
type DueAnswer = (WhenSaved, Result<(), StoreError>);

/// The journal of one session.
pub(crate) struct Journal {
    session: SessionId,
    /// The number of the next event.
    next_event: u64,
    waiting_events: VecDeque<WaitingEvent>,
    /// Reports wait that were in no batch yet.
    has_new_reports: bool,
    /// Large groups whose stored record is known.
    bases: BTreeMap<GroupId, Base>,
    /// The number up to which the store shows all events.
    applied: u64,
    /// Groups whose events are in the log while their records are not in the store: the store refused them.
    behind: BTreeMap<GroupId, GroupWrite>,
    /// Counts the changes of the session's record: the latest change, the latest on disk, and the latest that was tried
    /// alone.
    record_version: u64,
    record_saved: u64,
    record_tried: u64,
    /// The record is to be written although there is little space: it says that a part of the session is gone.
    is_record_removal: bool,
    /// Callers who wait for a version of the record.
    waiting: Vec<(u64, WhenSaved)>,
    is_writing: bool,
    /// A batch was refused, and all is to be written once more later.
    is_retry_due: bool,
    retries: u32,
    /// Groups that are too large to be saved at all.
    too_large: BTreeSet<GroupId>,
    record_trouble: Option<StoreError>,
    rest_trouble: Option<StoreError>,
}

/// The stored record of a large group.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// CRC-32 of its JSON.
    pub(crate) checksum: u32,
    /// Rows of deltas beside it, those of earlier records included.
    pub(crate) deltas: u8,
}

/// What the session's actor is to do after a batch, in this order.
#[derive(Default)]
pub(crate) struct AfterWrite {
    /// The kinds of the events that are on disk now, for the operator's audit log.
    pub(crate) kinds: Vec<EventKind>,
    /// Callers who waited for the session's record, with the result.
    pub(crate) answers: Vec<DueAnswer>,
    /// Call [`Journal::retry`] after this.
    pub(crate) retry_in: Option<Duration>,
    /// [`Journal::trouble`] changed.
    pub(crate) has_trouble_changed: bool,
}

impl Journal {
    /// The journal of a session whose log goes on after this number. `bases`: its large groups.
    pub(crate) fn new(session: SessionId, last_event: u64, bases: BTreeMap<GroupId, Base>) -> Self {
        Self {
            session,
            next_event: last_event + 1,
            waiting_events: VecDeque::new(),
            has_new_reports: false,
            bases,
            applied: 0,
            behind: BTreeMap::new(),
            record_version: 0,
            record_saved: 0,
            record_tried: 0,
            is_record_removal: false,
            waiting: Vec::new(),
            is_writing: false,
            is_retry_due: false,
            retries: 0,
            too_large: BTreeSet::new(),
            record_trouble: None,
            rest_trouble: None,
        }
    }

    /// Forgets the groups of an account that is gone.
    pub(crate) fn forget_groups(&mut self) {
        self.bases.clear();
        self.behind.clear();
    }

    /// The number of the latest event on disk.
    #[cfg(test)]
    pub(crate) fn last_event(&self) -> u64 {
        self.next_event - 1
    }

    /// Takes groups whose events are in the log and whose records are to be written with the next batch.
    pub(crate) fn take_behind(&mut self, groups: Vec<RedoGroup>, cache: &mut GroupCache) {
        for RedoGroup { id, write } in groups {
            // All deltas that may be beside the record go when it is written whole.
            if let Some(base) = self.bases.get_mut(&id) {
                base.deltas = DELTAS_MAX;
            }
            cache.put_back_unsaved(id.clone(), Stored::Unknown);
            self.behind.insert(id, write);
        }
    }

    /// Notes that the session's record changed. `is_removal`: the record has to be written with little space, too.
    pub(crate) fn note_record(&mut self, is_removal: bool) {
        self.record_version += 1;
        self.is_record_removal |= is_removal;
    }

    /// Calls `then` when the session's record, as it is now, is on disk, or with the error when it is not.
    pub(crate) fn when_saved(&mut self, then: WhenSaved) {
        if self.record_saved == self.record_version {
            then(Ok(()));
        } else {
            self.waiting.push((self.record_version, then));
        }
    }

    /// Adds an event of the session.
    pub(crate) fn tell(&mut self, kind: EventKind, data: Map<String, serde_json::Value>) {
        self.waiting_events.push_back(Event::of_session(self.session, kind, data).into());
    }

    /// Adds an event about a message.
    pub(crate) fn tell_message(&mut self, event: Event, claim: Claim) {
        // A message that is sent once more is told once, also while the disk is full.
        let is_same = |waiting: &WaitingEvent| waiting.claim.is_report() && waiting.is_of_message(&event);
        if claim.is_report() && self.waiting_events.iter().any(is_same) {
            return;
        }
        self.has_new_reports |= claim.is_report();
        self.waiting_events.push_back(WaitingEvent::new(event, claim));
    }

    /// Takes the differences of groups since the last call, as events.
    pub(crate) fn take_from(&mut self, cache: &mut GroupCache) {
        let session = self.session;
        self.waiting_events.extend(cache.take_diffs().into_iter().map(|diff| event_of(session, diff).into()));
        let is_refused = self.is_retry_due || self.rest_trouble.is_some();
        let most = if is_refused { EVENTS_WAITING_MAX } else { EVENTS_WAITING_HARD_MAX };
        if self.waiting_events.len() > most {
            self.tell_differences(cache, |_| true);
            self.drop_oldest(most);
        }
    }

    /// Replaces the waiting events of these groups by the difference between their stored and their current state.
    fn tell_differences(&mut self, cache: &GroupCache, of: impl Fn(&GroupId) -> bool) {
        let is_stored_known =
            |group: &GroupId| cache.unsaved().any(|(id, stored)| id == group && *stored != Stored::Unknown);
        let mut replaced = BTreeMap::<GroupId, bool>::new();
        self.waiting_events.retain(|WaitingEvent { event, .. }| {
            let (EventKind::Group(kind), Some(group)) = (event.kind, &event.group) else { return true };
            let is_replaced =
                kind.is_of_state() && of(group) && *replaced.entry(group.clone()).or_insert_with_key(&is_stored_known);
            !is_replaced
        });
        let session = self.session;
        let differences = cache.differences().into_iter().filter(|diff| of(&diff.group));
        self.waiting_events.extend(differences.map(|diff| event_of(session, diff).into()));
    }

    /// Drops the oldest events beyond `most`, except reports and those for the operator's audit log.
    fn drop_oldest(&mut self, most: usize) {
        let is_spared = |waiting: &WaitingEvent| waiting.event.kind.notice().is_some() || waiting.claim.is_report();
        let mut lost = self.waiting_events.iter().filter(|waiting| !is_spared(waiting)).count().saturating_sub(most);
        if lost > 0 {
            warn!(session.id = %self.session, events.lost = lost, "too many events wait for the disk, the oldest are not told");
            self.waiting_events.retain(|waiting| {
                let is_dropped = lost > 0 && !is_spared(waiting);
                lost -= usize::from(is_dropped);
                !is_dropped
            });
        }
    }

    /// The next batch; `None`: there is nothing to write, or not now. `has_room`: rows of groups may be written, as
    /// they are not being wiped.
    pub(crate) fn draft(&mut self, cache: &mut GroupCache, has_room: bool) -> Option<Draft> {
        if self.is_writing {
            return None;
        }
        let is_record_changed = self.record_version > self.record_saved;
        let record = is_record_changed.then_some(self.record_version);
        let mut draft = Draft { record, is_removal: self.is_record_removal, ..Draft::default() };
        let has_new_reports = std::mem::take(&mut self.has_new_reports);
        if self.is_retry_due || !has_room {
            // The record and its events, where the record changed since the last try, or a caller waits; and new reports.
            let is_record_due = self.record_tried != self.record_version || !self.waiting.is_empty();
            draft.record = record.filter(|_| is_record_due);
            if draft.record.is_none() && !has_new_reports {
                return None;
            }
            self.record_tried = draft.record.unwrap_or(self.record_tried);
            let has_record = draft.has_record();
            self.fill_events(&mut draft, |WaitingEvent { event, claim, .. }| {
                let is_of_session = !matches!(event.kind, EventKind::Group(_) | EventKind::Message(_));
                claim.is_report() || (has_record && is_of_session)
            });
        } else {
            self.fill_groups(&mut draft, cache);
            let is_unsaved = |event: &Event| event.group_of_state().is_some_and(|group| cache.is_unsaved(group));
            self.fill_events(&mut draft, |waiting| !is_unsaved(&waiting.event));
            if draft.is_empty() {
                return None;
            }
        }
        draft.groups_behind = self.behind.clone();
        draft.groups_behind.retain(|id, _| draft.groups.iter().all(|group| group.id != *id));
        draft.last_event = self.next_event - 1 + draft.events.len() as u64;
        let is_applied = draft.has_state() && draft.groups_behind.is_empty() && draft.last_event > self.applied;
        draft.applied = is_applied.then_some(draft.last_event);
        self.is_writing = true;
        Some(draft)
    }

    /// Whether a batch is on its way.
    pub(crate) fn is_writing(&self) -> bool {
        self.is_writing
    }

    /// Whether all of the session's groups are on disk, as far as they can be.
    pub(crate) fn is_quiet(&self, cache: &GroupCache) -> bool {
        let is_clean = cache.unsaved().next().is_none() && !cache.names.has_unsaved() && !cache.numbers.has_unsaved();
        is_clean && !self.is_writing && self.too_large.is_empty() && self.rest_trouble.is_none()
    }

    /// Takes the result of a batch.
    pub(crate) fn written(&mut self, written: Written, cache: &mut GroupCache) -> AfterWrite {
        let Written { draft, told, record: of_record, rest, groups: of_groups } = written;
        self.is_writing = false;
        let mut after = AfterWrite::default();
        let had_trouble = (self.record_trouble.clone(), self.rest_trouble.clone());
        let (is_of_session, has_report) = (draft.is_of_session(), draft.has_report());
        let Draft { record, is_removal, events, claims, groups, names, numbers, applied, .. } = draft;
        // Where the record changes with every part of a batch, an event is never without its group's change.
        let are_events_written = told.is_ok() && !events.is_empty();
        let about: BTreeSet<GroupId> = events.iter().filter_map(|event| event.group_of_state().cloned()).collect();
        match &told {
            Ok(()) => {
                self.next_event += events.len() as u64;
                claims.iter().for_each(Claim::note_kept);
                // Those that this batch had no room for.
                self.has_new_reports |= self.waiting_events.iter().any(|waiting| waiting.claim.is_report());
                after.kinds = events.into_iter().map(|event| event.kind).collect();
            }
            Err(_) => self.events_are_not_told(events.into_iter().zip(claims)),
        }
        let saved = told.and(of_record);
        match (&saved, record) {
            (Ok(()), Some(version)) => after.answers = self.record_is_saved(version),
            (Err(error), version) if is_of_session => {
                after.answers = self.record_is_not_saved(version.unwrap_or_default(), error);
            }
            _ => {}
        }
        let saved = saved.and(rest);
        if saved.is_ok() {
            self.applied = applied.unwrap_or(self.applied);
        }
        match saved {
            // There is room again, unless the batch was one that little space does not refuse.
            Ok(()) if is_of_session || (has_report && self.is_retry_due) => {
                self.is_retry_due &= is_removal || has_report;
            }
            Ok(()) => {
                self.note_too_large(&groups, of_groups.too_large);
                self.groups_are_saved(groups, &of_groups.checksums);
                if self.rest_trouble.take().is_some() {
                    info!(session.id = %self.session, "groups, names and events are saved now");
                    self.retries = 0;
                }
            }
            Err(_) if is_of_session => after.retry_in = self.retry_later(),
            Err(error) => {
                for GroupDraft { id, stored, write, .. } in groups {
                    if !are_events_written {
                        cache.put_back_unsaved(id, stored);
                        continue;
                    }
                    // Some of these groups may be in the store as they are now. So each is written whole, and all deltas
                    // that may be beside it go.
                    if let Some(base) = self.bases.get_mut(&id) {
                        base.deltas = DELTAS_MAX;
                    }
                    if about.contains(&id) {
                        self.behind.insert(id.clone(), write);
                    }
                    cache.put_back_unsaved(id, Stored::Unknown);
                }
                cache.names.put_back_unsaved(names.into_iter().map(|(id, _)| id).collect());
                cache.numbers.put_back_unsaved(numbers.into_iter().map(|(number, _)| number).collect());
                if self.rest_trouble.is_none() {
                    warn!(session.id = %self.session, %error, "could not save what changed, will retry");
                }
                self.rest_trouble = Some(error);
                after.retry_in = self.retry_later();
            }
        }
        after.has_trouble_changed = had_trouble != (self.record_trouble.clone(), self.rest_trouble.clone());
        after
    }

    /// Gives back the events that come again, and puts the others before those that wait.
    fn events_are_not_told(&mut self, events: impl DoubleEndedIterator<Item = (Event, Claim)>) {
        self.waiting_events.retain(|waiting| !matches!(waiting.claim, Claim::Again(_)));
        // Nobody waits for the disk to have room.
        self.waiting_events.iter_mut().for_each(|waiting| waiting.claim.give_up());
        for (event, claim) in events.rev() {
            let claim = match claim {
                Claim::Again(_) => continue,
                Claim::Later(_) => Claim::Later(None),
                Claim::Report(_) => Claim::Report(None),
            };
            self.waiting_events.push_front(WaitingEvent::new(event, claim));
        }
    }

    fn record_is_saved(&mut self, version: u64) -> Vec<DueAnswer> {
        self.record_saved = version;
        if version == self.record_version {
            self.is_record_removal = false;
        }
        if self.record_trouble.take().is_some() {
            info!(session.id = %self.session, "the session's record is saved now");
            self.retries = 0;
        }
        self.answers(version, &Ok(()))
    }

    fn record_is_not_saved(&mut self, version: u64, error: &StoreError) -> Vec<DueAnswer> {
        if self.record_trouble.is_none() {
            warn!(session.id = %self.session, %error, "could not save the session's record, will retry");
        }
        self.record_trouble = Some(error.clone());
        self.answers(version, &Err(error.clone()))
    }

    fn answers(&mut self, version: u64, saved: &Result<(), StoreError>) -> Vec<DueAnswer> {
        let due = self.waiting.extract_if(.., |(of, _)| *of <= version);
        due.map(|(_, then)| (then, saved.clone())).collect()
    }

    fn note_too_large(&mut self, written: &[GroupDraft], too_large: Vec<GroupId>) {
        for GroupDraft { id, .. } in written {
            self.too_large.remove(id);
        }
        if !too_large.is_empty() {
            warn!(session.id = %self.session, groups = too_large.len(), "groups are too large to be saved");
        }
        self.too_large.extend(too_large);
    }

    fn groups_are_saved(&mut self, groups: Vec<GroupDraft>, checksums: &[(GroupId, u32)]) {
        for GroupDraft { id, write, .. } in groups {
            self.behind.remove(&id);
            match write {
                GroupWrite::Delta(_) => {
                    if let Some(base) = self.bases.get_mut(&id) {
                        base.deltas += 1;
                    }
                }
                GroupWrite::Whole(record) if is_large(&record) => {
                    let checksum = checksums.iter().find(|(group, _)| *group == id).map(|(_, checksum)| *checksum);
                    match checksum {
                        Some(checksum) => drop(self.bases.insert(id, Base { checksum, deltas: 0 })),
                        None => drop(self.bases.remove(&id)),
                    }
                }
                GroupWrite::Whole(_) | GroupWrite::Gone => drop(self.bases.remove(&id)),
            }
        }
    }

    fn retry_later(&mut self) -> Option<Duration> {
        if std::mem::replace(&mut self.is_retry_due, true) {
            return None;
        }
        let wait = RETRY * 2_u32.saturating_pow(self.retries.min(RETRY_DOUBLINGS_MAX));
        self.retries += 1;
        Some(wait)
    }

    /// Whether the disk refused the latest batch, so that nothing is written for a while.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_retry_due
    }

    /// Lets everything be written once more, as the wait is over.
    pub(crate) fn retry(&mut self) {
        self.is_retry_due = false;
    }

    /// What is wrong, in words; `None`: nothing.
    pub(crate) fn trouble(&self) -> Option<String> {
        let record = self.record_trouble.as_ref();
        let record = record.map(|error| format!("the session's record could not be saved yet: {error}"));
        record.or_else(|| Some(format!("groups and events could not be saved yet: {}", self.rest_trouble.as_ref()?)))
    }
}

#[cfg(test)]
mod tests;
