//! The content of a batch. Decides nothing.

use std::num::NonZeroU64;

use rookery_model::{
    Event, EventKind, GroupDelta, GroupId, GroupRecord, ParticipantId, ParticipantIds, SessionId, Timestamp,
};
use rookery_store::parts_in;
use serde_json::{Map, json};

use crate::group_cache::{GroupDiff, KnownNumber, Name, Stored};

/// Groups with more members are written as deltas; a smaller group fits in one row as it is.
const WHOLE_MEMBERS_MAX: usize = 64;

/// The content of the next batch.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// The version of the session's record in this batch.
    pub(super) record: Option<u64>,
    /// The record is written with little space, too.
    pub(super) is_removal: bool,
    pub(super) events: Vec<Event>,
    /// Rows of events to be removed.
    pub(super) old_rows: Vec<EventRow>,
    pub(super) groups: Vec<GroupDraft>,
    pub(super) names: Vec<(ParticipantId, Option<Name>)>,
    pub(super) numbers: Vec<(NonZeroU64, Option<KnownNumber>)>,
}

/// A row of events in the store: the events of one batch.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventRow {
    /// The number of its first event.
    pub(super) first: u64,
    /// The parts that it is stored in.
    pub(super) parts: u8,
    pub(super) written_at: Timestamp,
}

/// An event that is in no batch yet.
#[derive(Debug)]
pub(super) struct WaitingEvent {
    pub(super) event: Event,
    /// The length of the event's JSON.
    pub(super) bytes: usize,
}

impl From<Event> for WaitingEvent {
    fn from(event: Event) -> Self {
        let bytes = serde_json::to_vec(&event).map_or(0, |json| json.len());
        Self { event, bytes }
    }
}

/// A group in a batch.
#[derive(Debug)]
pub(super) struct GroupDraft {
    pub(super) id: GroupId,
    /// The stored state of the group until then.
    pub(super) stored: Stored,
    pub(super) write: GroupWrite,
    /// Rows of deltas that the group has.
    pub(super) deltas: u8,
}

/// How a group is written.
#[derive(Debug, PartialEq)]
pub(super) enum GroupWrite {
    Whole(Box<GroupRecord>),
    Delta(Box<GroupDelta>),
    Gone,
}

/// Whether a change of a group is stored beside its record.
pub(crate) fn is_large(record: &GroupRecord) -> bool {
    record.members.len() > WHOLE_MEMBERS_MAX
}

impl Draft {
    pub(super) fn is_empty(&self) -> bool {
        self.record.is_none()
            && self.events.is_empty()
            && self.groups.is_empty()
            && self.names.is_empty()
            && self.numbers.is_empty()
    }

    /// Whether the batch holds the session's record.
    pub(crate) fn has_record(&self) -> bool {
        self.record.is_some()
    }

    /// Whether the batch holds the session's record and nothing of its groups.
    pub(crate) fn is_of_session(&self) -> bool {
        let is_of_groups = !self.groups.is_empty() || !self.names.is_empty() || !self.numbers.is_empty();
        self.record.is_some() && !is_of_groups && self.events.iter().all(|event| event.group.is_none())
    }
}

impl GroupWrite {
    /// An upper estimate of the operations that this adds to a batch, beside the removal of deltas.
    pub(super) fn operations_max(&self) -> usize {
        match self {
            Self::Whole(record) => {
                let texts = record.subject.len() + record.description.as_ref().map_or(0, String::len);
                // JSON writes six bytes for some characters, and 40 for a member.
                parts_in(2_048 + texts * 6 + record.members.len() * 40)
            }
            Self::Delta(_) => 1,
            // As many parts as the largest record has.
            Self::Gone => 8,
        }
    }
}

/// A change of a group as an event of the session's log.
pub(super) fn event_of(session: SessionId, diff: GroupDiff) -> Event {
    let now = Timestamp::now();
    let occurred_at =
        diff.at.and_then(|at| i64::try_from(at).ok()).map_or(now, |at| Timestamp(at.saturating_mul(1_000)));
    let participants: Vec<ParticipantId> = diff.participants.iter().filter_map(ParticipantIds::id).collect();
    let mut data = Map::from_iter([("participantIds".to_owned(), json!(participants))]);
    if let Some(changes) = diff.changes {
        data.insert("changes".to_owned(), changes.into());
    }
    Event {
        session,
        number: 0,
        kind: EventKind::Group(diff.kind),
        occurred_at,
        seen_at: now,
        actor: diff.actor.and_then(|actor| actor.id()),
        group: Some(diff.group),
        data,
    }
}
