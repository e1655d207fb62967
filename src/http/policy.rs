//! The access policy of a route, and what is known of its body. The policies of all routes are in `http.rs`; the check
//! of a caller is in `middleware/authorization.rs`.

use crate::auth::{Key, Role};
use crate::http::error::AccessError;
use crate::http::limits::BodyKind;

/// The requirements of a route on its callers. `middleware/authorization.rs` checks it.
#[derive(Copy, Clone)]
pub(crate) struct AccessPolicy {
    /// The lowest role; `None`: no key is needed.
    pub(crate) role: Option<Role>,
    /// How far the route reaches, and so which scopes of keys it is for.
    pub(crate) scope: Scope,
    /// The kind of its body.
    pub(crate) body: BodyKind,
    /// The route changes something at WhatsApp: it is carried out once for each idempotency key.
    pub(crate) once_per_key: bool,
    /// The route sends a message: a call with an idempotency key that was cut off, and is repeated, sends the same message once more.
    /// The audit log counts its calls by the minute.
    pub(crate) sends: bool,
    /// The route sends or fetches a file: it has the time for that.
    pub(crate) transfers: bool,
    /// The route may answer with a stream: its caller is checked again while that goes on.
    pub(crate) streams: bool,
    /// The route ends something or takes it away: it is carried out also while the disk has too little room for other changes.
    pub(crate) removes: bool,
}

/// How far a route reaches.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// To the session and groups in its path, or to all that the key may see: for every key.
    Path,
    /// To groups that are yet to be made or joined, and out of groups: not for keys that are limited to groups, unless
    /// they are allowed to.
    Membership,
    /// To a session as a whole: not for keys that are limited to groups.
    Session,
    /// Beyond any session: not for keys with any scope.
    Everything,
}

impl Scope {
    pub(crate) fn refuses(self, key: &Key) -> Option<AccessError> {
        match self {
            Self::Path => None,
            Self::Membership => (!key.allows_group_creation()).then_some(AccessError::GroupCreationNotAllowed),
            Self::Session => key.is_limited_to_groups().then_some(AccessError::GroupScopedKey),
            Self::Everything if key.is_limited_to_sessions() => Some(AccessError::ScopedKey),
            Self::Everything => key.is_limited_to_groups().then_some(AccessError::GroupScopedKey),
        }
    }
}
