//! Backups on their way through the control socket of a running daemon: from a file to a body and back.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::{Body, Bytes};
use futures_util::{StreamExt as _, stream};
use rookery_store::SpaceWatch;
use tokio::task::spawn_blocking;

use crate::data_dir::nameless_file;

/// Bytes read from a file at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Time for the next piece of a body: a sender that stalls would keep all others out.
const PIECE_TIME_MAX: Duration = Duration::from_secs(30);

/// A file beside the store that is removed when it is closed, and never fills the disk space that the store needs.
pub(super) struct Spool {
    file: File,
    space: SpaceWatch,
}

impl Spool {
    /// Makes an empty spool in this directory.
    pub(super) fn begin(data_dir: &Path) -> io::Result<Self> {
        Ok(Self { file: nameless_file(data_dir)?, space: SpaceWatch::beside_store(data_dir) })
    }

    /// The written file, to be read from its beginning.
    pub(super) fn rewound(mut self) -> io::Result<File> {
        self.file.rewind()?;
        Ok(self.file)
    }

    /// Receives a whole body, even one that cannot be kept: its sender reads the response only then.
    pub(super) async fn receive(data_dir: &Path, body: Body) -> Result<File> {
        let mut spool = Self::begin(data_dir).context("could not make a file for the backup");
        let mut pieces = body.into_data_stream();
        let late = "the backup did not arrive in time";
        while let Some(piece) = tokio::time::timeout(PIECE_TIME_MAX, pieces.next()).await.context(late)? {
            let piece = piece.context("the backup did not arrive in whole")?;
            if let Ok(mut to) = spool {
                let write = move || to.write_all(&piece).map(|()| to);
                spool = spawn_blocking(write).await?.context("could not write the backup down");
            }
        }
        Ok(spool?.rewound()?)
    }
}

impl io::Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.space.check().map_err(io::Error::other)?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The rest of a file as a body.
pub(super) fn body_of(file: File) -> Body {
    Body::from_stream(stream::try_unfold(file, async |mut file| {
        let read = spawn_blocking(move || {
            let mut piece = vec![0; PIECE_BYTES];
            let length = file.read(&mut piece)?;
            piece.truncate(length);
            Ok::<_, io::Error>((Bytes::from(piece), file))
        });
        let (piece, file) = read.await.map_err(io::Error::other)??;
        Ok::<_, io::Error>(if piece.is_empty() { None } else { Some((piece, file)) })
    }))
}
