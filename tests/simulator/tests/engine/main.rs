//! The production client `whatsapp-rust` against the simulator: one binary, one file per subject.

mod admin;
mod communities;
mod creation;
mod daily_life;
mod faults;
mod group_messages;
mod groups;
mod linking;
mod media;
mod messages;
mod oddities;
mod pictures;
mod requests;
mod restarts;
mod settings;
mod support;
