//! The extractors of the handlers; each fails in the one error shape. Nothing in here waits.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Query, RawPathParams};
use axum::http::Uri;
use axum::http::request::Parts;
use futures_util::FutureExt as _;
use rookery_actors::commands::Source;
use rookery_model::{GroupId, IdError, SessionId, Timestamp};
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use uuid::Uuid;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::limits::PAGE_ENTRIES_MAX;
use crate::http::request::body::object_of;
use crate::http::request::caller::Caller;

use crate::http::request::fields::{Fields, FromFields, Known};
use crate::http::request::file_body::ReceivedFile;
use crate::http::request::written::{query_flag, shorten};

/// The path parameter that names a session, by id or name.
pub(crate) const SESSION_PARAMETER: &str = "session";

/// The path parameters that name a group.
pub(crate) const GROUP_PARAMETERS: [&str; 2] = ["group", "community"];

/// The session named in the path; it exists, and the caller may touch it.
pub(crate) struct SessionPath(pub(crate) SessionId);

impl<S: Sync> FromRequestParts<S> for SessionPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let session = parts.extensions.get::<Caller>().and_then(|caller| caller.session);
        session.map(Self).ok_or_else(|| ApiError::Internal("a route names no session".into()))
    }
}

/// The group named in the path.
pub(crate) struct GroupPath(pub(crate) GroupId);

impl<S: Sync> FromRequestParts<S> for GroupPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        group_parameter(parts, "group").map(Self)
    }
}

fn group_parameter(parts: &mut Parts, name: &str) -> Result<GroupId, ApiError> {
    group_of(&path_parameter(parts, name)?)
}

/// A group that a path or a query names, as callers write it.
///
/// # Errors
/// [`ApiError::Id`] with the text.
pub(crate) fn group_of(text: &str) -> Result<GroupId, ApiError> {
    GroupId::parse_written(text).map_err(|_| IdError::Group(shorten(text)).into())
}

/// The community named in the path: a group's id, whether or not it is a community.
pub(crate) struct CommunityPath(pub(crate) GroupId);

impl<S: Sync> FromRequestParts<S> for CommunityPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        group_parameter(parts, "community").map(Self)
    }
}

/// The key named in the path.
pub(crate) struct KeyPath(pub(crate) Uuid);

impl<S: Sync> FromRequestParts<S> for KeyPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let text = path_parameter(parts, "key")?;
        text.parse().map(Self).map_err(|_| {
            ApiError::Query(format!(
                "{} is not an API key id: it is the UUID that GET /api/auth/api-keys has as id",
                shorten(&text)
            ))
        })
    }
}

/// A parameter of the path.
///
/// # Errors
/// [`ApiError::Query`] when it is not UTF-8.
pub(crate) fn path_parameter(parts: &mut Parts, name: &str) -> Result<String, ApiError> {
    let parameters = path_parameters(parts)?;
    let value = parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
    value.ok_or_else(|| ApiError::Internal(format!("a route has no `{name}`")))
}

/// The parameters of the path, percent-decoded.
///
/// # Errors
/// [`ApiError::Query`] when one is not UTF-8 once it is decoded.
pub(crate) fn path_parameters(parts: &mut Parts) -> Result<RawPathParams, ApiError> {
    // The router has read them already: axum's extractor is async by its type alone.
    let found = RawPathParams::from_request_parts(parts, &()).now_or_never();
    found.and_then(Result::ok).ok_or_else(|| ApiError::Query("the path is not UTF-8".into()))
}

/// `limit` and `offset`: numbers, clamped to what is allowed. Without them the first 1,000 entries.
#[derive(Debug, PartialEq)]
pub(crate) struct Page {
    limit: usize,
    offset: usize,
}

impl IntoParams for Page {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let number = || ObjectBuilder::new().schema_type(Type::Integer);
        let limit = "Entries to answer, 1 to 1,000 (the default); a number beyond is taken as the nearest of these";
        let offset = "Entries to leave out at the start, none by default; a number below 0 is taken as 0";
        vec![query_parameter("limit", number(), limit), query_parameter("offset", number(), offset)]
    }
}

/// An optional parameter of the query, for the document.
pub(crate) fn query_parameter(name: &str, schema: ObjectBuilder, description: &str) -> Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query);
    parameter.required(Required::False).schema(Some(schema)).description(Some(description)).build()
}

impl Page {
    /// The part of the list that was asked for.
    pub(crate) fn of<'a, T>(&self, list: &'a [T]) -> &'a [T] {
        let rest = list.get(self.offset..).unwrap_or_default();
        &rest[..rest.len().min(self.limit)]
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn read(query: &[(String, String)]) -> Result<Self, ApiError> {
        let limit = number_of(query, "limit", PAGE_ENTRIES_MAX, 1..=PAGE_ENTRIES_MAX)?;
        Ok(Self { limit, offset: number_of(query, "offset", 0, 0..=usize::MAX)? })
    }
}

/// A number of the query, taken as the nearest one within the range.
///
/// # Errors
/// [`ApiError::Query`] when it is no whole number.
pub(crate) fn number_of(
    query: &[(String, String)],
    name: &str,
    default: usize,
    range: RangeInclusive<usize>,
) -> Result<usize, ApiError> {
    let Some(text) = value_of(query, name) else { return Ok(default) };
    let number = clamped(text, *range.start(), *range.end());
    number.ok_or_else(|| ApiError::Query(format!("{name} must be a number, not {}", shorten(text))))
}

/// A time of the query.
///
/// # Errors
/// [`ApiError::Query`] when it is none.
pub(crate) fn time_of(query: &[(String, String)], name: &str) -> Result<Option<Timestamp>, ApiError> {
    let wrong = |text: &str| {
        ApiError::Query(format!("{name} must be a time such as 2026-01-31T00:00:00Z, not {}", shorten(text)))
    };
    value_of(query, name).map(|text| Timestamp::parse(text).ok_or_else(|| wrong(text))).transpose()
}

/// A whole number, clamped; also one that is too long for any integer.
fn clamped(text: &str, least: usize, most: usize) -> Option<usize> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = if text.starts_with('-') { 0 } else { digits.parse().unwrap_or(usize::MAX) };
    Some(number.clamp(least, most))
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::read(&query(parts)?)
    }
}

/// The `ETag` that the caller has already. Only for the document: `response::etag::tagged` reads it.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct KnownTag {
    /// The `ETag` of an earlier answer: 304 when nothing has changed since.
    #[param(rename = "If-None-Match", nullable = false)]
    if_none_match: Option<String>,
}

/// `?refresh=true`: ask WhatsApp rather than the cache.
pub(crate) struct Refresh(pub(crate) bool);

impl IntoParams for Refresh {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let words = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["true", "false", "1", "0"]));
        vec![query_parameter("refresh", words, "Ask WhatsApp rather than the cache")]
    }
}

impl<S: Sync> FromRequestParts<S> for Refresh {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let wrong = || ApiError::Query("refresh must be true or false".into());
        value_of(&query(parts)?, "refresh").map_or(Ok(Self(false)), |text| query_flag(text).map(Self).ok_or_else(wrong))
    }
}

/// `?stale=true`: the cache is good enough while the session is not ready.
#[derive(Copy, Clone)]
pub(crate) struct Stale(pub(crate) bool);

impl Stale {
    /// Where the answer comes from.
    pub(crate) fn source(self) -> Source {
        if self.0 { Source::StaleCache } else { Source::Cache }
    }

    /// As [`Self::source`], where WhatsApp may be asked. `refresh` and `stale` exclude each other.
    pub(crate) fn or(self, Refresh(refresh): Refresh) -> Source {
        if refresh { Source::WhatsApp } else { self.source() }
    }
}

impl IntoParams for Stale {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let words = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["true", "false", "1", "0"]));
        let description = "While the session is started and not ready: answer what was known last, with `Age` and `Warning`, \
                           instead of 409";
        vec![query_parameter("stale", words, description)]
    }
}

impl<S: Sync> FromRequestParts<S> for Stale {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = query(parts)?;
        let is_refresh = value_of(&query, "refresh").and_then(query_flag) == Some(true);
        match value_of(&query, "stale").map(query_flag) {
            None | Some(Some(false)) => Ok(Self(false)),
            Some(Some(true)) if is_refresh => {
                Err(ApiError::Query("stale and refresh exclude each other: leave one of them out".into()))
            }
            Some(Some(true)) => Ok(Self(true)),
            Some(None) => Err(ApiError::Query("stale must be true or false".into())),
        }
    }
}

/// All pairs of the query string, decoded.
pub(crate) fn query(parts: &Parts) -> Result<Vec<(String, String)>, ApiError> {
    pairs_of(&parts.uri)
}

pub(crate) fn pairs_of(uri: &Uri) -> Result<Vec<(String, String)>, ApiError> {
    if uri.query().is_none() {
        return Ok(Vec::new());
    }
    let Query(pairs) = Query::try_from_uri(uri).map_err(|error| ApiError::Query(error.body_text()))?;
    Ok(pairs)
}

/// The first value of this name.
pub(crate) fn value_of<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The JSON body, as the struct that documents it; no body is an empty object. `request/body.rs` has read it.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: FromFields> FromRequestParts<Arc<App>> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let find_session = |session: &str| app.gateway.find(session).ok();
        let file = parts.extensions.get::<ReceivedFile>().map(|received| received.kind);
        let known = Known { find_session: &find_session, now: app.keys.now(), file };
        Fields::parse(object_of(parts)?, known).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(query: &str) -> Vec<(String, String)> {
        let uri: Uri = format!("/?{query}").parse().unwrap();
        Query::try_from_uri(&uri).map(|Query(pairs)| pairs).unwrap()
    }

    #[test]
    fn limit_and_offset_are_clamped_and_must_be_numbers() {
        let cases = [
            ("", Some((1000, 0))),
            ("limit=5&offset=7", Some((5, 7))),
            ("limit=0&offset=-3", Some((1, 0))),
            ("limit=99999999999999999999999", Some((1000, 0))),
            ("limit=ten", None),
            ("limit=", None),
            ("limit=1.5", None),
            ("offset=-", None),
        ];
        for (query, expected) in cases {
            let page = Page::read(&pairs(query)).ok();
            assert_eq!(page, expected.map(|(limit, offset)| Page { limit, offset }), "{query}");
        }
    }

    #[test]
    fn a_page_is_cut_from_the_list_also_past_its_end() {
        let list = [1, 2, 3, 4, 5];
        let cases: [(usize, usize, &[i32]); 4] = [(2, 0, &[1, 2]), (2, 4, &[5]), (2, 5, &[]), (2, usize::MAX, &[])];
        for (limit, offset, expected) in cases {
            assert_eq!(Page { limit, offset }.of(&list), expected);
        }
    }
}
