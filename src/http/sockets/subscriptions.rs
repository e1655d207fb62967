//! What one client subscribed to: kinds of events, by session or of all sessions. Knows no keys.

use std::collections::HashMap;

use rookery_model::{EventKind, SessionId};
use serde_json::Value;

use super::message::{Code, Refused};
use crate::webhooks::{EVERY_EVENT, is_event_word};

/// Sessions that one client names: 350 bytes each. A client of more sessions has a key for all of them and subscribes to `*`.
pub(super) const SUBSCRIPTIONS_MAX: usize = 4_096;

/// Some kinds of events.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds(u32);

/// What one client subscribed to.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    of_all: Option<Subscription>,
    by_session: HashMap<SessionId, Subscription>,
}

#[derive(Debug)]
struct Subscription {
    kinds: Kinds,
    /// Begins behind the event with this position in the whole log.
    since: u64,
}

impl Kinds {
    const EVERY: Self = Self(u32::MAX);

    /// The kinds with these words, and the words that are known and may be seen, each once. Words for events that are never sent here
    /// are known, too.
    ///
    /// # Errors
    /// [`Code::InvalidEvents`]: none is known. [`Code::ForbiddenEvents`]: none of those may be seen.
    pub(super) fn read(
        words: Option<&[Value]>,
        mut may_see: impl FnMut(EventKind) -> bool,
    ) -> Result<(Self, Vec<String>), Refused> {
        let (mut kinds, mut known, mut hidden) = (Self::default(), Vec::<String>::new(), Vec::new());
        for word in words.unwrap_or_default().iter().filter_map(Value::as_str).filter(|word| is_event_word(word)) {
            if known.iter().any(|one| one == word) {
                continue;
            }
            let kind = EventKind::from_word(word);
            if kind.is_some_and(|kind| !may_see(kind)) {
                if !hidden.contains(&word) {
                    hidden.push(word);
                }
                continue;
            }
            kinds = kinds.and(if word == EVERY_EVENT { Self::EVERY } else { kind.map_or(Self::default(), Self::of) });
            known.push(word.to_owned());
        }
        if known.is_empty() && !hidden.is_empty() {
            let message = format!("This API key does not see events of the kind {}", hidden.join(", "));
            return Err(Refused::new(Code::ForbiddenEvents, message));
        }
        if known.is_empty() {
            let words: Vec<_> = EventKind::all().map(EventKind::as_str).collect();
            let message = format!(
                "No valid events. events must be a list of kinds: those that are sent are {}, and * is all of them",
                words.join(", ")
            );
            return Err(Refused::new(Code::InvalidEvents, message));
        }
        Ok((kinds, known))
    }

    fn of(kind: EventKind) -> Self {
        Self(EventKind::all().position(|one| one == kind).map_or(0, |at| 1 << at))
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn has(self, kind: EventKind) -> bool {
        self.0 & Self::of(kind).0 != 0
    }
}

impl Subscriptions {
    /// Adds these kinds of events of a session, or (`None`) of all sessions, from behind this position in the whole log.
    ///
    /// # Errors
    /// [`Code::TooManySubscriptions`].
    pub(super) fn add(&mut self, session: Option<SessionId>, kinds: Kinds, since: u64) -> Result<(), Refused> {
        let new = || Subscription { kinds: Kinds::default(), since };
        let Some(session) = session else {
            let known = self.of_all.get_or_insert_with(new);
            known.kinds = known.kinds.and(kinds);
            return Ok(());
        };
        if self.by_session.len() >= SUBSCRIPTIONS_MAX && !self.by_session.contains_key(&session) {
            let message =
                format!("A connection may name {SUBSCRIPTIONS_MAX} sessions at most: unsubscribe from some first");
            return Err(Refused::new(Code::TooManySubscriptions, message));
        }
        let known = self.by_session.entry(session).or_insert_with(new);
        known.kinds = known.kinds.and(kinds);
        Ok(())
    }

    /// Ends what was asked for of a session, or (`None`) of all sessions. What was asked for otherwise stays.
    pub(super) fn remove(&mut self, session: Option<SessionId>) {
        match session {
            Some(session) => drop(self.by_session.remove(&session)),
            None => self.of_all = None,
        }
    }

    /// The position in the whole log behind which this kind of event of this session was asked for; `None`: it was not.
    pub(super) fn wants_since(&self, session: SessionId, kind: EventKind) -> Option<u64> {
        let both = self.of_all.iter().chain(self.by_session.get(&session));
        both.filter(|subscription| subscription.kinds.has(kind)).map(|subscription| subscription.since).min()
    }

    /// Whether this session was named.
    pub(super) fn has(&self, session: SessionId) -> bool {
        self.by_session.contains_key(&session)
    }

    /// The sessions that were named.
    pub(super) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.by_session.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use rookery_model::GroupEventKind;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn read(words: Value) -> Result<(Kinds, Vec<String>), Code> {
        Kinds::read(words.as_array().map(Vec::as_slice), |kind| kind != EventKind::Qr).map_err(|refused| refused.code)
    }

    #[test]
    fn unknown_words_and_those_that_may_not_be_seen_are_left_out_if_there_is_another() {
        let join = EventKind::Group(GroupEventKind::Join);
        let (kinds, known) = read(json!(["group.join", "nonsense", 7, "group.join", "message.received"])).unwrap();
        assert_eq!(known, ["group.join", "message.received"]);
        assert!(kinds.has(join) && !kinds.has(EventKind::Qr));
        let (kinds, known) = read(json!(["*"])).unwrap();
        assert!(EventKind::all().all(|kind| kinds.has(kind)) && known == ["*"]);
        let (kinds, known) = read(json!(["session.qr", "session.status"])).unwrap();
        assert!(!kinds.has(EventKind::Qr) && known == ["session.status"]);
        assert_eq!(read(json!(["session.qr", "nonsense"])), Err(Code::ForbiddenEvents));
        for nothing in [json!(["nonsense"]), json!([]), json!("group.join"), Value::Null] {
            assert_eq!(read(nothing.clone()), Err(Code::InvalidEvents), "{nothing}");
        }
    }

    #[test]
    fn every_kind_has_a_bit_of_its_own() {
        let bits: std::collections::HashSet<u32> = EventKind::all().map(|kind| Kinds::of(kind).0).collect();
        assert!(bits.len() == EventKind::all().count() && !bits.contains(&0));
    }

    #[test]
    fn subscriptions_add_up_and_end_by_session() {
        let [alice, bob] = [1, 2].map(|number| SessionId(Uuid::from_u128(number)));
        let (join, qr) = (EventKind::Group(GroupEventKind::Join), EventKind::Qr);
        let mut subscriptions = Subscriptions::default();
        subscriptions.add(Some(alice), Kinds::of(join), 7).unwrap();
        subscriptions.add(Some(alice), Kinds::of(qr), 8).unwrap();
        subscriptions.add(None, Kinds::of(qr), 5).unwrap();
        let since = |subscriptions: &Subscriptions| {
            [(alice, join), (alice, qr), (bob, join), (bob, qr)].map(|(of, kind)| subscriptions.wants_since(of, kind))
        };
        assert_eq!(since(&subscriptions), [Some(7), Some(5), None, Some(5)]);
        subscriptions.remove(Some(alice));
        assert_eq!(since(&subscriptions), [None, Some(5), None, Some(5)]);
        subscriptions.remove(None);
        assert_eq!(since(&subscriptions), [None; 4]);
    }

    #[test]
    fn a_client_names_a_bounded_number_of_sessions() {
        let mut subscriptions = Subscriptions::default();
        let session = |number: usize| Some(SessionId(Uuid::from_u128(number as u128)));
        (0..SUBSCRIPTIONS_MAX).for_each(|number| subscriptions.add(session(number), Kinds::EVERY, 0).unwrap());
        let refused = subscriptions.add(session(SUBSCRIPTIONS_MAX), Kinds::EVERY, 0).unwrap_err();
        assert_eq!(refused.code, Code::TooManySubscriptions);
        subscriptions.add(session(0), Kinds::EVERY, 0).unwrap();
        subscriptions.add(None, Kinds::EVERY, 0).unwrap();
    }
}
