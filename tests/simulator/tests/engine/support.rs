//! A real client, with what tests need around it. Waits are bounded and say what they waited for.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rookery_simulator::{Simulator, SimulatorOptions};
use whatsapp_rust::async_channel::Receiver;
use whatsapp_rust::bot::{Bot, BotHandle};
use whatsapp_rust::http::{HttpClient, HttpRequest, HttpResponse};
use whatsapp_rust::pair_code::PairCodeOptions;
use whatsapp_rust::prelude::*;
use whatsapp_rust::transport::TokioWebSocketTransportFactory;
use whatsapp_rust::wacore::store::InMemoryBackend;
use whatsapp_rust::wacore::store::traits::Backend;

/// Longer than anything here takes on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Fewer than a client makes by default: they cost most of the time of linking.
const PREKEYS: usize = 20;

/// No test here moves media.
struct NoHttp;

#[async_trait]
impl HttpClient for NoHttp {
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        anyhow::bail!("no HTTP in these tests: {}", request.url)
    }
}

pub(crate) async fn simulator() -> Simulator {
    Simulator::start(SimulatorOptions::default()).await.expect("the simulator starts")
}

/// A client and what it reported.
pub(crate) struct Session {
    pub(crate) client: Arc<Client>,
    pub(crate) store: Arc<dyn Backend>,
    handle: BotHandle,
    events: Receiver<Arc<Event>>,
}

impl Session {
    /// A client with an empty store.
    pub(crate) async fn start(simulator: &Simulator) -> Self {
        Self::resume(simulator, Arc::new(InMemoryBackend::new())).await
    }

    /// A client with the store of an earlier one.
    pub(crate) async fn resume(simulator: &Simulator, store: Arc<dyn Backend>) -> Self {
        let (handler, events) = ChannelEventHandler::new();
        let bot = Bot::builder()
            .with_backend_arc(store.clone())
            .with_transport_factory(TokioWebSocketTransportFactory::new().with_url(simulator.url()))
            .with_http_client(NoHttp)
            .with_runtime(TokioRuntime)
            .with_version((2, 3000, 1_030_000_000))
            .with_wanted_pre_key_count(PREKEYS)
            .skip_history_sync()
            .build()
            .await
            .expect("the client is built");
        let client = bot.client();
        client.subscribe_handler(handler).detach();
        Self { client, store, handle: bot.spawn(), events }
    }

    /// A client linked to `phone` and connected.
    pub(crate) async fn linked(simulator: &Simulator, phone: &str) -> Self {
        let session = Self::start(simulator).await;
        let qr = session.qr().await;
        simulator.world().phone(phone).scan_qr(&qr).expect("the phone scans");
        session.connected().await;
        session
    }

    pub(crate) async fn qr(&self) -> String {
        self.wait("a QR code", |event| match event {
            Event::PairingQrCode(qr) => Some(qr.code.clone()),
            _ => None,
        })
        .await
    }

    /// The code that `phone` is to type.
    pub(crate) async fn pairing_code(&self, phone: &str) -> String {
        let options = PairCodeOptions { phone_number: phone.to_owned(), ..PairCodeOptions::default() };
        self.client.pair_with_code(options).await.expect("the server takes the request")
    }

    pub(crate) async fn connected(&self) {
        self.wait("connected", |event| matches!(event, Event::Connected(_)).then_some(())).await;
    }

    /// The first event from now on of which `pick` makes something.
    pub(crate) async fn wait<T>(&self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let found = tokio::time::timeout(WAIT_MAX, async {
            loop {
                let event = self.events.recv().await.expect("the client still reports");
                seen.push(format!("{:?}", event.kind()));
                if let Some(found) = pick(&event) {
                    return found;
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("waited in vain for {what}; saw {seen:?}"))
    }

    /// Stops the client and leaves its store.
    pub(crate) async fn stop(self) -> Arc<dyn Backend> {
        self.handle.shutdown().await;
        self.store
    }
}
