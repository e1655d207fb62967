//! A limited number of shares for several users. A user may take one more share as long as more are free than it has,
//! so that some are left for others, whoever asks first. A single user gets half. Never waits.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rookery_model::SessionId;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// All shares.
pub(crate) struct Shares<K> {
    most: usize,
    most_of_one: usize,
    /// The users with shares; never more users than there are shares.
    taken: Mutex<HashMap<K, Taken>>,
}

/// The shares of one user.
struct Taken {
    count: usize,
    turn: Arc<Semaphore>,
}

/// One share; given back when it is dropped.
pub(crate) struct Share<K: Copy + Eq + Hash> {
    of: Arc<Shares<K>>,
    user: K,
    turn: Arc<Semaphore>,
}

impl<K: Copy + Eq + Hash> Shares<K> {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Self::limited(most, most)
    }

    /// With so many for a single user at most, however many are free.
    pub(crate) fn limited(most: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_one, taken: Mutex::default() })
    }

    /// Takes a share; `None`: the user has as many as it may, or none is left.
    pub(crate) fn take(self: &Arc<Self>, user: K) -> Option<Share<K>> {
        let mut taken = self.taken();
        let free = self.most.saturating_sub(taken.values().map(|taken| taken.count).sum());
        let own = taken.get(&user).map_or(0, |taken| taken.count);
        if own >= free.min(self.most_of_one) {
            return None;
        }
        let own = taken.entry(user).or_insert_with(|| Taken { count: 0, turn: Arc::new(Semaphore::new(1)) });
        own.count += 1;
        Some(Share { of: Arc::clone(self), user, turn: Arc::clone(&own.turn) })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<K, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash> Share<K> {
    /// One permit for all shares that the user has at this time: for work that the user may do only once at a time.
    pub(crate) fn turn(&self) -> Arc<Semaphore> {
        Arc::clone(&self.turn)
    }
}

impl<K: Copy + Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut taken = self.of.taken();
        if let Some(own) = taken.get_mut(&self.user) {
            own.count -= 1;
            if own.count == 0 {
                taken.remove(&self.user);
            }
        }
    }
}

/// The key and the session that something is done for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// The API key.
    pub(crate) key: Uuid,
    /// The session.
    pub(crate) session: SessionId,
}

/// Shares that keys have among each other, and sessions among each other.
pub(crate) struct UserShares {
    keys: Arc<Shares<Uuid>>,
    sessions: Arc<Shares<SessionId>>,
    /// Those of a key in a session: no key takes all of a session's.
    pairs: Arc<Shares<(Uuid, SessionId)>>,
}

/// A share of a key and one of a session.
pub(crate) struct UserShare {
    key: Share<Uuid>,
    session: Share<SessionId>,
    _pair: Share<(Uuid, SessionId)>,
}

impl UserShares {
    pub(crate) fn new(most: usize) -> Self {
        Self::limited(most, most)
    }

    /// With so many for a key in one session at most.
    pub(crate) fn limited(most: usize, most_of_pair: usize) -> Self {
        Self { keys: Shares::new(most), sessions: Shares::new(most), pairs: Shares::limited(most, most_of_pair) }
    }

    /// Takes a share; `None`: the key or the session has as many as it may, or none is left.
    pub(crate) fn take(&self, user: User) -> Option<UserShare> {
        let _pair = self.pairs.take((user.key, user.session))?;
        let taken = self.keys.take(user.key).zip(self.sessions.take(user.session));
        taken.map(|(key, session)| UserShare { key, session, _pair })
    }
}

impl UserShare {
    /// Waits for the key's turn and the session's, as [`Share::turn`].
    pub(crate) async fn turns(&self) -> [Result<OwnedSemaphorePermit, AcquireError>; 2] {
        [self.key.turn().acquire_owned().await, self.session.turn().acquire_owned().await]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_all_that_it_can_get_leaves_some_for_the_next() {
        let shares = Shares::new(16);
        let take_all = |user: u8| std::iter::from_fn(|| shares.take(user)).collect::<Vec<_>>();
        let first = take_all(1);
        let others: Vec<_> = (2..=5).map(take_all).collect();
        assert_eq!((first.len(), others.iter().map(Vec::len).collect::<Vec<_>>()), (8, vec![4, 2, 1, 1]));
        drop(first);
        assert_eq!((take_all(2).len(), take_all(6).len()), (2, 3), "what is given back is for everybody");
        drop(others);
        assert!(shares.taken().is_empty());
    }
}
