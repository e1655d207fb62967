//! What callers want of WhatsApp. Each request begins a task of its own; the actor only registers it.

use tokio::time::Instant;

use super::communities::Linking;
use super::creation::CreateGroup;
use super::participants::ParticipantWrite;
use super::{Permit, Reply, SessionState};
use rookery_model::{
    Community, CreatedGroup, GroupId, JoinInfo, Joined, LinkResult, MembershipDecision, MembershipRequest,
    NewCommunity, ParticipantId, ParticipantResult, Setting,
};

/// A request, with the permit that it holds until it is over.
pub(crate) enum Request {
    /// Make a group.
    CreateGroup { wish: CreateGroup, permit: Permit, reply: Reply<CreatedGroup> },
    /// Add, remove, promote or demote.
    ChangeParticipants {
        group: GroupId,
        write: ParticipantWrite,
        participants: Vec<ParticipantId>,
        permit: Permit,
        reply: Reply<Vec<ParticipantResult>>,
    },
    /// Change the subject.
    SetSubject { group: GroupId, subject: String, permit: Permit, reply: Reply<()> },
    /// Change the description; empty clears it.
    SetDescription { group: GroupId, description: String, permit: Permit, reply: Reply<()> },
    /// Change settings.
    SetSettings { group: GroupId, settings: Vec<Setting>, permit: Permit, reply: Reply<()> },
    /// Set the picture; `None` removes it.
    SetPicture { group: GroupId, jpeg: Option<Vec<u8>>, begun: Instant, permit: Permit, reply: Reply<()> },
    /// Where the picture is.
    ReadPicture { group: GroupId, permit: Permit, reply: Reply<Option<String>> },
    /// The invite code.
    ReadInviteCode { group: GroupId, permit: Permit, reply: Reply<String> },
    /// A new invite code in place of the one there is.
    RevokeInviteCode { group: GroupId, permit: Permit, reply: Reply<String> },
    /// Leave a group.
    LeaveGroup { group: GroupId, permit: Permit, reply: Reply<()> },
    /// Follow an invite code.
    JoinGroup { code: String, permit: Permit, reply: Reply<Joined> },
    /// What an invite code tells.
    ReadJoinInfo { code: String, permit: Permit, reply: Reply<JoinInfo> },
    /// Who asked to be let in.
    ReadMembershipRequests { group: GroupId, permit: Permit, reply: Reply<Vec<MembershipRequest>> },
    /// Let people in who asked for it, or turn them down; `None`: all of them.
    DecideMembership {
        group: GroupId,
        decision: MembershipDecision,
        participants: Option<Vec<ParticipantId>>,
        permit: Permit,
        reply: Reply<Vec<ParticipantResult>>,
    },
    /// Make a community.
    CreateCommunity { new: NewCommunity, permit: Permit, reply: Reply<Community> },
    /// A community with its groups.
    ReadCommunity { community: GroupId, permit: Permit, reply: Reply<Community> },
    /// Link groups to a community, or unlink them.
    LinkGroups {
        community: GroupId,
        groups: Vec<GroupId>,
        linking: Linking,
        permit: Permit,
        reply: Reply<Vec<LinkResult>>,
    },
    /// End a community.
    DeactivateCommunity { community: GroupId, permit: Permit, reply: Reply<()> },
}

impl SessionState {
    /// Requests of callers that go to WhatsApp: each begins a task.
    pub(super) fn request(&mut self, request: Request) {
        use Request as R;
        match request {
            R::CreateGroup { wish, permit, reply } => self.create_group(wish, permit, reply),
            R::ChangeParticipants { group, write, participants, permit, reply } => {
                self.change_participants(group, write, &participants, permit, reply);
            }
            R::SetSubject { group, subject, permit, reply } => self.set_subject(group, subject, permit, reply),
            R::SetDescription { group, description, permit, reply } => {
                self.set_description(group, description, permit, reply);
            }
            R::SetSettings { group, settings, permit, reply } => self.set_settings(group, settings, permit, reply),
            R::SetPicture { group, jpeg, begun, permit, reply } => self.set_picture(group, jpeg, begun, permit, reply),
            R::ReadPicture { group, permit, reply } => self.read_picture(group, permit, reply),
            R::ReadInviteCode { group, permit, reply } => self.read_invite_code(group, permit, reply),
            R::RevokeInviteCode { group, permit, reply } => self.revoke_invite_code(group, permit, reply),
            R::LeaveGroup { group, permit, reply } => self.leave_group(group, permit, reply),
            R::JoinGroup { code, permit, reply } => self.join_group(code, permit, reply),
            R::ReadJoinInfo { code, permit, reply } => self.read_join_info(code, permit, reply),
            R::ReadMembershipRequests { group, permit, reply } => self.read_membership_requests(group, permit, reply),
            R::DecideMembership { group, decision, participants, permit, reply } => {
                self.decide_membership(group, decision, participants, permit, reply);
            }
            R::CreateCommunity { new, permit, reply } => self.create_community(new, permit, reply),
            R::ReadCommunity { community, permit, reply } => self.read_community(community, permit, reply),
            R::LinkGroups { community, groups, linking, permit, reply } => {
                self.link_groups(community, groups, linking, permit, reply);
            }
            R::DeactivateCommunity { community, permit, reply } => self.deactivate_community(community, permit, reply),
        }
    }
}
