//! `Gateway`: typed async calls, the only door into the actors. Holds no state of its own and decides nothing:
//! it looks the session up, takes a permit, sends one message and waits for its reply.

use std::sync::Arc;

use ractor::ActorRef;
use tokio::sync::{OwnedSemaphorePermit, broadcast, oneshot};

use crate::directory::{Directory, Entry};
use crate::error::CommandError;
use crate::model::{
    Community, ConfigChange, CreatedGroup, Group, GroupEvent, GroupId, GroupSummary, JoinInfo, Joined, LinkResult,
    MembershipDecision, MembershipRequest, NewCommunity, PairingCode, ParticipantChange, ParticipantId,
    ParticipantResult, Qr, Session, SessionConfig, SessionId, SessionName, Setting, Tagged,
};
use crate::session::{GroupWish, Linking, ParticipantWrite, Reply, Request, SessionMsg};
use crate::store::{Health, Store};
use crate::supervisor::SupervisorMsg;

type Answer<T> = Result<T, CommandError>;

/// The handle on all sessions. Cheap to clone; every call may be dropped at any time without harm:
/// what was sent to WhatsApp is carried through and lands in the cache.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) directory: Arc<Directory>,
    pub(crate) supervisor: ActorRef<SupervisorMsg>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) events: broadcast::Sender<Arc<GroupEvent>>,
}

impl Gateway {
    /// The session with this UUID or name; UUIDs are looked up first.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`].
    pub fn find(&self, id_or_name: &str) -> Answer<SessionId> {
        let by_id = id_or_name.parse().ok().filter(|id| self.directory.get(*id).is_some());
        by_id
            .or_else(|| self.directory.by_name(id_or_name))
            .ok_or_else(|| CommandError::UnknownSession(id_or_name.into()))
    }

    /// What a session last published. Never blocks.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`].
    pub fn session(&self, id: SessionId) -> Answer<Arc<Session>> {
        Ok(self.entry(id)?.session.load_full())
    }

    /// Every session, newest first. Never blocks.
    #[must_use]
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        let mut all: Vec<_> = self.directory.all().iter().map(|entry| entry.session.load_full()).collect();
        all.sort_by_key(|session| (std::cmp::Reverse(session.created_at), session.id));
        all
    }

    /// The state of the store that all sessions share.
    #[must_use]
    pub fn store_health(&self) -> Health {
        self.store.health()
    }

    /// Makes a session; it is on disk when this returns.
    ///
    /// # Errors
    /// [`CommandError::NameTaken`], [`CommandError::Store`], [`CommandError::Draining`].
    pub async fn create_session(&self, name: SessionName, config: SessionConfig) -> Answer<Arc<Session>> {
        self.ask_supervisor(|reply| SupervisorMsg::Create { name, config, reply }).await
    }

    /// What the operator decided about a session. Never blocks.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`].
    pub fn config(&self, id: SessionId) -> Answer<SessionConfig> {
        Ok(**self.entry(id)?.config.load())
    }

    /// Changes that; it is on disk when this returns, and holds for the connection that there is.
    ///
    /// # Errors
    /// As every session command.
    pub async fn configure(&self, id: SessionId, change: ConfigChange) -> Answer<SessionConfig> {
        self.ask(id, |reply| SessionMsg::Configure { change, reply }).await
    }

    /// What happens to groups from now on, in the order in which each session saw it. A listener that is thousands of
    /// events behind misses some and is told how many.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<GroupEvent>> {
        self.events.subscribe()
    }

    /// Logs the device out at WhatsApp (5 s at most), wipes the session's data and forgets it.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`], [`CommandError::Store`], [`CommandError::Draining`].
    pub async fn delete_session(&self, id: SessionId) -> Answer<()> {
        self.entry(id)?;
        self.ask_supervisor(|reply| SupervisorMsg::Delete { id, reply }).await
    }

    /// Starts a session; answers at once, the connection follows.
    ///
    /// # Errors
    /// [`CommandError::AlreadyStarted`], or as every session command: [`CommandError::UnknownSession`],
    /// [`CommandError::Restarting`], [`CommandError::Store`].
    pub async fn start_session(&self, id: SessionId) -> Answer<Arc<Session>> {
        self.ask(id, |reply| SessionMsg::Start { reply }).await
    }

    /// Stops a session; also when it is stopped. Its connection is closed when this returns.
    ///
    /// # Errors
    /// As every session command.
    pub async fn stop_session(&self, id: SessionId) -> Answer<Arc<Session>> {
        self.ask(id, |reply| SessionMsg::Stop { reply }).await
    }

    /// Drops the connection without ceremony; credentials stay.
    ///
    /// # Errors
    /// As every session command.
    pub async fn kill_session(&self, id: SessionId) -> Answer<Arc<Session>> {
        self.ask(id, |reply| SessionMsg::ForceKill { reply }).await
    }

    /// Unlinks the device at WhatsApp and wipes its credentials.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`]; [`CommandError::LogoutIncomplete`] when WhatsApp did not confirm: the session
    /// is stopped then and keeps its credentials.
    pub async fn logout_session(&self, id: SessionId) -> Answer<Arc<Session>> {
        self.ask(id, |reply| SessionMsg::Logout { reply }).await
    }

    /// The QR that a phone can scan now.
    ///
    /// # Errors
    /// [`CommandError::NoQr`], [`CommandError::NotStarted`].
    pub async fn qr(&self, id: SessionId) -> Answer<Qr> {
        self.ask(id, |reply| SessionMsg::ReadQr { reply }).await
    }

    /// A code to type into the phone with this number; the open one when asked again.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::NoPairingCode`], [`CommandError::Refused`] with 429.
    pub async fn pairing_code(&self, id: SessionId, phone: ParticipantId) -> Answer<PairingCode> {
        self.command(id, |permit, reply| SessionMsg::RequestPairingCode { phone, permit, reply }).await
    }

    /// All groups of the session, ordered by id; from the cache unless `refresh`.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`], [`CommandError::NotConnected`]; with `refresh` also [`CommandError::Busy`] and
    /// [`CommandError::Unanswered`].
    pub async fn groups(&self, id: SessionId, refresh: bool) -> Answer<Arc<Vec<GroupSummary>>> {
        let refresh = if refresh { Some(self.permit(id)?) } else { None };
        self.ask(id, |reply| SessionMsg::ListGroups { refresh, reply }).await
    }

    /// One group; from the cache unless `refresh`. Without its value when it has one of the tags that the caller knows.
    ///
    /// # Errors
    /// As [`Self::groups`], and [`CommandError::GroupNotFound`].
    pub async fn group(&self, id: SessionId, group: GroupId, known: Vec<u64>, refresh: bool) -> Answer<Tagged<Group>> {
        let refresh = if refresh { Some(self.permit(id)?) } else { None };
        self.ask(id, |reply| SessionMsg::ReadGroup { group, known, refresh, reply }).await
    }

    /// Creates a group, in a community when one is named. Answers as soon as WhatsApp made it, whoever was refused.
    /// `invite_fallback`: those who may only be invited are sent WhatsApp's private invitation.
    ///
    /// # Errors
    /// As every group write: [`CommandError::NotStarted`], [`CommandError::NotConnected`], [`CommandError::Busy`],
    /// [`CommandError::Paced`], [`CommandError::RateLimited`], [`CommandError::Refused`],
    /// [`CommandError::Unanswered`], [`CommandError::OutcomeUnknown`]. [`CommandError::GroupNotFound`] is about the
    /// community.
    pub async fn create_group(
        &self,
        id: SessionId,
        name: String,
        participants: Vec<ParticipantId>,
        community: Option<GroupId>,
        invite_fallback: bool,
    ) -> Answer<CreatedGroup> {
        let wish = GroupWish { name, participants, community, invite_fallback };
        self.request(id, |permit, reply| Request::CreateGroup { wish, permit, reply }).await
    }

    /// Adds, removes, promotes or demotes; one result per distinct person, in the order of the request.
    /// `invite_fallback` is as in [`Self::create_group`].
    ///
    /// # Errors
    /// As every group write, and [`CommandError::GroupNotFound`].
    pub async fn change_participants(
        &self,
        id: SessionId,
        group: GroupId,
        change: ParticipantChange,
        participants: Vec<ParticipantId>,
        invite_fallback: bool,
    ) -> Answer<Vec<ParticipantResult>> {
        let write = ParticipantWrite { change, invite_fallback };
        self.request(id, |permit, reply| Request::ChangeParticipants { group, write, participants, permit, reply })
            .await
    }

    /// Changes a group's subject.
    ///
    /// # Errors
    /// As every group write, and [`CommandError::GroupNotFound`].
    pub async fn set_subject(&self, id: SessionId, group: GroupId, subject: String) -> Answer<()> {
        self.request(id, |permit, reply| Request::SetSubject { group, subject, permit, reply }).await
    }

    /// Changes a group's description; empty clears it.
    ///
    /// # Errors
    /// As every group write, [`CommandError::GroupNotFound`], [`CommandError::DescriptionConflict`].
    pub async fn set_description(&self, id: SessionId, group: GroupId, description: String) -> Answer<()> {
        self.request(id, |permit, reply| Request::SetDescription { group, description, permit, reply }).await
    }

    /// Changes settings, in the order of [`Setting`]; the first that fails is the last that is tried.
    ///
    /// # Errors
    /// As every group write, [`CommandError::GroupNotFound`], [`CommandError::SettingsPartly`].
    pub async fn set_settings(&self, id: SessionId, group: GroupId, settings: Vec<Setting>) -> Answer<()> {
        self.request(id, |permit, reply| Request::SetSettings { group, settings, permit, reply }).await
    }

    /// Sets a group's picture, a square JPEG; `None` removes it.
    ///
    /// # Errors
    /// As every group write, and [`CommandError::GroupNotFound`].
    pub async fn set_picture(&self, id: SessionId, group: GroupId, jpeg: Option<Vec<u8>>) -> Answer<()> {
        self.request(id, |permit, reply| Request::SetPicture { group, jpeg, permit, reply }).await
    }

    /// Where a group's picture can be fetched, asked of WhatsApp; `None` when it has none.
    ///
    /// # Errors
    /// As every question to WhatsApp: those of a group write but [`CommandError::OutcomeUnknown`]; and
    /// [`CommandError::GroupNotFound`].
    pub async fn picture_url(&self, id: SessionId, group: GroupId) -> Answer<Option<String>> {
        self.question(id, |permit, reply| Request::ReadPicture { group, permit, reply }).await
    }

    /// The group's invite code, asked of WhatsApp.
    ///
    /// # Errors
    /// As every question to WhatsApp, and [`CommandError::GroupNotFound`].
    pub async fn invite_code(&self, id: SessionId, group: GroupId) -> Answer<String> {
        self.question(id, |permit, reply| Request::ReadInviteCode { group, permit, reply }).await
    }

    /// A new invite code that replaces the one there is.
    ///
    /// # Errors
    /// As every group write, and [`CommandError::GroupNotFound`].
    pub async fn revoke_invite_code(&self, id: SessionId, group: GroupId) -> Answer<String> {
        self.request(id, |permit, reply| Request::RevokeInviteCode { group, permit, reply }).await
    }

    /// Leaves a group; it is gone from the session's list when this returns.
    ///
    /// # Errors
    /// As every group write, and [`CommandError::GroupNotFound`].
    pub async fn leave_group(&self, id: SessionId, group: GroupId) -> Answer<()> {
        self.request(id, |permit, reply| Request::LeaveGroup { group, permit, reply }).await
    }

    /// Follows an invite code (not a link).
    ///
    /// # Errors
    /// As every group write.
    pub async fn join_group(&self, id: SessionId, code: String) -> Answer<Joined> {
        self.request(id, |permit, reply| Request::JoinGroup { code, permit, reply }).await
    }

    /// What an invite code tells about its group, asked of WhatsApp.
    ///
    /// # Errors
    /// As every question to WhatsApp.
    pub async fn join_info(&self, id: SessionId, code: String) -> Answer<JoinInfo> {
        self.question(id, |permit, reply| Request::ReadJoinInfo { code, permit, reply }).await
    }

    /// Who asked to be let into a group, asked of WhatsApp.
    ///
    /// # Errors
    /// As every question to WhatsApp, and [`CommandError::GroupNotFound`].
    pub async fn membership_requests(&self, id: SessionId, group: GroupId) -> Answer<Vec<MembershipRequest>> {
        self.question(id, |permit, reply| Request::ReadMembershipRequests { group, permit, reply }).await
    }

    /// Lets people in who asked for it, or turns them down; all of them when `participants` is `None`. One result per
    /// distinct person, in the order of the request.
    ///
    /// # Errors
    /// As every group write, and [`CommandError::GroupNotFound`].
    pub async fn decide_membership(
        &self,
        id: SessionId,
        group: GroupId,
        decision: MembershipDecision,
        participants: Option<Vec<ParticipantId>>,
    ) -> Answer<Vec<ParticipantResult>> {
        self.request(id, |permit, reply| Request::DecideMembership { group, decision, participants, permit, reply })
            .await
    }

    /// Makes a community, with the groups that WhatsApp makes beside it; gives its id.
    ///
    /// # Errors
    /// As every group write.
    pub async fn create_community(&self, id: SessionId, new: NewCommunity) -> Answer<GroupId> {
        self.request(id, |permit, reply| Request::CreateCommunity { new, permit, reply }).await
    }

    /// A community with its groups, asked of WhatsApp.
    ///
    /// # Errors
    /// As every question to WhatsApp, [`CommandError::GroupNotFound`], [`CommandError::NotCommunity`].
    pub async fn community(&self, id: SessionId, community: GroupId) -> Answer<Community> {
        self.question(id, |permit, reply| Request::ReadCommunity { community, permit, reply }).await
    }

    /// Makes groups part of a community; one result per group, in the order of the request.
    ///
    /// # Errors
    /// As every group write, [`CommandError::GroupNotFound`], [`CommandError::NotCommunity`].
    pub async fn link_groups(
        &self,
        id: SessionId,
        community: GroupId,
        groups: Vec<GroupId>,
    ) -> Answer<Vec<LinkResult>> {
        let linking = Linking::Link;
        self.request(id, |permit, reply| Request::LinkGroups { community, groups, linking, permit, reply }).await
    }

    /// Takes groups out of a community; with `remove_orphans`, people who are in no other group of it leave it too.
    ///
    /// # Errors
    /// As [`Self::link_groups`].
    pub async fn unlink_groups(
        &self,
        id: SessionId,
        community: GroupId,
        groups: Vec<GroupId>,
        remove_orphans: bool,
    ) -> Answer<Vec<LinkResult>> {
        let linking = Linking::Unlink { remove_orphans };
        self.request(id, |permit, reply| Request::LinkGroups { community, groups, linking, permit, reply }).await
    }

    /// Ends a community; its groups go on without it.
    ///
    /// # Errors
    /// As every group write, [`CommandError::GroupNotFound`], [`CommandError::NotCommunity`].
    pub async fn deactivate_community(&self, id: SessionId, community: GroupId) -> Answer<()> {
        self.request(id, |permit, reply| Request::DeactivateCommunity { community, permit, reply }).await
    }

    /// Makes a session fail on purpose.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`], [`CommandError::Restarting`].
    #[cfg(feature = "simulator")]
    pub fn fail(&self, id: SessionId, failpoint: crate::Failpoint) -> Answer<()> {
        let actor = self.entry(id)?.actor.load_full().ok_or(CommandError::Restarting)?;
        actor.send_message(SessionMsg::Fail { failpoint }).map_err(|_| CommandError::Restarting)
    }

    fn entry(&self, id: SessionId) -> Answer<Arc<Entry>> {
        self.directory.get(id).ok_or_else(|| CommandError::UnknownSession(id.to_string()))
    }

    /// A command that works at WhatsApp: it takes one of the session's permits.
    async fn command<T>(
        &self,
        id: SessionId,
        message: impl FnOnce(OwnedSemaphorePermit, Reply<T>) -> SessionMsg,
    ) -> Answer<T> {
        let permit = self.permit(id)?;
        self.ask(id, |reply| message(permit, reply)).await
    }

    /// A request that changes something. Without an answer nobody knows whether its task got to ask WhatsApp.
    async fn request<T>(
        &self,
        id: SessionId,
        request: impl FnOnce(OwnedSemaphorePermit, Reply<T>) -> Request,
    ) -> Answer<T> {
        let permit = self.permit(id)?;
        self.ask_or(CommandError::OutcomeUnknown, id, |reply| SessionMsg::Request(request(permit, reply))).await
    }

    /// A request that changes nothing.
    async fn question<T>(
        &self,
        id: SessionId,
        request: impl FnOnce(OwnedSemaphorePermit, Reply<T>) -> Request,
    ) -> Answer<T> {
        self.command(id, |permit, reply| SessionMsg::Request(request(permit, reply))).await
    }

    fn permit(&self, id: SessionId) -> Answer<OwnedSemaphorePermit> {
        self.entry(id)?.commands.clone().try_acquire_owned().map_err(|_| CommandError::Busy)
    }

    async fn ask<T>(&self, id: SessionId, message: impl FnOnce(Reply<T>) -> SessionMsg) -> Answer<T> {
        self.ask_or(CommandError::Restarting, id, message).await
    }

    /// `lost`: what is said when the actor took the message and dropped its reply.
    async fn ask_or<T>(
        &self,
        lost: CommandError,
        id: SessionId,
        message: impl FnOnce(Reply<T>) -> SessionMsg,
    ) -> Answer<T> {
        let entry = self.entry(id)?;
        let actor = entry.actor.load_full().ok_or(CommandError::Restarting)?;
        let (reply, answer) = oneshot::channel();
        actor.send_message(message(reply)).map_err(|_| CommandError::Restarting)?;
        answer.await.unwrap_or(Err(lost))
    }

    async fn ask_supervisor<T>(&self, message: impl FnOnce(Reply<T>) -> SupervisorMsg) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        self.supervisor.send_message(message(reply)).map_err(|_| CommandError::Draining)?;
        answer.await.unwrap_or(Err(CommandError::Draining))
    }
}
