//! A proxy on loopback, for tests of clients that connect through one: HTTP `CONNECT`, SOCKS4a (its own memo, 1995) and
//! SOCKS5 (RFC 1928, with the password of RFC 1929). Resolves names itself. Nothing else of WhatsApp is in here.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// What a proxy speaks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// HTTP `CONNECT`.
    Http,
    /// SOCKS4a, which has no credentials.
    Socks4,
    /// SOCKS5.
    Socks5,
}

/// What a proxy does with the next connections.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ProxyBehaviour {
    /// Connects to the host.
    Connect,
    /// Says that it may not.
    Refuse,
    /// Takes the connection and never says anything.
    Hang,
    /// Closes the connection at once.
    Close,
}

/// A running proxy; dropping it ends it, with all of its connections.
pub struct ProxyServer {
    protocol: ProxyProtocol,
    address: SocketAddr,
    credentials: Option<(String, String)>,
    state: Arc<State>,
    accepting: AbortHandle,
}

struct State {
    behaviour: Mutex<ProxyBehaviour>,
    /// The hosts that were asked for, with their ports, in order.
    targets: Mutex<Vec<String>>,
    /// Counts the times that all connections were closed. The receivers are the open connections.
    cuts: watch::Sender<u64>,
}

impl ProxyServer {
    /// Starts a proxy on a free port. `credentials`: the user name and the password that it asks for.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start(protocol: ProxyProtocol, credentials: Option<(&str, &str)>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let credentials = credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
        let state = Arc::new(State {
            behaviour: Mutex::new(ProxyBehaviour::Connect),
            targets: Mutex::default(),
            cuts: watch::Sender::new(0),
        });
        let (serving, expected) = (state.clone(), credentials.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, expected) = (serving.clone(), expected.clone());
                let mut cuts = state.cuts.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = cuts.changed() => {}
                        _ = serve(stream, protocol, expected.as_ref(), &state) => {}
                    }
                });
            }
        });
        Ok(Self { protocol, address, credentials, state, accepting: accepting.abort_handle() })
    }

    /// The proxy's URL, with the credentials that it asks for.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = match self.protocol {
            ProxyProtocol::Http => "http",
            ProxyProtocol::Socks4 => "socks4",
            ProxyProtocol::Socks5 => "socks5",
        };
        match &self.credentials {
            None => format!("{scheme}://{}", self.address),
            Some((user, password)) => format!("{scheme}://{user}:{password}@{}", self.address),
        }
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The hosts that were asked for, with their ports, in order. A host is as the client wrote it.
    #[must_use]
    pub fn targets(&self) -> Vec<String> {
        lock(&self.state.targets).clone()
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.cuts.receiver_count()
    }

    /// Sets what it does with the next connections.
    pub fn behave(&self, behaviour: ProxyBehaviour) {
        *lock(&self.state.behaviour) = behaviour;
    }

    /// Closes all connections.
    pub fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for ProxyServer {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(
    mut stream: TcpStream,
    protocol: ProxyProtocol,
    credentials: Option<&(String, String)>,
    state: &State,
) -> io::Result<()> {
    let behaviour = *lock(&state.behaviour);
    match behaviour {
        ProxyBehaviour::Hang => std::future::pending().await,
        ProxyBehaviour::Close => return Ok(()),
        ProxyBehaviour::Connect | ProxyBehaviour::Refuse => {}
    }
    let target = match protocol {
        ProxyProtocol::Http => http_target(&mut stream, credentials).await?,
        ProxyProtocol::Socks4 => socks4_target(&mut stream).await?,
        ProxyProtocol::Socks5 => socks5_target(&mut stream, credentials).await?,
    };
    // The client was told that its credentials are wrong.
    let Some(target) = target else { return stream.shutdown().await };
    lock(&state.targets).push(target.clone());
    let connected = match behaviour {
        ProxyBehaviour::Refuse => None,
        _ => TcpStream::connect(&target).await.ok(),
    };
    let reply: &[u8] = match (protocol, connected.is_some()) {
        (ProxyProtocol::Http, true) => b"HTTP/1.1 200 Connection established\r\n\r\n",
        (ProxyProtocol::Http, false) => b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
        (ProxyProtocol::Socks4, true) => &[0, 0x5a, 0, 0, 0, 0, 0, 0],
        (ProxyProtocol::Socks4, false) => &[0, 0x5b, 0, 0, 0, 0, 0, 0],
        (ProxyProtocol::Socks5, true) => &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        // "Connection not allowed by ruleset".
        (ProxyProtocol::Socks5, false) => &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0],
    };
    stream.write_all(reply).await?;
    if let Some(mut connected) = connected {
        copy_bidirectional(&mut stream, &mut connected).await?;
    }
    Ok(())
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads up to and with `end`.
async fn read_to(stream: &mut TcpStream, end: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        if bytes.len() >= HEAD_BYTES_MAX {
            return Err(broken("too long"));
        }
        bytes.push(stream.read_u8().await?);
    }
    bytes.truncate(bytes.len() - end.len());
    Ok(bytes)
}

async fn http_target(stream: &mut TcpStream, credentials: Option<&(String, String)>) -> io::Result<Option<String>> {
    let head = String::from_utf8(read_to(stream, b"\r\n\r\n").await?).map_err(|_| broken("not text"))?;
    let mut lines = head.split("\r\n");
    let target = lines.next().and_then(|line| line.strip_prefix("CONNECT ")?.strip_suffix(" HTTP/1.1"));
    let target = target.ok_or_else(|| broken("not a CONNECT"))?.to_owned();
    let Some((user, password)) = credentials else { return Ok(Some(target)) };
    let expected = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let given = lines.filter_map(|line| line.split_once(": ")).find(|(name, _)| {
        // The name of a field has no case (RFC 9110, section 5.1).
        name.eq_ignore_ascii_case("proxy-authorization")
    });
    if given.is_some_and(|(_, value)| value == expected) {
        return Ok(Some(target));
    }
    let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"proxy\"\r\n\
                   content-length: 0\r\n\r\n";
    stream.write_all(refusal.as_bytes()).await?;
    Ok(None)
}

async fn socks4_target(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut request = [0; 8];
    stream.read_exact(&mut request).await?;
    let [4, 1, port_high, port_low, a, b, c, d] = request else { return Err(broken("not a SOCKS4 CONNECT")) };
    let _user = read_to(stream, &[0]).await?;
    let port = u16::from_be_bytes([port_high, port_low]);
    // An address that cannot be: a name follows.
    let host = match [a, b, c, d] {
        [0, 0, 0, last] if last != 0 => {
            String::from_utf8(read_to(stream, &[0]).await?).map_err(|_| broken("not text"))?
        }
        address => Ipv4Addr::from(address).to_string(),
    };
    Ok(Some(format!("{host}:{port}")))
}

async fn socks5_target(stream: &mut TcpStream, credentials: Option<&(String, String)>) -> io::Result<Option<String>> {
    let methods = {
        let [5, count] = [stream.read_u8().await?, stream.read_u8().await?] else { return Err(broken("not SOCKS5")) };
        read_bytes(stream, count).await?
    };
    let method = if credentials.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        stream.write_all(&[5, 0xff]).await?;
        return Ok(None);
    }
    stream.write_all(&[5, method]).await?;
    if let Some((user, password)) = credentials {
        let _version = stream.read_u8().await?;
        let user_length = stream.read_u8().await?;
        let given_user = read_bytes(stream, user_length).await?;
        let password_length = stream.read_u8().await?;
        let given_password = read_bytes(stream, password_length).await?;
        let is_right = given_user == user.as_bytes() && given_password == password.as_bytes();
        stream.write_all(&[1, u8::from(!is_right)]).await?;
        if !is_right {
            return Ok(None);
        }
    }
    let mut request = [0; 4];
    stream.read_exact(&mut request).await?;
    let [5, 1, _, kind] = request else { return Err(broken("not a SOCKS5 CONNECT")) };
    let host = match kind {
        1 => Ipv4Addr::from(stream.read_u32().await?).to_string(),
        3 => {
            let length = stream.read_u8().await?;
            String::from_utf8(read_bytes(stream, length).await?).map_err(|_| broken("not text"))?
        }
        _ => return Err(broken("no name and no IPv4 address")),
    };
    let port = stream.read_u16().await?;
    Ok(Some(format!("{host}:{port}")))
}

async fn read_bytes(stream: &mut TcpStream, count: u8) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
