//! The commands' client for the control socket of a running daemon (`control.rs`).

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rookery_store::StoreKey;
use tokio::net::UnixStream;

use super::control::{BACKUP_KEY_HEADER, FORCE_QUERY, KEEP_KEYS_QUERY, socket_of};
use super::restore::{Restored, Wish};
use super::transfer::body_of;

/// A connection to a running daemon.
pub(super) struct Client {
    sender: SendRequest<Body>,
}

impl Client {
    /// Connects to the daemon of this data directory; `None`: no daemon runs there, or it cannot be reached.
    ///
    /// # Errors
    /// Only the directory's owner and root may connect.
    pub(super) async fn connect(data_dir: &Path) -> Result<Option<Self>> {
        let connected = match File::open(data_dir) {
            Ok(directory) => UnixStream::connect(socket_of(&directory)).await,
            Err(error) => Err(error),
        };
        let stream = match connected {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                bail!("only its owner and root may use the data directory `{}`", data_dir.display());
            }
            Err(_) => return Ok(None),
        };
        let (sender, connection) = handshake(TokioIo::new(stream)).await.context("could not talk to the daemon")?;
        // The task ends with the sender.
        tokio::spawn(connection);
        Ok(Some(Self { sender }))
    }

    /// A backup, piece by piece.
    ///
    /// # Errors
    /// The daemon's reason for making no backup.
    pub(super) async fn backup(mut self) -> Result<Incoming> {
        let request = Request::post("/backup").body(Body::empty()).context("could not ask the daemon")?;
        answered(self.sender.send_request(request).await).await
    }

    /// Orders a restore; the daemon runs again when this returns.
    ///
    /// # Errors
    /// The daemon's reason for changing nothing, or what went wrong.
    pub(super) async fn restore(mut self, backup: File, key: Option<&StoreKey>, wish: Wish) -> Result<Restored> {
        let force = if wish.force { FORCE_QUERY } else { "" };
        let query = format!("{force}&{}", if wish.keep_keys { KEEP_KEYS_QUERY } else { "" });
        let mut request = Request::post(format!("/restore?{query}"));
        if let Some(key) = key {
            request = request.header(BACKUP_KEY_HEADER, hex::encode(key.reveal()));
        }
        let request = request.body(body_of(backup)).context("could not ask the daemon")?;
        let answer = answered(self.sender.send_request(request).await).await?.collect().await;
        let answer = answer.context("the daemon was stopped before it answered: look at its log")?.to_bytes();
        serde_json::from_slice(&answer).context("the daemon did not answer as expected")
    }
}

async fn answered(answer: hyper::Result<hyper::Response<Incoming>>) -> Result<Incoming> {
    let (head, body) = answer.context("the daemon was stopped before it answered: look at its log")?.into_parts();
    if head.status.is_success() {
        return Ok(body);
    }
    let why = body.collect().await.context("the daemon did not answer in whole")?.to_bytes();
    bail!("{}", String::from_utf8_lossy(&why))
}
