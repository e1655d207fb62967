//! The content of a batch. Decides nothing.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rookery_model::{
    Event, EventKind, GroupDelta, GroupId, GroupRecord, ParticipantId, ParticipantIds, SessionId, Timestamp,
};
use rookery_store::{SpaceUse, parts_in};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::group_cache::{GroupDiff, KnownNumber, Name, Stored};
use crate::message_events::Noted as _;
use crate::session::record::SessionRecord;
use crate::session_log::{Redo, RedoGroup};

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
    /// The claim of each of the events.
    pub(super) claims: Vec<Claim>,
    /// The number of the latest event, once this batch is written.
    pub(crate) last_event: u64,
    /// The number up to which the store shows all events when this batch is written; `None`: it says so already, or does
    /// not do so.
    pub(super) applied: Option<u64>,
    pub(super) groups: Vec<GroupDraft>,
    pub(super) names: Vec<(ParticipantId, Option<Name>)>,
    pub(super) numbers: Vec<(NonZeroU64, Option<KnownNumber>)>,
    /// Groups whose events are in the log, that the store refused before, and that are not in this batch.
    pub(super) groups_behind: BTreeMap<GroupId, GroupWrite>,
}

/// An event that is in no batch yet.
#[derive(Debug)]
pub(super) struct WaitingEvent {
    pub(super) event: Event,
    /// The length of the event's JSON.
    pub(super) bytes: usize,
    pub(super) claim: Claim,
}

/// What becomes of an event that the disk refuses.
#[derive(Clone, Debug)]
pub(crate) enum Claim {
    /// It is written later. `Some` hears of the first try.
    Later(Option<Arc<Keeping>>),
    /// It is dropped, and comes again when this hears that it is not kept.
    Again(Arc<Keeping>),
    /// It tells of what is done and does not come again: it is written with less space than others, and later where that is not enough. `Some`
    /// hears of the first try.
    Report(Option<Arc<Keeping>>),
}

impl Claim {
    pub(super) fn is_report(&self) -> bool {
        matches!(self, Self::Report(_))
    }

    /// Whoever waits hears that the event is not on disk.
    pub(super) fn give_up(&mut self) {
        if let Self::Later(keeping) | Self::Report(keeping) = self {
            *keeping = None;
        }
    }

    /// The event is on disk.
    pub(super) fn note_kept(&self) {
        if let Self::Again(keeping) | Self::Later(Some(keeping)) | Self::Report(Some(keeping)) = self {
            keeping.note_kept();
        }
    }
}

impl From<Event> for WaitingEvent {
    fn from(event: Event) -> Self {
        Self::new(event, Claim::Later(None))
    }
}

impl WaitingEvent {
    pub(super) fn new(event: Event, claim: Claim) -> Self {
        let bytes = serde_json::to_vec(&event).map_or(0, |json| json.len());
        Self { event, bytes, claim }
    }

    /// Whether it tells of the same message as this event.
    pub(super) fn is_of_message(&self, other: &Event) -> bool {
        let notes = self.event.message.as_ref().zip(other.message.as_ref());
        notes.is_some_and(|(one, other)| {
            one.own_id() == other.own_id() && one.chats.iter().any(|chat| other.chats.contains(chat))
        })
    }
}

/// The wait for some events to be on disk. Says at its end whether all of them are.
#[derive(Debug)]
pub(crate) struct Keeping {
    kept: Mutex<Option<oneshot::Sender<bool>>>,
    missing: AtomicUsize,
}

impl Keeping {
    /// The wait for so many events.
    pub(crate) fn new(events: usize, kept: oneshot::Sender<bool>) -> Arc<Self> {
        Arc::new(Self { kept: Mutex::new(Some(kept)), missing: AtomicUsize::new(events) })
    }

    /// One of the events is on disk.
    pub(super) fn note_kept(&self) {
        self.missing.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(kept) = kept {
            // Nobody waits any more.
            let _ = kept.send(*self.missing.get_mut() == 0);
        }
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum GroupWrite {
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
        self.events.is_empty() && !self.has_state()
    }

    /// Whether the batch holds anything for the store.
    pub(super) fn has_state(&self) -> bool {
        !(self.record.is_none() && self.groups.is_empty() && self.names.is_empty() && self.numbers.is_empty())
    }

    /// The number of the event from which on the session belongs to another account.
    pub(super) fn account_changed_at(&self) -> Option<u64> {
        let changed = self.events.iter().rev().find(|event| event.kind == EventKind::AccountChanged);
        changed.map(|event| event.number)
    }

    /// What the store lacks when only the events of this batch are on disk.
    pub(super) fn redo(&self, record: Option<SessionRecord>) -> Redo {
        let is_told = |id: &GroupId| self.events.iter().any(|event| event.group_of_state() == Some(id));
        let now = self.groups.iter().filter(|group| is_told(&group.id)).map(|group| (&group.id, &group.write));
        let groups = now.chain(&self.groups_behind);
        let groups = groups.map(|(id, write)| RedoGroup { id: id.clone(), write: write.clone() });
        Redo { record: record.map(Box::new), groups: groups.collect() }
    }

    /// Whether the batch holds the session's record.
    pub(crate) fn has_record(&self) -> bool {
        self.record.is_some()
    }

    /// The claim on the disk of the events in this batch. In a draft without groups, they have room wherever the record has. So the event of a
    /// log-out is published although the disk is nearly full.
    pub(super) fn space(&self) -> SpaceUse {
        match self.has_report() {
            true => SpaceUse::Reporting,
            false if self.is_of_session() && self.is_removal => SpaceUse::Removing,
            false => SpaceUse::Writing,
        }
    }

    /// Whether an event of the batch may not be lost.
    pub(super) fn has_report(&self) -> bool {
        self.claims.iter().any(Claim::is_report)
    }

    /// Whether the batch holds the session's record and nothing of its groups.
    pub(crate) fn is_of_session(&self) -> bool {
        let is_of_groups = !self.groups.is_empty() || !self.names.is_empty() || !self.numbers.is_empty();
        self.record.is_some() && !is_of_groups && self.events.iter().all(|event| event.group_of_state().is_none())
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
        data.insert("before".to_owned(), diff.before.into());
    }
    if diff.is_reconciled {
        data.insert("reconciled".to_owned(), json!(true));
    }
    Event {
        session,
        number: 0,
        id: Uuid::now_v7(),
        kind: EventKind::Group(diff.kind),
        occurred_at,
        seen_at: now,
        actor: diff.actor.and_then(|actor| actor.id()),
        group: Some(diff.group),
        message: None,
        data,
    }
}
