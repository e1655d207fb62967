//! An encrypted file: its content is read back unchanged, or not at all. Knows nothing of the content.
//!
//! | bytes | what |
//! |---|---|
//! | 16 | `rookery-backup1` and a line feed |
//! | 72 | the file's own key, encrypted with the operator's [`StoreKey`] |
//! | 19 | a random nonce |
//! | the rest | chunks of 64 KiB, the last one shorter, each encrypted with XChaCha20-Poly1305, with a tag of 16 bytes |
//!
//! The chunks are a STREAM (Hoang, Reyhanitabar, Rogaway and Vizár: "Online Authenticated-Encryption and its Nonce-Reuse
//! Misuse-Resistance", 2015): none can be changed, moved, left out or cut off without being noticed.

use std::io::{self, Read, Write};

use aead_stream::{DecryptorBE32, EncryptorBE32};
use chacha20poly1305::{Key, XChaCha20Poly1305};

use super::encryption::{TAG_BYTES, WRAPPED_BYTES, random};
use super::{StoreError, StoreKey};

const MAGIC: &[u8; 16] = b"rookery-backup1\n";
/// The context that the file's own key is bound to when it is encrypted.
const WRAP_CONTEXT: &[u8] = b"rookery backup key";
/// XChaCha20-Poly1305's 24 bytes, less the chunk's number (4 bytes) and the mark of the last chunk (1 byte).
const NONCE_BYTES: usize = 19;
const CHUNK_BYTES: usize = 64 * 1024;

/// Why an encrypted file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file begins with something else.
    #[error("this is no backup, or one of another version")]
    Unknown,
    /// The file was encrypted with another key, or its first bytes were changed.
    #[error("the backup is encrypted with another key, or its beginning is damaged")]
    WrongKey,
    /// Reading failed.
    #[error("the backup cannot be read")]
    Io(#[from] io::Error),
}

/// Encrypts all bytes that are written to it. The file can be read only after [`Self::finish`].
pub struct ArchiveWriter<W> {
    to: W,
    encryptor: EncryptorBE32<XChaCha20Poly1305>,
    /// Not encrypted yet, as it may be the last chunk.
    chunk: Vec<u8>,
}

impl<W: Write> ArchiveWriter<W> {
    /// Writes the file's head.
    ///
    /// # Errors
    /// [`StoreError::Stream`] when `to` fails, [`StoreError::Failed`] when the system has no randomness to give.
    pub fn begin(mut to: W, key: &StoreKey) -> Result<Self, StoreError> {
        let (own_key, nonce) = (random()?, random::<NONCE_BYTES>()?);
        let wrapped = key.wrap(WRAP_CONTEXT, &own_key)?;
        let written = to.write_all(MAGIC).and_then(|()| to.write_all(&wrapped)).and_then(|()| to.write_all(&nonce));
        written.map_err(|error| StoreError::Stream(error.to_string()))?;
        let encryptor = EncryptorBE32::new(&Key::from(own_key), &nonce.into());
        Ok(Self { to, encryptor, chunk: Vec::with_capacity(CHUNK_BYTES) })
    }

    /// Writes the last chunk, without which the file cannot be read, and gives `to` back.
    ///
    /// # Errors
    /// When the last chunk cannot be encrypted or written.
    pub fn finish(mut self) -> io::Result<W> {
        let encrypted = self.encryptor.encrypt_last(self.chunk.as_slice()).map_err(|_| cannot_encrypt())?;
        self.to.write_all(&encrypted)?;
        self.to.flush()?;
        Ok(self.to)
    }
}

impl<W: Write> Write for ArchiveWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == CHUNK_BYTES && !bytes.is_empty() {
            let encrypted = self.encryptor.encrypt_next(self.chunk.as_slice()).map_err(|_| cannot_encrypt())?;
            self.to.write_all(&encrypted)?;
            self.chunk.clear();
        }
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// A chunk that is not full stays: it may be the last one.
    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn cannot_encrypt() -> io::Error {
    io::Error::other("the backup is too large to be encrypted")
}

/// Decrypts the file of an [`ArchiveWriter`]. Never gives out changed bytes. A missing end is noticed only at the end.
pub struct ArchiveReader<R> {
    from: R,
    /// `None` after the last chunk.
    decryptor: Option<DecryptorBE32<XChaCha20Poly1305>>,
    /// The next chunk as it was read; it is the last one when nothing follows it.
    ahead: Vec<u8>,
    /// Decrypted and not given out yet, from `position` on.
    chunk: Vec<u8>,
    position: usize,
}

impl<R: Read> ArchiveReader<R> {
    /// Reads the file's head.
    ///
    /// # Errors
    /// The file is of another kind, is encrypted with another key, or cannot be read.
    pub fn begin(mut from: R, key: &StoreKey) -> Result<Self, ArchiveError> {
        let (mut magic, mut wrapped, mut nonce) = ([0; MAGIC.len()], [0; WRAPPED_BYTES], [0; NONCE_BYTES]);
        let too_short = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::Unknown,
            _ => error.into(),
        };
        from.read_exact(&mut magic).map_err(too_short)?;
        if magic != *MAGIC {
            return Err(ArchiveError::Unknown);
        }
        from.read_exact(&mut wrapped).map_err(too_short)?;
        from.read_exact(&mut nonce).map_err(too_short)?;
        let own_key = key.unwrap(WRAP_CONTEXT, &wrapped).ok_or(ArchiveError::WrongKey)?;
        let decryptor = Some(DecryptorBE32::new(&Key::from(own_key), &nonce.into()));
        let ahead = next_of(&mut from)?;
        Ok(Self { from, decryptor, ahead, chunk: Vec::new(), position: 0 })
    }

    fn decrypt_next(&mut self) -> io::Result<()> {
        let Some(mut decryptor) = self.decryptor.take() else { return Ok(()) };
        let following = next_of(&mut self.from)?;
        let encrypted = std::mem::replace(&mut self.ahead, following);
        let decrypted = if self.ahead.is_empty() {
            decryptor.decrypt_last(encrypted.as_slice())
        } else {
            let decrypted = decryptor.decrypt_next(encrypted.as_slice());
            self.decryptor = Some(decryptor);
            decrypted
        };
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it was changed or cut short");
        self.chunk = decrypted.map_err(|_| damaged())?;
        self.position = 0;
        Ok(())
    }
}

/// Up to one encrypted chunk; less only at the end.
fn next_of(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let bytes_max = CHUNK_BYTES + TAG_BYTES;
    let mut encrypted = Vec::with_capacity(bytes_max);
    from.take(bytes_max as u64).read_to_end(&mut encrypted)?;
    Ok(encrypted)
}

impl<R: Read> Read for ArchiveReader<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.position == self.chunk.len() && self.decryptor.is_some() {
            self.decrypt_next()?;
        }
        let given = to.len().min(self.chunk.len() - self.position);
        to[..given].copy_from_slice(&self.chunk[self.position..][..given]);
        self.position += given;
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(key: &StoreKey, content: &[u8]) -> Vec<u8> {
        let mut writer = ArchiveWriter::begin(Vec::new(), key).unwrap();
        for piece in content.chunks(10_000) {
            writer.write_all(piece).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(key: &StoreKey, archive: &[u8]) -> Result<Vec<u8>, String> {
        let mut reader = ArchiveReader::begin(archive, key).map_err(|error| error.to_string())?;
        let mut content = Vec::new();
        reader.read_to_end(&mut content).map_err(|error| error.to_string())?;
        Ok(content)
    }

    #[test]
    fn what_was_written_comes_back_whatever_its_length() {
        let key = StoreKey::generate().unwrap();
        for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 200_000] {
            let content: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let archive = archive(&key, &content);
            assert_eq!(read(&key, &archive).as_ref(), Ok(&content));
            assert_ne!(archive, self::archive(&key, &content), "each has a key of its own");
        }
    }

    #[test]
    fn what_was_changed_moved_or_cut_short_is_not_read() {
        let key = StoreKey::generate().unwrap();
        let whole = archive(&key, &vec![7; 2 * CHUNK_BYTES + 10]);
        let head = MAGIC.len() + WRAPPED_BYTES + NONCE_BYTES;
        let chunk = CHUNK_BYTES + TAG_BYTES;
        for cut in [0, 5, MAGIC.len(), head - 1, head, head + 20, head + chunk, head + 2 * chunk, whole.len() - 1] {
            assert!(read(&key, &whole[..cut]).is_err(), "cut at {cut}");
        }
        for changed in [0, MAGIC.len(), head - 1, head, head + chunk, whole.len() - 1] {
            let mut archive = whole.clone();
            archive[changed] ^= 1;
            assert!(read(&key, &archive).is_err(), "changed at {changed}");
        }
        let swapped =
            [&whole[..head], &whole[head + chunk..][..chunk], &whole[head..][..chunk], &whole[head + 2 * chunk..]];
        assert!(read(&key, &swapped.concat()).is_err());
        assert!(read(&key, &[&whole[..], b"more"].concat()).is_err());
        let other = StoreKey::generate().unwrap();
        assert!(matches!(ArchiveReader::begin(whole.as_slice(), &other), Err(ArchiveError::WrongKey)));
        assert!(matches!(ArchiveReader::begin(&b"something else"[..], &key), Err(ArchiveError::Unknown)));
    }
}
