//! The bytes of a connection. Checks what comes in (`head.rs`), cuts off clients that take a response too slowly, and
//! closes so that the last response arrives. Knows no requests.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::head::Scanner;
use crate::http::limits::{
    LINGER_BYTES_MAX, LINGER_TIME_MAX, WEBSOCKET_BURST_BYTES, WEBSOCKET_BYTES_PER_SECOND, WEBSOCKET_PAUSE,
};
use crate::http::request::body::earned_by;
use crate::http::server::places::Place;

/// Bytes that are read and dropped at once.
const DISCARDED_AT_ONCE_BYTES: usize = 8 * 1024;

/// A connection's stream.
pub(super) struct Wire<S> {
    stream: S,
    place: Arc<Place>,
    scanner: Scanner,
    waiting_time: WaitingTime,
    /// Of a websocket.
    pace: Pace,
    /// The client kept the daemon waiting for too long.
    is_over: bool,
    /// Whoever waits for input: to be told that it is over, as a websocket is read and written apart.
    reader: Option<Waker>,
    closing: Option<Closing>,
}

/// How much of a websocket is read: frames that mean nothing cost time, too.
struct Pace {
    /// Bytes that may be read now; below zero after a read that took more.
    room: i64,
    since: Instant,
    pause: Option<Pin<Box<Sleep>>>,
}

/// For how long a client may still keep its responses waiting. Each byte that the client takes earns it time, up to the
/// time that it had at first.
struct WaitingTime {
    credit: Duration,
    credit_max: Duration,
    waiting: Option<Waiting>,
}

struct Waiting {
    since: Instant,
    ends: Pin<Box<Sleep>>,
}

/// The last response is sent, and the client may still be sending: a socket that is closed with unread bytes in it is
/// reset, and the client loses the response. So input is read and dropped for a while.
struct Closing {
    ends: Pin<Box<Sleep>>,
    discarded: usize,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, place: Arc<Place>, client_wait_max: Duration) -> Self {
        let waiting_time = WaitingTime { credit: client_wait_max, credit_max: client_wait_max, waiting: None };
        let pace = Pace { room: WEBSOCKET_BURST_BYTES, since: Instant::now(), pause: None };
        let scanner = Scanner::default();
        Self { stream, place, scanner, waiting_time, pace, is_over: false, reader: None, closing: None }
    }

    /// The result of a write, within the client's time.
    fn within_its_time(
        &mut self,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.waiting_time.earn(bytes);
                self.place.note_written();
                Poll::Ready(Ok(bytes))
            }
            Poll::Pending => {
                self.place.note_unread();
                ready!(self.waiting_time.poll_over(context));
                self.is_over = true;
                if let Some(reader) = self.reader.take() {
                    reader.wake();
                }
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            failed => failed,
        }
    }
}

impl Pace {
    /// Resolves when there may be read.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.pause.is_none() {
            let now = Instant::now();
            let earned = now.duration_since(self.since).as_millis() * u128::from(WEBSOCKET_BYTES_PER_SECOND) / 1_000;
            if earned > 0 {
                self.since = now;
                self.room = self.room.saturating_add(earned.try_into().unwrap_or(i64::MAX)).min(WEBSOCKET_BURST_BYTES);
            }
            if self.room > 0 {
                return Poll::Ready(());
            }
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + WEBSOCKET_PAUSE)));
        ready!(pause.as_mut().poll(context));
        self.pause = None;
        // After the pause there is some.
        self.poll_room(context)
    }

    fn note_read(&mut self, bytes: usize) {
        self.room -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }
}

impl WaitingTime {
    fn earn(&mut self, bytes: usize) {
        if let Some(waiting) = self.waiting.take() {
            self.credit = self.credit.saturating_sub(waiting.since.elapsed());
        }
        self.credit = self.credit.saturating_add(earned_by(bytes)).min(self.credit_max);
    }

    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let credit = self.credit;
        let waiting = self.waiting.get_or_insert_with(|| {
            let since = Instant::now();
            Waiting { since, ends: Box::pin(sleep_until(since + credit)) }
        });
        waiting.ends.as_mut().poll(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (before, is_upgraded) = (buffer.filled().len(), this.place.is_upgraded());
        if is_upgraded {
            if this.is_over {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            this.reader = Some(context.waker().clone());
            ready!(this.pace.poll_room(context));
        }
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let read = &buffer.filled()[before..];
        if is_upgraded {
            this.pace.note_read(read.len());
        } else if !this.scanner.scan(read) {
            this.place.note_malformed();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.within_its_time(written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, bytes);
        this.within_its_time(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        let ends = || Box::pin(sleep_until(Instant::now() + LINGER_TIME_MAX));
        let closing = this.closing.get_or_insert_with(|| Closing { ends: ends(), discarded: 0 });
        let mut scratch = [0; DISCARDED_AT_ONCE_BYTES];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => closing.discarded += buffer.filled().len(),
                // The client has closed as well, or is gone.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending if !this.scanner.expects_more() => return Poll::Ready(Ok(())),
                Poll::Pending => return closing.ends.as_mut().poll(context).map(Ok),
            }
            if closing.discarded > LINGER_BYTES_MAX || closing.ends.is_elapsed() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_websocket_is_read_at_a_pace_behind_what_may_come_at_once() {
        const READ_BYTES: usize = 2 * 1024;
        let mut pace = Pace { room: WEBSOCKET_BURST_BYTES, since: Instant::now(), pause: None };
        let begun = Instant::now();
        let mut take = async |bytes: i64| {
            for _ in 0..bytes / READ_BYTES as i64 {
                poll_fn(|context| pace.poll_room(context)).await;
                pace.note_read(READ_BYTES);
            }
            begun.elapsed()
        };
        assert_eq!(take(WEBSOCKET_BURST_BYTES).await, Duration::ZERO);
        let taken = take(10 * i64::from(WEBSOCKET_BYTES_PER_SECOND)).await;
        assert!((9_800..=10_200).contains(&taken.as_millis()), "{taken:?}");
        tokio::time::advance(Duration::from_secs(60)).await;
        let before = begun.elapsed();
        assert_eq!(take(WEBSOCKET_BURST_BYTES).await, before);
    }
}
