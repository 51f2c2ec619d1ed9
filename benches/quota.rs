//! What quotas cost that several nodes share: requests that are refused although a count of all
//! nodes in one place would have admitted them, and the time that a request waits for a lease.
//!
//! `cargo bench --bench quota`. The first part runs the nodes' own code over a counter in memory, on
//! a clock that is wound: requests come at random, a lease takes 5 ms, nothing depends on the
//! machine. The second leases from SQLite, and from PostgreSQL where `TENMINT_TEST_POSTGRES` names a
//! cluster.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench that fails says where, and prints what it measured"
)]

mod support;

use std::time::{Duration, Instant};

use support::{PostgresDatabase, median};
use tenmint::clock::Clock;
use tenmint::mint::Refused;
use tenmint::mint::ledger::Ledger;
use tenmint::mint::quotas::{LeaseBatch, Quotas};
use tenmint::model::id::ApiKeyId;
use tenmint::model::quota::Quota;
use tenmint::model::quota_counter::{Lease, LeaseAsk, QuotaCounter};
use tenmint::model::time::Timestamp;
use tenmint::service::Service;
use tenmint::service::init::{CreateInstallation, create_installation};
use tenmint::service::quotas::with_lease;
use tenmint::store::DatabaseUrl;

/// Milliseconds until a lease is granted, and until the node has it.
const GRANTED_AFTER: u64 = 3;
const LEASED_AFTER: u64 = 5;
const WINDOWS: u64 = 5;
const LEASES: u8 = 200;

fn main() {
    println!("quota     nodes  requests come        offered  admitted  refused too early");
    for quota in ["60", "600", "6000"] {
        for (nodes, in_turn) in [(1, false), (2, false), (2, true), (8, false), (8, true)] {
            for offered in [1.2, 3.0] {
                compare(quota.parse().unwrap(), nodes, in_turn, offered);
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let sqlite = DatabaseUrl::in_directory(directory.path());
    let postgres = PostgresDatabase::create("bench_quota");
    let on_postgres =
        postgres.as_ref().map(|database| DatabaseUrl::parse(&database.url()).unwrap());
    for database in [Some(sqlite), on_postgres].into_iter().flatten() {
        let (one, hundred) = runtime.block_on(lease_time(&database, directory.path()));
        println!("a lease alone takes {one:.2} ms, a hundred together {hundred:.2} ms: {database}");
    }
}

/// The same requests against nodes that lease, and against one count of all. They come to any node,
/// or to one node after the other, for a second each, which leaves behind what it has leased.
fn compare(quota: Quota, nodes: usize, in_turn: bool, offered: f64) {
    let window = u64::from(quota.window().as_seconds()) * 1000;
    let per_milli = offered * f64::from(quota.limit()) / window as f64;
    let clock = Clock::wound(Timestamp::from_millis(1_800_000_000_000));
    let mut nodes: Vec<Node> = (0..nodes).map(|_| Node::new(&clock)).collect();
    let (mut shared, mut one) = (QuotaCounter::default(), QuotaCounter::default());
    let mut random = Random(7);
    let (mut requests, mut admitted, mut could) = (0_u64, 0_u64, 0_u64);
    for milli in 0..WINDOWS * window {
        clock.wind(Duration::from_millis(1));
        for _ in 0..random.poisson(per_milli) {
            requests += 1;
            could += u64::from(one.grant(&one_request(quota), clock.now()).permits);
            let second = usize::try_from(milli / 1000).unwrap();
            let node = if in_turn { second % nodes.len() } else { random.below(nodes.len()) };
            nodes[node].waiting += 1;
            admitted += nodes[node].serve(quota);
        }
        for node in &mut nodes {
            admitted += node.lease(milli, quota, &mut shared, &clock);
        }
    }
    println!(
        "{:9} {:5}  {:19}  {:6.0}%  {admitted:8}  {:16.2}%",
        quota.to_string(),
        nodes.len(),
        if in_turn { "a second to each" } else { "to any" },
        offered * 100.0,
        could.saturating_sub(admitted) as f64 * 100.0 / requests as f64,
    );
}

fn one_request(quota: Quota) -> LeaseAsk {
    LeaseAsk { quota, waiting: 1, ahead: 0, unused: Vec::new() }
}

struct Node {
    quotas: Quotas,
    /// Requests that wait for a lease.
    waiting: u64,
    on_its_way: Option<OnItsWay>,
}

/// A lease on its way: since when, and what was granted of the steady clock's which moment.
struct OnItsWay {
    since: u64,
    batch: LeaseBatch,
    granted: Option<(Vec<Lease>, Duration)>,
}

impl Node {
    fn new(clock: &Clock) -> Self {
        Self { quotas: Quotas::new(clock.clone()), waiting: 0, on_its_way: None }
    }

    /// Makes all that waits ask again. Says how many are admitted.
    fn serve(&mut self, quota: Quota) -> u64 {
        let (mut admitted, mut left) = (0, 0);
        for _ in 0..std::mem::take(&mut self.waiting) {
            match self.quotas.admit(counter(), quota) {
                Ok(permit) => {
                    permit.used();
                    admitted += 1;
                }
                Err(Refused::NeedsLease(_)) => left += 1,
                Err(_) => {}
            }
        }
        self.waiting = left;
        admitted
    }

    /// What a millisecond brings: a batch sets out, is granted, or is here.
    fn lease(&mut self, milli: u64, quota: Quota, shared: &mut QuotaCounter, clock: &Clock) -> u64 {
        if milli.is_multiple_of(1000) {
            self.quotas.sweep();
        }
        if self.on_its_way.is_none() {
            let batch = self.quotas.next_batch();
            self.on_its_way = batch.map(|batch| OnItsWay { since: milli, batch, granted: None });
        }
        let Some(mut lease) = self.on_its_way.take() else { return 0 };
        if milli == lease.since + GRANTED_AFTER {
            let grant = |(_, ask): &(ApiKeyId, LeaseAsk)| shared.grant(ask, clock.now());
            lease.granted = Some((lease.batch.asks.iter().map(grant).collect(), clock.steady()));
        }
        if milli < lease.since + LEASED_AFTER {
            self.on_its_way = Some(lease);
            return 0;
        }
        self.quotas.done(&lease.batch, lease.granted);
        self.serve(quota)
    }
}

fn counter() -> ApiKeyId {
    ApiKeyId::from_random([1; 16])
}

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next()).unwrap() % bound
    }

    /// How many requests come in a millisecond.
    fn poisson(&mut self, mean: f64) -> u32 {
        let (bound, mut product, mut count) = ((-mean).exp(), 1.0, 0);
        loop {
            product *= self.next() as f64 / f64::from(1_u32 << 31);
            if product <= bound {
                return count;
            }
            count += 1;
        }
    }
}

/// Milliseconds from a request to its permit, where it needs a lease: alone, and for a hundred keys
/// at once.
async fn lease_time(database: &DatabaseUrl, directory: &std::path::Path) -> (f64, f64) {
    let (keys_dir, clock) =
        (directory.join(database.to_string().replace('/', "_")), Clock::system());
    let ask = CreateInstallation {
        issuer: "http://127.0.0.1".to_owned(),
        ..CreateInstallation::default()
    };
    create_installation(database, &keys_dir, &clock, &ask).await.unwrap();
    let mut service = Service::open(database, &keys_dir, clock).await.unwrap();
    let (mint, _) = service.start_mint(Duration::from_mins(5), Ledger::off()).await.unwrap();
    let leases = service.lease_fetcher(&mint);
    let leasing = tokio::spawn(async move { leases.run(std::future::pending()).await });
    let quota: Quota = "1000000".parse().unwrap();
    let request = async |number: u8, run: u8| {
        let mut random = [number; 16];
        random[0] = run;
        let counter = ApiKeyId::from_random(random);
        with_lease(mint.quotas(), || mint.quotas().admit(counter, quota)).await.unwrap().used();
    };
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for number in 0..LEASES {
        let began = Instant::now();
        request(number, 255).await;
        alone.push(began.elapsed().as_secs_f64() * 1e3);
    }
    for run in 0..20 {
        let began = Instant::now();
        let requests = (0..100).map(|number| request(number, run));
        join_all(requests).await;
        together.push(began.elapsed().as_secs_f64() * 1e3);
    }
    leasing.abort();
    service.close().await;
    (median(alone), median(together))
}

/// Waits for all of some futures, polled together.
async fn join_all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut pending: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        pending.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if pending.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
