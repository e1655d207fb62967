//! The clients of the namespace and the transports that are on their way into it, by what they are looked for. Never waits and never
//! closes a transport: says which ones have to go.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use engineioxide::Str;
use engineioxide::socket::Sid;
use governor::{DefaultDirectRateLimiter, RateLimiter};
use rookery_actors::RateLimit;
use rookery_model::{Event, EventKind, Session, SessionId};
use uuid::Uuid;

use super::client::{Client, TooSlow, Transport};
use super::message::{Code, Refused};
use super::subscriptions::Kinds;
use crate::auth::subscriber;

/// Transports whose client is not in the namespace yet. They hold a file descriptor each, and nobody vouches for them.
const STRANGERS_MAX: usize = 64;
/// Of these, transports from one address.
const STRANGERS_PER_ADDRESS_MAX: usize = 16;
/// Clients of one key.
pub(super) const CLIENTS_PER_KEY_MAX: usize = 16;
/// Messages of one key in a second, and at once after a pause.
const FRAMES: (u32, u32) = (60, 120);
/// A client that sends this many does not listen to its replies, and goes.
const FLOOD: (u32, u32) = (600, 1_200);

#[derive(Default)]
pub(super) struct Table {
    /// Oldest first.
    strangers: VecDeque<Stranger>,
    clients: HashMap<Sid, Client>,
    by_session: HashMap<SessionId, HashSet<Sid>>,
    of_all: HashSet<Sid>,
    keys: HashMap<Uuid, Share>,
    /// Clients for whom something waits.
    behind: HashSet<Sid>,
}

struct Stranger {
    transport: Transport,
    address: IpAddr,
}

/// What the clients of one key use together.
struct Share {
    clients: usize,
    frames: DefaultDirectRateLimiter,
    flood: DefaultDirectRateLimiter,
}

/// How a client sends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Allowed,
    /// More than is answered.
    TooFast,
    /// So much that the client goes.
    Flood,
}

impl Default for Share {
    fn default() -> Self {
        let limiter = |(per_second, burst)| {
            RateLimiter::direct(RateLimit::new(per_second, Duration::from_secs(1), burst).quota())
        };
        Self { clients: 0, frames: limiter(FRAMES), flood: limiter(FLOOD) }
    }
}

impl Table {
    /// Adds a transport whose client is not in the namespace yet. Returns the transport that has to go for it: the oldest one of its
    /// address, or of all.
    pub(super) fn add_stranger(&mut self, transport: Transport, address: IpAddr) -> Option<Transport> {
        let address = subscriber(address);
        let of_address = self.strangers.iter().filter(|stranger| stranger.address == address).count();
        let oldest = if of_address >= STRANGERS_PER_ADDRESS_MAX {
            self.strangers.iter().position(|stranger| stranger.address == address)
        } else {
            (self.strangers.len() >= STRANGERS_MAX).then_some(0)
        };
        let gone = oldest.and_then(|at| self.strangers.remove(at));
        self.strangers.push_back(Stranger { transport, address });
        gone.map(|stranger| stranger.transport)
    }

    /// Whether the transport was one whose client is not in the namespace. It is none any more.
    pub(super) fn remove_stranger(&mut self, transport: Sid) -> bool {
        let at = self.strangers.iter().position(|stranger| stranger.transport.id == transport);
        at.and_then(|at| self.strangers.remove(at)).is_some()
    }

    pub(super) fn is_stranger(&self, transport: Sid) -> bool {
        self.strangers.iter().any(|stranger| stranger.transport.id == transport)
    }

    /// Adds a client.
    ///
    /// # Errors
    /// [`Code::RateLimited`]: its key has as many as it may.
    pub(super) fn add(&mut self, client: Client) -> Result<(), Refused> {
        let share = self.keys.entry(client.key.id()).or_default();
        if share.clients >= CLIENTS_PER_KEY_MAX {
            let message = format!("Too many concurrent connections for this API key (max {CLIENTS_PER_KEY_MAX})");
            return Err(Refused::new(Code::RateLimited, message));
        }
        share.clients += 1;
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
        if let Some(share) = self.keys.get_mut(&client.key.id()) {
            share.clients -= 1;
            if share.clients == 0 {
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
        let strangers = self.strangers.iter().map(|stranger| &stranger.transport);
        client.or_else(|| strangers.into_iter().find(|transport| transport.id == id)).cloned()
    }

    /// Every transport there is.
    pub(super) fn transports(&self) -> Vec<Transport> {
        let strangers = self.strangers.iter().map(|stranger| &stranger.transport);
        strangers.chain(self.clients.values().map(|client| &client.transport)).cloned().collect()
    }

    /// Counts a message of a client; `None`: there is no such client.
    pub(super) fn count(&self, transport: Sid) -> Option<Pace> {
        let share = self.keys.get(&self.clients.get(&transport)?.key.id())?;
        Some(match (share.flood.check().is_ok(), share.frames.check().is_ok()) {
            (false, _) => Pace::Flood,
            (true, false) => Pace::TooFast,
            (true, true) => Pace::Allowed,
        })
    }

    /// Subscribes a client to these kinds of events of a session, or (`None`) of all sessions.
    ///
    /// # Errors
    /// [`Code::TooManySubscriptions`].
    pub(super) fn subscribe(
        &mut self,
        transport: Sid,
        session: Option<SessionId>,
        kinds: Kinds,
    ) -> Result<(), Refused> {
        let Some(client) = self.clients.get_mut(&transport) else { return Ok(()) };
        client.subscriptions.add(session, kinds)?;
        match session {
            Some(session) => drop(self.by_session.entry(session).or_default().insert(transport)),
            None if client.subscriptions.has_all() => drop(self.of_all.insert(transport)),
            None => {}
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
        let wants = |sid: &Sid| self.clients.get(sid).is_some_and(|client| client.subscriptions.wants(session, kind));
        self.subscribers(session).any(|sid| wants(&sid))
    }

    fn subscribers(&self, session: SessionId) -> impl Iterator<Item = Sid> {
        let of_session = self.by_session.get(&session);
        let of_all = self.of_all.iter().filter(move |sid| of_session.is_none_or(|named| !named.contains(sid)));
        of_session.into_iter().flatten().chain(of_all).copied()
    }

    /// Sends an event to all who want it and may have it. Returns the transports that are too slow for it.
    pub(super) fn publish(&mut self, event: &Event, session: &Session, text: &Str) -> Vec<Transport> {
        let subscribers: Vec<Sid> = self.subscribers(event.session).collect();
        let mut slow = Vec::new();
        for sid in subscribers {
            let gets = self.clients.get(&sid).is_some_and(|client| client.gets(event, session));
            if gets && self.send(sid, text.clone()).is_err() {
                slow.extend(self.remove(sid).map(|client| client.transport));
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

    /// Sends of what waits as much as the transports take. Returns those that are too slow.
    pub(super) fn flush(&mut self) -> Vec<Transport> {
        let (behind, mut slow) = (self.behind.iter().copied().collect::<Vec<_>>(), Vec::new());
        for sid in behind {
            let flushed = self.clients.get_mut(&sid).map(Client::flush);
            self.note_behind(sid);
            if flushed == Some(Err(TooSlow)) {
                slow.extend(self.remove(sid).map(|client| client.transport));
            }
        }
        slow
    }

    /// Whether something waits for somebody.
    pub(super) fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    fn note_behind(&mut self, transport: Sid) {
        if self.clients.get(&transport).is_some_and(Client::is_behind) {
            self.behind.insert(transport);
        } else {
            self.behind.remove(&transport);
        }
    }
}
