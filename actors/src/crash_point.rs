//! Places on the way of an event at which a test may have the process die, as a power cut would: without another instruction. In builds
//! without the feature `simulator` there are none.

/// A place, and what is done and not done there.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CrashPoint {
    /// A session's batch is not in the event log yet.
    BeforeLog,
    /// Its events are in the log, and nobody was told.
    Logged,
    /// Its events were told, and the store does not show them yet.
    Published,
    /// The store shows them, and the session's actor does not know yet.
    Stored,
    /// A receiver took a delivery, and the position is as before.
    Delivered,
    /// A webhook's position was written.
    PositionSaved,
}

/// Dies here if a test wants it: `ROOKERY_CRASH_AT` is the name of the place and which time it is reached, as `Logged:3`.
#[cfg(feature = "simulator")]
pub fn reach(point: CrashPoint) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static WANTED: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let text = std::env::var("ROOKERY_CRASH_AT").ok()?;
        let (name, nth) = text.split_once(':')?;
        Some((name.to_owned(), AtomicU32::new(nth.parse().ok()?)))
    });
    if let Some((name, left)) = &*WANTED
        && *name == format!("{point:?}")
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        std::process::abort();
    }
}

/// Nothing happens here.
#[cfg(not(feature = "simulator"))]
pub fn reach(_: CrashPoint) {}
