//! The way of messages out of the engine: WhatsApp hears that a message arrived only once it is on disk (M-1).
//!
//! Messages that the engine decrypted come through its durability hook. What it could not decrypt, what the phone sends again in its stead,
//! and channels do not: these were acknowledged before, and are taken as they are seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::warn;
use wacore::types::events::{
    DecryptFailMode, InboundMessage, MessageBatch, Receipt as EngineReceipt, UndecryptableMessage,
};
use whatsapp_rust::{Client, InboundDurabilityHook};

use super::backend::SessionBackend;
use super::network::connect_throttle::ConnectPermit;
use super::{Report, incoming};
use rookery_model::{IncomingMessage, Receipt};

/// How often it is looked whether messages can be kept again.
const RETRY: Duration = Duration::from_millis(500);
/// The least wait before the next connection after a message could not be kept. It doubles, up to the longest, until one is kept.
const SHUT_TIME_MIN: Duration = Duration::from_millis(500);
const SHUT_DOUBLINGS_MAX: u32 = 6;
/// Messages that did not pass the hook and are on their way. Further ones are left out: a sender may make any number of messages that
/// nobody can decrypt.
const SEEN_WAITING_MAX: usize = 1_024;
/// A message that is not in the log by then is put on disk for itself: the encryption state that its decryption left may be there already.
const KEPT_SOON: Duration = Duration::from_millis(50);

/// Takes messages for good.
pub trait Inbox: Send + Sync {
    /// Takes messages, in the order of the calls. True: all are on disk, or were there before. False: they are not, and have to come
    /// again.
    fn take(&self, messages: Vec<IncomingMessage>) -> BoxFuture<'static, bool>;

    /// Takes what others say of messages of the account.
    fn take_receipt(&self, receipt: Receipt);

    /// Whether messages can be kept now, as far as anybody can tell.
    fn is_open(&self) -> bool;
}

/// An engine's side of the inbox.
pub(crate) struct Delivery {
    inbox: Arc<dyn Inbox>,
    permit: Arc<ConnectPermit>,
    report: Report,
    backend: Arc<SessionBackend>,
    /// A message could not be kept: there is no connection until the inbox is open again.
    is_shut: AtomicBool,
    /// How often that was so since a message was kept.
    times_shut: AtomicU32,
    seen_waiting: Arc<Semaphore>,
}

impl Delivery {
    pub(crate) fn new(
        inbox: Arc<dyn Inbox>,
        backend: Arc<SessionBackend>,
        permit: Arc<ConnectPermit>,
        report: Report,
    ) -> Arc<Self> {
        let seen_waiting = Arc::new(Semaphore::new(SEEN_WAITING_MAX));
        let (is_shut, times_shut) = (AtomicBool::new(false), AtomicU32::new(0));
        Arc::new(Self { inbox, permit, report, backend, is_shut, times_shut, seen_waiting })
    }

    /// Returns when messages can be kept, as far as anybody can tell: before that, a connection is of no use.
    pub(crate) async fn opened(&self) {
        if self.is_shut.load(Ordering::Relaxed) {
            let doublings = self.times_shut.load(Ordering::Relaxed).saturating_sub(1).min(SHUT_DOUBLINGS_MAX);
            tokio::time::sleep(SHUT_TIME_MIN * 2_u32.pow(doublings)).await;
        }
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

    /// Takes what somebody else's device says of messages of the account.
    pub(crate) fn see_receipt(&self, receipt: &EngineReceipt) {
        if let Some(receipt) = incoming::receipt(receipt) {
            self.inbox.take_receipt(receipt);
        }
    }

    /// Takes a message that could not be decrypted, unless its author's client says that it is nothing to be seen then.
    pub(crate) fn see_masked(&self, undecryptable: &UndecryptableMessage) {
        if undecryptable.decrypt_fail_mode == DecryptFailMode::Hide {
            return;
        }
        self.take_seen(incoming::masked(&undecryptable.info).into_iter().collect());
    }

    fn take_seen(&self, messages: Vec<IncomingMessage>) {
        if messages.is_empty() {
            return;
        }
        let Ok(place) = self.seen_waiting.clone().try_acquire_owned() else {
            return warn!("too many messages that cannot be decrypted wait for the log, one is not told");
        };
        let taken = self.inbox.take(messages);
        tokio::spawn(async move {
            taken.await;
            drop(place);
        });
    }

    /// Takes messages that the engine decrypted; whether they are kept.
    async fn take(&self, messages: Vec<IncomingMessage>) -> bool {
        let mut taken = self.inbox.take(messages);
        let is_kept = match timeout(KEPT_SOON, &mut taken).await {
            Ok(is_kept) => is_kept,
            Err(_) => {
                self.put_pending_on_disk().await;
                taken.await
            }
        };
        if is_kept {
            self.times_shut.store(0, Ordering::Relaxed);
        } else {
            self.put_pending_on_disk().await;
        }
        is_kept
    }

    async fn put_pending_on_disk(&self) {
        if let Err(error) = self.backend.put_pending_on_disk().await {
            warn!(%error, "messages that are not in the event log could not be put on disk either");
        }
    }

    /// A message could not be kept. WhatsApp gives it to the next connection.
    fn shut(self: &Arc<Self>, client: Arc<Client>) {
        if self.is_shut.swap(true, Ordering::Relaxed) {
            return;
        }
        self.times_shut.fetch_add(1, Ordering::Relaxed);
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
        if messages.is_empty() || self.0.take(messages).await {
            return Ok(());
        }
        self.0.shut(client);
        anyhow::bail!("the messages are not on disk")
    }
}
