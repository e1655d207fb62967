//! Rookery's sessions: one supervised actor per WhatsApp account, with its connection and its group cache. Knows neither HTTP nor the
//! WhatsApp client's types: `rookery-engine` alone does. The way in is [`start`] and then [`Gateway`].

mod all_events;
pub mod commands;
mod context;
mod crash_point;
mod directory;
mod error;
#[cfg(feature = "simulator")]
mod failpoint;
mod gateway;
mod group_cache;
mod inbox;
mod journal;
mod known_limits;
mod message_events;
mod options;
mod rate_limiter;
mod receipts;
mod reply;
mod session;
mod session_log;
mod supervisor;
#[cfg(test)]
mod unwilling_store;

pub use all_events::{AllEvents, AllEventsPage, LogPlace};
pub use crash_point::{CrashPoint, reach};
pub use error::{CommandError, Limited, Paused};
#[cfg(feature = "simulator")]
pub use failpoint::Failpoint;
pub use gateway::Gateway;
pub use options::{RateLimit, RateLimits, SessionOptions, WHATSAPP_TIMEOUT_MAX, whole_seconds};
pub use receipts::{MessageReceipts, NoReceipts, PersonReceipts};
pub use rookery_engine::{
    EncryptedFile, FileError, FileInMessage, FileWriter, NoRoom, Room, TempFile, WHATSAPP_URL, check_whatsapp_url,
    file_in, tls_config, tls_config_trusting,
};
pub use session::record::{linked_sessions, migrate_sessions, session_numbers};
pub use session_log::{
    EventPage, EventSpan, KeptMessage, MessagePage, MessagesOf, Reaction, SessionEvents, StoredMessage, Vote,
    last_event,
};
pub use supervisor::{Running, StartError, start};
