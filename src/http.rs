//! The routes, all on this screen, and who may call them. The handlers and their documentation are in `handlers/`, in
//! the module that a route names. The layers before the handlers are in `middleware/`, the responses of failures in
//! `error.rs`, and the limits of time and size in `limits.rs`.
pub(crate) mod bulk;
pub(crate) mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod handlers;
pub(crate) mod limits;
mod middleware;
mod not_here;
mod openapi;
mod policy;
pub(crate) mod request;
mod response;
mod route;
mod server;
pub(crate) mod sockets;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::Request;
use axum::routing::get;
use axum::{Extension, Router};
use rookery_model::FileKind;

use crate::app::App;
use crate::auth::Role;
use crate::http::policy::{AccessPolicy, Scope};
use error::ApiError;
use handlers::{
    account, api_keys, audit, batches, chats, communities, contacts, csv, docs, events, groups, health, history,
    invite_code, join, membership_requests, message_changes, message_files, message_history, message_marks,
    message_media, message_receipts, message_votes, messages, pairing, participants, passkey, picture, profile, proxy,
    session_config, sessions, settings, socket_io, stats, webhook_deliveries, webhooks,
};
use limits::BodyKind;
use middleware::authorization::AuthLayer;
use request::written::shorten;
use route::{Route, routes};
pub(crate) use server::serve;
use sockets::Sockets;

const OPEN: AccessPolicy = AccessPolicy {
    role: None,
    scope: Scope::Path,
    body: BodyKind::Json,
    once_per_key: false,
    sends: false,
    transfers: false,
    streams: false,
    removes: false,
};
const VIEWER: AccessPolicy = AccessPolicy { role: Some(Role::Viewer), ..OPEN };
/// Events, page by page or as a stream.
const EVENTS: AccessPolicy = AccessPolicy { streams: true, ..VIEWER };
/// A read before joining a group.
const JOINER: AccessPolicy = AccessPolicy { scope: Scope::Membership, ..VIEWER };
/// What an operator's key may do within its scope.
const OPERATOR: AccessPolicy = AccessPolicy { role: Some(Role::Operator), ..OPEN };
/// As [`OPERATOR`], to take something away.
const OPERATOR_END: AccessPolicy = AccessPolicy { removes: true, ..OPERATOR };
/// What an admin's key may do within its scope.
const ADMIN: AccessPolicy = AccessPolicy { role: Some(Role::Admin), ..OPEN };
/// A session as a whole.
const SESSION: AccessPolicy = AccessPolicy { role: Some(Role::Operator), scope: Scope::Session, ..OPEN };
/// The end of a session.
const SESSION_END: AccessPolicy = AccessPolicy { removes: true, ..SESSION };
/// A change at WhatsApp: carried out once for each idempotency key.
const GROUP_WRITE: AccessPolicy = AccessPolicy { role: Some(Role::Operator), once_per_key: true, ..OPEN };
/// As [`GROUP_WRITE`], with a picture in the body.
const PICTURE_WRITE: AccessPolicy = AccessPolicy { body: BodyKind::Picture, ..GROUP_WRITE };
/// As [`GROUP_WRITE`], for the account as a whole.
const PROFILE: AccessPolicy = AccessPolicy { scope: Scope::Session, ..GROUP_WRITE };
/// As [`PROFILE`], with a picture in the body.
const PROFILE_PICTURE: AccessPolicy = AccessPolicy { body: BodyKind::Picture, ..PROFILE };
/// As [`GROUP_WRITE`], for making, joining and leaving groups.
const MEMBERSHIP: AccessPolicy = AccessPolicy { scope: Scope::Membership, ..GROUP_WRITE };
/// A message that is sent. The handler checks the chat, which is in the body.
const SEND: AccessPolicy = AccessPolicy { sends: true, ..GROUP_WRITE };
/// As [`SEND`], with a file in the body.
const fn send_file(kind: FileKind) -> AccessPolicy {
    AccessPolicy { body: BodyKind::File(kind), transfers: true, ..SEND }
}
const SEND_IMAGE: AccessPolicy = send_file(FileKind::Image);
const SEND_VIDEO: AccessPolicy = send_file(FileKind::Video);
const SEND_AUDIO: AccessPolicy = send_file(FileKind::Audio);
const SEND_DOCUMENT: AccessPolicy = send_file(FileKind::Document);
const SEND_STICKER: AccessPolicy = send_file(FileKind::Sticker);
/// The file of a message.
const MEDIA: AccessPolicy = AccessPolicy { transfers: true, streams: true, ..VIEWER };
const WIDE_OPERATOR: AccessPolicy = AccessPolicy { role: Some(Role::Operator), scope: Scope::Everything, ..OPEN };
/// As [`WIDE_OPERATOR`], to take something away.
const WIDE_END: AccessPolicy = AccessPolicy { removes: true, ..WIDE_OPERATOR };
const WIDE_ADMIN: AccessPolicy = AccessPolicy { role: Some(Role::Admin), ..WIDE_OPERATOR };
/// The end of a key.
const KEY_END: AccessPolicy = AccessPolicy { removes: true, ..WIDE_ADMIN };

/// Every route: method, path, policy, operation id, handler. The operation id is also the action in the audit log, and
/// the part before its first underscore is the tag in the document.
pub(crate) fn routes() -> Vec<Route> {
    [session_routes(), webhook_routes(), group_routes(), message_routes()].into_iter().flatten().collect()
}

/// The daemon's own routes and those of sessions.
fn session_routes() -> Vec<Route> {
    routes! {
        GET    "/api/health" OPEN "health_health" health::health,
        GET    "/api/health/live" OPEN "health_live" health::live,
        GET    "/api/health/ready" OPEN "health_ready" health::ready,
        GET    "/api/docs" OPEN "docs_page" docs::page,
        GET    "/api/docs-json" OPEN "docs_document" docs::document,
        POST   "/api/auth/validate" VIEWER "keys_validate" api_keys::validate,
        GET    "/api/auth/api-keys" WIDE_ADMIN "keys_list" api_keys::list,
        POST   "/api/auth/api-keys" WIDE_ADMIN "keys_create" api_keys::create,
        GET    "/api/auth/api-keys/{key}" WIDE_ADMIN "keys_get" api_keys::get,
        PUT    "/api/auth/api-keys/{key}" WIDE_ADMIN "keys_update" api_keys::update,
        DELETE "/api/auth/api-keys/{key}" KEY_END "keys_delete" api_keys::delete,
        POST   "/api/auth/api-keys/{key}/revoke" KEY_END "keys_revoke" api_keys::revoke,
        POST   "/api/auth/api-keys/{key}/rotate" WIDE_ADMIN "keys_rotate" api_keys::rotate,
        GET    "/api/audit" WIDE_ADMIN "audit_list" audit::list,
        GET    "/api/audit/verify" WIDE_ADMIN "audit_verify" audit::verify,
        GET    "/api/events" EVENTS "events_list_all" events::list_all,
        GET    "/api/sessions" VIEWER "sessions_list" sessions::list,
        POST   "/api/sessions" WIDE_OPERATOR "sessions_create" sessions::create,
        GET    "/api/sessions/stats/overview" VIEWER "stats_overview" stats::overview,
        GET    "/api/sessions/{session}" VIEWER "sessions_get" sessions::get,
        DELETE "/api/sessions/{session}" SESSION_END "sessions_delete" sessions::delete,
        POST   "/api/sessions/{session}/start" SESSION "sessions_start" sessions::start,
        POST   "/api/sessions/{session}/stop" SESSION_END "sessions_stop" sessions::stop,
        POST   "/api/sessions/{session}/logout" SESSION_END "sessions_logout" sessions::logout,
        POST   "/api/sessions/{session}/force-kill" SESSION_END "sessions_force_kill" sessions::force_kill,
        GET    "/api/sessions/{session}/qr" SESSION "pairing_qr" pairing::qr,
        POST   "/api/sessions/{session}/pairing-code" SESSION "pairing_pairing_code" pairing::pairing_code,
        GET    "/api/sessions/{session}/passkey" SESSION "passkey_options" passkey::options,
        POST   "/api/sessions/{session}/passkey" SESSION "passkey_answer" passkey::answer,
        POST   "/api/sessions/{session}/passkey/confirm" SESSION "passkey_confirm" passkey::confirm,
        GET    "/api/sessions/{session}/config" VIEWER "configuration_get" session_config::get,
        PATCH  "/api/sessions/{session}/config" SESSION "configuration_change" session_config::change,
        GET    "/api/sessions/{session}/proxy" SESSION "proxy_get" proxy::get,
        PATCH  "/api/sessions/{session}/proxy" WIDE_OPERATOR "proxy_change" proxy::change,
        GET    "/api/sessions/{session}/events" EVENTS "events_list" events::list,
        GET    "/api/sessions/{session}/limits" VIEWER "account_limits" account::limits,
        PUT    "/api/sessions/{session}/presence" SESSION "account_presence" account::set_presence,
        POST   "/api/sessions/{session}/chats/typing" PROFILE "chats_typing" chats::typing,
        POST   "/api/sessions/{session}/chats/read" PROFILE "chats_read" chats::read,
        POST   "/api/sessions/{session}/chats/unread" PROFILE "chats_unread" chats::unread,
        POST   "/api/sessions/{session}/chats/archive" PROFILE "chats_archive" chats::archive,
        POST   "/api/sessions/{session}/chats/pin" PROFILE "chats_pin" chats::pin,
        POST   "/api/sessions/{session}/chats/mute" PROFILE "chats_mute" chats::mute,
        POST   "/api/sessions/{session}/chats/delete" PROFILE "chats_delete" chats::delete,
        DELETE "/api/sessions/{session}/chats/{chat}/messages" PROFILE "chats_clear" chats::clear,
        PUT    "/api/sessions/{session}/profile/name" PROFILE "profile_set_name" profile::set_name,
        PUT    "/api/sessions/{session}/profile/status" PROFILE "profile_set_status" profile::set_status,
        PUT    "/api/sessions/{session}/profile/picture" PROFILE_PICTURE "profile_set_picture" profile::set_picture,
        DELETE "/api/sessions/{session}/profile/picture" PROFILE "profile_remove_picture" profile::remove_picture,
    }
}

/// The routes of webhooks: those of one session, and those of several.
fn webhook_routes() -> Vec<Route> {
    routes! {
        GET    "/api/sessions/{session}/webhooks" OPERATOR "webhooks_list" webhooks::list,
        POST   "/api/sessions/{session}/webhooks" OPERATOR "webhooks_create" webhooks::create,
        GET    "/api/sessions/{session}/webhooks/{webhook}" OPERATOR "webhooks_get" webhooks::get,
        PUT    "/api/sessions/{session}/webhooks/{webhook}" OPERATOR "webhooks_update" webhooks::update,
        DELETE "/api/sessions/{session}/webhooks/{webhook}" OPERATOR_END "webhooks_delete" webhooks::delete,
        POST   "/api/sessions/{session}/webhooks/{webhook}/test" OPERATOR "webhooks_test" webhook_deliveries::test,
        POST   "/api/sessions/{session}/webhooks/{webhook}/resume" OPERATOR "webhooks_resume" webhook_deliveries::resume,
        POST   "/api/sessions/{session}/webhooks/{webhook}/replay" OPERATOR "webhooks_replay" webhook_deliveries::replay,
        GET    "/api/sessions/{session}/webhooks/{webhook}/deliveries" OPERATOR "webhooks_deliveries" webhook_deliveries::list,
        GET    "/api/webhooks" OPERATOR "webhooks_list_all" webhooks::list_all,
        POST   "/api/webhooks" WIDE_OPERATOR "webhooks_create_wide" webhooks::create_wide,
        GET    "/api/webhooks/delivery-failures" ADMIN "webhooks_failures" webhook_deliveries::failures,
        POST   "/api/webhooks/delivery-failures/redrive" ADMIN "webhooks_redrive" webhook_deliveries::redrive,
        GET    "/api/webhooks/{webhook}" WIDE_OPERATOR "webhooks_get_wide" webhooks::get,
        PUT    "/api/webhooks/{webhook}" WIDE_OPERATOR "webhooks_update_wide" webhooks::update,
        DELETE "/api/webhooks/{webhook}" WIDE_END "webhooks_delete_wide" webhooks::delete,
        POST   "/api/webhooks/{webhook}/test" WIDE_OPERATOR "webhooks_test_wide" webhook_deliveries::test,
        POST   "/api/webhooks/{webhook}/resume" WIDE_OPERATOR "webhooks_resume_wide" webhook_deliveries::resume,
        POST   "/api/webhooks/{webhook}/replay" WIDE_OPERATOR "webhooks_replay_wide" webhook_deliveries::replay,
        GET    "/api/webhooks/{webhook}/deliveries" WIDE_OPERATOR "webhooks_deliveries_wide" webhook_deliveries::list,
    }
}

/// The routes of groups, and of the people outside of them.
fn group_routes() -> Vec<Route> {
    routes! {
        GET    "/api/sessions/{session}/groups" VIEWER "groups_list" groups::list,
        POST   "/api/sessions/{session}/groups" MEMBERSHIP "groups_create" groups::create,
        GET    "/api/sessions/{session}/groups.csv" VIEWER "export_groups" csv::groups,
        GET    "/api/sessions/{session}/groups/count" VIEWER "groups_count" groups::count,
        POST   "/api/sessions/{session}/groups/join" MEMBERSHIP "joining_join" join::join,
        GET    "/api/sessions/{session}/groups/join-info" JOINER "joining_info" join::info,
        GET    "/api/sessions/{session}/groups/{group}" VIEWER "groups_get" groups::get,
        PUT    "/api/sessions/{session}/groups/{group}/subject" GROUP_WRITE "groups_set_subject" groups::set_subject,
        PUT    "/api/sessions/{session}/groups/{group}/description" GROUP_WRITE "groups_set_description" groups::set_description,
        POST   "/api/sessions/{session}/groups/{group}/leave" MEMBERSHIP "groups_leave" groups::leave,
        GET    "/api/sessions/{session}/groups/{group}/settings" VIEWER "settings_get" settings::get,
        PUT    "/api/sessions/{session}/groups/{group}/settings" GROUP_WRITE "settings_set" settings::set,
        GET    "/api/sessions/{session}/groups/{group}/picture" VIEWER "picture_get" picture::get,
        PUT    "/api/sessions/{session}/groups/{group}/picture" PICTURE_WRITE "picture_set" picture::set,
        DELETE "/api/sessions/{session}/groups/{group}/picture" GROUP_WRITE "picture_remove" picture::remove,
        GET    "/api/sessions/{session}/groups/{group}/history" VIEWER "events_history" history::list,
        GET    "/api/sessions/{session}/groups/{group}/history.csv" VIEWER "export_history" history::csv,
        GET    "/api/sessions/{session}/groups/{group}/participants.csv" VIEWER "export_participants" csv::participants,
        GET    "/api/sessions/{session}/groups/{group}/participants" VIEWER "participants_list" participants::list,
        POST   "/api/sessions/{session}/groups/{group}/participants" GROUP_WRITE "participants_add" participants::add,
        DELETE "/api/sessions/{session}/groups/{group}/participants" GROUP_WRITE "participants_remove" participants::remove,
        POST   "/api/sessions/{session}/groups/{group}/participants/promote" GROUP_WRITE "participants_promote" participants::promote,
        POST   "/api/sessions/{session}/groups/{group}/participants/demote" GROUP_WRITE "participants_demote" participants::demote,
        GET    "/api/sessions/{session}/groups/{group}/invite-code" VIEWER "invites_get" invite_code::get,
        POST   "/api/sessions/{session}/groups/{group}/invite-code/revoke" GROUP_WRITE "invites_revoke" invite_code::revoke,
        GET    "/api/sessions/{session}/groups/{group}/membership-requests" VIEWER "requests_list" membership_requests::list,
        POST   "/api/sessions/{session}/groups/{group}/membership-requests/approve" GROUP_WRITE "requests_approve" membership_requests::approve,
        POST   "/api/sessions/{session}/groups/{group}/membership-requests/reject" GROUP_WRITE "requests_reject" membership_requests::reject,
        GET    "/api/sessions/{session}/contacts/check/{number}" SESSION "contacts_check" contacts::check,
        POST   "/api/sessions/{session}/contacts/check" SESSION "contacts_check_many" contacts::check_many,
        GET    "/api/sessions/{session}/communities" VIEWER "communities_list" communities::list,
        POST   "/api/sessions/{session}/communities" MEMBERSHIP "communities_create" communities::create,
        GET    "/api/sessions/{session}/communities/{community}" VIEWER "communities_get" communities::get,
        POST   "/api/sessions/{session}/communities/{community}/groups" MEMBERSHIP "communities_create_group" communities::create_group,
        POST   "/api/sessions/{session}/communities/{community}/links" GROUP_WRITE "communities_link" communities::link,
        DELETE "/api/sessions/{session}/communities/{community}/links" GROUP_WRITE "communities_unlink" communities::unlink,
        POST   "/api/sessions/{session}/communities/{community}/deactivate" MEMBERSHIP "communities_deactivate" communities::deactivate,
    }
}

/// The routes of messages.
fn message_routes() -> Vec<Route> {
    routes! {
        GET    "/api/sessions/{session}/messages" VIEWER "messages_list" message_history::list,
        GET    "/api/sessions/{session}/messages/{chat}/history" VIEWER "messages_history" message_history::history,
        GET    "/api/sessions/{session}/messages/{chat}/{message}/reactions" VIEWER "messages_reactions" message_history::reactions,
        GET    "/api/sessions/{session}/messages/{chat}/{message}/receipts" VIEWER "messages_receipts" message_receipts::list,
        GET    "/api/sessions/{session}/messages/{chat}/{message}/votes" VIEWER "messages_votes" message_votes::list,
        GET    "/api/sessions/{session}/messages/{chat}/{message}/media" MEDIA "messages_media" message_media::get,
        POST   "/api/sessions/{session}/messages/reply" SEND "messages_reply" message_changes::reply,
        POST   "/api/sessions/{session}/messages/forward" SEND "messages_forward" message_changes::forward,
        POST   "/api/sessions/{session}/messages/react" SEND "messages_react" message_changes::react,
        POST   "/api/sessions/{session}/messages/edit" SEND "messages_edit" message_changes::edit,
        POST   "/api/sessions/{session}/messages/delete" SEND "messages_delete" message_changes::delete,
        POST   "/api/sessions/{session}/messages/vote-poll" SEND "messages_vote_poll" message_votes::vote,
        POST   "/api/sessions/{session}/messages/star" SEND "messages_star" message_marks::star,
        POST   "/api/sessions/{session}/messages/pin" SEND "messages_pin" message_marks::pin,
        POST   "/api/sessions/{session}/messages/unpin" SEND "messages_unpin" message_marks::unpin,
        POST   "/api/sessions/{session}/messages/send-text" SEND "messages_send_text" messages::send_text,
        POST   "/api/sessions/{session}/messages/send-location" SEND "messages_send_location" messages::send_location,
        POST   "/api/sessions/{session}/messages/send-contact" SEND "messages_send_contact" messages::send_contact,
        POST   "/api/sessions/{session}/messages/send-poll" SEND "messages_send_poll" messages::send_poll,
        POST   "/api/sessions/{session}/messages/send-bulk" GROUP_WRITE "batches_create" batches::create,
        GET    "/api/sessions/{session}/messages/batch/{batch}" VIEWER "batches_get" batches::get,
        POST   "/api/sessions/{session}/messages/batch/{batch}/cancel" OPERATOR_END "batches_cancel" batches::cancel,
        POST   "/api/sessions/{session}/messages/send-image" SEND_IMAGE "messages_send_image" message_files::send_image,
        POST   "/api/sessions/{session}/messages/send-video" SEND_VIDEO "messages_send_video" message_files::send_video,
        POST   "/api/sessions/{session}/messages/send-audio" SEND_AUDIO "messages_send_audio" message_files::send_audio,
        POST   "/api/sessions/{session}/messages/send-document" SEND_DOCUMENT "messages_send_document" message_files::send_document,
        POST   "/api/sessions/{session}/messages/send-sticker" SEND_STICKER "messages_send_sticker" message_files::send_sticker,
    }
}

/// Every route behind its authorization layer. `middleware/request_context.rs` wraps all of them.
pub(crate) fn router(app: &Arc<App>, sockets: &Arc<Sockets>) -> Router {
    let add = |router: Router<Arc<App>>, route: Route| {
        let layer = AuthLayer::new(app, route.policy, route.action);
        router.route(route.path, route.handler.route_layer(layer))
    };
    let router = routes().into_iter().fold(Router::new(), add);
    // Not a route of the API: its clients show their keys later.
    let transport = get(socket_io::transport).post(socket_io::transport).layer(Extension(Arc::clone(sockets)));
    let router = router.route(sockets::PATH, transport);
    router.fallback(unknown_route).method_not_allowed_fallback(other_method).with_state(Arc::clone(app))
}

async fn unknown_route(request: Request) -> ApiError {
    let path = request.uri().path();
    match not_here::reason(path) {
        Some(reason) => ApiError::NotHere(reason),
        None => ApiError::UnknownRoute(request.method().clone(), shorten(path)),
    }
}

/// The router adds `Allow` by itself.
async fn other_method(request: Request) -> ApiError {
    ApiError::MethodNotAllowed(request.method().clone(), shorten(request.uri().path()))
}
