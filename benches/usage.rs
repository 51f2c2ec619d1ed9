//! What counting usage costs: a count on the hot path, and taking and writing many keys' counts.
//!
//! `cargo bench --bench usage`; an argument sets the number of keys. It writes to SQLite, and to
//! PostgreSQL where `TENMINT_TEST_POSTGRES` names a cluster.

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

use support::PostgresDatabase;
use tenmint::mint::{Caller, KeptCaller, UsageCounters, Used, UserAgents};
use tenmint::model::id::{ApiKeyId, OrgId};
use tenmint::model::installation::ApiKeyPrefix;
use tenmint::model::time::Timestamp;
use tenmint::model::usage::{Outcome, Usage, UsageSubject};
use tenmint::store::{DatabaseUrl, Store, usage};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const COUNTS: u32 = 2_000_000;
const ROWS_PER_PART: usize = 400;

fn main() {
    let number = std::env::args().find_map(|argument| argument.parse().ok());
    let keys: u32 = number.unwrap_or(100_000);
    let ids: Vec<ApiKeyId> = (0..keys).map(id).collect();
    let one = ids.get(..1).unwrap_or_default();
    println!("a count            {:.0} ns, one key", a_count(one, 1));
    println!("                   {:.0} ns, {keys} keys in turn", a_count(&ids, 1));
    println!("                   {:.0} ns, one key, two threads", a_count(one, 2));
    println!("                   {:.0} ns, {keys} keys in turn, two threads", a_count(&ids, 2));
    let (counters, from) = (UsageCounters::default(), caller());
    let first = timed(|| ids.iter().for_each(|id| count(&counters, (org(), from), *id)));
    println!("the first count    {:.0} ns", first.as_nanos() as f64 / f64::from(keys));
    let told = timed(|| drop(counters.of(UsageSubject::Org(org()))));
    println!("an organization    {told:.1?} to tell of {keys} keys");
    let began = Instant::now();
    let taken = counters.take();
    println!("taking             {:.1?}, {} rows", began.elapsed(), rows(&taken));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    runtime.block_on(write(&DatabaseUrl::in_directory(directory.path()), &taken));
    if let Some(database) = PostgresDatabase::create("bench_usage") {
        runtime.block_on(write(&DatabaseUrl::parse(&database.url()).unwrap(), &taken));
    }
}

fn id(number: u32) -> ApiKeyId {
    let mut random = [7; 16];
    // spread over the alphabet, as random ids are
    random[4..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9).to_be_bytes());
    random[12..].copy_from_slice(&number.wrapping_mul(0x85EB_CA6B).to_be_bytes());
    ApiKeyId::from_random(random)
}

fn org() -> OrgId {
    OrgId::from_random([1; 16])
}

fn caller() -> KeptCaller<'static> {
    let caller = Caller {
        address: Some([192, 0, 2, 1].into()),
        user_agent: Some("python-requests/2.32.3 (a client of usual length)"),
    };
    UserAgents::new(&ApiKeyPrefix::default()).kept(caller, |_| false, |_| false)
}

fn count(counters: &UsageCounters, (org, from): (OrgId, KeptCaller<'_>), api_key: ApiKeyId) {
    let used = Used { api_key, org, outcome: Outcome::Issued, from };
    counters.count(std::hint::black_box(&used), NOW);
}

/// Nanoseconds of a count of keys that are known.
fn a_count(ids: &[ApiKeyId], threads: u32) -> f64 {
    let (counters, whose) = (UsageCounters::default(), (org(), caller()));
    for id in ids {
        count(&counters, whose, *id);
    }
    let took = timed(|| {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let turns = ids.iter().cycle().take(COUNTS as usize);
                    turns.for_each(|id| count(&counters, whose, *id));
                });
            }
        });
    });
    took.as_nanos() as f64 / f64::from(COUNTS)
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn rows(usage: &Usage) -> usize {
    usage.hours.len() + usage.last_uses.len()
}

/// Writes everything twice: rows that are new, then rows that are there.
async fn write(url: &DatabaseUrl, taken: &Usage) {
    let store = Store::open(url).await.unwrap();
    let mut number = 0;
    for what in ["new", "known"] {
        let began = Instant::now();
        let mut slowest = Duration::ZERO;
        for part in taken.clone().into_parts(ROWS_PER_PART) {
            let began = Instant::now();
            number += 1;
            let mut append = store.append().await.unwrap();
            usage::add(&mut append, ("bench", number), &part, NOW).await.unwrap();
            append.commit().await.unwrap();
            slowest = slowest.max(began.elapsed());
        }
        let rows = rows(taken) as f64;
        let took = began.elapsed();
        println!(
            "{url}: {:.1} us a {what} row, {rows} rows in {took:.1?}, a part {slowest:.1?} at most",
            took.as_micros() as f64 / rows
        );
    }
    store.close().await;
}
