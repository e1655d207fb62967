//! The daemon against the simulator, over HTTP and the real protocol. One file per behaviour; `harness.rs` is what they
//! share.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod changes;
mod events;
mod faults;
mod groups;
mod harness;
mod idempotency;
mod linking;
mod process;
mod property;
mod sessions;
mod settled;
mod survival;
