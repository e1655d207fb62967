//! The session's engine as its actor sees it: whether there is one, which one, and whether it is closing.

use std::sync::Arc;

use super::lifecycle::TurnedAway;
use super::message::Generation;
use crate::error::CommandError;
use rookery_engine::Engine;
use rookery_model::SessionStatus;

/// The engine of one session, as far as its actor knows. `E`: the engine.
pub(super) struct EngineSlot<E = Engine> {
    generation: Generation,
    /// From the request to open it until it is gone.
    is_loaded: bool,
    is_closing: bool,
    /// The credentials are to be wiped: the engine counts as gone only when they are.
    is_wiping: bool,
    engine: Option<Arc<E>>,
    /// We asked WhatsApp to unlink the device: its removal was not done at the phone.
    pub(super) is_logging_out: bool,
    /// The new link may not stay, and is being unlinked.
    pub(super) turned_away: Option<TurnedAway>,
}

/// What the end of an engine means.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The engine was an older one.
    Stale,
    /// The engine ended before our order to wipe reached it: the order is carried out now, and the end is reported
    /// again.
    BeforeWipe,
    /// As ordered. `wiped`: the credentials, too.
    Ordered { wiped: bool },
    /// The engine ended without an order.
    ByItself,
}

impl<E> Default for EngineSlot<E> {
    fn default() -> Self {
        Self {
            generation: 0,
            is_loaded: false,
            is_closing: false,
            is_wiping: false,
            engine: None,
            is_logging_out: false,
            turned_away: None,
        }
    }
}

impl<E> EngineSlot<E> {
    /// The generation of the current engine, or of the last one.
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether this is the current engine.
    pub(super) fn is_current(&self, generation: Generation) -> bool {
        self.generation == generation
    }

    /// Whether there is an engine, or soon will be.
    pub(super) fn is_loaded(&self) -> bool {
        self.is_loaded
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }

    pub(super) fn is_wiping(&self) -> bool {
        self.is_wiping
    }

    /// The engine, connected or not.
    pub(super) fn any(&self) -> Option<Arc<E>> {
        self.engine.clone()
    }

    /// The engine, unless it is being closed or its link is turned away.
    pub(super) fn staying(&self) -> Option<Arc<E>> {
        self.any().filter(|_| !self.is_closing && self.turned_away.is_none())
    }

    /// The engine of a session that is `ready`, or why there is none to ask.
    pub(super) fn ready(&self, status: SessionStatus) -> Result<Arc<E>, CommandError> {
        match (&self.engine, status) {
            (Some(engine), SessionStatus::Ready) => Ok(engine.clone()),
            _ if self.is_loaded => Err(CommandError::NotConnected),
            _ => Err(CommandError::NotStarted),
        }
    }

    /// Notes that a new engine was asked for.
    pub(super) fn open(&mut self, generation: Generation) {
        self.generation = generation;
        self.is_loaded = true;
    }

    /// Notes that the engine is to end; with `wipe`, the credentials are wiped after that. `next` gives a new
    /// generation, for an order that is about no engine of this actor. False: there is nothing to be done.
    pub(super) fn close(&mut self, wipe: bool, next: impl FnOnce() -> Generation) -> bool {
        if !self.is_loaded && !wipe {
            return false;
        }
        if !self.is_loaded {
            // There may be an engine of an earlier actor that is still closing: it is not ours.
            self.generation = next();
        }
        self.is_loaded = true;
        self.is_closing = true;
        self.is_wiping |= wipe;
        true
    }

    /// An engine was built; false: it is not the one that was asked for last.
    pub(super) fn opened(&mut self, generation: Generation, engine: Arc<E>) -> bool {
        let is_current = self.is_current(generation);
        if is_current {
            self.engine = Some(engine);
        }
        is_current
    }

    /// An engine is gone, and its device is free.
    pub(super) fn ended(&mut self, generation: Generation, wiped: bool) -> Ended {
        if !self.is_current(generation) {
            return Ended::Stale;
        }
        self.engine = None;
        if self.is_wiping && !wiped {
            return Ended::BeforeWipe;
        }
        let was_ordered = self.is_closing;
        let wiped = self.is_wiping;
        *self = Self { generation, ..Self::default() };
        if was_ordered { Ended::Ordered { wiped } } else { Ended::ByItself }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_ready_only_with_its_session() {
        let mut slot = EngineSlot::<()>::default();
        assert_eq!(slot.ready(SessionStatus::Ready), Err(CommandError::NotStarted));
        slot.open(1);
        assert_eq!(slot.ready(SessionStatus::Ready), Err(CommandError::NotConnected));
        assert!(!slot.opened(0, Arc::new(())) && slot.opened(1, Arc::new(())));
        assert_eq!(slot.ready(SessionStatus::Ready), Ok(Arc::new(())));
        assert_eq!(slot.ready(SessionStatus::Authenticating), Err(CommandError::NotConnected));
    }

    #[test]
    fn only_the_end_of_the_latest_engine_counts_and_one_that_nobody_ordered_is_told_apart() {
        let mut slot = EngineSlot::<()>::default();
        slot.open(2);
        assert_eq!(slot.ended(1, false), Ended::Stale);
        assert_eq!(slot.ended(2, false), Ended::ByItself);
        assert!(!slot.is_loaded());
        slot.open(3);
        assert!(slot.close(false, || 9));
        assert_eq!(slot.ended(3, false), Ended::Ordered { wiped: false });
    }

    #[test]
    fn credentials_that_are_to_be_wiped_keep_the_engine_until_they_are() {
        let mut slot = EngineSlot::<()>::default();
        assert!(!slot.close(false, || 4), "there is nothing to close");
        assert!(slot.close(true, || 4), "an engine of an earlier actor may be there");
        assert_eq!(slot.ended(4, false), Ended::BeforeWipe);
        assert!(slot.is_loaded() && slot.is_wiping());
        assert_eq!(slot.ended(4, true), Ended::Ordered { wiped: true });
    }
}
