//! What the operator decides about the sessions. Checked by whoever reads the configuration.

use std::time::Duration;

/// Settings of all sessions of one daemon.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The WebSocket to connect to; WhatsApp's own unless a simulator is used.
    pub whatsapp_url: String,
    /// WhatsApp's answer is waited for this long.
    pub whatsapp_timeout: Duration,
    /// Connects started per second over all sessions, restarts included.
    pub connects_per_second: u32,
    /// Sessions that may be connecting at once.
    pub connecting_max: usize,
    /// Linking stays open this long after a start.
    pub linking_window: Duration,
    /// How the daemon names itself in the phone's list of linked devices.
    pub device_name: String,
}

/// WhatsApp's own WebSocket, as its web client uses it.
pub const WHATSAPP_URL: &str = "wss://web.whatsapp.com/ws/chat";

impl Default for Settings {
    fn default() -> Self {
        Self {
            whatsapp_url: WHATSAPP_URL.into(),
            whatsapp_timeout: Duration::from_secs(20),
            connects_per_second: 20,
            connecting_max: 50,
            linking_window: Duration::from_secs(600),
            device_name: "Rookery".into(),
        }
    }
}
