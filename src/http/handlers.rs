//! The handlers of the routes: one file per resource. A handler takes the request's parts from `request`, asks the
//! gateway, and hands the result to `response`.

pub(crate) mod account;
pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod batches;
pub(crate) mod communities;
pub(crate) mod contacts;
pub(crate) mod csv;
pub(crate) mod docs;
pub(crate) mod events;
pub(crate) mod groups;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod invite_code;
pub(crate) mod join;
pub(crate) mod membership_requests;
pub(crate) mod message_changes;
pub(crate) mod message_files;
pub(crate) mod message_history;
pub(crate) mod message_marks;
pub(crate) mod message_media;
pub(crate) mod message_receipts;
pub(crate) mod message_votes;
pub(crate) mod messages;
pub(crate) mod pairing;
pub(crate) mod participants;
pub(crate) mod passkey;
pub(crate) mod picture;
pub(crate) mod proxy;
pub(crate) mod session_config;
pub(crate) mod sessions;
pub(crate) mod settings;
pub(crate) mod socket_io;
pub(crate) mod stats;
pub(crate) mod webhook_deliveries;
pub(crate) mod webhooks;
