//! Connects from this machine to a host, over both address families. Knows no TLS and no WebSocket.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::connect::{Bytes, Connect, Unconnected};

/// When an address has not answered for this long, the next one is tried beside it: the value of RFC 8305, section 5.
const NEXT_ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses tried for one connection: four of each family. WhatsApp's name has one or two of each.
const ADDRESSES_MAX: usize = 8;
/// Name lookups that may run at once. Each blocks a thread, for half a minute when the resolver does not answer. The
/// runtime has 512 threads for all blocking work.
const LOOKUPS_MAX: usize = 32;
/// Lookups of one proxy's name that may run at once: one that nobody resolves leaves the others' lookups room.
const LOOKUPS_PER_PROXY_MAX: usize = 4;
/// The kernel probes a connection that is idle for this long. The engine's own pings are as frequent: this is for
/// connections that the engine has forgotten.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// The kernel repeats an unanswered probe after this time.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Connects from this machine, over both address families.
pub(crate) struct Direct {
    lookups: Arc<Semaphore>,
    per_name_max: usize,
    /// The permits for each name that is being looked up.
    of_names: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Direct {
    /// For WhatsApp itself, whose name is one for all sessions.
    pub(crate) fn to_whatsapp() -> Self {
        Self::with(LOOKUPS_MAX)
    }

    /// For proxies.
    pub(crate) fn to_proxies() -> Self {
        Self::with(LOOKUPS_PER_PROXY_MAX)
    }

    fn with(per_name_max: usize) -> Self {
        Self { lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)), per_name_max, of_names: Mutex::default() }
    }

    /// A stream to `port` of `host`, a name or an address.
    pub(crate) async fn open(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        first_of(in_turns(self.look_up(host, port).await?), open).await
    }

    async fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![(address, port).into()]);
        }
        let of_name = self.of_name(host).acquire_owned().await.map_err(io::Error::other)?;
        let permit = self.lookups.clone().acquire_owned().await.map_err(io::Error::other)?;
        let host = host.to_owned();
        let lookup = tokio::task::spawn_blocking(move || {
            // The thread holds the permits: a caller that gives up does not end the lookup.
            let _permits = (of_name, permit);
            (host, port).to_socket_addrs().map(Iterator::collect)
        });
        // The resolver's errors have no kind of their own.
        lookup.await.map_err(io::Error::other)?.map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))
    }

    fn of_name(&self, host: &str) -> Arc<Semaphore> {
        let mut of_names = self.of_names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(permits) = of_names.get(host).and_then(Weak::upgrade) {
            return permits;
        }
        of_names.retain(|_, permits| permits.strong_count() > 0);
        let permits = Arc::new(Semaphore::new(self.per_name_max));
        of_names.insert(host.to_owned(), Arc::downgrade(&permits));
        permits
    }
}

#[async_trait]
impl Connect for Direct {
    async fn connect(&self, host: &str, port: u16) -> Result<Box<dyn Bytes>, Unconnected> {
        Ok(Box::new(self.open(host, port).await?))
    }
}

/// The addresses in the resolver's order, but alternating between the two families.
fn in_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::new();
    loop {
        let before = ordered.len();
        ordered.extend(first.next());
        ordered.extend(second.next());
        if ordered.len() == before || ordered.len() >= ADDRESSES_MAX {
            ordered.truncate(ADDRESSES_MAX);
            return ordered;
        }
    }
}

/// The first connection that opens. Each address begins when the one before has failed or has not answered for
/// [`NEXT_ATTEMPT_DELAY`].
async fn first_of<S, F>(addresses: Vec<SocketAddr>, open: impl Fn(SocketAddr) -> F) -> io::Result<S>
where
    F: Future<Output = io::Result<S>>,
{
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        attempts.extend(waiting.next().map(&open));
        let opened = if waiting.len() == 0 {
            attempts.next().await
        } else {
            let Ok(opened) = timeout(NEXT_ATTEMPT_DELAY, attempts.next()).await else { continue };
            opened
        };
        match opened {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => failure = error,
            None => return Err(failure),
        }
    }
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Requests are small and each waits for its answer: with Nagle's algorithm the second of two waits for the peer's
    // delayed acknowledgement, 40 ms.
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::{Instant, sleep};

    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn both_families_are_tried_in_turn_and_no_more_than_eight_addresses() {
        let mixed = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1", "127.0.0.2:1"]);
        let expected = addresses(&["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1", "[::3]:1"]);
        assert_eq!(in_turns(mixed), expected);
        let many = (0..20).map(|last| SocketAddr::from(([127, 0, 0, last], 1))).collect();
        assert_eq!(in_turns(many).len(), ADDRESSES_MAX);
    }

    /// An address, the milliseconds until it answers, and whether it accepts the connection.
    type Plan<'a> = &'a [(&'a str, u64, bool)];

    async fn first_answer(addresses: Plan<'_>) -> (io::Result<SocketAddr>, u128) {
        let plan: HashMap<SocketAddr, (u64, bool)> =
            addresses.iter().map(|(address, ms, opens)| (address.parse().unwrap(), (*ms, *opens))).collect();
        let order = addresses.iter().map(|(address, ..)| address.parse().unwrap()).collect();
        let started = Instant::now();
        let opened = first_of(order, |address| {
            let (ms, opens) = plan[&address];
            async move {
                sleep(Duration::from_millis(ms)).await;
                if opens { Ok(address) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
            }
        });
        (opened.await, started.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn a_family_that_leads_nowhere_costs_a_quarter_of_a_second() {
        let never = 3_600_000;
        let table: [(Plan<'_>, Option<&str>, u128); 5] = [
            (&[("[::1]:1", 20, true), ("127.0.0.1:1", 20, true)], Some("[::1]:1"), 20),
            (&[("[::1]:1", never, true), ("127.0.0.1:1", 20, true)], Some("127.0.0.1:1"), 270),
            (&[("[::1]:1", 5, false), ("127.0.0.1:1", 20, true)], Some("127.0.0.1:1"), 25),
            (&[("[::1]:1", 300, true), ("127.0.0.1:1", 500, true)], Some("[::1]:1"), 300),
            (&[("[::1]:1", 5, false), ("127.0.0.1:1", 5, false)], None, 10),
        ];
        for (addresses, expected, ms) in table {
            let (opened, took) = first_answer(addresses).await;
            assert_eq!(opened.ok(), expected.map(|address| address.parse().unwrap()), "{addresses:?}");
            assert!((ms..ms + 5).contains(&took), "{addresses:?} took {took} ms");
        }
    }

    #[tokio::test]
    async fn a_connection_does_not_wait_for_more_to_send_and_is_looked_after() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = open(listener.local_addr().unwrap()).await.unwrap();
        assert!(stream.nodelay().unwrap());
        assert!(SockRef::from(&stream).keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_a_name_without_an_address_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let direct = Direct::to_whatsapp();
        assert!(direct.connect("localhost", port).await.is_ok());
        assert!(direct.connect("rookery.invalid", port).await.is_err());
    }
}
