//! Reads a request's path, query and body. Nothing here answers or waits for WhatsApp.

pub(crate) mod asked_deliveries;
pub(crate) mod body;
pub(crate) mod body_room;
pub(crate) mod caller;
pub(crate) mod characters;
pub(crate) mod context;
pub(crate) mod event_filter;
pub(crate) mod extract;
pub(crate) mod fields;
pub(crate) mod file_body;
pub(crate) mod folding;
pub(crate) mod group_filter;
pub(crate) mod seed;
pub(crate) mod written;
