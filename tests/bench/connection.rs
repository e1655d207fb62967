//! The daemon under load, and the connections that load it. Never judges a figure.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::Child;

/// Room for the largest answer in one read.
pub(crate) const READ_BYTES: usize = 256 * 1024;

/// A keep-alive connection with one request at a time.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The parts of an answer that matter.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body_bytes: usize,
}

/// The daemon on a port of its own: the child, where it listens, and how long it took to do so.
pub(crate) fn start_daemon(
    whatsapp_url: &str,
    data: &Path,
    key: &str,
    key_rate: &str,
) -> Result<(Child, SocketAddr, Duration)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"));
    command.arg("serve").env("ROOKERY_DATA_DIR", data).env("ROOKERY_WHATSAPP_URL", whatsapp_url);
    command.env("ROOKERY_BOOTSTRAP_KEY", key).env("ROOKERY_LISTEN", "127.0.0.1:0").env("ROOKERY_KEY_RATE", key_rate);
    command.env("ROOKERY_PACE_WRITE", "off").env("ROOKERY_PACE_QUERY", "off");
    let started = Instant::now();
    let (child, address) =
        Child::start(&mut command, |line| line.split("serving listen=").nth(1)?.trim().parse::<SocketAddr>().ok())?;
    Ok((child, address, started.elapsed()))
}

/// A GET, with `If-None-Match` unless the tag is empty.
pub(crate) fn request(path: &str, key: &str, tag: &str) -> Bytes {
    let known = if tag.is_empty() { String::new() } else { format!("If-None-Match: {tag}\r\n") };
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n{known}\r\n").into()
}

/// The time within which this share of the answers came; `sorted`: microseconds.
pub(crate) fn quantile_ms(sorted: &[u32], share: f64) -> f64 {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at).map_or(f64::NAN, |micros| f64::from(*micros) / 1000.0)
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(READ_BYTES) })
    }

    /// Just enough HTTP for servers that say how long their bodies are: the less the client does, the more is measured
    /// of the server.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (status, head_bytes, body_bytes) = loop {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.buffer[..end])?;
                let status = head.get(9..12).context("no status")?.parse()?;
                let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
                break (status, end + 4, length.map_or(Ok(0), str::parse::<usize>)?);
            }
        };
        while self.buffer.len() < head_bytes + body_bytes {
            ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
        }
        Ok(Answer { status, body_bytes })
    }
}
