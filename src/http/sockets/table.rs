//! The clients of the namespace and the transports that are on their way into it, by what they are looked for. Never waits and never
//! closes a transport: says which ones have to go.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engineioxide::Str;
use engineioxide::socket::Sid;
use rookery_model::{EventKind, Session, SessionId, Timestamp};
use uuid::Uuid;

use super::client::{Client, Placed, TooSlow, Transport};
use super::message::{Code, Refused};
use super::subscriptions::Kinds;
use crate::auth::subscriber;
use crate::http::error::AccessError;

/// Transports whose client is not in the namespace yet. They hold a file descriptor each, and nobody vouches for them.
const STRANGERS_MAX: usize = 128;
/// Of these, transports from one address.
const STRANGERS_PER_ADDRESS_MAX: usize = 64;
/// For this long, a transport does not have to go for another one: its client's first message is on its way.
const STRANGER_TIME_MIN: Duration = Duration::from_millis(100);
/// Addresses from which the requests of one such transport may come: a client may have several ways to the daemon.
const STRANGER_ADDRESSES_MAX: usize = 4;
/// Time for a client to connect once its transport is there: some round trips.
const STRANGER_TIME_MAX: Duration = Duration::from_secs(5);
/// Messages of a client that is not in the namespace: one is needed.
const STRANGER_MESSAGES_MAX: u32 = 8;
/// Clients of one key.
pub(super) const CLIENTS_PER_KEY_MAX: usize = 16;

#[derive(Default)]
pub(super) struct Table {
    /// By numbers that grow, so oldest first.
    strangers: BTreeMap<u64, Stranger>,
    next_stranger: u64,
    clients: HashMap<Sid, Client>,
    by_session: HashMap<SessionId, HashSet<Sid>>,
    of_all: HashSet<Sid>,
    /// The number of clients of each key.
    keys: HashMap<Uuid, usize>,
    /// Clients for whom something waits.
    behind: HashSet<Sid>,
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

/// How a client sends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    Allowed,
    /// More than is answered.
    TooFast,
    /// So much that the client goes.
    Flood,
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

impl Table {
    /// A place, by its number, for a transport whose client is not in the namespace yet, and the transport that has to go for it: the
    /// oldest one of its address; of the address with the most, where that has more; or of all.
    ///
    /// # Errors
    /// [`AccessError::TooManyConnections`], [`AccessError::NoConnectionLeft`]: the oldest ones are new themselves.
    pub(super) fn reserve(&mut self, address: IpAddr, now: Instant) -> Result<(u64, Option<Transport>), AccessError> {
        let address = subscriber(address);
        let oldest = self.give_way(address, now)?;
        let gone = oldest.and_then(|number| self.strangers.remove(&number)).and_then(|stranger| stranger.transport);
        let number = self.next_stranger;
        self.next_stranger += 1;
        let stranger =
            Stranger { address, others: Vec::new(), since: now, transport: None, has_connected: false, messages: 0 };
        self.strangers.insert(number, stranger);
        Ok((number, gone))
    }

    /// The place that has to be given up for one more of this address, if any.
    fn give_way(&self, address: IpAddr, now: Instant) -> Result<Option<u64>, AccessError> {
        let is_old = |number: &u64| now - self.strangers[number].since >= STRANGER_TIME_MIN;
        let oldest_of = |address: IpAddr| {
            let mut strangers = self.strangers.iter();
            strangers.find(|(_, stranger)| stranger.address == address).map(|(number, _)| *number)
        };
        let mut counts = HashMap::<IpAddr, usize>::new();
        self.strangers.values().for_each(|stranger| *counts.entry(stranger.address).or_default() += 1);
        let own = counts.get(&address).copied().unwrap_or_default();
        if own >= STRANGERS_PER_ADDRESS_MAX {
            return oldest_of(address).filter(is_old).map(Some).ok_or(AccessError::TooManyConnections);
        }
        if self.strangers.len() < STRANGERS_MAX {
            return Ok(None);
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        match most {
            Some((crowded, count)) if count > own + 1 => Ok(oldest_of(crowded)),
            _ => {
                let oldest = self.strangers.keys().next().copied();
                oldest.filter(is_old).map(Some).ok_or(AccessError::NoConnectionLeft)
            }
        }
    }

    /// Notes that a request of a stranger's transport came from this address, which is not that of its first request.
    ///
    /// # Errors
    /// [`AccessError::TooManyConnections`]: they come from everywhere.
    pub(super) fn note_address(&mut self, place: u64, address: Option<IpAddr>) -> Result<(), AccessError> {
        let Some(stranger) = self.strangers.get_mut(&place) else { return Ok(()) };
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
        self.strangers.get(&place).map(|stranger| stranger.others.clone()).unwrap_or_default()
    }

    /// The transport of this place is there; false: its place was given away meanwhile.
    pub(super) fn arrive(&mut self, place: u64, transport: &Transport) -> bool {
        let stranger = self.strangers.get_mut(&place);
        stranger.map(|stranger| stranger.transport = Some(Arc::clone(transport))).is_some()
    }

    /// Gives a place back; whether it was still there.
    pub(super) fn give_back(&mut self, place: u64) -> bool {
        self.strangers.remove(&place).is_some()
    }

    /// Counts a message of a client that is not in the namespace, by which it may want in.
    pub(super) fn count_stranger(&mut self, place: Option<u64>, wants_in: bool) -> StrangerMay {
        let Some(stranger) = place.and_then(|place| self.strangers.get_mut(&place)) else {
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

    /// The transports whose clients had time enough to connect.
    pub(super) fn late_strangers(&self, now: Instant) -> Vec<Transport> {
        let late = self.strangers.values().filter(|stranger| now - stranger.since > STRANGER_TIME_MAX);
        late.filter_map(|stranger| stranger.transport.clone()).collect()
    }

    /// Whether there are strangers or clients.
    pub(super) fn is_empty(&self) -> bool {
        self.strangers.is_empty() && self.clients.is_empty()
    }

    /// Adds a client.
    ///
    /// # Errors
    /// [`Code::RateLimited`]: its key has as many as it may.
    pub(super) fn add(&mut self, client: Client) -> Result<(), Refused> {
        let count = self.keys.entry(client.key.id()).or_default();
        if *count >= CLIENTS_PER_KEY_MAX {
            let message = format!("Too many concurrent connections for this API key (max {CLIENTS_PER_KEY_MAX})");
            return Err(Refused::new(Code::RateLimited, message));
        }
        *count += 1;
        self.clients.insert(client.transport.id, client);
        Ok(())
    }

    /// Removes a client and all that it asked for.
    pub(super) fn remove(&mut self, transport: Sid) -> Option<Client> {
        let client = self.clients.remove(&transport)?;
        for session in client.subscriptions.sessions() {
            self.forget(session, transport);
        }
        self.of_all.remove(&transport);
        self.behind.remove(&transport);
        if let Some(count) = self.keys.get_mut(&client.key.id()) {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(&client.key.id());
            }
        }
        Some(client)
    }

    fn forget(&mut self, session: SessionId, transport: Sid) {
        if let Some(subscribers) = self.by_session.get_mut(&session) {
            subscribers.remove(&transport);
            if subscribers.is_empty() {
                self.by_session.remove(&session);
            }
        }
    }

    pub(super) fn client(&mut self, transport: Sid) -> Option<&mut Client> {
        self.clients.get_mut(&transport)
    }

    pub(super) fn clients(&mut self) -> impl Iterator<Item = &mut Client> {
        self.clients.values_mut()
    }

    /// The transport with this id, whoever's it is.
    pub(super) fn transport(&self, id: Sid) -> Option<Transport> {
        let client = self.clients.get(&id).map(|client| &client.transport);
        let mut strangers = self.strangers.values().filter_map(|stranger| stranger.transport.as_ref());
        client.or_else(|| strangers.find(|transport| transport.id == id)).cloned()
    }

    /// Every transport there is.
    pub(super) fn transports(&self) -> Vec<Transport> {
        let strangers = self.strangers.values().filter_map(|stranger| stranger.transport.as_ref());
        strangers.chain(self.clients.values().map(|client| &client.transport)).cloned().collect()
    }

    /// Counts a message of a client; `None`: there is no such client.
    pub(super) fn count(&self, transport: Sid) -> Option<Allowance> {
        let client = self.clients.get(&transport)?;
        Some(match (client.floods(), client.key.takes_message()) {
            (true, _) => Allowance::Flood,
            (false, false) => Allowance::TooFast,
            (false, true) => Allowance::Allowed,
        })
    }

    /// Subscribes a client to these kinds of events of a session, or (`None`) of all sessions, from behind this position in the log.
    ///
    /// # Errors
    /// [`Code::TooManySubscriptions`].
    pub(super) fn subscribe(
        &mut self,
        transport: Sid,
        session: Option<SessionId>,
        kinds: Kinds,
        since: u64,
    ) -> Result<(), Refused> {
        let Some(client) = self.clients.get_mut(&transport) else { return Ok(()) };
        client.subscriptions.add(session, kinds, since)?;
        match session {
            Some(session) => drop(self.by_session.entry(session).or_default().insert(transport)),
            None => drop(self.of_all.insert(transport)),
        }
        Ok(())
    }

    /// Ends what [`Self::subscribe`] began for this session, or (`None`) for all sessions.
    pub(super) fn unsubscribe(&mut self, transport: Sid, session: Option<SessionId>) {
        let Some(client) = self.clients.get_mut(&transport) else { return };
        client.subscriptions.remove(session);
        match session {
            Some(session) => self.forget(session, transport),
            None => drop(self.of_all.remove(&transport)),
        }
    }

    /// Ends the subscriptions to sessions that are not `there` any more. Returns who had which.
    pub(super) fn end_subscriptions(&mut self, there: impl Fn(SessionId) -> bool) -> Vec<(Sid, SessionId)> {
        let gone: Vec<_> = self.by_session.keys().copied().filter(|session| !there(*session)).collect();
        let had = |session: SessionId| self.by_session[&session].iter().map(move |sid| (*sid, session));
        let ended: Vec<_> = gone.into_iter().flat_map(had).collect();
        for (sid, session) in &ended {
            self.unsubscribe(*sid, Some(*session));
        }
        ended
    }

    /// Whether anybody subscribed to anything.
    pub(super) fn has_subscribers(&self) -> bool {
        !self.of_all.is_empty() || !self.by_session.is_empty()
    }

    /// Whether anybody subscribed to something of this session.
    pub(super) fn has_subscribers_of(&self, session: SessionId) -> bool {
        !self.of_all.is_empty() || self.by_session.contains_key(&session)
    }

    /// Whether anybody subscribed to this kind of event of this session.
    pub(super) fn wants(&self, session: SessionId, kind: EventKind) -> bool {
        let wants = |sid: &Sid| {
            self.clients.get(sid).is_some_and(|client| client.subscriptions.wants_since(session, kind).is_some())
        };
        self.subscribers(session).any(|sid| wants(&sid))
    }

    fn subscribers(&self, session: SessionId) -> impl Iterator<Item = Sid> {
        let of_session = self.by_session.get(&session);
        let of_all = self.of_all.iter().filter(move |sid| of_session.is_none_or(|named| !named.contains(sid)));
        of_session.into_iter().flatten().chain(of_all).copied()
    }

    /// Sends an event to all who want it and may have it. Returns the clients that are too slow for it: they are none any more.
    pub(super) fn publish(&mut self, event: &Placed<'_>, session: &Session, now: Timestamp, text: &Str) -> Vec<Client> {
        let subscribers: Vec<Sid> = self.subscribers(session.id).collect();
        let mut slow = Vec::new();
        for sid in subscribers {
            let gets = self.clients.get(&sid).is_some_and(|client| client.gets(event, session, now));
            if gets && self.send(sid, text.clone()).is_err() {
                slow.extend(self.remove(sid));
            }
        }
        slow
    }

    /// Sends a client a text behind what waits for it.
    ///
    /// # Errors
    /// [`TooSlow`].
    pub(super) fn send(&mut self, transport: Sid, text: Str) -> Result<(), TooSlow> {
        let Some(client) = self.clients.get_mut(&transport) else { return Ok(()) };
        let sent = client.send(text);
        self.note_behind(transport);
        sent
    }

    /// Sends of what waits as much as the transports take. Returns the clients that are too slow: they are none any more.
    pub(super) fn flush(&mut self) -> Vec<Client> {
        let (behind, mut slow) = (self.behind.iter().copied().collect::<Vec<_>>(), Vec::new());
        for sid in behind {
            let flushed = self.clients.get_mut(&sid).map(Client::flush);
            self.note_behind(sid);
            if flushed == Some(Err(TooSlow)) {
                slow.extend(self.remove(sid));
            }
        }
        slow
    }

    /// Whether something waits for somebody.
    pub(super) fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Whether somebody is catching up.
    pub(super) fn is_catching_up(&self) -> bool {
        self.behind.iter().any(|sid| self.clients.get(sid).is_some_and(Client::is_catching_up))
    }

    fn note_behind(&mut self, transport: Sid) {
        if self.clients.get(&transport).is_some_and(Client::is_behind) {
            self.behind.insert(transport);
        } else {
            self.behind.remove(&transport);
        }
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
        let (mut table, begin) = (Table::default(), Instant::now());
        let numbers = |table: &mut Table, from: usize, count: usize, now| -> Vec<u64> {
            (0..count).map(|_| table.reserve(address(from), now).unwrap().0).collect()
        };
        let first = numbers(&mut table, 1, STRANGERS_PER_ADDRESS_MAX, begin);
        assert_eq!(table.reserve(address(1), begin).map(drop), Err(AccessError::TooManyConnections));
        let second = numbers(&mut table, 2, STRANGERS_MAX - STRANGERS_PER_ADDRESS_MAX - 1, begin);
        // One that left makes room.
        assert!(table.give_back(second[0]) && !table.give_back(second[0]));
        numbers(&mut table, 3, 2, begin);
        // In all there are as many as there may be: the address with the most gives way at once.
        let third = numbers(&mut table, 4, 1, begin)[0];
        assert!(!table.strangers.contains_key(&first[0]) && table.strangers.contains_key(&first[1]));
        // The oldest of an address gives way to the next of the same, after a moment.
        let later = begin + STRANGER_TIME_MIN;
        numbers(&mut table, 1, 2, later);
        assert!(!table.strangers.contains_key(&second[1]) || !table.strangers.contains_key(&first[1]));
        assert!(table.strangers.contains_key(&third) && table.strangers.len() == STRANGERS_MAX);
    }

    #[test]
    fn where_all_addresses_have_one_the_oldest_gives_way_after_a_moment() {
        let (mut table, begin) = (Table::default(), Instant::now());
        let numbers: Vec<u64> = (0..STRANGERS_MAX).map(|at| table.reserve(address(at), begin).unwrap().0).collect();
        assert_eq!(table.reserve(address(200), begin).map(drop), Err(AccessError::NoConnectionLeft));
        table.reserve(address(200), begin + STRANGER_TIME_MIN).unwrap();
        assert!(!table.strangers.contains_key(&numbers[0]) && table.strangers.contains_key(&numbers[1]));
    }

    #[test]
    fn a_strangers_requests_come_from_few_addresses() {
        let mut table = Table::default();
        let place = table.reserve(address(1), Instant::now()).unwrap().0;
        for other in 0..STRANGER_ADDRESSES_MAX {
            table.note_address(place, Some(address(other))).unwrap();
            table.note_address(place, Some(address(other))).unwrap();
        }
        assert_eq!(table.note_address(place, None), Err(AccessError::TooManyConnections));
        assert_eq!(table.other_addresses(place).len(), STRANGER_ADDRESSES_MAX);
    }

    #[test]
    fn a_stranger_connects_once_and_says_little() {
        let mut table = Table::default();
        let place = Some(table.reserve(address(1), Instant::now()).unwrap().0);
        let said = [false, false, true, true, false, false, false, false, false, false];
        let may: Vec<_> = said.into_iter().map(|wants_in| table.count_stranger(place, wants_in)).collect();
        let expected =
            [[StrangerMay::Connect; 3].as_slice(), &[StrangerMay::Nothing; 5], &[StrangerMay::Go; 2]].concat();
        assert_eq!(may, expected);
        assert_eq!(table.count_stranger(None, true), StrangerMay::Nothing);
    }
}
