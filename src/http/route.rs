//! One route: where it is, who may call it, what it does, and what the document says of it. There is no way to make
//! one without its documentation. Never answers a request.

use std::sync::Arc;

use axum::http::Method;
use axum::routing::MethodRouter;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::schema::Schema;

use crate::app::App;
use crate::http::policy::AccessPolicy;

/// Schemas by name, as an operation refers to them.
pub(crate) type Schemas = Vec<(String, RefOr<Schema>)>;

/// A route, not yet behind its authorization layer.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) policy: AccessPolicy,
    /// What the route does, in one word: its `operationId` in the document, and its action in the audit log.
    pub(crate) action: &'static str,
    pub(crate) handler: MethodRouter<Arc<App>>,
    /// What its handler's `#[utoipa::path]` says.
    pub(crate) describe: fn() -> Description,
}

impl Route {
    /// The tag under which the document lists the route.
    pub(crate) fn tag(&self) -> &'static str {
        self.action.split_once('_').map_or(self.action, |(tag, _)| tag)
    }
}

/// What stands at the handler.
pub(crate) struct Description {
    pub(crate) path: String,
    pub(crate) methods: Vec<HttpMethod>,
    pub(crate) operation: Operation,
    pub(crate) schemas: Schemas,
}

/// What `#[utoipa::path]` made of the handler that `P` stands for.
pub(crate) fn describe<P: utoipa::Path + utoipa::__dev::SchemaReferences>() -> Description {
    let mut schemas = Schemas::new();
    P::schemas(&mut schemas);
    Description { path: P::path(), methods: P::methods(), operation: P::operation(), schemas }
}

/// One route a line: `METHOD "path" POLICY "action" module::handler,`.
macro_rules! routes {
    ($($method:ident $path:literal $policy:ident $action:literal $module:ident::$name:ident,)+) => { pastey::paste! {
        vec![$($crate::http::route::Route {
            method: axum::http::Method::$method,
            path: $path,
            policy: $policy,
            action: $action,
            handler: axum::routing::[<$method:lower>]($module::$name),
            describe: $crate::http::route::describe::<$module::[<__path_ $name>]>,
        },)+]
    }};
}
pub(crate) use routes;
