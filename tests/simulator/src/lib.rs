//! A WhatsApp server on loopback, for tests and demos.
//!
//! It speaks the real wire protocol, so the production client runs against it unchanged. It keeps a
//! [`World`] (accounts, their phones and devices, groups) that tests read and change, and injects [`Fault`]s.
//! What is modelled, and what is not, is in this package's README.

mod admin;
mod app_state;
mod connection;
mod error;
mod faults;
mod groups;
mod noise;
mod pairing;
mod peer;

mod prekeys;
mod requests;
mod server;
mod signal;
mod stanza;
mod usync;
mod wire;
mod world;

pub use error::SimulatorError;
pub use faults::{Fault, FaultKind};
pub use groups::ParticipantChange;
pub use server::{Simulator, SimulatorOptions};
pub use world::phone::Phone;
pub use world::view::{GroupView, MemberView, Role};
pub use world::{AccountSpec, Addable, Addressing, Echo, GroupSpec, World};
