//! Sends one delivery to its receiver: over connections that are kept, by HTTP/2 where the receiver offers it, at addresses that
//! may be connected to. Follows no redirect, and never logs a URL or a header field: they may hold secrets.

use std::error::Error as StdError;
use std::io;
use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;
use bytes::Bytes;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, StatusCode, Url, redirect};
use rustls::ClientConfig;
use tokio::time::Instant;

use crate::url_fetch::{FetchError, Guard, Reach, Resolver};

/// Time for an answer, with all that comes before it.
pub(crate) const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Time for the body of an answer: what was answered is known by then.
const BODY_TIME_MAX: Duration = Duration::from_secs(1);
/// Bytes of an answer that are kept.
pub(crate) const ANSWER_KEPT_BYTES: usize = 1_024;
/// Bytes of an answer that are read, so that its connection can be used again. A longer answer costs the connection.
const ANSWER_READ_BYTES_MAX: usize = 64 * 1_024;
/// Connections that are kept for each host while nothing is sent.
const IDLE_CONNECTIONS_MAX: usize = 8;
/// For how long they are kept.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// Sends deliveries.
pub(crate) struct WebhookClient {
    guard: Guard,
    /// For hosts in the public internet.
    public: Client,
    /// For hosts that the operator allows.
    allowed: Client,
}

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// The status of the answer, when there was one.
    pub(crate) status: Option<u16>,
    /// The beginning of the answer's body.
    pub(crate) answer: String,
    /// Why it is no delivery; `None`: the receiver has it.
    pub(crate) error: Option<String>,
    /// The wait that the receiver asks for.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) took: Duration,
}

impl Attempt {
    /// The receiver wants nothing any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.status == Some(StatusCode::GONE.as_u16())
    }

    /// An attempt that could not be made.
    pub(crate) fn unsent(error: impl ToString) -> Self {
        let error = Some(error.to_string());
        Self { status: None, answer: String::new(), error, retry_after: None, took: Duration::ZERO }
    }
}

impl WebhookClient {
    /// `tls`: whom receivers are checked against.
    ///
    /// # Errors
    /// When no client can be made, which is a defect of the build.
    pub(crate) fn new(guard: Guard, mut tls: ClientConfig) -> reqwest::Result<Self> {
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let client = |reach: Reach| {
            Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .dns_resolver(Resolver(reach))
                .redirect(redirect::Policy::none())
                .retry(reqwest::retry::never())
                .no_proxy()
                .referer(false)
                .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
                .pool_idle_timeout(IDLE_TIME_MAX)
                .user_agent(concat!("rookery/", env!("CARGO_PKG_VERSION")))
                .build()
        };
        Ok(Self { guard, public: client(Reach::Public)?, allowed: client(Reach::Any)? })
    }

    /// Whether deliveries may go to this URL, as far as can be said now.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn check(&self, url: &Url) -> Result<(), FetchError> {
        let checked = tokio::time::timeout(ANSWER_TIME_MAX, self.guard.check(url)).await;
        checked.unwrap_or(Err(FetchError::TooSlow(ANSWER_TIME_MAX)))
    }

    /// Tries to deliver once.
    pub(crate) async fn send(&self, url: &Url, headers: HeaderMap, body: Bytes) -> Attempt {
        let begun = Instant::now();
        let client = match self.guard.reach(url) {
            Ok(Reach::Public) => &self.public,
            Ok(Reach::Any) => &self.allowed,
            Err(error) => return Attempt::unsent(format!("the URL {error}")),
        };
        let request = client.post(url.clone()).headers(headers).body(body);
        let (mut status, mut retry_after, mut answer) = (None, None, Vec::new());
        let answered = async {
            let mut response = request.send().await?;
            status = Some(response.status());
            retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let (mut read, until) = (0, Instant::now() + BODY_TIME_MAX);
            while let Ok(Some(chunk)) = tokio::time::timeout_at(until, response.chunk()).await.unwrap_or(Ok(None)) {
                let room = ANSWER_KEPT_BYTES.saturating_sub(answer.len());
                answer.extend_from_slice(&chunk[..chunk.len().min(room)]);
                read += chunk.len();
                if read > ANSWER_READ_BYTES_MAX {
                    break;
                }
            }
            Ok::<_, reqwest::Error>(())
        };
        let answered = tokio::time::timeout_at(begun + ANSWER_TIME_MAX, answered).await;
        let error = match (status, answered) {
            // The status decides, also where the answer's body breaks off.
            (Some(status), _) if status.is_success() => None,
            (Some(status), _) if status.is_redirection() => {
                let status = shown(status);
                Some(format!("the receiver answered {status}: redirects are not followed, give the last address"))
            }
            (Some(status), _) => Some(format!("the receiver answered {}", shown(status))),
            (None, Ok(Err(error))) => Some(in_words(&error)),
            (None, _) => Some(format!("the receiver did not answer within {} s", ANSWER_TIME_MAX.as_secs())),
        };
        Attempt {
            status: status.map(|status| status.as_u16()),
            answer: String::from_utf8_lossy(&answer).into_owned(),
            error,
            retry_after: retry_after.as_deref().and_then(wait_asked),
            took: begun.elapsed(),
        }
    }
}

/// The wait of a `Retry-After`, in seconds or until a date (RFC 9110, 10.2.3).
fn wait_asked(text: &str) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok()
}

/// A status with its words, where it has some.
fn shown(status: StatusCode) -> String {
    status
        .canonical_reason()
        .map_or_else(|| status.as_u16().to_string(), |words| format!("{} {words}", status.as_u16()))
}

fn tls_in_words(error: &rustls::Error) -> String {
    use rustls::CertificateError as C;
    let what = match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            C::Expired | C::ExpiredContext { .. } => "its certificate has expired".to_owned(),
            C::NotValidYet | C::NotValidYetContext { .. } => "its certificate is not valid yet".to_owned(),
            C::NotValidForName | C::NotValidForNameContext { .. } => "its certificate is for another name".to_owned(),
            _ => "no known authority signed its certificate; name one of your own with --webhook-ca-file".to_owned(),
        },
        rustls::Error::InvalidMessage(_) => "it does not speak TLS".to_owned(),
        other => other.to_string(),
    };
    format!("the receiver's TLS cannot be used: {what}")
}

/// The error in our own words: the library's text may hold the URL.
fn in_words(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    while let Some(found) = cause {
        if let Some(refused) = found.downcast_ref::<FetchError>() {
            return format!("the URL {refused}");
        }
        if let Some(tls) = found.downcast_ref::<rustls::Error>() {
            return tls_in_words(tls);
        }
        match found.downcast_ref::<hyper::Error>() {
            Some(http) if http.is_parse() => return "the receiver answered with something that is no HTTP".to_owned(),
            Some(http) if http.is_incomplete_message() => {
                return "the receiver closed the connection without an answer".to_owned();
            }
            _ => {}
        }
        cause = match found.downcast_ref::<io::Error>() {
            None => found.source(),
            // What it wraps is no source of it.
            Some(wrapper) => match wrapper.get_ref() {
                Some(wrapped) => Some(wrapped as &(dyn StdError + 'static)),
                None => return format!("the receiver cannot be reached: {}", wrapper.kind()),
            },
        };
    }
    let what = if error.is_connect() { "the receiver cannot be reached" } else { "the connection broke off" };
    what.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_until_a_date() {
        assert_eq!(wait_asked(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(wait_asked("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        let in_a_minute = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let wait = wait_asked(&in_a_minute).unwrap();
        assert!(wait > Duration::from_secs(30) && wait <= Duration::from_secs(60), "{wait:?}");
        for nothing in ["", "-1", "1.5", "soon", "Fri, 01 Jan 2010 00:00:00 GMT"] {
            assert_eq!(wait_asked(nothing), None, "{nothing}");
        }
    }
}
