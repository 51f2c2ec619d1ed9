//! The time: given to whoever needs it, never taken.
//!
//! A clock runs on the monotonic clock of the machine from one reading of its wall clock; the offset
//! to the database's time, which all nodes share, is added as it is learned. Tests wind a clock by
//! hand. What must not be moved by a correction is measured with [`Clock::steady`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::model::time::Timestamp;

/// A clock that is shared by all who hold it.
#[derive(Debug, Clone)]
pub struct Clock {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `None` for a clock that is wound by hand.
    started: Option<Instant>,
    /// Milliseconds since 1970 at the start, plus every offset and winding since.
    base_millis: AtomicI64,
    /// How far a clock was wound by hand.
    wound_millis: AtomicU64,
    /// How far the clock of the machine was behind at the last correction.
    ahead_millis: AtomicI64,
}

impl Clock {
    /// The clock of this machine.
    pub fn system() -> Self {
        Self::starting(Some(Instant::now()), system_time())
    }

    /// A clock that stands still at a moment until it is wound.
    pub fn wound(now: Timestamp) -> Self {
        Self::starting(None, now)
    }

    fn starting(started: Option<Instant>, now: Timestamp) -> Self {
        let base_millis = AtomicI64::new(now.as_millis());
        let (wound_millis, ahead_millis) = (AtomicU64::new(0), AtomicI64::new(0));
        Self { inner: Arc::new(Inner { started, base_millis, wound_millis, ahead_millis }) }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        let base = Timestamp::from_millis(self.inner.base_millis.load(Ordering::Relaxed));
        self.inner.started.map_or(base, |started| base + started.elapsed())
    }

    /// The time in nanoseconds since 1970, for traces, which tell of parts of a millisecond.
    pub fn now_nanos(&self) -> u64 {
        let base = u64::try_from(self.inner.base_millis.load(Ordering::Relaxed)).unwrap_or(0);
        let ran = self.inner.started.map_or(Duration::ZERO, |started| started.elapsed());
        Duration::from_millis(base).saturating_add(ran).as_nanos().try_into().unwrap_or(u64::MAX)
    }

    /// How long the clock has run. No correction moves it, so that a time measured with it is one
    /// that passed.
    pub fn steady(&self) -> Duration {
        let wound = || Duration::from_millis(self.inner.wound_millis.load(Ordering::Relaxed));
        self.inner.started.map_or_else(wound, |started| started.elapsed())
    }

    /// The time of the database, which has just said it. A clock that is wound by hand is the time
    /// of the database too.
    pub fn database_time(&self, said: Timestamp) -> Timestamp {
        self.inner.started.map_or_else(|| self.now(), |_| said)
    }

    /// Moves a clock that is wound by hand.
    pub fn wind(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.inner.base_millis.fetch_add(millis, Ordering::Relaxed);
        self.inner.wound_millis.fetch_add(millis.unsigned_abs(), Ordering::Relaxed);
    }

    /// How many milliseconds the time of the database is ahead of this clock. A clock that is wound
    /// by hand follows nobody, and is never off.
    pub fn offset_to(&self, database: Timestamp) -> i64 {
        match self.inner.started {
            Some(_) => database.as_millis() - self.now().as_millis(),
            None => 0,
        }
    }

    /// Moves the clock by so many milliseconds, to where [`Clock::offset_to`] said.
    pub fn correct(&self, offset_millis: i64) {
        self.inner.base_millis.fetch_add(offset_millis, Ordering::Relaxed);
        let ahead = self
            .inner
            .started
            .map_or(offset_millis, |_| self.now().as_millis() - system_time().as_millis());
        self.inner.ahead_millis.store(ahead, Ordering::Relaxed);
    }

    /// How many milliseconds the time of the database was ahead of what the machine's own clock said, when it was last
    /// compared with. A clock that is wound by hand was as far behind as it was corrected.
    pub fn ahead_of_machine(&self) -> i64 {
        self.inner.ahead_millis.load(Ordering::Relaxed)
    }
}

/// What the wall clock of this machine says.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock of the machine")]
pub fn system_time() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(0) + since
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wound_clock_stands_still_until_it_is_wound() {
        let clock = Clock::wound(Timestamp::from_millis(1_000));
        assert_eq!(clock.now().as_millis(), 1_000);
        clock.clone().wind(Duration::from_secs(5));
        assert_eq!((clock.now().as_millis(), clock.now_nanos()), (6_000, 6_000_000_000));
        assert_eq!(clock.offset_to(Timestamp::from_millis(0)), 0);
    }

    #[test]
    fn a_correction_moves_the_time_and_not_what_was_measured() {
        let clock = Clock::wound(Timestamp::from_millis(1_000));
        clock.wind(Duration::from_secs(5));
        clock.correct(-4_000);
        assert_eq!((clock.now().as_millis(), clock.ahead_of_machine()), (2_000, -4_000));
        assert_eq!(clock.steady(), Duration::from_secs(5));
        let clock = Clock::system();
        clock.correct(-3_600_000);
        assert!(clock.steady() < Duration::from_hours(1));
        assert_eq!(clock.database_time(Timestamp::from_millis(7)).as_millis(), 7);
    }

    #[test]
    fn a_system_clock_follows_the_database() {
        let clock = Clock::system();
        clock.correct(clock.offset_to(clock.now() + Duration::from_mins(1)));
        assert!(clock.now().since(system_time()) >= Duration::from_secs(59));
        assert!(clock.ahead_of_machine() >= 59_000);
        // as after a pause of the machine, which its own clock has gone on through
        clock.correct(clock.offset_to(system_time()));
        assert!(clock.ahead_of_machine().abs() < 1_000);
    }
}
