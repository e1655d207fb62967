//! The engine's HTTP client, one for all sessions, and WhatsApp's current client version, asked once for all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_trait::async_trait;
use tokio::sync::Mutex;
use tracing::warn;
use wacore::net::{HttpClient, HttpRequest, HttpResponse};
use whatsapp_rust::version::fetch_latest_app_version;

/// Limit of one request; media is uploaded and downloaded through this client, too.
const HTTP_TIMEOUT: Duration = Duration::from_secs(60);
/// A session's start waits this long for the version, then goes on with the one that is known.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);
/// WhatsApp's web client changes its version every few days.
const VERSION_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// After a failed fetch the version is not asked for again for this long.
const VERSION_RETRY: Duration = Duration::from_secs(600);
/// Used when WhatsApp cannot be asked: it accepts versions that are months old.
const VERSION_FALLBACK: Version = (2, 3000, 1_030_000_000);

/// WhatsApp Web's version, as clients send it.
pub(super) type Version = (u32, u32, u32);

/// The HTTP client of all engines. Answers that are not 2xx are `Ok`, as the engine's trait asks for.
#[derive(Clone)]
pub(super) struct SharedHttp(reqwest::Client);

impl SharedHttp {
    pub(super) fn new(tls: rustls::ClientConfig) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).timeout(HTTP_TIMEOUT).build();
        Ok(Self(client.context("cannot build the HTTP client")?))
    }
}

#[async_trait]
impl HttpClient for SharedHttp {
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        let method = request.method.parse().context("not an HTTP method")?;
        let mut call = self.0.request(method, &request.url);
        for (name, value) in &request.headers {
            call = call.header(name, value);
        }
        if let Some(body) = request.body {
            call = call.body(body);
        }
        // An URL can carry a token: it stays out of the error.
        let response = call.send().await.map_err(reqwest::Error::without_url)?;
        let status_code = response.status().as_u16();
        let body = response.bytes().await.map_err(reqwest::Error::without_url)?.to_vec();
        Ok(HttpResponse { status_code, body })
    }
}

/// The client version for all sessions.
pub(super) struct SharedVersion {
    http: Arc<dyn HttpClient>,
    known: Mutex<Option<Known>>,
}

struct Known {
    version: Version,
    ask_again_at: Instant,
}

impl SharedVersion {
    pub(super) fn new(http: Arc<dyn HttpClient>) -> Self {
        Self { http, known: Mutex::new(None) }
    }

    /// The version without asking anybody: for servers that are not WhatsApp's.
    pub(super) fn fallback() -> Version {
        VERSION_FALLBACK
    }

    /// The current version. One session asks, the others wait for it (5 s at most).
    pub(super) async fn get(&self) -> Version {
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| Instant::now() < known.ask_again_at) {
            return known.version;
        }
        let fetched = tokio::time::timeout(VERSION_TIMEOUT, fetch_latest_app_version(&self.http)).await;
        let (version, keep) = match fetched {
            Ok(Ok(version)) => (version, VERSION_AGE_MAX),
            failed => {
                let error = failed.map_or_else(
                    |_| "no answer in time".into(),
                    |r| r.err().map_or_else(String::new, |e| e.to_string()),
                );
                warn!(error, "could not ask for WhatsApp's client version, going on with the last one known");
                (known.as_ref().map_or(VERSION_FALLBACK, |known| known.version), VERSION_RETRY)
            }
        };
        *known = Some(Known { version, ask_again_at: Instant::now() + keep });
        version
    }
}
