//! Ids of people and groups: between the engine's types and ours. Never does IO.

use std::num::NonZeroU64;

use wacore_binary::{Jid, Server};

use rookery_model::{GroupId, ParticipantId, ParticipantIds};

/// The person behind one id; `None` for bots, newsletters and other non-people.
pub(super) fn person(jid: &Jid) -> Option<ParticipantIds> {
    let digits = jid.user.parse::<NonZeroU64>().ok()?;
    match jid.server {
        Server::Pn | Server::Hosted | Server::Legacy => Some(ParticipantIds { phone: Some(digits), lid: None }),
        Server::Lid | Server::HostedLid => Some(ParticipantIds { phone: None, lid: Some(digits) }),
        _ => None,
    }
}

/// The person behind all ids that one stanza gives for them.
pub(super) fn person_of(ids: [Option<&Jid>; 3]) -> Option<ParticipantIds> {
    let mut whole: Option<ParticipantIds> = None;
    for known in ids.into_iter().flatten().filter_map(person) {
        match &mut whole {
            Some(whole) => whole.learn(&known),
            None => whole = Some(known),
        }
    }
    whole
}

/// The id as it goes out to WhatsApp.
pub(super) fn jid(id: ParticipantId) -> Jid {
    match id {
        ParticipantId::Phone(digits) => Jid::pn(digits.to_string()),
        ParticipantId::Lid(digits) => Jid::lid(digits.to_string()),
    }
}

pub(super) fn group_jid(id: &GroupId) -> Jid {
    Jid::group(id.user())
}

pub(super) fn group_id(jid: &Jid) -> Option<GroupId> {
    (jid.server == Server::Group).then(|| GroupId::from_user(&jid.user).ok()).flatten()
}
