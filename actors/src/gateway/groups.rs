//! The gateway's calls about groups: reading them from the cache, and everything that WhatsApp is asked to do.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::{Answer, Gateway};
use crate::error::CommandError;
use crate::session::{Cost, CreateGroup, Linking, ParticipantWrite, Reply, Request, SessionMsg};
use rookery_model::{
    Aged, Community, CreatedGroup, Group, GroupId, GroupSummary, JoinInfo, Joined, LinkResult, MembershipDecision,
    MembershipRequest, NewCommunity, ParticipantChange, ParticipantId, ParticipantResult, SessionId, Setting, Tagged,
};

impl Gateway {
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

    /// All groups of the session as the cache has them, ordered by id, also while the session is started and not ready.
    ///
    /// # Errors
    /// [`CommandError::NotStarted`]; [`CommandError::NotConnected`] before all groups were read once.
    pub async fn known_groups(&self, id: SessionId) -> Answer<Aged<Arc<Vec<GroupSummary>>>> {
        self.ask(id, |reply| SessionMsg::ListKnownGroups { reply }).await
    }

    /// One group as the cache has it, as [`Self::known_groups`]. Without its value when it has one of the tags that the
    /// caller knows.
    ///
    /// # Errors
    /// As [`Self::known_groups`], and [`CommandError::GroupNotFound`].
    pub async fn known_group(&self, id: SessionId, group: GroupId, known: Vec<u64>) -> Answer<Aged<Tagged<Group>>> {
        self.ask(id, |reply| SessionMsg::ReadKnownGroup { group, known, reply }).await
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
        let wish = CreateGroup { name, participants, community, invite_fallback };
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

    /// Counts a picture that is to be made and set against the session's limit for changes, before the work of making it.
    /// Never blocks.
    ///
    /// # Errors
    /// [`CommandError::UnknownSession`], [`CommandError::Paced`], [`CommandError::RateLimited`].
    pub fn count_picture(&self, id: SessionId) -> Answer<()> {
        self.entry(id)?.rate_limiter.take(Cost::Write)
    }

    /// Sets a group's picture, a square JPEG that was counted by [`Self::count_picture`]. `begun`: when its caller began to wait; WhatsApp has the less time the longer
    /// the picture took to make.
    ///
    /// # Errors
    /// As every group write, and [`CommandError::GroupNotFound`].
    pub async fn set_picture(&self, id: SessionId, group: GroupId, jpeg: Vec<u8>, begun: Instant) -> Answer<()> {
        let jpeg = Some(jpeg);
        self.request(id, |permit, reply| Request::SetPicture { group, jpeg, begun, permit, reply }).await
    }

    /// Removes a group's picture, if it has one.
    ///
    /// # Errors
    /// As every group write, and [`CommandError::GroupNotFound`].
    pub async fn remove_picture(&self, id: SessionId, group: GroupId) -> Answer<()> {
        let (jpeg, begun) = (None, Instant::now());
        self.request(id, |permit, reply| Request::SetPicture { group, jpeg, begun, permit, reply }).await
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

    /// Makes a community, with the groups that WhatsApp makes beside it.
    ///
    /// # Errors
    /// As every group write.
    pub async fn create_community(&self, id: SessionId, new: NewCommunity) -> Answer<Community> {
        self.request(id, |permit, reply| Request::CreateCommunity { new, permit, reply }).await
    }

    /// A community with its groups, asked of WhatsApp.
    ///
    /// # Errors
    /// As every question to WhatsApp, [`CommandError::GroupNotFound`], [`CommandError::NotCommunity`].
    pub async fn community(&self, id: SessionId, community: GroupId) -> Answer<Community> {
        self.question(id, |permit, reply| Request::ReadCommunity { community, permit, reply }).await
    }

    /// A community as the cache has it, with those of its groups that this account is in, also while the session is started and
    /// not ready.
    ///
    /// # Errors
    /// As [`Self::known_groups`], [`CommandError::GroupNotFound`], [`CommandError::NotCommunity`].
    pub async fn known_community(&self, id: SessionId, community: GroupId) -> Answer<Aged<Community>> {
        self.ask(id, |reply| SessionMsg::ReadKnownCommunity { community, reply }).await
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
}
