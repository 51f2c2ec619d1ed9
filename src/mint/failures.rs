//! How many credentials that are nobody's each address may send: a bucket a source, in a table of a size
//! that is fixed.
//!
//! A face asks here only after a credential was looked up and found to be nobody's, so that a right API
//! key is never held up, whoever fails beside it. Each node counts for itself.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use parking_lot::Mutex;

use crate::model::source::Source;
use crate::model::time::Timestamp;

/// Tables that are locked apart.
const SHARDS: usize = 64;
/// Sets of a table. In all there are 2^20 places of 16 bytes, whose pages the system gives as they are
/// written.
const SETS: usize = 2_048;
/// Places of a set: a source has one of these and no other.
const WAYS: usize = 8;
/// The time in which a full bucket runs empty.
const SPAN_MICROS: i64 = 60_000_000;
/// Failures at once, and then in a minute, where nobody says otherwise: thirty pods behind one address that
/// start with a wrong key all learn what is wrong, though their library tries two ways of sending it.
const DEFAULT_PER_MINUTE: u32 = 60;

/// The source, and the microsecond at which its bucket is empty.
type Place = (u64, i64);
type Set = [Place; WAYS];

/// More credentials that are nobody's came from an address than may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyFailures {
    /// Seconds until the next one is told what is wrong with it.
    pub retry_after: u64,
}

/// What failed from which address.
#[derive(Debug)]
pub struct Failures {
    /// What one failure adds to a bucket; nothing where failures are not held to a rate.
    micros_each: Option<i64>,
    /// Keyed by chance, so that nobody can choose sources that share a set.
    hasher: RandomState,
    shards: Box<[Mutex<Vec<Set>>]>,
}

impl Default for Failures {
    fn default() -> Self {
        Self::per_minute(DEFAULT_PER_MINUTE)
    }
}

impl Failures {
    /// Allows so many at once, and then so many a minute; 0 is no bound.
    pub fn per_minute(most: u32) -> Self {
        let micros_each = (most > 0).then(|| (SPAN_MICROS / i64::from(most.max(1))).max(1));
        // zeroes as the allocator gives them: a vector of structs would be written at the start
        let shard = || Mutex::new(vec![[(0, 0); WAYS]; SETS]);
        Self {
            shards: micros_each.into_iter().flat_map(|_| (0..SHARDS).map(|_| shard())).collect(),
            micros_each,
            hasher: RandomState::new(),
        }
    }

    /// Counts a credential that is nobody's. One that is refused here adds nothing: whoever goes on at
    /// full speed is told every second what is wrong with one of them.
    ///
    /// Where a set is full, the source that owes least is forgotten. All callers whose address cannot be
    /// told are one source.
    ///
    /// # Errors
    /// [`TooManyFailures`] for one above the rate.
    pub fn count(&self, from: Option<IpAddr>, now: Timestamp) -> Result<(), TooManyFailures> {
        let (source, now) = (Source::of(from).as_bits(), now.as_millis().saturating_mul(1_000));
        let Some(micros_each) = self.micros_each else { return Ok(()) };
        let Some((shard, set)) = self.place_of(source) else { return Ok(()) };
        let mut sets = shard.lock();
        let Some(place) = sets.get_mut(set).and_then(|set| place_in(set, source)) else {
            return Ok(());
        };
        let empty_at = if place.0 == source { place.1 } else { now };
        // never more than a bucket, also where a clock went back
        let owed = empty_at.saturating_sub(now).clamp(0, SPAN_MICROS);
        let room = SPAN_MICROS - owed - micros_each;
        let more = if room < 0 { 0 } else { micros_each };
        *place = (source, now.saturating_add(owed + more));
        match room {
            ..0 => Err(TooManyFailures { retry_after: room.unsigned_abs().div_ceil(1_000_000) }),
            _ => Ok(()),
        }
    }

    /// The table that a source is in, and its set there.
    fn place_of(&self, source: u64) -> Option<(&Mutex<Vec<Set>>, usize)> {
        let hash = self.hasher.hash_one(source);
        let [shard, _, _, _, set @ ..] = hash.to_le_bytes();
        let shard = self.shards.get(usize::from(shard) % SHARDS)?;
        Some((shard, u32::from_le_bytes(set) as usize % SETS))
    }
}

/// Where a source is, or else what is forgotten for it.
fn place_in(set: &mut Set, source: u64) -> Option<&mut Place> {
    match set.iter().position(|place| place.0 == source) {
        Some(at) => set.get_mut(at),
        None => set.iter_mut().min_by_key(|place| place.1),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn after(seconds: u64) -> Timestamp {
        START + Duration::from_secs(seconds)
    }

    #[expect(clippy::unnecessary_wraps, reason = "a caller has one or none")]
    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    /// How many of these pass.
    fn passing(failures: &Failures, from: Option<IpAddr>, now: Timestamp, tries: usize) -> usize {
        (0..tries).filter(|_| failures.count(from, now).is_ok()).count()
    }

    #[test]
    fn an_address_may_fail_so_often_at_once_and_then_so_often_a_minute() {
        let failures = Failures::per_minute(20);
        let one = address("192.0.2.1");
        assert_eq!(passing(&failures, one, START, 1_000), 20);
        assert_eq!(failures.count(one, START), Err(TooManyFailures { retry_after: 3 }));
        assert_eq!(failures.count(one, after(1)), Err(TooManyFailures { retry_after: 2 }));
        assert_eq!(passing(&failures, one, after(3), 1_000), 1, "refusals prolong nothing");
        assert_eq!(passing(&failures, one, after(33), 1_000), 10);
        assert_eq!(passing(&failures, one, after(1_000), 1_000), 20, "and no more than a bucket");
        assert_eq!(passing(&failures, address("192.0.2.2"), after(1_000), 1_000), 20);
    }

    #[test]
    fn one_source_is_one_source_in_every_spelling() {
        let failures = Failures::per_minute(5);
        let spellings = ["192.0.2.1", "::ffff:192.0.2.1", "64:ff9b::192.0.2.1", "::192.0.2.1"];
        let passed = (0..4)
            .flat_map(|_| spellings)
            .filter(|text| failures.count(address(text), START).is_ok());
        assert_eq!(passed.count(), 5);
        let network = (0..20_u128)
            .map(|host| IpAddr::from((0x2001_0db8_u128 << 96 | host << 59).to_be_bytes()));
        assert_eq!(network.filter(|one| failures.count(Some(*one), START).is_ok()).count(), 5);
        assert_eq!(passing(&failures, address("2001:db8:0:1::"), START, 20), 5);
        assert_eq!(passing(&failures, None, START, 20), 5, "who cannot be told is one source");
        assert_eq!(passing(&failures, address("::1"), START, 20), 5);
    }

    #[test]
    fn two_hundred_at_once_are_counted_one_by_one() {
        let (failures, passed) = (Failures::per_minute(50), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..200 {
                scope.spawn(|| {
                    let ok = failures.count(address("192.0.2.1"), START).is_ok();
                    passed.fetch_add(usize::from(ok), Ordering::Relaxed);
                });
            }
        });
        assert_eq!(passed.into_inner(), 50);
    }

    #[test]
    fn two_million_sources_take_the_room_of_one_and_forget_who_owes_most_last() {
        let failures = Failures::default();
        let flooding = address("2001:db8::");
        assert_eq!(passing(&failures, flooding, START, 100), 60);
        for source in 0..2_000_000_u32 {
            let one = IpAddr::V4(Ipv4Addr::from(source));
            assert!(failures.count(Some(one), START).is_ok(), "{one}");
        }
        assert_eq!(passing(&failures, flooding, START, 100), 0);
        let bytes: usize =
            failures.shards.iter().map(|shard| shard.lock().capacity() * size_of::<Set>()).sum();
        assert_eq!(bytes, 16 << 20);
    }

    #[test]
    fn a_clock_that_goes_back_holds_nobody_up_for_longer() {
        let failures = Failures::per_minute(60);
        let one = address("192.0.2.1");
        assert_eq!(passing(&failures, one, after(86_400), 100), 60);
        assert_eq!(failures.count(one, START), Err(TooManyFailures { retry_after: 1 }));
        assert_eq!(passing(&failures, one, after(60), 100), 60);
    }

    #[test]
    fn zero_is_no_bound_and_takes_no_room() {
        let failures = Failures::per_minute(0);
        assert_eq!(passing(&failures, address("192.0.2.1"), START, 1_000), 1_000);
        assert!(failures.shards.is_empty());
        assert_eq!(passing(&Failures::per_minute(u32::MAX), None, START, 1_000), 1_000);
    }
}
