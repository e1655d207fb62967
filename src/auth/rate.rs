//! Rate limits: for valid keys, and for addresses that present invalid keys.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{DefaultKeyedRateLimiter, RateLimiter};
use rookery_actors::{RateLimit, whole_seconds};

/// Addresses whose failed log-ins are counted at once. Addresses are forgotten after a pause, so only an attack has as
/// many.
const ADDRESSES_MAX: usize = 10_000;
/// The shortest time between two sweeps: one takes some 100 us.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Bits of an IPv6 address that tell one subscriber from another.
const IPV6_PREFIX_BITS: u32 = 64;

/// The state of a key's rate limit.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct RateState {
    /// Requests that fit at once after a pause.
    pub(crate) limit: u32,
    /// Requests that fit now.
    pub(crate) remaining: u32,
    /// Seconds until all fit again, rounded up.
    pub(crate) reset_s: u32,
}

/// The rate of one key.
#[derive(Debug)]
pub(super) struct KeyRate {
    rate_limit: RateLimit,
    limiter: RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>,
    clock: DefaultClock,
}

impl KeyRate {
    pub(super) fn new(rate_limit: RateLimit) -> Self {
        let limiter = RateLimiter::direct(rate_limit.quota()).with_middleware();
        Self { rate_limit, limiter, clock: DefaultClock::default() }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// There is no room for the request; with the state, and the seconds after which there is.
    pub(super) fn take(&self) -> Result<RateState, (RateState, u32)> {
        match self.limiter.check() {
            Ok(snapshot) => Ok(self.state(snapshot.remaining_burst_capacity())),
            Err(not_until) => {
                let retry_after_s = whole_seconds(not_until.wait_time_from(self.clock.now())).max(1);
                Err((self.state(0), retry_after_s))
            }
        }
    }

    fn state(&self, remaining: u32) -> RateState {
        let limit = self.rate_limit.burst.get();
        let used = limit.saturating_sub(remaining);
        RateState { limit, remaining, reset_s: whole_seconds(self.rate_limit.period().saturating_mul(used)) }
    }
}

/// Failed log-ins, by address.
pub(crate) struct FailedLogins {
    limiter: Option<DefaultKeyedRateLimiter<IpAddr>>,
    clock: DefaultClock,
    /// When addresses were last forgotten.
    swept_at: Mutex<Option<Instant>>,
}

impl FailedLogins {
    /// `None`: failed log-ins are not counted.
    pub(crate) fn new(rate_limit: Option<RateLimit>) -> Self {
        let limiter = rate_limit.map(|rate_limit| RateLimiter::keyed(rate_limit.quota()));
        Self { limiter, clock: DefaultClock::default(), swept_at: Mutex::default() }
    }

    /// Counts a failed log-in.
    ///
    /// # Errors
    /// There were too many from this address, or from too many addresses; with the seconds after which the next one has
    /// room.
    pub(crate) fn note(&self, address: IpAddr) -> Result<(), u32> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if limiter.len() >= ADDRESSES_MAX && !self.sweep(limiter) {
            return Err(1);
        }
        let counted = limiter.check_key(&subscriber(address));
        counted.map_err(|not_until| whole_seconds(not_until.wait_time_from(self.clock.now())).max(1))
    }
}

impl FailedLogins {
    /// Forgets addresses that may fail as often as at first. False when the last sweep was a moment ago, or this one
    /// makes no room.
    fn sweep(&self, limiter: &DefaultKeyedRateLimiter<IpAddr>) -> bool {
        let mut swept_at = self.swept_at.lock().unwrap_or_else(PoisonError::into_inner);
        if swept_at.is_some_and(|at| at.elapsed() < SWEEP_INTERVAL) {
            return false;
        }
        *swept_at = Some(Instant::now());
        limiter.retain_recent();
        limiter.len() < ADDRESSES_MAX
    }
}

/// The address that stands for its subscriber: the start of the /64 in IPv6.
pub(crate) fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX << (Ipv6Addr::BITS - IPV6_PREFIX_BITS);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_what_is_left_and_when_there_is_more() {
        let rate = KeyRate::new(RateLimit::new(60, Duration::from_secs(3_600), 3));
        let states: Vec<_> = (0..3).map(|_| rate.take().unwrap()).collect();
        assert_eq!(states.iter().map(|state| state.remaining).collect::<Vec<_>>(), [2, 1, 0]);
        assert_eq!((states[0].limit, states[0].reset_s, states[2].reset_s), (3, 60, 180));
        let (state, retry_after_s) = rate.take().unwrap_err();
        assert_eq!((state.remaining, state.reset_s), (0, 180));
        assert!((59..=60).contains(&retry_after_s), "{retry_after_s}");
    }

    #[test]
    fn failed_log_ins_are_counted_by_subscriber() {
        let failed = FailedLogins::new(Some(RateLimit::new(1, Duration::from_secs(60), 2)));
        let address = |text: &str| text.parse().unwrap();
        for (from, passes) in [
            ("10.0.0.1", true),
            ("10.0.0.1", true),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("10.0.0.2", true),
            ("2001:db8::1", true),
            ("2001:db8::2", true),
            ("2001:db8::3", false),
            ("2001:db8:0:1::1", true),
        ] {
            assert_eq!(failed.note(address(from)).is_ok(), passes, "{from}");
        }
        let never = FailedLogins::new(None);
        assert!((0..100).all(|_| never.note(address("10.0.0.1")).is_ok()));
    }

    #[test]
    fn more_addresses_than_can_be_counted_are_refused_and_take_no_memory() {
        let failed = FailedLogins::new(Some(RateLimit::new(1, Duration::from_secs(3_600), 1)));
        for number in 0..20_000_u32 {
            let _ = failed.note(IpAddr::V4(number.into()));
        }
        assert_eq!(failed.limiter.as_ref().unwrap().len(), ADDRESSES_MAX);
        assert_eq!(failed.note("10.0.0.1".parse().unwrap()), Err(1));
    }
}
