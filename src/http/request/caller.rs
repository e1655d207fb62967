//! The caller of a request. `middleware/authorization.rs` puts it into the extensions of every request that it lets in.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use rookery_model::{GroupId, SessionId};
use rookery_store::SessionNumber;
use tracing::warn;

use crate::app::App;
use crate::auth::Key;
use crate::http::error::{AccessError, ApiError};

/// The key that calls, and the session that the path names, if it names one: found, and within the key's scope.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) key: Arc<Key>,
    pub(crate) session: Option<SessionId>,
    /// The session's number in the store.
    pub(crate) session_number: Option<SessionNumber>,
    /// The session's account epoch; 0 without a session.
    pub(crate) account_epoch: u32,
}

impl Caller {
    /// # Errors
    /// [`AccessError::GroupNotAllowed`] for the first group that the key may not touch.
    pub(crate) fn may_touch(&self, groups: &[GroupId]) -> Result<(), AccessError> {
        if groups.iter().all(|group| self.key.allows_group(group)) { Ok(()) } else { Err(AccessError::GroupNotAllowed) }
    }

    /// Adds groups that the key made or joined to the key's scope. The groups exist in any case: when one cannot be
    /// added, an admin has to add it.
    pub(crate) async fn add_to_scope(&self, app: &App, groups: Vec<GroupId>) {
        if !self.key.is_limited_to_groups() {
            return;
        }
        let Some(session) = self.session else { return };
        if let Err(error) = app.keys.add_groups(self.key.id(), session, groups).await {
            warn!(key.id = %self.key.id(), %error, "could not add a new group to a key's scope, an admin has to add it");
        }
    }

    /// Removes a group that was left from the key's scope: if the account is in it again later, that is somebody else's
    /// doing.
    pub(crate) async fn remove_from_scope(&self, app: &App, group: &GroupId) {
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
