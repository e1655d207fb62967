//! Rookery's sessions: one supervised actor per WhatsApp account, the engine that speaks WhatsApp's protocol,
//! and the store that keeps what must survive. Knows no HTTP. The way in is [`start`] and then [`Gateway`].

mod directory;
mod engine;
mod error;
#[cfg(feature = "simulator")]
mod failpoint;
mod gateway;
mod group_cache;
pub mod model;
mod session;
mod settings;
pub mod store;
mod supervisor;

pub use engine::check_whatsapp_url;
pub use error::CommandError;
#[cfg(feature = "simulator")]
pub use failpoint::Failpoint;
pub use gateway::Gateway;
pub use session::record::linked_sessions;
pub use settings::{Pace, Paces, Settings, WHATSAPP_TIMEOUT_MAX, WHATSAPP_URL};
pub use supervisor::{Running, StartError, start};
