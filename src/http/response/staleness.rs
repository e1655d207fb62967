//! Reads of groups while their session is not ready: 409, or with `?stale=true` the last known state, and how old it
//! is.

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use rookery_actors::commands::ReadGroup;
use rookery_model::{Aged, Group, GroupId, SessionId};

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::request::extract::Stale;

const WARNING_HEADER: HeaderName = HeaderName::from_static("warning");
/// As RFC 7234 has it: WhatsApp could not be asked whether the state is still the same.
const STALE: &str = "110 - \"Response is Stale\"";
/// WhatsApp did not send everything: only a part is known.
const INCOMPLETE: &str = "199 - \"Incomplete\"";

/// A group from the cache.
///
/// # Errors
/// The errors of reading a group.
pub(crate) async fn group(
    app: &App,
    session: SessionId,
    group: GroupId,
    stale: Stale,
) -> Result<Aged<Arc<Group>>, ApiError> {
    let read = ReadGroup { group, known: Vec::new(), source: stale.source() };
    let Aged { value, stale_for } = app.gateway.execute(session, read).await?;
    let value = value.value.ok_or_else(|| ApiError::Internal("a group without its value".into()))?;
    Ok(Aged { value, stale_for })
}

/// The response of `respond` about a group, in a form that cannot say that the group is incomplete: a header says it.
///
/// # Errors
/// The errors of `respond`.
pub(crate) fn answered_of(
    read: Aged<Arc<Group>>,
    respond: impl FnOnce(Arc<Group>) -> Result<Response, ApiError>,
) -> Result<Response, ApiError> {
    let is_incomplete = read.value.incomplete;
    Ok(marked(answered(read, respond)?, is_incomplete))
}

/// The response, with a header when it is incomplete.
pub(crate) fn marked(mut response: Response, is_incomplete: bool) -> Response {
    if is_incomplete {
        response.headers_mut().append(WARNING_HEADER, HeaderValue::from_static(INCOMPLETE));
    }
    response
}

/// The response of `respond`, with headers when it is stale.
///
/// # Errors
/// The errors of `respond`.
pub(crate) fn answered<T>(
    read: Aged<T>,
    respond: impl FnOnce(T) -> Result<Response, ApiError>,
) -> Result<Response, ApiError> {
    let mut response = respond(read.value)?;
    if let Some(stale_for) = read.stale_for {
        let headers = response.headers_mut();
        headers.insert(header::AGE, stale_for.as_secs().into());
        headers.insert(WARNING_HEADER, HeaderValue::from_static(STALE));
    }
    Ok(response)
}
