//! Every state that each group has had, with its time and author. Tests judge answers and reads by this history. It is
//! kept only when a test asks for it, and only until it has been fetched.

use std::collections::{BTreeMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use super::view::GroupView;
use super::{State, World};

/// Changes that nobody has fetched; the oldest are dropped beyond that. Ten minutes of a hundred changes a second.
const CHANGES_MAX: usize = 60_000;

/// A group after a change.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GroupChange {
    /// Counts from 1 without a gap.
    pub number: u64,
    /// Time of the change, in microseconds since 1970.
    pub at_us: u64,
    /// Phone number of the author; `None` when nobody is named.
    pub actor: Option<String>,
    /// The group's id with `@g.us`.
    pub group: String,
    /// The group from now on; `None`: it is gone.
    pub view: Option<GroupView>,
}

/// What has been recorded.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct History {
    on: bool,
    number: u64,
    /// The groups as recorded last, by id without `@g.us`.
    newest: BTreeMap<String, GroupView>,
    changes: VecDeque<GroupChange>,
}

impl World {
    /// Records from now on, beginning with all groups as they are, or forgets what was recorded.
    pub fn record_history(&self, on: bool) {
        let mut state = self.lock();
        let number = state.history.number;
        state.history = History { on, number, ..History::default() };
        state.record(None);
    }

    /// The changes after the one with this number. Those up to it are forgotten.
    pub fn history_after(&self, number: u64) -> Vec<GroupChange> {
        let mut state = self.lock();
        state.record(None);
        let changes = &mut state.history.changes;
        while changes.front().is_some_and(|change| change.number <= number) {
            changes.pop_front();
        }
        changes.iter().cloned().collect()
    }
}

impl State {
    /// Records the groups that have changed since the last call.
    pub(crate) fn record(&mut self, actor: Option<&str>) {
        if !self.history.on {
            return;
        }
        let at_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros() as u64);
        let now: BTreeMap<String, GroupView> =
            self.groups.values().map(|group| (group.id.clone(), group.view(&self.accounts))).collect();
        let before = std::mem::take(&mut self.history.newest);
        let changed = now.iter().filter(|(id, view)| before.get(*id) != Some(*view));
        let changed: Vec<_> = changed.map(|(_, view)| (view.id.clone(), Some(view.clone()))).collect();
        let gone = before.iter().filter(|(id, _)| !now.contains_key(*id)).map(|(_, view)| (view.id.clone(), None));
        for (group, view) in changed.into_iter().chain(gone) {
            self.history.number += 1;
            let number = self.history.number;
            self.history.changes.push_back(GroupChange { number, at_us, actor: actor.map(str::to_owned), group, view });
        }
        while self.history.changes.len() > CHANGES_MAX {
            self.history.changes.pop_front();
        }
        self.history.newest = now;
    }
}
