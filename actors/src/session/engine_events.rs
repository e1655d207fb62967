//! The engine of a session: having it opened and closed, and what it reports.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ractor::ActorProcessingErr;
use tracing::warn;

use super::account::TurnedAway;
use super::lifecycle::Fact;
use super::record::Link;
use super::{Generation, Permit, Preparation, SessionMsg, SessionState};
use crate::group_cache::Sequence;
use crate::supervisor::SupervisorMsg;
use rookery_engine::{Engine, EngineError, EngineEvent, IncomingCall, LogoutKind};
use rookery_model::{AllGroups, GroupAction, NameSource};
use rookery_model::{SessionStatus, Timestamp};
use rookery_store::{Health, StoreError};

/// Why a session fails that cannot go on without its engine. Our own words: they are shown and logged.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct EngineFailure(String);

/// Why a session is not ready.
#[derive(Debug)]
pub(crate) enum Unprepared {
    /// It was linked just now, and its credentials have no room on the disk.
    NoRoom,
    /// In our own words.
    For(String),
}

impl From<EngineError> for Unprepared {
    fn from(error: EngineError) -> Self {
        Self::For(error.to_string())
    }
}

impl SessionState {
    /// Asks the supervisor for an engine.
    pub(super) fn open_engine(&mut self) {
        self.engine.generation = self.entry.generations.fetch_add(1, Ordering::Relaxed) + 1;
        self.engine.loaded = true;
        // What was under way with the engine before is read by this one before it is ready (K-3).
        self.cache.forget_writes();
        if self.record.link == Link::None {
            self.open_linking();
        }
        let (id, generation) = (self.entry.id, self.engine.generation);
        let _ = self.supervisor.send_message(SupervisorMsg::OpenEngine { id, generation });
    }

    /// Asks the supervisor to close the engine, and to wipe the credentials after that.
    pub(super) fn close_engine(&mut self, wipe: bool) {
        if !self.engine.loaded && !wipe {
            return;
        }
        if !self.engine.loaded {
            // There may be an engine of an earlier actor, on its way out: it is not ours.
            self.engine.generation = self.entry.generations.fetch_add(1, Ordering::Relaxed) + 1;
        }
        self.engine.loaded = true;
        self.engine.closing = true;
        self.engine.wiping |= wipe;
        let (id, generation) = (self.entry.id, self.engine.generation);
        let _ = self.supervisor.send_message(SupervisorMsg::CloseEngine { id, generation, wipe });
    }

    pub(super) fn engine_opened(&mut self, generation: Generation, engine: Arc<Engine>) {
        if generation != self.engine.generation {
            return;
        }
        let half_linked = engine.is_linked() && self.record.link == Link::None;
        self.engine.engine = Some(engine);
        if half_linked {
            // Killed between the phone's yes and our record of it.
            self.apply(Fact::LinkingInterrupted);
        }
    }

    /// The engine is gone. One that ended by itself while a session needs it is a crash.
    pub(super) fn engine_ended(
        &mut self,
        generation: Generation,
        wiped: bool,
        error: Option<String>,
    ) -> Result<(), ActorProcessingErr> {
        if generation != self.engine.generation {
            return Ok(());
        }
        self.engine.engine = None;
        self.end_reads();
        if self.engine.wiping && !wiped {
            // It ended before our order reached it: the order is carried out now, and said again.
            return Ok(());
        }
        if std::mem::take(&mut self.engine.wiping) {
            self.wiped();
        }
        self.engine.loaded = false;
        self.engine.logging_out = false;
        self.engine.turned_away = None;
        let expected = std::mem::take(&mut self.engine.closing);
        self.publish();
        self.answer_closing();
        if expected {
            self.start_those_waiting();
            return Ok(());
        }
        let waits_for_phone = matches!(self.record.status, SessionStatus::Initializing | SessionStatus::QrReady);
        if error.is_none() && self.record.link == Link::None && waits_for_phone {
            // All QRs are used up: WhatsApp gives new ones to a new connection.
            self.apply(Fact::ConnectionLost("all QRs were shown".into()));
            self.open_engine();
            self.publish();
            return Ok(());
        }
        Err(EngineFailure(error.unwrap_or_else(|| "the WhatsApp client ended by itself".into())).into())
    }

    /// Answers those who wait for the engine to be gone.
    pub(super) fn answer_closing(&mut self) {
        if !self.engine.loaded && !self.closing.is_empty() {
            let session = self.entry.session.load_full();
            let replies = std::mem::take(&mut self.closing);
            self.answer_when_saved(replies.into_iter().map(|reply| (reply, session.clone())).collect());
        }
    }

    /// The next event may wait in its place.
    pub(super) fn engine_reported(&mut self, generation: Generation, fact: EngineEvent, place: Option<Permit>) {
        drop(place);
        if generation != self.engine.generation || !self.engine.loaded || self.engine.closing {
            return;
        }
        if !matches!(fact, EngineEvent::ConnectionLost(_) | EngineEvent::ReconnectsUsedUp(_)) {
            self.record.last_active = Some(Timestamp::now());
        }
        if self.engine.turned_away.is_some() && !fact.ends_log_in() {
            // Nothing of an account that is turned away is taken in.
            return;
        }
        match fact {
            EngineEvent::QrShown(text) => self.qr_shown(text),
            EngineEvent::Paired(me) if self.is_foreign(&me) => self.turn_away(TurnedAway::OtherAccount),
            EngineEvent::Paired(_) if self.check_room_for_link().is_err() => self.turn_away(TurnedAway::Unsaved),
            EngineEvent::Paired(me) => {
                self.record.link = Link::Linking;
                (self.record.phone, self.record.lid) = (me.phone, me.lid);
                self.cache.set_me(me);
                self.save_record();
                self.apply(Fact::Paired);
            }
            EngineEvent::QrsUsedUp => self.qrs_used_up(),
            EngineEvent::PairingFailed(reason) => self.apply(Fact::PairingFailed(reason)),
            EngineEvent::PairingCodeExpired => self.pairing.forget_code(),
            EngineEvent::LoggedIn
                if self.engine.engine.as_ref().is_some_and(|engine| self.is_foreign(&engine.me())) =>
            {
                self.turn_away(TurnedAway::OtherAccount);
            }
            EngineEvent::LoggedIn => self.apply(Fact::LoggedIn),
            EngineEvent::ConnectionLost(reason) => self.apply(Fact::ConnectionLost(reason)),
            EngineEvent::LoggedOut(LogoutKind::Removed) if self.engine.turned_away.is_some() => {
                self.turned_away(generation, true);
            }
            EngineEvent::LoggedOut(LogoutKind::Removed) if self.engine.logging_out => self.apply(Fact::LoggedOut),
            EngineEvent::LoggedOut(LogoutKind::Removed) => self.apply(Fact::Removed),
            EngineEvent::LoggedOut(LogoutKind::Locked) => self.apply(Fact::Locked),
            EngineEvent::LoggedOut(LogoutKind::Other(code)) | EngineEvent::Refused(code) => {
                self.apply(Fact::Refused(code));
            }
            EngineEvent::Replaced => self.apply(Fact::Replaced),
            EngineEvent::Banned { code, until } => self.apply(Fact::Banned(code, until)),
            EngineEvent::Outdated => self.apply(Fact::Outdated),
            EngineEvent::PushName(name) => self.set_push_name(name),
            EngineEvent::Named(person, name, source) => self.cache.names.learn(&person, &name, source),
            EngineEvent::Called(call) => self.called(call),
            EngineEvent::ReconnectsUsedUp(tried) => self.apply(Fact::ReconnectsUsedUp(tried)),
            EngineEvent::Group(event) => {
                if let GroupAction::Created { key: Some(key), .. } = &event.action {
                    self.created.note(key, &event.group);
                }
                if self.cache.apply_event(event) {
                    self.schedule_reads();
                }
            }
            EngineEvent::GroupsMissed => self.groups_missed(),
        }
    }

    fn called(&self, call: IncomingCall) {
        let Some(engine) = self.engine.engine.clone().filter(|_| self.record.config.auto_reject_calls) else { return };
        let (session, limit) = (self.entry.id, self.context.settings.whatsapp_timeout);
        tokio::spawn(async move {
            match tokio::time::timeout(limit, engine.reject_call(&call)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!(session.id = %session, error = %error, "could not reject a call"),
                Err(_) => warn!(session.id = %session, "could not reject a call in time"),
            }
        });
    }

    fn set_push_name(&mut self, name: String) {
        self.cache.names.learn(&self.record.me(), &name, NameSource::Push);
        let name = Some(name).filter(|name| !name.is_empty());
        if self.record.push_name != name {
            self.record.push_name = name;
            self.record.updated_at = Timestamp::now();
            self.save_record();
            self.publish();
        }
    }

    /// Puts credentials on disk and reads all groups: what `ready` needs (K-3).
    pub(super) fn prepare(&mut self) {
        let Some(engine) = self.engine.engine.clone() else { return };
        self.preparation += 1;
        let (myself, asked, number) = (self.myself.clone(), self.cache.sequence(), self.preparation);
        let store = self.context.store.clone();
        let (timeout, is_link_stored) = (self.context.settings.whatsapp_timeout, self.saving.is_link_stored);
        tokio::spawn(async move {
            let work = async {
                match engine.flush().await {
                    // A full disk is no reason to be away: what is there brings the session back.
                    Err(EngineError::Unsaved(_)) if is_link_stored && engine.is_on_disk().await? => {}
                    Err(EngineError::Unsaved(_))
                        if !is_link_stored && matches!(store.health(), Health::LowSpace { .. }) =>
                    {
                        return Err(Unprepared::NoRoom);
                    }
                    flushed => flushed?,
                }
                Ok(engine.read_all_groups().await?)
            };
            let groups = tokio::time::timeout(timeout, work).await;
            let groups = groups.unwrap_or_else(|_| Err(Unprepared::For("WhatsApp did not answer in time".into())));
            let _ = myself.send_message(SessionMsg::PreparationEnded { number, asked, groups });
        });
    }

    pub(super) fn prepare_due(&mut self, generation: Generation) {
        if generation == self.engine.generation && self.record.status == SessionStatus::Authenticating {
            self.prepare();
        }
    }

    pub(super) fn preparation_ended(
        &mut self,
        number: Preparation,
        asked: Sequence,
        groups: Result<AllGroups, Unprepared>,
    ) {
        if number != self.preparation || self.engine.closing || self.engine.turned_away.is_some() {
            return;
        }
        let Some(engine) = self.engine.engine.clone() else { return };
        let groups = match groups {
            Ok(groups) => groups,
            Err(Unprepared::For(reason)) => return self.apply(Fact::PrepareFailed(reason)),
            Err(Unprepared::NoRoom) => return self.turn_away(TurnedAway::Unsaved),
        };
        let me = engine.me();
        if self.is_foreign(&me) {
            return self.turn_away(TurnedAway::OtherAccount);
        }
        self.take_over(me);
        (self.record.phone, self.record.lid) = (me.phone, me.lid);
        self.record.link = Link::Linked;
        self.cache.set_me(me);
        self.set_push_name(engine.push_name());
        self.reads.all_read_at = Some(tokio::time::Instant::now());
        self.take_all_groups(asked, groups);
        let (ticket, myself) = (self.record.save(&*self.context.store, self.entry.number), self.myself.clone());
        tokio::spawn(async move {
            let stored = ticket.await;
            let _ = myself.send_message(SessionMsg::LinkStored { number, stored });
        });
    }

    pub(super) fn link_stored(&mut self, number: Preparation, stored: Result<(), StoreError>) {
        let is_over = self.engine.engine.is_none() || self.engine.closing || self.engine.turned_away.is_some();
        if number != self.preparation || is_over {
            return;
        }
        // What could not be saved is tried again, and said.
        let is_room_missing = matches!(stored, Err(StoreError::LowSpace { .. } | StoreError::Busy));
        match stored {
            Err(_) if is_room_missing && self.saving.is_link_stored => self.prepared(),
            Err(StoreError::LowSpace { .. }) => self.turn_away(TurnedAway::Unsaved),
            Ok(()) => {
                self.saving.is_link_stored = true;
                self.prepared();
            }
            Err(error) => {
                warn!(session.id = %self.entry.id, error = %error, "could not save the session's record");
                self.apply(Fact::PrepareFailed(error.to_string()));
            }
        }
    }

    fn prepared(&mut self) {
        self.preparations_failed = 0;
        self.apply(Fact::Prepared);
        self.catch_up();
        self.schedule_reads();
    }
}
