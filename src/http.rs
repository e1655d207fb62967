//! The routes, all on this screen, and who may call them. What a route does and how it is documented is in the module
//! it names; what a failure answers is in `error.rs`; how long and how large things may be is in `limits.rs`.

pub(crate) mod access;
mod answer;
mod audit;
mod audited;
mod body;
mod communities;
mod configuration;
mod cors;
mod docs;
mod envelope;
pub(crate) mod error;
mod export;
mod extract;
mod fields;
mod filter;
mod folded;
#[cfg(fuzzing)]
pub mod fuzzing;
mod groups;
mod health;
mod idempotent;
mod invisible;
mod invites;
mod joining;
mod keys;
pub(crate) mod limits;
mod options;
mod pairing;
mod participants;
mod picture;
mod qr;
mod requests;
pub(crate) mod route;
mod server;
mod sessions;
mod settings;
mod staleness;
mod stats;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;

use crate::app::App;
use crate::auth::Role;
use access::{Gate, Reach, Rule};
pub(crate) use body::Rooms as BodyRooms;
pub use cors::CorsOrigins;
use error::ApiError;
use limits::BodyKind;
pub(crate) use limits::DRAIN_TIME_S;
pub use limits::HttpLimits;
#[cfg(test)]
pub(crate) use limits::STOP_TIME_MAX;
pub use options::HttpOptions;
use route::{Route, routes};
pub(crate) use server::serve;

const OPEN: Rule = Rule { role: None, reach: Reach::Scope, body: BodyKind::Json, once_per_key: false, removes: false };
const VIEWER: Rule = Rule { role: Some(Role::Viewer), ..OPEN };
/// Before joining a group.
const JOINER: Rule = Rule { reach: Reach::Membership, ..VIEWER };
/// A session as a whole.
const SESSION: Rule = Rule { role: Some(Role::Operator), reach: Reach::Session, ..OPEN };
/// The end of a session.
const SESSION_END: Rule = Rule { removes: true, ..SESSION };
/// A change at WhatsApp: carried out once for each idempotency key.
const GROUP_WRITE: Rule = Rule { role: Some(Role::Operator), once_per_key: true, ..OPEN };
/// The same with a picture in its body.
const PICTURE_WRITE: Rule = Rule { body: BodyKind::Picture, ..GROUP_WRITE };
/// The same where groups are made, joined and left.
const MEMBERSHIP: Rule = Rule { reach: Reach::Membership, ..GROUP_WRITE };
const WIDE_OPERATOR: Rule = Rule { role: Some(Role::Operator), reach: Reach::Everything, ..OPEN };
const WIDE_ADMIN: Rule = Rule { role: Some(Role::Admin), ..WIDE_OPERATOR };
/// The end of a key.
const KEY_END: Rule = Rule { removes: true, ..WIDE_ADMIN };

/// Every route: method, path, who may call it, and the handler. The handler's module is its section in the document.
pub(crate) fn routes() -> Vec<Route> {
    routes! {
        GET    "/api/health"                     OPEN          health::health,
        GET    "/api/health/live"                OPEN          health::live,
        GET    "/api/health/ready"               OPEN          health::ready,
        GET    "/api/docs"                       OPEN          docs::page,
        GET    "/api/docs-json"                  OPEN          docs::document,
        POST   "/api/auth/validate"              VIEWER        keys::validate,
        GET    "/api/auth/api-keys"              WIDE_ADMIN    keys::list,
        POST   "/api/auth/api-keys"              WIDE_ADMIN    keys::create,
        GET    "/api/auth/api-keys/{key}"        WIDE_ADMIN    keys::get,
        PUT    "/api/auth/api-keys/{key}"        WIDE_ADMIN    keys::update,
        DELETE "/api/auth/api-keys/{key}"        KEY_END       keys::delete,
        POST   "/api/auth/api-keys/{key}/revoke" KEY_END       keys::revoke,
        POST   "/api/auth/api-keys/{key}/rotate" WIDE_ADMIN    keys::rotate,
        GET    "/api/audit"                      WIDE_ADMIN    audit::list,
        GET    "/api/audit/verify"               WIDE_ADMIN    audit::verify,
        GET    "/api/sessions"                   VIEWER        sessions::list,
        POST   "/api/sessions"                   WIDE_OPERATOR sessions::create,
        GET    "/api/sessions/stats/overview"    VIEWER        stats::overview,
        GET    "/api/sessions/{session}"         VIEWER        sessions::get,
        DELETE "/api/sessions/{session}"         SESSION_END   sessions::delete,
        POST   "/api/sessions/{session}/start"   SESSION       sessions::start,
        POST   "/api/sessions/{session}/stop"    SESSION_END   sessions::stop,
        POST   "/api/sessions/{session}/logout"  SESSION_END   sessions::logout,
        POST   "/api/sessions/{session}/force-kill"   SESSION_END sessions::force_kill,
        GET    "/api/sessions/{session}/qr"           SESSION  pairing::qr,
        POST   "/api/sessions/{session}/pairing-code" SESSION  pairing::pairing_code,
        GET    "/api/sessions/{session}/config"       VIEWER   configuration::get,
        PATCH  "/api/sessions/{session}/config"       SESSION  configuration::change,
        GET    "/api/sessions/{session}/groups"           VIEWER      groups::list,
        POST   "/api/sessions/{session}/groups"           MEMBERSHIP  groups::create,
        GET    "/api/sessions/{session}/groups.csv"       VIEWER      export::groups,
        GET    "/api/sessions/{session}/groups/count"     VIEWER      groups::count,
        POST   "/api/sessions/{session}/groups/join"      MEMBERSHIP  joining::join,
        GET    "/api/sessions/{session}/groups/join-info" JOINER      joining::info,
        GET    "/api/sessions/{session}/groups/{group}"                      VIEWER   groups::get,
        PUT    "/api/sessions/{session}/groups/{group}/subject"              GROUP_WRITE groups::set_subject,
        PUT    "/api/sessions/{session}/groups/{group}/description"          GROUP_WRITE groups::set_description,
        POST   "/api/sessions/{session}/groups/{group}/leave"                MEMBERSHIP  groups::leave,
        GET    "/api/sessions/{session}/groups/{group}/settings"             VIEWER   settings::get,
        PUT    "/api/sessions/{session}/groups/{group}/settings"             GROUP_WRITE settings::set,
        GET    "/api/sessions/{session}/groups/{group}/picture"              VIEWER   picture::get,
        PUT    "/api/sessions/{session}/groups/{group}/picture"              PICTURE_WRITE picture::set,
        DELETE "/api/sessions/{session}/groups/{group}/picture"              GROUP_WRITE picture::remove,
        GET    "/api/sessions/{session}/groups/{group}/participants.csv"     VIEWER   export::participants,
        GET    "/api/sessions/{session}/groups/{group}/participants"         VIEWER   participants::list,
        POST   "/api/sessions/{session}/groups/{group}/participants"         GROUP_WRITE participants::add,
        DELETE "/api/sessions/{session}/groups/{group}/participants"         GROUP_WRITE participants::remove,
        POST   "/api/sessions/{session}/groups/{group}/participants/promote" GROUP_WRITE participants::promote,
        POST   "/api/sessions/{session}/groups/{group}/participants/demote"  GROUP_WRITE participants::demote,
        GET    "/api/sessions/{session}/groups/{group}/invite-code"          VIEWER   invites::get,
        POST   "/api/sessions/{session}/groups/{group}/invite-code/revoke"   GROUP_WRITE invites::revoke,
        GET    "/api/sessions/{session}/groups/{group}/membership-requests"  VIEWER   requests::list,
        POST   "/api/sessions/{session}/groups/{group}/membership-requests/approve" GROUP_WRITE requests::approve,
        POST   "/api/sessions/{session}/groups/{group}/membership-requests/reject"  GROUP_WRITE requests::reject,
        GET    "/api/sessions/{session}/communities"                         VIEWER   communities::list,
        POST   "/api/sessions/{session}/communities"                         MEMBERSHIP  communities::create,
        GET    "/api/sessions/{session}/communities/{community}"             VIEWER   communities::get,
        POST   "/api/sessions/{session}/communities/{community}/groups"      MEMBERSHIP  communities::create_group,
        POST   "/api/sessions/{session}/communities/{community}/links"       GROUP_WRITE communities::link,
        DELETE "/api/sessions/{session}/communities/{community}/links"       GROUP_WRITE communities::unlink,
        POST   "/api/sessions/{session}/communities/{community}/deactivate"  MEMBERSHIP  communities::deactivate,
    }
}

/// Every route behind the gate that its callers have to pass. What wraps all of them is `envelope.rs`.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let add = |router: Router<Arc<App>>, route: Route| {
        let gate = Gate::new(app, route.rule, &route.action());
        router.route(route.path, route.handler.route_layer(gate))
    };
    let router = routes().into_iter().fold(Router::new(), add);
    router.fallback(unknown_route).method_not_allowed_fallback(other_method).with_state(Arc::clone(app))
}

async fn unknown_route(request: Request) -> ApiError {
    ApiError::UnknownRoute(request.method().clone(), fields::shorten(request.uri().path()))
}

/// The router adds `Allow` by itself.
async fn other_method(request: Request) -> ApiError {
    ApiError::MethodNotAllowed(request.method().clone(), fields::shorten(request.uri().path()))
}
