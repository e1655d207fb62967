//! The routes, all on this screen, and who may call them. What a route does is in the module it names; what a
//! failure answers is in `error.rs`; how long and how large things may be is in `limits.rs`.

mod access;
mod answer;
mod envelope;
mod error;
mod extract;
mod fields;
mod groups;
mod health;
mod idempotent;
mod invites;
mod keys;
mod limits;
mod pairing;
mod participants;
#[cfg_attr(not(test), expect(dead_code, reason = "the routes for pictures are not there yet"))]
mod picture;
mod server;
mod sessions;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::{MethodRouter, delete, get, post, put};

use crate::app::App;
use crate::auth::Role;
use access::{Gate, Rule};
use error::ApiError;
use limits::BODY_BYTES_MAX;
pub(crate) use server::serve;

type Routes = MethodRouter<Arc<App>>;

/// Every route behind the gate that its callers have to pass. What wraps all of them is `envelope.rs`.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let gate = |rule: Rule| move |routes: Routes| routes.route_layer(Gate::new(app, rule));
    let open = gate(Rule::Open);
    let viewer = gate(Rule::Role(Role::Viewer));
    let operator = gate(Rule::Role(Role::Operator));
    let group_write = |routes: Routes| routes.route_layer(Gate::of_keyed_write(app, Role::Operator, BODY_BYTES_MAX));
    let wide_operator = gate(Rule::Unscoped(Role::Operator));
    let wide_admin = gate(Rule::Unscoped(Role::Admin));

    Router::new()
        .route("/api/health", open(get(health::health)))
        .route("/api/health/live", open(get(health::live)))
        .route("/api/health/ready", open(get(health::ready)))
        .route("/api/auth/validate", viewer(post(keys::validate)))
        .route("/api/auth/api-keys", wide_admin(get(keys::list).post(keys::create)))
        .route("/api/auth/api-keys/{key}", wide_admin(get(keys::get).delete(keys::delete)))
        .route("/api/sessions", viewer(get(sessions::list)))
        .route("/api/sessions", wide_operator(post(sessions::create)))
        .route("/api/sessions/{session}", viewer(get(sessions::get)))
        .route("/api/sessions/{session}", operator(delete(sessions::delete)))
        .route("/api/sessions/{session}/start", operator(post(sessions::start)))
        .route("/api/sessions/{session}/stop", operator(post(sessions::stop)))
        .route("/api/sessions/{session}/logout", operator(post(sessions::logout)))
        .route("/api/sessions/{session}/force-kill", operator(post(sessions::force_kill)))
        .route("/api/sessions/{session}/qr", operator(get(pairing::qr)))
        .route("/api/sessions/{session}/pairing-code", operator(post(pairing::pairing_code)))
        .route("/api/sessions/{session}/groups", viewer(get(groups::list)))
        .route("/api/sessions/{session}/groups", group_write(post(groups::create)))
        .route("/api/sessions/{session}/groups/{group}", viewer(get(groups::get)))
        .route("/api/sessions/{session}/groups/{group}/subject", group_write(put(groups::set_subject)))
        .route("/api/sessions/{session}/groups/{group}/description", group_write(put(groups::set_description)))
        .route("/api/sessions/{session}/groups/{group}/leave", group_write(post(groups::leave)))
        .route(
            "/api/sessions/{session}/groups/{group}/participants",
            group_write(post(participants::add).delete(participants::remove)),
        )
        .route("/api/sessions/{session}/groups/{group}/participants/promote", group_write(post(participants::promote)))
        .route("/api/sessions/{session}/groups/{group}/participants/demote", group_write(post(participants::demote)))
        .route("/api/sessions/{session}/groups/{group}/invite-code", viewer(get(invites::get)))
        .route("/api/sessions/{session}/groups/{group}/invite-code/revoke", group_write(post(invites::revoke)))
        .fallback(unknown_route)
        .method_not_allowed_fallback(other_method)
        .with_state(Arc::clone(app))
}

async fn unknown_route(request: Request) -> ApiError {
    ApiError::UnknownRoute(request.method().clone(), fields::shorten(request.uri().path()))
}

/// The router adds `Allow` by itself.
async fn other_method(request: Request) -> ApiError {
    ApiError::MethodNotAllowed(request.method().clone(), fields::shorten(request.uri().path()))
}
