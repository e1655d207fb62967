//! A line between a daemon and its WhatsApp that goes silent, or goes away, when a test says so.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Up,
    /// Connections stay and new ones are taken, but nothing gets through in either direction.
    Silent,
    /// Connections are cut, new ones too.
    Away,
}

/// The line. Bytes that are on it when it goes silent are lost.
pub(crate) struct Line {
    address: SocketAddr,
    state: watch::Sender<State>,
}

impl Line {
    /// A line to the server of this URL, which is on this machine. Needs a tokio runtime.
    pub(crate) fn to(url: &str) -> Self {
        let server: SocketAddr = url.split('/').nth(2).unwrap().parse().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let line = Self { address: listener.local_addr().unwrap(), state: watch::channel(State::Up).0 };
        let state = line.state.subscribe();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, server, state.clone()));
            }
        });
        line
    }

    /// The URL of its near end.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws/chat", self.address)
    }

    pub(crate) fn fall_silent(&self) {
        self.state.send_replace(State::Silent);
    }

    pub(crate) fn go_away(&self) {
        self.state.send_replace(State::Away);
    }

    pub(crate) fn come_back(&self) {
        self.state.send_replace(State::Up);
    }
}

async fn carry(mut near: TcpStream, server: SocketAddr, mut state: watch::Receiver<State>) {
    if *state.borrow_and_update() == State::Up {
        let Ok(mut far) = TcpStream::connect(server).await else { return };
        // Small frames in both directions: no delay, as at the ends themselves.
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        tokio::select! {
            _ = copy_bidirectional(&mut near, &mut far) => return,
            _ = state.wait_for(|state| *state != State::Up) => {}
        }
        // Both ends think that they are connected.
        let _ = state.wait_for(|state| *state != State::Silent).await;
        return;
    }
    let _ = state.wait_for(|state| *state != State::Silent).await;
}
