//! The check before every route but health: key, then its limits, then role, then scope, before the body is read.
//! `auth.rs` decides; this file only refuses, through `error.rs`. Reads wait for nothing here, so this is a plain
//! service without a boxed future of its own. A call that changes something gets a boxed future and a task: its body is
//! read here, its caller is checked again after every wait (`authorization/admission.rs`), and its result is recorded
//! (`middleware/audit.rs`).

mod admission;
pub(crate) mod community_scope;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::{MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::{BoxFuture, Either};
use rookery_model::Session;
use tower::{Layer, Service};

use crate::app::App;
use crate::audit::AuditEvent;
use crate::auth::{Key, Refusal, Role};
use crate::http::error::{AccessError, ApiError};
use crate::http::limits::KEY_CHARS_MAX;
use crate::http::middleware::audit;
use crate::http::policy::AccessPolicy;
use crate::http::request::body;
use crate::http::request::context::RequestContext;
use crate::http::request::extract::GROUP_PARAMETERS;
use crate::http::request::extract::SESSION_PARAMETER;
use crate::http::request::extract::group_of;
use crate::http::request::extract::path_parameters;
pub(crate) use admission::{Admission, AdmissionOf};
use admission::{Named, Rechecked, authorize, check_again};

/// Our own header for the key.
pub(crate) const KEY_HEADER: &str = "x-api-key";

/// The policy of a route, as a layer around it.
#[derive(Clone)]
pub(crate) struct AuthLayer {
    app: Arc<App>,
    policy: AccessPolicy,
    /// What the route does, for the audit log.
    action: Arc<str>,
}

/// A route behind its authorization layer.
#[derive(Clone)]
pub(crate) struct AuthService<S> {
    layer: AuthLayer,
    route: S,
}

impl AuthLayer {
    pub(crate) fn new(app: &Arc<App>, policy: AccessPolicy, action: &str) -> Self {
        Self { app: Arc::clone(app), policy, action: action.into() }
    }

    /// Whether the route changes something: such a call is recorded, and runs to its end even when its client is gone.
    fn is_audited(&self, method: &Method) -> bool {
        !method.is_safe() && self.policy.role.is_some_and(|role| role > Role::Viewer)
    }

    fn check(&self, parts: &mut Parts) -> Result<(), ApiError> {
        let context = parts.extensions.get::<Arc<RequestContext>>().cloned();
        let context = context.ok_or_else(|| ApiError::Internal("a request has no context".into()))?;
        if let Some(route) = parts.extensions.get::<MatchedPath>() {
            context.note_route(route);
        }
        if self.policy.role.is_none() {
            return Ok(());
        }
        let key = self.key(&parts.headers, &context)?;
        context.note_key(&key);
        if let Some(place) = context.place() {
            place.note_known();
        }
        self.admit(&key, &context)?;
        if self.policy.transfers {
            context.allow_time(self.app.http.limits.media_time_max);
        }
        let named = named(parts)?;
        let caller = authorize(&self.app, self.policy, key, &named)?;
        if self.is_audited(&parts.method) || self.policy.streams {
            let secret = presented_key(&parts.headers).unwrap_or_default();
            let (client, session) = (context.client, caller.session);
            let admission = Admission::new(&self.app, self.policy, secret, client, named, session);
            parts.extensions.insert(Arc::new(admission));
        }
        parts.extensions.insert(caller);
        Ok(())
    }

    fn key(&self, headers: &HeaderMap, context: &RequestContext) -> Result<Arc<Key>, AccessError> {
        let secret = presented_key(headers).ok_or(AccessError::KeyMissing)?;
        check_key(&self.app, secret, context.client, context.counted_address()).inspect_err(|_| {
            // A known key that is refused, as expired or from a wrong address, still has a name for the log.
            if let Some(key) = self.app.keys.known(secret) {
                context.note_key(&key);
            }
        })
    }

    /// Counts the request against the limits of its key, and of all keys.
    fn admit(&self, key: &Key, context: &RequestContext) -> Result<(), AccessError> {
        let (rate, permit) = key.admit();
        if let Some(rate) = rate {
            context.note_rate(rate);
        }
        let of_key = permit.map_err(AccessError::Throttled)?;
        let of_all = Arc::clone(&self.app.in_flight).try_acquire_owned().map_err(|_| AccessError::Overloaded)?;
        context.hold([of_key, of_all]);
        Ok(())
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, route: S) -> AuthService<S> {
        AuthService { layer: self.clone(), route }
    }
}

impl<S> Service<Request> for AuthService<S>
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
        let AuthLayer { app, policy, action } = &self.layer;
        let is_audited = self.layer.is_audited(&parts.method);
        if let Err(error) = self.layer.check(&mut parts) {
            if is_audited || matches!(error, ApiError::Access(_)) {
                audit::note_refusal(app, audit::entry_of(app, action, &mut parts), &error);
            }
            return Either::Right(Either::Left(ready(Ok(error.into_response()))));
        }
        if !is_audited {
            return Either::Left(self.route.call(Request::from_parts(parts, body)));
        }
        // The route that is ready is used, and a clone takes its place.
        let route = self.route.clone();
        let route = std::mem::replace(&mut self.route, route);
        let entry = audit::entry_of(app, action, &mut parts);
        let request = Request::from_parts(parts, body);
        let work = app.calls.carry_through(change(Arc::clone(app), *policy, entry, route, request));
        let cut_short = |_| ApiError::Internal("a call was cut short".into()).into_response();
        Either::Right(Either::Right(Box::pin(async move { Ok(work.await.unwrap_or_else(cut_short)) })))
    }
}

/// Carries out a call that changes something, if its caller may still do so once the body has arrived. Must not be
/// dropped half way.
async fn change<S>(app: Arc<App>, policy: AccessPolicy, entry: AuditEvent, route: S, request: Request) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let taken = body::take_in(&app, request, policy.body).await.and_then(|mut request| {
        check_again(&mut request)?;
        Ok(request)
    });
    match taken {
        Ok(request) => audit::carry_out(app, entry, Rechecked(route), request, policy).await,
        Err(error) => {
            audit::note_refusal(&app, entry, &error);
            error.into_response()
        }
    }
}

/// The session and the groups in the path.
fn named(parts: &mut Parts) -> Result<Named, ApiError> {
    let parameters = path_parameters(parts)?;
    let named = |name: &str| parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    let groups = GROUP_PARAMETERS.into_iter().filter_map(|name| group_of(named(name)?).ok()).collect();
    Ok(Named { session: named(SESSION_PARAMETER).map(str::to_owned), groups })
}

/// The session, if the key may touch it. For a key with a scope, an unknown session is one outside of its scope.
///
/// # Errors
/// The key may not, or there is no such session.
pub(crate) fn find_session(app: &App, key: &Key, id_or_name: &str) -> Result<Arc<Session>, ApiError> {
    match app.gateway.find(id_or_name) {
        Ok(session) if key.allows_session(session) => {
            let session = app.gateway.session(session)?;
            if key.is_of_account_before(session.id, session.account_epoch) {
                return Err(AccessError::AccountChanged.into());
            }
            Ok(session)
        }
        Err(error) if !key.is_limited_to_sessions() => Err(error.into()),
        _ => Err(AccessError::SessionNotAllowed.into()),
    }
}

/// The key with this secret, if it may be used from the client's address. Counts its use, or a failed log-in of the address `counted`.
///
/// # Errors
/// [`AccessError::KeyRefused`], [`AccessError::TooManyFailedLogins`].
pub(crate) fn check_key(
    app: &App,
    secret: &str,
    client: Option<IpAddr>,
    counted: IpAddr,
) -> Result<Arc<Key>, AccessError> {
    let checked = match secret.len() {
        0..=KEY_CHARS_MAX => app.keys.check(secret, client),
        _ => Err(Refusal::Invalid),
    };
    // A valid key is served also from an address with too many wrong keys, as others may share it: long keys stop
    // guessing.
    checked.map_err(|refusal| match app.failed_logins.note(counted) {
        Ok(()) => AccessError::KeyRefused(refusal),
        Err(retry_after_s) => AccessError::TooManyFailedLogins { retry_after_s },
    })
}

/// The key as the caller sent it, from our header or else as a bearer token.
pub(crate) fn presented_key(headers: &HeaderMap) -> Option<&str> {
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
