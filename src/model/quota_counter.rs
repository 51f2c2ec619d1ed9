//! The counter of a quota, as the database holds it: how many permits were granted in which slot.
//!
//! A node leases permits, and they count as used from then on; those that it did not use it gives
//! back. The store keeps a counter as one text, so that a grant is one row that is read and
//! written; who changes one holds the lock on its row. Nothing here knows where the time is from.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::model::quota::{Quota, Window};
use crate::model::time::Timestamp;

/// Of what is free beyond the requests that wait, the part that a node may lease ahead of need. What
/// it does not use is out of reach for other nodes until it gives it back.
const AHEAD_SHARE: u32 = 4;
/// A lease that would end sooner is one of the next slot, so that none is over when it arrives.
const MIN_LIFE: Duration = Duration::from_millis(3);

/// What a node asks of a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseAsk {
    /// The quota that is counted against.
    pub quota: Quota,
    /// Requests that wait for a permit.
    pub waiting: u32,
    /// Permits that are wanted for the requests to come.
    pub ahead: u32,
    /// Permits of earlier leases that nobody used and nobody will.
    pub unused: Vec<(Slot, u32)>,
}

/// Permits for what is left of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// In which slot they are counted, which is how they are given back.
    pub slot: Slot,
    /// How many there are; none where the quota is spent.
    pub permits: u32,
    /// How long they are good for, from the moment of the grant.
    pub lasts: Duration,
    /// How many more could be had.
    pub free: u32,
    /// How long until the oldest use leaves the window; zero where there is none.
    pub oldest_leaves: Duration,
}

/// A slot of one counter. Slots of another numbering have nothing to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slot {
    /// Since when the counter numbers its slots without a break.
    numbered_since: i64,
    number: i64,
}

/// How many permits were granted in each slot that a window can still reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuotaCounter {
    window: Window,
    numbered_since: i64,
    granted: BTreeMap<i64, u32>,
}

impl QuotaCounter {
    /// Grants what can be granted now: all requests that wait, if there is enough, and a part of
    /// what is then free for those to come.
    pub fn grant(&mut self, ask: &LeaseAsk, now: Timestamp) -> Lease {
        self.grant_share(ask, 1, now)
    }

    /// The same, of the share that one of so many nodes has where nobody counts for all of them.
    pub fn grant_share(&mut self, ask: &LeaseAsk, nodes: u32, now: Timestamp) -> Lease {
        let window = ask.quota.window();
        self.number_for(window, now);
        self.take_back(&ask.unused);
        let share = ask.quota.limit() / nodes.max(1);
        let free = share.saturating_sub(self.total());
        let waiting = ask.waiting.min(free);
        let permits = waiting + ask.ahead.min((free - waiting) / AHEAD_SHARE);
        let number = window.slot_at(now + MIN_LIFE);
        if permits > 0 {
            let granted = self.granted.entry(number).or_default();
            *granted = granted.saturating_add(permits);
        }
        let oldest = self.granted.keys().next();
        Lease {
            slot: Slot { numbered_since: self.numbered_since, number },
            permits,
            lasts: window.start_of(number.saturating_add(1)).since(now),
            free: free - permits,
            oldest_leaves: oldest.map_or(Duration::ZERO, |slot| window.left_by(*slot).since(now)),
        }
    }

    /// When the last use has left the window: from then on, the counter is worth nothing. Rounded
    /// up to whole windows, since an index holds it.
    pub fn idle_at(&self) -> Timestamp {
        let Some(newest) = self.granted.keys().next_back() else {
            return Timestamp::from_millis(0);
        };
        let window = i64::from(self.window.as_seconds()) * 1000;
        let windows = self.window.left_by(*newest).as_millis().div_euclid(window);
        Timestamp::from_millis(windows.saturating_add(1).saturating_mul(window))
    }

    fn total(&self) -> u32 {
        self.granted.values().fold(0, |total, granted| total.saturating_add(*granted))
    }

    /// Forgets what has left the window. Where the window is another one than before, or the clock
    /// went back, every use is counted anew: as late as it can have been, but never later than now.
    fn number_for(&mut self, window: Window, now: Timestamp) {
        let current = window.slot_at(now);
        // a lease of the next slot is no sign of a clock that went back
        let latest = current.saturating_add(1);
        let went_back = self.granted.keys().next_back().is_some_and(|newest| *newest > latest);
        if self.window != window || went_back {
            let old = std::mem::replace(&mut self.window, window);
            for (slot, granted) in std::mem::take(&mut self.granted) {
                let slot = if old == window { slot } else { window.slot_at(last_of(old, slot)) };
                let place = self.granted.entry(slot.min(latest)).or_default();
                *place = place.saturating_add(granted);
            }
            self.number_anew(now);
        } else if self.granted.is_empty() {
            self.number_anew(now);
        }
        self.granted = self.granted.split_off(&current.saturating_sub(window.slots()));
    }

    /// A clock that went back can come to the very moment of an earlier numbering.
    fn number_anew(&mut self, now: Timestamp) {
        self.numbered_since = now.as_millis().max(self.numbered_since.saturating_add(1));
    }

    /// What is given back must be of a slot that is numbered as it was when it was granted: else
    /// other permits could stand there now.
    fn take_back(&mut self, unused: &[(Slot, u32)]) {
        for (slot, permits) in unused {
            if slot.numbered_since == self.numbered_since
                && let Some(granted) = self.granted.get_mut(&slot.number)
            {
                *granted = granted.saturating_sub(*permits);
            }
        }
        self.granted.retain(|_, granted| *granted > 0);
    }
}

/// The last millisecond of a slot.
fn last_of(window: Window, slot: i64) -> Timestamp {
    let next = window.start_of(slot.saturating_add(1));
    Timestamp::from_millis(next.as_millis().saturating_sub(1))
}

impl fmt::Display for QuotaCounter {
    /// Window, start of the numbering, first slot, and each slot behind it with its permits:
    /// `60 1800000000000 1800000000 0:5 2:1`. An empty counter is an empty text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.granted.keys().next() else { return Ok(()) };
        write!(f, "{} {} {first}", self.window.as_seconds(), self.numbered_since)?;
        for (slot, granted) in &self.granted {
            write!(f, " {}:{granted}", slot.saturating_sub(*first))?;
        }
        Ok(())
    }
}

/// A text that is no counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidQuotaCounter;

impl fmt::Display for InvalidQuotaCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a counter is its window, two numbers, and `slot:permits` for each slot")
    }
}

impl std::error::Error for InvalidQuotaCounter {}

impl FromStr for QuotaCounter {
    type Err = InvalidQuotaCounter;

    fn from_str(text: &str) -> Result<Self, InvalidQuotaCounter> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        parsed(text).ok_or(InvalidQuotaCounter)
    }
}

fn parsed(text: &str) -> Option<QuotaCounter> {
    let mut fields = text.split(' ');
    let window = Window::from_seconds(fields.next()?.parse().ok()?)?;
    let numbered_since = fields.next()?.parse().ok()?;
    let first: i64 = fields.next()?.parse().ok()?;
    let granted = fields.map(|field| {
        let (behind, granted) = field.split_once(':')?;
        Some((first.checked_add(behind.parse().ok()?)?, granted.parse().ok()?))
    });
    Some(QuotaCounter { window, numbered_since, granted: granted.collect::<Option<_>>()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_800_000_000_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(START + millis)
    }

    fn ask(quota: &str, waiting: u32, ahead: u32) -> LeaseAsk {
        LeaseAsk { quota: quota.parse().unwrap(), waiting, ahead, unused: Vec::new() }
    }

    #[test]
    fn a_request_that_waits_comes_before_one_to_come() {
        let mut counter = QuotaCounter::default();
        let lease = counter.grant(&ask("100", 20, 1_000), at(0));
        assert_eq!((lease.permits, lease.free), (20 + 80 / 4, 60));
        assert_eq!(lease.lasts, Duration::from_secs(1));
        assert_eq!(lease.oldest_leaves, Duration::from_secs(61));
        let lease = counter.grant(&ask("100", 58, 2), at(0));
        assert_eq!((lease.permits, lease.free), (58, 2), "nothing is leased ahead of the last few");
        let lease = counter.grant(&ask("100", 5, 0), at(0));
        assert_eq!((lease.permits, lease.free), (2, 0));
        assert_eq!(counter.grant(&ask("100", 5, 5), at(60_999)).permits, 0);
        assert_eq!(counter.grant(&ask("100", 5, 5), at(61_000)).permits, 5 + 5);
    }

    #[test]
    fn what_was_not_used_is_free_again_once() {
        let mut counter = QuotaCounter::default();
        let lease = counter.grant(&ask("10", 10, 0), at(0));
        let mut back = ask("10", 5, 0);
        back.unused.push((lease.slot, 3));
        let next = counter.grant(&back, at(30_000));
        assert_eq!((next.permits, next.free), (3, 0));
        // more than was granted, and of a slot where nothing was granted
        back.unused = vec![(lease.slot, 100), (Slot { number: 1, ..lease.slot }, 5)];
        assert_eq!(counter.grant(&back, at(30_000)).permits, 5, "never more than the slot had");
    }

    #[test]
    fn permits_of_another_numbering_are_not_taken_back() {
        let mut counter = QuotaCounter::default();
        let lease = counter.grant(&ask("10", 5, 0), at(0));
        // the clock went back, and came to the same slot again
        counter.grant(&ask("10", 2, 0), at(-30_000));
        counter.grant(&ask("10", 3, 0), at(0));
        let mut back = ask("10", 5, 0);
        back.unused.push((lease.slot, 3));
        assert_eq!(counter.grant(&back, at(0)).permits, 0);
    }

    #[test]
    fn a_lease_is_never_over_when_it_arrives() {
        let mut counter = QuotaCounter::default();
        assert_eq!(counter.grant(&ask("10", 1, 0), at(997)).lasts, Duration::from_millis(1_003));
        assert_eq!(counter.grant(&ask("10", 1, 0), at(996)).lasts, Duration::from_millis(4));
    }

    #[test]
    fn a_clock_that_goes_back_freezes_no_quota_for_longer_than_a_window() {
        for back in [1, 999, 2_000, 59_000, 61_000, 3_600_000, 31 * 86_400_000] {
            let mut counter = QuotaCounter::default();
            assert_eq!(counter.grant(&ask("10", 10, 0), at(0)).permits, 10);
            let jumped = -back;
            assert_eq!(counter.grant(&ask("10", 1, 0), at(jumped)).permits, 0, "{back}");
            assert_eq!(counter.grant(&ask("10", 1, 0), at(jumped + 59_999)).permits, 0, "{back}");
            assert_eq!(counter.grant(&ask("10", 1, 0), at(jumped + 62_000)).permits, 1, "{back}");
        }
    }

    #[test]
    fn another_window_counts_what_is_known() {
        let mut counter = QuotaCounter::default();
        counter.grant(&ask("10/60", 4, 0), at(0));
        counter.grant(&ask("10/60", 3, 0), at(30_000));
        let lease = counter.grant(&ask("10/3600", 10, 0), at(30_500));
        assert_eq!((lease.permits, lease.free), (3, 0), "a longer one");
        let lease = counter.grant(&ask("10/10", 10, 0), at(3_630_000));
        assert_eq!(lease.permits, 10, "a shorter one");
        let mut counter = QuotaCounter::default();
        counter.grant(&ask("10/3600", 7, 0), at(0));
        assert_eq!(counter.grant(&ask("10/1", 10, 0), at(100)).permits, 3);
        assert_eq!(counter.grant(&ask("10/1", 10, 0), at(1_299)).permits, 3, "as now, not later");
        assert_eq!(counter.grant(&ask("10/1", 10, 0), at(1_300)).permits, 7);
    }

    #[test]
    fn a_lower_limit_holds_at_once() {
        let mut counter = QuotaCounter::default();
        counter.grant(&ask("100", 50, 0), at(0));
        assert_eq!(counter.grant(&ask("10", 1, 0), at(0)).permits, 0);
        assert_eq!(counter.grant(&ask("60", 50, 0), at(0)).permits, 10);
    }

    #[test]
    fn a_counter_is_idle_when_its_last_use_has_left() {
        let mut counter = QuotaCounter::default();
        assert_eq!(counter.idle_at().as_millis(), 0);
        let lease = counter.grant(&ask("10", 1, 0), at(500));
        assert!(counter.idle_at() >= at(500) + lease.oldest_leaves);
        assert!(counter.idle_at() <= at(500) + lease.oldest_leaves + Duration::from_mins(1));
    }

    #[test]
    fn a_text_that_is_no_counter_is_refused() {
        for text in [
            " ",
            "60",
            "60 1",
            "0 1 1 0:1",
            "x 1 1",
            "60 1 1 0",
            "60 1 1 0:",
            "60 1 1 0:-1",
            "60 1 9223372036854775807 1:1",
            "60 1 1  0:1",
            "60 1 1 0:4294967296",
        ] {
            assert!(text.parse::<QuotaCounter>().is_err(), "{text}");
        }
        let mut worst: QuotaCounter =
            "1 0 9223372036854775807 0:4294967295".parse().expect("it is in bounds");
        worst.grant(&ask("1", u32::MAX, u32::MAX), Timestamp::from_millis(i64::MIN));
        worst.grant(&ask("1000000000", u32::MAX, u32::MAX), Timestamp::from_millis(i64::MAX));
        worst.idle_at();
    }

    /// What happens to a counter.
    #[derive(Debug, Clone)]
    enum Step {
        Pass(i64),
        Jump(i64),
        Ask(u32, u32),
        GiveBack(usize, u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1_u32..5, 0_u32..9).prop_map(|(waiting, ahead)| Step::Ask(waiting, ahead)),
            4 => (0_i64..250).prop_map(Step::Pass),
            1 => (0_i64..3_000).prop_map(Step::Pass),
            1 => (-3_000_i64..3_000).prop_map(Step::Jump),
            1 => (any::<prop::sample::Index>(), 1_u32..3)
                .prop_map(|(which, permits)| Step::GiveBack(which.index(64), permits)),
        ]
    }

    proptest! {
        /// Time here is what passed, with what a clock jumps ahead added: a clock that goes back
        /// takes nothing away from it.
        #[test]
        fn no_window_ever_holds_more_permits_than_the_limit(
            steps in prop::collection::vec(step(), 1..200),
            limit in 1_u32..30,
            seconds in 1_u32..4,
        ) {
            let quota = format!("{limit}/{seconds}");
            let (mut counter, mut clock, mut passed) = (QuotaCounter::default(), 0, 0);
            let mut granted: Vec<(i64, Lease)> = Vec::new();
            for step in steps {
                match step {
                    Step::Pass(by) => (clock, passed) = (clock + by, passed + by),
                    Step::Jump(by) => (clock, passed) = (clock + by, passed + by.max(0)),
                    Step::Ask(waiting, ahead) => {
                        let lease = counter.grant(&ask(&quota, waiting, ahead), at(clock));
                        granted.push((passed, lease));
                    }
                    Step::GiveBack(which, permits) => {
                        if let Some((_, lease)) = granted.get_mut(which) {
                            let unused = permits.min(lease.permits);
                            lease.permits -= unused;
                            let unused = vec![(lease.slot, unused)];
                            counter.grant(&LeaseAsk { unused, ..ask(&quota, 0, 0) }, at(clock));
                        }
                    }
                }
                counter = counter.to_string().parse().unwrap();
            }
            for (from, _) in &granted {
                let window = from..&(from + i64::from(seconds) * 1000);
                let within = granted.iter().filter(|(moment, _)| window.contains(&moment));
                let total: u32 = within.map(|(_, lease)| lease.permits).sum();
                prop_assert!(total <= limit, "{} in the window from {}", total, from);
            }
        }

        #[test]
        fn a_request_is_refused_only_for_as_many_in_a_window_and_a_sixtieth(
            gaps in prop::collection::vec(0_i64..3_000, 1..120),
            limit in 1_u32..10,
            seconds in 1_u32..70,
        ) {
            let quota = format!("{limit}/{seconds}");
            let (mut counter, mut clock, mut uses) = (QuotaCounter::default(), 0, Vec::new());
            let slots = quota.parse::<Quota>().unwrap().window().slots();
            let window = i64::from(seconds) * 1000;
            let late = window / slots + 1 + i64::try_from(MIN_LIFE.as_millis()).unwrap();
            for gap in gaps {
                clock += gap;
                if counter.grant(&ask(&quota, 1, 0), at(clock)).permits == 1 {
                    uses.push(clock);
                } else {
                    let recent = uses.iter().filter(|used| **used > clock - window - late).count();
                    prop_assert!(recent >= limit as usize, "{recent} before {clock}");
                }
            }
        }
    }
}
