//! One client in the namespace: its key, what it subscribed to, and what waits until it takes more. Decides nothing about keys.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use engineioxide::{Socket, Str};
use governor::{DefaultDirectRateLimiter, RateLimiter};
use rookery_actors::RateLimit;
use rookery_model::{Event, Session, Timestamp};
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use super::subscriptions::Subscriptions;
use crate::app::StreamPermit;
use crate::auth::{Key, Secret};

/// Texts that wait for one client beside those in its transport: what sessions tell at once after they were away, and the replies to as
/// many subscriptions as a client may have.
const WAITING_MAX: usize = 4_096;
/// Their bytes. Clients that want the same events share them.
const WAITING_BYTES_MAX: usize = 512 * 1024;
/// For how long a client may take nothing while something waits.
const STUCK_TIME_MAX: Duration = Duration::from_secs(10);
/// A client that took something in this time is catching up: it gets a moment before there is more.
const CATCHING_UP_TIME: Duration = Duration::from_millis(100);

/// A client that sends more messages than this, in a second and at once, does not listen to its replies, and goes. At once it may say
/// all its subscriptions, although most are told that they come too fast.
const FLOOD: (u32, u32) = (600, 4_096);

/// The connection of a client, whatever it is made of, and whether it tried to become a websocket.
pub(super) type Transport = Arc<Socket<AtomicBool>>;

/// The client takes less than there is for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooSlow;

pub(super) struct Client {
    pub(super) transport: Transport,
    /// As it was when it was last looked at.
    pub(super) key: Arc<Key>,
    pub(super) secret: Secret,
    pub(super) address: Option<IpAddr>,
    pub(super) subscriptions: Subscriptions,
    waiting: Waiting,
    flood: DefaultDirectRateLimiter,
    _permit: StreamPermit,
}

/// An event and its position in the whole log.
pub(super) struct Placed<'a> {
    pub(super) at: u64,
    pub(super) event: &'a Event,
}

/// What waits until the transport takes more, in order.
#[derive(Default)]
struct Waiting {
    texts: VecDeque<Str>,
    bytes: usize,
    /// When the transport last took something, or the first text began to wait.
    since: Option<Instant>,
}

impl Client {
    pub(super) fn new(
        transport: Transport,
        key: Arc<Key>,
        secret: Secret,
        address: Option<IpAddr>,
        permit: StreamPermit,
    ) -> Self {
        let (subscriptions, waiting) = (Subscriptions::default(), Waiting::default());
        let (per_second, burst) = FLOOD;
        let flood = RateLimiter::direct(RateLimit::new(per_second, Duration::from_secs(1), burst).quota());
        Self { transport, key, secret, address, subscriptions, waiting, flood, _permit: permit }
    }

    /// Whether the client asked for this event and may have it, as its session is now.
    pub(super) fn gets(&self, event: &Placed<'_>, session: &Session, now: Timestamp) -> bool {
        let Placed { at, event } = event;
        let may_have = self.key.is_usable(now) && self.key.sees(session) && self.key.sees_event(event);
        may_have && self.subscriptions.wants_since(event.session, event.kind).is_some_and(|since| *at > since)
    }

    /// Counts a message; whether that makes a flood.
    pub(super) fn floods(&self) -> bool {
        self.flood.check().is_err()
    }

    /// Sends a text behind those that wait. Never waits.
    ///
    /// # Errors
    /// [`TooSlow`].
    pub(super) fn send(&mut self, text: Str) -> Result<(), TooSlow> {
        self.flush()?;
        self.waiting.send(text, |text| emit(&self.transport, text))
    }

    /// Sends of what waits as much as the transport takes.
    ///
    /// # Errors
    /// [`TooSlow`].
    pub(super) fn flush(&mut self) -> Result<(), TooSlow> {
        self.waiting.flush(|text| emit(&self.transport, text))
    }

    /// Whether something waits.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.texts.is_empty()
    }

    /// Whether something waits, and the client took something, or began to be behind, a moment ago.
    pub(super) fn is_catching_up(&self) -> bool {
        self.waiting.since.is_some_and(|since| since.elapsed() < CATCHING_UP_TIME)
    }
}

/// Gives the transport a text; gives it back where there is no room. One place stays free, as the transport's own ping ends it when
/// there is none. A closed transport takes everything, as `Namespace::on_disconnect` removes its client.
fn emit(transport: &Transport, text: Str) -> Option<Str> {
    let free = match transport.reserve() {
        Ok(free) => free,
        Err(TrySendError::Full(())) => return Some(text),
        Err(TrySendError::Closed(())) => return None,
    };
    let left = match transport.reserve() {
        Ok(place) => {
            place.emit(text);
            None
        }
        Err(TrySendError::Full(())) => Some(text),
        Err(TrySendError::Closed(())) => None,
    };
    drop(free);
    left
}

impl Waiting {
    fn send(&mut self, text: Str, mut emit: impl FnMut(Str) -> Option<Str>) -> Result<(), TooSlow> {
        let left = if self.texts.is_empty() { emit(text) } else { Some(text) };
        let Some(left) = left else { return Ok(()) };
        if self.texts.len() >= WAITING_MAX || self.bytes + left.len() > WAITING_BYTES_MAX {
            return Err(TooSlow);
        }
        self.since.get_or_insert_with(Instant::now);
        self.bytes += left.len();
        self.texts.push_back(left);
        Ok(())
    }

    fn flush(&mut self, mut emit: impl FnMut(Str) -> Option<Str>) -> Result<(), TooSlow> {
        while let Some(text) = self.texts.pop_front() {
            let bytes = text.len();
            if let Some(left) = emit(text) {
                self.texts.push_front(left);
                break;
            }
            self.bytes -= bytes;
            self.since = Some(Instant::now());
        }
        if self.texts.is_empty() {
            *self = Self::default();
        }
        let is_stuck = self.since.is_some_and(|since| since.elapsed() > STUCK_TIME_MAX);
        if is_stuck { Err(TooSlow) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A transport that takes so many texts.
    fn takes<'a>(room: &'a mut usize, taken: &'a mut Vec<String>) -> impl FnMut(Str) -> Option<Str> {
        move |text| {
            if *room == 0 {
                return Some(text);
            }
            *room -= 1;
            taken.push(text.to_string());
            None
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_stays_in_order_and_goes_when_there_is_room() {
        let (mut waiting, mut taken, mut room) = (Waiting::default(), Vec::new(), 2);
        for number in 0..5 {
            waiting.send(format!("{number}").into(), takes(&mut room, &mut taken)).unwrap();
        }
        assert_eq!((taken.clone(), waiting.texts.len(), waiting.bytes), (vec!["0".to_owned(), "1".to_owned()], 3, 3));
        room = 2;
        waiting.flush(takes(&mut room, &mut taken)).unwrap();
        waiting.send("5".to_owned().into(), takes(&mut room, &mut taken)).unwrap();
        room = 9;
        waiting.flush(takes(&mut room, &mut taken)).unwrap();
        assert_eq!((taken.join(""), waiting.texts.len(), waiting.bytes), ("012345".to_owned(), 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_too_slow_by_time_by_number_and_by_bytes() {
        let none = |text: Str| Some(text);
        let mut waiting = Waiting::default();
        waiting.send("a".to_owned().into(), none).unwrap();
        tokio::time::advance(STUCK_TIME_MAX).await;
        waiting.flush(none).unwrap();
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(waiting.flush(none), Err(TooSlow));

        let mut waiting = Waiting::default();
        (0..WAITING_MAX).for_each(|_| waiting.send("a".to_owned().into(), none).unwrap());
        assert_eq!(waiting.send("a".to_owned().into(), none), Err(TooSlow));

        let mut waiting = Waiting::default();
        waiting.send("a".repeat(WAITING_BYTES_MAX).into(), none).unwrap();
        assert_eq!(waiting.send("a".to_owned().into(), none), Err(TooSlow));
    }
}
