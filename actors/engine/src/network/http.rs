//! The engines' HTTP clients, one for all sessions without a proxy and one for each session with a proxy, and WhatsApp's
//! current client version, which all sessions share.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_trait::async_trait;
use tokio::sync::Mutex;
use tracing::warn;
use wacore::net::{HttpClient, HttpRequest, HttpResponse};
use whatsapp_rust::version::fetch_latest_app_version;

use rookery_model::{Proxy, ProxyCredentials, ProxyType};

/// Limit of one request. Those for files have limits of their own.
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
pub(crate) type Version = (u32, u32, u32);

/// The HTTP client of an engine. Answers that are not 2xx are `Ok`, as the engine's trait asks for.
#[derive(Clone)]
pub(crate) struct SessionHttp(Arc<Inner>);

struct Inner {
    tls: rustls::ClientConfig,
    proxy: Option<Arc<Proxy>>,
    /// Made for the first request: most sessions have none.
    client: OnceLock<reqwest::Client>,
}

impl SessionHttp {
    /// A client that uses this proxy, or connects from this machine. Connects to nothing.
    pub(crate) fn new(tls: rustls::ClientConfig, proxy: Option<Arc<Proxy>>) -> Self {
        Self(Arc::new(Inner { tls, proxy, client: OnceLock::new() }))
    }

    /// A request for a file. The caller sets its time limit.
    pub(crate) fn request(&self, method: reqwest::Method, url: &str) -> anyhow::Result<reqwest::RequestBuilder> {
        Ok(self.client()?.request(method, url))
    }

    fn client(&self) -> anyhow::Result<&reqwest::Client> {
        if let Some(client) = self.0.client.get() {
            return Ok(client);
        }
        let builder = reqwest::Client::builder().tls_backend_preconfigured(self.0.tls.clone()).timeout(HTTP_TIMEOUT);
        // Nobody else's server has what WhatsApp's have.
        let builder = builder.redirect(reqwest::redirect::Policy::none());
        let builder = match &self.0.proxy {
            // The environment's proxies are not the session's.
            None => builder.no_proxy(),
            Some(proxy) => builder.proxy(through(proxy)?),
        };
        let client = builder.build().map_err(reqwest::Error::without_url).context("cannot build the HTTP client")?;
        Ok(self.0.client.get_or_init(|| client))
    }
}

/// The proxy as the client names it: the schemes with the proxy's own name resolution.
fn through(proxy: &Proxy) -> anyhow::Result<reqwest::Proxy> {
    let scheme = match proxy.kind() {
        ProxyType::Http => "http",
        ProxyType::Https => "https",
        ProxyType::Socks4 => "socks4a",
        ProxyType::Socks5 => "socks5h",
    };
    let named = reqwest::Proxy::all(format!("{scheme}://{}", proxy.authority()));
    let named = named.map_err(reqwest::Error::without_url).context("the proxy cannot be used for HTTP")?;
    Ok(match proxy.credentials() {
        None => named,
        Some(ProxyCredentials { user, password }) => named.basic_auth(user, password),
    })
}

#[async_trait]
impl HttpClient for SessionHttp {
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        let method = request.method.parse().context("not an HTTP method")?;
        let mut call = self.client()?.request(method, &request.url);
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
#[derive(Default)]
pub(crate) struct SharedVersion {
    known: Mutex<Option<Known>>,
}

struct Known {
    version: Version,
    ask_again_at: Instant,
}

impl SharedVersion {
    /// The version without asking anybody: for servers that are not WhatsApp's.
    pub(crate) fn fallback() -> Version {
        VERSION_FALLBACK
    }

    /// The current version, asked for by this client, unless it is known. One session without a proxy asks, the others
    /// wait for it, 5 s at most. A session with a proxy asks by itself, for 5 s more: its proxy says nothing about the
    /// others.
    pub(crate) async fn get(&self, http: &SessionHttp) -> Version {
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| Instant::now() < known.ask_again_at) {
            return known.version;
        }
        let latest = known.as_ref().map_or(VERSION_FALLBACK, |known| known.version);
        if http.0.proxy.is_none() {
            let fetched = fetch(http).await;
            let (version, keep) = fetched.map_or((latest, VERSION_RETRY), |version| (version, VERSION_AGE_MAX));
            *known = Some(Known { version, ask_again_at: Instant::now() + keep });
            return version;
        }
        drop(known);
        let Some(version) = fetch(http).await else { return latest };
        *self.known.lock().await = Some(Known { version, ask_again_at: Instant::now() + VERSION_AGE_MAX });
        version
    }
}

async fn fetch(http: &SessionHttp) -> Option<Version> {
    let client: Arc<dyn HttpClient> = Arc::new(http.clone());
    let error = match tokio::time::timeout(VERSION_TIMEOUT, fetch_latest_app_version(&client)).await {
        Ok(Ok(version)) => return Some(version),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".into(),
    };
    warn!(error, "could not ask for WhatsApp's client version, going on with the last one known");
    None
}

#[cfg(test)]
mod tests {
    use rookery_simulator::{ProxyProtocol, ProxyServer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A file by its name on this machine, fetched through this proxy.
    async fn fetch_through(proxy: Option<Proxy>) -> (u16, anyhow::Result<HttpResponse>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
        });
        let http = SessionHttp::new(crate::tls_config().unwrap(), proxy.map(Arc::new));
        let fetched = http.execute(HttpRequest::get(format!("http://localhost:{port}/file"))).await;
        server.abort();
        (port, fetched)
    }

    #[tokio::test]
    async fn files_of_a_session_come_through_its_proxy_and_never_past_it() {
        let (_, direct) = fetch_through(None).await;
        assert_eq!(direct.unwrap().body, b"hi");
        for (protocol, credentials) in
            [(ProxyProtocol::Socks4, None), (ProxyProtocol::Socks5, Some(("user", "p@ss:word")))]
        {
            let server = ProxyServer::start(protocol, credentials).await.unwrap();
            let proxy: Proxy = server.url().replace("p@ss:word", "p%40ss%3Aword").parse().unwrap();
            let (port, fetched) = fetch_through(Some(proxy.clone())).await;
            assert_eq!(fetched.unwrap().body, b"hi");
            assert_eq!(server.targets(), [format!("localhost:{port}")]);
            drop(server);
            let error = format!("{:?}", fetch_through(Some(proxy)).await.1.unwrap_err());
            assert!(!error.contains("word"), "{error}");
        }
    }
}
