//! How a session's engine ended, and why its actor did.

/// How an engine ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineExit {
    /// It was ordered to, or its run loop came to an end.
    #[error("the WhatsApp client ended by itself")]
    Ended,
    /// It could not be opened.
    #[error("the WhatsApp client could not be opened: {0}")]
    NotOpened(String),
    /// It has given up saving its state. With the bytes that are free, where that is why.
    #[error("credentials cannot be saved{}", full_disk(*.free_bytes))]
    Unsaved {
        /// On a disk that is full.
        free_bytes: Option<u64>,
    },
    /// It panicked.
    #[error("the WhatsApp client crashed")]
    Crashed,
}

fn full_disk(free_bytes: Option<u64>) -> String {
    free_bytes.map_or(String::new(), |bytes| format!(": the disk is full ({bytes} bytes free); make room"))
}

/// Why a session's actor ended. Our own words: they are shown and logged, and never hold what a caller or WhatsApp sent (P-1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ActorExit {
    /// Its engine ended while the session needs one.
    #[error("{0}")]
    Engine(EngineExit),
    /// It panicked.
    #[error("a defect in the daemon, see its log")]
    Defect,
    /// Somebody stopped it.
    #[error("stopped")]
    Stopped,
    /// What is stored of the session could not be read.
    #[error("{0}")]
    NotRead(String),
}
