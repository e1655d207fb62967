//! Permits to connect: how many connects start per second over all sessions, and how many are under way at once over
//! the sessions that share a way to WhatsApp. A permit is taken before a connect begins and ends when the connect has
//! succeeded or failed.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};
use wacore::types::events::Event;

use super::reconnects::Reconnects;

/// The engine bounds a connect at 20 s and the log-in after it at about 10 s.
const PERMIT_TIME_MAX: Duration = Duration::from_secs(30);
/// Waiting sessions are notified at most this often that another session has connected: thousands may wait.
const NEWS_INTERVAL: Duration = Duration::from_secs(1);

/// Hands out permits to connect. One for each way to WhatsApp: a proxy that hangs keeps the others' sessions from
/// nothing.
pub(crate) struct ConnectThrottle {
    connecting: Arc<Semaphore>,
    at_once: usize,
    /// Held by the session of this way that waits for the daemon's rate: the proxies take turns.
    turn: tokio::sync::Mutex<()>,
    /// The same over all proxies: sessions without a proxy get every second start, however many proxies there are.
    class_turn: Arc<tokio::sync::Mutex<()>>,
    /// Of the ways through proxies.
    proxies_turn: Arc<tokio::sync::Mutex<()>>,
    rate: Arc<Rate>,
    /// When a session last connected to WhatsApp this way.
    answered_at: watch::Sender<Option<Instant>>,
}

/// The daemon's connects per second.
struct Rate {
    period: Duration,
    /// The earliest start of the next connect. The next session to start holds the lock while it waits for this time:
    /// first come, first served, and a session that gives up uses no start.
    next: tokio::sync::Mutex<Instant>,
}

/// One session's permit: kept while it connects.
pub(crate) struct ConnectPermit {
    throttle: Arc<ConnectThrottle>,
    state: Mutex<PermitState>,
    /// The engine is to end: nobody waits for a permit any more.
    closed: watch::Sender<bool>,
    /// WhatsApp has not answered a keepalive yet.
    doubted: watch::Sender<bool>,
}

#[derive(Default)]
pub(crate) struct PermitState {
    permit: Option<OwnedSemaphorePermit>,
    /// The permit is for a connect that has not begun.
    fresh: bool,
    /// Which connect this is.
    number: u64,
    pub(crate) reconnects: Reconnects,
    /// The session knows that it is not connected.
    pub(crate) told_lost: bool,
    /// Connects of the engine since its own backoff was last reset.
    pub(crate) engine_attempts: u32,
}

impl ConnectThrottle {
    pub(crate) fn new(per_second: NonZeroU32, at_once: usize) -> Self {
        let period = Duration::from_secs(1) / per_second.get();
        let rate = Arc::new(Rate { period, next: tokio::sync::Mutex::new(Instant::now()) });
        Self::with(at_once, rate, Arc::default(), Arc::default())
    }

    /// The throttle of a way through a proxy, under the same rate.
    pub(crate) fn of_proxy(&self) -> Self {
        Self::with(self.at_once, self.rate.clone(), self.proxies_turn.clone(), self.proxies_turn.clone())
    }

    fn with(
        at_once: usize,
        rate: Arc<Rate>,
        class_turn: Arc<tokio::sync::Mutex<()>>,
        proxies_turn: Arc<tokio::sync::Mutex<()>>,
    ) -> Self {
        Self {
            class_turn,
            proxies_turn,
            connecting: Arc::new(Semaphore::new(at_once)),
            at_once,
            turn: tokio::sync::Mutex::default(),
            rate,
            answered_at: watch::channel(None).0,
        }
    }

    async fn permit(&self) -> anyhow::Result<OwnedSemaphorePermit> {
        let permit = self.connecting.clone().acquire_owned().await.context("connects are closed")?;
        let _turns = (self.turn.lock().await, self.class_turn.lock().await);
        let mut next = self.rate.next.lock().await;
        sleep_until(*next).await;
        *next = Instant::now() + self.rate.period;
        Ok(permit)
    }

    fn answered(&self) {
        let now = Instant::now();
        self.answered_at.send_if_modified(|at| {
            let is_news = at.is_none_or(|at| now.duration_since(at) >= NEWS_INTERVAL);
            if is_news {
                *at = Some(now);
            }
            is_news
        });
    }
}

impl ConnectPermit {
    pub(crate) fn new(throttle: Arc<ConnectThrottle>) -> Self {
        Self { throttle, state: Mutex::default(), closed: watch::channel(false).0, doubted: watch::channel(false).0 }
    }

    /// No connect begins from now on.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Resolves when no connect is to begin any more.
    pub(crate) async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender is ours: it cannot be gone.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Waits for a permit. Dropping the call is safe.
    pub(crate) async fn take(&self) -> anyhow::Result<()> {
        let permit = self.throttle.permit().await?;
        let mut state = self.lock();
        (state.permit, state.fresh, state.number) = (Some(permit), true, state.number + 1);
        Ok(())
    }

    /// Ends the permit: the connect has succeeded or failed, and the next session may start.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        (state.permit, state.fresh) = (None, false);
    }

    /// Sets whether the connection is in doubt, as WhatsApp has not answered a keepalive yet.
    pub(crate) fn doubt(&self, doubted: bool) {
        self.doubted.send_replace(doubted);
    }

    /// Whether a session that is logged in may send. While the connection is in doubt, this waits until the keepalive
    /// is answered or has timed out.
    pub(crate) async fn may_send(&self) -> bool {
        // The sender is ours: it cannot be gone.
        let _ = self.doubted.subscribe().wait_for(|doubted| !*doubted).await;
        !self.lock().told_lost
    }

    /// When any session last connected to WhatsApp this way; changes at most once in [`NEWS_INTERVAL`].
    pub(crate) fn answers(&self) -> watch::Receiver<Option<Instant>> {
        self.throttle.answered_at.subscribe()
    }

    /// Ends the permit when this event means that the connect has succeeded or failed. After pairing, the engine
    /// connects again with a new permit.
    pub(crate) fn note(&self, event: &Event) {
        match event {
            Event::Connected(_) | Event::PairingQrCode(_) => {
                return self.connected();
            }
            Event::PairSuccess(_) => self.lock().reconnects = Reconnects::after_linking(),
            Event::Disconnected(_) | Event::ConnectFailure(_) => self.lock().told_lost = true,
            Event::PairError(_)
            | Event::PairingQrCodesExhausted(_)
            | Event::LoggedOut(_)
            | Event::StreamReplaced(_)
            | Event::TemporaryBan(_)
            | Event::ClientOutdated(_) => {}
            _ => return,
        }
        self.end();
    }

    /// The session is connected: waiting sessions may try, too.
    pub(crate) fn connected(&self) {
        self.throttle.answered();
        let mut state = self.lock();
        (state.reconnects, state.told_lost) = (Reconnects::default(), false);
        drop(state);
        self.end();
    }

    /// Begins the connect that a permit was taken for; false when there is none. A connect that fails in the handshake
    /// reports nothing: its permit ends after [`PERMIT_TIME_MAX`].
    pub(crate) fn begin(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        let begun = std::mem::take(&mut state.fresh);
        if begun {
            let (permit, number) = (self.clone(), state.number);
            tokio::spawn(async move {
                sleep(PERMIT_TIME_MAX).await;
                if permit.lock().number == number {
                    permit.end();
                }
            });
        }
        begun
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, PermitState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn permits_are_given_at_their_rate_and_one_who_gave_up_costs_nothing() {
        let throttle = Arc::new(ConnectThrottle::new(NonZeroU32::new(10).unwrap(), 100));
        let started = Instant::now();
        let mut permits = Vec::new();
        for nth in 0..20 {
            let permit = ConnectPermit::new(throttle.clone());
            let gives_up = tokio::time::timeout(Duration::from_millis(1), permit.take()).await;
            if gives_up.is_err() {
                permit.take().await.unwrap();
            }
            assert!(permit.lock().fresh, "{nth}");
            permits.push(permit);
        }
        let took = started.elapsed();
        assert!((1_900..2_000).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_while_nobody_knows_whether_whatsapp_hears_it() {
        let permit = ConnectPermit::new(Arc::new(ConnectThrottle::new(NonZeroU32::MIN, 1)));
        assert!(permit.may_send().await);
        permit.doubt(true);
        let heard = async {
            sleep(Duration::from_secs(3)).await;
            permit.doubt(false);
        };
        let started = Instant::now();
        assert!(tokio::join!(permit.may_send(), heard).0);
        assert_eq!(started.elapsed().as_secs(), 3);
        permit.lock().told_lost = true;
        assert!(!permit.may_send().await);
        permit.connected();
        assert!(permit.may_send().await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_ways_take_turns_and_one_that_hangs_keeps_only_its_own_sessions_waiting() {
        let direct = Arc::new(ConnectThrottle::new(NonZeroU32::new(10).unwrap(), 5));
        let proxied = Arc::new(direct.of_proxy());
        let (started, mut waiting) = (Instant::now(), tokio::task::JoinSet::new());
        let others: Vec<_> = (0..9).map(|_| Arc::new(direct.of_proxy())).collect();
        let mut take = |throttle: &Arc<ConnectThrottle>, way: &'static str| {
            let permit = ConnectPermit::new(throttle.clone());
            waiting.spawn(async move {
                permit.take().await.unwrap();
                (started.elapsed().as_millis(), way, permit)
            });
        };
        // Many sessions whose proxy hangs, and then five without a proxy.
        (0..20).for_each(|_| take(&proxied, "proxied"));
        others.iter().for_each(|other| take(other, "other"));
        (0..5).for_each(|_| take(&direct, "direct"));
        let (mut permits, mut last) = (Vec::new(), 0);
        while permits.iter().filter(|(_, way, _)| *way == "direct").count() < 5 {
            permits.push(waiting.join_next().await.unwrap().unwrap());
            last = permits.last().unwrap().0;
        }
        assert!(last <= 1_000, "{last} ms: every second start is theirs");
        let count = |way| permits.iter().filter(|(_, of, _)| *of == way).count();
        assert!(count("proxied") <= 2 && count("other") >= 3, "and the proxies share the others");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_connect_at_once_than_allowed_and_one_that_never_ends_is_given_up() {
        let throttle = Arc::new(ConnectThrottle::new(NonZeroU32::new(1_000).unwrap(), 1));
        let (first, second) = (Arc::new(ConnectPermit::new(throttle.clone())), ConnectPermit::new(throttle.clone()));
        let started = Instant::now();
        first.take().await.unwrap();
        assert!(first.begin());
        second.take().await.unwrap();
        assert_eq!(started.elapsed().as_secs(), PERMIT_TIME_MAX.as_secs());
    }
}
