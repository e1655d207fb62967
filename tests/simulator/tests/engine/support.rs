//! A real client, with what tests need around it. Waits are bounded and say what they waited for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rookery_simulator::{Simulator, SimulatorOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use whatsapp_rust::async_channel::Receiver;
use whatsapp_rust::bot::{Bot, BotHandle};
use whatsapp_rust::http::{HttpClient, HttpRequest, HttpResponse};
use whatsapp_rust::pair_code::PairCodeOptions;
use whatsapp_rust::prelude::*;
use whatsapp_rust::transport::TokioWebSocketTransportFactory;
use whatsapp_rust::types::presence::ReceiptType;
use whatsapp_rust::wacore::store::InMemoryBackend;
use whatsapp_rust::wacore::store::traits::Backend;
use whatsapp_rust::{GroupError, IqError};

/// Longer than anything here takes on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Fewer than a client makes by default: they cost most of the time of linking.
const PREKEYS: usize = 20;

/// HTTP without TLS, whatever the scheme: the simulator serves files on its plain port.
struct PlainHttp;

#[async_trait]
impl HttpClient for PlainHttp {
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        let url = request.url.split_once("://").map_or(request.url.as_str(), |(_, rest)| rest);
        let (host, path) = url.split_once('/').ok_or_else(|| anyhow::anyhow!("no path in {url}"))?;
        let body = request.body.unwrap_or_default();
        let (method, length) = (&request.method, body.len());
        let head = format!(
            "{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(host).await?;
        stream.write_all(&[head.as_bytes(), &body].concat()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let end =
            answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(|| anyhow::anyhow!("no head"))?;
        let status_code = std::str::from_utf8(&answer[9..12])?.parse()?;
        Ok(HttpResponse { status_code, body: answer.split_off(end + 4) })
    }
}

pub(crate) async fn simulator() -> Simulator {
    Simulator::start(SimulatorOptions::default()).await.expect("the simulator starts")
}

/// The code with which the server refused.
pub(crate) fn code_of<T>(result: Result<T, GroupError>) -> Option<u16> {
    match result {
        Err(GroupError::Iq(IqError::ServerError { code, .. })) => Some(code),
        _ => None,
    }
}

/// The body that is served at this URL.
pub(crate) async fn http_get(url: &str) -> Vec<u8> {
    PlainHttp.execute(HttpRequest::get(url)).await.expect("answered").body
}

/// The status of a GET of this URL.
pub(crate) async fn http_status(url: &str) -> u16 {
    PlainHttp.execute(HttpRequest::get(url)).await.expect("answered").status_code
}

/// Waits until `is_so` returns true.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(WAIT_MAX, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

/// A client and what it reported.
pub(crate) struct Session {
    pub(crate) client: Arc<Client>,
    pub(crate) store: Arc<dyn Backend>,
    handle: BotHandle,
    events: Receiver<Arc<Event>>,
    /// Every message that came, by id: several come in one event.
    messages: Mutex<HashMap<String, Arc<wa::Message>>>,
}

impl Session {
    /// A client with an empty store.
    pub(crate) async fn start(simulator: &Simulator) -> Self {
        Self::resume(simulator, Arc::new(InMemoryBackend::new())).await
    }

    /// A client with the store of an earlier one.
    pub(crate) async fn resume(simulator: &Simulator, store: Arc<dyn Backend>) -> Self {
        Self::build(simulator, store, false).await
    }

    async fn build(simulator: &Simulator, store: Arc<dyn Backend>, takes_history: bool) -> Self {
        let (handler, events) = ChannelEventHandler::new();
        let bot = Bot::builder()
            .with_backend_arc(store.clone())
            .with_transport_factory(TokioWebSocketTransportFactory::new().with_url(simulator.url()))
            .with_http_client(PlainHttp)
            .with_runtime(TokioRuntime)
            .with_version((2, 3000, 1_030_000_000))
            .with_wanted_pre_key_count(PREKEYS);
        let bot = if takes_history { bot } else { bot.skip_history_sync() };
        let bot = bot.build().await.expect("the client is built");
        let client = bot.client();
        client.subscribe_handler(handler).detach();
        Self { client, store, handle: bot.spawn(), events, messages: Mutex::default() }
    }

    /// A client linked to `phone` and connected.
    pub(crate) async fn linked(simulator: &Simulator, phone: &str) -> Self {
        let session = Self::start(simulator).await;
        let qr = session.qr().await;
        simulator.world().phone(phone).scan_qr(&qr).expect("the phone scans");
        session.connected().await;
        session
    }

    /// The same, with a client that takes the phone's history.
    pub(crate) async fn linked_with_history(simulator: &Simulator, phone: &str) -> Self {
        let session = Self::build(simulator, Arc::new(InMemoryBackend::new()), true).await;
        let qr = session.qr().await;
        simulator.world().phone(phone).scan_qr(&qr).expect("the phone scans");
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

    /// Waits for a notification with an action of this tag.
    pub(crate) async fn notified(&self, tag: &str) {
        let has = |event: &Event| match event {
            Event::Notification(node) => node.get().get_optional_child(tag).map(|_| ()),
            _ => None,
        };
        self.wait(tag, has).await;
    }

    /// Waits for the first event from now on that `pick` accepts, and returns its result.
    pub(crate) async fn wait<T>(&self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let found = tokio::time::timeout(WAIT_MAX, async {
            loop {
                let event = self.events.recv().await.expect("the client still reports");
                seen.push(format!("{:?}", event.kind()));
                if let Event::Messages(batch) = &*event {
                    let came = batch.iter().map(|inbound| (inbound.info.id.clone(), inbound.message.clone()));
                    self.messages.lock().expect("no panic").extend(came);
                }
                if let Some(found) = pick(&event) {
                    return found;
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("waited in vain for {what}; saw {seen:?}"))
    }

    /// Waits for the message with this id unless it has come already, and returns its content.
    pub(crate) async fn message(&self, id: &str) -> Arc<wa::Message> {
        let known = || self.messages.lock().expect("no panic").get(id).cloned();
        match known() {
            Some(message) => message,
            None => self.wait(id, |_| known()).await,
        }
    }

    /// Waits for a receipt of this kind for this message, and returns who sent it.
    pub(crate) async fn receipt(&self, id: &str, kind: &ReceiptType) -> Jid {
        let found = |event: &Event| match event {
            Event::Receipt(receipt) if receipt.r#type == *kind && receipt.message_ids.iter().any(|one| one == id) => {
                Some(receipt.source.sender.clone())
            }
            _ => None,
        };
        self.wait(&format!("a receipt {kind:?} for {id}"), found).await
    }

    /// Stops the client and returns its store.
    pub(crate) async fn stop(self) -> Arc<dyn Backend> {
        self.handle.shutdown().await;
        self.store
    }
}
