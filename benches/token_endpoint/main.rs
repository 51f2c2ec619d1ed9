//! What a token costs: the processor time of `POST /oauth/token` beside its two parts, in one run.
//!
//! (a) a bare axum route that parses the same form and answers with as many bytes, on one core and on two, (b) the raw
//! ES256 signature with ring, (k) both in one program, (c) the token endpoint, and the same (d) without its ledger,
//! (e) on two cores, (f) on PostgreSQL where `TENMINT_TEST_POSTGRES` names one, (h) on the core of the load; where it
//! is asked for, (i) with 100 keys that ask in turn, (g) with many of which 100 do, and (j) 10,000; and a peer, where
//! `npm ci` was run in `benches/peer`. Servers run on core 0, the load on core 1: HTTP/1.1 keep-alive, 256
//! connections, interleaved runs, medians. At the end, how long requests take at half the load.
//! `cargo bench --bench token_endpoint -- [REQUESTS [KEYS]]`, `-- soak MINUTES` for one node under full load, and
//! `-- counted` for what no other program changes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench that fails says where, and prints what it measured"
)]

mod baselines;
mod counted;
mod load;
mod node;
mod soak;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use baselines::{commits_at_a_pace, serve_bare, serve_commits, sign, signature_time};
use load::write_requests;
use node::{Node, Setup, request, under_load};
use support::{Pinned, PostgresDatabase, aims, free_address, median, wait_for_answer};

const RUNS: usize = 5;
const REQUESTS: usize = 100_000;
/// Keys that ask in turn where there are many.
const ASKERS: u32 = 10_000;
/// Seconds of half the load that are looked at by themselves: what takes a core away for milliseconds once a
/// second is in few of them.
const STRETCH: f64 = 0.1;

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|text| text != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["bare", address, size] => serve_bare(address, size.parse().unwrap(), false),
        ["signing", address, size] => serve_bare(address, size.parse().unwrap(), true),
        ["sign", signatures] => sign(signatures.parse().unwrap()),
        ["load", address, file, requests] => load::load(address, file, requests.parse().unwrap()),
        ["pace", address, file, pace, requests] => {
            load::pace(address, file, pace.parse().unwrap(), requests.parse().unwrap());
        }
        ["commits", address, bytes] => block_on(serve_commits(address, bytes.parse().unwrap())),
        ["ask", address, pace, count] => {
            load::ask(address, pace.parse().unwrap(), count.parse().unwrap());
        }
        ["counted"] => counted::count(),
        ["soak", minutes] => soak::soak(minutes.parse().unwrap()),
        [requests, keys] => compare(requests.parse().unwrap(), keys.parse().unwrap()),
        [requests] => compare(requests.parse().unwrap(), 0),
        _ => compare(REQUESTS, 0),
    }
}

/// A node, what it is called, and what was measured of it.
struct Measured {
    name: String,
    node: Rc<Node>,
    /// The file of what is asked of it.
    requests: PathBuf,
    /// Microseconds of processor time a token.
    times: Vec<f64>,
    /// Tokens a second.
    rates: Vec<f64>,
}

impl Measured {
    fn of(name: impl Into<String>, setup: Setup) -> Self {
        let node = Node::start(setup);
        let requests = node.requests.clone();
        Self { name: name.into(), node: Rc::new(node), requests, times: vec![], rates: vec![] }
    }

    /// The same node, of whose keys so many ask alone.
    fn of_first(name: impl Into<String>, Self { node, .. }: &Self, keys: usize) -> Self {
        let requests = node.requests_of_first(keys);
        Self { name: name.into(), node: node.clone(), requests, times: vec![], rates: vec![] }
    }

    fn time(&self) -> f64 {
        median(self.times.clone())
    }

    fn rate(&self) -> f64 {
        median(self.rates.clone())
    }
}

fn nodes(keys: u32) -> Vec<Measured> {
    let usual = Setup::default;
    let mut nodes = vec![
        Measured::of("c  POST token", usual()),
        Measured::of("d  ledger off", Setup { ledger: Some("off"), ..usual() }),
        Measured::of("e  two cores", Setup { cores: Some("0,1"), ..usual() }),
        Measured::of("h  core of the load", Setup { cores: Some("1"), ..usual() }),
    ];
    if let Some(database) = PostgresDatabase::create("bench_token") {
        let setup = Setup { postgres: Some(database), ..usual() };
        nodes.push(Measured::of("f  PostgreSQL", setup));
    }
    if keys > 0 {
        let in_turn = |keys, askers| Setup { keys, askers: Some(askers), ..usual() };
        let few = Measured::of("i  100 keys", in_turn(0, 100));
        let many = Measured::of(format!("j  {ASKERS} of {keys}"), in_turn(keys, ASKERS));
        let first = Measured::of_first(format!("g  100 of {keys} keys"), &many, 100);
        nodes.extend([few, first, many]);
    }
    nodes
}

fn compare(requests: usize, keys: u32) {
    let mut nodes = nodes(keys);
    let size = nodes[0].node.size_of_answer();
    let bare = [("bare", "0"), ("bare", "0,1"), ("signing", "0")]
        .map(|(mode, cores)| Bare::start(mode, cores, size));

    let mut b = vec![];
    let mut bare_times = [vec![], vec![], vec![]];
    let mut bare_rates = vec![];
    for _ in 0..RUNS {
        for (bare, times) in bare.iter().zip(&mut bare_times) {
            let (time, rate) =
                under_load(&bare.program, &bare.address, &nodes[0].node.requests, requests);
            times.push(time);
            bare_rates.push(rate);
        }
        b.push(signature_time(requests));
        for measured in &mut nodes {
            let (time, rate) = measured.node.under_load(&measured.requests, requests);
            measured.times.push(time);
            measured.rates.push(rate);
        }
    }
    let [a, a_on_two, both] = bare_times.map(median);
    let (b, c) = (median(b), nodes[0].time());
    println!(
        "requests a run      {requests}, {RUNS} interleaved runs, medians, us of processor time"
    );
    let rate = bare_rates.iter().step_by(bare.len()).copied().collect();
    println!("a  bare axum route  {a:.1}   {:.0} a second", median(rate));
    println!("   on two cores     {a_on_two:.1}   {:.2} x one core", 2.0 * a / a_on_two);
    println!("b  ES256 signature  {b:.1}");
    println!("k  a that signs     {both:.1}   {:.2} x (a + b)", both / (a + b));
    for measured in &nodes {
        let (name, time, rate) = (&measured.name, measured.time(), measured.rate());
        let (sketch, share) = (time / (a + b), c / time);
        print!(
            "{name:<18}  {time:.1}   {sketch:.2} x (a + b), c / this {share:.2}, {rate:.0} a second"
        );
        match measured.node.facts_a_batch() {
            Some(facts) => println!(", {facts:.0} a batch"),
            None => println!(),
        }
    }
    if let Some(peer) = peer(requests / 20) {
        println!("node-oidc-provider  {peer:.1}   {:.2} x this one", peer / c);
    }
    println!("resident memory     {:.1} MB", nodes[0].node.resident() as f64 / 1e6);
    let (batches, facts, bytes) = nodes[0].node.ledger();
    let (a_batch, a_fact) = (facts as f64 / batches as f64, bytes as f64 / facts as f64);
    println!("ledger              {facts} tokens, {a_batch:.1} a batch, {a_fact:.1} bytes each");
    let latencies = latencies((&nodes[0], &nodes[1]), requests);
    hold_to_aims(&nodes, a + b, latencies);
}

/// Beside a bare route and a signature, which take so many microseconds together.
fn hold_to_aims(nodes: &[Measured], sketch: f64, (p99, p99_of_a_commit): (f64, f64)) {
    let c = nodes[0].time();
    aims::at_most("c / (a + b)", c / sketch, 1.3);
    aims::at_most("c / d", c / nodes[1].time(), 1.15);
    let rate = 1e6 / sketch * 30_000.0 / 45_000.0;
    aims::at_least("tokens a second on one core", nodes[0].rate(), rate);
    aims::at_most("p99 at half load, ms", p99, 2.0 * p99_of_a_commit + 1.0);
    // a token on two cores is one on a core of its own as often as one on the core that the load has too
    let of_either = f64::midpoint(c, nodes[3].time());
    aims::at_least("two cores, times one of either", 2.0 * of_either / nodes[2].time(), 1.8);
    let named = |name: &str| nodes.iter().find(|node| node.name.starts_with(name));
    if let Some(on_postgres) = named("f") {
        aims::at_least("PostgreSQL, times SQLite a core", c / on_postgres.time(), 0.9);
    }
    if let Some((few, many)) = named("i").zip(named("g")) {
        aims::at_least("many keys, times 100", few.time() / many.time(), 0.95);
    }
}

/// A bare route that is served.
struct Bare {
    program: Pinned,
    address: String,
}

impl Bare {
    fn start(mode: &str, cores: &str, size: usize) -> Self {
        Self::start_through(None, (mode, cores), size)
    }

    /// The same, run by another program, where one is given.
    fn start_through(through: Option<Command>, (mode, cores): (&str, &str), size: usize) -> Self {
        let address = free_address();
        let mut serve = Command::new(std::env::current_exe().unwrap());
        serve.args([mode, &address, &size.to_string()]);
        let program = Pinned::spawn_through(through, cores, &serve);
        wait_for_answer(&address);
        Self { program, address }
    }
}

/// Microseconds of processor time of a token of node-oidc-provider, where it is there: it takes seconds for
/// few requests.
fn peer(requests: usize) -> Option<f64> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peer");
    if !directory.join("node_modules").exists() {
        return None;
    }
    let address = free_address();
    let port = address.rsplit(':').next().unwrap();
    let serve = ["server.js", port];
    let node = Pinned::spawn("0", Command::new("node").args(serve).current_dir(directory));
    wait_for_answer(&address);
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("requests.json");
    write_requests(&file, &[request("/token", ("bench", "secret"), "read:projects")]);
    let times = (0..RUNS).map(|_| under_load(&node, &address, &file, requests).0);
    Some(median(times.collect()))
}

/// How long requests take at half of what the node can do. It takes turns with bare commits of batches as large, at
/// the pace of its own, and with a node that commits nothing: what takes a core or the disk away from it or from its
/// load for milliseconds does so from them. Gives the p99 of the requests and of the commits.
fn latencies((measured, off): (&Measured, &Measured), requests: usize) -> (f64, f64) {
    let pace = measured.rate() / 2.0;
    let (mut with, mut without, mut bare) = (vec![], vec![], vec![]);
    for _ in 0..RUNS {
        let (batches_before, facts_before, _) = measured.node.ledger();
        with.push((pace, measured.node.at_a_pace(pace, requests)));
        let (batches, facts, bytes) = measured.node.ledger();
        let a_batch = (facts - facts_before) as f64 / (batches - batches_before) as f64;
        let bytes = (a_batch * bytes as f64 / facts as f64) as usize;
        let (commits_a_second, commits) = (pace / a_batch, (requests as f64 / a_batch) as usize);
        bare.push((commits_a_second, commits_at_a_pace(bytes, commits_a_second, commits)));
        without.push((pace, off.node.at_a_pace(pace, requests)));
        println!(
            "{commits_a_second:.0} commits a second, each of {a_batch:.1} tokens in {bytes} bytes"
        );
    }
    println!("{RUNS} rounds in turns, at {pace:.0} requests a second:");
    let p99 = tell("a request", &with);
    tell("ledger off", &without);
    (p99, tell("a bare commit", &bare))
}

/// Tells of rounds in which so many came a second: over all of them, by rounds, and by stretches. Gives their p99.
fn tell(name: &str, rounds: &[(f64, Vec<f64>)]) -> f64 {
    let all: Vec<f64> = rounds.iter().flat_map(|(_, times)| times.clone()).collect();
    let [half, most] = [0.5, 0.99].map(|share| quantile(&all, share));
    let of_rounds = rounds.iter().map(|(_, times)| format!("{:.2}", quantile(times, 0.99)));
    let of_rounds = of_rounds.collect::<Vec<_>>().join(" ");
    let stretches = rounds.iter().flat_map(|(a_second, times)| {
        let in_a_stretch = (a_second * STRETCH) as usize;
        times.chunks(in_a_stretch).map(|times| quantile(times, 0.99))
    });
    let of_a_stretch = median(stretches.collect());
    println!(
        "  {name:<14} median {half:.2} ms, p99 {most:.2} ms (of rounds {of_rounds}; of {STRETCH} s {of_a_stretch:.2})"
    );
    most
}

fn quantile(times: &[f64], share: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[((times.len() - 1) as f64 * share) as usize]
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
