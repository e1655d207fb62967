//! The production client `whatsapp-rust` against the simulator: one binary, one file per subject.

mod admin;
mod communities;
mod creation;
mod faults;
mod groups;
mod linking;
mod messages;
mod oddities;
mod pictures;
mod requests;
mod restarts;
mod settings;
mod support;
