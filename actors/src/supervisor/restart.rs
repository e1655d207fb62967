//! When a crashed session is started again. A pure function.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Crashes within [`WINDOW`] after which a session stays down.
const CRASHES_MAX: usize = 5;
/// The time over which crashes are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// The wait before the second restart; it doubles from there. The first one is at once.
const DELAY_BASE: Duration = Duration::from_millis(100);

/// What to do about a crash.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Start again after this time.
    Restart(Duration),
    /// Leave it down.
    GiveUp,
}

/// Decides about a crash at `now`; `crashes` holds the times of the earlier ones and takes this one.
pub(super) fn decide(crashes: &mut VecDeque<Instant>, now: Instant) -> Decision {
    crashes.retain(|at| now.duration_since(*at) < WINDOW);
    crashes.push_back(now);
    match crashes.len() {
        CRASHES_MAX.. => Decision::GiveUp,
        0 | 1 => Decision::Restart(Duration::ZERO),
        nth => Decision::Restart(DELAY_BASE * 2_u32.saturating_pow(u32::try_from(nth).unwrap_or(u32::MAX) - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_crash_restarts_at_once_and_the_fifth_in_a_minute_is_the_last() {
        let (mut crashes, start) = (VecDeque::new(), Instant::now());
        let expected = [
            Decision::Restart(Duration::ZERO),
            Decision::Restart(DELAY_BASE),
            Decision::Restart(DELAY_BASE * 2),
            Decision::Restart(DELAY_BASE * 4),
            Decision::GiveUp,
        ];
        for (second, decision) in expected.into_iter().enumerate() {
            assert_eq!(decide(&mut crashes, start + Duration::from_secs(second as u64)), decision);
        }
    }

    #[test]
    fn crashes_far_apart_never_add_up() {
        let (mut crashes, start) = (VecDeque::new(), Instant::now());
        for nth in 0..100 {
            let now = start + Duration::from_secs(nth * 61);
            assert_eq!(decide(&mut crashes, now), Decision::Restart(Duration::ZERO));
        }
    }
}
