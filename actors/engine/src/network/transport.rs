//! The engine's transports: each is opened with a permit, and its result is reported. All waits between reconnects are
//! decided here; the engine's own backoff is reset.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use wacore::net::{Transport, TransportEvent, TransportFactory};
use whatsapp_rust::Client;

use super::connect_throttle::ConnectPermit;
use super::reconnects::Reconnect;
use crate::inbox::Delivery;
use crate::{EngineEvent, Report};
use rookery_model::SessionConfig;

/// A reconnect waits this long to be due and to get a permit. The engine gives a connect 20 s in all, then retries.
const WAIT_MAX: Duration = Duration::from_secs(8);
/// Name lookup, TCP, TLS and WebSocket together: with the wait before them, they end within the engine's 20 s.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections in a row that may break soon after the log-in before the engine's own backoff is reset. It waits 1, 1,
/// 2, 3, 5 ... 55 s; the next wait would be longer than [`super::reconnects::RECONNECT_DELAY_MAX`].
const ENGINE_ATTEMPTS_MAX: u32 = 9;

/// The reported reason when a connection ended without one.
const ENDED: &str = "it ended, or nothing was heard any more";

/// The client that an engine's transports belong to; set once it is built.
pub(crate) type ClientSlot = Arc<OnceLock<Weak<Client>>>;

/// The engine's transports.
pub(crate) struct ThrottledTransports {
    pub(crate) inner: Box<dyn TransportFactory>,
    pub(crate) permit: Arc<ConnectPermit>,
    pub(crate) client: ClientSlot,
    pub(crate) config: Arc<ArcSwap<SessionConfig>>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) report: Report,
}

/// There is no reconnect left: the session ends its engine.
#[derive(Debug, thiserror::Error)]
#[error("all reconnects are used up")]
struct UsedUp;

type Opened = (Arc<dyn Transport>, async_channel::Receiver<TransportEvent>);

/// Ends its permit when dropped, unless the permit was taken out.
struct EndOnDrop<'a>(Option<&'a ConnectPermit>);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.0 {
            permit.end();
        }
    }
}

impl ConnectPermit {
    /// Reports to the session that it is not connected.
    pub(crate) fn tell_lost(&self, report: &Report, reason: String) {
        self.lock().told_lost = true;
        report(EngineEvent::ConnectionLost(reason));
    }
}

impl ThrottledTransports {
    /// A connect that the session did not begin: the last connection is gone, whether or not the engine reported that.
    async fn reconnect(&self) -> anyhow::Result<Opened> {
        self.permit.end();
        if self.has_to_set_back() {
            bail!("the engine's backoff is set back first");
        }
        self.tell_if_unknown();
        let until = Instant::now() + WAIT_MAX;
        timeout_at(until, self.delivery.opened()).await.context("messages cannot be saved yet")?;
        self.wait_for_reconnect(until).await?;
        timeout_at(until, self.permit.take()).await.context("no permit to connect in time")??;
        self.permit.lock().reconnects.count(Instant::now());
        self.permit.begin();
        self.open().await
    }

    fn tell_if_unknown(&self) {
        let state = self.permit.lock();
        // WhatsApp ends the connection once a phone was linked: that is not a lost connection.
        let is_known = state.told_lost || state.reconnects.are_expected();
        drop(state);
        if !is_known {
            self.permit.tell_lost(&self.report, ENDED.into());
        }
    }

    /// Waits as long as the session's configuration asks for. The wait is shorter once another session has connected.
    async fn wait_for_reconnect(&self, until: Instant) -> anyhow::Result<()> {
        let mut answers = self.permit.answers();
        loop {
            let (now, answered_at) = (Instant::now(), *answers.borrow_and_update());
            let decided = self.permit.lock().reconnects.next(&self.config.load(), now, answered_at);
            match decided {
                Reconnect::Go => return Ok(()),
                Reconnect::Wait(_) if now >= until => bail!("the next reconnect is not due yet"),
                Reconnect::Wait(wait) => tokio::select! {
                    () = sleep(wait.min(until - now)) => {}
                    _ = answers.changed() => {}
                },
                Reconnect::UsedUp(tried) => {
                    (self.report)(EngineEvent::ReconnectsUsedUp(tried));
                    return Err(UsedUp.into());
                }
            }
        }
    }

    async fn open(&self) -> anyhow::Result<Opened> {
        // The engine drops this call after its own time limit.
        let mut unopened = EndOnDrop(Some(&self.permit));
        let opened = timeout(OPEN_TIMEOUT, self.inner.create_transport()).await;
        let opened = opened.unwrap_or_else(|_| Err(anyhow::anyhow!("it does not answer")));
        match &opened {
            Ok(_) => unopened.0 = None,
            Err(error) => {
                self.permit.lock().reconnects.fail(Instant::now());
                self.permit.tell_lost(&self.report, format!("WhatsApp cannot be reached: {error}"));
            }
        }
        opened
    }

    /// Whether the engine's own backoff would soon be longer than ours: it grows with failed connects, and with
    /// connections that break soon after the log-in. For the latter it is the only backoff, and grows as far as ours.
    fn has_to_set_back(&self) -> bool {
        let mut state = self.permit.lock();
        state.engine_attempts += 1;
        state.engine_attempts > if state.reconnects.have_failed() { 1 } else { ENGINE_ATTEMPTS_MAX }
    }

    /// Resets the engine's backoff: when a connect fails after this, the next one follows at once. The call could end a
    /// connection, but there is none at this point.
    async fn set_back(&self) {
        let Some(client) = self.client.get().and_then(Weak::upgrade) else { return };
        client.reconnect_immediately().await;
        self.permit.lock().engine_attempts = 0;
    }
}

#[async_trait]
impl TransportFactory for ThrottledTransports {
    async fn create_transport(&self) -> anyhow::Result<Opened> {
        let is_first = self.permit.begin();
        let connect = async { if is_first { self.open().await } else { self.reconnect().await } };
        let opened = tokio::select! {
            biased;
            () = self.permit.closed() => bail!("the engine ends"),
            opened = connect => opened,
        };
        // After a failed first connect, the engine tries again by itself in a second.
        if opened.as_ref().is_err_and(|error| !is_first && !error.is::<UsedUp>()) {
            self.set_back().await;
        }
        opened
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Mutex;

    use futures_util::future::BoxFuture;
    use tokio::task::JoinSet;

    use super::super::connect_throttle::ConnectThrottle;
    use super::*;
    use crate::Inbox;
    use crate::backend::SessionBackend;

    /// A server that is away until some time: it refuses connections at once, or does not answer.
    struct Away {
        until: Instant,
        is_silent: bool,
    }

    struct Line;

    /// An inbox that takes all.
    struct Open;

    impl Inbox for Open {
        fn take(&self, _: Vec<rookery_model::IncomingMessage>) -> BoxFuture<'static, bool> {
            Box::pin(std::future::ready(true))
        }

        fn take_receipt(&self, _: rookery_model::Receipt) {}

        fn is_open(&self) -> bool {
            true
        }
    }

    #[async_trait]
    impl Transport for Line {
        async fn send(&self, _: bytes::Bytes) -> anyhow::Result<()> {
            Ok(())
        }

        async fn disconnect(&self) {}
    }

    #[async_trait]
    impl TransportFactory for Away {
        async fn create_transport(&self) -> anyhow::Result<Opened> {
            if Instant::now() >= self.until {
                return Ok((Arc::new(Line), async_channel::bounded(1).1));
            }
            if self.is_silent {
                std::future::pending::<()>().await;
            }
            bail!("the connection was refused")
        }
    }

    fn transports(throttle: &Arc<ConnectThrottle>, away: Away) -> (ThrottledTransports, Arc<Mutex<Vec<String>>>) {
        let told = Arc::<Mutex<Vec<String>>>::default();
        let heard = told.clone();
        let report: Report = Arc::new(move |event| {
            let EngineEvent::ConnectionLost(reason) = event else { panic!("{event:?}") };
            heard.lock().unwrap().push(reason);
        });
        let permit = Arc::new(ConnectPermit::new(throttle.clone()));
        let backend = SessionBackend::new(rookery_store::open_memory(), rookery_store::SessionNumber(1));
        let backend = Arc::new(backend);
        let transports = ThrottledTransports {
            inner: Box::new(away),
            delivery: Delivery::new(Arc::new(Open), backend, permit.clone(), report.clone()),
            permit,
            client: ClientSlot::default(),
            config: Arc::new(ArcSwap::from_pointee(SessionConfig::default())),
            report,
        };
        (transports, told)
    }

    /// Acts like the engine after a broken connection: tries again until the session is connected.
    async fn reconnected(transports: ThrottledTransports) -> Instant {
        while timeout(Duration::from_secs(20), transports.create_transport())
            .await
            .expect("the engine would end the call here")
            .is_err()
        {
            // In place of the client, which resets the engine's backoff.
            transports.permit.lock().engine_attempts = 0;
            tokio::task::yield_now().await;
        }
        transports.permit.connected();
        Instant::now()
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_are_back_within_a_minute_of_a_server_that_answers_again() {
        let minutes = Duration::from_secs(180);
        for is_silent in [false, true] {
            let throttle = Arc::new(ConnectThrottle::new(NonZeroU32::new(20).unwrap(), 50));
            let (until, mut sessions) = (Instant::now() + minutes, JoinSet::new());
            for _ in 0..200 {
                sessions.spawn(reconnected(transports(&throttle, Away { until, is_silent }).0));
            }
            let mut back: Vec<Instant> = sessions.join_all().await;
            back.sort();
            let [first, last] = [back[0], back[199]].map(|at| at.duration_since(until));
            assert!(last <= super::super::reconnects::RECONNECT_DELAY_MAX, "silent {is_silent}: {first:?} {last:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_alone_is_back_within_a_minute_too() {
        let throttle = Arc::new(ConnectThrottle::new(NonZeroU32::new(20).unwrap(), 50));
        for away_s in [1, 30, 180, 3_600] {
            let until = Instant::now() + Duration::from_secs(away_s);
            let back = reconnected(transports(&throttle, Away { until, is_silent: false }).0).await;
            let late = back.duration_since(until);
            assert!(late <= super::super::reconnects::RECONNECT_DELAY_MAX, "{away_s} s: {late:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reconnect_that_nobody_told_of_is_told_and_so_is_each_new_reason() {
        let throttle = Arc::new(ConnectThrottle::new(NonZeroU32::new(20).unwrap(), 50));
        let until = Instant::now() + Duration::from_secs(3);
        let (transports, told) = transports(&throttle, Away { until, is_silent: false });
        reconnected(transports).await;
        let told = told.lock().unwrap();
        assert_eq!(*told, [ENDED, "WhatsApp cannot be reached: the connection was refused"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_ends_waits_for_nothing() {
        let throttle = Arc::new(ConnectThrottle::new(NonZeroU32::new(20).unwrap(), 50));
        let until = Instant::now() + Duration::from_secs(600);
        let (transports, _) = transports(&throttle, Away { until, is_silent: true });
        let (permit, started) = (transports.permit.clone(), Instant::now());
        let (connect, ()) = tokio::join!(transports.create_transport(), async { permit.close() });
        assert!(connect.is_err());
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}
