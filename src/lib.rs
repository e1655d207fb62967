//! Rookery, a self-hosted daemon that manages WhatsApp groups for many accounts over REST: its HTTP side, its keys
//! and its configuration. The accounts themselves live in `rookery-actors`; nothing here knows WhatsApp's protocol.

mod app;
mod audit;
mod auth;
pub mod backup;
mod batches;
mod bootstrap_key;
mod clock;
pub mod config;
pub mod daemon;
mod data_dir;
mod detached_tasks;
mod event_data;
#[cfg(fuzzing)]
pub use http::fuzzing;
#[cfg(feature = "simulator")]
pub mod demo;
mod event_log;
mod files;
mod http;
mod idempotency;
#[cfg(test)]
mod little_space;
mod media;
pub mod offline;
mod picture;
mod qr_image;
pub mod secrecy;
mod shares;
mod signals;
#[cfg(feature = "simulator")]
pub mod simulator_command;
mod store_key;
pub mod telemetry;
mod url_fetch;
mod webhooks;
