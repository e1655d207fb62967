//! Decides which hosts may be connected to on behalf of callers: those of the public internet, and those that the operator
//! allows. A host's name is resolved here, so that the connection goes to an address that was looked at.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::address::{is_internal_name, is_public};
use super::{FetchAllow, FetchError};

/// Names that are resolved at once. Each takes a thread, of which the daemon needs some hundred for other things.
const LOOKUPS_MAX: usize = 64;

static LOOKUPS: Semaphore = Semaphore::const_new(LOOKUPS_MAX);

/// The rule.
#[derive(Clone, Debug)]
pub(crate) struct Guard(Arc<FetchAllow>);

/// How a host may be reached.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// At public addresses.
    Public,
    /// At any address: the operator allows it.
    Any,
}

impl Guard {
    pub(crate) fn new(allowed: FetchAllow) -> Self {
        Self(Arc::new(allowed))
    }

    /// How the host of a URL may be reached, as far as the URL itself says.
    ///
    /// # Errors
    /// [`FetchError::NotHttp`], [`FetchError::Credentials`], [`FetchError::NotPublic`].
    pub(crate) fn reach(&self, url: &Url) -> Result<Reach, FetchError> {
        let (host, port) = target(url)?;
        if self.0.allows(&host, port) {
            return Ok(Reach::Any);
        }
        match literal(&host) {
            Some(address) if !is_public(address) => Err(FetchError::NotPublic(host)),
            _ => Ok(Reach::Public),
        }
    }

    /// The host as the URL writes it, and its addresses, each of which may be connected to.
    ///
    /// # Errors
    /// As [`Self::reach`], and [`FetchError::NotFound`].
    pub(super) async fn resolve(&self, url: &Url) -> Result<(String, Vec<SocketAddr>), FetchError> {
        let reach = self.reach(url)?;
        let (host, port) = target(url)?;
        if let Some(address) = literal(&host) {
            return Ok((host, vec![SocketAddr::new(address, port)]));
        }
        let addresses = lookup(&host, port, reach).await;
        if addresses.is_empty() { Err(FetchError::NotFound(host)) } else { Ok((host, addresses)) }
    }

    /// Checks where a URL leads to at the moment.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub(crate) async fn check(&self, url: &Url) -> Result<(), FetchError> {
        self.resolve(url).await.map(drop)
    }
}

/// The addresses of a name; none where one of them may not be connected to: the name's owner could send us to any of them.
/// Every name is resolved, so that the time it takes reveals nothing about names that are refused anyway.
async fn lookup(host: &str, port: u16, reach: Reach) -> Vec<SocketAddr> {
    let Ok(permit) = LOOKUPS.acquire().await else { return Vec::new() };
    let name = host.to_owned();
    // The permit goes with the thread, which goes on when nobody waits any more.
    let found = spawn_blocking(move || (permit, (name.as_str(), port).to_socket_addrs().map(Iterator::collect)));
    let addresses: Vec<SocketAddr> = found.await.map(|(_, found)| found.unwrap_or_default()).unwrap_or_default();
    let is_usable =
        reach == Reach::Any || (!is_internal_name(host) && addresses.iter().all(|address| is_public(address.ip())));
    if is_usable { addresses } else { Vec::new() }
}

/// Resolves names for a client that keeps its connections: to addresses that may be connected to, or to none.
pub(crate) struct Resolver(pub(crate) Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let addresses = lookup(name.as_str(), 0, reach).await;
            if addresses.is_empty() {
                return Err(FetchError::NotFound(name.as_str().to_owned()).into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

/// Host and port of a URL, if it may be connected to at all.
pub(super) fn target(url: &Url) -> Result<(String, u16), FetchError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(FetchError::NotHttp);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(FetchError::Credentials);
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(FetchError::NotHttp)?;
    Ok((host.to_owned(), url.port_or_known_default().ok_or(FetchError::NotHttp)?))
}
