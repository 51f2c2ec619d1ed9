//! The queue of counters that need a lease: in batches, so that a transaction stays short, and
//! each counter once, however many requests wait for it.

use std::collections::{HashMap, VecDeque};

use crate::model::id::ApiKeyId;

/// Counters of one batch, so that its transaction stays below 20 ms.
const BATCH: usize = 50;

/// A place on the queue: which batch to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(pub(super) u64);

/// The queue of counters that need a lease.
#[derive(Debug, Default)]
pub(super) struct LeaseQueue {
    /// The number of the first batch.
    first: u64,
    batches: VecDeque<HashMap<ApiKeyId, Want>>,
}

#[derive(Debug, Default)]
pub(super) struct Want {
    /// Requests that wait.
    pub(super) waiting: u32,
    /// To be leased ahead of need.
    pub(super) ahead: bool,
}

impl LeaseQueue {
    /// Puts a counter into the first batch that has it, or has room for it.
    pub(super) fn push(&mut self, counter: ApiKeyId, waiting: u32, ahead: bool) -> Ticket {
        let known = self.batches.iter().position(|batch| batch.contains_key(&counter));
        let place = known.unwrap_or_else(|| self.place_with_room());
        if let Some(batch) = self.batches.get_mut(place) {
            let want = batch.entry(counter).or_default();
            want.waiting = want.waiting.saturating_add(waiting);
            want.ahead |= ahead;
        }
        Ticket(self.first + place as u64)
    }

    fn place_with_room(&mut self) -> usize {
        if self.batches.back().is_none_or(|last| last.len() >= BATCH) {
            self.batches.push_back(HashMap::new());
        }
        self.batches.len() - 1
    }

    /// The first batch, with its number.
    pub(super) fn pop(&mut self) -> Option<(u64, HashMap<ApiKeyId, Want>)> {
        let batch = self.batches.pop_front()?;
        let number = self.first;
        self.first += 1;
        Some((number, batch))
    }
}
