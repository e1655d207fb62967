//! One WhatsApp account. The actor is the only writer of its status, its pairing and its group cache; it never awaits
//! the engine, the store or the network (S-1): slow work goes to tasks that report back with a message.
//!
//! ```text
//! SessionActor            starts from the store alone; state table in session/lifecycle.rs
//!   engine task           opened and owned by the supervisor; its events come in as `Engine*` messages
//!   command task          one per command in flight, with a permit and the reply: commands.rs
//!   read task             one per group, and one for all groups, shared by all who ask: session/refresher.rs
//!   journal task          one at a time: what changed, on its way to the store: journal.rs
//! ```

mod account;
mod ending;
mod engine_events;
mod engine_slot;
pub(crate) mod exit;
mod groups;
pub(crate) mod lifecycle;
mod limits;
pub(crate) mod loading;
pub(crate) mod message;
mod messages;
mod pairing;
mod passkey;
mod persistence;
mod port;
pub(crate) mod record;
mod refresher;
mod starting;
mod status_events;

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tracing::info;

use crate::commands::{CommandQuestion, Creations, known_community};
use crate::context::Context;
use crate::directory::SessionHandle;
use crate::error::CommandError;
use crate::group_cache::GroupCache;
use crate::journal::Journal;
use crate::reply::Reply;
use crate::supervisor::message::SupervisorMsg;
use engine_slot::EngineSlot;
use lifecycle::{Effect, Fact, LastError, UNREACHED};
use limits::PresenceSending;
use loading::Loaded;
use message::{CameMessages, Preparation, SessionMsg, Shutdown};
use pairing::Pairing;
use passkey::PasskeyAttempt;
use port::ActorPort;
use record::{Link, SessionRecord};
use refresher::Refresher;
use rookery_model::{
    ConfigChange, Proxy, ReachoutTimelock, Session, SessionConfig, SessionProxy, SessionStatus, Timestamp,
};
use starting::Starts;
use status_events::LostConnections;

/// The wait after a failed preparation: WhatsApp or the disk needs a moment. The wait doubles, up to about a minute.
const PREPARE_RETRY: Duration = Duration::from_secs(2);
const PREPARE_DOUBLINGS_MAX: u32 = 5;
/// The actor; its state is [`SessionState`].
pub(crate) struct SessionActor;

/// What a session's actor starts with.
pub(crate) struct SessionArguments {
    pub(crate) entry: Arc<SessionHandle>,
    pub(crate) context: Arc<Context>,
    pub(crate) supervisor: ActorRef<SupervisorMsg>,
    /// The stored state of the session.
    pub(crate) loaded: Loaded,
    /// The session crashed too often: show this reason and do nothing.
    pub(crate) given_up: Option<String>,
}

/// A session's state; everything in it is in the store too, or comes back from WhatsApp.
pub(crate) struct SessionState {
    myself: ActorRef<SessionMsg>,
    entry: Arc<SessionHandle>,
    context: Arc<Context>,
    supervisor: ActorRef<SupervisorMsg>,
    record: SessionRecord,
    cache: GroupCache,
    engine: EngineSlot,
    /// The port by which commands reach this actor.
    port: Arc<ActorPort>,
    pairing: Pairing,
    refresher: Refresher,
    /// Groups that were made lately.
    creations: Creations,
    /// Callers who wait for the engine to be gone.
    closing: Vec<Reply<Arc<Session>>>,
    /// Callers who wait for the engine to be gone, to start the session again.
    starts: Starts,
    /// The latest preparation, and how many failed in a row.
    preparation: Preparation,
    preparations_failed: u32,
    journal: Journal,
    /// The record on disk says that the session is linked: it can be `ready` again without another write.
    is_link_stored: bool,
    /// Why the credentials could not be wiped yet.
    wipe_trouble: Option<String>,
    /// The link with a passkey that is under way.
    passkey: Option<PasskeyAttempt>,
    /// Counts the steps of such links.
    passkeys_begun: u64,
    /// The account's presence is being sent, and whether it changed meanwhile.
    presence: PresenceSending,
    /// Messages that came before it is known whether the account changes.
    held_messages: Vec<CameMessages>,
    /// Two changes of the time lock came so close that nobody knows which is the later one.
    is_order_unclear: bool,
    /// WhatsApp is being asked what the account may do.
    are_limits_asked: bool,
    /// The connections that were lost lately.
    lost_connections: LostConnections,
    /// Counts the timers for the end of a lock: only the latest one acts.
    timelock_timers: u64,
    /// Commands that wait for the answer.
    timelock_readers: Vec<Reply<Option<ReachoutTimelock>>>,
    /// The daemon is shutting down.
    shutdown: Option<Shutdown>,
}

impl Actor for SessionActor {
    type Msg = SessionMsg;
    type State = SessionState;
    type Arguments = SessionArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<SessionMsg>,
        arguments: SessionArguments,
    ) -> Result<SessionState, ActorProcessingErr> {
        let mut state = SessionState::bring_up(myself, arguments);
        state.write_journal();
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<SessionMsg>,
        message: SessionMsg,
        state: &mut SessionState,
    ) -> Result<(), ActorProcessingErr> {
        if !state.counts(&message) {
            return Ok(());
        }
        let handled = state.handle(message);
        state.read_groups();
        state.write_journal();
        state.stop_when_written();
        handled
    }
}

impl SessionState {
    /// Begins with the stored state and, when the session was started, has it connected again. Reads nothing (S-1).
    fn bring_up(myself: ActorRef<SessionMsg>, arguments: SessionArguments) -> Self {
        let SessionArguments { entry, context, supervisor, loaded, given_up } = arguments;
        let Loaded { record, cache, journal } = loaded;
        let is_link_stored = record.link == Link::Linked;
        entry.config.store(Arc::new(record.config));
        entry.proxy.store(record.proxy.clone());
        let refresher = Refresher::new(entry.id, entry.rate_limiter.clone());
        let mut state = Self {
            cache,
            port: Arc::new(ActorPort::new(myself.clone(), entry.clone(), 0)),
            myself,
            entry,
            context,
            supervisor,
            record,
            engine: EngineSlot::default(),
            pairing: Pairing::default(),
            refresher,
            creations: Creations::default(),
            closing: Vec::new(),
            starts: Starts::default(),
            preparation: 0,
            preparations_failed: 0,
            journal,
            is_link_stored,
            wipe_trouble: None,
            passkey: None,
            passkeys_begun: 0,
            presence: PresenceSending::default(),
            held_messages: Vec::new(),
            is_order_unclear: false,
            are_limits_asked: false,
            lost_connections: LostConnections::default(),
            timelock_timers: 0,
            timelock_readers: Vec::new(),
            shutdown: None,
        };
        state.restore_limits();
        if state.record.wiping {
            // The daemon was stopped, or the session crashed, before the wipe was done.
            state.close_engine(true);
        }
        match given_up {
            Some(reason) => state.apply(Fact::GivenUp(reason)),
            None if state.record.link == Link::Linking => state.apply(Fact::LinkingInterrupted),
            None if state.record.started => state.apply(Fact::StartRequested),
            None => state.publish(),
        }
        state
    }

    fn handle(&mut self, message: SessionMsg) -> Result<(), ActorProcessingErr> {
        use SessionMsg as M;
        match message {
            M::Start { allow_account_change, reply } => self.start(allow_account_change, reply),
            M::Stop { reply } => self.stop(reply),
            M::ForceKill { reply } => self.force_kill(reply),
            M::Logout { reply } => self.log_out(reply),
            M::MarkDeleted { reply } => self.mark_deleted(reply),
            M::UnmarkDeleted => self.unmark_deleted(),
            M::Unlink { reply } => self.unlink(reply),
            M::LogoutAnswered { confirmed, reply } => self.logout_answered(confirmed, reply),
            M::ReadQr { reply } => self.read_qr(reply),
            M::RequestPairingCode { phone, permit, reply } => self.request_pairing_code(phone, permit, reply),
            M::PairingCodeMade { generation, number, code } => self.pairing_code_made(generation, number, &code),
            M::TurnedAway { generation, unlinked } => self.turned_away(generation, unlinked),
            M::QrRenewalDue { generation } => self.qr_renewal_due(generation),
            M::ClosingOverdue { round } => self.closing_overdue(round),
            M::LinkingDue { start } => self.linking_due(start),
            M::Execute(command) => self.execute(command),
            M::CommandAsked(CommandQuestion::KnownCommunity { community, reply }) => {
                drop(reply.send(known_community(&self.cache, &self.record.me(), &community)));
            }
            M::CommandAsked(CommandQuestion::Timelock { is_certain, reply }) => self.read_timelock(is_certain, reply),
            M::CommandAsked(CommandQuestion::Read(question)) => {
                let is_ready = self.is_ready();
                let me = self.record.me();
                self.refresher.ask(question, is_ready, &self.cache, &mut self.creations, &me);
            }
            M::GroupChanged { generation, change } => self.group_changed(generation, change),
            M::AllGroupsRead { generation, asked, groups } if self.engine.is_current(generation) => {
                let me = self.record.me();
                self.refresher.all_read(asked, groups, &mut self.cache, &mut self.creations, &me);
            }
            M::GroupRead { generation, group, asked, answer } if self.engine.is_current(generation) => {
                self.refresher.one_read(&group, asked, answer, &mut self.cache);
            }
            // Callers of this read were answered when its engine ended. The read may have been about another account.
            M::AllGroupsRead { .. } | M::GroupRead { .. } => {}
            M::RefreshDue(due) => {
                let is_ready = self.is_ready();
                self.refresher.due(due, is_ready, &mut self.cache);
            }
            M::UnsureDue { group, before } => self.unsure_due(&group, before),
            M::EchoesDue { before } => self.echoes_due(before),
            M::ReadPasskey { reply } => self.read_passkey(reply),
            M::AnswerPasskey { challenge, answer, reply } => self.answer_passkey(&challenge, answer, reply),
            M::ConfirmPasskey { reply } => self.confirm_passkey(reply),
            M::PasskeySent { generation, number, sent, reply } => self.passkey_sent(generation, number, sent, reply),
            M::PairingCodeDue => self.publish(),
            M::PasskeyDue { number } => self.passkey_due(number),
            M::Configure { change, reply } => self.configure(change, reply),
            M::SetProxy { proxy, reply } => self.set_proxy(proxy, reply),
            M::SetPresence { is_available, reply } => self.set_presence(is_available, reply),
            M::LimitsDue => self.ask_limits(),
            M::PresenceSent { generation, sent } => self.presence_sent(generation, sent),
            M::LimitsAnswered { generation, answer } => self.limits_answered(generation, answer),
            M::TimelockDue { timer } => self.timelock_due(timer),
            M::Came(came) => self.came(came),
            M::JournalWritten(written) => self.journal_written(*written),
            M::SaveDue => self.journal.retry(),
            M::Shutdown(shutdown) => self.shutdown = Some(shutdown),
            M::EngineOpened { generation, engine } => self.engine_opened(generation, engine),
            M::EngineReported { generation, event, place } => self.engine_reported(generation, event, place),
            M::WipeFailed { generation, error } => self.wipe_failed(generation, error),
            M::EngineEnded { generation, wiped, exit } => return self.engine_ended(generation, wiped, exit),
            M::PreparationEnded { number, asked, groups } => self.preparation_ended(number, asked, groups),
            M::LinkStored { number, stored } => self.link_stored(number, stored),
            M::PrepareDue { generation } => self.prepare_due(generation),
            #[cfg(feature = "simulator")]
            M::Fail { failpoint } => failpoint.strike(self.engine.any()),
        }
        Ok(())
    }

    /// Changes the operator's configuration. It holds from now on, also for an open connection.
    fn configure(&mut self, change: ConfigChange, reply: Reply<SessionConfig>) {
        let config = change.applied_to(self.record.config);
        if config != self.record.config {
            self.record.config = config;
            self.record.updated_at = Timestamp::now();
            self.entry.config.store(Arc::new(config));
            self.save_record();
            self.publish();
        }
        self.answer_when_saved(vec![(reply, config)]);
    }

    /// Connects through another proxy from now on. An open connection is closed, and another one is opened.
    fn set_proxy(&mut self, proxy: Option<Arc<Proxy>>, reply: Reply<SessionProxy>) {
        let shown = SessionProxy::from(proxy.as_deref());
        if proxy != self.record.proxy {
            self.record.proxy.clone_from(&proxy);
            self.record.updated_at = Timestamp::now();
            self.entry.proxy.store(proxy);
            self.save_record();
            // A link that is turned away and a log-out end the engine anyway, and need it until then.
            let is_ending = self.engine.is_closing() || self.engine.turned_away.is_some() || self.engine.is_logging_out;
            if self.engine.is_loaded() && !is_ending {
                self.apply(Fact::ProxyChanged);
            }
            self.publish();
        }
        self.answer_when_saved(vec![(reply, shown)]);
    }

    fn start(&mut self, allow_account_change: bool, reply: Reply<Arc<Session>>) {
        if self.engine.is_closing() {
            return self.start_after_closing(allow_account_change, reply);
        }
        let answer = if self.engine.is_loaded() {
            Err(CommandError::AlreadyStarted)
        } else {
            self.pairing.account_change_allowed |= allow_account_change;
            self.apply(Fact::StartRequested);
            Ok(self.entry.session.load_full())
        };
        match answer {
            Ok(session) => self.answer_when_saved(vec![(reply, session)]),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn stop(&mut self, reply: Reply<Arc<Session>>) {
        self.refuse_starts();
        self.closing.push(reply);
        self.apply(if self.passkey.is_some() { Fact::PasskeyStopped } else { Fact::StopRequested });
        self.answer_closing();
    }

    fn force_kill(&mut self, reply: Reply<Arc<Session>>) {
        if !self.engine.is_loaded() {
            return drop(reply.send(Err(CommandError::NotStarted)));
        }
        let _ = self.supervisor.send_message(SupervisorMsg::KillEngine { id: self.entry.id });
        self.stop(reply);
    }

    fn log_out(&mut self, reply: Reply<Arc<Session>>) {
        let Some(engine) = self.engine.any().filter(|_| self.engine.is_loaded()) else {
            return self.log_out_unlinked(reply);
        };
        self.engine.is_logging_out = true;
        let myself = self.myself.clone();
        tokio::spawn(async move {
            let confirmed = engine.log_out().await;
            let _ = myself.send_message(SessionMsg::LogoutAnswered { confirmed, reply });
        });
    }

    /// Frees a session whose phone was unlinked already: there is no device to log out.
    fn log_out_unlinked(&mut self, reply: Reply<Arc<Session>>) {
        if self.record.link != Link::None || self.record.account.is_none() {
            return drop(reply.send(Err(CommandError::NotStarted)));
        }
        self.free();
        let session = self.entry.session.load_full();
        self.answer_when_saved(vec![(reply, session)]);
    }

    /// Makes a session without a device free for any account.
    fn free(&mut self) {
        self.give_up_account();
        (self.record.status, self.record.last_error) = (SessionStatus::Disconnected, None);
        self.record.updated_at = Timestamp::now();
        self.save_record();
        self.publish();
    }

    /// WhatsApp cuts the connection right after its answer, and the cut may come first. So a device that was removed
    /// meanwhile is a confirmation, too.
    fn logout_answered(&mut self, confirmed: bool, reply: Reply<Arc<Session>>) {
        self.engine.is_logging_out = false;
        if confirmed || self.record.link == Link::None {
            self.closing.push(reply);
            if self.engine.is_loaded() && !self.engine.is_closing() {
                self.apply(Fact::LoggedOut);
            } else if self.record.account.is_some() {
                // The phone unlinked the device first.
                self.free();
            }
            self.answer_closing();
        } else {
            self.apply(Fact::LogoutUnconfirmed);
            let _ = reply.send(Err(CommandError::LogoutIncomplete));
        }
    }

    fn unlink(&mut self, reply: Reply<bool>) {
        let engine = self.engine.any();
        tokio::spawn(async move {
            let is_unlinked = match engine {
                Some(engine) => engine.log_out().await,
                None => false,
            };
            let _ = reply.send(Ok(is_unlinked));
        });
    }

    /// Takes a fact: new status, its effects, the record and the published session.
    fn apply(&mut self, fact: Fact) {
        let step = lifecycle::step(self.record.status, &fact);
        if step.effects.contains(&Effect::ForgetPairing) && !matches!(fact, Fact::PasskeyWaits(_)) {
            self.passkey = None;
        }
        let before = self.record.clone();
        self.record.status = step.status;
        match step.last_error {
            LastError::Keep => {}
            LastError::Clear => self.record.last_error = None,
            LastError::Set(reason) => self.record.last_error = Some(reason),
            LastError::Reached => {
                self.record.last_error = self.record.last_error.take().filter(|error| !error.starts_with(UNREACHED))
            }
        }
        if step.restriction.is_some() {
            self.set_restriction(step.restriction);
        } else if fact == Fact::LoggedIn {
            // WhatsApp lets the account connect. A lock on reaching out is not about connecting.
            let timelock = self.entry.limits.timelock().unwrap_or_default();
            self.set_restriction(timelock.restriction());
        }
        if fact == Fact::LoggedOut {
            self.give_up_account();
        }
        if matches!(fact, Fact::StopRequested | Fact::PasskeyStopped | Fact::LinkingExpired | Fact::LoggedOut) {
            self.pairing.account_change_allowed = false;
        }
        if matches!(fact, Fact::PasskeyFailed(_)) {
            // Linking begins anew, with all of its time.
            self.pairing.close();
        }
        if fact == Fact::Prepared {
            self.record.connected_at = Some(Timestamp::now());
        }
        let wipe = step.effects.contains(&Effect::WipeCredentials);
        for effect in step.effects {
            self.carry_out(*effect, wipe);
        }
        if before.status != self.record.status {
            info!(session.id = %self.entry.id, session.status = self.record.status.as_str(), "session status changed");
            self.tell_change(&fact, &before);
        }
        if before != self.record {
            self.record.updated_at = Timestamp::now();
            self.save_record();
        }
        self.publish();
    }

    fn carry_out(&mut self, effect: Effect, wipe: bool) {
        match effect {
            Effect::OpenEngine => self.open_engine(),
            Effect::CloseEngine => self.close_engine(wipe),
            Effect::WipeCredentials => {
                self.record.forget_account();
                self.entry.limits.forget();
                self.set_restriction(None);
                self.is_link_stored = false;
                self.record.wiping = true;
                self.cache = GroupCache::default();
                self.journal.forget_groups();
                self.creations = Creations::default();
            }
            Effect::Prepare => self.prepare(),
            Effect::PrepareLater => {
                let generation = self.engine.generation();
                let wait = PREPARE_RETRY * 2_u32.saturating_pow(self.preparations_failed.min(PREPARE_DOUBLINGS_MAX));
                self.preparations_failed += 1;
                self.myself.send_after(wait, move || SessionMsg::PrepareDue { generation });
            }
            Effect::ForgetPairing => self.pairing.forget(),
            Effect::StayStarted => self.record.started = true,
            Effect::StayStopped => {
                self.record.started = false;
                self.pairing.close();
            }
        }
    }
}
