//! Frames and stanzas on one WebSocket: length prefix, connection header, Noise ciphers. Knows no stanza's meaning.

pub(crate) mod texts;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use wacore_binary::consts::WA_CONN_HEADER;
use wacore_binary::{Node, OwnedNodeRef};
use wacore_noise::NoiseCipher;

use crate::SimulatorError;
use crate::noise::{self, Client, Established, ServerHello, ServerIdentity};

/// Marks the optional first bytes with which a client names the data centre it was routed to before.
const EDGE_ROUTING_MARK: &[u8; 4] = b"ED\x00\x01";
/// The length prefix of a frame.
const LENGTH_BYTES: usize = 3;

/// A WebSocket on which frames are read and written in clear.
pub(crate) struct Frames<S> {
    socket: WebSocketStream<S>,
    received: Vec<u8>,
    header_read: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    pub(crate) fn new(socket: WebSocketStream<S>) -> Self {
        Self { socket, received: Vec::new(), header_read: false }
    }

    /// The next frame; `None` once the client has closed. Safe to drop at any await.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, SimulatorError> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) => self.received.extend_from_slice(&bytes),
                Some(Ok(Message::Close(_))) | None => return Ok(None),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }

    /// Sends the frames in one WebSocket message, thus in one write.
    pub(crate) async fn send(&mut self, frames: &[Vec<u8>]) -> Result<(), SimulatorError> {
        let mut message = Vec::with_capacity(frames.iter().map(|frame| frame.len() + LENGTH_BYTES).sum());
        for frame in frames {
            message.extend_from_slice(&(frame.len() as u32).to_be_bytes()[1..]);
            message.extend_from_slice(frame);
        }
        Ok(self.socket.send(Message::Binary(Bytes::from(message))).await?)
    }

    pub(crate) async fn close(&mut self) {
        // The client may be gone already, and closing twice is no error worth reporting.
        let _ = self.socket.close(None).await;
    }

    fn take_frame(&mut self) -> Result<Option<Vec<u8>>, SimulatorError> {
        if !self.header_read {
            let Some(length) = header_bytes(&self.received)? else { return Ok(None) };
            self.received.drain(..length);
            self.header_read = true;
        }
        let Some(length) = big_endian(&self.received) else { return Ok(None) };
        if self.received.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        let frame = self.received[LENGTH_BYTES..LENGTH_BYTES + length].to_vec();
        self.received.drain(..LENGTH_BYTES + length);
        Ok(Some(frame))
    }
}

/// How many bytes precede the first frame; `None` while too few have arrived to know.
fn header_bytes(received: &[u8]) -> Result<Option<usize>, SimulatorError> {
    let mut start = 0;
    if let Some(rest) = received.strip_prefix(EDGE_ROUTING_MARK) {
        let Some(length) = big_endian(rest) else { return Ok(None) };
        start = EDGE_ROUTING_MARK.len() + LENGTH_BYTES + length;
    }
    let end = start + WA_CONN_HEADER.len();
    if received.len() < end {
        return Ok(None);
    }
    if received[start..start + 2] != WA_CONN_HEADER[..2] {
        return Err(SimulatorError::protocol("the first bytes are not WhatsApp's"));
    }
    Ok(Some(end))
}

fn big_endian(bytes: &[u8]) -> Option<usize> {
    let [a, b, c] = *bytes.first_chunk::<LENGTH_BYTES>()?;
    Some(usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c))
}

/// An encrypted stream of stanzas.
pub(crate) struct Stanzas<S> {
    frames: Frames<S>,
    read: NoiseCipher,
    write: NoiseCipher,
    read_count: u32,
    write_count: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stanzas<S> {
    /// Performs the handshake; `None` when the client left in the middle of it.
    pub(crate) async fn accept(
        mut frames: Frames<S>,
        identity: &ServerIdentity,
    ) -> Result<Option<(Self, Client)>, SimulatorError> {
        let Some(hello) = frames.next().await? else { return Ok(None) };
        let established = match noise::answer_hello(identity, &hello)? {
            ServerHello::Done { answer, established } => {
                frames.send(&[answer]).await?;
                *established
            }
            ServerHello::Continue { answer, rest } => {
                frames.send(&[answer]).await?;
                let Some(finish) = frames.next().await? else { return Ok(None) };
                rest.finish(&finish)?
            }
        };
        let Established { read, write, client } = established;
        Ok(Some((Self { frames, read, write, read_count: 0, write_count: 0 }, client)))
    }

    /// The next stanza; `None` once the client has closed. Safe to drop at any await.
    pub(crate) async fn next(&mut self) -> Result<Option<Node>, SimulatorError> {
        let Some(mut frame) = self.frames.next().await? else { return Ok(None) };
        self.read.decrypt_in_place_with_counter(self.read_count, &mut frame).map_err(SimulatorError::crypto)?;
        self.read_count += 1;
        let plain = wacore_binary::util::unpack(&frame).map_err(SimulatorError::protocol)?.into_owned();
        let node = OwnedNodeRef::new(plain).map_err(SimulatorError::protocol)?.to_owned_node();
        Ok(Some(node))
    }

    /// Sends the stanzas in one write.
    pub(crate) async fn send(&mut self, nodes: &[Node]) -> Result<(), SimulatorError> {
        let mut frames = Vec::with_capacity(nodes.len());
        for node in nodes {
            let plain = texts::marshal(node).map_err(SimulatorError::protocol)?;
            let sealed = self.write.encrypt_with_counter(self.write_count, &plain).map_err(SimulatorError::crypto)?;
            self.write_count += 1;
            frames.push(sealed);
        }
        self.frames.send(&frames).await
    }

    pub(crate) async fn close(&mut self) {
        self.frames.close().await;
    }
}
