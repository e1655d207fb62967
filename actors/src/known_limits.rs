//! What WhatsApp said that a session's account may do. Kept beside the actor: readers ask no mailbox, and a crash is no
//! reason to ask WhatsApp again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rookery_engine::AccountAnswer;
use rookery_model::{NewChats, ReachoutTimelock, Timestamp};

/// WhatsApp tells changes by itself: it is asked after a log-in or a refusal, at most this often.
pub(crate) const ASKING_INTERVAL: Duration = Duration::from_secs(600);

/// Two changes of the lock within this time may have come in the wrong order.
pub(crate) const ORDER_TIME: Duration = Duration::from_secs(5);

/// The limits of one account, as far as they are known.
#[derive(Default)]
pub(crate) struct KnownLimits(Mutex<Known>);

#[derive(Default)]
struct Known {
    timelock: Option<ReachoutTimelock>,
    new_chats: Option<NewChats>,
    asked_at: Option<Instant>,
    /// When a notification last told of the lock.
    told_at: Option<Instant>,
}

impl KnownLimits {
    /// Whether WhatsApp may be asked now; if so, that is noted.
    pub(crate) fn begin_asking(&self) -> bool {
        let mut known = self.lock();
        let is_due = known.asked_at.is_none_or(|at| at.elapsed() >= ASKING_INTERVAL);
        if is_due {
            known.asked_at = Some(Instant::now());
        }
        is_due
    }

    pub(crate) fn learn(&self, answer: AccountAnswer) {
        let mut known = self.lock();
        known.new_chats = answer.new_chats.unwrap_or(known.new_chats);
        // An answer that says nothing of the lock is no news about it.
        known.timelock = answer.timelock.or(known.timelock.take());
    }

    /// Takes what a notification says; true when another one said something else a moment ago.
    pub(crate) fn learn_told_timelock(&self, timelock: ReachoutTimelock) -> bool {
        let mut known = self.lock();
        let is_unclear = known.told_at.is_some_and(|at| at.elapsed() < ORDER_TIME);
        (known.timelock, known.told_at) = (Some(timelock), Some(Instant::now()));
        is_unclear
    }

    /// The next question may be asked at once.
    pub(crate) fn forget_asking(&self) {
        self.lock().asked_at = None;
    }

    pub(crate) fn learn_timelock(&self, timelock: ReachoutTimelock) {
        self.lock().timelock = Some(timelock);
    }

    pub(crate) fn learn_new_chats(&self, new_chats: Option<NewChats>) {
        self.lock().new_chats = new_chats;
    }

    /// The session has another account now, or none.
    pub(crate) fn forget(&self) {
        *self.lock() = Known::default();
    }

    /// The time lock as of now; `None`: nothing is known of it.
    pub(crate) fn timelock(&self) -> Option<ReachoutTimelock> {
        self.lock().timelock.clone().map(|timelock| timelock.at(Timestamp::now()))
    }

    /// The limit of new chats; `None`: there is none, or it is not known.
    pub(crate) fn new_chats(&self) -> Option<NewChats> {
        let now = Timestamp::now();
        // In the next cycle of WhatsApp's nothing was used yet, as far as we know.
        let as_of_now = |chats: NewChats| match chats.resets_at {
            Some(reset) if reset <= now => NewChats { used: 0, resets_at: None, ..chats },
            _ => chats,
        };
        self.lock().new_chats.map(as_of_now)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatsapp_is_asked_once_in_ten_minutes_and_of_each_account() {
        let known = KnownLimits::default();
        assert!(known.begin_asking() && !known.begin_asking());
        known.forget();
        assert!(known.begin_asking());
    }

    #[test]
    fn what_is_over_is_not_shown() {
        let known = KnownLimits::default();
        let ended = Timestamp(Timestamp::now().0 - 1);
        known.learn_timelock(ReachoutTimelock { is_active: true, expires_at: Some(ended), reason: None });
        known.learn_new_chats(Some(NewChats { used: 7, limit: 10, resets_at: Some(ended) }));
        assert_eq!(known.timelock(), Some(ReachoutTimelock::default()));
        assert_eq!(known.new_chats(), Some(NewChats { used: 0, limit: 10, resets_at: None }));
        let active = ReachoutTimelock { is_active: true, ..ReachoutTimelock::default() };
        known.learn_timelock(active.clone());
        known.learn(AccountAnswer { timelock: None, new_chats: Some(None) });
        assert_eq!((known.timelock(), known.new_chats()), (Some(active), None));
    }
}
