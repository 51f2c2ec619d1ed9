//! Figures of what a node does: counted on the way by whoever does it, told at `/metrics`.
//!
//! Counting is one addition without order: no lock, no allocation. What is counted for each request
//! is kept apart for each worker and added up when it is told, since two that write to one place
//! wait for each other.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Up to how long something took, for each bucket of a [`Histogram`] but the last one.
pub const BOUNDS: [Duration; 16] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// A figure that only grows, or one that is raised and lowered.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds so many.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes one away. Where workers count apart, one may be below zero and all together are not.
    pub fn lower(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// What was counted.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something took, each time.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [Counter; BOUNDS.len() + 1],
    nanos: Counter,
}

impl Histogram {
    /// Counts one that took so long.
    pub fn record(&self, took: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < took);
        if let Some(count) = self.counts.get(bucket) {
            count.add(1);
        }
        self.nanos.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// What histograms hold together.
#[derive(Debug, Default, Clone)]
pub struct Distribution {
    counts: [u64; BOUNDS.len() + 1],
    nanos: u64,
}

impl Distribution {
    /// Adds what a histogram holds.
    #[must_use]
    pub fn with(mut self, histogram: &Histogram) -> Self {
        for (sum, count) in self.counts.iter_mut().zip(&histogram.counts) {
            *sum += count.get();
        }
        self.nanos += histogram.nanos.get();
        self
    }

    /// How many took no longer than each of [`BOUNDS`], and how many there are.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bounds = BOUNDS.into_iter().map(Some).chain([None]);
        bounds.zip(&self.counts).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((bound, *sum))
        })
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long all of them took together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }
}

/// Parts that workers count in; more workers than parts share some.
const PARTS: usize = 16;

thread_local! {
    static PART: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % PARTS
    };
}

/// Figures that each worker counts in memory of its own.
#[derive(Debug)]
pub struct PerWorker<T> {
    first: Part<T>,
    others: Box<[Part<T>]>,
}

/// Memory that no other part shares a line of the cache with, nor the one that is fetched beside it.
#[derive(Debug)]
#[repr(align(128))]
struct Part<T>(T);

impl<T> PerWorker<T> {
    /// Figures made anew for each worker.
    pub fn new(make: impl Fn() -> T) -> Self {
        let others = (1..PARTS).map(|_| Part(make())).collect();
        Self { first: Part(make()), others }
    }

    /// Those of this worker.
    pub fn mine(&self) -> &T {
        let part = PART.with(|part| *part);
        &self.others.get(part).unwrap_or(&self.first).0
    }

    /// Those of all workers.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        [&self.first].into_iter().chain(&self.others).map(|part| &part.0)
    }

    /// One figure of all workers together. What one raised another may have lowered.
    pub fn sum(&self, figure: impl Fn(&T) -> &Counter) -> u64 {
        self.all().map(|part| figure(part).get()).fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_up_to_each_bound_and_beyond_the_last() {
        let histogram = Histogram::default();
        let taken = [0, 100, 101, 10_000_000, 10_000_001].map(Duration::from_micros);
        for took in taken {
            histogram.record(took);
        }
        let told = Distribution::default().with(&histogram);
        let cumulative: Vec<u64> = told.cumulative().map(|(_, count)| count).collect();
        assert_eq!((cumulative[0], cumulative[1], cumulative[15], cumulative[16]), (2, 3, 4, 5));
        assert_eq!((told.count(), told.sum()), (5, taken.into_iter().sum()));
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn what_many_workers_count_apart_is_told_together() {
        let counters = PerWorker::new(Counter::default);
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| counters.mine().add(3));
                scope.spawn(|| counters.mine().lower());
            }
        });
        assert_eq!(counters.sum(|counter| counter), 80);
        assert!(counters.all().filter(|counter| counter.get() != 0).count() > 1);
    }
}
