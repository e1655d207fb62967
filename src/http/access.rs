//! The check before every route but health: key, then its share, then role, then scope, before the body is looked at.
//! Decides with `auth.rs` and only says no through `error.rs`. Reads wait for nothing here, so this is a plain service
//! without a boxed future of its own. A call that changes something gets one, and a task: its body is read here, its
//! caller is checked once more after every wait (`admission.rs`), and what it came to is noted (`audited.rs`).

mod admission;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::{BoxFuture, Either};
use rookery_actors::model::{GroupId, Session, SessionId};
use tower::{Layer, Service};
use tracing::warn;

use super::envelope::Arrival;
use super::error::{AccessError, ApiError};
use super::extract::path_parameters;
use super::limits::{BodyKind, KEY_CHARS_MAX};
use super::{audited, body};
use crate::app::App;
use crate::audit::Entry;
use crate::auth::{Key, Refusal, Role};
pub(crate) use admission::AdmissionOf;
use admission::{Admission, Named, Rechecked, authorize, check_again};

/// Our own header for the key.
pub(super) const KEY_HEADER: &str = "x-api-key";
/// The path parameter that names a session, by id or name.
pub(super) const SESSION_PARAMETER: &str = "session";

/// The path parameters that name a group.
pub(super) const GROUP_PARAMETERS: [&str; 2] = ["group", "community"];

/// Who calls, and the session that the path names, if it names one: found, and within the key's scope.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) key: Arc<Key>,
    pub(crate) session: Option<SessionId>,
    /// The session's account epoch; 0 without a session.
    pub(crate) account_epoch: u32,
}

impl Caller {
    /// # Errors
    /// [`AccessError::GroupNotAllowed`] for the first group that the key may not touch.
    pub(crate) fn may_touch(&self, groups: &[GroupId]) -> Result<(), AccessError> {
        if groups.iter().all(|group| self.key.allows_group(group)) { Ok(()) } else { Err(AccessError::GroupNotAllowed) }
    }

    /// Adds groups that the key made or joined to what it is limited to. They are there all the same: one that cannot be
    /// added is for an admin to add.
    pub(crate) async fn adopt(&self, app: &App, groups: Vec<GroupId>) {
        if !self.key.is_limited_to_groups() {
            return;
        }
        if let Err(error) = app.keys.add_groups(self.key.id(), groups).await {
            warn!(key.id = %self.key.id(), %error, "could not add a new group to a key's scope, an admin has to add it");
        }
    }
}

impl Caller {
    /// Takes a group that was left out of what the key is limited to: whoever is in it later is somebody else.
    pub(crate) async fn give_up(&self, app: &App, group: &GroupId) {
        if !self.key.is_limited_to_groups() {
            return;
        }
        if let Err(error) = app.keys.remove_group(self.key.id(), group).await {
            warn!(key.id = %self.key.id(), %error, "could not take a group out of a key's scope, an admin has to do it");
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or_else(|| ApiError::Internal("a route checks no key".into()))
    }
}

/// What a route asks of its callers. A layer around the route.
#[derive(Copy, Clone)]
pub(crate) struct Rule {
    /// The role, or a higher one; `None`: no key at all.
    pub(crate) role: Option<Role>,
    /// How far the route reaches, and so which scopes of keys it is for.
    pub(crate) reach: Reach,
    /// What its body may hold.
    pub(crate) body: BodyKind,
    /// The route changes something at WhatsApp: it is carried out once for each idempotency key.
    pub(crate) once_per_key: bool,
    /// The route ends something or takes it away: it is carried out also while the disk has too little room for other changes.
    pub(crate) removes: bool,
}

/// How far a route reaches.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To what its path names, or to what the key may see: for every key.
    Scope,
    /// To groups that are yet to be made or joined, and out of groups: not for keys that are limited to groups, unless
    /// they are allowed to.
    Membership,
    /// To a session as a whole: not for keys that are limited to groups.
    Session,
    /// Beyond any session: not for keys with any scope.
    Everything,
}

impl Reach {
    fn refuses(self, key: &Key) -> Option<AccessError> {
        match self {
            Self::Scope => None,
            Self::Membership => (!key.allows_group_creation()).then_some(AccessError::GroupCreationNotAllowed),
            Self::Session => key.is_limited_to_groups().then_some(AccessError::GroupScopedKey),
            Self::Everything if key.is_limited_to_sessions() => Some(AccessError::ScopedKey),
            Self::Everything => key.is_limited_to_groups().then_some(AccessError::GroupScopedKey),
        }
    }
}

/// The rule of some routes, as a layer.
#[derive(Clone)]
pub(crate) struct Gate {
    app: Arc<App>,
    rule: Rule,
    /// What the route does, for the audit log.
    action: Arc<str>,
}

/// A route behind its gate.
#[derive(Clone)]
pub(crate) struct Gated<S> {
    gate: Gate,
    route: S,
}

impl Gate {
    pub(crate) fn new(app: &Arc<App>, rule: Rule, action: &str) -> Self {
        Self { app: Arc::clone(app), rule, action: action.into() }
    }

    /// Whether the route changes something: that is noted, and carried through whoever waits for it.
    fn is_audited(&self, method: &Method) -> bool {
        !method.is_safe() && self.rule.role.is_some_and(|role| role > Role::Viewer)
    }

    fn check(&self, parts: &mut Parts) -> Result<(), ApiError> {
        let arrival = parts.extensions.get::<Arc<Arrival>>().cloned();
        let arrival = arrival.ok_or_else(|| ApiError::Internal("a request came past the envelope".into()))?;
        if let Some(route) = parts.extensions.get::<MatchedPath>() {
            arrival.note_route(route);
        }
        if self.rule.role.is_none() {
            return Ok(());
        }
        let key = self.key(&parts.headers, &arrival)?;
        arrival.note_key(&key);
        if let Some(place) = arrival.place() {
            place.note_known();
        }
        self.admit(&key, &arrival)?;
        let named = named(parts)?;
        let caller = authorize(&self.app, self.rule, key, &named)?;
        if self.is_audited(&parts.method) {
            let secret = presented_key(&parts.headers).unwrap_or_default();
            let (client, session) = (arrival.client, caller.session);
            let admission = Admission::new(&self.app, self.rule, secret, client, named, session);
            parts.extensions.insert(Arc::new(admission));
        }
        parts.extensions.insert(caller);
        Ok(())
    }

    fn key(&self, headers: &HeaderMap, arrival: &Arrival) -> Result<Arc<Key>, AccessError> {
        let secret = presented_key(headers).ok_or(AccessError::KeyMissing)?;
        let checked = match secret.len() {
            0..=KEY_CHARS_MAX => self.app.keys.check(secret, arrival.client),
            _ => Err(Refusal::Invalid),
        };
        // A key that is right is served all the same, as others may share the address: what stops guessing is its length.
        checked.map_err(|refusal| {
            // One that is expired, or used from elsewhere, has a name all the same.
            if let Some(key) = self.app.keys.known(secret) {
                arrival.note_key(&key);
            }
            match self.app.failed_logins.note(arrival.counted_address()) {
                Ok(()) => AccessError::KeyRefused(refusal),
                Err(retry_after_s) => AccessError::TooManyFailedLogins { retry_after_s },
            }
        })
    }

    /// Counts the request against what its key, and all of them, may ask for.
    fn admit(&self, key: &Key, arrival: &Arrival) -> Result<(), AccessError> {
        let (rate, permit) = key.admit();
        if let Some(rate) = rate {
            arrival.note_rate(rate);
        }
        let of_key = permit.map_err(AccessError::Throttled)?;
        let of_all = Arc::clone(&self.app.in_flight).try_acquire_owned().map_err(|_| AccessError::Overloaded)?;
        arrival.hold([of_key, of_all]);
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
        let Gate { app, rule, action } = &self.gate;
        let is_audited = self.gate.is_audited(&parts.method);
        if let Err(error) = self.gate.check(&mut parts) {
            if is_audited || matches!(error, ApiError::Access(_)) {
                audited::note_refusal(app, audited::entry_of(app, action, &mut parts), &error);
            }
            return Either::Right(Either::Left(ready(Ok(error.into_response()))));
        }
        if !is_audited {
            return Either::Left(self.route.call(Request::from_parts(parts, body)));
        }
        // The one that is ready goes, another takes its place.
        let route = self.route.clone();
        let route = std::mem::replace(&mut self.route, route);
        let entry = audited::entry_of(app, action, &mut parts);
        let request = Request::from_parts(parts, body);
        let work = app.calls.carry_through(change(Arc::clone(app), *rule, entry, route, request));
        let cut_short = |_| ApiError::Internal("a call was cut short".into()).into_response();
        Either::Right(Either::Right(Box::pin(async move { Ok(work.await.unwrap_or_else(cut_short)) })))
    }
}

/// Carries out a call that changes something, if its caller may still do so once its body is there. Not to be dropped half
/// way.
async fn change<S>(app: Arc<App>, rule: Rule, entry: Entry, route: S, request: Request) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let taken = body::take_in(&app, request, rule.body).await.and_then(|mut request| {
        check_again(&mut request)?;
        Ok(request)
    });
    match taken {
        Ok(request) => audited::carry_out(app, entry, Rechecked(route), request, rule).await,
        Err(error) => {
            audited::note_refusal(&app, entry, &error);
            error.into_response()
        }
    }
}

/// What the path names.
fn named(parts: &mut Parts) -> Result<Named, ApiError> {
    let parameters = path_parameters(parts)?;
    let named = |name: &str| parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    let groups = GROUP_PARAMETERS.into_iter().filter_map(|name| named(name)?.parse().ok()).collect();
    Ok(Named { session: named(SESSION_PARAMETER).map(str::to_owned), groups })
}

/// The session, if the key may touch it. To a key with a scope an unknown session is one outside of it.
fn find_session(app: &App, key: &Key, id_or_name: &str) -> Result<Arc<Session>, ApiError> {
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

/// The key as the caller sent it, from our header or else as a bearer token.
pub(super) fn presented_key(headers: &HeaderMap) -> Option<&str> {
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
