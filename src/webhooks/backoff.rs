//! When a failed delivery is tried again. Pure functions.
//!
//! A few attempts follow each other quickly, as many as the webhook asks for. Then the wait doubles up to a limit, and each is drawn at
//! random from nothing up to that ("full jitter"), so that receivers that come back are not hit by all at once. A receiver's own `Retry-After` is the least
//! wait. After the retry time the delivery is given up.

use std::time::Duration;

use rookery_model::Timestamp;

/// The wait after the first of the quick attempts; doubled after each one.
const QUICK_WAIT: Duration = Duration::from_millis(500);
/// The upper limit of the first slow wait; doubled after each one.
const SLOW_WAIT: Duration = Duration::from_secs(10);
/// The upper limit of all slow waits.
const SLOW_WAIT_MAX: Duration = Duration::from_secs(15 * 60);
/// No slow wait is shorter.
const SLOW_WAIT_MIN: Duration = Duration::from_secs(1);
/// A receiver may ask for as much at most.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// No wait is longer.
pub(crate) const WAIT_MAX: Duration = RETRY_AFTER_MAX;

/// A delivery that failed.
#[derive(Copy, Clone, Debug)]
pub(crate) struct FailedDelivery {
    /// Attempts so far, 1 or more.
    pub(crate) attempts: u32,
    /// When the first one was.
    pub(crate) since: Timestamp,
    /// The receiver asks for this wait.
    pub(crate) retry_after: Option<Duration>,
}

/// Whether the quick attempts are used up.
pub(crate) fn is_slow(attempts: u32, retry_count: u32) -> bool {
    attempts >= retry_count.max(1)
}

/// The wait until the next attempt; `None`: there is none. `jitter`: a random number from 0 to 1.
pub(crate) fn wait(
    failed: &FailedDelivery,
    retry_count: u32,
    retry_time: Duration,
    now: Timestamp,
    jitter: f64,
) -> Option<Duration> {
    let FailedDelivery { attempts, since, retry_after } = *failed;
    let tried_for = Duration::from_millis(u64::try_from(now.0 - since.0).unwrap_or_default());
    let wait = if is_slow(attempts, retry_count) {
        let left = retry_time.checked_sub(tried_for).filter(|left| !left.is_zero())?;
        let doublings = attempts.saturating_sub(retry_count.max(1)).min(16);
        let upper = SLOW_WAIT.saturating_mul(1 << doublings).min(SLOW_WAIT_MAX);
        upper.mul_f64(jitter.clamp(0.0, 1.0)).max(SLOW_WAIT_MIN).min(left)
    } else {
        QUICK_WAIT.saturating_mul(1 << attempts.saturating_sub(1).min(16))
    };
    Some(retry_after.map_or(wait, |asked| wait.max(asked.min(RETRY_AFTER_MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn after(attempts: u32, elapsed_s: i64, jitter: f64) -> Option<Duration> {
        let failed = FailedDelivery { attempts, since: Timestamp(0), retry_after: None };
        wait(&failed, 3, DAY, Timestamp(elapsed_s * 1_000), jitter)
    }

    #[test]
    fn quick_attempts_come_first_and_then_longer_and_longer_waits() {
        let waits: Vec<u64> = (1..=12).map(|attempts| after(attempts, 60, 1.0).unwrap().as_millis() as u64).collect();
        let slow = [10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 640_000, 900_000, 900_000, 900_000];
        assert_eq!(waits, [&[500, 1_000][..], &slow].concat());
        assert_eq!(after(3, 60, 0.0), Some(SLOW_WAIT_MIN), "no hammering, whatever chance says");
        assert_eq!(after(5, 60, 0.5), Some(Duration::from_secs(20)));
    }

    #[test]
    fn a_delivery_is_given_up_when_its_time_is_over_and_not_before_the_quick_attempts() {
        assert_eq!(after(50, 24 * 3_600 - 5, 1.0), Some(Duration::from_secs(5)), "the last attempt is at the end");
        assert_eq!(after(50, 24 * 3_600, 1.0), None);
        assert!(after(2, 48 * 3_600, 1.0).is_some());
        assert!(after(u32::MAX, 60, 1.0).is_some());
        assert!(after(5, -3_600, 1.0).is_some(), "the clock went back");
    }

    #[test]
    fn no_retry_count_is_one_quick_attempt() {
        for retry_count in [0, 1] {
            assert!(is_slow(1, retry_count));
        }
        assert!(!is_slow(1, 2) && is_slow(2, 2));
    }

    #[test]
    fn the_receivers_own_wait_is_the_least_up_to_an_hour() {
        let asked = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            wait(&FailedDelivery { attempts: 1, since: Timestamp(0), retry_after }, 3, DAY, Timestamp(0), 0.5)
        };
        assert_eq!(asked(0), Some(QUICK_WAIT));
        assert_eq!(asked(120), Some(Duration::from_secs(120)));
        assert_eq!(asked(1 << 40), Some(RETRY_AFTER_MAX));
    }
}
