//! `Gateway`: typed async calls, the only way to the actors. Holds no state of its own: it looks the session up, takes a permit,
//! sends a message and waits for its reply. A command that names participants has their numbers looked up first.

use std::num::NonZeroU64;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ractor::ActorRef;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::all_events::AllEvents;
use crate::commands::{Command, CommandKind, LOOKUP_TIME_MAX, LookUpNumbers, Lookup, PendingCommand};
use crate::directory::{Directory, SessionHandle};
use crate::error::CommandError;
use crate::rate_limiter::Cost;
use crate::reply::{Permit, Reply};
use crate::session::message::SessionMsg;
use crate::session::record::SessionRecord;
use crate::session_log::SessionEvents;
use crate::supervisor::message::SupervisorMsg;
use rookery_model::{
    AccountLimits, ConfigChange, PairingCode, ParticipantId, PasskeyAnswer, Proxy, Qr, Session, SessionConfig,
    SessionId, SessionName, SessionProxy,
};
use rookery_store::{EventLog, Health, SessionNumber, Store};

type CommandResult<T> = Result<T, CommandError>;

/// The handle on all sessions. Cheap to clone. Every call may be dropped at any time without harm: a request that was
/// sent to WhatsApp is carried through, and its result lands in the cache.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) directory: Arc<Directory>,
    pub(crate) supervisor: ActorRef<SupervisorMsg>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) log: Weak<EventLog>,
    /// Whether numbers are looked up before they are used.
    pub(crate) number_lookup: bool,
}

impl Gateway {
    /// The session with this UUID or name; UUIDs are looked up first.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`].
    pub fn find(&self, id_or_name: &str) -> CommandResult<SessionId> {
        let by_id = id_or_name.parse().ok().filter(|id| self.directory.get(*id).is_some());
        by_id
            .or_else(|| self.directory.by_name(id_or_name))
            .ok_or_else(|| CommandError::UnknownSession(id_or_name.into()))
    }

    /// The state that a session last published. Never blocks.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`].
    pub fn session(&self, id: SessionId) -> CommandResult<Arc<Session>> {
        Ok(self.entry(id)?.session.load_full())
    }

    /// The number of a session's rows in the store. Never blocks.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`].
    pub fn number(&self, id: SessionId) -> CommandResult<SessionNumber> {
        Ok(self.entry(id)?.number)
    }

    /// When something was last received on this session's connection, in monotonic time; `None`: never since the
    /// daemon's start. While the session is not `ready`, the cache is as old as that. Never blocks.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`].
    pub fn heard_at(&self, id: SessionId) -> CommandResult<Option<Instant>> {
        Ok(self.entry(id)?.wire.heard_at().map(tokio::time::Instant::into_std))
    }

    /// Every session, newest first. Never blocks.
    #[must_use]
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        let mut all: Vec<_> = self.directory.all().iter().map(|entry| entry.session.load_full()).collect();
        all.sort_by_key(|session| (std::cmp::Reverse(session.created_at), session.id));
        all
    }

    /// The state of the store and the event log that all sessions share: of whichever is worse off.
    #[must_use]
    pub fn store_health(&self) -> Health {
        let of_log = self.log.upgrade().map_or(Health::Ok, |log| log.health());
        match (self.store.health(), of_log) {
            (health @ Health::Failed(_), _) | (_, health @ Health::Failed(_)) => health,
            (Health::Ok, health) | (health, _) => health,
        }
    }

    /// Makes a session; it is on disk when this returns.
    ///
    /// # Errors
    /// [`CommandError::NameTaken`], [`CommandError::TooManySessions`], [`CommandError::Store`], [`CommandError::Draining`].
    pub async fn create_session(
        &self,
        name: SessionName,
        config: SessionConfig,
        proxy: Option<Proxy>,
    ) -> CommandResult<Arc<Session>> {
        let proxy = proxy.map(Arc::new);
        let record = Box::new(SessionRecord { config, proxy, ..SessionRecord::new(name) });
        self.ask_supervisor(|reply| SupervisorMsg::Create { record, reply }).await
    }

    /// The operator's configuration of a session. Never blocks.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`].
    pub fn config(&self, id: SessionId) -> CommandResult<SessionConfig> {
        Ok(**self.entry(id)?.config.load())
    }

    /// Changes a session's configuration. The change is on disk when this returns, and holds for an open connection,
    /// too.
    ///
    /// # Errors
    /// As every session command.
    pub async fn configure(&self, id: SessionId, change: ConfigChange) -> CommandResult<SessionConfig> {
        self.ask(id, |reply| SessionMsg::Configure { change, reply }).await
    }

    /// What WhatsApp asks the account's passkey for: `PublicKeyCredentialRequestOptions`, as WhatsApp wrote them.
    ///
    /// # Errors
    /// As every session command; [`CommandError::NoPasskey`].
    pub async fn passkey(&self, id: SessionId) -> CommandResult<serde_json::Value> {
        self.ask(id, |reply| SessionMsg::ReadPasskey { reply }).await
    }

    /// Sends WhatsApp the passkey's answer. `challenge`: of the request that it answers, base64url.
    ///
    /// # Errors
    /// As every session command; [`CommandError::NoPasskey`], [`CommandError::PasskeyOutdated`],
    /// [`CommandError::Refused`], [`CommandError::Unanswered`]: linking begins anew after the last two.
    pub async fn answer_passkey(
        &self,
        id: SessionId,
        challenge: String,
        answer: PasskeyAnswer,
    ) -> CommandResult<Arc<Session>> {
        self.ask(id, |reply| SessionMsg::AnswerPasskey { challenge, answer, reply }).await
    }

    /// Says that the phone shows the right code.
    ///
    /// # Errors
    /// As [`Self::answer_passkey`]; [`CommandError::NoPasskeyCode`].
    pub async fn confirm_passkey(&self, id: SessionId) -> CommandResult<Arc<Session>> {
        self.ask(id, |reply| SessionMsg::ConfirmPasskey { reply }).await
    }

    /// The proxy of a session. Never blocks.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`].
    pub fn proxy(&self, id: SessionId) -> CommandResult<SessionProxy> {
        Ok(self.entry(id)?.proxy.load().as_deref().into())
    }

    /// Has a session connect through this proxy, or without one. The change is on disk when this returns. An open
    /// connection is being replaced then.
    ///
    /// # Errors
    /// As every session command.
    pub async fn set_proxy(&self, id: SessionId, proxy: Option<Proxy>) -> CommandResult<SessionProxy> {
        self.ask(id, |reply| SessionMsg::SetProxy { proxy: proxy.map(Arc::new), reply }).await
    }

    /// What WhatsApp allows the account of a session at the moment, as far as it says. Never blocks.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`].
    pub fn limits(&self, id: SessionId) -> CommandResult<AccountLimits> {
        let entry = self.entry(id)?;
        Ok(AccountLimits {
            restriction: entry.session.load().restriction.clone(),
            reachout_timelock: entry.limits.timelock(),
            new_chats: entry.limits.new_chats(),
            pauses: entry.rate_limiter.pauses(),
        })
    }

    /// Shows the account as online or not, from now on and after every reconnect.
    ///
    /// # Errors
    /// As every session command; [`CommandError::NoPushName`].
    pub async fn set_presence(&self, id: SessionId, is_available: bool) -> CommandResult<()> {
        self.ask(id, |reply| SessionMsg::SetPresence { is_available, reply }).await
    }

    /// The events of a session and its groups. Waits for a session that is being read from the store.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`], [`CommandError::Restarting`], [`CommandError::NotLoaded`].
    pub async fn events(&self, id: SessionId) -> CommandResult<SessionEvents> {
        let entry = self.entry(id)?;
        entry.actor().await.ok_or_else(|| entry.absent())?;
        Ok(SessionEvents::new(&entry.log))
    }

    /// The events of all sessions.
    #[must_use]
    pub fn all_events(&self) -> AllEvents {
        AllEvents::new(self.log.clone(), Arc::clone(&self.directory))
    }

    /// Logs the device out at WhatsApp (5 s at most), wipes the session's data and forgets it.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`], [`CommandError::Store`], [`CommandError::Draining`].
    pub async fn delete_session(&self, id: SessionId) -> CommandResult<()> {
        self.entry(id)?;
        self.ask_supervisor(|reply| SupervisorMsg::Delete { id, reply }).await
    }

    /// Starts a session. Returns before the connection is up; waits for an engine that is still closing, 5 s at most.
    /// `allow_account_change`: the phone that is linked next may have another account than the session's. Everything
    /// that was granted or kept for the old account is void then.
    ///
    /// # Errors
    /// [`CommandError::AlreadyStarted`], or as every session command: [`CommandError::UnknownSession`],
    /// [`CommandError::Restarting`], [`CommandError::NotLoaded`], [`CommandError::Unsaved`].
    pub async fn start_session(&self, id: SessionId, allow_account_change: bool) -> CommandResult<Arc<Session>> {
        self.ask(id, |reply| SessionMsg::Start { allow_account_change, reply }).await
    }

    /// Stops a session, also one that is stopped already. Its connection is closed when this returns.
    ///
    /// # Errors
    /// As every session command.
    pub async fn stop_session(&self, id: SessionId) -> CommandResult<Arc<Session>> {
        self.ask(id, |reply| SessionMsg::Stop { reply }).await
    }

    /// Cuts the connection without a clean close; credentials stay.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], or as every session command.
    pub async fn kill_session(&self, id: SessionId) -> CommandResult<Arc<Session>> {
        self.ask(id, |reply| SessionMsg::ForceKill { reply }).await
    }

    /// Unlinks the device at WhatsApp and wipes its credentials.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], or as every session command; [`CommandError::LogoutIncomplete`] when WhatsApp did
    /// not confirm: the session is stopped then and keeps its credentials.
    pub async fn logout_session(&self, id: SessionId) -> CommandResult<Arc<Session>> {
        self.ask(id, |reply| SessionMsg::Logout { reply }).await
    }

    /// The QR that a phone can scan now.
    ///
    /// # Errors
    /// [`CommandError::NoQr`], [`CommandError::NotStarted`], or as every session command.
    pub async fn qr(&self, id: SessionId) -> CommandResult<Qr> {
        self.ask(id, |reply| SessionMsg::ReadQr { reply }).await
    }

    /// A code to type into the phone with this number. Returns the open code when asked again.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::NoPairingCode`], [`CommandError::Refused`] with 429,
    /// [`CommandError::Busy`], [`CommandError::Store`] without room for the link, or as every session command.
    pub async fn pairing_code(&self, id: SessionId, phone: ParticipantId) -> CommandResult<PairingCode> {
        let permit = self.permit(id)?;
        self.ask(id, |reply| SessionMsg::RequestPairingCode { phone, permit, reply }).await
    }

    /// Carries out a command of a session.
    ///
    /// # Errors
    /// Those of [`Command`], and those in the command's own doc.
    pub async fn execute<C: Command>(&self, id: SessionId, mut command: C) -> CommandResult<C::Output> {
        let begun = Instant::now();
        let mut spent = Duration::ZERO;
        // A change that has to wait spends no lookup.
        let has_to_wait = command.kind() == CommandKind::Write && self.entry(id)?.rate_limiter.pause_left().is_some();
        if self.number_lookup
            && !has_to_wait
            && let Some(mut participants) = command.participants()
            && let Some(lookup) = participants.lookup()
        {
            match self.look_up(id, lookup).await {
                Ok(found) => participants.resolve(&found),
                Err(CommandError::Busy) => return Err(CommandError::Busy),
                // The command finds the same, and says it better.
                Err(_) => {}
            }
            spent = begun.elapsed();
        }
        self.carry_out(id, command, spent).await
    }

    /// Which of these phone numbers have a WhatsApp account, and under which ids WhatsApp knows it.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`], [`CommandError::NotStarted`], [`CommandError::NotConnected`],
    /// [`CommandError::Restarting`], [`CommandError::NotLoaded`], [`CommandError::Busy`]. Whatever else keeps WhatsApp from being asked
    /// is in [`Lookup::failed`].
    pub async fn look_up_numbers(&self, id: SessionId, numbers: Vec<NonZeroU64>) -> CommandResult<Lookup> {
        self.look_up(id, LookUpNumbers { numbers, group: None, is_for_command: false, may_ask: true }).await
    }

    /// Numbers that others ask WhatsApp about at the same time are asked once.
    async fn look_up(&self, id: SessionId, lookup: LookUpNumbers) -> CommandResult<Lookup> {
        let deadline = tokio::time::Instant::now() + LOOKUP_TIME_MAX;
        let mut found = self.carry_out(id, lookup.clone(), Duration::ZERO).await?;
        if found.shared.is_empty() {
            return Ok(found);
        }
        for other in &mut found.shared {
            // An error of the receiver is the end of the other lookup. One that is not over in time is of no use.
            let _ = timeout_at(deadline, other.changed()).await;
        }
        let mut all = self.carry_out(id, LookUpNumbers { may_ask: false, ..lookup }, Duration::ZERO).await?;
        all.failed = all.failed.and_then(|unanswered| found.failed.or(Some(unanswered)));
        Ok(all)
    }

    /// `spent`: the part of WhatsApp's time that the lookup before the command took.
    async fn carry_out<C: Command>(&self, id: SessionId, command: C, spent: Duration) -> CommandResult<C::Output> {
        let kind = command.kind();
        let permit = if kind == CommandKind::Lookup { None } else { Some(self.permit(id)?) };
        let lost = match kind {
            CommandKind::Lookup | CommandKind::Query => CommandError::Restarting,
            // Nobody knows whether the command's task got to ask WhatsApp.
            CommandKind::Write => CommandError::OutcomeUnknown,
        };
        let pending = |reply| SessionMsg::Execute(Box::new(PendingCommand { command, spent, permit, reply }));
        self.ask_or(lost, id, pending).await
    }

    /// Counts a picture against the session's limit for changes, before the work of making the picture begins. Never
    /// blocks.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`], [`CommandError::LimitReached`], [`CommandError::RateLimited`].
    pub fn count_picture(&self, id: SessionId) -> CommandResult<()> {
        self.entry(id)?.rate_limiter.take(Cost::Write)
    }

    /// Makes a session fail on purpose.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`], [`CommandError::Restarting`].
    #[cfg(feature = "simulator")]
    pub fn fail(&self, id: SessionId, failpoint: crate::Failpoint) -> CommandResult<()> {
        let actor = self.entry(id)?.actor.load_full().ok_or(CommandError::Restarting)?;
        actor.send_message(SessionMsg::Fail { failpoint }).map_err(|_| CommandError::Restarting)
    }

    fn entry(&self, id: SessionId) -> CommandResult<Arc<SessionHandle>> {
        self.directory.get(id).ok_or_else(|| CommandError::UnknownSession(id.to_string()))
    }

    fn permit(&self, id: SessionId) -> CommandResult<Permit> {
        self.entry(id)?.commands.clone().try_acquire_owned().map_err(|_| CommandError::Busy)
    }

    async fn ask<T>(&self, id: SessionId, message: impl FnOnce(Reply<T>) -> SessionMsg) -> CommandResult<T> {
        self.ask_or(CommandError::Restarting, id, message).await
    }

    /// `lost`: the error when the actor took the message and dropped its reply.
    async fn ask_or<T>(
        &self,
        lost: CommandError,
        id: SessionId,
        message: impl FnOnce(Reply<T>) -> SessionMsg,
    ) -> CommandResult<T> {
        let entry = self.entry(id)?;
        let actor = entry.actor().await.ok_or_else(|| entry.absent())?;
        let (reply, answer) = oneshot::channel();
        actor.send_message(message(reply)).map_err(|_| CommandError::Restarting)?;
        answer.await.unwrap_or(Err(lost))
    }

    async fn ask_supervisor<T>(&self, message: impl FnOnce(Reply<T>) -> SupervisorMsg) -> CommandResult<T> {
        let (reply, answer) = oneshot::channel();
        self.supervisor.send_message(message(reply)).map_err(|_| CommandError::Draining)?;
        answer.await.unwrap_or(Err(CommandError::Draining))
    }
}
