//! The daemon against the simulator, over HTTP and the real protocol. One file per behaviour; `harness.rs` is what they
//! share.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod accounts;
mod audit;
mod changes;
mod communities;
mod configuration;
mod connections;
mod events;
mod faults;
mod groups;
mod harness;
mod idempotency;
mod identity;
mod inviting;
mod joining;
mod line;
mod linking;
mod little_space;
mod log;
mod names;
mod outcomes;
mod pacing;
mod partial;
mod pictures;
mod process;
mod property;
mod reading;
mod requests;
mod sessions;
mod settings;
mod settled;
mod shares;
mod staleness;
mod stopping;
mod survival;
mod tenants;
