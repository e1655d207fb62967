//! Transports whose client is not in the namespace yet. They hold a file descriptor each, and nobody vouches for them: there are few,
//! in all and from one address, and they give way to each other. Never closes one: says which one has to go.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::Transport;
use crate::auth::subscriber;
use crate::http::error::AccessError;

/// Strangers in all.
const STRANGERS_MAX: usize = 128;
/// Of these, from one address.
const STRANGERS_PER_ADDRESS_MAX: usize = 64;
/// For this long, a transport does not have to go for another one: its client's first message is on its way.
const STRANGER_TIME_MIN: Duration = Duration::from_millis(100);
/// Addresses from which the requests of one such transport may come: a client may have several ways to the daemon.
const STRANGER_ADDRESSES_MAX: usize = 4;
/// Time for a client to connect once its transport is there: some round trips.
const STRANGER_TIME_MAX: Duration = Duration::from_secs(5);
/// Messages of a client that is not in the namespace: one is needed.
const STRANGER_MESSAGES_MAX: u32 = 8;

#[derive(Default)]
pub(super) struct Strangers {
    /// By numbers that grow, so oldest first.
    by_number: BTreeMap<u64, Stranger>,
    next: u64,
}

struct Stranger {
    address: IpAddr,
    /// Addresses, as far as they are known, that requests of the transport came from beside the first one.
    others: Vec<Option<IpAddr>>,
    since: Instant,
    /// `None` until the transport is there.
    transport: Option<Transport>,
    /// The client has connected, and was refused or is being looked at.
    has_connected: bool,
    /// Messages that it sent.
    messages: u32,
}

/// What follows from a message of a client that is not in the namespace.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum StrangerMay {
    /// It may connect, if it wants to.
    Connect,
    /// It was refused, or is leaving: nothing follows.
    Nothing,
    /// It says too much.
    Go,
}

impl Strangers {
    /// A place, by its number, for a transport whose client is not in the namespace yet, and the transport that has to go for it: the
    /// oldest one of its address; of the address with the most, where that has more; or of all.
    ///
    /// # Errors
    /// [`AccessError::TooManyConnections`], [`AccessError::NoConnectionLeft`]: the oldest ones are new themselves.
    pub(super) fn reserve(&mut self, address: IpAddr, now: Instant) -> Result<(u64, Option<Transport>), AccessError> {
        let address = subscriber(address);
        let oldest = self.give_way(address, now)?;
        let gone = oldest.and_then(|number| self.by_number.remove(&number)).and_then(|stranger| stranger.transport);
        let number = self.next;
        self.next += 1;
        let stranger =
            Stranger { address, others: Vec::new(), since: now, transport: None, has_connected: false, messages: 0 };
        self.by_number.insert(number, stranger);
        Ok((number, gone))
    }

    /// The place that has to be given up for one more of this address, if any.
    fn give_way(&self, address: IpAddr, now: Instant) -> Result<Option<u64>, AccessError> {
        let is_old = |number: &u64| now - self.by_number[number].since >= STRANGER_TIME_MIN;
        let oldest_of = |address: IpAddr| {
            let mut strangers = self.by_number.iter();
            strangers.find(|(_, stranger)| stranger.address == address).map(|(number, _)| *number)
        };
        let mut counts = HashMap::<IpAddr, usize>::new();
        self.by_number.values().for_each(|stranger| *counts.entry(stranger.address).or_default() += 1);
        let own = counts.get(&address).copied().unwrap_or_default();
        if own >= STRANGERS_PER_ADDRESS_MAX {
            return oldest_of(address).filter(is_old).map(Some).ok_or(AccessError::TooManyConnections);
        }
        if self.by_number.len() < STRANGERS_MAX {
            return Ok(None);
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        match most {
            Some((crowded, count)) if count > own + 1 => Ok(oldest_of(crowded)),
            _ => {
                let oldest = self.by_number.keys().next().copied();
                oldest.filter(is_old).map(Some).ok_or(AccessError::NoConnectionLeft)
            }
        }
    }

    /// Notes that a request of a stranger's transport came from this address, which is not that of its first request.
    ///
    /// # Errors
    /// [`AccessError::TooManyConnections`]: they come from everywhere.
    pub(super) fn note_address(&mut self, place: u64, address: Option<IpAddr>) -> Result<(), AccessError> {
        let Some(stranger) = self.by_number.get_mut(&place) else { return Ok(()) };
        if stranger.others.contains(&address) {
            return Ok(());
        }
        if stranger.others.len() >= STRANGER_ADDRESSES_MAX {
            return Err(AccessError::TooManyConnections);
        }
        stranger.others.push(address);
        Ok(())
    }

    /// The addresses that [`Self::note_address`] noted.
    pub(super) fn other_addresses(&self, place: u64) -> Vec<Option<IpAddr>> {
        self.by_number.get(&place).map(|stranger| stranger.others.clone()).unwrap_or_default()
    }

    /// The transport of this place is there; false: its place was given away meanwhile.
    pub(super) fn arrive(&mut self, place: u64, transport: &Transport) -> bool {
        let stranger = self.by_number.get_mut(&place);
        stranger.map(|stranger| stranger.transport = Some(Arc::clone(transport))).is_some()
    }

    /// Gives a place back; whether it was still there.
    pub(super) fn give_back(&mut self, place: u64) -> bool {
        self.by_number.remove(&place).is_some()
    }

    /// Counts a message of a client that is not in the namespace, by which it may want in.
    pub(super) fn count(&mut self, place: Option<u64>, wants_in: bool) -> StrangerMay {
        let Some(stranger) = place.and_then(|place| self.by_number.get_mut(&place)) else {
            return StrangerMay::Nothing;
        };
        stranger.messages += 1;
        if stranger.messages > STRANGER_MESSAGES_MAX {
            return StrangerMay::Go;
        }
        if stranger.has_connected {
            return StrangerMay::Nothing;
        }
        stranger.has_connected = wants_in;
        StrangerMay::Connect
    }

    /// The transports that are there.
    pub(super) fn transports(&self) -> impl Iterator<Item = &Transport> {
        self.by_number.values().filter_map(|stranger| stranger.transport.as_ref())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// The transports whose clients had time enough to connect.
    pub(super) fn late(&self, now: Instant) -> Vec<Transport> {
        let late = self.by_number.values().filter(|stranger| now - stranger.since > STRANGER_TIME_MAX);
        late.filter_map(|stranger| stranger.transport.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: usize) -> IpAddr {
        [10, 0, 0, u8::try_from(last).unwrap()].into()
    }

    #[test]
    fn strangers_have_a_number_by_address_and_in_all_and_give_way_when_they_had_a_moment() {
        let (mut strangers, begin) = (Strangers::default(), Instant::now());
        let numbers = |strangers: &mut Strangers, from: usize, count: usize, now| -> Vec<u64> {
            (0..count).map(|_| strangers.reserve(address(from), now).unwrap().0).collect()
        };
        let first = numbers(&mut strangers, 1, STRANGERS_PER_ADDRESS_MAX, begin);
        assert_eq!(strangers.reserve(address(1), begin).map(drop), Err(AccessError::TooManyConnections));
        let second = numbers(&mut strangers, 2, STRANGERS_MAX - STRANGERS_PER_ADDRESS_MAX - 1, begin);
        // One that left makes room.
        assert!(strangers.give_back(second[0]) && !strangers.give_back(second[0]));
        numbers(&mut strangers, 3, 2, begin);
        // In all there are as many as there may be: the address with the most gives way at once.
        let third = numbers(&mut strangers, 4, 1, begin)[0];
        assert!(!strangers.by_number.contains_key(&first[0]) && strangers.by_number.contains_key(&first[1]));
        // To the address with the most, the oldest ones give way, after a moment.
        numbers(&mut strangers, 1, 2, begin + STRANGER_TIME_MIN);
        let is_there = |number: u64| strangers.by_number.contains_key(&number);
        assert_eq!([first[1], first[2], first[3], second[1], third].map(is_there), [false, false, true, true, true]);
        assert_eq!(strangers.by_number.len(), STRANGERS_MAX);
    }

    #[test]
    fn where_all_addresses_have_one_the_oldest_gives_way_after_a_moment() {
        let (mut strangers, begin) = (Strangers::default(), Instant::now());
        let numbers: Vec<u64> = (0..STRANGERS_MAX).map(|at| strangers.reserve(address(at), begin).unwrap().0).collect();
        assert_eq!(strangers.reserve(address(200), begin).map(drop), Err(AccessError::NoConnectionLeft));
        strangers.reserve(address(200), begin + STRANGER_TIME_MIN).unwrap();
        assert!(!strangers.by_number.contains_key(&numbers[0]) && strangers.by_number.contains_key(&numbers[1]));
    }

    #[test]
    fn a_strangers_requests_come_from_few_addresses() {
        let mut strangers = Strangers::default();
        let place = strangers.reserve(address(1), Instant::now()).unwrap().0;
        for other in 0..STRANGER_ADDRESSES_MAX {
            strangers.note_address(place, Some(address(other))).unwrap();
            strangers.note_address(place, Some(address(other))).unwrap();
        }
        assert_eq!(strangers.note_address(place, None), Err(AccessError::TooManyConnections));
        assert_eq!(strangers.other_addresses(place).len(), STRANGER_ADDRESSES_MAX);
    }

    #[test]
    fn a_stranger_connects_once_and_says_little() {
        let mut strangers = Strangers::default();
        let place = Some(strangers.reserve(address(1), Instant::now()).unwrap().0);
        let said = [false, false, true, true, false, false, false, false, false, false];
        let may: Vec<_> = said.into_iter().map(|wants_in| strangers.count(place, wants_in)).collect();
        let expected =
            [[StrangerMay::Connect; 3].as_slice(), &[StrangerMay::Nothing; 5], &[StrangerMay::Go; 2]].concat();
        assert_eq!(may, expected);
        assert_eq!(strangers.count(None, true), StrangerMay::Nothing);
    }
}
