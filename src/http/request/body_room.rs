//! The memory that bodies take while their requests run: one bound for all of them, and a share of it for each key.
//! Knows nothing of the bodies' content.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::config::HttpLimits;
use crate::http::error::{AccessError, ApiError};
use crate::http::limits::{BODIES_BYTES_MAX, BODIES_BYTES_PER_KEY_MAX, BODY_UNCOUNTED_BYTES_MAX};

/// The memory for bodies, and the keys that have some of it.
#[derive(Clone)]
pub(crate) struct Rooms {
    taken: Arc<Mutex<Taken>>,
    bytes_max: usize,
    bytes_per_key_max: usize,
}

#[derive(Default)]
struct Taken {
    bytes: usize,
    by_key: HashMap<Uuid, usize>,
}

/// The memory of one body; given back when dropped.
pub(crate) struct Room {
    rooms: Rooms,
    key: Uuid,
    bytes: usize,
}

impl Default for Rooms {
    fn default() -> Self {
        Self::new(&HttpLimits::default())
    }
}

impl Rooms {
    /// Each key has room for the largest body that the operator allows, whatever the shares are.
    pub(crate) fn new(limits: &HttpLimits) -> Self {
        let bytes_per_key_max = BODIES_BYTES_PER_KEY_MAX.max(limits.body_bytes_max);
        let bytes_max = BODIES_BYTES_MAX.max(2 * bytes_per_key_max);
        Self { taken: Arc::default(), bytes_max, bytes_per_key_max }
    }

    /// An empty room, for a body that comes with this key.
    pub(crate) fn room(&self, key: Uuid) -> Room {
        Room { rooms: self.clone(), key, bytes: 0 }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// Takes more memory, so that the room is this many bytes in all.
    ///
    /// # Errors
    /// [`AccessError::BodyShareUsedUp`] when the key has its share already, [`AccessError::BodiesUsedUp`] when all
    /// memory is taken.
    pub(crate) fn widen(&mut self, bytes: usize) -> Result<(), ApiError> {
        if bytes <= BODY_UNCOUNTED_BYTES_MAX || bytes <= self.bytes {
            return Ok(());
        }
        let mut taken = self.rooms.taken();
        let more = bytes - self.bytes;
        let of_key = taken.by_key.get(&self.key).copied().unwrap_or_default();
        if of_key + more > self.rooms.bytes_per_key_max {
            return Err(AccessError::BodyShareUsedUp.into());
        }
        if taken.bytes + more > self.rooms.bytes_max {
            return Err(AccessError::BodiesUsedUp.into());
        }
        taken.bytes += more;
        taken.by_key.insert(self.key, of_key + more);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut taken = self.rooms.taken();
        taken.bytes -= self.bytes;
        if let Some(of_key) = taken.by_key.get_mut(&self.key) {
            *of_key -= self.bytes;
            if *of_key == 0 {
                taken.by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn refusal(widened: Result<(), ApiError>) -> Option<AccessError> {
        match widened {
            Ok(()) => None,
            Err(ApiError::Access(error)) => Some(error),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_has_its_share_all_have_a_bound_and_both_are_given_back() {
        let rooms = Rooms::default();
        let [alice, bob] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let mut first = rooms.room(alice);
        assert_eq!(refusal(first.widen(BODIES_BYTES_PER_KEY_MAX - MIB)), None);
        let mut second = rooms.room(alice);
        assert_eq!(refusal(second.widen(2 * MIB)), Some(AccessError::BodyShareUsedUp));
        assert_eq!(refusal(second.widen(BODY_UNCOUNTED_BYTES_MAX)), None, "a small one always has room");
        assert_eq!(refusal(second.widen(MIB)), None);
        assert_eq!(refusal(rooms.room(bob).widen(BODIES_BYTES_PER_KEY_MAX)), None, "others have their own");
        drop(first);
        assert_eq!(refusal(second.widen(BODIES_BYTES_PER_KEY_MAX)), None);
        let others: Vec<_> = (0..BODIES_BYTES_MAX / BODIES_BYTES_PER_KEY_MAX)
            .map(|key| {
                let mut room = rooms.room(Uuid::from_u128(100 + key as u128));
                (refusal(room.widen(BODIES_BYTES_PER_KEY_MAX)), room)
            })
            .collect();
        let refused: Vec<_> = others.iter().filter_map(|(refusal, _)| *refusal).collect();
        assert_eq!(refused, [AccessError::BodiesUsedUp]);
        drop((second, others));
        assert!(rooms.taken().bytes == 0 && rooms.taken().by_key.is_empty());
    }

    #[test]
    fn the_largest_body_that_the_operator_allows_has_room() {
        let limits = HttpLimits { body_bytes_max: 200 * MIB, ..HttpLimits::default() };
        assert_eq!(refusal(Rooms::new(&limits).room(Uuid::nil()).widen(200 * MIB)), None);
    }
}
