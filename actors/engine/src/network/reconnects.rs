//! When a session connects again, as its configuration says. A pure function over what happened so far.

use std::time::Duration;

use tokio::time::Instant;

use rookery_model::SessionConfig;

/// The longest wait between two reconnects of a session, so also the longest wait for a server that answers again.
pub(crate) const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(60);

/// The reconnects since the session was last connected.
#[derive(Debug, Default)]
pub(crate) struct Reconnects {
    tried: u32,
    last: Option<Instant>,
    /// A phone was linked: WhatsApp makes the client reconnect, perhaps twice. These are not lost connections.
    linking: bool,
}

/// The decision about a reconnect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reconnect {
    Go,
    Wait(Duration),
    /// All allowed reconnects were made: this many.
    UsedUp(u32),
}

impl Reconnects {
    /// A phone was linked just now.
    pub(crate) fn after_linking() -> Self {
        Self { linking: true, ..Self::default() }
    }

    /// Decides about a reconnect at `now`. `answered_at`: when a session of this daemon last connected.
    pub(crate) fn next(&self, config: &SessionConfig, now: Instant, answered_at: Option<Instant>) -> Reconnect {
        if self.linking {
            return Reconnect::Go;
        }
        if config.max_reconnect_attempts.is_some_and(|most| self.tried >= most) {
            return Reconnect::UsedUp(self.tried);
        }
        let Some(last) = self.last else { return Reconnect::Go };
        let base = Duration::from_millis(config.reconnect_base_delay.into());
        // The waits double because nobody knows when WhatsApp is back, until another session is connected.
        let doublings = if answered_at.is_some_and(|at| at > last) { 0 } else { self.tried.saturating_sub(1) };
        let delay = base.saturating_mul(2_u32.saturating_pow(doublings)).min(RECONNECT_DELAY_MAX);
        let wait = (last + delay).saturating_duration_since(now);
        if wait.is_zero() { Reconnect::Go } else { Reconnect::Wait(wait) }
    }

    /// Counts a reconnect that begins at `now`.
    pub(crate) fn count(&mut self, now: Instant) {
        if !self.linking {
            self.tried += 1;
            self.last = Some(now);
        }
    }

    /// A reconnect failed: from now on even the reconnects after linking have to wait.
    pub(crate) fn fail(&mut self, now: Instant) {
        if std::mem::take(&mut self.linking) {
            self.count(now);
        }
    }

    /// Whether a reconnect failed since the session was last connected.
    pub(crate) fn have_failed(&self) -> bool {
        self.tried > 0
    }

    /// Whether the connection ends only because a phone was linked.
    pub(crate) fn are_expected(&self) -> bool {
        self.linking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reconnect_is_at_once_and_the_waits_double_from_there() {
        let (mut reconnects, start) = (Reconnects::default(), Instant::now());
        let config = SessionConfig { reconnect_base_delay: 1_000, ..SessionConfig::default() };
        let table = [
            (0, Reconnect::Go),
            (200, Reconnect::Wait(Duration::from_millis(800))),
            (1_000, Reconnect::Go),
            (1_000, Reconnect::Wait(Duration::from_secs(2))),
            (3_000, Reconnect::Go),
            (6_999, Reconnect::Wait(Duration::from_millis(1))),
        ];
        for (at_ms, expected) in table {
            let now = start + Duration::from_millis(at_ms);
            let decided = reconnects.next(&config, now, None);
            if decided == Reconnect::Go {
                reconnects.count(now);
            }
            assert_eq!(decided, expected, "{at_ms}");
        }
    }

    #[test]
    fn no_wait_is_longer_than_a_minute_and_no_reconnect_goes_beyond_the_allowed_ones() {
        let now = Instant::now();
        let reconnects = Reconnects { tried: 40, last: Some(now), linking: false };
        for reconnect_base_delay in [1_000, 5_000, 300_000] {
            let config = SessionConfig { reconnect_base_delay, ..SessionConfig::default() };
            assert_eq!(reconnects.next(&config, now, None), Reconnect::Wait(RECONNECT_DELAY_MAX));
        }
        let limited = SessionConfig { max_reconnect_attempts: Some(0), ..SessionConfig::default() };
        assert_eq!(Reconnects::default().next(&limited, now, None), Reconnect::UsedUp(0));
    }

    #[test]
    fn a_session_that_got_in_shortens_the_waits_of_the_others() {
        let last = Instant::now();
        let second = Duration::from_secs(1);
        let reconnects = Reconnects { tried: 5, last: Some(last), linking: false };
        let config = SessionConfig { reconnect_base_delay: 5_000, ..SessionConfig::default() };
        let next = |answered_at| reconnects.next(&config, last + 6 * second, answered_at);
        assert_eq!(next(None), Reconnect::Wait(54 * second));
        assert_eq!(next(Some(last - second)), Reconnect::Wait(54 * second), "that was before it failed here");
        assert_eq!(next(Some(last + second)), Reconnect::Go);
    }

    #[test]
    fn what_linking_a_phone_takes_is_not_counted() {
        let (now, mut reconnects) = (Instant::now(), Reconnects::after_linking());
        let limited = SessionConfig { max_reconnect_attempts: Some(0), ..SessionConfig::default() };
        for _ in 0..3 {
            assert_eq!(reconnects.next(&limited, now, None), Reconnect::Go);
            reconnects.count(now);
        }
        reconnects.fail(now);
        assert!(matches!(reconnects.next(&SessionConfig::default(), now, None), Reconnect::Wait(_)));
    }
}
