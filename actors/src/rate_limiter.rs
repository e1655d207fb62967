//! How often a session may ask WhatsApp for what: our own limits, and the pauses that WhatsApp asks for. Never waits.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::DefaultDirectRateLimiter;
use governor::clock::{Clock as _, DefaultClock};

use crate::error::{CommandError, Limited, Paused};
use crate::options::{RateLimit, RateLimits, whole_seconds};
use rookery_engine::EngineError;
use rookery_model::{LimitPause, PausedWork, Timestamp};

/// The pause after a 429 without a hint: WhatsApp's own clients wait about a minute.
const PAUSE_DEFAULT_S: u32 = 60;
/// The longest pause: a longer hint is a mistake, or a restriction that shows in other ways.
const PAUSE_MAX_S: u32 = 24 * 3600;

/// The cost of a request, and the limit that it counts against.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    /// A group or community is made, with so many people, who count as added.
    Create {
        /// How many people it is made with.
        participants: u32,
    },
    /// So many people are added or let in.
    Add(u32),
    /// Something else is changed.
    Write,
    /// A change that was counted before its caller began to work for it.
    Counted,
    /// A question that only WhatsApp can answer.
    Query,
    /// A message is sent.
    Message,
    /// A lookup of phone numbers, however many of them.
    Lookup,
    /// The same for a command that waits: callers who only check numbers do not use up what changes need.
    LookupOrQuery,
}

/// One session's limits.
pub(crate) struct RateLimiter {
    create: Option<Limit>,
    /// A create was counted and then refused because of its people: the next create is counted already.
    create_counted: AtomicBool,
    add: Option<Limit>,
    write: Option<Limit>,
    query: Option<Limit>,
    lookup: Option<Limit>,
    message: Option<Limit>,
    clock: DefaultClock,
    /// The pause of changes that WhatsApp asked for.
    changes_pause: Pause,
    /// The same for lookups.
    lookups_pause: Pause,
}

/// The end of a pause that WhatsApp asked for; none before the first.
#[derive(Default)]
struct Pause(Mutex<Option<Instant>>);

struct Limit {
    of: Limited,
    rate_limit: RateLimit,
    limiter: DefaultDirectRateLimiter,
}

impl RateLimiter {
    pub(crate) fn new(rate_limits: &RateLimits) -> Self {
        let limit = |of, rate_limit: Option<RateLimit>| rate_limit.map(|rate_limit| Limit::new(of, rate_limit));
        Self {
            create: limit(Limited::Create, rate_limits.create),
            create_counted: AtomicBool::new(false),
            add: limit(Limited::Add, rate_limits.add),
            write: limit(Limited::Write, rate_limits.write),
            query: limit(Limited::Query, rate_limits.query),
            lookup: limit(Limited::Lookup, rate_limits.lookup),
            message: limit(Limited::Message, rate_limits.message),
            clock: DefaultClock::default(),
            changes_pause: Pause::default(),
            lookups_pause: Pause::default(),
        }
    }

    /// Counts a request, or says why it has to wait.
    pub(crate) fn take(&self, cost: Cost) -> Result<(), CommandError> {
        match cost {
            Cost::Query => {}
            Cost::Lookup | Cost::LookupOrQuery if self.lookups_pause.left().is_some() => {
                return Err(self.lookups_rate_limited());
            }
            Cost::Lookup | Cost::LookupOrQuery => {}
            _ if self.changes_pause.left().is_some() => return Err(self.rate_limited()),
            _ => {}
        }
        match cost {
            Cost::Create { participants } => {
                if !self.create_counted.swap(false, Ordering::Relaxed) {
                    self.count(self.create.as_ref(), 1)?;
                }
                self.count(self.add.as_ref(), participants)
                    .inspect_err(|_| self.create_counted.store(true, Ordering::Relaxed))
            }
            Cost::Add(count) => self.count(self.add.as_ref(), count),
            Cost::Write => self.count(self.write.as_ref(), 1),
            Cost::Query => self.count(self.query.as_ref(), 1),
            Cost::Message => self.count(self.message.as_ref(), 1),
            Cost::Lookup => self.count(self.lookup.as_ref(), 1),
            Cost::LookupOrQuery => self.count(self.lookup.as_ref(), 1).or_else(|_| self.count(self.query.as_ref(), 1)),
            Cost::Counted => Ok(()),
        }
    }

    fn count(&self, limit: Option<&Limit>, count: u32) -> Result<(), CommandError> {
        limit.map_or(Ok(()), |limit| limit.take(count, &self.clock))
    }

    /// WhatsApp asked to slow down: for so many seconds, or for its usual time. A pause is never shortened.
    pub(crate) fn pause(&self, seconds: Option<u32>) {
        self.changes_pause.extend(seconds);
    }

    /// Notes the pause that an answer of WhatsApp asks for, if there is one.
    pub(crate) fn observe_backoff(&self, error: &EngineError) {
        if let Some(seconds) = backoff_of(error) {
            self.changes_pause.extend(seconds);
        }
    }

    /// Notes the pause that an answer to a lookup asks for, if there is one: of lookups alone, as WhatsApp limits them by themselves.
    pub(crate) fn observe_lookup_backoff(&self, error: &EngineError) {
        if let Some(seconds) = backoff_of(error) {
            self.lookups_pause.extend(seconds);
        }
    }

    /// The error for callers while the pause lasts.
    pub(crate) fn rate_limited(&self) -> CommandError {
        self.changes_pause.error(Paused::Changes)
    }

    /// The error for lookups; `None` where they do not pause.
    pub(crate) fn lookups_paused(&self) -> Option<CommandError> {
        self.lookups_pause.left().map(|_| self.lookups_rate_limited())
    }

    /// The same for lookups.
    pub(crate) fn lookups_rate_limited(&self) -> CommandError {
        self.lookups_pause.error(Paused::Lookups)
    }

    /// What pauses now, and until when.
    pub(crate) fn pauses(&self) -> Vec<LimitPause> {
        let now = Timestamp::now().0;
        let pause = |what, pause: &Pause| {
            let left = i64::try_from(pause.left()?.as_millis()).unwrap_or(i64::MAX);
            Some(LimitPause { what, until: Timestamp(now.saturating_add(left)) })
        };
        let changes = pause(PausedWork::Changes, &self.changes_pause);
        changes.into_iter().chain(pause(PausedWork::Lookups, &self.lookups_pause)).collect()
    }

    /// The rest of the pause; `None`: there is no pause.
    pub(crate) fn pause_left(&self) -> Option<Duration> {
        self.changes_pause.left()
    }
}

/// The seconds of the pause that an answer asks for, where it says how many; `None`: it asks for none.
fn backoff_of(error: &EngineError) -> Option<Option<u32>> {
    match error {
        EngineError::Refused { code, backoff_s } if *code == 429 || backoff_s.is_some() => Some(*backoff_s),
        _ => None,
    }
}

impl Pause {
    fn extend(&self, seconds: Option<u32>) {
        let seconds = seconds.unwrap_or(PAUSE_DEFAULT_S).min(PAUSE_MAX_S);
        let until = Instant::now() + Duration::from_secs(seconds.into());
        let mut paused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = paused.max(Some(until));
    }

    fn left(&self) -> Option<Duration> {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    fn error(&self, what: Paused) -> CommandError {
        CommandError::RateLimited { what, retry_after_s: whole_seconds(self.left().unwrap_or_default()).max(1) }
    }
}

impl Limit {
    fn new(of: Limited, rate_limit: RateLimit) -> Self {
        Self { of, rate_limit, limiter: DefaultDirectRateLimiter::direct(rate_limit.quota()) }
    }

    fn take(&self, count: u32, clock: &DefaultClock) -> Result<(), CommandError> {
        let Some(count) = NonZeroU32::new(count.min(self.rate_limit.burst.get())) else { return Ok(()) };
        match self.limiter.check_n(count) {
            Ok(Err(not_until)) => Err(CommandError::LimitReached {
                limit: self.of,
                allowed: self.rate_limit.to_string(),
                retry_after_s: whole_seconds(not_until.wait_time_from(clock.now())).max(1),
            }),
            // A request above the burst is counted as the burst.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_and_the_next_one_is_told_when_to_come_back() {
        let hour = Duration::from_secs(3_600);
        let rate_limiter =
            RateLimiter::new(&RateLimits { create: Some(RateLimit::new(10, hour, 2)), ..RateLimits::default() });
        assert_eq!(
            [rate_limiter.take(Cost::Create { participants: 1 }), rate_limiter.take(Cost::Create { participants: 1 })],
            [Ok(()), Ok(())]
        );
        let Err(CommandError::LimitReached { limit, allowed, retry_after_s }) =
            rate_limiter.take(Cost::Create { participants: 1 })
        else {
            panic!("has to wait")
        };
        assert_eq!((limit.to_string().as_str(), allowed.as_str()), ("creating groups", "2 at once and 10 an hour"));
        assert!((350..=360).contains(&retry_after_s), "{retry_after_s}");
        assert_eq!(rate_limiter.take(Cost::Write), Ok(()), "each class has a limit of its own");
    }

    #[test]
    fn people_are_counted_one_by_one() {
        let rate_limits =
            RateLimits { add: Some(RateLimit::new(1, Duration::from_secs(60), 256)), ..RateLimits::default() };
        let rate_limiter = RateLimiter::new(&rate_limits);
        assert_eq!(rate_limiter.take(Cost::Add(200)), Ok(()));
        assert!(rate_limiter.take(Cost::Add(100)).is_err());
        assert_eq!(rate_limiter.take(Cost::Add(56)), Ok(()));
    }

    #[test]
    fn a_create_that_is_refused_because_of_its_people_is_not_counted() {
        let (hour, minute) = (Duration::from_secs(3_600), Duration::from_secs(60));
        let (create, add) = (Some(RateLimit::new(1, hour, 1)), Some(RateLimit::new(1, minute, 256)));
        let rate_limiter = RateLimiter::new(&RateLimits { create, add, ..RateLimits::default() });
        let refused_for = |cost| match rate_limiter.take(cost) {
            Err(CommandError::LimitReached { limit, .. }) => limit,
            other => panic!("has to wait: {other:?}"),
        };
        assert_eq!(rate_limiter.take(Cost::Add(250)), Ok(()));
        assert_eq!(refused_for(Cost::Create { participants: 100 }), Limited::Add);
        assert_eq!(refused_for(Cost::Create { participants: 100 }), Limited::Add);
        assert_eq!(rate_limiter.take(Cost::Create { participants: 3 }), Ok(()));
        assert_eq!(refused_for(Cost::Create { participants: 1 }), Limited::Create);
    }

    #[test]
    fn a_pause_stops_writes_and_not_questions() {
        let rate_limiter = RateLimiter::new(&RateLimits {
            create: None,
            add: None,
            write: None,
            query: None,
            lookup: None,
            message: None,
        });
        rate_limiter.pause(Some(30));
        rate_limiter.pause(Some(5));
        for cost in [Cost::Create { participants: 1 }, Cost::Add(1), Cost::Write] {
            assert_eq!(
                rate_limiter.take(cost),
                Err(CommandError::RateLimited { what: Paused::Changes, retry_after_s: 30 })
            );
        }
        assert_eq!(rate_limiter.take(Cost::Query), Ok(()));
    }
}
