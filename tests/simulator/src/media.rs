//! Files of messages: where devices upload them, where they are fetched, and how a phone uploads one again. The server knows
//! only encrypted files. It keeps them in memory, and forgets them when it ends.

use std::collections::{BTreeMap, VecDeque};

use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, body::Bytes};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use buffa::Message as _;
use rand::RngExt as _;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use wacore::download::{DownloadUtils, MediaType};
use wacore::media_retry::decrypt_media_retry_notification;
use wacore::upload::encrypt_media;
use wacore_binary::Node;
use wacore_binary::builder::NodeBuilder;
use waproto::whatsapp as wa;

use crate::SimulatorError;
use crate::messages::{MediaPointer, ReceivedMessage};
use crate::stanza::{attr, child_bytes, iq_error, iq_result, leaf, now};
use crate::world::account::DeviceRef;
use crate::world::{State, World};

/// The largest upload that is taken: more than any test needs.
pub(crate) const UPLOAD_BYTES_MAX: usize = 256 * 1024 * 1024;
/// All files together; the oldest are forgotten beyond that.
const STORED_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// How long a device may use the hosts and the word that admits it, unless a test says otherwise.
const TTL_S: u64 = 3_600;
/// Where files are fetched.
pub(crate) const FILES_PATH: &str = "/v/";
/// The key under which a device and its phone speak about a lost file.
const RETRY_KEY_INFO: &[u8] = b"WhatsApp Media Retry Notification";
const RETRY_NONCE_BYTES: usize = 12;

/// The files, and the word that admits uploads.
#[derive(Default)]
pub(crate) struct MediaStore {
    files: BTreeMap<String, File>,
    /// The names of the files, the oldest first.
    order: VecDeque<String>,
    bytes: usize,
    auth: String,
    ttl_s: Option<u64>,
}

struct File {
    content: Bytes,
    /// The server has deleted it: 410.
    is_gone: bool,
}

impl World {
    /// Files that were uploaded until now are deleted: fetching one answers 410 until the phone has uploaded it again.
    pub fn expire_media(&self) {
        self.lock().media.files.values_mut().for_each(|file| file.is_gone = true);
    }

    /// The word that admits uploads is not valid any more: devices have to ask for another.
    pub fn expire_media_auth(&self) {
        self.lock().media.auth.clear();
    }

    /// How long devices may use what they were told about uploads, in seconds.
    pub fn set_media_ttl(&self, seconds: u64) {
        self.lock().media.ttl_s = Some(seconds);
    }

    /// The files that are there, by number and encrypted bytes.
    #[must_use]
    pub fn media_stored(&self) -> (usize, usize) {
        let state = self.lock();
        (state.media.files.values().filter(|file| !file.is_gone).count(), state.media.bytes)
    }

    /// The file of a message that this account's phone has got or sent, decrypted; `None` when there is none with this id.
    ///
    /// # Errors
    /// When the file is gone or damaged.
    pub fn media_of(&self, phone: &str, id: &str) -> Result<Option<Vec<u8>>, SimulatorError> {
        let state = self.settled();
        let Some(account) = state.accounts.get(phone) else { return Ok(None) };
        let Some(pointer) = account.kept_message(id).and_then(ReceivedMessage::media_pointer) else { return Ok(None) };
        state.media.decrypted(&pointer).map(Some)
    }

    /// Uploads a file as a phone does, and describes it as a message of this kind does.
    ///
    /// # Errors
    /// When the file cannot be encrypted.
    pub fn upload(&self, kind: MediaType, content: &[u8]) -> Result<Uploaded, SimulatorError> {
        let encrypted = encrypt_media(content, kind).map_err(SimulatorError::crypto)?;
        let mut state = self.lock();
        let token = URL_SAFE_NO_PAD.encode(encrypted.file_enc_sha256);
        let direct_path = state.media.keep(&token, Bytes::from(encrypted.data_to_upload));
        Ok(Uploaded {
            url: format!("{}{direct_path}", state.media_url),
            direct_path,
            media_key: encrypted.media_key.to_vec(),
            file_sha256: encrypted.file_sha256.to_vec(),
            file_enc_sha256: encrypted.file_enc_sha256.to_vec(),
            file_length: content.len() as u64,
        })
    }
}

/// An uploaded file, in the words of the messages that point to it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Uploaded {
    /// Where it can be fetched.
    pub url: String,
    /// The same without scheme and host.
    pub direct_path: String,
    /// The 32 bytes from which its keys are made.
    pub media_key: Vec<u8>,
    /// The hash of the file.
    pub file_sha256: Vec<u8>,
    /// The hash of the encrypted file.
    pub file_enc_sha256: Vec<u8>,
    /// Its length in bytes.
    pub file_length: u64,
}

impl MediaStore {
    /// Keeps a file under a new name and returns its path.
    fn keep(&mut self, token: &str, content: Bytes) -> String {
        let name = format!("{:016x}-{token}", rand::random::<u64>());
        self.bytes += content.len();
        self.files.insert(name.clone(), File { content, is_gone: false });
        self.order.push_back(name.clone());
        while self.bytes > STORED_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.bytes -= self.files.remove(&oldest).map_or(0, |file| file.content.len());
        }
        // The client puts its own parameters behind.
        format!("{FILES_PATH}{name}?ccb=1-7")
    }

    fn file(&self, direct_path: &str) -> Option<&File> {
        let name = direct_path.strip_prefix(FILES_PATH)?;
        self.files.get(name.split('?').next()?)
    }

    fn decrypted(&self, pointer: &MediaPointer) -> Result<Vec<u8>, SimulatorError> {
        let file = self.file(&pointer.direct_path).filter(|file| !file.is_gone);
        let file = file.ok_or_else(|| SimulatorError::protocol("the file is gone"))?;
        DownloadUtils::verify_and_decrypt(&file.content, &pointer.key, pointer.kind).map_err(SimulatorError::crypto)
    }

    /// The word that admits uploads; made at first, and after it was declared void.
    fn auth(&mut self) -> String {
        if self.auth.is_empty() {
            self.auth = format!("{:032x}", rand::random::<u128>());
        }
        self.auth.clone()
    }
}

/// Answers a `w:m` request: where files are uploaded and fetched.
pub(crate) fn answer(state: &mut State, request: &Node) -> Node {
    if request.get_optional_child("media_conn").is_none() {
        return iq_error(request, 501, None);
    }
    let host = state.media_url.trim_start_matches("http://").to_owned();
    let ttl = state.media.ttl_s.unwrap_or(TTL_S).to_string();
    let host = NodeBuilder::new("host").attr("hostname", host).attr("type", "primary");
    let connection = NodeBuilder::new("media_conn")
        .attr("auth", state.media.auth())
        .attr("ttl", ttl.as_str())
        .attr("auth_ttl", ttl.as_str())
        .attr("max_buckets", "12")
        .children([host.build()]);
    iq_result(request, vec![connection.build()])
}

#[derive(Deserialize)]
pub(crate) struct Upload {
    auth: Option<String>,
    resume: Option<String>,
}

/// A device uploads a file under the hash of its encrypted content, or asks whether it is there.
pub(crate) async fn upload(
    Shared(world): Shared<World>,
    Path((_kind, token)): Path<(String, String)>,
    Query(query): Query<Upload>,
    content: Bytes,
) -> Response {
    let mut state = world.lock();
    if query.auth.as_deref() != Some(state.media.auth.as_str()) || state.media.auth.is_empty() {
        return (StatusCode::UNAUTHORIZED, Json(json!({ "error": "not admitted" }))).into_response();
    }
    if query.resume.is_some() {
        return Json(json!({ "resume": "0" })).into_response();
    }
    if URL_SAFE_NO_PAD.encode(Sha256::digest(&content)) != token.trim_end_matches('=') {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "the hash is another one" }))).into_response();
    }
    let direct_path = state.media.keep(&token, content);
    Json(json!({ "url": format!("{}{direct_path}", state.media_url), "direct_path": direct_path })).into_response()
}

/// A file, with and without the word that admits uploads.
pub(crate) async fn download(Shared(world): Shared<World>, Path(name): Path<String>) -> Response {
    match world.lock().media.files.get(&name) {
        Some(file) if file.is_gone => StatusCode::GONE.into_response(),
        Some(file) => file.content.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

impl State {
    /// A device could not fetch a file, and asks its phone to upload it again. The phone answers with the new place, or that it
    /// has no such message.
    pub(crate) fn on_media_retry(&mut self, me: &DeviceRef, receipt: &Node) {
        let id = attr(receipt, "id").unwrap_or_default();
        self.count(&me.phone, "media_retry");
        self.read_all_on(&me.phone);
        let (Some(asked), Some(rmr)) = (receipt.get_optional_child("encrypt"), receipt.get_optional_child("rmr"))
        else {
            return;
        };
        let Some(account) = self.accounts.get(&me.phone) else { return };
        let pointer = account.kept_message(&id).and_then(ReceivedMessage::media_pointer);
        let answer = pointer.and_then(|pointer| self.upload_again(&id, asked, &pointer));
        let answer = answer.unwrap_or_else(|| vec![NodeBuilder::new("error").attr("code", "2").build()]);
        let Some(from) = self.accounts.get(&me.phone).map(|account| account.pn_jid()) else { return };
        let notification = NodeBuilder::new("notification")
            .attr("from", from)
            .attr("type", "mediaretry")
            .attr("id", id)
            .attr("t", now().to_string())
            .children(answer.into_iter().chain([rmr.clone()]));
        self.deliver(me, vec![notification.build()]);
    }

    fn upload_again(&mut self, id: &str, asked: &Node, pointer: &MediaPointer) -> Option<Vec<Node>> {
        let (sealed, nonce) = (child_bytes(asked, "enc_p"), child_bytes(asked, "enc_iv"));
        decrypt_media_retry_notification(&pointer.key, id, &nonce, &sealed).ok()?;
        let content = self.media.file(&pointer.direct_path)?.content.clone();
        let token = URL_SAFE_NO_PAD.encode(Sha256::digest(&content));
        let answer = wa::MediaRetryNotification {
            stanza_id: Some(id.to_owned()),
            direct_path: Some(self.media.keep(&token, content)),
            result: Some(wa::media_retry_notification::ResultType::SUCCESS),
            ..Default::default()
        };
        let nonce: [u8; RETRY_NONCE_BYTES] = self.rng.random();
        let sealed = seal_retry(&pointer.key, id, nonce, answer.encode_to_vec())?;
        let parts = [leaf("enc_p", sealed), leaf("enc_iv", nonce)];
        Some(vec![NodeBuilder::new("encrypt").children(parts).build()])
    }
}

/// Encrypts what the phone answers about a lost file: AES-256-GCM with a key made from the file's own.
fn seal_retry(media_key: &[u8], id: &str, nonce: [u8; RETRY_NONCE_BYTES], mut answer: Vec<u8>) -> Option<Vec<u8>> {
    use ring::{aead, hkdf};
    struct KeyLength;
    impl hkdf::KeyType for KeyLength {
        fn len(&self) -> usize {
            32
        }
    }
    let mut key = [0_u8; 32];
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, &[0; 32]).extract(media_key);
    extracted.expand(&[RETRY_KEY_INFO], KeyLength).ok()?.fill(&mut key).ok()?;
    let key = aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_256_GCM, &key).ok()?);
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, aead::Aad::from(id.as_bytes()), &mut answer).ok()?;
    Some(answer)
}
