//! What a session writes down: its record at each change, and group records in the background. What could not be saved is
//! said once, shown, and saved again until it is: else a restart would bring back what is no longer so.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::Shared;
use tracing::{info, warn};

use super::SessionState;
use super::message::{Generation, SessionMsg, Unsaved};
use super::record::Link;
use crate::error::CommandError;
use crate::group_cache::Name;
use crate::reply::Reply;
use rookery_model::GroupRecord;
use rookery_model::{GroupId, ParticipantId, SessionStatus};
use rookery_store::{
    BATCH_OPERATIONS_MAX, Batch, SessionNumber, Store, StoreError, Table, Ticket, delete_parts, put_parts,
};

/// Before something is saved again: the disk needs a moment. The wait doubles, up to 16 s.
const RETRY: Duration = Duration::from_secs(2);
const RETRY_DOUBLINGS_MAX: u32 = 3;

/// How what has to be on disk gets there.
#[derive(Default)]
pub(super) struct Saving {
    /// The record on disk says that the session is linked: it comes back without being written again.
    pub(super) is_link_stored: bool,
    /// The latest write of the record; it is on disk after all before it.
    record: Option<Shared<Ticket>>,
    /// How often the record was written.
    records: u64,
    /// Group records and names are on their way.
    groups: bool,
    /// A group is not on disk as it is: not all of them are.
    are_groups_missing: bool,
    /// What could not be saved, for those who look at the session; none while all is saved.
    record_trouble: Option<String>,
    groups_trouble: Option<String>,
    wipe_trouble: Option<String>,
    /// [`SessionMsg::SaveDue`] is on its way.
    is_retry_due: bool,
    retries: u32,
}

impl Saving {
    pub(super) fn new(is_link_stored: bool) -> Self {
        Self { is_link_stored, ..Self::default() }
    }

    /// What is wrong, in words.
    fn trouble(&self) -> Option<&String> {
        self.wipe_trouble.as_ref().or(self.record_trouble.as_ref()).or(self.groups_trouble.as_ref())
    }
}

impl SessionState {
    /// Writes the session's record; [`Self::answer_when_saved`] waits for it.
    pub(super) fn save_record(&mut self) {
        self.follow(self.record.save(&*self.context.store, self.entry.number));
    }

    /// Every later write of the record has the mark too.
    pub(super) fn mark_deleted(&mut self, reply: Reply<()>) {
        self.record.deleting = true;
        let (marked, myself) = (self.record.save(&*self.context.store, self.entry.number), self.myself.clone());
        tokio::spawn(async move {
            let marked = marked.await;
            if marked.is_err() {
                let _ = myself.send_message(SessionMsg::UnmarkDeleted);
            }
            let _ = reply.send(marked.map_err(CommandError::from));
        });
    }

    pub(super) fn unmark_deleted(&mut self) {
        self.record.deleting = false;
        // A write in between may have had it.
        self.save_record();
    }

    /// Sees to it that the outcome of a write of the record is told and, when it failed, tried again.
    fn follow(&mut self, ticket: Ticket) {
        let saved = ticket.shared();
        self.saving.records += 1;
        self.saving.record = Some(saved.clone());
        let (number, myself) = (self.saving.records, self.myself.clone());
        tokio::spawn(async move {
            let saved = saved.await;
            let _ = myself.send_message(SessionMsg::RecordSaved { number, saved });
        });
    }

    /// Of several writes only the latest matters: it holds all that the others held.
    pub(super) fn record_saved(&mut self, number: u64, saved: Result<(), StoreError>) {
        if number != self.saving.records {
            return;
        }
        match saved {
            Ok(()) => {
                if self.saving.record_trouble.take().is_some() {
                    info!(session.id = %self.entry.id, "the session's record is saved now");
                    self.saving.retries = 0;
                    self.publish();
                }
            }
            Err(error) => {
                if self.saving.record_trouble.is_none() {
                    warn!(session.id = %self.entry.id, error = %error, "could not save the session's record, will retry");
                }
                self.saving.record_trouble = Some(format!("the session's record could not be saved yet: {error}"));
                self.publish();
                self.retry_later();
            }
        }
    }

    fn retry_later(&mut self) {
        if std::mem::replace(&mut self.saving.is_retry_due, true) {
            return;
        }
        let wait = RETRY * 2_u32.saturating_pow(self.saving.retries.min(RETRY_DOUBLINGS_MAX));
        self.saving.retries += 1;
        self.myself.send_after(wait, || SessionMsg::SaveDue);
    }

    /// Groups follow by themselves, as after every message.
    pub(super) fn save_due(&mut self) {
        self.saving.is_retry_due = false;
        if self.saving.record_trouble.is_some() {
            self.save_record();
        }
    }

    /// Answers callers once the record is on disk: what they were told has to be true after a kill.
    pub(super) fn answer_when_saved<T: Send + 'static>(&mut self, answers: Vec<(Reply<T>, T)>) {
        if self.saving.record_trouble.is_some() {
            // What was asked for may be what is so already, but not on disk.
            self.save_record();
        }
        // The latest write may be what the caller asks for again.
        let saved = self.saving.record.clone();
        tokio::spawn(async move {
            let saved = match saved {
                Some(saved) => saved.await,
                None => Ok(()),
            };
            for (reply, answer) in answers {
                let _ = reply.send(saved.clone().map(|()| answer).map_err(CommandError::Unsaved));
            }
        });
    }

    /// Publishes the session for those who ask without a mailbox.
    pub(super) fn publish(&self) {
        let mut session = self.record.to_model(self.engine.is_loaded());
        if let Some(trouble) = self.saving.trouble() {
            let before = session.last_error.take().map(|error| format!("{error}; ")).unwrap_or_default();
            session.last_error = Some(format!("{before}{trouble}"));
        }
        self.entry.session.store(Arc::new(session));
    }

    /// Said by the task that wipes, and that tries it again.
    pub(super) fn wipe_failed(&mut self, generation: Generation, error: StoreError) {
        if !self.engine.is_current(generation) || !self.engine.is_wiping() {
            return;
        }
        self.saving.wipe_trouble =
            Some(format!("the credentials on disk could not be wiped yet, that is tried again: {error}"));
        self.publish();
        for reply in std::mem::take(&mut self.closing) {
            let _ = reply.send(Err(error.clone().into()));
        }
    }

    /// The credentials are wiped: nothing is left to do for a restart.
    pub(super) fn wiped(&mut self) {
        self.saving.wipe_trouble = None;
        if std::mem::take(&mut self.record.wiping) {
            self.follow(self.record.save_for_removal(&*self.context.store, self.entry.number));
        }
    }

    /// `whole`: begun when the session was ready, so that all its groups were among those that were saved by now.
    pub(super) fn groups_saved(&mut self, whole: bool, saved: Result<(), Unsaved>) {
        self.saving.groups = false;
        match saved {
            Ok(()) => {
                if self.saving.groups_trouble.take().is_some() {
                    info!(session.id = %self.entry.id, "groups and names are saved now");
                    self.saving.retries = 0;
                    self.publish();
                }
                self.saving.are_groups_missing = false;
            }
            Err(unsaved) => self.groups_unsaved(unsaved),
        }
        if whole && self.are_groups_to_be_noted() {
            self.record.groups_stored = true;
            self.save_record();
        }
    }

    fn groups_unsaved(&mut self, unsaved: Unsaved) {
        self.saving.are_groups_missing = true;
        let Some(error) = unsaved.error else { return };
        if self.saving.groups_trouble.is_none() {
            warn!(session.id = %self.entry.id, error = %error, "could not save groups or names, will retry");
        }
        self.saving.groups_trouble = Some(format!("groups could not be saved yet: {error}"));
        self.cache.put_back_unsaved(unsaved.groups);
        self.cache.names.put_back_unsaved(unsaved.names);
        self.publish();
        self.retry_later();
    }

    /// Whether the record has still to say that all groups are on disk.
    fn are_groups_to_be_noted(&self) -> bool {
        !self.record.groups_stored && self.record.link == Link::Linked && !self.saving.are_groups_missing
    }

    /// Hands changed group records and names to a task, unless one is on its way: then the next one takes them all.
    pub(super) fn save_groups(&mut self) {
        if self.saving.groups || (self.saving.groups_trouble.is_some() && self.saving.is_retry_due) {
            return;
        }
        // Not while the session's rows are being wiped.
        let Ok(permit) = self.entry.saving.clone().try_acquire_owned() else { return };
        let (groups, names) = (self.cache.take_unsaved(), self.cache.names.take_unsaved());
        let whole = self.record.status == SessionStatus::Ready;
        if groups.is_empty() && names.is_empty() && !(whole && self.are_groups_to_be_noted()) {
            return;
        }
        self.saving.groups = true;
        let (store, number) = (self.context.store.clone(), self.entry.number);
        let (myself, session) = (self.myself.clone(), self.entry.id);
        tokio::spawn(async move {
            let _permit = permit;
            let unsaved = write(&*store, number, groups, names).await;
            if unsaved.is_too_large {
                warn!(session.id = %session, "a group is too large to be saved: it is read again at every start");
            }
            let saved = if unsaved.error.is_none() && !unsaved.is_too_large { Ok(()) } else { Err(unsaved) };
            let _ = myself.send_message(SessionMsg::GroupsSaved { whole, saved });
        });
    }
}

/// Writes group records and names, and tells which of them are not on disk then.
async fn write(
    store: &dyn Store,
    number: SessionNumber,
    groups: Vec<(GroupId, Option<GroupRecord>)>,
    names: Vec<(ParticipantId, Option<Name>)>,
) -> Unsaved {
    let mut unsaved = Unsaved::default();
    let name_tickets: Vec<_> =
        names.chunks(BATCH_OPERATIONS_MAX).map(|names| (names, store.commit(name_batch(number, names)))).collect();
    let mut group_tickets = Vec::new();
    for (group, record) in groups {
        match group_batch(store, number, &group, record) {
            Ok(batch) if batch.is_empty() => {}
            Ok(batch) => group_tickets.push((group, store.commit(batch))),
            Err(error) => unsaved.note_group(group, error),
        }
    }
    for (names, ticket) in name_tickets {
        if let Err(error) = ticket.await {
            unsaved.names.extend(names.iter().map(|(id, _)| *id));
            unsaved.error = Some(error);
        }
    }
    for (group, ticket) in group_tickets {
        if let Err(error) = ticket.await {
            unsaved.note_group(group, error);
        }
    }
    unsaved
}

impl Unsaved {
    fn note_group(&mut self, group: GroupId, error: StoreError) {
        match error {
            StoreError::RecordTooLarge { .. } | StoreError::ValueTooLarge { .. } | StoreError::BatchTooLarge { .. } => {
                self.is_too_large = true;
            }
            error => {
                self.groups.push(group);
                self.error = Some(error);
            }
        }
    }
}

fn group_batch(
    store: &dyn Store,
    number: SessionNumber,
    group: &GroupId,
    record: Option<GroupRecord>,
) -> Result<Batch, StoreError> {
    let (mut batch, key) = (Batch::new(), group.user().as_bytes());
    match record {
        Some(record) => {
            let json = serde_json::to_vec(&record).unwrap_or_default();
            put_parts(store, &mut batch, number, Table::Groups, key, &json)?;
        }
        None => drop(delete_parts(store, &mut batch, number, Table::Groups, key)?),
    }
    Ok(batch)
}

fn name_batch(number: SessionNumber, names: &[(ParticipantId, Option<Name>)]) -> Batch {
    let mut batch = Batch::new();
    for (id, name) in names {
        let key = id.to_string().into_bytes();
        match name {
            Some(name) => batch.put(number, Table::Names, key, serde_json::to_vec(name).unwrap_or_default()),
            None => batch.delete(number, Table::Names, key),
        }
    }
    batch
}
