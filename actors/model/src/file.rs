//! Files of messages, as they are named in messages. Never does IO.

use std::fmt;

/// What a file is in a message.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A picture.
    Image,
    /// A film.
    Video,
    /// A sound, or a voice note.
    Audio,
    /// Any file, as it is.
    Document,
    /// A sticker.
    Sticker,
}

impl FileKind {
    /// Its name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Document => "document",
            Self::Sticker => "sticker",
        }
    }
}

/// A file at WhatsApp: where it is, and what is needed to read it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// What it is in its message: its keys are made for that.
    pub kind: FileKind,
    /// Its address; `None` where only the path is known.
    pub url: Option<String>,
    /// The part of its address that holds at each of WhatsApp's media hosts.
    pub direct_path: String,
    /// The secret from which its keys are made: 32 bytes.
    pub media_key: Vec<u8>,
    /// SHA-256 of the file.
    pub sha256: Vec<u8>,
    /// SHA-256 of the encrypted file.
    pub encrypted_sha256: Vec<u8>,
    /// Bytes of the file, as its sender says.
    pub length: u64,
    /// When its key was made, in seconds since 1970.
    pub key_made_at: Option<i64>,
    /// For players that begin before they have the whole file.
    pub sidecar: Option<Vec<u8>>,
}

/// Shows nothing of the key (P-1).
impl fmt::Debug for StoredFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredFile").field("kind", &self.kind).field("length", &self.length).finish_non_exhaustive()
    }
}

/// A file as a message shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownFile {
    /// The file at WhatsApp.
    pub file: StoredFile,
    /// Its media type.
    pub mimetype: String,
    /// Its name; of documents.
    pub filename: Option<String>,
    /// The text below it.
    pub caption: Option<String>,
    /// What can be seen of it, or heard, before it is fetched.
    pub preview: FilePreview,
}

/// What can be seen of a file, or heard, before it is fetched. Everything that is not known is left out.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FilePreview {
    /// A small JPEG.
    pub thumbnail: Option<Vec<u8>>,
    /// Width and height in pixels.
    pub size: Option<(u32, u32)>,
    /// How long it plays, in seconds.
    pub seconds: Option<u32>,
    /// A sound is a voice note.
    pub is_voice: bool,
    /// The loudness of 64 parts of a voice note, each 0 to 100.
    pub waveform: Option<Vec<u8>>,
    /// A sticker moves.
    pub is_animated: bool,
}
