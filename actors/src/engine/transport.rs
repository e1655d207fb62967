//! Pacing of connects: how many start per second and how many are under way at once, over all sessions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wacore::net::{Transport, TransportEvent, TransportFactory};
use whatsapp_rust::transport::TokioWebSocketTransportFactory;

/// A reconnect waits this long for its turn, then backs off: the engine gives a connect 20 s in all.
const RECONNECT_TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// The engine bounds a connect at 20 s and the log-in after it at about 10 s.
const TURN_MAX: Duration = Duration::from_secs(30);

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
    _permit: Option<OwnedSemaphorePermit>,
    /// Taken for a connect that has not begun.
    fresh: bool,
    /// Which connect this is.
    number: u64,
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
        *state = TurnState { _permit: Some(permit), fresh: true, number: state.number + 1 };
        Ok(())
    }
}

impl Turn {
    /// The connect is over, well or badly: the next session may go.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        *state = TurnState { number: state.number, ..TurnState::default() };
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
}

#[async_trait]
impl TransportFactory for PacedTransports {
    async fn create_transport(&self) -> anyhow::Result<(Arc<dyn Transport>, async_channel::Receiver<TransportEvent>)> {
        if !self.turn.begin() {
            self.turn.end();
            let turn = self.pacer.take(&self.turn);
            tokio::time::timeout(RECONNECT_TURN_TIMEOUT, turn).await.context("no turn to connect in time")??;
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
