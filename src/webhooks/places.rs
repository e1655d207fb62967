//! How many deliveries are under way at once: in all, for each key, and for each host of a key. Receivers that answered soon the last time
//! have places of their own; all others have fewer, and an attempt that is not answered soon moves to a third kind. So receivers that do
//! not answer fill no places of those that do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// Deliveries at once to receivers that answer soon, each with a connection.
const PROMPT_MAX: usize = 256;
/// Attempts at once with receivers that nobody knows yet, or that failed.
const UNPROVEN_MAX: usize = 64;
/// Attempts that were not answered soon.
const SLOW_MAX: usize = 512;
/// A key has half of them at most.
const SHARE_OF_KEY: usize = 2;
/// A host, as one key names it, has an eighth.
const SHARE_OF_HOST: usize = 8;
/// Entries that are looked through for unused ones.
const ENTRIES_SWEPT: usize = 1_024;

/// All places.
pub(crate) struct Places {
    prompt: Kind,
    unproven: Kind,
    slow: Kind,
}

/// Places of one kind.
struct Kind {
    most: usize,
    all: Arc<Semaphore>,
    by_key: Mutex<Shares<Uuid>>,
    by_host: Mutex<Shares<(Uuid, String)>>,
}

/// The shares that somebody has or waits for.
struct Shares<K> {
    all: HashMap<K, Weak<Semaphore>>,
    /// Unused ones are looked for when there are so many.
    swept_at: usize,
}

/// A place for one attempt; free again when it is dropped.
pub(crate) struct Place {
    key: Uuid,
    host: String,
    held: Held,
}

struct Held {
    _permits: [OwnedSemaphorePermit; 3],
    /// Others find the same ones while somebody has a place.
    _shares: [Arc<Semaphore>; 2],
}

impl Default for Places {
    fn default() -> Self {
        Self { prompt: Kind::new(PROMPT_MAX), unproven: Kind::new(UNPROVEN_MAX), slow: Kind::new(SLOW_MAX) }
    }
}

impl Places {
    /// Waits for a place. The narrowest share is waited for first, so that nobody who waits holds what others could use. `None` never
    /// comes.
    pub(crate) async fn take(&self, key: Uuid, host: &str, is_prompt: bool) -> Option<Place> {
        let kind = if is_prompt { &self.prompt } else { &self.unproven };
        let [of_host, of_key] = kind.shares(key, host);
        let permits = [
            Arc::clone(&of_host).acquire_owned().await.ok()?,
            Arc::clone(&of_key).acquire_owned().await.ok()?,
            Arc::clone(&kind.all).acquire_owned().await.ok()?,
        ];
        let held = Held { _permits: permits, _shares: [of_host, of_key] };
        Some(Place { key, host: host.to_owned(), held })
    }

    /// Moves an attempt that is not answered soon to a place where it keeps nobody waiting, if there is one.
    pub(crate) fn give_way(&self, place: &mut Place) {
        let [of_host, of_key] = self.slow.shares(place.key, &place.host);
        let permits = [&of_host, &of_key, &self.slow.all].map(|share| Arc::clone(share).try_acquire_owned());
        if let [Ok(of_this_host), Ok(of_this_key), Ok(of_all)] = permits {
            place.held = Held { _permits: [of_this_host, of_this_key, of_all], _shares: [of_host, of_key] };
        }
    }
}

impl Kind {
    fn new(most: usize) -> Self {
        let all = Arc::new(Semaphore::new(most));
        Self { most, all, by_key: Mutex::new(Shares::new()), by_host: Mutex::new(Shares::new()) }
    }

    /// The shares of a host of this key, and of the key.
    fn shares(&self, key: Uuid, host: &str) -> [Arc<Semaphore>; 2] {
        let of_host = share(&self.by_host, (key, host.to_owned()), self.most / SHARE_OF_HOST);
        [of_host, share(&self.by_key, key, self.most / SHARE_OF_KEY)]
    }
}

impl<K> Shares<K> {
    fn new() -> Self {
        Self { all: HashMap::new(), swept_at: ENTRIES_SWEPT }
    }
}

fn share<K: Eq + std::hash::Hash>(shares: &Mutex<Shares<K>>, of: K, most: usize) -> Arc<Semaphore> {
    let mut shares = shares.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = shares.all.get(&of).and_then(Weak::upgrade) {
        return known;
    }
    if shares.all.len() >= shares.swept_at {
        shares.all.retain(|_, share| share.strong_count() > 0);
        shares.swept_at = (2 * shares.all.len()).max(ENTRIES_SWEPT);
    }
    let share = Arc::new(Semaphore::new(most));
    shares.all.insert(of, Arc::downgrade(&share));
    share
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn taken(places: &Places, key: u128, host: &str, is_prompt: bool) -> Option<Place> {
        let taking = places.take(Uuid::from_u128(key), host, is_prompt);
        tokio::time::timeout(Duration::from_millis(1), taking).await.ok().flatten()
    }

    #[tokio::test(start_paused = true)]
    async fn neither_a_host_nor_a_key_takes_what_others_need() {
        let places = Places::default();
        let mut held = Vec::new();
        for place in 0..PROMPT_MAX / SHARE_OF_HOST {
            held.push(taken(&places, 1, "slow.example.com", true).await.unwrap_or_else(|| panic!("{place}")));
        }
        assert!(taken(&places, 1, "slow.example.com", true).await.is_none(), "the host has its share");
        assert!(
            taken(&places, 1, "slow.example.com", false).await.is_some(),
            "a receiver that nobody knows has another kind"
        );
        assert!(taken(&places, 2, "slow.example.com", true).await.is_some(), "and another key's is another");
        for host in 0.. {
            match taken(&places, 1, &host.to_string(), true).await {
                Some(place) => held.push(place),
                None => break,
            }
        }
        assert_eq!(held.len(), PROMPT_MAX / SHARE_OF_KEY);
        assert!(taken(&places, 2, "other.example.com", true).await.is_some());
        held.pop();
        assert!(taken(&places, 1, "other.example.com", true).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_that_are_not_answered_make_room() {
        let (places, mut held) = (Places::default(), Vec::new());
        for _ in 0..2 * PROMPT_MAX / SHARE_OF_HOST {
            let mut place = taken(&places, 1, "slow.example.com", true).await.expect("there is room again");
            places.give_way(&mut place);
            held.push(place);
        }
        for _ in 0..PROMPT_MAX / SHARE_OF_HOST {
            let mut place = taken(&places, 1, "slow.example.com", true).await.expect("there is room");
            places.give_way(&mut place);
            held.push(place);
        }
        assert!(taken(&places, 1, "slow.example.com", true).await.is_none(), "there is an end to it");
    }
}
