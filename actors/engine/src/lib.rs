//! Everything that names `whatsapp_rust` or `wacore`. Nobody outside knows their types.
//!
//! An [`Engine`] is one WhatsApp client for one device: opened over the session's part of the store, run by the task
//! that opened it, told to end, finished. It reports what happens as [`EngineEvent`]s and never decides anything.

mod acknowledgements;
mod backend;
mod chats;
mod communities;
mod events;
mod file_messages;
mod file_transfer;
mod files;
mod group_node;
mod groups;
mod ids;
mod inbox;
mod incoming;
mod invitations;
mod limits;
mod message_marks;
mod messages;
mod mex;
mod network;
mod notifications;
mod numbers;
mod passkey;
mod pictures;
mod profile;
mod requests;
mod settings;
mod specs;
mod texts;
mod votes;
mod watch;

use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;
use wacore::iq::devices::RemoveCompanionDeviceSpec;
use wacore::store::DevicePropsOverride;
use wacore::store::traits::DeviceStore as _;
use whatsapp_rust::bot::Bot;
use whatsapp_rust::pair_code::{PairCodeError, PairCodeOptions, PairError};
use whatsapp_rust::request::IqError;
use whatsapp_rust::{Client, MexError, TokioRuntime};

pub use communities::LinkAnswer;
pub use events::{EngineEvent, IncomingCall, LogoutKind, Report};
pub use file_messages::{FileInMessage, file_in};
pub use files::{EncryptedFile, FileError, FileReader, FileWriter, NoRoom, Room, TempFile};
pub use inbox::Inbox;
pub use limits::AccountAnswer;
pub use message_marks::MessageInChat;
pub use network::certificate::check_whatsapp_url;
pub use network::wire::Wire;
pub use requests::{Applicant, Invitation, NewGroup, NewGroupPlace, ParticipantAnswer, PreviousDescription};
pub use votes::{VoteParties, open_vote};

use acknowledgements::Acknowledgements;
use backend::SessionBackend;
use events::Reporter;
use inbox::{Delivery, Hook};
use network::connect_throttle::ConnectPermit;
use network::http::{SessionHttp, SharedVersion};
use network::transport::{ClientSlot, ThrottledTransports};
use network::ways::{Way, Ways};
use network::websocket::{Endpoint, WebSockets};
use rookery_model::{ParticipantId, ParticipantIds, Proxy, SessionConfig};
use rookery_store::{SessionNumber, Store, StoreError};

/// One-time pre-keys kept at WhatsApp per device: 256 strangers may write before the next upload. They live in the
/// store, not in memory.
const PRE_KEYS_WANTED: usize = 256;

/// Flushes until the store has the linked account. Each is a write, and the background saver's own write ends within
/// one or two of them.
const FLUSHES_MAX: usize = 16;

/// Interval of the checks whether WhatsApp has accepted the log-in.
const LOGIN_POLL_INTERVAL: Duration = Duration::from_millis(100);
/// WhatsApp's time to confirm a log-out.
const LOGOUT_TIMEOUT: Duration = Duration::from_secs(5);

/// The text of a refusal because of the time lock on reaching out. Its code is 463, which also stands for other reasons;
/// 429 was seen, too.
const TIME_LOCKED_TEXT: &str = "account_reachout_restricted";

/// WhatsApp's own WebSocket, as its web client uses it.
pub const WHATSAPP_URL: &str = "wss://web.whatsapp.com/ws/chat";

/// The operator's settings for all engines of a daemon.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The WebSocket to connect to; [`WHATSAPP_URL`] unless a simulator is used.
    pub whatsapp_url: String,
    /// How the daemon names itself in the phone's list of linked devices.
    pub device_name: String,
    /// Connects started per second over all sessions, restarts included.
    pub connects_per_second: u32,
    /// Sessions that may be connecting at once, for each proxy and without one.
    pub connecting_max: usize,
}

/// Shared by all engines of a daemon: the ways to WhatsApp, its TLS sessions, and one client version.
pub struct EngineShared {
    url: String,
    device_name: String,
    store: Arc<dyn Store>,
    endpoint: Arc<Endpoint>,
    ways: Ways,
    version: SharedVersion,
}

/// Why the engine could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// WhatsApp answered with an error.
    #[error("refused with code {code}")]
    Refused {
        /// WhatsApp's status code.
        code: u16,
        /// Seconds after which the request may be sent again.
        backoff_s: Option<u32>,
    },
    /// WhatsApp lets the account reach out to nobody new.
    #[error("the account may not reach out to new people")]
    TimeLocked,
    /// The description changed since it was read.
    #[error("the description changed since it was read")]
    DescriptionConflict,
    /// No answer, or none that says what happened: the request may have been carried out.
    #[error("no answer: {0}")]
    Unanswered(String),
    /// The answer could not be parsed: the request may have been carried out.
    #[error("the answer could not be read")]
    Unreadable,
    /// There is no connection, or it broke before there was an answer. By itself that does not say whether the request
    /// was sent.
    #[error("no answer: the connection was lost")]
    ConnectionLost,
    /// The device's state cannot be saved.
    #[error("credentials cannot be saved: {0}")]
    Unsaved(String),
    /// The request cannot be sent as it is.
    #[error("{0}")]
    Invalid(String),
    /// Something is wrong with a file.
    #[error(transparent)]
    File(#[from] FileError),
}

impl EngineError {
    /// Whether the result of the request is unknown: it may have been carried out.
    pub fn is_unanswered(&self) -> bool {
        matches!(self, Self::Unanswered(_) | Self::Unreadable | Self::ConnectionLost | Self::Unsaved(_))
    }
}

/// One WhatsApp client. All calls may be dropped at any time; what was sent stays sent.
pub struct Engine {
    client: Arc<Client>,
    http: SessionHttp,
    backend: Arc<SessionBackend>,
    wire: Arc<Wire>,
    permit: Arc<ConnectPermit>,
    acknowledgements: Arc<Acknowledgements>,
}

/// The part of an engine that has to be run: its connection, until it ends for good.
pub struct EngineRun {
    bot: Bot,
    wire: Arc<Wire>,
    permit: Arc<ConnectPermit>,
    report: Report,
}

/// How much an engine's connections have sent.
#[derive(Copy, Clone, Debug)]
pub struct Sent(u64);

/// What an engine needs of its session.
pub struct EngineSession {
    /// Where its device is stored.
    pub number: SessionNumber,
    /// The operator's settings for the session; may change at any time.
    pub config: Arc<ArcSwap<SessionConfig>>,
    /// The record of the session's connections.
    pub wire: Arc<Wire>,
    /// What its connections go through. Another one needs another engine.
    pub proxy: Option<Arc<Proxy>>,
    /// Where its messages go.
    pub inbox: Arc<dyn Inbox>,
}

impl EngineShared {
    /// Prepares what engines share; connects to nothing.
    ///
    /// # Errors
    /// The URL is not allowed, or TLS cannot be used.
    pub fn new(options: EngineOptions, store: Arc<dyn Store>) -> anyhow::Result<Self> {
        check_whatsapp_url(&options.whatsapp_url).map_err(anyhow::Error::msg)?;
        let per_second = NonZeroU32::new(options.connects_per_second).context("connects per second must not be 0")?;
        Ok(Self {
            device_name: options.device_name,
            store,
            endpoint: Arc::new(Endpoint::new(&options.whatsapp_url, tls_config()?)?),
            ways: Ways::new(per_second, options.connecting_max)?,
            version: SharedVersion::default(),
            url: options.whatsapp_url,
        })
    }

    async fn version(&self, http: &SessionHttp) -> network::http::Version {
        if self.url == WHATSAPP_URL { self.version.get(http).await } else { SharedVersion::fallback() }
    }
}

/// TLS as a client. Servers are checked against the bundled web roots: no trust in what is installed on the machine.
///
/// # Errors
/// When no TLS version can be used, which is a defect of the build.
pub fn tls_config() -> Result<rustls::ClientConfig, rustls::Error> {
    tls_config_trusting(&[])
}

/// As [`tls_config`], with these certificates of authorities beside the bundled ones.
///
/// # Errors
/// As [`tls_config`], and when one of them is none.
pub fn tls_config_trusting(authorities: &[CertificateDer<'static>]) -> Result<rustls::ClientConfig, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone())?;
    }
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

impl Engine {
    /// Waits for a permit to connect, then builds the client over the session's stored device. The caller holds the
    /// device's permit (K-1) and runs the [`EngineRun`]. Events are reported from the engine's tasks, in no order.
    pub async fn open(
        shared: &EngineShared,
        session: EngineSession,
        report: Report,
    ) -> anyhow::Result<(Self, EngineRun)> {
        let EngineSession { number, config, wire, proxy, inbox } = session;
        let Way { connect, http, throttle } = shared.ways.of(proxy)?;
        let permit = Arc::new(ConnectPermit::new(throttle));
        permit.take().await?;
        let backend = Arc::new(SessionBackend::new(shared.store.clone(), number));
        let client: ClientSlot = Arc::new(OnceLock::new());
        let delivery = Delivery::new(inbox, backend.clone(), permit.clone(), report.clone());
        let sockets = WebSockets { endpoint: shared.endpoint.clone(), connect, wire: wire.clone() };
        let transports = ThrottledTransports {
            inner: Box::new(sockets),
            permit: permit.clone(),
            client: client.clone(),
            config,
            delivery: delivery.clone(),
            report: report.clone(),
        };
        let acknowledgements = Arc::new(Acknowledgements::default());
        let bot = Bot::builder()
            .with_backend_arc(backend.clone())
            .with_transport_factory(transports)
            .with_http_client(http.clone())
            .with_runtime(TokioRuntime)
            .with_version(shared.version(&http).await)
            .with_device_props(DevicePropsOverride::new().with_os(&shared.device_name))
            .with_wanted_pre_key_count(PRE_KEYS_WANTED)
            .skip_history_sync()
            .with_inbound_durability_hook(Hook(delivery.clone()))
            .with_event_handler(Reporter::new(permit.clone(), acknowledgements.clone(), delivery, report.clone()))
            .build()
            .await?;
        let _ = client.set(Arc::downgrade(&bot.client()));
        let engine =
            Self { client: bot.client(), http, backend, wire: wire.clone(), permit: permit.clone(), acknowledgements };
        Ok((engine, EngineRun { bot, wire, permit, report }))
    }

    /// Whether a device was linked: false before pairing and after its data was wiped.
    pub fn is_linked(&self) -> bool {
        self.client.pn().is_some()
    }

    /// The linked account by its ids.
    pub fn me(&self) -> ParticipantIds {
        ids::person_of([self.client.pn().as_ref(), self.client.lid().as_ref(), None]).unwrap_or_default()
    }

    /// The account's own display name; empty when not known.
    pub fn push_name(&self) -> String {
        self.client.push_name()
    }

    /// Puts the device's state on disk (K-2). The engine's own flush returns at once while its background saver is
    /// still writing, so this call checks the store itself.
    pub async fn flush(&self) -> Result<(), EngineError> {
        let manager = self.client.persistence_manager();
        for _ in 0..FLUSHES_MAX {
            manager.flush().await.map_err(|error| unsaved(&error))?;
            if self.is_on_disk().await? {
                return Ok(());
            }
        }
        Err(EngineError::Unsaved("they are not on disk".into()))
    }

    /// Whether the device on disk is the connected account's. The rest of its state may still be missing there.
    pub async fn is_on_disk(&self) -> Result<bool, EngineError> {
        let stored = self.backend.load().await.map_err(|error| unsaved(&error))?;
        Ok(stored.is_some_and(|stored| stored.pn.is_some() && stored.pn == self.client.pn()))
    }

    /// Whether the engine has given up saving its state: then none of its changes is durable.
    pub fn has_given_up_saving(&self) -> bool {
        self.client.persistence_manager().is_saver_halted()
    }

    /// How much was sent so far; `None` when no working connection is logged in, so that nothing may be sent now. Waits
    /// up to 5 s while a keepalive is unanswered.
    pub async fn sent(&self) -> Option<Sent> {
        let may_send = self.permit.may_send().await && self.client.is_connected() && self.client.is_logged_in();
        may_send.then(|| Sent(self.wire.written()))
    }

    /// Whether anything at all was sent since `before`. If not, a request that ended with
    /// [`EngineError::ConnectionLost`] meanwhile was never sent, and will not be: the engine sends nothing twice.
    pub fn has_sent_since(&self, before: Sent) -> bool {
        self.wire.written() != before.0
    }

    /// Ends the connection for good and flushes. [`EngineRun::run`] returns soon after.
    pub async fn disconnect(&self) {
        self.permit.close();
        self.client.disconnect().await;
        if let Err(error) = self.backend.put_pending_on_disk().await {
            tracing::warn!(%error, "messages that are not in the event log could not be put on disk");
        }
    }

    /// Closes the store for the engine's remaining tasks. Call it after [`Self::disconnect`] and the end of the run.
    pub fn release(&self) {
        self.backend.close();
    }

    /// Waits until WhatsApp has accepted the log-in. When a phone was linked just now, [`EngineEvent::LoggedIn`] comes
    /// well after that: the phone's first state is fetched and saved in between.
    pub async fn logged_in(&self) {
        while !self.client.is_logged_in() {
            tokio::time::sleep(LOGIN_POLL_INTERVAL).await;
        }
    }

    /// Asks WhatsApp to unlink this device; true when it confirmed in time.
    pub async fn log_out(&self) -> bool {
        let Some(device) = self.client.pn() else { return false };
        let request = self.client.execute(RemoveCompanionDeviceSpec::new(&device));
        matches!(tokio::time::timeout(LOGOUT_TIMEOUT, request).await, Ok(Ok(())))
    }

    /// Asks WhatsApp for a code to type into the phone with this number. An older request is cancelled.
    pub async fn pairing_code(&self, phone: ParticipantId) -> Result<String, EngineError> {
        self.client.cancel_pair_code().await;
        let options = PairCodeOptions { phone_number: phone.digits().to_string(), ..Default::default() };
        self.client.pair_with_code(options).await.map_err(|error| {
            if error.rejection().is_some_and(|rejection| rejection.is_throttled()) {
                let backoff_s = error.backoff().and_then(|backoff| u32::try_from(backoff.as_secs()).ok());
                return EngineError::Refused { code: 429, backoff_s };
            }
            match error {
                PairError::RequestFailed(error) => error.into(),
                PairError::PairCode(PairCodeError::Cancelled) => EngineError::Unanswered("cancelled".into()),
                PairError::PairCode(error) => EngineError::Invalid(error.to_string()),
                error => EngineError::Unanswered(error.to_string()),
            }
        })
    }
}

impl Engine {
    /// Rejects a call; the caller hears the busy tone. WhatsApp sends no response.
    pub async fn reject_call(&self, call: &IncomingCall) -> Result<(), EngineError> {
        let rejected = self.client.voip().reject_call(&call.id, &call.from, &call.creator).await;
        rejected.map_err(|_| EngineError::Unanswered("the call could not be rejected".into()))
    }
}

impl EngineRun {
    /// Connects and reconnects until the connection is over for good.
    pub async fn run(self) {
        let Self { bot, wire, permit, report } = self;
        let client = bot.client();
        tokio::select! {
            () = bot.run() => {}
            // Never ends by itself.
            () = watch::watch(&client, &wire, &permit, &report) => {}
        }
    }
}

/// Uses our store's error text where the store is the cause (the disk is full): the engine's text says nothing useful.
fn unsaved(error: &(dyn std::error::Error + 'static)) -> EngineError {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let ours = causes.find_map(|cause| cause.downcast_ref::<StoreError>()).map(ToString::to_string);
    EngineError::Unsaved(ours.unwrap_or_else(|| error.to_string()))
}

impl From<MexError> for EngineError {
    fn from(error: MexError) -> Self {
        match error {
            MexError::Request(error) => error.into(),
            MexError::ExtensionError { code, .. } => {
                Self::Refused { code: u16::try_from(code).unwrap_or(u16::MAX), backoff_s: None }
            }
            _ => Self::Unreadable,
        }
    }
}

impl From<IqError> for EngineError {
    fn from(error: IqError) -> Self {
        match error {
            IqError::ServerError { text, .. } if text == TIME_LOCKED_TEXT => Self::TimeLocked,
            IqError::ServerError { code, backoff, .. } => Self::Refused { code, backoff_s: backoff },
            // Not the error's own text: it can hold the stanza.
            IqError::Timeout => Self::Unanswered("timed out".into()),
            IqError::ParseError(_) => Self::Unreadable,
            IqError::EncodeError(_) => Self::Invalid("the request could not be encoded".into()),
            _ => Self::ConnectionLost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_said_to_be_full() {
        let full = StoreError::LowSpace { free_bytes: 1, needed_bytes: 2 };
        let engines = wacore::store::error::StoreError::Database(Box::new(full.clone()));
        assert_eq!(engines.to_string(), "database operation error");
        assert_eq!(unsaved(&engines).to_string(), format!("credentials cannot be saved: {full}"));
    }
}
