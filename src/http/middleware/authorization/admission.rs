//! The admission of a request, kept beside it so that it can be checked again: while the body arrives or the handler
//! waits, the key may be revoked, changed or expire. Counts nothing and waits for nothing.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use futures_util::future::Either;
use rookery_actors::CommandError;
use rookery_model::{GroupId, SessionId};
use tower::Service;

use super::find_session;
use crate::app::App;
use crate::auth::{Key, Secret};
use crate::http::error::{AccessError, ApiError};
use crate::http::policy::AccessPolicy;
use crate::http::request::caller::Caller;

/// The facts that a request was let in with. Lies in the extensions of requests that change something.
pub(crate) struct Admission {
    app: Arc<App>,
    policy: AccessPolicy,
    secret: Secret,
    client: Option<IpAddr>,
    named: Named,
    /// The session that the path named when the request came.
    session: Option<SessionId>,
}

/// The session and the groups in a path.
#[derive(Default)]
pub(super) struct Named {
    /// A session, by id or name.
    pub(super) session: Option<String>,
    /// Groups. Invalid ids are left out: the route reports them.
    pub(super) groups: Vec<GroupId>,
}

/// Checks whether a key may do this; returns the caller.
///
/// # Errors
/// Why the key may not.
pub(super) fn authorize(app: &App, policy: AccessPolicy, key: Arc<Key>, named: &Named) -> Result<Caller, ApiError> {
    if let Some(role) = policy.role.filter(|role| key.role() < *role) {
        return Err(AccessError::RoleTooLow(role).into());
    }
    if let Some(refusal) = policy.scope.refuses(&key) {
        return Err(refusal.into());
    }
    let session = named.session.as_deref().map(|id_or_name| find_session(app, &key, id_or_name)).transpose()?;
    if !named.groups.iter().all(|group| key.allows_group(group)) {
        return Err(AccessError::GroupNotAllowed.into());
    }
    let Some(session) = session else {
        return Ok(Caller { key, session: None, session_number: None, account_epoch: 0 });
    };
    let session_number = Some(app.gateway.number(session.id)?);
    Ok(Caller { key, session: Some(session.id), session_number, account_epoch: session.account_epoch })
}

impl Admission {
    pub(super) fn new(
        app: &Arc<App>,
        policy: AccessPolicy,
        secret: &str,
        client: Option<IpAddr>,
        named: Named,
        session: Option<SessionId>,
    ) -> Self {
        Self { app: Arc::clone(app), policy, secret: secret.into(), client, named, session }
    }

    /// The caller as it is now, if the request would still be let in. To be called after every wait, before the next
    /// action; costs one hash of the key.
    ///
    /// # Errors
    /// Why the request would not be let in. Also [`CommandError::UnknownSession`] when another session has the name by
    /// now.
    pub(crate) fn check_again(&self) -> Result<Caller, ApiError> {
        let key = self.app.keys.check_again(self.secret.reveal(), self.client).map_err(AccessError::KeyRefused)?;
        let caller = authorize(&self.app, self.policy, key, &self.named)?;
        match &self.named.session {
            Some(session) if caller.session != self.session => {
                Err(CommandError::UnknownSession(session.clone()).into())
            }
            _ => Ok(caller),
        }
    }
}

/// The admission of the current request, for handlers that wait before they act.
pub(crate) struct AdmissionOf(pub(crate) Arc<Admission>);

impl<S: Sync> FromRequestParts<S> for AdmissionOf {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let admission = parts.extensions.get().cloned();
        admission.map(Self).ok_or_else(|| ApiError::Internal("a route that changes nothing looks twice".into()))
    }
}

/// A route that checks its caller again before anything is done.
#[derive(Clone)]
pub(super) struct Rechecked<S>(pub(super) S);

impl<S> Service<Request> for Rechecked<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        match check_again(&mut request) {
            Ok(()) => Either::Left(self.0.call(request)),
            Err(error) => Either::Right(ready(Ok(error.into_response()))),
        }
    }
}

/// Checks a request's caller again, and replaces it by the caller as it is now.
///
/// # Errors
/// Why the caller is not let in any more.
pub(super) fn check_again(request: &mut Request) -> Result<(), ApiError> {
    let admission = request.extensions().get::<Arc<Admission>>().cloned();
    let admission = admission.ok_or_else(|| ApiError::Internal("a change was not authorized".into()))?;
    request.extensions_mut().insert(admission.check_again()?);
    Ok(())
}
