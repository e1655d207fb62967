//! The participants of a request, each once: who they are, and the id by which they are sent to WhatsApp.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::look_up_numbers::Requested;
use crate::error::CommandError;
use rookery_model::{GroupRecord, ParticipantChange, ParticipantId, ParticipantIds};

/// A participant of a request: every id known for them, and the one that is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) person: ParticipantIds,
    pub(super) send_as: ParticipantId,
    /// Their number has no account: WhatsApp is not asked to do anything with it.
    pub(super) is_absent: bool,
    /// Nobody knows whether WhatsApp has an account under the other spelling of their number.
    pub(super) is_half_known: bool,
    /// The text that names them in the request.
    text: Arc<str>,
    /// The phone numbers that the request gives, where WhatsApp said under which ids it knows the account.
    pub(super) looked_up: Vec<NonZeroU64>,
}

impl Target {
    /// The text of the request, where it is neither this id nor its digits.
    pub(super) fn requested_unlike(&self, id: ParticipantId) -> Option<&str> {
        let is_like = *self.text == *id.to_string() || *self.text == *id.digits().to_string();
        (!is_like).then_some(&self.text)
    }
}

/// The participants of a request, each once. Members are sent by the id in the group's list, new people by phone number.
pub(super) fn targets(record: Option<&GroupRecord>, change: ParticipantChange, requested: &[Requested]) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::with_capacity(requested.len());
    for requested in requested {
        let mut person = requested.person();
        let member = record.and_then(|record| record.member(&person));
        if let Some(member) = member {
            person.learn(&member.person);
        }
        let looked_up = requested.phone().filter(|_| requested.is_known());
        if let Some(twin) = targets.iter_mut().find(|target| target.person.is(&person)) {
            twin.person.learn(&person);
            twin.looked_up.extend(looked_up);
            continue;
        }
        let phone = person.phone.map(|digits| ParticipantId::Phone(digits.get()));
        let lid = person.lid.map(|digits| ParticipantId::Lid(digits.get()));
        let by_lid = change != ParticipantChange::Add && record.is_some_and(|record| record.lid_addressing);
        let send_as = if by_lid { lid.or(phone) } else { phone.or(lid) };
        targets.push(Target {
            person,
            send_as: send_as.unwrap_or(requested.id()),
            is_absent: change == ParticipantChange::Add && requested.is_absent() && member.is_none(),
            is_half_known: requested.is_half_known(),
            text: requested.text.clone(),
            looked_up: looked_up.into_iter().collect(),
        });
    }
    targets
}

/// Those of whom WhatsApp is asked for something.
pub(super) fn present(targets: &[Target]) -> Vec<Target> {
    targets.iter().filter(|target| !target.is_absent).cloned().collect()
}

/// The ids that are sent.
pub(super) fn sent_ids(targets: &[Target]) -> Vec<ParticipantId> {
    targets.iter().map(|target| target.send_as).collect()
}

/// Refuses to add or remove our own account: it is in the group already, and leaves by a command of its own.
pub(super) fn refuse_oneself(
    me: &ParticipantIds,
    change: ParticipantChange,
    targets: &[Target],
) -> Result<(), CommandError> {
    let why = match change {
        ParticipantChange::Add => "whose account is in the group anyway",
        ParticipantChange::Remove => "which leaves a group with `leave`",
        ParticipantChange::Promote | ParticipantChange::Demote => return Ok(()),
    };
    match targets.iter().find(|target| target.person.is(me)) {
        Some(target) => {
            let id = me.id().unwrap_or(target.send_as);
            Err(CommandError::Invalid(format!("participants names {id}, this session's own number, {why}")))
        }
        None => Ok(()),
    }
}
