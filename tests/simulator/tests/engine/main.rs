//! The production client `whatsapp-rust` against the simulator: one binary, one file per subject.

mod admin;
mod creation;
mod faults;
mod groups;
mod linking;
mod support;
