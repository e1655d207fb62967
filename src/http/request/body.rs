//! The body of a call that changes something: read by the authorization layer to its end, within limits of size, time, pace and memory,
//! and parsed as a bounded number of values. Handlers find it in the request's extensions. Never decides who may call.

mod json;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use axum::http::request::Parts;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use crate::app::App;
use crate::config::HttpLimits;
use crate::http::error::ApiError;
use crate::http::limits::{BODY_INLINE_BYTES_MAX, BodyKind, CLIENT_BYTES_PER_SECOND_MIN};
use crate::http::request::body_room::Room;
use crate::http::request::caller::Caller;
use crate::http::request::context::RequestContext;
use crate::http::request::file_body::{self, FileBody};
use crate::shares::User;
pub(crate) use json::parse;

/// A body that was read. Lies in the extensions of its request.
#[derive(Clone)]
struct Taken {
    bytes: Bytes,
    /// `None` once a handler has it.
    object: Arc<Mutex<Option<Parsed>>>,
}

type Parsed = Result<Map<String, Value>, ApiError>;

/// Reads and parses a request's body. Errors in its content are for the handler to report, if it wants a body at all.
/// The body's room is given back when the request is over.
///
/// # Errors
/// [`ApiError::BodyCompressed`], [`ApiError::BodyTooSlow`], [`ApiError::BodyTooLarge`], [`ApiError::BodyEndedEarly`],
/// or the errors of [`Room::widen`].
pub(crate) async fn take_in(app: &App, request: Request, kind: BodyKind) -> Result<Request, ApiError> {
    let (mut parts, body) = request.into_parts();
    let context = parts.extensions.get::<Arc<RequestContext>>().cloned();
    let context = context.ok_or_else(|| ApiError::Internal("a request has no context".into()))?;
    let key = context.key().ok_or_else(|| ApiError::Internal("a body is read for nobody".into()))?;
    let mut room = app.body_rooms.room(key.id());
    if let BodyKind::File(file_kind) = kind {
        let session = parts.extensions.get::<Caller>().and_then(|caller| caller.session);
        let session = session.ok_or_else(|| ApiError::Internal("a file is read for no session".into()))?;
        let user = User { key: key.id(), session };
        let frames = Frames::begin(&parts.headers, body, &app.http.limits, kind)?;
        let rest = (&mut room, app.http.limits.body_bytes_max);
        context.place().inspect(|place| place.receives());
        let read = file_body::receive(&app.media, &parts.headers, frames, (file_kind, user), rest).await;
        context.place().inspect(|place| place.received());
        let FileBody { object, text, received } = read?;
        context.hold_room(room);
        parts.extensions.insert(received);
        parts.extensions.insert(Taken { bytes: text.into(), object: Arc::new(Mutex::new(Some(object))) });
        return Ok(Request::from_parts(parts, Body::empty()));
    }
    let bytes = receive(app, &context, &parts.headers, body, kind, &mut room).await?;
    context.hold_room(room);
    let object = if bytes.len() <= BODY_INLINE_BYTES_MAX {
        parse(&bytes)
    } else {
        let bytes = bytes.clone();
        let parsed = spawn_blocking(move || parse(&bytes)).await;
        parsed.unwrap_or_else(|_| Err(ApiError::Internal("parsing a body was cut short".into())))
    };
    parts.extensions.insert(Taken { bytes: bytes.clone(), object: Arc::new(Mutex::new(Some(object))) });
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

/// Reads a request's body to its end. Meanwhile the client keeps its connection waiting.
///
/// # Errors
/// As [`take_in`].
pub(crate) async fn receive(
    app: &App,
    context: &RequestContext,
    headers: &HeaderMap,
    body: Body,
    kind: BodyKind,
    room: &mut Room,
) -> Result<Bytes, ApiError> {
    context.place().inspect(|place| place.receives());
    let bytes = read_whole(headers, body, &app.http.limits, kind, room).await;
    context.place().inspect(|place| place.received());
    bytes
}

/// The bytes of a body that was read.
///
/// # Errors
/// [`ApiError::Internal`] when no body was read.
pub(crate) fn taken(parts: &Parts) -> Result<Bytes, ApiError> {
    let taken: Option<&Taken> = parts.extensions.get();
    taken.map(|taken| taken.bytes.clone()).ok_or_else(never_read)
}

/// The body of a request as an object; it can be taken once.
///
/// # Errors
/// [`ApiError::BodyNotJson`].
pub(crate) fn object_of(parts: &mut Parts) -> Result<Map<String, Value>, ApiError> {
    let taken: Taken = parts.extensions.remove().ok_or_else(never_read)?;
    let object = taken.object.lock().unwrap_or_else(PoisonError::into_inner).take();
    object.ok_or_else(never_read)?
}

fn never_read() -> ApiError {
    ApiError::Internal("a handler wants a body that nobody has read".into())
}

async fn read_whole(
    headers: &HeaderMap,
    body: Body,
    limits: &HttpLimits,
    kind: BodyKind,
    room: &mut Room,
) -> Result<Bytes, ApiError> {
    let mut frames = Frames::begin(headers, body, limits, kind)?;
    let mut collected = BytesMut::new();
    while let Some(data) = frames.next().await? {
        if collected.is_empty() && frames.body.is_end_stream() {
            room.widen(data.len())?;
            return Ok(data);
        }
        let length = collected.len() + data.len();
        if length > collected.capacity() {
            // Doubled, so that the body is not moved for each frame, and never beyond the largest size that may come.
            let capacity = (2 * length).min(frames.announced.unwrap_or(frames.bytes_max)).max(length);
            room.widen(capacity)?;
            collected.reserve(capacity - collected.len());
        }
        collected.extend_from_slice(&data);
    }
    Ok(collected.freeze())
}

fn refuse_compressed(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_plain = |value: &[u8]| value.eq_ignore_ascii_case(b"identity");
    let plain = headers.get_all(CONTENT_ENCODING).iter().all(|value| is_plain(value.as_bytes()));
    if plain { Ok(()) } else { Err(ApiError::BodyCompressed) }
}

/// A body that is read frame by frame. It has to keep a pace: a sender of a byte now and then would hold a place that others need.
pub(crate) struct Frames {
    body: Body,
    /// Bytes that came.
    received: usize,
    started: Instant,
    bytes_max: usize,
    /// The length that the sender announced.
    announced: Option<usize>,
    /// Time for the whole body.
    time_max: Duration,
    /// Waiting time beside the time that the received bytes have earned.
    wait_max: Duration,
}

impl Frames {
    /// # Errors
    /// [`ApiError::BodyCompressed`], [`ApiError::BodyTooLarge`].
    pub(crate) fn begin(
        headers: &HeaderMap,
        body: Body,
        limits: &HttpLimits,
        kind: BodyKind,
    ) -> Result<Self, ApiError> {
        refuse_compressed(headers)?;
        let bytes_max = kind.bytes_max(limits);
        let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if announced.is_some_and(|announced: usize| announced > bytes_max) {
            return Err(ApiError::BodyTooLarge { bytes_max });
        }
        let (time_max, wait_max) = (kind.time_max(limits), limits.client_wait_max);
        Ok(Self { body, received: 0, started: Instant::now(), bytes_max, announced, time_max, wait_max })
    }

    /// The next data; `None`: that was all.
    ///
    /// # Errors
    /// [`ApiError::BodyTooSlow`], [`ApiError::BodyTooLarge`], [`ApiError::BodyEndedEarly`].
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let earned = self.wait_max.saturating_add(earned_by(self.received));
            let deadline = self.started + earned.min(self.time_max);
            let frame = timeout_at(deadline, self.body.frame()).await.map_err(|_| ApiError::BodyTooSlow)?;
            let Some(frame) = frame else { return Ok(None) };
            let Ok(data) = frame.map_err(|_| ApiError::BodyEndedEarly)?.into_data() else { continue };
            self.received += data.len();
            if self.received > self.bytes_max {
                return Err(ApiError::BodyTooLarge { bytes_max: self.bytes_max });
            }
            return Ok(Some(data));
        }
    }
}

/// The time that these bytes may have taken.
pub(crate) fn earned_by(bytes: usize) -> Duration {
    let ms = bytes as u64 * 1_000 / CLIENT_BYTES_PER_SECOND_MIN as u64;
    Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use uuid::Uuid;

    use super::*;
    use crate::http::request::body_room::Rooms;

    fn room() -> Room {
        Rooms::default().room(Uuid::nil())
    }

    async fn read_all(
        headers: &[(&str, &str)],
        body: Body,
        limits: &HttpLimits,
        kind: BodyKind,
    ) -> Result<usize, ApiError> {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, body) = request.body(body).unwrap().into_parts();
        read_whole(&parts.headers, body, limits, kind, &mut room()).await.map(|bytes| bytes.len())
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_whether_or_not_it_announces_itself() {
        let limits = HttpLimits { body_bytes_max: 1_000, ..HttpLimits::default() };
        for (size, fits) in [(1_000, true), (1_001, false)] {
            let pieces = stream::iter(vec![Ok::<_, std::convert::Infallible>(Bytes::from(vec![b' '; 7])); size / 7])
                .chain(stream::iter([Ok(Bytes::from(vec![b' '; size % 7]))]));
            for body in [Body::from(vec![b' '; size]), Body::from_stream(pieces)] {
                let read = read_all(&[], body, &limits, BodyKind::Json).await;
                assert_eq!(read.ok(), fits.then_some(size), "{size}");
            }
        }
        let announced = read_all(&[("content-length", "1001")], Body::empty(), &limits, BodyKind::Json).await;
        assert!(matches!(announced, Err(ApiError::BodyTooLarge { bytes_max: 1_000 })), "before a byte is read");
    }

    #[tokio::test]
    async fn a_route_may_have_another_limit_and_a_picture_fits_into_its_own() {
        let picture = crate::picture::INPUT_BYTES_MAX.div_ceil(3) * 4;
        let body = format!(r#"{{"mimetype":"image/jpeg","base64":"{}"}}"#, "A".repeat(picture));
        assert_eq!(parse(body.as_bytes()).map(|map| map.len()).ok(), Some(2));
        let limits = HttpLimits::default();
        let body = || Body::from(body.clone());
        assert!(read_all(&[], body(), &limits, BodyKind::Picture).await.is_ok());
        let usual = read_all(&[], body(), &limits, BodyKind::Json).await;
        assert!(matches!(usual, Err(ApiError::BodyTooLarge { bytes_max: 1_048_576 })));
        let less = HttpLimits { media_body_bytes_max: 1_000, ..limits };
        let less = read_all(&[], body(), &less, BodyKind::Picture).await;
        assert!(matches!(less, Err(ApiError::BodyTooLarge { bytes_max: 1_000 })));
    }

    #[tokio::test]
    async fn a_compressed_body_is_refused_before_it_is_read() {
        for (encoding, refused) in [("gzip", true), ("identity", false), ("Identity", false), ("identity, br", true)] {
            let headers = [(CONTENT_ENCODING.as_str(), encoding)];
            let result = read_all(&headers, Body::empty(), &HttpLimits::default(), BodyKind::Json).await;
            assert_eq!(matches!(result, Err(ApiError::BodyCompressed)), refused, "{encoding}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_given_up_and_one_that_keeps_its_pace_is_not() {
        // Bytes that come at once, every 100 ms.
        for (bytes, kept_for_ms) in [
            (1, 5_000..5_100),
            (CLIENT_BYTES_PER_SECOND_MIN / 20, 9_700..10_300),
            (CLIENT_BYTES_PER_SECOND_MIN, 20_000..20_100),
        ] {
            let limits = HttpLimits {
                body_time_max: Duration::from_secs(20),
                client_wait_max: Duration::from_secs(5),
                ..HttpLimits::default()
            };
            let trickle = stream::repeat(Bytes::from(vec![b' '; bytes])).then(async |piece| {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok::<_, std::io::Error>(piece)
            });
            let started = Instant::now();
            let read = read_all(&[], Body::from_stream(Box::pin(trickle)), &limits, BodyKind::Json).await;
            assert!(matches!(read, Err(ApiError::BodyTooSlow)), "{bytes}: {read:?}");
            let kept_for = u64::try_from(started.elapsed().as_millis()).unwrap();
            assert!(kept_for_ms.contains(&kept_for), "{bytes}: {kept_for} ms");
        }
    }
}
