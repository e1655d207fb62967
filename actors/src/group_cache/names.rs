//! Names of people as one session knows them: saved contacts first, else the name that somebody goes by. Never does IO.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use rookery_model::{NameSource, ParticipantId, ParticipantIds};
use serde::{Deserialize, Serialize};

/// Names kept per session, each some 500 to 700 bytes with all that the engine and the store keep of it (the memory
/// bench); further people go without until the next start.
const NAMES_MAX: usize = 20_000;
/// Characters of a name: WhatsApp allows 25 for one's own, address books some more.
const NAME_CHARS_MAX: usize = 100;

/// A name as it is kept and stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Name {
    pub(crate) text: Arc<str>,
    pub(crate) source: NameSource,
}

/// All names that a session knows.
#[derive(Default)]
pub(crate) struct Names {
    by_id: HashMap<ParticipantId, Name>,
    unsaved: BTreeSet<ParticipantId>,
    /// Counts the changes: a group that was built with older names is built again.
    version: u64,
}

impl Names {
    /// Names restored from the store.
    pub(crate) fn restore(names: impl IntoIterator<Item = (ParticipantId, Name)>) -> Self {
        Self { by_id: names.into_iter().take(NAMES_MAX).collect(), ..Self::default() }
    }

    /// The name of a person by any of their ids.
    pub(crate) fn of(&self, person: &ParticipantIds) -> Option<Arc<str>> {
        let named = person.ids().filter_map(|id| self.by_id.get(&id));
        named.max_by_key(|name| name.source).map(|name| name.text.clone())
    }

    /// Counts the changes of any name.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Learns a name. An empty text removes the name of this source.
    pub(crate) fn learn(&mut self, person: &ParticipantIds, text: &str, source: NameSource) {
        let text: String = text.trim().chars().take(NAME_CHARS_MAX).collect();
        for id in person.ids() {
            self.set(id, &text, source);
        }
    }

    fn set(&mut self, id: ParticipantId, text: &str, source: NameSource) {
        let full = self.by_id.len() >= NAMES_MAX;
        match self.by_id.entry(id) {
            Entry::Occupied(known) if text.is_empty() && known.get().source == source => drop(known.remove()),
            Entry::Occupied(mut known) if !text.is_empty() && known.get().source <= source => {
                if &*known.get().text == text && known.get().source == source {
                    return;
                }
                known.insert(Name { text: text.into(), source });
            }
            Entry::Vacant(free) if !text.is_empty() && !full => drop(free.insert(Name { text: text.into(), source })),
            _ => return,
        }
        self.version += 1;
        self.unsaved.insert(id);
    }

    /// Takes names back that could not be written.
    pub(crate) fn put_back_unsaved(&mut self, names: Vec<ParticipantId>) {
        self.unsaved.extend(names);
    }

    /// Takes names to be written to the store, `count_max` at most; `None`: the name is to be deleted.
    pub(crate) fn take_unsaved(&mut self, count_max: usize) -> Vec<(ParticipantId, Option<Name>)> {
        let unsaved: Vec<ParticipantId> = (0..count_max).map_while(|_| self.unsaved.pop_first()).collect();
        unsaved.into_iter().map(|id| (id, self.by_id.get(&id).cloned())).collect()
    }

    /// Whether names are to be written.
    pub(crate) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_contact_wins_over_a_push_name_whichever_came_first() {
        let mut names = Names::default();
        let mut alice: ParticipantIds = "15550100001".parse::<ParticipantId>().unwrap().into();
        names.learn(&alice, "Alice", NameSource::Push);
        names.learn(&alice, "Alice from work", NameSource::Contact);
        names.learn(&alice, "ally", NameSource::Push);
        alice.learn(&"7000000000001@lid".parse::<ParticipantId>().unwrap().into());
        names.learn(&alice, "Ally", NameSource::Push);
        assert_eq!(names.of(&alice).as_deref(), Some("Alice from work"));
        names.learn(&alice, "", NameSource::Contact);
        assert_eq!(names.of(&alice).as_deref(), Some("Ally"), "known by the other id");
    }

    #[test]
    fn only_what_changed_is_written() {
        let mut names = Names::default();
        let alice: ParticipantIds = "15550100001".parse::<ParticipantId>().unwrap().into();
        names.learn(&alice, "Alice", NameSource::Push);
        assert_eq!(names.take_unsaved(9).len(), 1);
        let version = names.version();
        names.learn(&alice, "Alice", NameSource::Push);
        assert!(names.take_unsaved(9).is_empty() && names.version() == version);
    }
}
