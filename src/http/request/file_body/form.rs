//! A form with a file (`multipart/form-data`): its texts become the members of the object that JSON would have, its file goes where it is kept.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt as _, try_unfold};
use multer::{Error, Field, Multipart};
use serde_json::{Map, Value, json};

use super::{FILE_MEMBER, Taking};
use crate::http::error::ApiError;
use crate::http::limits::{JSON_VALUES_MAX, MENTIONS_MAX};
use crate::http::request::body::Frames;
use crate::media::MediaError;

/// The part that holds the file. Others are files, too, if they say the name of one.
const FILE_PART: &str = "file";
/// The member that has the name of the file.
const NAME_MEMBER: &str = "filename";
/// The member that is a list, also with one entry.
const LIST: &str = "mentions";
/// Bytes of a part's head, and of what is before the first part and behind the last.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 128;

/// Reads a form to its end.
///
/// # Errors
/// [`MediaError::Form`], those of the frames, and those of the file.
pub(super) async fn receive(
    frames: Frames,
    boundary: String,
    taking: &mut Taking<'_>,
) -> Result<Map<String, Value>, ApiError> {
    let pieces = try_unfold(frames, async |mut frames| {
        let piece = frames.next().await.map_err(Carried)?;
        Ok::<_, Carried>(piece.map(|piece| (piece, frames)))
    });
    let mut pieces = Pieces { pieces: Box::pin(pieces), unread: Arc::clone(&taking.unread), is_next: true };
    let object = read(Multipart::new(&mut pieces, boundary), taking).await?;
    // What follows the form is nothing, or nearly so: a body that breaks off is none.
    while let Some(piece) = pieces.next().await {
        piece.map_err(|Carried(error)| error)?;
    }
    Ok(object)
}

async fn read(mut form: Multipart<'_>, taking: &mut Taking<'_>) -> Result<Map<String, Value>, ApiError> {
    let (mut object, mut parts) = (Map::new(), 0_usize);
    while let Some(part) = form.next_field().await.map_err(unreadable)? {
        taking.unread.store(0, Ordering::Relaxed);
        parts += 1;
        if parts > JSON_VALUES_MAX {
            return Err(MediaError::Form(format!("it has more than {JSON_VALUES_MAX} parts")).into());
        }
        let name = part.name().unwrap_or_default().to_owned();
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(MediaError::Form("a part of it has no name, or a very long one".into()).into());
        }
        if name == FILE_PART || part.file_name().is_some() {
            take_file(part, &mut object, taking).await?;
        } else {
            let text = take_text(part, taking).await?;
            add(&mut object, name, text)?;
        }
    }
    if let (Some(filename), false) = (taking.said.filename.take(), object.contains_key(NAME_MEMBER)) {
        object.insert(NAME_MEMBER.to_owned(), json!(filename));
    }
    Ok(object)
}

/// The file goes to its place; what its part says of it counts where no other part does.
async fn take_file(
    mut part: Field<'_>,
    object: &mut Map<String, Value>,
    taking: &mut Taking<'_>,
) -> Result<(), ApiError> {
    if taking.has_file() {
        return Err(MediaError::Form("it has more than one file".into()).into());
    }
    let filename = part.file_name().map(str::to_owned).filter(|name| !name.is_empty());
    let mimetype = part.content_type().map(ToString::to_string);
    taking.begin()?;
    while let Some(piece) = part.chunk().await.map_err(unreadable)? {
        taking.unread.store(0, Ordering::Relaxed);
        taking.write(&piece).await?;
    }
    taking.said.filename = filename;
    // Most clients guess it.
    taking.said.mimetype_of_host = mimetype;
    object.insert(FILE_MEMBER.to_owned(), json!(""));
    Ok(())
}

async fn take_text(mut part: Field<'_>, taking: &mut Taking<'_>) -> Result<String, ApiError> {
    let mut text: Vec<u8> = Vec::new();
    while let Some(piece) = part.chunk().await.map_err(unreadable)? {
        taking.unread.store(0, Ordering::Relaxed);
        taking.count_rest(piece.len())?;
        text.extend_from_slice(&piece);
    }
    String::from_utf8(text).map_err(|_| MediaError::Form("a part of it is not UTF-8".into()).into())
}

/// A part that comes several times is a list.
fn add(object: &mut Map<String, Value>, name: String, text: String) -> Result<(), ApiError> {
    if name == FILE_MEMBER {
        return Err(MediaError::Form(format!("its file is the part `{FILE_PART}`, not `{FILE_MEMBER}`")).into());
    }
    let list: Option<Vec<Value>> = (name == LIST).then(|| serde_json::from_str(&text).ok()).flatten();
    let texts = list.unwrap_or_else(|| vec![Value::String(text)]);
    match object.get_mut(&name) {
        Some(Value::Array(values)) if values.len() <= MENTIONS_MAX => values.extend(texts),
        Some(Value::Array(_)) => {
            return Err(MediaError::Form(format!("`{name}` has more than {MENTIONS_MAX} values")).into());
        }
        Some(one) => *one = Value::Array(std::iter::once(one.take()).chain(texts).collect()),
        None if name == LIST => drop(object.insert(name, Value::Array(texts))),
        None => drop(object.insert(name, texts.into_iter().next().unwrap_or_default())),
    }
    Ok(())
}

/// The pieces of a form on their way to the parser, one at a time: it keeps what it gets until it understands it, and looks at all of that
/// anew with each piece.
struct Pieces {
    pieces: BoxStream<'static, Result<Bytes, Carried>>,
    /// Bytes since the parser last understood something.
    unread: Arc<AtomicUsize>,
    /// The parser asks until nothing is there: so every other time nothing is.
    is_next: bool,
}

impl Stream for Pieces {
    type Item = Result<Bytes, Carried>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !std::mem::replace(&mut self.is_next, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let piece = ready!(self.pieces.as_mut().poll_next(context));
        self.is_next = false;
        if let Some(Ok(piece)) = &piece
            && self.unread.fetch_add(piece.len(), Ordering::Relaxed) > HEAD_BYTES_MAX
        {
            let why = format!(
                "the head of a part, or what is before or behind its parts, is longer than {HEAD_BYTES_MAX} bytes"
            );
            return Poll::Ready(Some(Err(Carried(MediaError::Form(why).into()))));
        }
        Poll::Ready(piece)
    }
}

/// An error of the frames on its way through the parser.
#[derive(Debug)]
struct Carried(ApiError);

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Carried {}

fn unreadable(error: Error) -> ApiError {
    match error {
        Error::StreamReadFailed(carried) => match carried.downcast::<Carried>() {
            Ok(carried) => carried.0,
            Err(_) => ApiError::BodyEndedEarly,
        },
        Error::IncompleteStream | Error::IncompleteFieldData { .. } | Error::IncompleteHeaders => {
            MediaError::Form("it ends early".into()).into()
        }
        // Not the error's own text: it may hold what the caller sent.
        _ => MediaError::Form("it is no multipart/form-data with this boundary".into()).into(),
    }
}

/// The boundary in a `Content-Type`; `None`: it is no form.
pub(super) fn boundary_of(content_type: &str) -> Option<Result<String, ApiError>> {
    let is_form = content_type.trim_start().to_ascii_lowercase().starts_with("multipart/");
    let missing = || MediaError::Form("its Content-Type has to be multipart/form-data with a boundary".into()).into();
    is_form.then(|| multer::parse_boundary(content_type).map_err(|_| missing()))
}
