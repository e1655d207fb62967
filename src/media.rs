//! Files of messages between callers and WhatsApp: taken in piece by piece, encrypted on disk from the first byte, looked at, and fetched.
//! Never holds a whole file in memory. The HTTP side is in `http/request/file_body.rs` and in the handlers.

mod kinds;
mod of_messages;
mod preview;
mod spool;
#[cfg(test)]
mod tests;
mod voice;

use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rookery_actors::{EncryptedFile, FileError, FileWriter, TempFile};
use rookery_model::{FileKind, FilePreview};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use crate::config::HttpLimits;
use crate::shares::{User, UserShare, UserShares};
use crate::url_fetch::{FetchError, Fetcher};
use kinds::{Claim, HEAD_BYTES, OPUS};
pub(crate) use of_messages::INCLUDED_BYTES_MAX;
use of_messages::KeptFiles;
use spool::Spool;

/// Files that are sent at once, each with some hundred KiB of memory. Shared by keys and by sessions: a single one has half at most. As many
/// others are fetched.
const TRANSFERS_MAX: usize = 512;
/// Those of a key in one session: a quarter of what the session may have.
const TRANSFERS_OF_PAIR_MAX: usize = 64;
/// Pictures and voice notes that are looked at once: each may take 100 MB and a core.
const LOOKS_MAX: usize = 1;
/// Bytes of a file that are encrypted and written at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that are encrypted at once: each takes a thread for half a millisecond, and threads keep memory.
const WRITES_MAX: usize = 4;
const MIB: u64 = 1024 * 1024;
/// Characters of a file's name.
pub(crate) const FILENAME_CHARS_MAX: usize = 255;

/// Why a file cannot be sent; names the field that is to be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MediaError {
    /// The base64 cannot be decoded.
    #[error("base64 must be standard base64 or a data: URL of it")]
    Base64,
    /// The form cannot be read; says why.
    #[error("the form cannot be read: {0}")]
    Form(String),
    /// The picture is larger than anybody shows.
    #[error(
        "{field} holds a picture of {width} x {height} pixels, which WhatsApp's clients do not show: send-document takes any file"
    )]
    TooManyPixels {
        /// The field of the request.
        field: &'static str,
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// There is nothing in it.
    #[error("{field} holds an empty file")]
    Empty {
        /// The field of the request.
        field: &'static str,
    },
    /// The media type is none.
    #[error("mimetype must be a media type such as image/jpeg")]
    Mimetype,
    /// The file has another media type than the caller says.
    #[error("mimetype is {said}, but {field} holds {found}")]
    OtherMimetype {
        /// The field of the request.
        field: &'static str,
        /// The media type that the caller says.
        said: String,
        /// The actual media type.
        found: &'static str,
    },
    /// The file is none that such a message shows.
    #[error(
        "{field} must hold {} that is whole, but holds {found}: send-document takes any file",
        kinds::accepted_words(*.kind)
    )]
    WrongType {
        /// The field of the request.
        field: &'static str,
        /// What the message shows.
        kind: FileKind,
        /// The actual media type.
        found: &'static str,
    },
    /// A voice note is no Opus in Ogg.
    #[error(
        "ptt makes a voice note, which has to be Ogg with Opus (audio/ogg; codecs=opus), but {field} holds {found}: leave ptt out, or convert it"
    )]
    NotVoice {
        /// The field of the request.
        field: &'static str,
        /// The actual media type.
        found: String,
    },
    /// The file could not be fetched.
    #[error("url {0}")]
    Fetch(#[from] FetchError),
    /// The key or the session has its share of files, or there are too many others.
    #[error("too many files are being sent and fetched for this API key or session: nothing was sent")]
    Busy,
    /// There is no place for the file, or it is too large.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What a caller says of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// Its media type.
    pub(crate) mimetype: Option<String>,
    /// The media type, as the host says that it was fetched from, or the form that it came in.
    pub(crate) mimetype_of_host: Option<String>,
    /// Its name.
    pub(crate) filename: Option<String>,
    /// It is a voice note.
    pub(crate) is_voice: bool,
}

/// What is to be said of a file in its message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) mimetype: String,
    /// Its name; of documents.
    pub(crate) filename: Option<String>,
    pub(crate) preview: FilePreview,
}

/// Takes files in, and looks at them.
pub(crate) struct Media {
    spool: Spool,
    sends: UserShares,
    fetches: UserShares,
    looks: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    fetcher: Fetcher,
    kept: KeptFiles,
    /// Bytes of a file.
    pub(crate) bytes_max: u64,
}

impl Media {
    /// Files on the volume of this directory.
    pub(crate) fn new(directory: &Path, limits: &HttpLimits, fetcher: Fetcher) -> Self {
        let (disk_bytes_max, bytes_max) = (limits.media_disk_mib * MIB, limits.media_body_bytes_max as u64);
        let spool = Spool::new(directory, disk_bytes_max);
        let [sends, fetches] = [(); 2].map(|()| UserShares::limited(TRANSFERS_MAX, TRANSFERS_OF_PAIR_MAX));
        let [looks, writes] = [LOOKS_MAX, WRITES_MAX].map(|most| Arc::new(Semaphore::new(most)));
        let kept = KeptFiles::new(limits.media_cache_mib * MIB);
        Self { spool, sends, fetches, looks, writes, fetcher, kept, bytes_max }
    }

    /// The right to send one file.
    ///
    /// # Errors
    /// [`MediaError::Busy`].
    pub(crate) fn admit_send(&self, user: User) -> Result<UserShare, MediaError> {
        self.sends.take(user).ok_or(MediaError::Busy)
    }

    /// The right to fetch one file.
    ///
    /// # Errors
    /// [`MediaError::Busy`].
    pub(crate) fn admit_fetch(&self, user: User) -> Result<UserShare, MediaError> {
        self.fetches.take(user).ok_or(MediaError::Busy)
    }

    /// An empty place for a file of this user.
    ///
    /// # Errors
    /// [`FileError::NoRoom`], [`FileError::Disk`].
    pub(crate) fn temp_file(&self, user: User) -> Result<TempFile, FileError> {
        self.spool.begin(user.key)
    }

    /// Takes in a file of this kind.
    ///
    /// # Errors
    /// As [`Self::temp_file`].
    pub(crate) fn sink(&self, kind: FileKind, user: User) -> Result<FileSink, FileError> {
        let writer = FileWriter::new(kind, self.temp_file(user)?, self.bytes_max)?;
        Ok(FileSink { writer, pending: BytesMut::new(), writes: Arc::clone(&self.writes) })
    }

    /// Fetches the file behind a URL, and what its host says of it.
    ///
    /// # Errors
    /// [`MediaError::Fetch`], [`MediaError::File`].
    pub(crate) async fn fetch(
        &self,
        url: &str,
        kind: FileKind,
        user: User,
        until: Instant,
    ) -> Result<(Arc<EncryptedFile>, Said), MediaError> {
        let begun = Instant::now();
        let fetched = timeout_at(until, async {
            let bytes_max = usize::try_from(self.bytes_max).unwrap_or(usize::MAX);
            let mut answer = self.fetcher.open(url, bytes_max).await?;
            let mut sink = self.sink(kind, user)?;
            while let Some(piece) = answer.next().await? {
                sink = sink.write(&piece).await?;
            }
            let (mimetype_of_host, filename) = (answer.mimetype(), answer.filename());
            Ok((sink.finish().await?, Said { mimetype_of_host, filename, ..Said::default() }))
        });
        let seconds = (until - begun).as_secs_f64().round();
        fetched.await.unwrap_or_else(|_| Err(FetchError::TooSlow(Duration::from_secs_f64(seconds)).into()))
    }

    /// Looks at a file. `field`: of the request, which holds it.
    ///
    /// # Errors
    /// What is wrong with the file, with the field.
    pub(crate) async fn describe(
        &self,
        file: &Arc<EncryptedFile>,
        field: &'static str,
        said: Said,
    ) -> Result<Description, MediaError> {
        if file.length() == 0 {
            return Err(MediaError::Empty { field });
        }
        let (file, looks) = (Arc::clone(file), Arc::clone(&self.looks));
        let look = matches!(file.kind(), FileKind::Image | FileKind::Sticker | FileKind::Audio);
        let permit = if look { looks.acquire_owned().await.ok() } else { None };
        let described = spawn_blocking(move || {
            let _permit = permit;
            describe(&file, field, &said)
        });
        // A decoder that panics has met bytes that are no picture and no sound.
        described.await.unwrap_or(Err(MediaError::Empty { field }))
    }
}

fn describe(file: &EncryptedFile, field: &'static str, said: &Said) -> Result<Description, MediaError> {
    let kind = file.kind();
    let head = file.read(0, HEAD_BYTES).map_err(FileError::from)?;
    let (said_by_host, is_voice) = (said.mimetype_of_host.as_deref(), said.is_voice);
    let claim = Claim { kind, field, said: said.mimetype.as_deref(), said_by_host };
    let (mimetype, extension) = kinds::type_of(&head, &claim)?;
    let broken = || MediaError::WrongType { field, kind, found: "a file that is broken" };
    let preview = match kind {
        FileKind::Image | FileKind::Sticker => {
            let found = if kind == FileKind::Image { preview::of_picture(file) } else { preview::of_sticker(file) };
            let found = found.ok_or_else(broken)?;
            if let Some((width, height)) = found.size.filter(|size| preview::is_beyond(*size)) {
                return Err(MediaError::TooManyPixels { field, width, height });
            }
            found
        }
        FileKind::Audio if mimetype == OPUS => {
            let sound = voice::listen(BufReader::new(file.reader()));
            let sound = sound.filter(|sound| sound.seconds > 0).ok_or_else(broken)?;
            let waveform = sound.waveform.filter(|_| is_voice);
            FilePreview { seconds: Some(sound.seconds), is_voice, waveform, ..FilePreview::default() }
        }
        FileKind::Audio if is_voice => return Err(MediaError::NotVoice { field, found: mimetype }),
        FileKind::Audio | FileKind::Video | FileKind::Document => FilePreview::default(),
    };
    let filename = (kind == FileKind::Document).then(|| {
        let named = said.filename.clone().filter(|name| !name.trim().is_empty());
        named.unwrap_or_else(|| if extension.is_empty() { "file".to_owned() } else { format!("file.{extension}") })
    });
    Ok(Description { mimetype, filename, preview })
}

/// A file that is being taken in.
pub(crate) struct FileSink {
    writer: FileWriter,
    pending: BytesMut,
    writes: Arc<Semaphore>,
}

impl FileSink {
    /// Adds a piece.
    ///
    /// # Errors
    /// As [`FileWriter::write`].
    pub(crate) async fn write(mut self, piece: &[u8]) -> Result<Self, FileError> {
        self.pending.extend_from_slice(piece);
        if self.pending.len() < PIECE_BYTES {
            return Ok(self);
        }
        let permit = Arc::clone(&self.writes).acquire_owned().await.ok();
        let written = spawn_blocking(move || {
            let _permit = permit;
            self.writer.write(&self.pending)?;
            self.pending.clear();
            Ok(self)
        });
        written.await.unwrap_or_else(|_| Err(FileError::Disk("writing was cut short".into())))
    }

    /// Ends the file.
    ///
    /// # Errors
    /// As [`FileWriter::finish`].
    pub(crate) async fn finish(mut self) -> Result<Arc<EncryptedFile>, FileError> {
        let finished = spawn_blocking(move || {
            self.writer.write(&self.pending)?;
            self.writer.finish().map(Arc::new)
        });
        finished.await.unwrap_or_else(|_| Err(FileError::Disk("writing was cut short".into())))
    }
}
