//! One route: where it is, who may call it, what it does, and what the document says of it. There is no way to make
//! one without its documentation. Never answers a request.

use std::sync::Arc;

use axum::http::Method;
use axum::routing::MethodRouter;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::schema::Schema;

use super::access::Rule;
use crate::app::App;

/// Schemas by name, as an operation refers to them.
pub(crate) type Schemas = Vec<(String, RefOr<Schema>)>;

/// A route, not yet behind its gate.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) rule: Rule,
    /// The module of its handler.
    pub(crate) section: &'static str,
    /// The name of its handler.
    pub(crate) name: &'static str,
    pub(crate) handler: MethodRouter<Arc<App>>,
    /// What its handler's `#[utoipa::path]` says.
    pub(crate) describe: fn() -> Description,
}

impl Route {
    /// What the route does, in one word: its `operationId` in the document.
    pub(crate) fn action(&self) -> String {
        format!("{}_{}", self.section, self.name)
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

/// One route a line: `METHOD "path" RULE module::handler,`.
macro_rules! routes {
    ($($method:ident $path:literal $rule:ident $section:ident::$name:ident,)+) => { pastey::paste! {
        vec![$($crate::http::route::Route {
            method: axum::http::Method::$method,
            path: $path,
            rule: $rule,
            section: stringify!($section),
            name: stringify!($name),
            handler: axum::routing::[<$method:lower>]($section::$name),
            describe: $crate::http::route::describe::<$section::[<__path_ $name>]>,
        },)+]
    }};
}
pub(crate) use routes;
