//! The way of messages out of the engine: WhatsApp hears that a message arrived only once it is on disk (M-1).
//!
//! Messages that the engine decrypted come through its durability hook. What it could not decrypt, what the phone sends again in its stead,
//! and channels do not: these were acknowledged before, and are taken as they are seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use wacore::types::events::{InboundMessage, MessageBatch, UndecryptableMessage};
use whatsapp_rust::{Client, InboundDurabilityHook};

use super::network::connect_throttle::ConnectPermit;
use super::{Report, incoming};
use rookery_model::IncomingMessage;

/// How often it is looked whether messages can be kept again.
const RETRY: Duration = Duration::from_millis(500);

/// Takes messages for good.
pub trait Inbox: Send + Sync {
    /// Takes messages, in the order of the calls. True: all are on disk, or were there before. False: they are not, and have to come
    /// again.
    fn take(&self, messages: Vec<IncomingMessage>) -> BoxFuture<'static, bool>;

    /// Whether messages can be kept now, as far as anybody can tell.
    fn is_open(&self) -> bool;
}

/// An engine's side of the inbox.
pub(crate) struct Delivery {
    inbox: Arc<dyn Inbox>,
    permit: Arc<ConnectPermit>,
    report: Report,
    /// A message could not be kept: there is no connection until the inbox is open again.
    is_shut: AtomicBool,
}

impl Delivery {
    pub(crate) fn new(inbox: Arc<dyn Inbox>, permit: Arc<ConnectPermit>, report: Report) -> Arc<Self> {
        Arc::new(Self { inbox, permit, report, is_shut: AtomicBool::new(false) })
    }

    /// Returns when messages can be kept, as far as anybody can tell: before that, a connection is of no use.
    pub(crate) async fn opened(&self) {
        while self.is_shut.load(Ordering::Relaxed) {
            if self.inbox.is_open() {
                self.is_shut.store(false, Ordering::Relaxed);
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Takes messages that the hook does not see.
    pub(crate) fn see(&self, batch: &MessageBatch) {
        if !batch.hook_committed {
            self.take_seen(batch.iter().filter_map(incoming::message).collect());
        }
    }

    /// Takes a message that could not be decrypted.
    pub(crate) fn see_masked(&self, undecryptable: &UndecryptableMessage) {
        self.take_seen(incoming::masked(&undecryptable.info).into_iter().collect());
    }

    fn take_seen(&self, messages: Vec<IncomingMessage>) {
        if !messages.is_empty() {
            tokio::spawn(self.inbox.take(messages));
        }
    }

    /// A message could not be kept. WhatsApp gives it to the next connection.
    fn shut(self: &Arc<Self>, client: Arc<Client>) {
        if self.is_shut.swap(true, Ordering::Relaxed) {
            return;
        }
        self.permit.tell_lost(&self.report, "messages cannot be saved".into());
        // The engine waits for the hook that calls this.
        tokio::spawn(async move { client.reconnect_immediately().await });
    }
}

/// The engine's durability hook.
pub(crate) struct Hook(pub(crate) Arc<Delivery>);

#[async_trait]
impl InboundDurabilityHook for Hook {
    async fn on_messages(&self, client: Arc<Client>, batch: &[InboundMessage]) -> anyhow::Result<()> {
        let messages: Vec<IncomingMessage> = batch.iter().filter_map(incoming::message).collect();
        if messages.is_empty() || self.0.inbox.take(messages).await {
            return Ok(());
        }
        self.0.shut(client);
        anyhow::bail!("the messages are not on disk")
    }
}
