//! One route: where it is, who may call it, what it does, and what the document says of it. There is no way to make
//! one without its documentation. Never answers a request.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::Method;
use axum::routing::MethodRouter;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{OpenApi, RefOr};

use crate::app::App;
use crate::http::policy::AccessPolicy;

/// A route, not yet behind its authorization layer.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) policy: AccessPolicy,
    /// The route's action, in one word: its `operationId` in the document, and its action in the audit log.
    pub(crate) action: &'static str,
    pub(crate) handler: MethodRouter<Arc<App>>,
    /// The handler's documentation in `#[utoipa::path]`.
    pub(crate) describe: fn() -> Description,
}

impl Route {
    /// The tag under which the document lists the route.
    pub(crate) fn tag(&self) -> &'static str {
        self.action.split_once('_').map_or(self.action, |(tag, _)| tag)
    }
}

/// A handler's documentation in `#[utoipa::path]`.
pub(crate) struct Description {
    pub(crate) operation: Operation,
    pub(crate) schemas: BTreeMap<String, RefOr<Schema>>,
}

impl Description {
    /// The description of the one operation in a document.
    pub(crate) fn of(document: OpenApi) -> Self {
        let item = document.paths.paths.into_values().next().unwrap_or_default();
        let operations = [item.get, item.post, item.put, item.patch, item.delete];
        let operation = operations.into_iter().flatten().next().unwrap_or_default();
        Self { operation, schemas: document.components.map(|components| components.schemas).unwrap_or_default() }
    }
}

/// One route a line: `METHOD "path" POLICY "action" module::handler,`. The path stands here alone: `#[utoipa::path]` has an empty one.
macro_rules! routes {
    ($($method:ident $path:literal $policy:ident $action:literal $module:ident::$name:ident,)+) => {
        vec![$({
            #[derive(utoipa::OpenApi)]
            #[openapi(paths($module::$name))]
            struct Document;

            $crate::http::route::Route {
                method: axum::http::Method::$method,
                path: $path,
                policy: $policy,
                action: $action,
                handler: axum::routing::on(axum::routing::MethodFilter::$method, $module::$name),
                describe: || $crate::http::route::Description::of(<Document as utoipa::OpenApi>::openapi()),
            }
        },)+]
    };
}
pub(crate) use routes;
