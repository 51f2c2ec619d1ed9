//! Quotas over a real database: nodes that share it race for the last permits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tenmint::clock::{Clock, system_time};
use tenmint::mint::ledger::Ledger;
use tenmint::mint::quotas::RateLimit;
use tenmint::mint::{Mint, Refused};
use tenmint::model::id::ApiKeyId;
use tenmint::model::quota::Quota;
use tenmint::service::Service;
use tenmint::service::follow::Follower;
use tenmint::service::quotas::{LeaseFetcher, with_lease};
use tenmint::store::{Store, quotas};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::server::{Engine, Server, Setup, on_both_engines};

/// A node of its own over the database of a server.
struct Node {
    service: Service,
    mint: Arc<Mint>,
    follower: Arc<Follower>,
    leases: Arc<LeaseFetcher>,
    leasing: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl Node {
    async fn start(server: &Server, clock: &Clock) -> Self {
        let keys_dir = server.directory.path().join("keys");
        let mut service = Service::open(&server.database, &keys_dir, clock.clone()).await.unwrap();
        let (mint, follower) =
            service.start_mint(Duration::from_mins(5), Ledger::off()).await.unwrap();
        // a machine that is busy must not lose what was granted
        mint.quotas().set_patience(Duration::from_mins(1));
        let leases = service.lease_fetcher(&mint);
        let leases = Arc::new(leases);
        let (fetcher, (stop, stopped)) = (leases.clone(), oneshot::channel::<()>());
        let leasing = tokio::spawn(async move { fetcher.run(async { drop(stopped.await) }).await });
        Self { service, mint, follower, leases, leasing, stop: Some(stop) }
    }

    async fn two(server: &Server) -> [Self; 2] {
        [Self::start(server, &server.clock).await, Self::start(server, &server.clock).await]
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.leasing.abort();
    }
}

/// As many requests as are admitted within four seconds: what a node has leased in vain it gives
/// back within one. Some at once on each node, again and again.
async fn exhaust(server: &Server, nodes: &[Node], each: usize, quota: Quota) -> usize {
    let mut admitted = 0;
    for _ in 0..4 {
        admitted += race(nodes, each, id(1), quota).await;
        server.clock.wind(Duration::from_secs(1));
    }
    admitted
}

/// A request that counts, if it is admitted. On a machine that is busy a lease may come too late:
/// then it is made again.
async fn request(mint: &Mint, counter: ApiKeyId, quota: Quota) -> Result<RateLimit, Refused> {
    loop {
        match with_lease(mint.quotas(), || mint.quotas().admit(counter, quota)).await {
            Ok(permit) => {
                let rate_limit = permit.rate_limit();
                permit.used();
                return Ok(rate_limit);
            }
            Err(Refused::Unavailable) => {}
            Err(refused) => return Err(refused),
        }
    }
}

/// So many requests at once on each node. Says how many are admitted.
async fn race(nodes: &[Node], each: usize, counter: ApiKeyId, quota: Quota) -> usize {
    let mut racing = JoinSet::new();
    for _ in 0..each {
        for node in nodes {
            let mint = node.mint.clone();
            racing.spawn(async move { request(&mint, counter, quota).await.is_ok() });
        }
    }
    racing.join_all().await.into_iter().filter(|admitted| *admitted).count()
}

fn id(number: u8) -> ApiKeyId {
    ApiKeyId::from_random([number; 16])
}

fn quota(text: &str) -> Quota {
    text.parse().unwrap()
}

/// Numbers that look random and are the same in each run.
fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

/// The most that any window of a second holds, of so many at a millisecond.
fn most_in_a_second(admitted: &[(u128, usize)]) -> usize {
    let from = |(from, _): &(u128, usize)| {
        let within = admitted.iter().filter(|(moment, _)| (*from..from + 1000).contains(moment));
        within.map(|(_, count)| count).sum()
    };
    admitted.iter().map(from).max().unwrap_or(0)
}

on_both_engines! {
    async fn of_hundreds_of_requests_on_two_nodes_exactly_the_limit_is_admitted(server: Server) {
        let nodes = Node::two(&server).await;
        for limit in [1, 7, 150, 399, 1_000] {
            let quota = quota(&limit.to_string());
            assert_eq!(exhaust(&server, &nodes, 200, quota).await, limit);
            assert_eq!(race(&nodes, 5, id(1), quota).await, 0);
            server.clock.wind(Duration::from_secs(62));
        }
    }

    async fn no_window_holds_more_than_the_limit_while_two_nodes_race(server: Server) {
        let nodes = Node::two(&server).await;
        let (mut number, mut admitted) = (numbers(1), Vec::new());
        for _ in 0..60 {
            let each = 1 + usize::try_from(number(30)).unwrap();
            let moment = server.clock.steady().as_millis();
            admitted.push((moment, race(&nodes, each, id(1), quota("40/1")).await));
            server.clock.wind(Duration::from_millis(number(180)));
        }
        let total: usize = admitted.iter().map(|(_, count)| count).sum();
        assert!(most_in_a_second(&admitted) <= 40, "{admitted:?}");
        assert!(total >= 120, "{admitted:?}");
    }

    async fn a_node_that_starts_anew_knows_what_was_granted(server: Server) {
        let mut nodes = Node::two(&server).await;
        let (mut number, mut admitted) = (numbers(2), Vec::new());
        for round in 0..30 {
            let moment = server.clock.steady().as_millis();
            let count = race(&nodes, 20, id(1), quota("60/1")).await;
            admitted.push((moment, count));
            // this one holds permits, and takes them with it
            let mint = nodes[round % 2].mint.clone();
            let cut_off = tokio::spawn(async move { request(&mint, id(1), quota("60/1")).await });
            nodes[round % 2] = Node::start(&server, &server.clock).await;
            if let Ok(Ok(_)) = { cut_off.abort(); cut_off.await } {
                admitted.push((moment, 1));
            }
            server.clock.wind(Duration::from_millis(number(200)));
        }
        assert!(most_in_a_second(&admitted) <= 60, "{admitted:?}");
    }

    async fn a_clock_that_jumps_back_neither_frees_nor_freezes_a_quota(server: Server) {
        let nodes = Node::two(&server).await;
        for back in [50, 2_500, 30_000, 61_000, 3_600_000] {
            assert_eq!(exhaust(&server, &nodes, 30, quota("20")).await, 20, "{back}");
            server.clock.correct(-back);
            // a node asks again after a second at the latest, and the counter sees the jump
            assert_eq!(exhaust(&server, &nodes, 5, quota("20")).await, 0, "{back}");
            server.clock.wind(Duration::from_secs(53));
            assert_eq!(race(&nodes, 5, id(1), quota("20")).await, 0, "{back}");
            // the window, and two of its slots
            server.clock.wind(Duration::from_secs(5));
        }
    }

    async fn a_clock_that_jumps_ahead_is_time_that_passed(server: Server) {
        let nodes = Node::two(&server).await;
        for ahead in [3_600_000, 61_000, 86_400_000] {
            assert_eq!(exhaust(&server, &nodes, 30, quota("20")).await, 20, "{ahead}");
            assert_eq!(race(&nodes, 5, id(1), quota("20")).await, 0, "{ahead}");
            server.clock.correct(ahead);
            server.clock.wind(Duration::from_secs(1));
        }
    }

    async fn counters_of_many_keys_are_leased_together(server: Server) {
        let nodes = Node::two(&server).await;
        let mut racing = JoinSet::new();
        for number in 0..250 {
            for node in &nodes {
                let mint = node.mint.clone();
                racing.spawn(async move { request(&mint, id(number), quota("9")).await.is_ok() });
            }
        }
        assert!(racing.join_all().await.into_iter().all(|admitted| admitted));
    }

    async fn a_counter_out_of_use_is_deleted_and_one_in_use_never(server: Server) {
        let nodes = Node::two(&server).await;
        for round in 0..8 {
            let pruning = nodes.each_ref().map(|node| {
                let leases = node.leases.clone();
                tokio::spawn(async move { leases.prune().await.unwrap() })
            });
            assert_eq!(exhaust(&server, &nodes, 15, quota("20")).await, 20, "round {round}");
            for pruned in pruning {
                pruned.await.unwrap();
            }
            nodes[0].leases.prune().await.unwrap();
            assert_eq!(race(&nodes, 5, id(1), quota("20")).await, 0, "round {round}");
            // idle now, and deleted while it is used again
            server.clock.wind(Duration::from_secs(122));
        }
        let store = Store::open(&server.database).await.unwrap();
        let idle = async || {
            let mut read = store.read().await.unwrap();
            quotas::list_idle(&mut read, server.clock.now(), 10).await.unwrap().len()
        };
        assert_eq!(idle().await, 1);
        assert!(!nodes[0].leases.prune().await.unwrap());
        assert_eq!(idle().await, 0);
    }

    async fn a_node_that_stops_gives_back_what_it_did_not_use(server: Server) {
        let [mut first, second] = Node::two(&server).await;
        for _ in 0..200 {
            request(&first.mint, id(1), quota("1000")).await.unwrap();
        }
        drop(first.stop.take());
        (&mut first.leasing).await.unwrap();
        assert_eq!(exhaust(&server, &[second], 1_000, quota("1000")).await, 800);
    }

    async fn without_the_database_each_node_admits_its_share_of_a_quota(server: Server) {
        let nodes = Node::two(&server).await;
        // time to tell of themselves, and to hear of each other: they are three with the server's own
        for _ in 0..2 {
            server.wind(Duration::from_secs(10)).await;
            for node in &nodes {
                node.follower.catch_up().await.unwrap();
            }
        }
        for node in &nodes {
            node.service.close().await;
        }
        let hundred = quota("100");
        assert_eq!(exhaust(&server, &nodes[..1], 50, hundred).await, 33);
        assert_eq!(exhaust(&server, &nodes[1..], 50, hundred).await, 33);
        let refused = request(&nodes[0].mint, id(1), hundred).await.unwrap_err();
        assert!(matches!(refused, Refused::QuotaSpent(_)), "{refused:?}");
        server.clock.wind(Duration::from_mins(1));
        assert_eq!(exhaust(&server, &nodes[..1], 50, hundred).await, 33, "and again in the next window");
    }
}

/// What a request was given, and between which moments of the machine's clock.
type Admitted = (i64, i64);

/// When to stop: three windows of a second have passed and enough was admitted, or a minute has passed.
struct Until {
    began: i64,
    admitted: AtomicUsize,
}

impl Until {
    fn is_over(&self, now: i64) -> bool {
        let enough = self.admitted.load(Ordering::Relaxed) >= ENOUGH;
        now > self.began + if enough { 3_300 } else { 60_000 }
    }
}

/// Two windows of the quota: a node that was frozen admits less.
const ENOUGH: usize = 100;

/// Asks without pause until it is over, on a node whose clock is set wrong again and again.
async fn hammer(mint: Arc<Mint>, until: Arc<Until>) -> Vec<Admitted> {
    let mut admitted = Vec::new();
    loop {
        let before = system_time().as_millis();
        if until.is_over(before) {
            return admitted;
        }
        match with_lease(mint.quotas(), || mint.quotas().admit(id(1), quota("50/1"))).await {
            Ok(permit) => {
                permit.used();
                admitted.push((before, system_time().as_millis()));
                until.admitted.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// Here time is real, since what is tested is that a node's own clock does not matter: for three
/// windows of a second at least, and a test fails only for what no clock could explain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_wrong_exceeds_nothing_and_freezes_nothing() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let Some(server) = Setup::on(engine).start().await else { continue };
        let clocks = [Clock::system(), Clock::system()];
        let nodes =
            [Node::start(&server, &clocks[0]).await, Node::start(&server, &clocks[1]).await];
        let began = system_time().as_millis();
        let until = Arc::new(Until { began, admitted: AtomicUsize::new(0) });
        let mut hammering = JoinSet::new();
        for node in nodes.iter().cycle().take(20) {
            hammering.spawn(hammer(node.mint.clone(), until.clone()));
        }
        hammering.spawn(async move {
            let mut number = numbers(3);
            while !until.is_over(system_time().as_millis()) {
                let by = i64::try_from(number(7_200_000)).unwrap() - 3_600_000;
                clocks[usize::try_from(number(2)).unwrap()].correct(by);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Vec::new()
        });
        let mut admitted: Vec<Admitted> =
            hammering.join_all().await.into_iter().flatten().collect();
        admitted.sort_unstable();
        for (place, (first, _)) in admitted.iter().enumerate() {
            let surely = admitted[place..].iter().filter(|(_, last)| *last < first + 1000).count();
            assert!(surely <= 50, "{surely} in the second from {first}");
        }
        assert!(admitted.len() >= ENOUGH, "{} in a minute", admitted.len());
    }
}
