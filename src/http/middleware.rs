//! The layers before a handler, from the outside in: the request's context (id, address, time, log line), CORS,
//! authorization, and, for a call that changes something, the audit log and idempotency.

pub(crate) mod audit;
pub(crate) mod authorization;
pub(crate) mod cors;
pub(crate) mod idempotency;
pub(crate) mod request_context;
