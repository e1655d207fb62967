//! Files of messages at WhatsApp: uploaded, fetched, and asked for once more when they are gone. WhatsApp's media hosts know encrypted files
//! alone. Never holds more than a piece of a file in memory. The forms of the URLs are those of WhatsApp's web client and of whatsmeow.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::stream::BoxStream;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use reqwest::header::{CONTENT_TYPE, ORIGIN};
use reqwest::{Method, Response};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use wacore::download::DownloadUtils;
use wacore::net::WHATSAPP_WEB_ORIGIN;
use wacore::upload::encrypted_len;
use whatsapp_rust::bytes::{Bytes, BytesMut};
use whatsapp_rust::features::{MediaRetryResult, MediaReuploadError, MediaReuploadRequest};
use whatsapp_rust::mediaconn::MediaConn;
use whatsapp_rust::request::IqError;

use super::files::{EncryptedFile, FileError, MAC_BYTES, TempFile, media_type};
use super::messages::{author_of, jid_of};
use super::{Engine, EngineError, MessageInChat};
use rookery_model::{ChatId, ParticipantIds, StoredFile};

/// Time for one transfer. Commands end earlier.
const TRANSFER_TIME_MAX: Duration = Duration::from_secs(300);
/// Bytes of a file that are read, written or sent at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Bytes of a media host's answer to an upload.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Why a media host did not do what it was asked.
enum HostError {
    /// The word that admits this device is not valid any more.
    NotAdmitted,
    /// The host does not have the file.
    Gone,
    /// Another refusal, with its status code.
    Status(u16),
    /// The host cannot be reached, or breaks off.
    Unreachable,
    /// It is about the file itself, so another host would be of no use.
    File(FileError),
    /// WhatsApp did not say where its media hosts are.
    NoHosts(IqError),
}

impl HostError {
    /// Whether another host may do better.
    fn is_of_this_host(&self) -> bool {
        matches!(self, Self::Status(_) | Self::Unreachable)
    }
}

/// A file that is to be fetched.
struct Wanted<'a> {
    file: &'a StoredFile,
    bytes_max: u64,
    make_temp: &'a (dyn Fn() -> Result<TempFile, FileError> + Send + Sync),
}

impl From<FileError> for HostError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl From<HostError> for EngineError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::NotAdmitted => Self::Refused { code: 401, backoff_s: None },
            HostError::Gone => FileError::Gone.into(),
            HostError::Status(code) => Self::Refused { code, backoff_s: None },
            HostError::Unreachable => Self::Unanswered("WhatsApp's media hosts cannot be reached".into()),
            HostError::File(error) => error.into(),
            HostError::NoHosts(error) => error.into(),
        }
    }
}

impl Engine {
    /// Uploads a file. To do so again does no harm.
    ///
    /// # Errors
    /// [`EngineError::Refused`] with a media host's status; [`EngineError::Unanswered`]; [`EngineError::File`] when the file cannot be read.
    pub async fn upload(&self, file: &Arc<EncryptedFile>) -> Result<StoredFile, EngineError> {
        let UploadAnswer { url, direct_path } =
            match self.upload_to_any(&self.client.refresh_media_conn(false).await?, file).await {
                Err(HostError::NotAdmitted) => {
                    self.upload_to_any(&self.client.refresh_media_conn(true).await?, file).await?
                }
                uploaded => uploaded?,
            };
        Ok(StoredFile { url: Some(url), direct_path, ..file.description().clone() })
    }

    async fn upload_to_any(&self, hosts: &MediaConn, file: &Arc<EncryptedFile>) -> Result<UploadAnswer, HostError> {
        let (path, auth) = (media_type(file.kind()).upload_path(), &hosts.auth);
        let token = URL_SAFE_NO_PAD.encode(&file.description().encrypted_sha256);
        let mut last = HostError::Unreachable;
        for host in &hosts.hosts {
            let url = format!("{}{path}/{token}?auth={auth}&token={token}", base_url(&host.hostname));
            match self.upload_to(&url, file).await {
                Err(error) if error.is_of_this_host() => last = error,
                result => return result,
            }
        }
        Err(last)
    }

    async fn upload_to(&self, url: &str, file: &Arc<EncryptedFile>) -> Result<UploadAnswer, HostError> {
        let request = self.http.request(Method::POST, url).map_err(|_| HostError::Unreachable)?;
        let request = request.header(CONTENT_TYPE, "application/octet-stream").header(ORIGIN, WHATSAPP_WEB_ORIGIN);
        let request = request.body(reqwest::Body::wrap(FileBody::new(Arc::clone(file)))).timeout(TRANSFER_TIME_MAX);
        let answer = checked(request.send().await.map_err(|_| HostError::Unreachable)?)?;
        let answer = http_body_util::Limited::new(reqwest::Body::from(answer), ANSWER_BYTES_MAX);
        let answer = answer.collect().await.map_err(|_| HostError::Unreachable)?.to_bytes();
        serde_json::from_slice(&answer).map_err(|_| HostError::Unreachable)
    }

    /// Fetches the file of a message, and sees that it is whole. A file that WhatsApp does not have any more is asked of the account's phone.
    /// `make_temp` makes the place that the file comes to.
    ///
    /// # Errors
    /// [`EngineError::File`], and as [`Self::upload`].
    pub async fn fetch_file(
        &self,
        of: &MessageInChat,
        file: &StoredFile,
        bytes_max: u64,
        make_temp: &(dyn Fn() -> Result<TempFile, FileError> + Send + Sync),
    ) -> Result<EncryptedFile, EngineError> {
        if file.length > bytes_max {
            return Err(FileError::TooLarge { bytes_max }.into());
        }
        let wanted = Wanted { file, bytes_max, make_temp };
        let temp = match self.fetch_from_any(&file.direct_path, &wanted).await {
            Err(HostError::Gone) => {
                let path = self.uploaded_again(of, file).await?;
                self.fetch_from_any(&path, &wanted).await?
            }
            fetched => fetched?,
        };
        let description = file.clone();
        let opened = spawn_blocking(move || verified(temp, description)).await;
        Ok(opened.map_err(|_| FileError::Damaged)??)
    }

    async fn fetch_from_any(&self, path: &str, wanted: &Wanted<'_>) -> Result<TempFile, HostError> {
        let Wanted { file, bytes_max, make_temp } = wanted;
        let hosts = self.client.refresh_media_conn(false).await.map_err(HostError::NoHosts)?;
        let (hash, kind) = (URL_SAFE_NO_PAD.encode(&file.encrypted_sha256), media_type(file.kind).mms_type());
        let mut last = HostError::Unreachable;
        for host in &hosts.hosts {
            let mut url = file_url(&host.hostname, path).ok_or(FileError::Gone)?;
            url.query_pairs_mut().append_pair("hash", &hash).append_pair("mms-type", kind).append_pair("__wa-mms", "");
            match self.fetch(url.as_str(), *bytes_max, make_temp()?).await {
                Err(error) if error.is_of_this_host() => last = error,
                result => return result,
            }
        }
        Err(last)
    }

    async fn fetch(&self, url: &str, bytes_max: u64, mut temp: TempFile) -> Result<TempFile, HostError> {
        let request = self.http.request(Method::GET, url).map_err(|_| HostError::Unreachable)?;
        let request = request.header(ORIGIN, WHATSAPP_WEB_ORIGIN).timeout(TRANSFER_TIME_MAX);
        let mut answer = checked(request.send().await.map_err(|_| HostError::Unreachable)?)?;
        let encrypted_max = usize::try_from(bytes_max).map_or(u64::MAX, |most| encrypted_len(most) as u64);
        let mut piece = BytesMut::new();
        loop {
            let chunk = answer.chunk().await.map_err(|_| HostError::Unreachable)?;
            let is_last = chunk.is_none();
            piece.extend_from_slice(&chunk.unwrap_or_default());
            if temp.length() + piece.len() as u64 > encrypted_max {
                return Err(FileError::TooLarge { bytes_max }.into());
            }
            if is_last || piece.len() >= PIECE_BYTES {
                let full = piece.split();
                let written = spawn_blocking(move || temp.append(&full).map(|()| temp)).await;
                temp = written.map_err(|_| FileError::Damaged)??;
            }
            if is_last {
                return Ok(temp);
            }
        }
    }

    /// Asks the phone to upload a file once more, and returns where it is then.
    async fn uploaded_again(&self, of: &MessageInChat, file: &StoredFile) -> Result<String, EngineError> {
        let is_named = matches!(of.chat, ChatId::Group(_)) && !of.message.is_from_me;
        let author = author_of(&of.message, of.is_by_lid, &ParticipantIds::default()).filter(|_| is_named);
        let request = MediaReuploadRequest {
            msg_id: &of.message.id,
            chat_jid: &jid_of(&of.chat),
            media_key: &file.media_key,
            is_from_me: of.message.is_from_me,
            participant: author.as_ref(),
        };
        match self.client.media_reupload().request(&request).await {
            Ok(MediaRetryResult::Success { direct_path }) => Ok(direct_path),
            Ok(_) => Err(FileError::Gone.into()),
            Err(MediaReuploadError::Timeout) => Err(FileError::PhoneSilent.into()),
            Err(_) => Err(EngineError::ConnectionLost),
        }
    }
}

/// What a media host says of an uploaded file.
#[derive(Deserialize)]
struct UploadAnswer {
    url: String,
    direct_path: String,
}

/// Where a media host has the file of this path; `None`: the path would lead to another host. A message's sender chooses the path.
fn file_url(host: &str, path: &str) -> Option<reqwest::Url> {
    let base: reqwest::Url = base_url(host).parse().ok()?;
    let url: reqwest::Url = format!("{}{path}", base_url(host)).parse().ok()?;
    let is_there = path.starts_with('/') && url.origin() == base.origin() && url.username().is_empty();
    (is_there && url.password().is_none() && url.fragment().is_none()).then_some(url)
}

/// A media host's address. The simulator's, on this machine, has no TLS.
fn base_url(host: &str) -> String {
    let is_here = host.starts_with("127.0.0.1:") || host.starts_with("localhost:") || host.starts_with("[::1]:");
    let scheme = if cfg!(feature = "simulator") && is_here { "http" } else { "https" };
    format!("{scheme}://{host}")
}

fn checked(answer: Response) -> Result<Response, HostError> {
    match answer.status().as_u16() {
        200..300 => Ok(answer),
        401 | 403 => Err(HostError::NotAdmitted),
        404 | 410 => Err(HostError::Gone),
        code => Err(HostError::Status(code)),
    }
}

/// Sees that an encrypted file is whole, and is the one that its message describes. Blocks.
fn verified(temp: TempFile, mut description: StoredFile) -> Result<EncryptedFile, FileError> {
    if temp.length() < MAC_BYTES {
        return Err(FileError::Damaged);
    }
    let mut sum = io::BufWriter::with_capacity(PIECE_BYTES, Sum::default());
    let kind = media_type(description.kind);
    DownloadUtils::decrypt_stream_to_writer(temp.reader(), &description.media_key, kind, &mut sum)
        .map_err(|_| FileError::Damaged)?;
    let Sum { hash, length } = sum.into_inner().map_err(|_| FileError::Damaged)?;
    let sha256 = hash.finalize().to_vec();
    if !description.sha256.is_empty() && description.sha256 != sha256 {
        return Err(FileError::Damaged);
    }
    (description.sha256, description.length) = (sha256, length);
    EncryptedFile::new(temp, description)
}

/// Length and hash of what is written into it.
#[derive(Default)]
struct Sum {
    hash: Sha256,
    length: u64,
}

impl Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An encrypted file as the body of an upload. Its length is certain, so that the request says it: media hosts take no other ones.
struct FileBody {
    /// The lock makes it shareable between threads, as the client asks for; it is never taken.
    pieces: Mutex<BoxStream<'static, io::Result<Bytes>>>,
    left: u64,
}

impl FileBody {
    fn new(file: Arc<EncryptedFile>) -> Self {
        let left = file.encrypted_length();
        let pieces = futures_util::stream::try_unfold(0, move |at| {
            let file = Arc::clone(&file);
            async move {
                let piece = spawn_blocking(move || file.read_encrypted(at, PIECE_BYTES)).await;
                let piece = piece.map_err(io::Error::other)??;
                let next = at + piece.len() as u64;
                Ok((!piece.is_empty()).then_some((piece, next)))
            }
        });
        Self { pieces: Mutex::new(Box::pin(pieces)), left }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let pieces = self.pieces.get_mut().unwrap_or_else(PoisonError::into_inner);
        let piece = std::task::ready!(pieces.as_mut().poll_next(context));
        if let Some(Ok(piece)) = &piece {
            self.left = self.left.saturating_sub(piece.len() as u64);
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::temp_file;
    use rookery_model::FileKind;
    use wacore::upload::encrypt_media;

    fn stored(content: &[u8]) -> (Vec<u8>, StoredFile) {
        let encrypted = encrypt_media(content, media_type(FileKind::Image)).unwrap();
        let description = StoredFile {
            kind: FileKind::Image,
            url: None,
            direct_path: String::new(),
            media_key: encrypted.media_key.to_vec(),
            sha256: encrypted.file_sha256.to_vec(),
            encrypted_sha256: encrypted.file_enc_sha256.to_vec(),
            length: 1,
            key_made_at: None,
            sidecar: None,
        };
        (encrypted.data_to_upload, description)
    }

    fn opened(encrypted: &[u8], description: StoredFile) -> Result<EncryptedFile, FileError> {
        let mut temp = temp_file(u64::MAX);
        temp.append(encrypted).unwrap();
        verified(temp, description)
    }

    #[test]
    fn the_path_of_a_message_leads_to_no_other_host() {
        let at = |path: &str| file_url("mmg.whatsapp.net", path).map(String::from);
        assert_eq!(at("/v/t62-1/x?ccb=1&oh=2").as_deref(), Some("https://mmg.whatsapp.net/v/t62-1/x?ccb=1&oh=2"));
        assert_eq!(at("//evil.test/x").as_deref(), Some("https://mmg.whatsapp.net//evil.test/x"));
        for path in ["@evil.test/x", ":81/x", ".evil.test/x", "http://evil.test/x", "x", "", "/x#y", "\\evil.test", "@"]
        {
            assert_eq!(at(path), None, "{path}");
        }
    }

    #[test]
    fn a_file_that_is_not_the_messages_is_refused() {
        let content: Vec<u8> = (0..70_001_u32).map(|index| (index % 251) as u8).collect();
        let (encrypted, description) = stored(&content);
        let file = opened(&encrypted, description.clone()).unwrap();
        assert_eq!(file.length(), 70_001, "whatever the message says");
        assert_eq!(file.read(69_990, 100).unwrap(), content[69_990..]);
        for index in [0, 40_000, encrypted.len() - 1] {
            let mut damaged = encrypted.clone();
            damaged[index] ^= 1;
            assert_eq!(opened(&damaged, description.clone()).err(), Some(FileError::Damaged), "byte {index}");
        }
        for length in [0, 5, 16, encrypted.len() - 16] {
            assert_eq!(opened(&encrypted[..length], description.clone()).err(), Some(FileError::Damaged), "{length}");
        }
        let another = StoredFile { sha256: vec![0; 32], ..description.clone() };
        assert_eq!(opened(&encrypted, another).err(), Some(FileError::Damaged));
        let another = StoredFile { media_key: vec![0; 32], ..description };
        assert_eq!(opened(&encrypted, another).err(), Some(FileError::Damaged));
    }
}
