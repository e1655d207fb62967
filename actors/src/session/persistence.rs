//! Saving a session's changes, and the callers who wait for that. The journal decides what is in a batch; the actor has
//! it written.

use std::sync::Arc;

use super::SessionState;
use super::message::{Generation, SessionMsg};
use super::record::{Link, SessionRecord};
use crate::error::CommandError;
use crate::journal::{self, Target, Written};
use crate::reply::Reply;
use rookery_model::{EventKind, OperatorNotice, SessionStatus};
use rookery_store::StoreError;
use serde_json::json;

impl SessionState {
    /// Has the session's record written; [`Self::answer_when_saved`] waits for it.
    pub(super) fn save_record(&mut self) {
        self.journal.note_record(self.record.is_removal());
    }

    /// Writes the changes of the handled message. While a batch is on its way, they wait for the next one.
    pub(super) fn write_journal(&mut self) {
        self.journal.take_from(&mut self.cache);
        self.note_groups_stored();
        // The permit is not free while the session's rows are being wiped.
        let permit = self.entry.saving.clone().try_acquire_owned().ok();
        let Some(draft) = self.journal.draft(&mut self.cache, permit.is_some()) else { return };
        // A batch of the actor before is waited for before there is this actor.
        let writing = self.entry.writing.clone().try_acquire_owned().ok();
        debug_assert!(writing.is_some(), "one batch of a session at a time");
        let permit = permit.filter(|_| !draft.is_of_session());
        let last_event = draft.last_event;
        let record = draft.has_record().then(|| SessionRecord { last_event, ..self.record.clone() });
        let (store, log, number) = (self.context.store.clone(), self.entry.log.clone(), self.entry.number);
        let myself = self.myself.clone();
        tokio::spawn(async move {
            let written = journal::write(&Target { store, log, number }, record, draft).await;
            // The permits are given back before the actor gets the result: the next batch needs them.
            drop((permit, writing));
            let _ = myself.send_message(SessionMsg::JournalWritten(Box::new(written)));
        });
    }

    /// Notes that all groups of the account were stored once: later differences from them are events.
    fn note_groups_stored(&mut self) {
        let is_open = !self.record.groups_stored && self.record.link == Link::Linked;
        if is_open && self.record.status == SessionStatus::Ready && self.journal.is_quiet(&self.cache) {
            self.record.groups_stored = true;
            self.save_record();
        }
    }

    /// Takes the result of a batch.
    pub(super) fn journal_written(&mut self, written: Written) {
        let after = self.journal.written(written, &mut self.cache);
        for kind in after.kinds.into_iter().filter_map(EventKind::notice) {
            // There may be no listener.
            let _ = self.context.notices.send(OperatorNotice { session: self.entry.id, kind });
        }
        if let Some(delay) = after.retry_in {
            self.myself.send_after(delay, || SessionMsg::SaveDue);
        }
        if after.has_trouble_changed {
            self.publish();
        }
        after.answers.into_iter().for_each(|(then, saved)| then(saved));
    }

    /// Every later write of the record has the mark, too.
    pub(super) fn mark_deleted(&mut self, reply: Reply<()>) {
        self.record.deleting = true;
        self.save_record();
        let myself = self.myself.clone();
        self.journal.when_saved(Box::new(move |marked| {
            if marked.is_err() {
                let _ = myself.send_message(SessionMsg::UnmarkDeleted);
            }
            let _ = reply.send(marked.map_err(CommandError::from));
        }));
    }

    pub(super) fn unmark_deleted(&mut self) {
        self.record.deleting = false;
        // Nothing was told of the session meanwhile.
        let status = self.record.status.as_str();
        self.tell_with(EventKind::SessionStatus, [("status", json!(status))]);
        // A write in between may have had the mark.
        self.save_record();
    }

    /// Answers callers once the record is on disk: the answer has to be true after a kill.
    pub(super) fn answer_when_saved<T: Send + 'static>(&mut self, answers: Vec<(Reply<T>, T)>) {
        self.journal.when_saved(Box::new(move |saved| {
            for (reply, answer) in answers {
                let _ = reply.send(saved.clone().map(|()| answer).map_err(CommandError::Unsaved));
            }
        }));
    }

    /// Publishes the session for callers who read it without a message.
    pub(super) fn publish(&self) {
        let mut session = self.record.to_model(self.engine.is_loaded());
        session.linking = self.linking();
        if let Some(trouble) = self.wipe_trouble.clone().or_else(|| self.journal.trouble()) {
            let before = session.last_error.take().map(|error| format!("{error}; ")).unwrap_or_default();
            session.last_error = Some(format!("{before}{trouble}"));
        }
        self.entry.session.store(Arc::new(session));
    }

    /// Takes a failure of the task that wipes. The task tries again.
    pub(super) fn wipe_failed(&mut self, generation: Generation, error: StoreError) {
        if !self.engine.is_current(generation) || !self.engine.is_wiping() {
            return;
        }
        self.wipe_trouble =
            Some(format!("the credentials on disk could not be wiped yet, that is tried again: {error}"));
        self.publish();
        for reply in std::mem::take(&mut self.closing) {
            let _ = reply.send(Err(error.clone().into()));
        }
    }

    /// The credentials are wiped: nothing is left to do for a restart.
    pub(super) fn wiped(&mut self) {
        self.wipe_trouble = None;
        if std::mem::take(&mut self.record.wiping) {
            // The record says that a part of the session is gone.
            self.journal.note_record(true);
        }
    }
}
