//! How far one message of the account has come: with each of the people whom it was sent to, and with all of them.

use std::collections::BTreeSet;

use rookery_model::{
    Event, EventKind, GroupId, MessageEventKind, MessageNote, ParticipantId, ParticipantIds, Reached, Receipt,
    SessionId, Timestamp,
};
use rookery_store::StoreError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::message_events::{is_message, mark_of, of_acks, of_receipts};
use crate::session_log::SessionLog;

/// Events about receipts of one message that are read, the newest first: more than a group has people, twice.
const EVENTS_MAX: usize = 4_096;
/// The field with the steps of people in a group.
const STEPS: &str = "receipts";

/// What the log has of a message that a receipt names.
pub(crate) enum Found {
    /// The account's own message.
    Own(Box<Progress>),
    /// Something that nobody gives a receipt for to us.
    Other,
    /// Nothing yet, or no more.
    Nothing,
}

/// The receipts of one message.
pub(crate) struct Progress {
    note: MessageNote,
    group: Option<GroupId>,
    chat_id: Value,
    people: Vec<PersonReceipts>,
    /// The steps that are in no event yet.
    new: Vec<Step>,
    /// What was told of all.
    told: Option<Reached>,
}

/// One person's receipts of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonReceipts {
    person: ParticipantIds,
    /// Since when the person has come so far, in the order of [`Reached::ALL`].
    at: [Option<Timestamp>; 3],
}

/// The receipts of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageReceipts {
    /// How many people it was sent to; `None`: nobody knows.
    pub recipients: Option<u32>,
    /// People with a receipt, in the order in which the first one of each came.
    pub people: Vec<PersonReceipts>,
}

/// Why there are no receipts of a message.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NoReceipts {
    /// Somebody else wrote it.
    OfAnother,
    /// The log does not have it.
    Unknown,
}

/// Somebody's step.
#[derive(Copy, Clone)]
struct Step {
    person: ParticipantIds,
    reached: Reached,
    at: Timestamp,
}

/// A step as events have it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToldStep {
    participant_id: ParticipantId,
    /// The LID, where `participant_id` is the phone number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lid: Option<ParticipantId>,
    status: Reached,
    /// Seconds since 1970.
    timestamp: i64,
}

impl PersonReceipts {
    /// Who it is.
    #[must_use]
    pub fn id(&self) -> Option<ParticipantId> {
        self.person.id()
    }

    /// Since when the person has come so far; `None`: not yet.
    #[must_use]
    pub fn at(&self, reached: Reached) -> Option<Timestamp> {
        self.at[reached as usize]
    }
}

impl Progress {
    /// What the log has of a message. `chats`: names of its chat. Blocks.
    pub(crate) fn load(log: &SessionLog, chats: &[String], id: &str) -> Result<Found, StoreError> {
        let events = log.with_id(chats, id, None)?;
        if events.is_empty() {
            return Ok(Found::Nothing);
        }
        let is_own = |note: &MessageNote| note.is_from_me;
        let own = events.into_iter().filter(|event| mark_of(event).is_some_and(is_message));
        let own = own.filter(|event| event.message.as_deref().is_some_and(is_own)).last();
        let Some((event, Some(note))) = own.map(|mut event| {
            let note = event.message.take();
            (event, note)
        }) else {
            return Ok(Found::Other);
        };
        let mut progress = Self {
            note: *note,
            group: event.group,
            chat_id: event.data.get("chatId").cloned().unwrap_or_default(),
            people: Vec::new(),
            new: Vec::new(),
            told: None,
        };
        progress.read(log)?;
        Ok(Found::Own(Box::new(progress)))
    }

    /// Reads the receipts that are in the log.
    fn read(&mut self, log: &SessionLog) -> Result<(), StoreError> {
        let mut numbers = BTreeSet::new();
        for chat in &self.note.chats {
            for name in [of_acks(chat, &self.note.id), of_receipts(chat, &self.note.id)] {
                numbers.extend(log.tagged(&name, u64::MAX, EVENTS_MAX, None)?.into_iter().map(|row| row.number));
            }
        }
        for number in numbers {
            let Some(event) = log.read_these(&[number])?.pop() else { continue };
            if event.message.as_deref().is_none_or(|note| note.id != self.note.id) {
                continue;
            }
            let steps = event.data.get(STEPS).cloned().unwrap_or_default();
            let steps: Vec<ToldStep> = serde_json::from_value(steps).unwrap_or_default();
            for ToldStep { participant_id, lid, status, timestamp } in steps {
                let (mut person, at) =
                    (ParticipantIds::from(participant_id), Timestamp(timestamp.saturating_mul(1_000)));
                person.learn(&lid.map(ParticipantIds::from).unwrap_or_default());
                self.note_step(Step { person, reached: status, at });
            }
            if event.kind == EventKind::Message(MessageEventKind::Ack) {
                let reached = event.data.get("ack").and_then(Value::as_u64).and_then(Reached::from_number);
                self.told = self.told.max(reached);
                if let (Some(reached), Some(person)) = (reached, event.actor) {
                    let (person, at) = (person.into(), event.occurred_at);
                    self.note_step(Step { person, reached, at });
                }
            }
        }
        Ok(())
    }

    /// Whether the receipt says something new.
    pub(crate) fn take(&mut self, receipt: &Receipt) -> bool {
        let is_own = receipt.person.ids().any(|id| self.note.authors.contains(&id));
        let mut person = receipt.person;
        if self.group.is_none() {
            // The names of the chat are those of the person.
            self.note
                .chats
                .iter()
                .filter_map(|chat| chat.parse().ok())
                .for_each(|id: ParticipantId| person.learn(&id.into()));
        }
        let step = Step { person, reached: receipt.reached, at: receipt.at };
        let is_new = !is_own && self.note_step(step);
        self.new.extend(is_new.then_some(step));
        is_new
    }

    /// Notes a step with those before it; whether it is new.
    fn note_step(&mut self, step: Step) -> bool {
        let reached = step.reached;
        let known = self.people.iter().position(|known| known.person.is(&step.person));
        let at = known.unwrap_or_else(|| {
            self.people.push(PersonReceipts { person: step.person, at: [None; 3] });
            self.people.len() - 1
        });
        self.people[at].person.learn(&step.person);
        self.join_with_others(at);
        let person = &mut self.people[at];
        let is_new = person.at(reached).is_none();
        for step_at in &mut person.at[..=reached as usize] {
            step_at.get_or_insert(step.at);
        }
        is_new
    }

    /// A person who was known by one id and by another is one person, once a receipt has both.
    fn join_with_others(&mut self, at: usize) {
        while let Some(other) =
            (at + 1..self.people.len()).find(|other| self.people[*other].person.is(&self.people[at].person))
        {
            let other = self.people.remove(other);
            for (mine, theirs) in self.people[at].at.iter_mut().zip(other.at) {
                *mine = (*mine).min(theirs).or(*mine).or(theirs);
            }
        }
    }

    /// The events that tell of the new steps: what all have reached, and of a group what its people have.
    pub(crate) fn news(&mut self, session: SessionId) -> Vec<Event> {
        let steps = std::mem::take(&mut self.new);
        let Some(latest) = steps.iter().max_by_key(|step| step.at).copied() else { return Vec::new() };
        let mut events = Vec::new();
        if self.group.is_some() {
            let told = steps.iter().filter_map(|step| {
                let timestamp = step.at.0.div_euclid(1_000);
                let (participant_id, lid) = (step.person.id()?, step.person.ids().nth(1));
                Some(ToldStep { participant_id, lid, status: step.reached, timestamp })
            });
            let mut data = self.place(latest.at);
            data.insert(STEPS.to_owned(), json!(told.collect::<Vec<_>>()));
            events.push(self.event(session, MessageEventKind::Receipts, latest.at, None, data));
        }
        let (all, actor) = match self.group {
            Some(_) => (self.reached_by_all(), None),
            None => (self.people.iter().filter_map(PersonReceipts::reached).max(), latest.person.id()),
        };
        // A message that was listened to was seen; the step before is told of a group alone, where it comes from others.
        let first = if self.group.is_some() { Reached::Delivered } else { all.unwrap_or(Reached::Delivered) };
        for reached in Reached::ALL.into_iter().filter(|reached| *reached >= first && all >= Some(*reached)) {
            if self.told < Some(reached) {
                self.told = Some(reached);
                events.push(self.event(session, MessageEventKind::Ack, latest.at, actor, self.ack(reached, latest.at)));
            }
        }
        events
    }

    /// The step that all people have come to whom the message was sent.
    fn reached_by_all(&self) -> Option<Reached> {
        let recipients = self.note.recipients.filter(|recipients| *recipients > 0)? as usize;
        let count = |reached| self.people.iter().filter(|person| person.at(reached).is_some()).count();
        Reached::ALL.into_iter().rfind(|reached| count(*reached) >= recipients)
    }

    fn ack(&self, reached: Reached, at: Timestamp) -> Map<String, Value> {
        let status = if reached == Reached::Delivered { "delivered" } else { "read" };
        let mut data = self.place(at);
        data.extend([("status".to_owned(), json!(status)), ("ack".to_owned(), json!(reached.number()))]);
        data
    }

    /// What all events about the message have.
    fn place(&self, at: Timestamp) -> Map<String, Value> {
        let data = json!({
            "id": self.note.id,
            "messageId": self.note.id,
            "chatId": self.chat_id,
            "timestamp": at.0.div_euclid(1_000),
            "fromMe": true,
            "isGroup": self.group.is_some(),
        });
        if let Value::Object(data) = data { data } else { Map::new() }
    }

    fn event(
        &self,
        session: SessionId,
        kind: MessageEventKind,
        at: Timestamp,
        actor: Option<ParticipantId>,
        data: Map<String, Value>,
    ) -> Event {
        let note = MessageNote { protocol: None, ..self.note.clone() };
        Event {
            occurred_at: at,
            actor,
            group: self.group.clone(),
            message: Some(Box::new(note)),
            ..Event::of_session(session, EventKind::Message(kind), data)
        }
    }

    /// The people who gave receipts.
    pub(crate) fn people_count(&self) -> usize {
        self.people.len().max(1)
    }

    /// The receipts, for callers.
    pub(crate) fn into_receipts(self) -> MessageReceipts {
        let recipients = self.note.recipients.or(self.group.is_none().then_some(1));
        MessageReceipts { recipients, people: self.people }
    }
}

impl PersonReceipts {
    fn reached(&self) -> Option<Reached> {
        Reached::ALL.into_iter().rfind(|reached| self.at(*reached).is_some())
    }
}
