//! The refusals of callers: everything that is refused before a handler runs because of the caller, its
//! address or its number of requests. Part of `error.rs`, the only place that chooses status codes.

use std::fmt;

use axum::http::StatusCode;

use super::{ErrorResponse, one};
use crate::auth::{Refusal, Role, Throttle};

/// A stream that its client has left is noticed at the next event or comment.
const STREAM_RETRY_S: u32 = 15;
/// Most requests are over within a second.
const IN_FLIGHT_RETRY_S: u32 = 1;

/// Why a caller is not let in.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AccessError {
    /// No key was presented.
    KeyMissing,
    /// The presented key is not accepted.
    KeyRefused(Refusal),
    /// Too many wrong keys came from the caller's address.
    TooManyFailedLogins {
        /// Seconds after which the next wrong key is handled as before.
        retry_after_s: u32,
    },
    /// The key sends more than its limits allow.
    Throttled(Throttle),
    /// The key has as many streams as it may.
    TooManyStreams,
    /// There are as many streams as allowed.
    NoStreamLeft,
    /// As many requests as allowed are in flight.
    Overloaded,
    /// The bodies of the key's requests take as much memory as they may.
    BodyShareUsedUp,
    /// The bodies of all requests take as much memory as they may.
    BodiesUsedUp,
    /// The caller's address has as many connections open as it may.
    TooManyConnections,
    /// As many connections as allowed are open, and the daemon works for each of them.
    NoConnectionLeft,
    /// The key's role is below this one.
    RoleTooLow(Role),
    /// The key is limited to other sessions.
    SessionNotAllowed,
    /// The key is limited to other groups.
    GroupNotAllowed,
    /// The session changed hands since the key was limited to groups: the groups belong to another account.
    AccountChanged,
    /// The key is limited to some groups, and the request would change others of the community too.
    CommunityNotAllowed,
    /// Participants would get into a community and its announcement group, and the key may not touch both.
    AnnouncementsNotAllowed,
    /// The route is not for keys that are limited to some sessions.
    ScopedKey,
    /// The route is not for keys that are limited to some groups.
    GroupScopedKey,
    /// The key is limited to some groups in several sessions: a join in one session could reach the group of another
    /// session.
    SeveralSessions,
    /// The key is limited to some groups and may not make, join or leave any.
    GroupCreationNotAllowed,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.answer().message.fmt(f)
    }
}

impl AccessError {
    pub(super) fn answer(self) -> ErrorResponse {
        use StatusCode as S;
        let (status, code, message) = match self {
            Self::KeyMissing => (S::UNAUTHORIZED, "api_key_missing", "API key is required"),
            Self::KeyRefused(refusal) => key_refused(refusal),
            Self::TooManyFailedLogins { .. } => (
                S::TOO_MANY_REQUESTS,
                "too_many_failed_logins",
                "Too many wrong API keys came from this address: try again later, with the right one",
            ),
            Self::Throttled(Throttle::Rate { .. }) => {
                (S::TOO_MANY_REQUESTS, "rate_limited", "Too many requests with this API key")
            }
            Self::Throttled(Throttle::InFlight) => {
                (S::TOO_MANY_REQUESTS, "too_many_in_flight", "Too many requests in flight with this API key")
            }
            Self::TooManyStreams | Self::NoStreamLeft => self.stream_refused(),
            Self::Overloaded => {
                (S::SERVICE_UNAVAILABLE, "overloaded", "Too many requests in flight: nothing was changed")
            }
            Self::BodyShareUsedUp => (
                S::TOO_MANY_REQUESTS,
                "too_many_body_bytes",
                "Too many large bodies are in flight with this API key: send the next when one is answered",
            ),
            Self::BodiesUsedUp => {
                (S::SERVICE_UNAVAILABLE, "overloaded", "Too many large bodies are in flight: nothing was changed")
            }
            Self::TooManyConnections => {
                (S::TOO_MANY_REQUESTS, "too_many_connections", "Too many connections are open from this address")
            }
            Self::NoConnectionLeft => {
                (S::SERVICE_UNAVAILABLE, "overloaded", "Too many connections are open: nothing was changed")
            }
            Self::RoleTooLow(role) => {
                let message = format!("Insufficient permissions. Required: {}", role.as_str());
                return one(S::FORBIDDEN, "insufficient_permissions", message);
            }
            Self::SessionNotAllowed => {
                (S::UNAUTHORIZED, "session_not_allowed", "API key is not authorized for this session")
            }
            Self::GroupNotAllowed | Self::CommunityNotAllowed | Self::AnnouncementsNotAllowed => {
                (S::UNAUTHORIZED, "group_not_allowed", self.groups_needed())
            }
            Self::AccountChanged => (
                S::UNAUTHORIZED,
                "account_changed",
                "The session has another account than when the groups of this API key were chosen: an admin has to set its \
                 allowedGroups again",
            ),
            Self::ScopedKey => (S::FORBIDDEN, "scoped_key", "Session-scoped API keys are not permitted on this route"),
            Self::GroupScopedKey => {
                (S::FORBIDDEN, "group_scoped_key", "Group-scoped API keys are not permitted on this route")
            }
            Self::SeveralSessions => (
                S::FORBIDDEN,
                "several_sessions",
                "A group-scoped API key may join groups only when allowedSessions names one session",
            ),
            Self::GroupCreationNotAllowed => (
                S::FORBIDDEN,
                "group_creation_not_allowed",
                "This group-scoped API key may not make, join or leave groups: an admin may set allowGroupCreation",
            ),
        };
        one(status, code, message)
    }

    fn stream_refused(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::TooManyStreams => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_streams",
                "This API key has as many event streams and sockets as --streams-per-key-max allows: close one first",
            ),
            _ => (
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "No event stream or socket is left for this API key, as what is left of --streams-max is for other keys: read the events page by page",
            ),
        }
    }

    /// The groups that the key would have to be allowed.
    fn groups_needed(self) -> &'static str {
        match self {
            Self::CommunityNotAllowed => {
                "API key is not authorized for every group of this community, and all of them would change: an admin may add them \
                 to allowedGroups"
            }
            Self::AnnouncementsNotAllowed => {
                "People would also get into the community of this group and its announcement group, and the API key is not \
                 authorized for both: an admin may add them to allowedGroups"
            }
            _ => "API key is not authorized for this group",
        }
    }

    pub(super) fn retry_after_s(self) -> Option<u32> {
        match self {
            Self::TooManyFailedLogins { retry_after_s } | Self::Throttled(Throttle::Rate { retry_after_s }) => {
                Some(retry_after_s)
            }
            Self::Throttled(Throttle::InFlight)
            | Self::Overloaded
            | Self::BodyShareUsedUp
            | Self::BodiesUsedUp
            | Self::TooManyConnections
            | Self::NoConnectionLeft => Some(IN_FLIGHT_RETRY_S),
            Self::TooManyStreams | Self::NoStreamLeft => Some(STREAM_RETRY_S),
            _ => None,
        }
    }
}

fn key_refused(refusal: Refusal) -> (StatusCode, &'static str, &'static str) {
    let (code, message) = match refusal {
        Refusal::Invalid => ("api_key_invalid", "Invalid API key"),
        Refusal::Revoked => ("api_key_revoked", "API key is revoked"),
        Refusal::Expired => ("api_key_expired", "API key has expired"),
        Refusal::Address => ("address_not_allowed", "API key is not allowed from this address"),
    };
    (StatusCode::UNAUTHORIZED, code, message)
}
