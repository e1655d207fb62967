//! The engine of a session: having it opened and closed, and taking its reports.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ractor::ActorProcessingErr;
use tracing::warn;

use super::engine_slot::Ended;
use super::exit::{ActorExit, EngineExit};
use super::lifecycle::{Fact, TurnedAway};
use super::limits::PresenceSending;
use super::message::{Generation, Preparation, SessionMsg, Unprepared};
use super::record::Link;
use super::{ActorPort, SessionState};
use crate::group_cache::Sequence;
use crate::reply::Permit;
use crate::supervisor::message::SupervisorMsg;
use rookery_engine::{Engine, EngineError, EngineEvent, IncomingCall, LogoutKind};
use rookery_model::{AllGroups, GroupAction, NameSource, ParticipantIds, SessionStatus, Timestamp};
use rookery_store::{Health, StoreError};

impl SessionState {
    /// Asks the supervisor for an engine.
    pub(super) fn open_engine(&mut self) {
        let generation = self.next_generation();
        self.engine.open(generation);
        self.renew_port();
        // The new engine reads the results of the old engine's writes before the session is ready (K-3).
        self.cache.forget_writes();
        if self.record.link == Link::None {
            self.open_linking();
        }
        let id = self.entry.id;
        let _ = self.supervisor.send_message(SupervisorMsg::OpenEngine { id, generation });
    }

    /// Asks the supervisor to close the engine, and to wipe the credentials after that.
    pub(super) fn close_engine(&mut self, wipe: bool) {
        let generations = &self.entry.generations;
        if !self.engine.close(wipe, || generations.fetch_add(1, Ordering::Relaxed) + 1) {
            return;
        }
        self.renew_port();
        let (id, generation) = (self.entry.id, self.engine.generation());
        let _ = self.supervisor.send_message(SupervisorMsg::CloseEngine { id, generation, wipe });
    }

    fn next_generation(&self) -> Generation {
        self.entry.generations.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Gives commands a port to the engine that there is now.
    fn renew_port(&mut self) {
        let generation = self.engine.generation();
        self.port = Arc::new(ActorPort::new(self.myself.clone(), self.entry.clone(), generation));
    }

    pub(super) fn engine_opened(&mut self, generation: Generation, engine: Arc<Engine>) {
        let is_half_linked = engine.is_linked() && self.record.link == Link::None;
        if self.engine.opened(generation, engine) && is_half_linked {
            // The daemon was killed after the phone accepted, and before our record said so.
            self.apply(Fact::LinkingInterrupted);
        }
    }

    /// Takes the end of an engine. An engine that ends by itself while its session needs it is a crash.
    pub(super) fn engine_ended(
        &mut self,
        generation: Generation,
        wiped: bool,
        exit: EngineExit,
    ) -> Result<(), ActorProcessingErr> {
        let ended = self.engine.ended(generation, wiped);
        if ended == Ended::Stale {
            return Ok(());
        }
        self.refresher.end();
        // They come again.
        self.held_messages.clear();
        self.end_asking_limits();
        self.presence = PresenceSending::default();
        if ended == Ended::BeforeWipe {
            return Ok(());
        }
        if ended == (Ended::Ordered { wiped: true }) {
            self.wiped();
        }
        self.publish();
        self.answer_closing();
        if ended != Ended::ByItself {
            if self.record.started && self.record.status == SessionStatus::Initializing {
                // It was closed for another proxy, or after a failed link.
                self.open_engine();
                self.publish();
            }
            self.start_those_waiting();
            return Ok(());
        }
        let waits_for_phone = matches!(self.record.status, SessionStatus::Initializing | SessionStatus::QrReady);
        if exit == EngineExit::Ended && self.passkey.is_some() {
            self.apply(Fact::PasskeyFailed("the connection ended".into()));
            self.open_engine();
            self.publish();
            return Ok(());
        }
        if exit == EngineExit::Ended && self.record.link == Link::None && waits_for_phone {
            // All QRs are used up: WhatsApp gives new ones to a new connection.
            self.apply(Fact::ConnectionLost("all QRs were shown".into()));
            self.open_engine();
            self.publish();
            return Ok(());
        }
        Err(ActorExit::Engine(exit).into())
    }

    /// Answers the callers who wait for the engine to be gone.
    pub(super) fn answer_closing(&mut self) {
        if !self.engine.is_loaded() && !self.closing.is_empty() {
            let session = self.entry.session.load_full();
            let replies = std::mem::take(&mut self.closing);
            self.answer_when_saved(replies.into_iter().map(|reply| (reply, session.clone())).collect());
        }
    }

    /// Takes a report of the engine. `place` is given back first, for the next event.
    pub(super) fn engine_reported(&mut self, generation: Generation, event: EngineEvent, place: Option<Permit>) {
        drop(place);
        if !self.engine.is_current(generation) || !self.engine.is_loaded() || self.engine.is_closing() {
            return;
        }
        if !matches!(event, EngineEvent::ConnectionLost(_) | EngineEvent::ReconnectsUsedUp(_)) {
            self.record.last_active = Some(Timestamp::now());
        }
        if self.engine.turned_away.is_some() && !event.ends_log_in() {
            // Nothing of an account that is turned away is taken in.
            return;
        }
        match event {
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
            EngineEvent::PairingCodeExpired => {
                self.pairing.forget_code();
                self.publish();
            }
            EngineEvent::PasskeyRequested(options) => self.passkey_requested(&options),
            EngineEvent::PasskeyCodeShown { code, is_known } => self.passkey_code_shown(code, is_known),
            EngineEvent::PasskeyFailed(reason) => self.apply(Fact::PasskeyFailed(reason)),
            EngineEvent::LoggedIn if self.engine.any().is_some_and(|engine| self.is_foreign(&engine.me())) => {
                self.turn_away(TurnedAway::OtherAccount);
            }
            EngineEvent::LoggedIn => {
                self.resend_presence();
                self.apply(Fact::LoggedIn);
            }
            EngineEvent::TimelockTold(timelock) => self.timelock_told(timelock),
            EngineEvent::NewChatsTold(new_chats) => self.entry.limits.learn_new_chats(new_chats),
            EngineEvent::ConnectionLost(reason) => self.apply(Fact::ConnectionLost(reason)),
            EngineEvent::LoggedOut(LogoutKind::Removed) if self.engine.turned_away.is_some() => {
                self.turned_away(generation, true);
            }
            EngineEvent::LoggedOut(LogoutKind::Removed) if self.engine.is_logging_out => self.apply(Fact::LoggedOut),
            EngineEvent::LoggedOut(LogoutKind::Removed) => self.apply(Fact::Removed),
            EngineEvent::LoggedOut(LogoutKind::Locked) => self.apply(Fact::Locked),
            EngineEvent::LoggedOut(LogoutKind::Other(code)) | EngineEvent::Refused(code) => {
                self.apply(Fact::Refused(code));
            }
            EngineEvent::Replaced => self.apply(Fact::Replaced),
            EngineEvent::Banned { code, until } => self.apply(Fact::Banned(code, until)),
            EngineEvent::Outdated => self.apply(Fact::Outdated),
            EngineEvent::PushName(name) => self.set_push_name(name),
            EngineEvent::Named(person, name, source) => self.named(&person, &name, source),
            EngineEvent::Called(call) => self.called(call),
            EngineEvent::ReconnectsUsedUp(tried) => self.apply(Fact::ReconnectsUsedUp(tried)),
            EngineEvent::Group(notification) => {
                if let GroupAction::Created { key: Some(key), .. } = &notification.action {
                    self.creations.note(key, &notification.group);
                }
                if self.cache.apply_event(notification) {
                    self.refresher.schedule_doubts(&self.cache);
                }
            }
            EngineEvent::GroupsMissed => {
                let is_ready = self.is_ready();
                self.refresher.groups_missed(is_ready);
            }
        }
    }

    fn named(&mut self, person: &ParticipantIds, name: &str, source: NameSource) {
        self.cache.numbers.seen([person]);
        self.cache.names.learn(person, name, source);
    }

    fn called(&self, call: IncomingCall) {
        let Some(engine) = self.engine.any().filter(|_| self.record.config.auto_reject_calls) else { return };
        let (session, limit) = (self.entry.id, self.context.options.whatsapp_timeout);
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
            self.resend_presence();
        }
    }

    /// Puts credentials on disk and reads all groups, as `ready` needs it (K-3).
    pub(super) fn prepare(&mut self) {
        let Some(engine) = self.engine.any() else { return };
        self.preparation += 1;
        let (myself, asked, number) = (self.myself.clone(), self.cache.sequence(), self.preparation);
        let store = self.context.store.clone();
        let (timeout, is_link_stored) = (self.context.options.whatsapp_timeout, self.is_link_stored);
        tokio::spawn(async move {
            let work = async {
                match engine.flush().await {
                    // A full disk is no reason to be away: the stored credentials bring the session back.
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
        if self.engine.is_current(generation) && self.record.status == SessionStatus::Authenticating {
            self.prepare();
        }
    }

    pub(super) fn preparation_ended(
        &mut self,
        number: Preparation,
        asked: Sequence,
        groups: Result<AllGroups, Unprepared>,
    ) {
        let Some(engine) = self.engine.staying().filter(|_| number == self.preparation) else { return };
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
        self.refresher.note_all_read();
        self.refresher.take_all(asked, groups, &mut self.cache);
        self.save_record();
        let myself = self.myself.clone();
        self.journal.when_saved(Box::new(move |stored| {
            let _ = myself.send_message(SessionMsg::LinkStored { number, stored });
        }));
    }

    pub(super) fn link_stored(&mut self, number: Preparation, stored: Result<(), StoreError>) {
        if number != self.preparation || self.engine.staying().is_none() {
            return;
        }
        // A failed save is tried again, and shown in `lastError`.
        let is_room_missing = matches!(stored, Err(StoreError::LowSpace { .. } | StoreError::Busy));
        match stored {
            Err(_) if is_room_missing && self.is_link_stored => self.prepared(),
            Err(StoreError::LowSpace { .. }) => self.turn_away(TurnedAway::Unsaved),
            Ok(()) => {
                self.is_link_stored = true;
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
        self.ask_limits();
        self.resend_presence();
        self.refresher.catch_up(&self.cache);
    }
}
