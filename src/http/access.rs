//! The check before every route but health: key, then role, then scope, before the body is looked at.
//! Decides with `auth.rs` and only says no through `error.rs`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::MethodRouter;
use rookery_actors::model::SessionId;

use super::error::ApiError;
use super::extract::path_parameters;
use super::limits::KEY_CHARS_MAX;
use crate::app::App;
use crate::auth::{Key, Refusal, Role};

/// Our own header for the key.
const KEY_HEADER: &str = "x-api-key";
/// The path parameter that names a session, by id or name.
const SESSION_PARAMETER: &str = "session";

/// The address at the other end of the connection.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Who calls, and the session that the path names, if it names one: found, and within the key's scope.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) key: Arc<Key>,
    pub(crate) session: Option<SessionId>,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or_else(|| ApiError::Internal("a route checks no key".into()))
    }
}

/// What a route asks of a key.
#[derive(Clone)]
struct Rule {
    app: Arc<App>,
    role: Role,
    /// Not for keys that are limited to some sessions: the route reaches beyond any session.
    unscoped: bool,
}

/// Lets only keys with this role or a higher one reach the routes.
pub(crate) fn require(app: &Arc<App>, role: Role, routes: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    routes.route_layer(from_fn_with_state(Rule { app: Arc::clone(app), role, unscoped: false }, check))
}

/// As [`require`], and not for keys that are limited to some sessions.
pub(crate) fn require_unscoped(app: &Arc<App>, role: Role, routes: MethodRouter<Arc<App>>) -> MethodRouter<Arc<App>> {
    routes.route_layer(from_fn_with_state(Rule { app: Arc::clone(app), role, unscoped: true }, check))
}

async fn check(
    State(rule): State<Rule>,
    parameters: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let secret = presented_key(request.headers()).ok_or(ApiError::KeyMissing)?;
    let peer = request.extensions().get().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(address)| *address);
    let key = match secret.len() {
        0..=KEY_CHARS_MAX => rule.app.keys.check(secret, peer).map_err(ApiError::KeyRefused)?,
        _ => return Err(ApiError::KeyRefused(Refusal::Invalid)),
    };
    if key.role() < rule.role {
        return Err(ApiError::RoleTooLow(rule.role));
    }
    if rule.unscoped && key.is_scoped() {
        return Err(ApiError::ScopedKey);
    }
    let parameters = path_parameters(parameters)?;
    let session = match parameters.iter().find(|(name, _)| *name == SESSION_PARAMETER) {
        Some((_, id_or_name)) => Some(find_session(&rule.app, &key, id_or_name)?),
        None => None,
    };
    request.extensions_mut().insert(Caller { key, session });
    Ok(next.run(request).await)
}

/// The session, if the key may touch it. To a key with a scope an unknown session is one outside of it.
fn find_session(app: &App, key: &Key, id_or_name: &str) -> Result<SessionId, ApiError> {
    match app.gateway.find(id_or_name) {
        Ok(session) if key.allows_session(session) => Ok(session),
        Err(error) if !key.is_scoped() => Err(error.into()),
        _ => Err(ApiError::SessionNotAllowed),
    }
}

/// The key as the caller sent it, from our header or else as a bearer token.
fn presented_key(headers: &HeaderMap) -> Option<&str> {
    let own = headers.get(KEY_HEADER).and_then(|value| value.to_str().ok()).map(str::trim);
    own.filter(|key| !key.is_empty()).or_else(|| bearer_token(headers))
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_from_either_header() {
        let cases = [
            ("x-api-key", "secret", Some("secret")),
            ("x-api-key", "", None),
            ("authorization", "Bearer secret", Some("secret")),
            ("authorization", "bearer  secret", Some("secret")),
            ("authorization", "Basic secret", None),
            ("authorization", "Bearer", None),
            ("cookie", "secret", None),
        ];
        for (name, value, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(presented_key(&headers), expected, "{name}: {value}");
        }
    }
}
