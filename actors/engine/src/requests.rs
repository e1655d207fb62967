//! Requests to WhatsApp about groups, and its answers: the types that callers see.

use rookery_model::{GroupId, MembershipRequest, NewCommunity, ParticipantId, ParticipantIds};

/// WhatsApp's answer about one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParticipantAnswer {
    /// All ids that the answer gives for them.
    pub person: ParticipantIds,
    /// WhatsApp's status code; `None` when it did what was asked.
    pub error: Option<u16>,
    /// With this the person may be invited instead.
    pub invitation: Option<Invitation>,
    /// WhatsApp did not answer about this person: the result was read from the group. The status code is the one that
    /// WhatsApp would have given.
    pub is_seen: bool,
}

/// WhatsApp's invitation for a person who may only be invited: it lets that person in until it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Goes into the message that invites.
    pub code: String,
    /// Unix seconds.
    pub expires_at: u64,
}

/// Somebody who asked to be let in, by all ids that are known.
#[derive(Clone, Debug)]
pub struct Applicant {
    /// The person.
    pub person: ParticipantIds,
    /// Their request as callers see it.
    pub request: MembershipRequest,
}

/// A group to be created.
#[derive(Clone, Debug)]
pub struct NewGroup {
    /// Its name.
    pub subject: String,
    /// Its participants beside this account.
    pub participants: Vec<ParticipantId>,
    /// Comes back in the notification about the group.
    pub key: String,
    /// Whether it is part of a community.
    pub place: NewGroupPlace,
}

/// Whether a new group is part of a community.
#[derive(Clone, Debug)]
pub enum NewGroupPlace {
    /// On its own.
    Alone,
    /// In this community.
    In(GroupId),
    /// It is a community itself.
    Community(Box<NewCommunity>),
}

/// The description that a change is meant to replace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreviousDescription {
    /// The one with this id; `None` when there is none.
    Known(Option<String>),
    /// The current one at WhatsApp: costs a read.
    Ask,
}
