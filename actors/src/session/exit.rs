//! How a session's engine ended, and why its actor did.

/// How an engine ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineExit {
    /// The engine was ordered to end, or its run loop came to an end.
    #[error("the WhatsApp client ended by itself")]
    Ended,
    /// The engine could not be opened.
    #[error("the WhatsApp client could not be opened: {0}")]
    NotOpened(String),
    /// The engine has given up saving its state.
    #[error("credentials cannot be saved{}", full_disk(*.free_bytes))]
    Unsaved {
        /// The free bytes, where a full disk is the reason.
        free_bytes: Option<u64>,
    },
    /// The engine panicked.
    #[error("the WhatsApp client crashed")]
    Crashed,
}

fn full_disk(free_bytes: Option<u64>) -> String {
    free_bytes.map_or(String::new(), |bytes| format!(": the disk is full ({bytes} bytes free); make room"))
}

/// Why a session's actor ended. Our own words: they are shown and logged, and never hold what a caller or WhatsApp sent (P-1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ActorExit {
    /// The actor's engine ended while the session needs one.
    #[error("{0}")]
    Engine(EngineExit),
    /// The actor panicked.
    #[error("a defect in the daemon, see its log")]
    Defect,
    /// Somebody stopped the actor.
    #[error("stopped")]
    Stopped,
    /// The session's stored data could not be read.
    #[error("{0}")]
    NotRead(String),
}
