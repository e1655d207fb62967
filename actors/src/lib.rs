//! Rookery's sessions: one supervised actor per WhatsApp account, the engine that speaks WhatsApp's protocol,
//! and the store that keeps what must survive. Knows no HTTP. The way in is [`start`] and then [`Gateway`].

mod directory;
mod engine;
mod error;
mod gateway;
pub mod model;
mod session;
mod settings;
pub mod store;
mod supervisor;

pub use error::CommandError;
pub use gateway::Gateway;
pub use settings::{Settings, WHATSAPP_URL};
pub use supervisor::{Running, StartError, start};
