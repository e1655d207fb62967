//! Files of messages on this machine. On disk they are always as WhatsApp has them: encrypted, under a key that is in memory alone, in a
//! file without a name, which is gone with its last user. So a file that is sent is encrypted once, and a file that was fetched is kept as it
//! came. Never decides how much room there is, and never speaks to WhatsApp: [`super::file_transfer`] does.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;

use cbc::cipher::inout::InOutBuf;
use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use wacore::download::{DownloadUtils, MediaType};
use wacore::upload::{EncryptedMediaInfo, MediaEncryptor};
use whatsapp_rust::bytes::{Bytes, BytesMut};

use rookery_model::{FileKind, StoredFile};

/// Bytes of a block of the cipher (AES).
const BLOCK: u64 = 16;
/// Bytes behind the encrypted file that prove it whole.
pub(super) const MAC_BYTES: u64 = 10;

/// Why there is no room for a file now.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// The user has its share.
    #[error("this user's other files take all the room that one user may have")]
    Share,
    /// The disk has too little space.
    #[error("the disk has too little space")]
    Disk,
}

/// The room that a file takes; given back when it is dropped.
pub trait Room: Send + Sync + 'static {
    /// Makes it large enough for so many bytes in all.
    ///
    /// # Errors
    /// Why that is not possible.
    fn widen(&mut self, bytes: u64) -> Result<(), NoRoom>;
}

/// What is wrong with a file, or with the place that it lies in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// There is no room for it.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// It is larger than allowed.
    #[error("the file has more than {bytes_max} bytes")]
    TooLarge {
        /// Bytes that are allowed.
        bytes_max: u64,
    },
    /// WhatsApp does not have it any more, and neither has the phone.
    #[error("the file is gone: WhatsApp does not have it any more, and the phone did not upload it again")]
    Gone,
    /// WhatsApp does not have it any more, and the phone did not answer.
    #[error(
        "the file is gone from WhatsApp, and the phone did not answer when it was asked to upload it again: see that it is online"
    )]
    PhoneSilent,
    /// What WhatsApp has is not what the message says.
    #[error("the file at WhatsApp is damaged")]
    Damaged,
    /// It cannot be written or read.
    #[error("a temporary file cannot be used: {0}")]
    Disk(String),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoRoom(NoRoom::Disk),
            _ => Self::Disk(error.to_string()),
        }
    }
}

/// A file without a name, and its room.
pub struct TempFile {
    file: File,
    room: Box<dyn Room>,
    length: u64,
}

impl TempFile {
    /// An empty file. `file` has no name, so that nothing is left of it when the process ends.
    #[must_use]
    pub fn new(file: File, room: Box<dyn Room>) -> Self {
        Self { file, room, length: 0 }
    }

    /// Blocks.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let length = self.length + bytes.len() as u64;
        self.room.widen(length)?;
        self.file.write_all_at(bytes, self.length)?;
        self.length = length;
        Ok(())
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// From its beginning. Blocks.
    pub(super) fn reader(&self) -> impl Read + '_ {
        PlainReader { file: &self.file, at: 0 }
    }
}

struct PlainReader<'a> {
    file: &'a File,
    at: u64,
}

impl Read for PlainReader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(bytes, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// A file that is being taken in: encrypted piece by piece.
pub struct FileWriter {
    encryptor: MediaEncryptor,
    kind: FileKind,
    temp: TempFile,
    length: u64,
    bytes_max: u64,
    encrypted: Vec<u8>,
}

impl FileWriter {
    /// A file of this kind, with a new key, of up to so many bytes.
    ///
    /// # Errors
    /// [`FileError::Disk`] when the system gives no random bytes.
    pub fn new(kind: FileKind, temp: TempFile, bytes_max: u64) -> Result<Self, FileError> {
        let has_sidecar = matches!(kind, FileKind::Audio | FileKind::Video);
        let encryptor = MediaEncryptor::new_with_sidecar(media_type(kind), has_sidecar).map_err(unusable)?;
        Ok(Self { encryptor, kind, temp, length: 0, bytes_max, encrypted: Vec::new() })
    }

    /// Adds a piece. Blocks.
    ///
    /// # Errors
    /// [`FileError::TooLarge`], [`FileError::NoRoom`], [`FileError::Disk`].
    pub fn write(&mut self, piece: &[u8]) -> Result<(), FileError> {
        self.length += piece.len() as u64;
        if self.length > self.bytes_max {
            return Err(FileError::TooLarge { bytes_max: self.bytes_max });
        }
        self.encrypted.clear();
        self.encrypted.reserve_exact(piece.len() + BLOCK as usize);
        self.encryptor.update(piece, &mut self.encrypted);
        self.temp.append(&self.encrypted)
    }

    /// Ends the file. Blocks.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn finish(mut self) -> Result<EncryptedFile, FileError> {
        self.encrypted.clear();
        let info = self.encryptor.finalize(&mut self.encrypted).map_err(unusable)?;
        self.temp.append(&self.encrypted)?;
        EncryptedFile::written(self.kind, self.temp, info)
    }
}

fn unusable(error: impl std::fmt::Display) -> FileError {
    FileError::Disk(error.to_string())
}

/// A whole file, encrypted on disk.
pub struct EncryptedFile {
    temp: TempFile,
    cipher_key: [u8; 32],
    iv: [u8; BLOCK as usize],
    /// All but its place at WhatsApp.
    description: StoredFile,
}

impl std::fmt::Debug for EncryptedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("EncryptedFile").field(&self.description).finish()
    }
}

impl EncryptedFile {
    fn written(kind: FileKind, temp: TempFile, info: EncryptedMediaInfo) -> Result<Self, FileError> {
        let description = StoredFile {
            kind,
            url: None,
            direct_path: String::new(),
            media_key: info.media_key.to_vec(),
            sha256: info.file_sha256.to_vec(),
            encrypted_sha256: info.file_enc_sha256.to_vec(),
            length: info.file_length,
            key_made_at: Some(wacore::time::now_secs()),
            sidecar: info.streaming_sidecar,
        };
        Self::new(temp, description)
    }

    /// The file that this describes, whose length and hash are certain.
    pub(super) fn new(temp: TempFile, description: StoredFile) -> Result<Self, FileError> {
        let keys = DownloadUtils::get_media_keys(&description.media_key, media_type(description.kind));
        let (iv, cipher_key, _) = keys.map_err(unusable)?;
        Ok(Self { temp, cipher_key, iv, description })
    }

    /// The same file in another room; the one that it had is given back.
    #[must_use]
    pub fn in_room(mut self, room: Box<dyn Room>) -> Self {
        self.temp.room = room;
        self
    }

    /// What it is in its message.
    #[must_use]
    pub fn kind(&self) -> FileKind {
        self.description.kind
    }

    /// Its bytes, decrypted.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.description.length
    }

    /// SHA-256 of it, decrypted.
    #[must_use]
    pub fn sha256(&self) -> &[u8] {
        &self.description.sha256
    }

    pub(super) fn description(&self) -> &StoredFile {
        &self.description
    }

    /// Bytes of the encrypted file.
    pub(super) fn encrypted_length(&self) -> u64 {
        self.temp.length
    }

    /// A piece of the encrypted file, of up to so many bytes; empty at its end. Blocks.
    pub(super) fn read_encrypted(&self, at: u64, count: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.temp.length.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = BytesMut::zeroed(count.min(left));
        self.temp.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes.freeze())
    }

    /// A piece of the file, of up to so many bytes from `at` on; empty at its end. Blocks.
    ///
    /// # Errors
    /// When the temporary file cannot be read.
    pub fn read(&self, at: u64, count: usize) -> io::Result<Bytes> {
        let end = self.length().min(at.saturating_add(count as u64));
        if at >= end {
            return Ok(Bytes::new());
        }
        // Each block is decrypted with the encrypted block before it.
        let first = at / BLOCK * BLOCK;
        let mut iv = self.iv;
        if first > 0 {
            self.temp.file.read_exact_at(&mut iv, first - BLOCK)?;
        }
        let length = usize::try_from(end.next_multiple_of(BLOCK) - first).map_err(io::Error::other)?;
        let mut bytes = BytesMut::zeroed(length);
        self.temp.file.read_exact_at(&mut bytes, first)?;
        let mut cipher = cbc::Decryptor::<aes::Aes256>::new(&self.cipher_key.into(), &iv.into());
        let (blocks, _) = InOutBuf::from(&mut bytes[..]).into_chunks();
        cipher.decrypt_blocks_inout(blocks);
        let (from, to) = (usize::try_from(at - first), usize::try_from(end - first));
        let (from, to) = (from.map_err(io::Error::other)?, to.map_err(io::Error::other)?);
        Ok(bytes.freeze().slice(from..to))
    }

    /// A reader of the file from its beginning. Blocks.
    #[must_use]
    pub fn reader(&self) -> FileReader<'_> {
        FileReader { file: self, at: 0 }
    }
}

/// Reads a file, decrypted. To be buffered: each read is one of the disk.
pub struct FileReader<'a> {
    file: &'a EncryptedFile,
    at: u64,
}

impl Read for FileReader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let piece = self.file.read(self.at, bytes.len())?;
        bytes[..piece.len()].copy_from_slice(&piece);
        self.at += piece.len() as u64;
        Ok(piece.len())
    }
}

impl Seek for FileReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.file.length().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// What a file is in the engine's words.
pub(super) fn media_type(kind: FileKind) -> MediaType {
    match kind {
        FileKind::Image => MediaType::Image,
        FileKind::Video => MediaType::Video,
        FileKind::Audio => MediaType::Audio,
        FileKind::Document => MediaType::Document,
        FileKind::Sticker => MediaType::Sticker,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) struct Wide(pub(in super::super) u64);

    impl Room for Wide {
        fn widen(&mut self, bytes: u64) -> Result<(), NoRoom> {
            if bytes > self.0 { Err(NoRoom::Share) } else { Ok(()) }
        }
    }

    pub(in super::super) fn temp_file(room: u64) -> TempFile {
        TempFile::new(tempfile::tempfile().unwrap(), Box::new(Wide(room)))
    }

    fn file_of(content: &[u8], piece: usize) -> EncryptedFile {
        let mut writer = FileWriter::new(FileKind::Video, temp_file(u64::MAX), u64::MAX).unwrap();
        content.chunks(piece).for_each(|piece| writer.write(piece).unwrap());
        writer.finish().unwrap()
    }

    #[test]
    fn a_file_is_encrypted_on_disk_and_any_part_of_it_can_be_read() {
        for length in [0_usize, 1, 15, 16, 17, 4_096, 100_001] {
            let content: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            let file = file_of(&content, 1_000);
            assert_eq!(file.length(), length as u64);
            let encrypted = file.read_encrypted(0, usize::MAX).unwrap();
            assert_eq!(encrypted.len() as u64, file.encrypted_length());
            assert!(length < 16 || !encrypted.windows(16).any(|window| window == &content[..16]), "{length}");
            let decrypted = DownloadUtils::verify_and_decrypt(
                &encrypted,
                &file.description().media_key,
                media_type(FileKind::Video),
            );
            assert_eq!(decrypted.unwrap(), content, "as WhatsApp's clients read it");
            for (at, count) in
                [(0, length), (0, 5), (3, 40), (16, 16), (length / 2, 1_000), (length, 10), (usize::MAX, 1)]
            {
                let expected = content.get(at..at.saturating_add(count).min(length)).unwrap_or_default();
                assert_eq!(file.read(at as u64, count).unwrap(), expected, "{length}: {count} from {at}");
            }
            let mut read = Vec::new();
            io::BufReader::new(file.reader()).read_to_end(&mut read).unwrap();
            assert_eq!(read, content);
        }
    }

    #[test]
    fn a_file_that_is_too_large_or_has_no_room_is_refused() {
        let write = |room, bytes_max| {
            let mut writer = FileWriter::new(FileKind::Image, temp_file(room), bytes_max).unwrap();
            (0..10).try_for_each(|_| writer.write(&[0; 100]))
        };
        assert_eq!(write(2_000, 1_000), Ok(()));
        assert_eq!(write(2_000, 999), Err(FileError::TooLarge { bytes_max: 999 }));
        assert_eq!(write(500, 1_000), Err(FileError::NoRoom(NoRoom::Share)));
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(FileError::from(full), FileError::NoRoom(NoRoom::Disk));
    }
}
