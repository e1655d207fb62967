//! Facts about a session's connections from their bytes alone: when the last byte arrived from WhatsApp, and whether
//! anything was sent. Outlives the connections; never reads their content.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// The bytes of a session's connections, as times and counts.
#[derive(Debug, Default)]
pub struct Wire(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    heard_at: Option<Instant>,
    /// The first write after `heard_at`.
    unanswered_since: Option<Instant>,
    /// Bytes written over all connections.
    written: u64,
}

impl Wire {
    /// When the last byte from WhatsApp arrived; `None`: never since the daemon's start.
    pub fn heard_at(&self) -> Option<Instant> {
        self.lock().heard_at
    }

    /// The first write after which nothing arrived.
    pub(crate) fn unanswered_since(&self) -> Option<Instant> {
        self.lock().unanswered_since
    }

    /// The number of bytes handed to the connections: as long as it does not grow, nothing was sent.
    pub(crate) fn written(&self) -> u64 {
        self.lock().written
    }

    fn hear(&self) {
        let mut state = self.lock();
        (state.heard_at, state.unanswered_since) = (Some(Instant::now()), None);
    }

    fn write(&self, bytes: usize) {
        let mut state = self.lock();
        state.written = state.written.saturating_add(bytes as u64);
        state.unanswered_since.get_or_insert_with(Instant::now);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream whose reads and writes are recorded in a [`Wire`].
pub(crate) struct Noted<S> {
    inner: S,
    wire: Arc<Wire>,
}

impl<S> Noted<S> {
    pub(crate) fn new(inner: S, wire: Arc<Wire>) -> Self {
        Self { inner, wire }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.wire.hear();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = written {
            self.wire.write(bytes);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(bytes)) = written {
            self.wire.write(bytes);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_heard_answers_what_was_written_before() {
        let (mut peer, ours) = tokio::io::duplex(64);
        let wire = Arc::new(Wire::default());
        let mut noted = Noted::new(ours, wire.clone());
        assert_eq!((wire.heard_at(), wire.unanswered_since(), wire.written()), (None, None, 0));

        noted.write_all(b"one").await.unwrap();
        let first = Instant::now();
        advance(Duration::from_secs(1)).await;
        noted.write_all(b"two").await.unwrap();
        assert_eq!((wire.unanswered_since(), wire.written()), (Some(first), 6));

        peer.write_all(b"answer").await.unwrap();
        noted.read_exact(&mut [0; 6]).await.unwrap();
        assert_eq!((wire.heard_at(), wire.unanswered_since()), (Some(Instant::now()), None));
    }
}
