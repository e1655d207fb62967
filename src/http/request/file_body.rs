//! The body of a call that sends a file: JSON with `base64`, a form with a file, or JSON with a `url` that is fetched later. The file goes to disk
//! while it comes, encrypted; the rest is small, and becomes the same object either way. Never looks at what is in the file.

mod form;
mod split;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use rookery_actors::EncryptedFile;
use rookery_model::FileKind;
use serde_json::{Map, Value, json};

use crate::http::error::ApiError;
use crate::http::request::body::{Frames, parse};
use crate::http::request::body_room::Room;
use crate::media::{FileSink, Media, MediaError, Said};
use crate::shares::{User, UserShare};
use form::boundary_of;
use split::Splitter;

/// The member of the object that the file comes in.
const FILE_MEMBER: &str = "base64";

/// A file that came with a request. Lies in the extensions of its request.
#[derive(Clone)]
pub(crate) struct ReceivedFile {
    pub(crate) kind: FileKind,
    /// `None`: none came, so that there should be a URL.
    pub(crate) file: Option<Arc<EncryptedFile>>,
    /// What was said of it beside the object.
    pub(crate) said: Said,
    /// The right to send it, held until the request is answered.
    _share: Arc<UserShare>,
}

impl<S: Sync> FromRequestParts<S> for ReceivedFile {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts
            .extensions
            .get()
            .cloned()
            .ok_or_else(|| ApiError::Internal("a handler wants a file that nobody has read".into()))
    }
}

/// What a body with a file came to.
pub(super) struct FileBody {
    pub(super) object: Result<Map<String, Value>, ApiError>,
    /// The object as text, with the hash of the file in its place: equal for equal requests.
    pub(super) text: Vec<u8>,
    pub(super) received: ReceivedFile,
}

/// Reads such a body to its end. `rest_bytes_max`: of everything but the file.
///
/// # Errors
/// Those of the frames, of the file's place, and of a form or base64 that cannot be read.
pub(super) async fn receive(
    media: &Media,
    headers: &HeaderMap,
    frames: Frames,
    (kind, user): (FileKind, User),
    (room, rest_bytes_max): (&mut Room, usize),
) -> Result<FileBody, ApiError> {
    let share = Arc::new(media.admit_send(user)?);
    let mut taking = Taking {
        media,
        kind,
        user,
        room,
        rest_bytes: 0,
        rest_bytes_max,
        sink: None,
        said: Said::default(),
        unread: Arc::default(),
    };
    let boundary = headers.get(CONTENT_TYPE).and_then(|value| boundary_of(value.to_str().ok()?)).transpose()?;
    let mut object = match boundary {
        Some(boundary) => Ok(form::receive(frames, boundary, &mut taking).await?),
        None => taking.receive_json(frames).await?,
    };
    let Taking { sink, said, .. } = taking;
    let file = match sink {
        Some(sink) => Some(sink.finish().await.map_err(MediaError::File)?).filter(|file| file.length() > 0),
        None => None,
    };
    if let (Ok(object), Some(file)) = (&mut object, &file) {
        object.insert(FILE_MEMBER.to_owned(), json!(hex::encode(file.sha256())));
    }
    // Forms have their parts in any order.
    let sorted = object.as_ref().ok().map(|object| object.iter().collect::<BTreeMap<_, _>>());
    let text = serde_json::to_vec(&(sorted, &said.mimetype_of_host)).unwrap_or_default();
    Ok(FileBody { object, text, received: ReceivedFile { kind, file, said, _share: share } })
}

/// A body that is being read.
struct Taking<'a> {
    media: &'a Media,
    kind: FileKind,
    user: User,
    room: &'a mut Room,
    /// Bytes of everything but the file.
    rest_bytes: usize,
    rest_bytes_max: usize,
    sink: Option<FileSink>,
    said: Said,
    /// Bytes of a form that its parser does not understand yet.
    unread: Arc<AtomicUsize>,
}

type Object = Result<Map<String, Value>, ApiError>;

impl Taking<'_> {
    fn has_file(&self) -> bool {
        self.sink.is_some()
    }

    /// The file begins.
    fn begin(&mut self) -> Result<(), MediaError> {
        self.sink = Some(self.media.sink(self.kind, self.user)?);
        Ok(())
    }

    async fn write(&mut self, piece: &[u8]) -> Result<(), MediaError> {
        if let Some(sink) = self.sink.take() {
            self.sink = Some(sink.write(piece).await?);
        }
        Ok(())
    }

    /// Counts so many bytes more that are not the file's.
    fn count_rest(&mut self, bytes: usize) -> Result<(), ApiError> {
        self.rest_bytes += bytes;
        if self.rest_bytes > self.rest_bytes_max {
            return Err(ApiError::BodyTooLarge { bytes_max: self.rest_bytes_max });
        }
        self.room.widen(self.rest_bytes)
    }

    async fn receive_json(&mut self, mut frames: Frames) -> Result<Object, ApiError> {
        let (mut splitter, mut piece) = (Splitter::default(), Vec::new());
        while let Some(frame) = frames.next().await? {
            let before = splitter.rest_length();
            splitter.feed(&frame, &mut piece)?;
            self.count_rest(splitter.rest_length() - before)?;
            self.take_piece(&mut piece).await?;
        }
        let (rest, mut mimetype) = splitter.finish(&mut piece)?;
        self.take_piece(&mut piece).await?;
        let object = parse(&rest);
        let member = object.as_ref().ok().and_then(|object| object.get(FILE_MEMBER)).and_then(Value::as_str);
        if let (Some(text), false) = (member, self.has_file()) {
            (piece, mimetype) = split::decoded(text)?;
            self.take_piece(&mut piece).await?;
        }
        self.said.mimetype = mimetype;
        Ok(object)
    }

    async fn take_piece(&mut self, piece: &mut Vec<u8>) -> Result<(), MediaError> {
        if piece.is_empty() {
            return Ok(());
        }
        if !self.has_file() {
            self.begin()?;
        }
        self.write(piece).await?;
        piece.clear();
        Ok(())
    }
}
