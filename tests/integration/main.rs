//! The daemon against the simulator, over HTTP and the real protocol. One file per behaviour; `harness.rs` is what they
//! share.

mod changes;
mod faults;
mod groups;
mod harness;
mod linking;
mod sessions;
mod survival;
