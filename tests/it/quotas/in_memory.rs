//! Quotas over a counter in memory: nodes that lease, lose what was on its way, start anew, and a
//! clock that jumps, in any order.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use tenmint::clock::Clock;
use tenmint::mint::Refused;
use tenmint::mint::quotas::{LeaseBatch, Permit, Quotas};
use tenmint::model::id::ApiKeyId;
use tenmint::model::quota::Quota;
use tenmint::model::quota_counter::{Lease, LeaseAsk, QuotaCounter};
use tenmint::model::time::Timestamp;

/// Nodes over one counter, which is what they share through a database, and over one clock.
struct World {
    quota: Quota,
    clock: Clock,
    counter: QuotaCounter,
    nodes: Vec<Node>,
    /// How far the clock has jumped ahead: what jumps back takes nothing away from what passed.
    skipped: i64,
    uses: Vec<i64>,
    /// Of requests that take their time, and are refused in the end.
    held: Vec<Permit<'static>>,
}

struct Node {
    quotas: &'static Quotas,
    /// Granted, and not yet known here.
    on_its_way: Option<(LeaseBatch, Vec<Lease>, Duration)>,
}

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Jump(i64),
    Request(Index, bool),
    Hold(Index),
    Release,
    Lease(Index),
    Lose(Index),
    Sweep(Index),
    Restart(Index),
}

impl Node {
    fn start(clock: &Clock) -> Self {
        // permits may outlive the node here
        Self { quotas: Box::leak(Box::new(Quotas::new(clock.clone()))), on_its_way: None }
    }
}

impl World {
    fn new(quota: &str, nodes: usize) -> Self {
        let clock = Clock::wound(Timestamp::from_millis(1_800_000_000_000));
        let nodes = (0..nodes).map(|_| Node::start(&clock)).collect();
        let (quota, counter) = (quota.parse().unwrap(), QuotaCounter::default());
        Self { quota, clock, counter, nodes, skipped: 0, uses: Vec::new(), held: Vec::new() }
    }

    fn passed(&self) -> i64 {
        i64::try_from(self.clock.steady().as_millis()).unwrap() + self.skipped
    }

    /// A request, which may be refused later for its scope. Says why it is refused now.
    fn request(&mut self, node: usize, used: bool) -> Option<Refused> {
        let permit = match self.nodes[node].quotas.admit(id(), self.quota) {
            Ok(permit) => permit,
            Err(refused) => return Some(refused),
        };
        if used {
            permit.used();
            self.uses.push(self.passed());
        }
        None
    }

    /// The next batch of a node is granted; what was granted before arrives.
    fn lease(&mut self, node: usize) {
        let Self { clock, counter, nodes, .. } = self;
        let node = &mut nodes[node];
        if let Some((batch, leases, granted_at)) = node.on_its_way.take() {
            node.quotas.done(&batch, Some((leases, granted_at)));
        }
        if let Some(batch) = node.quotas.next_batch() {
            let grant = |(_, ask): &(ApiKeyId, LeaseAsk)| counter.grant(ask, clock.now());
            let leases = batch.asks.iter().map(grant).collect();
            node.on_its_way = Some((batch, leases, clock.steady()));
        }
    }

    /// A request that waits for its lease, which takes no time. Says whether it is admitted.
    fn request_and_wait(&mut self, node: usize) -> bool {
        loop {
            match self.request(node, true) {
                None => return true,
                Some(Refused::NeedsLease(_)) => (0..2).for_each(|_| self.lease(node)),
                Some(_) => return false,
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let count = self.nodes.len();
        match step {
            Step::Pass(millis) => self.clock.wind(Duration::from_millis(*millis)),
            Step::Jump(millis) => {
                if *millis > 0 {
                    // what a node holds then was granted before the jump and is used behind
                    // it: that is not covered, so it holds nothing here
                    (0..count).for_each(|node| self.drop_what_is_held(node));
                }
                self.clock.correct(*millis);
                self.skipped += (*millis).max(0);
            }
            Step::Request(node, used) => drop(self.request(node.index(count), *used)),
            Step::Hold(node) => {
                let quotas = self.nodes[node.index(count)].quotas;
                self.held.extend(quotas.admit(id(), self.quota));
            }
            Step::Release => drop(self.held.pop()),
            Step::Lease(node) => self.lease(node.index(count)),
            Step::Lose(node) => {
                self.lease(node.index(count));
                if let Some((batch, ..)) = self.nodes[node.index(count)].on_its_way.take() {
                    self.nodes[node.index(count)].quotas.done(&batch, None);
                }
            }
            Step::Sweep(node) => self.nodes[node.index(count)].quotas.sweep(),
            Step::Restart(node) => self.nodes[node.index(count)] = Node::start(&self.clock),
        }
    }

    fn drop_what_is_held(&mut self, node: usize) {
        self.settle(node);
        self.nodes[node].quotas.retire();
    }

    fn settle(&mut self, node: usize) {
        (0..3).for_each(|_| self.lease(node));
        assert!(self.nodes[node].on_its_way.is_none());
    }

    fn most_in_a_window(&self) -> usize {
        let window = i64::from(self.quota.window().as_seconds()) * 1000;
        let within = |from: &i64| {
            self.uses.iter().filter(|used| (*from..from + window).contains(used)).count()
        };
        self.uses.iter().map(within).max().unwrap_or(0)
    }
}

fn id() -> ApiKeyId {
    ApiKeyId::from_random([1; 16])
}

fn step() -> impl Strategy<Value = Step> {
    let node = any::<Index>;
    prop_oneof![
        20 => (node(), prop::bool::weighted(0.9)).prop_map(|(node, used)| Step::Request(node, used)),
        10 => node().prop_map(Step::Lease),
        8 => (0_u64..120).prop_map(Step::Pass),
        1 => (0_u64..2_500).prop_map(Step::Pass),
        1 => (-2_500_i64..2_500).prop_map(Step::Jump),
        2 => node().prop_map(Step::Hold),
        2 => Just(Step::Release),
        1 => node().prop_map(Step::Lose),
        1 => node().prop_map(Step::Sweep),
        1 => node().prop_map(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn no_window_ever_holds_more_requests_than_the_limit(
        steps in prop::collection::vec(step(), 1..400),
        limit in 1_u32..40,
        seconds in 1_u32..3,
        nodes in 1_usize..4,
    ) {
        let mut world = World::new(&format!("{limit}/{seconds}"), nodes);
        for step in &steps {
            world.step(step);
        }
        let most = world.most_in_a_window();
        prop_assert!(most <= limit as usize, "{most} in a window");
    }

    #[test]
    fn a_request_is_refused_only_for_as_many_in_a_window_and_a_sixtieth(
        gaps in prop::collection::vec(0_u64..150, 1..200),
        bursts in prop::collection::vec(1_usize..4, 1..20),
        limit in 1_u32..60,
        seconds in 1_u32..8,
    ) {
        let mut world = World::new(&format!("{limit}/{seconds}"), 1);
        let window = world.quota.window();
        let late = i64::from(seconds) * 1000 + i64::from(seconds) * 1000 / window.slots() + 4;
        for (gap, burst) in gaps.into_iter().zip(bursts.into_iter().cycle()) {
            world.step(&Step::Pass(gap));
            for _ in 0..burst {
                if !world.request_and_wait(0) {
                    let since = world.passed() - late;
                    let recent = world.uses.iter().filter(|used| **used > since).count();
                    prop_assert!(recent >= limit as usize, "{recent} at {}", world.passed());
                }
            }
        }
    }
}

#[test]
fn a_permit_that_is_not_used_goes_back_and_counts_nothing() {
    let mut world = World::new("1", 1);
    assert!(matches!(world.request(0, true), Some(Refused::NeedsLease(_))));
    world.lease(0);
    world.lease(0);
    for _ in 0..100 {
        assert_eq!(world.request(0, false), None);
    }
    assert!(world.request_and_wait(0));
    assert!(!world.request_and_wait(0));
}

#[test]
fn a_permit_that_comes_back_late_is_given_back_to_the_database() {
    let world = &mut World::new("1", 1);
    assert!(matches!(world.request(0, true), Some(Refused::NeedsLease(_))));
    world.lease(0);
    world.lease(0);
    let held = world.nodes[0].quotas.admit(id(), world.quota).unwrap();
    world.clock.wind(Duration::from_secs(30));
    let refused = world.nodes[0].quotas.admit(id(), world.quota).unwrap_err();
    assert!(matches!(refused, Refused::NeedsLease(_)));
    drop(held);
    assert!(world.request_and_wait(0));
}

#[test]
fn a_permit_that_comes_back_late_is_none_of_the_slot_that_has_begun() {
    let mut world = World::new("3/1", 1);
    // two are leased: one is used, one is held until after the next slot has begun
    assert!(world.request(0, true).is_some());
    assert!(world.request(0, true).is_some());
    world.settle(0);
    assert_eq!(world.request(0, true), None);
    let held = world.nodes[0].quotas.admit(id(), world.quota).unwrap();
    world.clock.wind(Duration::from_millis(150));
    assert!(world.request_and_wait(0));
    drop(held);
    assert!(world.request_and_wait(0));
    world.clock.wind(Duration::from_millis(960));
    while world.request_and_wait(0) {}
    assert_eq!(world.most_in_a_window(), 3);
}

#[test]
fn what_a_client_is_told_adds_up() {
    let mut world = World::new("10", 1);
    assert!(world.request_and_wait(0));
    world.clock.wind(Duration::from_millis(20_500));
    for _ in 0..9 {
        assert!(world.request_and_wait(0));
    }
    let Some(Refused::QuotaSpent(spent)) = world.request(0, true) else { panic!("admitted") };
    assert_eq!((spent.remaining, spent.resets_in), (0, 41), "the first one leaves after 61 s");
    world.clock.wind(Duration::from_secs(spent.resets_in));
    assert!(world.request_and_wait(0));
    assert!(!world.request_and_wait(0), "the others have not left yet");
}

#[test]
fn an_edited_quota_holds_at_once() {
    let mut world = World::new("1000", 1);
    for _ in 0..50 {
        assert!(world.request_and_wait(0));
    }
    world.quota = "51".parse().unwrap();
    assert!(world.request_and_wait(0));
    assert!(!world.request_and_wait(0));
    world.quota = "60".parse().unwrap();
    assert!(world.request_and_wait(0));
}

#[test]
fn a_counter_that_is_idle_is_forgotten_and_its_permits_given_back() {
    let mut world = World::new("1000", 2);
    for _ in 0..200 {
        assert!(world.request_and_wait(0));
    }
    world.settle(0);
    world.step(&Step::Pass(2_000));
    world.nodes[0].quotas.sweep();
    world.settle(0);
    world.step(&Step::Pass(1_000));
    world.nodes[0].quotas.sweep();
    assert!(world.nodes[0].quotas.is_empty());
    let lease = world.counter.grant(&ask(&world, 1_000), world.clock.now());
    assert_eq!(lease.permits, 800, "all that was not used");
}

#[test]
fn a_node_that_stops_gives_back_what_it_holds() {
    let mut world = World::new("1000", 1);
    for _ in 0..200 {
        assert!(world.request_and_wait(0));
    }
    world.drop_what_is_held(0);
    world.nodes[0].quotas.sweep();
    world.settle(0);
    let lease = world.counter.grant(&ask(&world, 1_000), world.clock.now());
    assert_eq!(lease.permits, 800);
}

#[test]
fn a_key_that_is_used_now_and_then_leases_nothing_ahead() {
    let mut world = World::new("100", 1);
    for _ in 0..20 {
        world.clock.wind(Duration::from_millis(700));
        assert!(world.request_and_wait(0));
    }
    let lease = world.counter.grant(&ask(&world, 100), world.clock.now());
    assert_eq!(lease.permits, 80);
}

#[test]
fn a_key_that_is_used_much_leases_ahead_and_seldom_waits() {
    let mut world = World::new("1000000", 1);
    let mut waited = 0;
    for _ in 0..5_000 {
        world.clock.wind(Duration::from_millis(1));
        if world.request(0, true).is_some() {
            waited += 1;
        }
        // what it asks for takes a few milliseconds
        if world.clock.steady().as_millis().is_multiple_of(4) {
            world.lease(0);
        }
    }
    assert!(waited < 150, "{waited} of 5,000 waited: at the start, and as each slot begins");
}

fn ask(world: &World, waiting: u32) -> LeaseAsk {
    LeaseAsk { quota: world.quota, waiting, ahead: 0, unused: Vec::new() }
}
