//! Fetches the files that callers name by URL, without letting callers reach hosts that only this machine can reach:
//! the host is resolved here, every address has to be public, and the connection goes to just these. Never follows a
//! redirect unchecked, never reads more or longer than allowed, uses no proxy, and never logs a URL.

mod address;
mod allow;
mod guard;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use percent_encoding::percent_decode_str;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use tokio::sync::Semaphore;

use crate::media::FILENAME_CHARS_MAX;
pub use allow::FetchAllow;
pub(crate) use guard::{Guard, Reach, Resolver};

/// Time for a fetch with its redirects: the waiting request has a time limit of some 30 s for all its work.
const FETCH_TIME_MAX: Duration = Duration::from_secs(8);
/// Redirects of one fetch: more are a loop.
const REDIRECTS_MAX: usize = 3;
/// Fetches at once; more are refused for the moment, as each may hold several megabytes.
pub(crate) const FETCHES_MAX: usize = 8;
/// Characters of a URL: what browsers take at least.
pub(crate) const URL_CHARS_MAX: usize = 2048;

/// Reads from hosts that callers name.
pub(crate) struct Fetcher {
    tls: rustls::ClientConfig,
    guard: Guard,
    permits: Semaphore,
    time_max: Duration,
}

/// Why a URL was not read. Each is a sentence that goes on from the name of the field that holds the URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// Too many other fetches run.
    #[error("cannot be fetched now: too many others are")]
    Busy,
    /// The text is no http or https URL, or too long.
    #[error("must be an http or https URL of up to {URL_CHARS_MAX} characters")]
    NotHttp,
    /// The URL holds a user name or a password.
    #[error("must not hold a user name or password")]
    Credentials,
    /// The host has no address, or one that is not public. The error does not say which, as that would reveal the names
    /// in our own network.
    #[error(
        "names the host `{0}`, which is not found in the public internet: check its name, or have the operator allow it with \
             --fetch-allow"
    )]
    NotFound(String),
    /// The URL itself holds an address that is not public.
    #[error("leads to `{0}`, which is not a public address: the operator may allow it with --fetch-allow")]
    NotPublic(String),
    /// The URL is redirected too often.
    #[error("is redirected more than {REDIRECTS_MAX} times: give the last address")]
    Redirects,
    /// A redirect leads to no http or https URL.
    #[error("is redirected to something that is not an http or https URL")]
    BadRedirect,
    /// The status code is not 200.
    #[error("is answered with status {0}, but must be answered with 200")]
    Status(u16),
    /// The response is too large.
    #[error("is answered with more than {bytes_max} bytes")]
    TooLarge {
        /// Bytes that are allowed.
        bytes_max: usize,
    },
    /// The response did not come in time.
    #[error("is not answered within {} s", .0.as_secs_f32())]
    TooSlow(Duration),
    /// The host cannot be connected to.
    #[error("leads to `{0}`, which cannot be connected to")]
    Unreachable(String),
    /// The response is compressed.
    #[error("is answered with a compressed file (Content-Encoding), although none was asked for")]
    Encoded,
    /// The response is no HTTP, or broke off.
    #[error("is answered by `{0}` with something that is no HTTP or breaks off")]
    Broken(String),
}

/// A URL that may be fetched, by its form.
///
/// # Errors
/// [`FetchError::NotHttp`], [`FetchError::Credentials`].
pub(crate) fn read_url(text: &str) -> Result<Url, FetchError> {
    let url = Some(text).filter(|text| text.len() <= URL_CHARS_MAX).and_then(|text| Url::parse(text).ok());
    let url = url.ok_or(FetchError::NotHttp)?;
    guard::target(&url)?;
    Ok(url)
}

/// The result of one request.
enum Step {
    Redirected(Url),
    Opened(Opened),
}

/// An answer that is read piece by piece. Dropping it ends the connection.
pub(crate) struct Opened {
    response: Response,
    host: String,
    bytes: usize,
    bytes_max: usize,
}

impl Opened {
    /// The next piece; `None`: that was all.
    ///
    /// # Errors
    /// [`FetchError::TooLarge`], [`FetchError::Broken`].
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        let piece = self.response.chunk().await.map_err(|error| failed(&error, &self.host))?;
        self.bytes += piece.as_ref().map_or(0, Bytes::len);
        if self.bytes > self.bytes_max {
            return Err(FetchError::TooLarge { bytes_max: self.bytes_max });
        }
        Ok(piece)
    }

    /// The media type, as the host says.
    pub(crate) fn mimetype(&self) -> Option<String> {
        self.response.headers().get(CONTENT_TYPE)?.to_str().ok().map(str::to_owned)
    }

    /// The last part of the path, where it is the name of a file.
    pub(crate) fn filename(&self) -> Option<String> {
        let encoded = self.response.url().path_segments()?.next_back()?;
        let decoded = percent_decode_str(encoded).decode_utf8().ok()?;
        let is_name = decoded.contains('.') && !decoded.chars().any(|c| c.is_control() || c == '/');
        (is_name && decoded.chars().count() <= FILENAME_CHARS_MAX).then(|| decoded.into_owned())
    }
}

impl Fetcher {
    /// # Errors
    /// When no TLS version can be used, which is a defect of the build.
    pub(crate) fn new(guard: Guard) -> Result<Self, rustls::Error> {
        let tls = rookery_actors::tls_config()?;
        Ok(Self { tls, guard, permits: Semaphore::new(FETCHES_MAX), time_max: FETCH_TIME_MAX })
    }

    /// The bytes behind a URL, at most this many. Dropping it ends the connection.
    ///
    /// # Errors
    /// What is wrong with the URL or with the response.
    pub(crate) async fn fetch(&self, url: &str, bytes_max: usize) -> Result<Bytes, FetchError> {
        let Ok(_permit) = self.permits.try_acquire() else { return Err(FetchError::Busy) };
        let fetched = tokio::time::timeout(self.time_max, async {
            let mut answer = self.open(url, bytes_max).await?;
            let mut bytes = BytesMut::new();
            while let Some(piece) = answer.next().await? {
                bytes.extend_from_slice(&piece);
            }
            Ok(bytes.freeze())
        });
        fetched.await.unwrap_or(Err(FetchError::TooSlow(self.time_max)))
    }

    /// The answer behind a URL, of at most so many bytes. The caller limits how many are read at once, and for how long.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub(crate) async fn open(&self, url: &str, bytes_max: usize) -> Result<Opened, FetchError> {
        let mut url = read_url(url)?;
        for _ in 0..=REDIRECTS_MAX {
            match self.request(url, bytes_max).await? {
                Step::Opened(answer) => return Ok(answer),
                Step::Redirected(to) => url = to,
            }
        }
        Err(FetchError::Redirects)
    }

    async fn request(&self, url: Url, bytes_max: usize) -> Result<Step, FetchError> {
        let (host, addresses) = self.guard.resolve(&url).await?;
        let client = self.client(&host, &addresses).map_err(|_| FetchError::Broken(host.clone()))?;
        let response = client.get(url.clone()).send().await.map_err(|error| failed(&error, &host))?;
        let status = response.status();
        if is_redirect(status) {
            let to = response.headers().get(LOCATION).and_then(|location| url.join(location.to_str().ok()?).ok());
            return to.map(Step::Redirected).ok_or(FetchError::BadRedirect);
        }
        if status != StatusCode::OK {
            return Err(FetchError::Status(status.as_u16()));
        }
        if response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            return Err(FetchError::Encoded);
        }
        if response.content_length().is_some_and(|announced| announced > bytes_max as u64) {
            return Err(FetchError::TooLarge { bytes_max });
        }
        Ok(Step::Opened(Opened { response, host, bytes: 0, bytes_max }))
    }

    /// A client for one request, which connects to these addresses whatever the host's name resolves to by then.
    fn client(&self, host: &str, addresses: &[SocketAddr]) -> reqwest::Result<Client> {
        Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .resolve_to_addrs(host, addresses)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("rookery/", env!("CARGO_PKG_VERSION")))
            .build()
    }
}

/// 300 and 304 are no redirects to another URL.
fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The error in our own words: the library's text may hold the URL.
fn failed(error: &reqwest::Error, host: &str) -> FetchError {
    if error.is_connect() { FetchError::Unreachable(host.into()) } else { FetchError::Broken(host.into()) }
}
