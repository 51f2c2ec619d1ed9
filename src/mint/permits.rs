//! The permits of one counter that a node holds: a lease, and what it knows of the quota beyond it.
//!
//! Times are of the steady clock. A permit is used before its lease is over or never; what was not
//! used is given back with the next lease. Not covered: a machine that is suspended and uses on what
//! it held, and a database whose clock leaps ahead while permits are held. Both last for what is
//! left of the lease, a second at most.

use std::time::Duration;

use crate::model::quota::Quota;
use crate::model::quota_counter::{Lease, LeaseAsk, Slot};

/// A node leases ahead what it uses in this time. More would be out of reach for other nodes for
/// longer; less would be a transaction more often.
const AHEAD: Duration = Duration::from_millis(100);
/// Permits are given back after this time at the latest, however long their slot is.
const HOLD: Duration = Duration::from_secs(1);
/// A lease is over so much sooner: a millisecond for the one that the time of a grant is cut to, and
/// one for clocks that do not run equally fast.
const MARGIN: Duration = Duration::from_millis(2);
/// A counter that was found spent is asked for again after this time, since another node may have
/// given something back.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// A permit, of this slot.
    Permit(Slot),
    /// The same, and it is time to lease more.
    LastHalf(Slot),
    /// There is none: the quota is spent.
    Spent,
    /// There is none at hand.
    NeedsLease,
}

/// The permits of one counter.
#[derive(Debug)]
pub(super) struct Permits {
    quota: Quota,
    /// The slot that the permits at hand are of.
    slot: Slot,
    left: u32,
    /// How many there were when the last lease came.
    size: u32,
    /// When those at hand are over.
    until: Duration,
    /// Permits of earlier leases that nobody used.
    unused: Vec<(Slot, u32)>,
    /// How many more could be had when the last lease came.
    free: u32,
    oldest_leaves: Duration,
    /// Until when there is nothing to be had.
    spent_until: Duration,
    /// How many were used since the last ask, and how many that one asked for ahead.
    used: u32,
    ahead: u32,
    asked_at: Duration,
    /// Whether an ask is under way.
    asking: bool,
}

impl Permits {
    pub(super) fn new(quota: Quota, now: Duration) -> Self {
        Self {
            quota,
            slot: Slot::default(),
            left: 0,
            size: 0,
            until: Duration::ZERO,
            unused: Vec::new(),
            free: 0,
            oldest_leaves: Duration::ZERO,
            spent_until: Duration::ZERO,
            used: 0,
            ahead: 0,
            asked_at: now,
            asking: false,
        }
    }

    /// Takes a permit, if there is one for this quota. What was leased under another one, before an
    /// edit, is worth nothing.
    pub(super) fn take(&mut self, quota: Quota, now: Duration) -> Taken {
        if self.quota != quota {
            self.retire();
            self.quota = quota;
        }
        if now < self.until && self.left > 0 {
            self.left -= 1;
            self.used = self.used.saturating_add(1);
            let low = self.size > 1 && self.left <= self.size / 2 && self.free > 0 && !self.asking;
            return if low { Taken::LastHalf(self.slot) } else { Taken::Permit(self.slot) };
        }
        // permits that are left over can be had again once they were given back
        if now < self.spent_until && self.left == 0 { Taken::Spent } else { Taken::NeedsLease }
    }

    /// Takes back a permit that a request did not use.
    pub(super) fn put_back(&mut self, slot: Slot) {
        self.used = self.used.saturating_sub(1);
        // it can be had again, from here or from the database
        self.spent_until = Duration::ZERO;
        if slot == self.slot {
            self.left = self.left.saturating_add(1);
        } else {
            self.unused.push((slot, 1));
        }
    }

    /// Makes the ask of so many requests that wait. What it gives back is not here any more: should
    /// the ask fail, it is lost, and counts as used.
    pub(super) fn ask(&mut self, waiting: u32, give_back_only: bool, now: Duration) -> LeaseAsk {
        if now >= self.until {
            self.retire();
        }
        let ahead = if give_back_only { 0 } else { self.ahead(waiting, now) };
        (self.used, self.ahead, self.asked_at) = (0, ahead, now);
        LeaseAsk { quota: self.quota, waiting, ahead, unused: std::mem::take(&mut self.unused) }
    }

    /// What was used per [`AHEAD`] since the last ask; at most double of what was asked for then,
    /// since a burst of two requests is no rate.
    fn ahead(&self, waiting: u32, now: Duration) -> u32 {
        let passed = now.saturating_sub(self.asked_at).as_millis().max(1);
        let rate = u128::from(self.used) * AHEAD.as_millis() / passed;
        let most = self.ahead.saturating_mul(2).saturating_add(waiting.max(1));
        u32::try_from(rate).unwrap_or(u32::MAX).min(most)
    }

    pub(super) fn note_asking(&mut self, asking: bool) {
        self.asking = asking;
    }

    /// Takes a lease that was granted at a moment, or a little later.
    pub(super) fn put(&mut self, ask: &LeaseAsk, lease: Lease, granted_at: Duration) {
        self.asking = false;
        if ask.quota != self.quota {
            // the quota was edited meanwhile
            self.unused.push((lease.slot, lease.permits));
            return;
        }
        let until = (granted_at + lease.lasts.min(HOLD)).saturating_sub(MARGIN);
        if lease.slot == self.slot {
            self.left = self.left.saturating_add(lease.permits);
            self.until = self.until.max(until);
        } else {
            self.retire();
            (self.slot, self.left, self.until) = (lease.slot, lease.permits, until);
        }
        // where nothing could be had ahead, it is not asked for again before there is a lease
        self.size = if lease.permits > 0 { self.left } else { 0 };
        self.free = lease.free;
        self.oldest_leaves = granted_at + lease.oldest_leaves;
        if lease.free == 0 {
            self.spent_until = self.oldest_leaves.min(granted_at + ASK_AGAIN);
        }
    }

    /// Ends the lease; what is left of it is to be given back.
    pub(super) fn retire(&mut self) {
        if self.left > 0 {
            self.unused.push((self.slot, self.left));
        }
        (self.slot, self.left, self.until) = (Slot::default(), 0, Duration::ZERO);
        self.spent_until = Duration::ZERO;
    }

    /// Whether there is something to give back that no request will use.
    pub(super) fn has_unused(&self, now: Duration) -> bool {
        !self.asking && (!self.unused.is_empty() || now >= self.until && self.left > 0)
    }

    /// Whether nothing here is worth keeping.
    pub(super) fn is_idle(&self, now: Duration) -> bool {
        let done = self.unused.is_empty() && self.left == 0 && !self.asking;
        let quiet = now >= self.spent_until && now >= self.asked_at + HOLD;
        done && quiet && now >= self.until
    }

    /// How many requests would be admitted now, as far as this node knows.
    pub(super) fn remaining(&self) -> u32 {
        self.left.saturating_add(self.free)
    }

    /// How long until the oldest use leaves the window.
    pub(super) fn oldest_leaves(&self, now: Duration) -> Duration {
        self.oldest_leaves.saturating_sub(now)
    }
}
