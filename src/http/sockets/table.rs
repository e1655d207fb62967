//! The clients of the namespace, by what they are looked for, and the transports that are on their way into it. Never waits and never
//! closes a transport: says which ones have to go.

use std::collections::{HashMap, HashSet};

use engineioxide::Str;
use engineioxide::socket::Sid;
use rookery_model::{EventKind, Session, SessionId, Timestamp};
use uuid::Uuid;

use super::client::{Client, Placed, TooSlow, Transport};
use super::message::{Code, Refused};
use super::strangers::Strangers;
use super::subscriptions::Kinds;

/// Clients of one key.
pub(super) const CLIENTS_PER_KEY_MAX: usize = 16;

#[derive(Default)]
pub(super) struct Table {
    pub(super) strangers: Strangers,
    clients: HashMap<Sid, Client>,
    by_session: HashMap<SessionId, HashSet<Sid>>,
    of_all: HashSet<Sid>,
    /// The number of clients of each key.
    keys: HashMap<Uuid, usize>,
    /// Clients for whom something waits.
    behind: HashSet<Sid>,
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

impl Table {
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
        let mut strangers = self.strangers.transports();
        client.or_else(|| strangers.find(|transport| transport.id == id)).cloned()
    }

    /// Every transport there is.
    pub(super) fn transports(&self) -> Vec<Transport> {
        let strangers = self.strangers.transports();
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
