//! How many deliveries are under way at once: in all, for each key, and for each host of a key. Attempts after the first have places of
//! their own, fewer: receivers that do not answer fill these, and not the places of those that do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// First attempts at once, each with a connection.
const FIRST_MAX: usize = 256;
/// Repeated attempts at once.
const REPEATED_MAX: usize = 64;
/// A key has half of them at most.
const SHARE_OF_KEY: usize = 2;
/// A host, as one key names it, has an eighth.
const SHARE_OF_HOST: usize = 8;
/// Entries that are looked through for unused ones.
const ENTRIES_SWEPT: usize = 1_024;

/// All places.
pub(crate) struct Places {
    first: Kind,
    repeated: Kind,
}

/// The places of first attempts, or of repeated ones.
struct Kind {
    most: usize,
    all: Arc<Semaphore>,
    by_key: Mutex<HashMap<Uuid, Weak<Semaphore>>>,
    by_host: Mutex<HashMap<(Uuid, String), Weak<Semaphore>>>,
}

/// A place for one attempt; free again when it is dropped.
pub(crate) struct Place {
    _permits: [OwnedSemaphorePermit; 3],
    /// Others find the same ones while somebody has a place.
    _shares: [Arc<Semaphore>; 2],
}

impl Default for Places {
    fn default() -> Self {
        Self { first: Kind::new(FIRST_MAX), repeated: Kind::new(REPEATED_MAX) }
    }
}

impl Places {
    /// Waits for a place. The narrowest share is waited for first, so that nobody who waits holds what others could use. `None` never
    /// comes.
    pub(crate) async fn take(&self, key: Uuid, host: &str, is_repeated: bool) -> Option<Place> {
        let kind = if is_repeated { &self.repeated } else { &self.first };
        let of_host = share(&kind.by_host, (key, host.to_owned()), kind.most / SHARE_OF_HOST);
        let of_key = share(&kind.by_key, key, kind.most / SHARE_OF_KEY);
        let permits = [
            Arc::clone(&of_host).acquire_owned().await.ok()?,
            Arc::clone(&of_key).acquire_owned().await.ok()?,
            Arc::clone(&kind.all).acquire_owned().await.ok()?,
        ];
        Some(Place { _permits: permits, _shares: [of_host, of_key] })
    }
}

impl Kind {
    fn new(most: usize) -> Self {
        let all = Arc::new(Semaphore::new(most));
        Self { most, all, by_key: Mutex::default(), by_host: Mutex::default() }
    }
}

fn share<K: Eq + std::hash::Hash>(shares: &Mutex<HashMap<K, Weak<Semaphore>>>, of: K, most: usize) -> Arc<Semaphore> {
    let mut shares = shares.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = shares.get(&of).and_then(Weak::upgrade) {
        return known;
    }
    if shares.len() >= ENTRIES_SWEPT {
        shares.retain(|_, share| share.strong_count() > 0);
    }
    let share = Arc::new(Semaphore::new(most));
    shares.insert(of, Arc::downgrade(&share));
    share
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn taken(places: &Places, key: u128, host: &str, is_repeated: bool) -> Option<Place> {
        let taking = places.take(Uuid::from_u128(key), host, is_repeated);
        tokio::time::timeout(Duration::from_millis(1), taking).await.ok().flatten()
    }

    #[tokio::test(start_paused = true)]
    async fn neither_a_host_nor_a_key_takes_what_others_need() {
        let places = Places::default();
        let mut held = Vec::new();
        for place in 0..FIRST_MAX / SHARE_OF_HOST {
            held.push(taken(&places, 1, "slow.example.com", false).await.unwrap_or_else(|| panic!("{place}")));
        }
        assert!(taken(&places, 1, "slow.example.com", false).await.is_none(), "the host has its share");
        assert!(taken(&places, 1, "slow.example.com", true).await.is_some(), "another attempt has its own");
        assert!(taken(&places, 2, "slow.example.com", false).await.is_some(), "and another key's is another");
        for host in 0.. {
            match taken(&places, 1, &host.to_string(), false).await {
                Some(place) => held.push(place),
                None => break,
            }
        }
        assert_eq!(held.len(), FIRST_MAX / SHARE_OF_KEY);
        assert!(taken(&places, 2, "other.example.com", false).await.is_some());
        held.pop();
        assert!(taken(&places, 1, "other.example.com", false).await.is_some());
    }
}
