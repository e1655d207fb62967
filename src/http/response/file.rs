//! A file as the body of a response: decrypted piece by piece as the caller takes it, in whole or in part. Nothing in it is run or shown by a
//! browser as a page of ours.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream::try_unfold;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rookery_actors::EncryptedFile;
use rookery_model::FileKind;
use tokio::task::spawn_blocking;

use crate::http::middleware::authorization::Admission;
use crate::shares::UserShare;

/// Bytes of a file that are read at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// Characters of a name that a header shows as they are (RFC 5987).
const NAME_ESCAPES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// A file that is a page runs nothing and belongs to no origin.
const NO_PAGE: HeaderValue = HeaderValue::from_static("sandbox; default-src 'none'; frame-ancestors 'none'");

/// A file to be answered, with the right to hold it until that is done.
pub(crate) struct FileAnswer {
    pub(crate) file: Arc<EncryptedFile>,
    pub(crate) share: UserShare,
    /// The caller's, which is looked at again before each piece.
    pub(crate) admission: Arc<Admission>,
    pub(crate) mimetype: String,
    pub(crate) filename: Option<String>,
}

/// The answer where the caller has the file with this hash already.
pub(crate) fn not_modified(request: &HeaderMap, sha256: &[u8]) -> Option<Response> {
    let tag = tag_of(sha256);
    let known = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|list| list.split(',')).map(|one| one.trim().trim_start_matches("W/"));
    let is_known = !sha256.is_empty() && known.any(|known| known == "*" || known == tag);
    is_known.then(|| (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response())
}

fn tag_of(sha256: &[u8]) -> String {
    format!("\"{}\"", hex::encode(sha256))
}

impl FileAnswer {
    pub(crate) fn respond(self, request: &HeaderMap) -> Response {
        let Self { file, share, admission, mimetype, filename } = self;
        let (length, tag) = (file.length(), tag_of(file.sha256()));
        let is_of_this = request.get(IF_RANGE).is_none_or(|known| known.as_bytes() == tag.as_bytes());
        let asked = request.get(RANGE).and_then(|range| range.to_str().ok()).filter(|_| is_of_this);
        let part = asked.and_then(|range| part_of(range, length));
        if part == Some(None) {
            return (StatusCode::RANGE_NOT_SATISFIABLE, [(CONTENT_RANGE, format!("bytes */{length}"))]).into_response();
        }
        let part = part.flatten();
        let Range { start, end } = part.clone().unwrap_or(0..length);
        let kind = file.kind();
        let place = if kind == FileKind::Document { "attachment" } else { "inline" };
        let mut response = Body::from_stream(pieces(file, (share, admission), start, end)).into_response();
        let headers = response.headers_mut();
        let mimetype = Some(mimetype).filter(|mimetype| is_of(kind, mimetype));
        let mimetype = mimetype.and_then(|mimetype| HeaderValue::from_str(&mimetype).ok());
        headers.insert(CONTENT_TYPE, mimetype.unwrap_or(HeaderValue::from_static("application/octet-stream")));
        headers.insert(CONTENT_LENGTH, (end - start).into());
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(CONTENT_SECURITY_POLICY, NO_PAGE);
        let named = filename.map(|name| format!("; filename*=UTF-8''{}", utf8_percent_encode(&name, NAME_ESCAPES)));
        let written = [(CONTENT_DISPOSITION, format!("{place}{}", named.unwrap_or_default())), (ETAG, tag)];
        headers
            .extend(written.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value).ok()?))));
        if part.is_some() {
            let range = format!("bytes {start}-{}/{length}", end - 1);
            headers.extend(HeaderValue::from_str(&range).map(|range| (CONTENT_RANGE, range)));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        response
    }
}

/// The bytes that a `Range` header asks for: `None`: it is to be ignored, as several parts at once are; `Some(None)`: there are no such bytes.
fn part_of(range: &str, length: u64) -> Option<Option<Range<u64>>> {
    let (from, to) = range.trim().strip_prefix("bytes=")?.split_once('-')?;
    if [from, to].iter().any(|end| !end.trim().bytes().all(|byte| byte.is_ascii_digit())) {
        return None;
    }
    let part = match (from.trim(), to.trim()) {
        ("", last) => length.saturating_sub(last.parse().ok()?)..length,
        (from, "") => from.parse().ok()?..length,
        (from, to) => {
            let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
            if to < from {
                return None;
            }
            from..to.saturating_add(1).min(length)
        }
    };
    Some(Some(part).filter(|part| part.start < part.end))
}

/// Whether a file of this kind may have this type: a browser shows all but documents in place.
fn is_of(kind: FileKind, mimetype: &str) -> bool {
    let mimetype = mimetype.to_ascii_lowercase();
    match kind {
        FileKind::Image | FileKind::Sticker => mimetype.starts_with("image/") && !mimetype.contains("svg"),
        FileKind::Video => mimetype.starts_with("video/"),
        FileKind::Audio => mimetype.starts_with("audio/"),
        FileKind::Document => !mimetype.is_empty(),
    }
}

/// The pieces of a file from `at` to `end`, as long as the caller may have them. The share is given back with the last one.
fn pieces(
    file: Arc<EncryptedFile>,
    rights: (UserShare, Arc<Admission>),
    at: u64,
    end: u64,
) -> impl futures_util::Stream<Item = std::io::Result<bytes::Bytes>> {
    try_unfold((at, rights), move |(at, rights)| {
        let file = Arc::clone(&file);
        async move {
            if rights.1.check_again().is_err() {
                return Err(std::io::ErrorKind::PermissionDenied.into());
            }
            let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
            if count == 0 {
                return Ok(None);
            }
            let piece = spawn_blocking(move || file.read(at, count)).await.map_err(std::io::Error::other)??;
            let next = at + piece.len() as u64;
            Ok(Some((piece, (next, rights))))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_one_part_of_the_file_or_ignored() {
        let cases = [
            ("bytes=0-9", Some(Some(0..10))),
            ("bytes=5-", Some(Some(5..100))),
            ("bytes=-5", Some(Some(95..100))),
            ("bytes=-500", Some(Some(0..100))),
            ("bytes=90-500", Some(Some(90..100))),
            ("bytes=100-", Some(None)),
            ("bytes=200-300", Some(None)),
            ("bytes=-0", Some(None)),
            ("bytes=9-5", None),
            ("bytes=0-1,5-6", None),
            ("lines=0-1", None),
            ("bytes=a-b", None),
            ("bytes=+1-2", None),
            ("bytes=-", None),
            ("bytes=99999999999999999999-", None),
        ];
        for (range, expected) in cases {
            assert_eq!(part_of(range, 100), expected, "{range}");
        }
    }
}
