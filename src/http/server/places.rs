//! The open connections: how long each has kept the daemon waiting, and which one has to go when places run out. Never
//! reads or writes a connection.
//!
//! | state of a connection | may be given away |
//! |---|---|
//! | idle: between requests, or before the first, however much of a head is there | at once |
//! | its body arrives, or its answer waits to be read | when that has taken a while |
//! | the daemon works for it | never |
//!
//! The connection that has waited longest goes. Connections that never sent a valid key, the strangers, have half of
//! the places: a stranger drives out a stranger, and one of the others only where these have more than their own half.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::auth::subscriber;
use crate::http::error::AccessError;
use crate::http::limits::CUT_OFF_TIME_MIN;

/// How many connections there may be.
#[derive(Copy, Clone, Debug)]
pub(super) struct Capacity {
    all: usize,
    /// Of these, connections that never sent a valid key.
    strangers: usize,
    /// Of these, connections from one address.
    per_address: usize,
}

/// All connections.
pub(super) struct Places {
    capacity: Capacity,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    next_id: u64,
    places: HashMap<u64, Arc<Place>>,
    strangers: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The place of one connection, for the task that serves it.
pub(crate) struct Place {
    places: Arc<Places>,
    id: u64,
    address: IpAddr,
    state: Mutex<State>,
    given_away: Notify,
    is_malformed: AtomicBool,
    /// The connection is a websocket now.
    is_upgraded: AtomicBool,
}

struct State {
    /// The connection sent a valid key once.
    is_known: bool,
    doing: Doing,
    /// Since when an answer waits for the client to read.
    unread_since: Option<Instant>,
}

#[derive(Copy, Clone)]
enum Doing {
    Idle { since: Instant },
    Receiving { since: Instant },
    Working,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Whose {
    /// A connection that never sent a valid key.
    Stranger,
    Known,
}

/// Holds a place; gives it back when dropped.
pub(super) struct Entered(Arc<Place>);

impl Capacity {
    /// Half of all is for strangers, which every client is before its first request.
    pub(super) fn of(all: usize, per_address: usize) -> Self {
        Self { all, strangers: all.div_ceil(2), per_address }
    }

    /// The same limit for everybody.
    pub(super) fn unshared(all: usize) -> Self {
        Self { all, strangers: all, per_address: all }
    }
}

impl Places {
    pub(super) fn new(capacity: Capacity) -> Arc<Self> {
        Arc::new(Self { capacity, book: Mutex::default() })
    }

    /// A place for a connection from this address, if need be taken from another one. `is_proxy`: the address has no
    /// share of its own.
    ///
    /// # Errors
    /// [`AccessError::TooManyConnections`], or [`AccessError::NoConnectionLeft`] when the daemon works for all others.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, is_proxy: bool) -> Result<Entered, AccessError> {
        let now = Instant::now();
        let mut book = self.book();
        let of_address = book.by_address.get(&subscriber(address)).copied().unwrap_or_default();
        if of_address >= self.capacity.per_address && !is_proxy {
            return Err(AccessError::TooManyConnections);
        }
        let Capacity { all, strangers, .. } = self.capacity;
        if book.strangers >= strangers && !book.give_away(now, Whose::Stranger) {
            return Err(AccessError::NoConnectionLeft);
        }
        if book.places.len() >= all {
            // The kind with more than its half gives way first.
            let is_known_first = book.places.len() - book.strangers > all - strangers;
            let mut order = [Whose::Stranger, Whose::Known];
            if is_known_first {
                order.reverse();
            }
            if !order.into_iter().any(|whose| book.give_away(now, whose)) {
                return Err(AccessError::NoConnectionLeft);
            }
        }
        let id = book.next_id;
        book.next_id += 1;
        let state = State { is_known: false, doing: Doing::Idle { since: now }, unread_since: None };
        let place = Arc::new(Place {
            places: Arc::clone(self),
            id,
            address,
            state: Mutex::new(state),
            given_away: Notify::new(),
            is_malformed: AtomicBool::new(false),
            is_upgraded: AtomicBool::new(false),
        });
        book.places.insert(id, Arc::clone(&place));
        book.strangers += 1;
        *book.by_address.entry(subscriber(address)).or_default() += 1;
        Ok(Entered(place))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Gives away the place that has waited longest; returns whether there was one. Checks every place.
    fn give_away(&mut self, now: Instant, whose: Whose) -> bool {
        let candidates = self.places.values().filter_map(|place| {
            let state = place.state();
            let since = state.waits_since(now).filter(|_| state.is_known == (whose == Whose::Known));
            since.map(|since| (since, place))
        });
        let Some((_, place)) = candidates.min_by_key(|(since, place)| (*since, place.id)) else { return false };
        let place = Arc::clone(place);
        self.remove(&place);
        place.given_away.notify_one();
        true
    }

    /// Does nothing when the place was given away before.
    fn remove(&mut self, place: &Place) {
        if self.places.remove(&place.id).is_none() {
            return;
        }
        if !place.state().is_known {
            self.strangers -= 1;
        }
        let address = subscriber(place.address);
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl State {
    /// Since when the connection keeps the daemon waiting; `None` when its place may not be given away.
    fn waits_since(&self, now: Instant) -> Option<Instant> {
        let long_enough = |since: Instant| (now - since >= CUT_OFF_TIME_MIN).then_some(since);
        match (self.unread_since, self.doing) {
            (Some(since), _) | (None, Doing::Receiving { since }) => long_enough(since),
            (None, Doing::Idle { since }) => Some(since),
            (None, Doing::Working) => None,
        }
    }
}

impl Place {
    /// The address at the other end.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// Notes that the connection sent a valid key.
    pub(crate) fn note_known(&self) {
        if self.state().is_known {
            return;
        }
        let mut book = self.places.book();
        let mut state = self.state();
        if !std::mem::replace(&mut state.is_known, true) && book.places.contains_key(&self.id) {
            book.strangers -= 1;
        }
    }

    /// Notes that a request has arrived: the daemon works for it now.
    pub(super) fn begin(&self) {
        self.state().doing = Doing::Working;
    }

    /// Notes that the daemon waits for the request's body.
    pub(crate) fn receives(&self) {
        self.state().doing = Doing::Receiving { since: Instant::now() };
    }

    /// Notes that the request's body has arrived.
    pub(crate) fn received(&self) {
        self.state().doing = Doing::Working;
    }

    /// Notes that the request has its response, or is about to have it.
    pub(super) fn done(&self) {
        self.state().doing = Doing::Idle { since: Instant::now() };
    }

    /// Notes that the client took some of a response.
    pub(super) fn note_written(&self) {
        let mut state = self.state();
        state.unread_since = None;
        if let Doing::Idle { since } = &mut state.doing {
            *since = Instant::now();
        }
    }

    /// Notes that the client does not take the rest of a response now.
    pub(super) fn note_unread(&self) {
        self.state().unread_since.get_or_insert_with(Instant::now);
    }

    /// Notes that a head had lines with a wrong ending.
    pub(super) fn note_malformed(&self) {
        self.is_malformed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_malformed(&self) -> bool {
        self.is_malformed.load(Ordering::Relaxed)
    }

    /// Notes that no more requests come over this connection: it is a websocket from now on.
    pub(super) fn note_upgraded(&self) {
        self.is_upgraded.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.is_upgraded.load(Ordering::Relaxed)
    }

    /// Whether nobody at the other end waits for an answer.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        matches!(state.doing, Doing::Idle { .. }) && state.unread_since.is_none()
    }

    /// Whether the daemon works for a request of the connection.
    pub(super) fn is_worked_for(&self) -> bool {
        matches!(self.state().doing, Doing::Working)
    }

    /// Gives the place back: the connection is a stream from now on, which has a limit of its own.
    pub(crate) fn leave(&self) {
        self.places.book().remove(self);
    }

    /// Resolves when the place was given to another connection.
    pub(super) async fn given_away(&self) {
        self.given_away.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entered {
    pub(super) fn place(&self) -> &Arc<Place> {
        &self.0
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.places.book().remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> IpAddr {
        [127, 0, 0, last].into()
    }

    /// The indexes of the connections whose places are given away already.
    async fn gone(all: &[&Entered]) -> Vec<usize> {
        let mut gone = Vec::new();
        for (at, entered) in all.iter().enumerate() {
            if !entered.place().places.book().places.contains_key(&entered.place().id) {
                entered.place().given_away().await;
                gone.push(at);
            }
        }
        gone
    }

    async fn tick() {
        tokio::time::advance(Duration::from_millis(100)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_stranger_who_waited_longest_goes_and_who_sent_a_key_stays() {
        let places = Places::new(Capacity::of(4, 4));
        let known = places.enter(address(1), false).unwrap();
        known.place().note_known();
        tick().await;
        let first = places.enter(address(2), false).unwrap();
        tick().await;
        let second = places.enter(address(3), false).unwrap();
        tick().await;
        let third = places.enter(address(4), false).unwrap();
        assert_eq!(gone(&[&known, &first, &second, &third]).await, [1], "half is for strangers");
        second.place().begin();
        let fourth = places.enter(address(4), false).unwrap();
        assert_eq!(gone(&[&known, &second, &third]).await, [2], "one that is worked for stays");
        fourth.place().begin();
        assert_eq!(places.enter(address(5), false).err(), Some(AccessError::NoConnectionLeft));
        second.place().done();
        let fifth = places.enter(address(5), false).unwrap();
        assert_eq!(gone(&[&known, &second]).await, [1]);
        drop((known, first, second, third, fourth, fifth));
        let book = places.book();
        assert_eq!((book.places.len(), book.strangers, book.by_address.len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn known_ones_that_are_idle_give_way_down_to_their_half() {
        let places = Places::new(Capacity::of(4, 9));
        let mut known = Vec::new();
        for _ in 0..4 {
            let entered = places.enter(address(1), false).unwrap();
            entered.place().note_known();
            known.push(entered);
            tick().await;
        }
        known[0].place().begin();
        let strangers: Vec<_> = (0..5).map(|_| places.enter(address(2), false).unwrap()).collect();
        assert_eq!(gone(&known.iter().collect::<Vec<_>>()).await, [1, 2]);
        assert_eq!(gone(&strangers.iter().collect::<Vec<_>>()).await, [0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_a_body_or_an_answer_waiting_for_long_can_be_cut_off() {
        for is_body in [true, false] {
            let places = Places::new(Capacity::unshared(1));
            let slow = places.enter(address(1), false).unwrap();
            slow.place().begin();
            if is_body {
                slow.place().receives()
            } else {
                slow.place().note_unread()
            }
            assert!(places.enter(address(2), false).is_err(), "it has just begun");
            tokio::time::advance(CUT_OFF_TIME_MIN).await;
            if is_body {
                slow.place().received()
            } else {
                slow.place().note_written()
            }
            assert!(places.enter(address(2), false).is_err(), "it went on");
            if is_body {
                slow.place().receives()
            } else {
                slow.place().note_unread()
            }
            tokio::time::advance(CUT_OFF_TIME_MIN).await;
            assert!(places.enter(address(2), false).is_ok());
        }
    }

    #[test]
    fn an_address_has_its_share_and_a_proxy_has_none() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _guard = runtime.enter();
        let places = Places::new(Capacity::of(100, 2));
        let mut mine = vec![places.enter(address(1), false).unwrap(), places.enter(address(1), false).unwrap()];
        assert_eq!(places.enter(address(1), false).err(), Some(AccessError::TooManyConnections));
        mine.push(places.enter(address(1), true).unwrap());
        assert!(places.enter(address(2), false).is_ok());
        mine.clear();
        assert!(places.enter(address(1), false).is_ok());
        let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
        let _two = [places.enter(v6("2001:db8::1"), false).unwrap(), places.enter(v6("2001:db8::2"), false).unwrap()];
        assert!(places.enter(v6("2001:db8::3"), false).is_err() && places.enter(v6("2001:db8:0:1::"), false).is_ok());
    }
}
