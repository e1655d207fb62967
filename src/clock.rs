//! The time that decisions are made by: it follows the system's clock, but not its jumps. A clock that is set wrong for a
//! while must not remove records, bring expired API keys back, or free idempotency keys.
//!
//! The daemon counts on from the time at its start. As long as the system's clock agrees within five minutes, it is followed.
//! After a jump the daemon counts on, and follows the clock once it has stayed there for an hour. The daemon's time is
//! kept in a file: for an hour after a start, the time from before the start counts, too. Never sets the system's
//! clock.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rookery_model::Timestamp;
use tokio::time::{Instant, MissedTickBehavior};

/// How far the system's clock may go from ours without being taken for a jump: more than time servers correct at once, and
/// less than any decision depends on.
const JUMP_MS: i64 = 5 * 60_000;
/// A jump is followed when the clock has stayed there for this long: wrong clocks are corrected sooner, and the clock
/// of a virtual machine that slept is soon right again.
const FOLLOWED_AFTER: Duration = Duration::from_secs(3_600);
/// How often the daemon reads the system's clock and writes its own time to the file: far less than a jump.
const LOOK_INTERVAL: Duration = Duration::from_millis(LOOK_INTERVAL_MS.unsigned_abs());
const LOOK_INTERVAL_MS: i64 = 10_000;
/// 1 January 2025. A clock that shows less was not set yet, as at the boot of a board without a battery: it is followed at once.
const PLAUSIBLE_FROM: Timestamp = Timestamp(1_735_689_600_000);

/// The daemon's clock; clones share their state.
#[derive(Clone)]
pub(crate) struct Clock(Arc<Inner>);

struct Inner {
    system: Box<dyn Fn() -> Timestamp + Send + Sync>,
    begun: Instant,
    /// Our time when `begun` was; read without a lock by every request.
    begun_at_ms: AtomicI64,
    jump: Mutex<Option<Jump>>,
    /// The file that keeps our time, and the time in it at the start: it was written before the start.
    file: Option<PathBuf>,
    kept_ms: Option<i64>,
}

/// The system's clock shows another time than we count.
#[derive(Copy, Clone)]
struct Jump {
    since: Instant,
    /// The time that the system's clock would have shown when we began.
    begun_at_ms: i64,
}

impl Clock {
    /// Begins with the system's time.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self::following(Timestamp::now)
    }

    /// Begins with the system's time, and keeps ours in a file. Blocks for a moment.
    pub(crate) fn kept_in(file: PathBuf) -> Self {
        Self::begin(Timestamp::now, Some(file))
    }

    /// Begins with the time that `system` shows.
    #[cfg(test)]
    pub(crate) fn following(system: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self::begin(system, None)
    }

    /// Begins with the time that `system` shows, and keeps our time in a file.
    #[cfg(test)]
    pub(crate) fn of(system: impl Fn() -> Timestamp + Send + Sync + 'static, file: PathBuf) -> Self {
        Self::begin(system, Some(file))
    }

    fn begin(system: impl Fn() -> Timestamp + Send + Sync + 'static, file: Option<PathBuf>) -> Self {
        let begun_at_ms = AtomicI64::new(system().0);
        let kept_ms = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
        let (system, begun, jump) = (Box::new(system), Instant::now(), Mutex::default());
        Self(Arc::new(Inner { system, begun, begun_at_ms, jump, file, kept_ms }))
    }

    /// The time without the jumps of the system's clock: for times from which something is counted.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.0.begun_at_ms.load(Ordering::Relaxed).saturating_add(self.0.elapsed_ms()))
    }

    /// The system's time: for times that are shown to people. Decisions never use it.
    pub(crate) fn system(&self) -> Timestamp {
        (self.0.system)()
    }

    /// The earlier of our time and the system's: a record has to be due by both before it is removed or forgotten.
    pub(crate) fn earliest(&self) -> Timestamp {
        let times = self.now().min(self.system());
        self.counted_on().map_or(times, |counted| times.min(counted))
    }

    /// The later of our time and the system's: a right has to last by both.
    pub(crate) fn latest(&self) -> Timestamp {
        let times = self.now().max(self.system());
        // A killed daemon may have counted on after it last wrote its time.
        self.counted_on().map_or(times, |counted| times.max(Timestamp(counted.0.saturating_add(LOOK_INTERVAL_MS))))
    }

    /// Our time, counted on from before the start: the system's clock may have been set wrong while the daemon did not
    /// run.
    fn counted_on(&self) -> Option<Timestamp> {
        let kept_ms = self.0.kept_ms.filter(|_| self.0.begun.elapsed() < FOLLOWED_AFTER)?;
        Some(Timestamp(kept_ms.saturating_add(self.0.elapsed_ms())))
    }

    /// Keeps our time for the next start. Blocks for a moment.
    pub(crate) fn keep(&self) {
        let Some(file) = &self.0.file else { return };
        let time = self.counted_on().unwrap_or_else(|| self.now());
        // Overwrites the old time: a full disk has room for that, and a kill leaves the old or the new time.
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(file);
        let kept = file.and_then(|file| file.write_all_at(format!("{:013}", time.0).as_bytes(), 0));
        if let Err(error) = kept {
            tracing::debug!(%error, "could not keep the time");
        }
    }

    /// Reads the system's clock and writes our time every few seconds; never returns.
    pub(crate) async fn run(&self) {
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look();
            let clock = self.clone();
            let _ = tokio::task::spawn_blocking(move || clock.keep()).await;
        }
    }

    fn look(&self) {
        let mut jump = self.0.jump.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, ours) = (Instant::now(), self.0.begun_at_ms.load(Ordering::Relaxed));
        let theirs = self.system().0.saturating_sub(self.0.elapsed_ms());
        let is_near = |ms: i64| ms.abs_diff(theirs) <= JUMP_MS.unsigned_abs();
        let is_followed = match *jump {
            _ if is_near(ours) || self.now() < PLAUSIBLE_FROM => true,
            Some(Jump { since, begun_at_ms }) if is_near(begun_at_ms) => now.duration_since(since) >= FOLLOWED_AFTER,
            _ => {
                tracing::warn!(
                    jump_s = (theirs.saturating_sub(ours)) / 1_000,
                    "the system's clock jumped: the daemon counts on, and follows the clock when it stays there for an hour"
                );
                *jump = Some(Jump { since: now, begun_at_ms: theirs });
                false
            }
        };
        if is_followed {
            *jump = None;
            self.0.begun_at_ms.store(theirs, Ordering::Relaxed);
        }
    }
}

impl Inner {
    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    /// A system's clock that can be set, in tokio's paused time.
    #[derive(Clone)]
    pub(crate) struct SetClock(Arc<AtomicI64>);

    impl SetClock {
        pub(crate) fn new() -> (Self, Clock) {
            let (ahead_ms, begun) = (Arc::new(AtomicI64::new(0)), Instant::now());
            let set = Self(Arc::clone(&ahead_ms));
            let started = Timestamp::now().0;
            let system = move || {
                let elapsed = i64::try_from(begun.elapsed().as_millis()).unwrap();
                Timestamp(started + elapsed + ahead_ms.load(Ordering::Relaxed))
            };
            (set, Clock::following(system))
        }

        /// Sets the clock ahead of, or behind, the true time.
        pub(crate) fn ahead(&self, days: i64) {
            self.0.store(days * DAY_MS, Ordering::Relaxed);
        }
    }

    fn days_between(clock: &Clock, begun: Timestamp) -> [i64; 3] {
        let days = |time: Timestamp| (time.0 - begun.0).div_euclid(DAY_MS);
        [clock.earliest(), clock.now(), clock.latest()].map(days)
    }

    #[tokio::test(start_paused = true)]
    async fn a_jump_of_the_system_clock_counts_after_an_hour_at_the_same_place() {
        let (set, clock) = SetClock::new();
        let begun = clock.now();
        let running = clock.clone();
        let task = tokio::spawn(async move { running.run().await });
        let sleep = |minutes: u64| tokio::time::sleep(Duration::from_secs(minutes * 60));
        sleep(1).await;
        set.ahead(100);
        sleep(30).await;
        assert_eq!(days_between(&clock, begun), [0, 0, 100]);
        set.ahead(0);
        sleep(1).await;
        set.ahead(-100);
        sleep(45).await;
        assert_eq!(days_between(&clock, begun), [-100, 0, 0]);
        set.ahead(100);
        sleep(45).await;
        assert_eq!(days_between(&clock, begun), [0, 0, 100], "the hour begins anew with each jump");
        sleep(20).await;
        assert_eq!(days_between(&clock, begun), [100, 100, 100]);
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_wrong_at_a_start_counts_after_an_hour() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("clock");
        let begin = |days: i64| {
            let (set, system) = SetClock::new();
            set.ahead(days);
            Clock::of(move || system.system(), file.clone())
        };
        let begun = begin(0).now();
        begin(0).keep();
        for wrong in [100, -100] {
            let clock = begin(wrong);
            assert_eq!(days_between(&clock, begun), if wrong > 0 { [0, 100, 100] } else { [-100, -100, 0] }, "{wrong}");
            // The next start learns nothing from a wrong clock.
            clock.keep();
        }
        let clock = begin(100);
        tokio::time::sleep(Duration::from_secs(3_601)).await;
        assert_eq!(days_between(&clock, begun), [100, 100, 100]);
    }

    #[tokio::test(start_paused = true)]
    async fn small_corrections_and_a_clock_that_was_not_set_are_followed_at_once() {
        let shown = Arc::new(AtomicI64::new(1_000));
        let system = Arc::clone(&shown);
        let clock = Clock::following(move || Timestamp(system.load(Ordering::Relaxed)));
        for ms in [PLAUSIBLE_FROM.0 + DAY_MS, PLAUSIBLE_FROM.0 + DAY_MS + JUMP_MS, PLAUSIBLE_FROM.0 + DAY_MS] {
            shown.store(ms, Ordering::Relaxed);
            clock.look();
            assert_eq!(clock.now(), Timestamp(ms));
        }
    }
}
