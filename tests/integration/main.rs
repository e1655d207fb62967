//! The daemon against the simulator, over HTTP and the real protocol. One file per behaviour; `harness.rs` is what they
//! share.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod accounts;
mod audit;
mod changes;
mod communities;
mod connections;
mod event_log;
mod events;
mod faults;
mod groups;
mod harness;
mod idempotency;
mod identity;
mod inviting;
mod joining;
mod limits;
mod line;
mod linking;
mod little_space;
mod log;
mod membership_requests;
mod names;
mod numbers;
mod outcomes;
mod partial;
mod passkey;
mod pictures;
mod process;
mod property;
mod proxies;
mod rate_limits;
mod reading;
mod receiver;
mod session_config;
mod sessions;
mod settings;
mod settled;
mod shares;
mod spellings;
mod staleness;
mod stopping;
mod survival;
mod tenants;
mod webhooks;
