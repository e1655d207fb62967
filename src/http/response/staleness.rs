//! Reads of groups while their session is not ready: 409, or with `?stale=true` what was known last, and how old it is.

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use rookery_actors::CommandError;
use rookery_model::{Aged, Community, Group, GroupId, GroupSummary, SessionId, Tagged};

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::request::extract::Stale;

const WARNING_HEADER: HeaderName = HeaderName::from_static("warning");
/// As RFC 7234 has it: WhatsApp could not be asked whether it is still so.
const STALE: &str = "110 - \"Response is Stale\"";
/// WhatsApp did not tell all of it: what is here is what is known.
const INCOMPLETE: &str = "199 - \"Incomplete\"";

/// All groups from the cache.
///
/// # Errors
/// As of reading groups.
pub(crate) async fn groups(
    app: &App,
    session: SessionId,
    Stale(stale): Stale,
) -> Result<Aged<Arc<Vec<GroupSummary>>>, ApiError> {
    if stale {
        return Ok(app.gateway.known_groups(session).await?);
    }
    Ok(fresh(app.gateway.groups(session, false).await?))
}

/// A group from the cache, without its value when it has one of these tags.
///
/// # Errors
/// As of reading a group.
pub(crate) async fn tagged_group(
    app: &App,
    session: SessionId,
    group: GroupId,
    known: Vec<u64>,
    Stale(stale): Stale,
) -> Result<Aged<Tagged<Group>>, ApiError> {
    if stale {
        return Ok(app.gateway.known_group(session, group, known).await?);
    }
    Ok(fresh(app.gateway.group(session, group, known, false).await?))
}

/// A group from the cache.
///
/// # Errors
/// As of reading a group.
pub(crate) async fn group(
    app: &App,
    session: SessionId,
    group: GroupId,
    stale: Stale,
) -> Result<Aged<Arc<Group>>, ApiError> {
    let Aged { value, stale_for } = tagged_group(app, session, group, Vec::new(), stale).await?;
    let value = value.value.ok_or_else(|| ApiError::Internal("a group without its value".into()))?;
    Ok(Aged { value, stale_for })
}

/// A community as WhatsApp has it; where it cannot be asked and that will do, with the groups of it that the cache holds.
///
/// # Errors
/// As of reading a community.
pub(crate) async fn community(
    app: &App,
    session: SessionId,
    community: GroupId,
    Stale(stale): Stale,
) -> Result<Aged<Community>, ApiError> {
    match app.gateway.community(session, community.clone()).await {
        Err(CommandError::NotConnected) if stale => Ok(app.gateway.known_community(session, community).await?),
        read => Ok(fresh(read?)),
    }
}

/// What was just asked of WhatsApp, or is the cache of a session that is ready.
pub(crate) fn fresh<T>(value: T) -> Aged<T> {
    Aged { value, stale_for: None }
}

/// What `respond` answers about a group in a form that has no place to say that not all of it is known: a header does.
///
/// # Errors
/// What `respond` says.
pub(crate) fn answered_of(
    read: Aged<Arc<Group>>,
    respond: impl FnOnce(Arc<Group>) -> Result<Response, ApiError>,
) -> Result<Response, ApiError> {
    let is_incomplete = read.value.incomplete;
    Ok(marked(answered(read, respond)?, is_incomplete))
}

/// With a header that says so when not all of it is known.
pub(crate) fn marked(mut response: Response, is_incomplete: bool) -> Response {
    if is_incomplete {
        response.headers_mut().append(WARNING_HEADER, HeaderValue::from_static(INCOMPLETE));
    }
    response
}

/// What `respond` answers; it says so when it is stale.
///
/// # Errors
/// What `respond` says.
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
