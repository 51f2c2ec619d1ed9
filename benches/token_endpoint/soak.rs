//! A node under full load for as long as it is asked: what its memory and its files do.

use std::time::{Duration, Instant};

use crate::node::{Node, Setup};
use crate::support::aims;

/// Requests between two looks at the memory, which is a few seconds.
const REQUESTS: usize = 100_000;
/// Looks until all is in use that the load will ever use.
const WARM_UP: usize = 10;

pub(crate) fn soak(minutes: u64) {
    let node = Node::start(Setup::default());
    let until = Instant::now() + Duration::from_mins(minutes);
    let mut residents = Vec::new();
    let database_at_first = node.size_of("tenmint.db");
    while Instant::now() < until {
        node.under_load(&node.requests, REQUESTS);
        residents.push(node.resident());
    }
    let tokens = residents.len() * REQUESTS;
    let warm_up = WARM_UP.min(residents.len());
    let warm = &residents[warm_up - 1..];
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let [start, end, most] =
        [warm.first(), warm.last(), warm.iter().max()].map(|look| megabytes(*look.unwrap()));
    println!("{minutes} minutes at full load, {tokens} tokens");
    println!(
        "resident memory     {start:.1} MB after {}, {end:.1} MB at the end, {most:.1} MB at most",
        warm_up * REQUESTS
    );
    let database = node.size_of("tenmint.db");
    println!("tenmint.db          {database_at_first} bytes at first, {database} at the end");
    for log in ["tenmint.db-wal", "ledger.db-wal"] {
        println!("{log:<18}  {:.1} MB", megabytes(node.size_of(log)));
    }
    let (_, facts, bytes) = node.ledger();
    println!("ledger.db           {facts} tokens, {:.1} bytes each", bytes as f64 / facts as f64);
    // an allocator keeps what it was given back, and not always the same
    aims::at_most("memory at the end, times the start", end / start, 1.1);
    aims::at_most("tenmint.db, bytes it grew", (database - database_at_first) as f64, 0.0);
}
