//! What a session writes down: its record at each change, and group records in the background.

use std::sync::Arc;

use tracing::warn;

use super::record::Link;
use super::{Reply, SessionMsg, SessionState};
use crate::error::CommandError;
use crate::group_cache::{Name, Names};
use crate::model::{ParticipantId, SessionStatus};
use crate::store::{BATCH_OPERATIONS_MAX, Batch, SessionNumber, Store, StoreError, Table, delete_parts, put_parts};

impl SessionState {
    /// Writes the session's record; [`Self::answer_when_saved`] waits for it.
    pub(super) fn save_record(&mut self) {
        self.saved = Some(self.record.save(&*self.context.store, self.entry.number));
    }

    /// Answers callers once the record is on disk: what they were told has to be true after a kill.
    pub(super) fn answer_when_saved<T: Send + 'static>(&mut self, answers: Vec<(Reply<T>, T)>) {
        // Without one of our own, whatever is on its way is waited for: it may be what the caller asks for again.
        let saved = self.saved.take().unwrap_or_else(|| self.context.store.commit(Batch::new()));
        tokio::spawn(async move {
            let saved = saved.await;
            for (reply, answer) in answers {
                let _ = reply.send(saved.clone().map(|()| answer).map_err(CommandError::from));
            }
        });
    }

    /// Publishes the session for those who ask without a mailbox.
    pub(super) fn publish(&self) {
        self.entry.session.store(Arc::new(self.record.to_model(self.engine.loaded)));
    }

    /// `whole`: begun when the session was ready, so that all its groups were among those that were saved by now.
    pub(super) fn groups_saved(&mut self, whole: bool, failed: bool) {
        self.saving_groups = false;
        self.saving_failed |= failed;
        if whole && self.are_groups_to_be_noted() {
            self.record.groups_stored = true;
            self.save_record();
        }
    }

    /// Whether the record has still to say that all groups are on disk. Not once a group could not be saved: it is
    /// written again only when it changes, or after the next start.
    fn are_groups_to_be_noted(&self) -> bool {
        !self.record.groups_stored && self.record.link == Link::Linked && !self.saving_failed
    }

    /// Hands changed group records and names to a task, unless one is on its way: then the next one takes them all.
    pub(super) fn save_groups(&mut self) {
        if self.saving_groups {
            return;
        }
        // Not while the session's rows are being wiped.
        let Ok(saving) = self.entry.saving.clone().try_acquire_owned() else { return };
        let (unsaved, names) = (self.cache.take_unsaved(), self.cache.names.take_unsaved());
        let ready = self.record.status == SessionStatus::Ready;
        if unsaved.is_empty() && names.is_empty() && !(ready && self.are_groups_to_be_noted()) {
            return;
        }
        self.saving_groups = true;
        let (store, number) = (self.context.store.clone(), self.entry.number);
        let (myself, session) = (self.myself.clone(), self.entry.id);
        tokio::spawn(async move {
            let _saving = saving;
            let mut failed = false;
            let mut tickets = name_batches(number, &names).map(|batch| store.commit(batch)).collect::<Vec<_>>();
            for (group, record) in unsaved {
                let (mut batch, key) = (Batch::new(), group.user().as_bytes());
                let json = record.map(|record| serde_json::to_vec(&record).unwrap_or_default());
                let added = match &json {
                    Some(json) => put_parts(&*store, &mut batch, number, Table::Groups, key, json),
                    None => delete_parts(&*store, &mut batch, number, Table::Groups, key),
                };
                match added {
                    Ok(0) => {}
                    Ok(_) => tickets.push(store.commit(batch)),
                    Err(error) => {
                        failed = true;
                        warn!(session.id = %session, error = %error, "could not save a group");
                    }
                }
            }
            for ticket in tickets {
                if let Err(error) = ticket.await {
                    failed = true;
                    warn!(session.id = %session, error = %error, "could not save a group");
                }
            }
            let _ = myself.send_message(SessionMsg::GroupsSaved { whole: ready, failed });
        });
    }
}

/// The names of a session as they are stored: a row each, under the id as text.
pub(super) fn load_names(store: &dyn Store, number: SessionNumber) -> Result<Names, StoreError> {
    let rows = store.scan_prefix(number, Table::Names, b"")?;
    // One that cannot be read is learnt again.
    let name = |(key, json): (Vec<u8>, Vec<u8>)| {
        Some((std::str::from_utf8(&key).ok()?.parse().ok()?, serde_json::from_slice(&json).ok()?))
    };
    Ok(Names::restore(rows.into_iter().filter_map(name)))
}

fn name_batches(number: SessionNumber, names: &[(ParticipantId, Option<Name>)]) -> impl Iterator<Item = Batch> + '_ {
    names.chunks(BATCH_OPERATIONS_MAX).map(move |names| {
        let mut batch = Batch::new();
        for (id, name) in names {
            let key = id.to_string().into_bytes();
            match name {
                Some(name) => batch.put(number, Table::Names, key, serde_json::to_vec(name).unwrap_or_default()),
                None => batch.delete(number, Table::Names, key),
            }
        }
        batch
    })
}
