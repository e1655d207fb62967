//! Telling what happened to groups to whoever listens.

use std::sync::Arc;

use super::SessionState;
use crate::group_cache::GroupDiff;
use rookery_model::{GroupEvent, Timestamp};

/// Events that a listener may be behind; a slower one is told how many it missed.
pub(crate) const EVENTS_BEHIND_MAX: usize = 4_096;

impl SessionState {
    /// Tells what the cache has seen since the last time. Nobody has to listen.
    pub(super) fn publish_events(&mut self) {
        for news in self.cache.take_news() {
            let event = self.event(news);
            let _ = self.context.events.send(Arc::new(event));
        }
    }

    fn event(&self, news: GroupDiff) -> GroupEvent {
        let now = || u64::try_from(Timestamp::now().0 / 1_000).unwrap_or_default();
        GroupEvent {
            session: self.entry.id,
            kind: news.kind,
            group_id: news.group,
            participant_ids: news.people.iter().filter_map(|person| person.id()).collect(),
            timestamp: news.at.unwrap_or_else(now),
            actor_id: news.actor.and_then(|actor| actor.id()),
            changes: news.changes,
        }
    }
}
