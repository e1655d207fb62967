//! Pacing of connects: how many start per second and how many are under way at once, over all sessions; and of one
//! session's reconnects, as its configuration says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use wacore::net::{Transport, TransportEvent, TransportFactory};
use wacore::types::events::Event;
use whatsapp_rust::transport::TokioWebSocketTransportFactory;

use super::{EngineFact, Report};
use crate::model::SessionConfig;

/// A reconnect waits this long for its time and again for its turn, then backs off: the engine gives a connect 20 s.
const RECONNECT_TURN_TIMEOUT: Duration = Duration::from_secs(8);

/// The engine bounds a connect at 20 s and the log-in after it at about 10 s.
const TURN_MAX: Duration = Duration::from_secs(30);

/// The wait between reconnects of one session grows up to here by itself. The engine's own backoff, which goes on beside
/// it, ends at 15 minutes.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(300);

/// Hands out turns to connect. One for the daemon.
pub(super) struct Pacer {
    rate: DefaultDirectRateLimiter,
    connecting: Arc<Semaphore>,
}

/// One session's turn: kept while it connects.
#[derive(Default)]
pub(super) struct Turn(Mutex<TurnState>);

#[derive(Default)]
struct TurnState {
    permit: Option<OwnedSemaphorePermit>,
    /// Taken for a connect that has not begun.
    fresh: bool,
    /// Which connect this is.
    number: u64,
    reconnects: Reconnects,
}

/// The reconnects since the session was last connected.
#[derive(Default)]
struct Reconnects {
    tried: u32,
    last: Option<Instant>,
    /// A phone was linked: WhatsApp has the client connect anew, perhaps twice, and nothing is lost by that.
    linking: bool,
}

/// What is to become of a reconnect.
#[derive(Debug, PartialEq, Eq)]
enum Reconnect {
    Go,
    Wait(Duration),
    /// There were so many.
    UsedUp(u32),
}

impl Reconnects {
    /// Decides about a reconnect at `now`.
    fn next(&self, config: &SessionConfig, now: Instant) -> Reconnect {
        if self.linking {
            return Reconnect::Go;
        }
        if config.max_reconnect_attempts.is_some_and(|most| self.tried >= most) {
            return Reconnect::UsedUp(self.tried);
        }
        let Some(last) = self.last else { return Reconnect::Go };
        let base = Duration::from_millis(config.reconnect_base_delay.into());
        let delay = base.saturating_mul(2_u32.saturating_pow(self.tried.saturating_sub(1)));
        let wait = (last + delay.min(RECONNECT_DELAY_MAX)).saturating_duration_since(now);
        if wait.is_zero() { Reconnect::Go } else { Reconnect::Wait(wait) }
    }

    /// Counts one that goes.
    fn count(&mut self, now: Instant) {
        if !self.linking {
            self.tried += 1;
            self.last = Some(now);
        }
    }
}

impl Pacer {
    pub(super) fn new(per_second: NonZeroU32, at_once: usize) -> Self {
        Self { rate: RateLimiter::direct(Quota::per_second(per_second)), connecting: Arc::new(Semaphore::new(at_once)) }
    }

    /// Waits for a turn.
    pub(super) async fn take(&self, turn: &Turn) -> anyhow::Result<()> {
        let permit = self.connecting.clone().acquire_owned().await.context("connects are closed")?;
        self.rate.until_ready().await;
        let mut state = turn.lock();
        (state.permit, state.fresh, state.number) = (Some(permit), true, state.number + 1);
        Ok(())
    }
}

impl Turn {
    /// The connect is over, well or badly: the next session may go.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        (state.permit, state.fresh) = (None, false);
    }

    /// Sees whether the connect is over with this event, well or badly. After pairing the engine connects again in a new
    /// turn.
    pub(super) fn note(&self, event: &Event) {
        match event {
            Event::Connected(_) | Event::PairingQrCode(_) => self.lock().reconnects = Reconnects::default(),
            Event::PairSuccess(_) => self.lock().reconnects = Reconnects { linking: true, ..Reconnects::default() },
            Event::PairError(_)
            | Event::PairingQrCodesExhausted(_)
            | Event::Disconnected(_)
            | Event::LoggedOut(_)
            | Event::StreamReplaced(_)
            | Event::TemporaryBan(_)
            | Event::ClientOutdated(_)
            | Event::ConnectFailure(_) => {}
            _ => return,
        }
        self.end();
    }

    /// Begins the connect that a turn was taken for; false when there is none. A connect that fails in the handshake
    /// tells nobody: its turn ends by itself.
    fn begin(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        let begun = std::mem::take(&mut state.fresh);
        if begun {
            let (turn, number) = (self.clone(), state.number);
            tokio::spawn(async move {
                tokio::time::sleep(TURN_MAX).await;
                if turn.lock().number == number {
                    turn.end();
                }
            });
        }
        begun
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, TurnState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a turn unless it is taken out.
struct EndOnDrop<'a>(Option<&'a Turn>);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(turn) = self.0 {
            turn.end();
        }
    }
}

/// The engine's transports, each opened in its turn.
pub(super) struct PacedTransports {
    pub(super) inner: TokioWebSocketTransportFactory,
    pub(super) pacer: Arc<Pacer>,
    pub(super) turn: Arc<Turn>,
    pub(super) config: Arc<ArcSwap<SessionConfig>>,
    pub(super) report: Report,
}

impl PacedTransports {
    /// Waits for what the session's configuration asks for. The engine backs off and comes again after an error.
    async fn wait_for_reconnect(&self) -> anyhow::Result<()> {
        loop {
            let decided = self.turn.lock().reconnects.next(&self.config.load(), Instant::now());
            match decided {
                Reconnect::Go => return Ok(()),
                Reconnect::Wait(wait) if wait <= RECONNECT_TURN_TIMEOUT => tokio::time::sleep(wait).await,
                Reconnect::Wait(_) => bail!("the next reconnect is not due yet"),
                Reconnect::UsedUp(tried) => {
                    (self.report)(EngineFact::ReconnectsUsedUp(tried));
                    bail!("all reconnects are used up");
                }
            }
        }
    }
}

#[async_trait]
impl TransportFactory for PacedTransports {
    async fn create_transport(&self) -> anyhow::Result<(Arc<dyn Transport>, async_channel::Receiver<TransportEvent>)> {
        if !self.turn.begin() {
            self.turn.end();
            self.wait_for_reconnect().await?;
            let turn = self.pacer.take(&self.turn);
            tokio::time::timeout(RECONNECT_TURN_TIMEOUT, turn).await.context("no turn to connect in time")??;
            self.turn.lock().reconnects.count(Instant::now());
            self.turn.begin();
        }
        // The engine drops this call after its own time limit.
        let mut unopened = EndOnDrop(Some(&self.turn));
        let opened = self.inner.create_transport().await;
        if opened.is_ok() {
            unopened.0 = None;
        }
        opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reconnect_is_at_once_and_the_waits_double_from_there() {
        let (mut reconnects, start) = (Reconnects::default(), Instant::now());
        let config = SessionConfig { reconnect_base_delay: 1_000, ..SessionConfig::default() };
        let table = [
            (0, Reconnect::Go),
            (200, Reconnect::Wait(Duration::from_millis(800))),
            (1_000, Reconnect::Go),
            (1_000, Reconnect::Wait(Duration::from_secs(2))),
            (3_000, Reconnect::Go),
            (6_999, Reconnect::Wait(Duration::from_millis(1))),
        ];
        for (at_ms, expected) in table {
            let now = start + Duration::from_millis(at_ms);
            let decided = reconnects.next(&config, now);
            if decided == Reconnect::Go {
                reconnects.count(now);
            }
            assert_eq!(decided, expected, "{at_ms}");
        }
    }

    #[test]
    fn no_wait_is_longer_than_the_limit_and_no_reconnect_goes_beyond_the_allowed_ones() {
        let now = Instant::now();
        let reconnects = Reconnects { tried: 40, last: Some(now), linking: false };
        let Reconnect::Wait(wait) = reconnects.next(&SessionConfig::default(), now) else { panic!("has to wait") };
        assert!(wait <= RECONNECT_DELAY_MAX);
        let limited = SessionConfig { max_reconnect_attempts: Some(0), ..SessionConfig::default() };
        assert_eq!(Reconnects::default().next(&limited, now), Reconnect::UsedUp(0));
    }

    #[test]
    fn what_linking_a_phone_takes_is_not_counted() {
        let (now, mut reconnects) = (Instant::now(), Reconnects { linking: true, ..Reconnects::default() });
        let limited = SessionConfig { max_reconnect_attempts: Some(0), ..SessionConfig::default() };
        for _ in 0..3 {
            assert_eq!(reconnects.next(&limited, now), Reconnect::Go);
            reconnects.count(now);
        }
    }
}
