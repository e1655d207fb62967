//! A receiver of webhooks over real sockets, which answers as the test tells it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the receiver does with a delivery.
#[derive(Clone, Debug)]
pub(crate) enum Reaction {
    /// This whole answer.
    Answer(&'static str),
    /// The connection is cut without an answer.
    Cut,
    /// Nothing, for this long; then a 200.
    Silence(Duration),
}

pub(crate) const OK: Reaction = Reaction::Answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
pub(crate) const BROKEN: Reaction =
    Reaction::Answer("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops");
pub(crate) const GONE: Reaction = Reaction::Answer("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n");

/// A delivery that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) raw: String,
    pub(crate) body: Value,
}

impl Arrived {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn event(&self) -> &str {
        self.body["event"].as_str().unwrap()
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.body["data"]["sequence"].as_u64().unwrap()
    }
}

/// The receiver.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    arrived: Vec<Arrived>,
    /// The reactions to the next deliveries, before `always`.
    next: VecDeque<Reaction>,
    always: Option<Reaction>,
    connections: usize,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn next(&self, reactions: impl IntoIterator<Item = Reaction>) {
        self.state.lock().unwrap().next.extend(reactions);
    }

    pub(crate) fn always(&self, reaction: Reaction) {
        self.state.lock().unwrap().always = Some(reaction);
    }

    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.state.lock().unwrap().arrived.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    let mut bytes = Vec::new();
    loop {
        let (arrived, rest) = loop {
            if let Some(read) = parse(&bytes) {
                break read;
            }
            let mut piece = [0; 8_192];
            let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
            bytes.extend_from_slice(&piece[..count]);
        };
        bytes = rest;
        let reaction = {
            let mut state = state.lock().unwrap();
            state.arrived.push(arrived);
            state.next.pop_front().or_else(|| state.always.clone()).unwrap_or(OK)
        };
        let answer = match reaction {
            Reaction::Answer(answer) => answer,
            Reaction::Cut => return None,
            Reaction::Silence(time) => {
                tokio::time::sleep(time).await;
                "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            }
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

/// A request that is there as a whole, and the bytes behind it.
fn parse(bytes: &[u8]) -> Option<(Arrived, Vec<u8>)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let field = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: Vec<(String, String)> = lines.filter_map(field).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse::<usize>().unwrap();
    let body = bytes.get(end..end + length)?;
    let raw = std::str::from_utf8(body).unwrap().to_owned();
    let arrived = Arrived { path, headers, body: serde_json::from_str(&raw).unwrap(), raw };
    Some((arrived, bytes[end + length..].to_vec()))
}
