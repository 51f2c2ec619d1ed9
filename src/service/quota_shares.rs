//! What a node grants by itself while the database is out of reach: of each quota its share.
//!
//! The shares of all nodes together are the limit at most. What was granted before the outage is not
//! counted in them, and what is granted in it the database never learns of: so within a window in which
//! an outage begins or ends, a key may come to twice its limit at worst.

use std::collections::BTreeMap;

use crate::model::id::ApiKeyId;
use crate::model::quota_counter::{Lease, LeaseAsk, QuotaCounter};
use crate::model::time::Timestamp;

/// The counters of this node alone.
#[derive(Debug, Default)]
pub(crate) struct QuotaShares(BTreeMap<ApiKeyId, QuotaCounter>);

impl QuotaShares {
    /// Grants what is asked, of a share for each of so many nodes: one lease an ask.
    pub(crate) fn grant(
        &mut self,
        asks: &[(ApiKeyId, LeaseAsk)],
        nodes: u32,
        now: Timestamp,
    ) -> Vec<Lease> {
        self.0.retain(|_, counter| counter.idle_at() > now);
        let leases = asks
            .iter()
            .map(|(id, ask)| self.0.entry(*id).or_default().grant_share(ask, nodes, now));
        leases.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many requests of so many get a permit.
    fn granted(
        shares: &mut QuotaShares,
        limit: &str,
        nodes: u32,
        waiting: u32,
        second: i64,
    ) -> u32 {
        let quota = limit.parse().unwrap();
        let ask = LeaseAsk { quota, waiting, ahead: 0, unused: Vec::new() };
        let now = Timestamp::from_millis(1_800_000_000_000 + second * 1_000);
        shares.grant(&[(ApiKeyId::from_random([1; 16]), ask)], nodes, now)[0].permits
    }

    #[test]
    fn a_node_grants_its_share_and_no_more_until_it_leaves_the_window() {
        let mut shares = QuotaShares::default();
        assert_eq!(granted(&mut shares, "100", 3, 20, 0), 20);
        assert_eq!(granted(&mut shares, "100", 3, 20, 1), 13, "a third of a hundred");
        assert_eq!(granted(&mut shares, "100", 3, 20, 59), 0);
        assert_eq!(granted(&mut shares, "100", 3, 50, 70), 33);
    }

    #[test]
    fn of_a_quota_that_does_not_go_round_nobody_grants_anything() {
        assert_eq!(granted(&mut QuotaShares::default(), "2", 3, 1, 0), 0);
        assert_eq!(granted(&mut QuotaShares::default(), "3", 3, 2, 0), 1);
    }
}
