//! The check before every route but health: key, then role, then scope, before the body is looked at.
//! Decides with `auth.rs` and only says no through `error.rs`. Waits for nothing, so it is a plain service without a
//! boxed future of its own; only a call with an idempotency key gets one (`idempotent.rs`).

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::{BoxFuture, Either};
use rookery_actors::model::SessionId;
use tower::{Layer, Service};

use super::envelope::Arrival;
use super::error::ApiError;
use super::extract::path_parameters;
use super::idempotent;
use super::limits::KEY_CHARS_MAX;
use crate::app::App;
use crate::auth::{Key, Refusal, Role};

/// Our own header for the key.
const KEY_HEADER: &str = "x-api-key";
/// The path parameter that names a session, by id or name.
pub(super) const SESSION_PARAMETER: &str = "session";

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

/// What a route asks of its callers. A layer around the route.
#[derive(Copy, Clone)]
pub(crate) enum Rule {
    /// No key.
    Open,
    /// A key with this role or a higher one.
    Role(Role),
    /// As [`Rule::Role`], and not one that is limited to some sessions: the route reaches beyond any session.
    Unscoped(Role),
    /// An operator's key. The route changes something at WhatsApp: it is carried out once for each idempotency key, and
    /// the body of a call with one is read at the gate, to this limit.
    GroupWrite {
        /// Bytes of the body.
        body_bytes_max: usize,
    },
}

/// The rule of some routes, as a layer.
#[derive(Clone)]
pub(crate) struct Gate {
    app: Arc<App>,
    rule: Rule,
}

/// A route behind its gate.
#[derive(Clone)]
pub(crate) struct Gated<S> {
    gate: Gate,
    route: S,
}

impl Gate {
    pub(crate) fn new(app: &Arc<App>, rule: Rule) -> Self {
        Self { app: Arc::clone(app), rule }
    }

    fn check(&self, parts: &mut Parts) -> Result<(), ApiError> {
        let arrival = parts.extensions.get::<Arc<Arrival>>();
        let peer = arrival.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |arrival| arrival.peer);
        if let Some((arrival, route)) = arrival.zip(parts.extensions.get::<MatchedPath>()) {
            arrival.note_route(route);
        }
        let (role, unscoped) = match self.rule {
            Rule::Open => return Ok(()),
            Rule::Role(role) => (role, false),
            Rule::Unscoped(role) => (role, true),
            Rule::GroupWrite { .. } => (Role::Operator, false),
        };

        let secret = presented_key(&parts.headers).ok_or(ApiError::KeyMissing)?;
        if secret.len() > KEY_CHARS_MAX {
            return Err(ApiError::KeyRefused(Refusal::Invalid));
        }
        let key = self.app.keys.check(secret, peer).map_err(ApiError::KeyRefused)?;
        if key.role() < role {
            return Err(ApiError::RoleTooLow(role));
        }
        if unscoped && key.is_scoped() {
            return Err(ApiError::ScopedKey);
        }
        let parameters = path_parameters(parts)?;
        let session = match parameters.iter().find(|(name, _)| *name == SESSION_PARAMETER) {
            Some((_, id_or_name)) => Some(find_session(&self.app, &key, id_or_name)?),
            None => None,
        };
        parts.extensions.insert(Caller { key, session });
        Ok(())
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, route: S) -> Gated<S> {
        Gated { gate: self.clone(), route }
    }
}

impl<S> Service<Request> for Gated<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<
        S::Future,
        Either<Ready<Result<Response, Infallible>>, BoxFuture<'static, Result<Response, Infallible>>>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.route.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        if let Err(error) = self.gate.check(&mut parts) {
            return Either::Right(Either::Left(ready(Ok(error.into_response()))));
        }
        let has_key = idempotent::has_key(&parts.headers);
        let request = Request::from_parts(parts, body);
        let (Rule::GroupWrite { body_bytes_max }, true) = (self.gate.rule, has_key) else {
            return Either::Left(self.route.call(request));
        };
        // The one that is ready goes, another takes its place.
        let route = self.route.clone();
        let route = std::mem::replace(&mut self.route, route);
        let calls = Arc::clone(&self.gate.app.idempotency);
        let answer = idempotent::call_once(calls, route, request, body_bytes_max);
        Either::Right(Either::Right(Box::pin(async { Ok(answer.await.into_response()) })))
    }
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
