//! What a token takes, counted by valgrind: instructions, and misses of the caches of one core. Both are the same
//! in a slow hour as in a quick one. The kernel's own are not among them.

use std::path::Path;
use std::process::Command;

use crate::Bare;
use crate::node::{Node, Setup, under_load};

/// A first level of 32 KB each for instructions and data, and a second one of 1 MB, which valgrind calls the last.
const CACHES: [&str; 3] = ["--I1=32768,8,64", "--D1=32768,8,64", "--LL=1048576,8,64"];
/// Requests of two runs. What lies between them is free of what a start takes.
const RUNS: [usize; 2] = [2_000, 6_000];

/// Instructions, misses of the first level for instructions and for data, and misses of the second.
type Counts = [f64; 4];

pub(crate) fn count() {
    println!("user space, a request   instructions   L1i misses   L1d misses   L2 misses");
    let usual = Setup::default;
    let asks = Node::start(usual());
    let size = asks.size_of_answer();
    let bare = |mode, counted: &Path, asked| {
        let served = Bare::start_through(Some(valgrind(counted)), (mode, "0"), size);
        under_load(&served.program, &served.address, &asks.requests, asked);
        served.program.stop();
    };
    let issued = |ledger, counted: &Path, asked| {
        let served = Node::start(Setup {
            ledger: Some(ledger),
            through: Some(valgrind(counted)),
            ..usual()
        });
        served.under_load(&served.requests, asked);
        served.stop();
    };
    tell("a  bare axum route", |counted, asked| bare("bare", counted, asked));
    tell("k  a that signs", |counted, asked| bare("signing", counted, asked));
    tell("d  ledger off", |counted, asked| issued("off", counted, asked));
    tell("c  POST token", |counted, asked| issued("durable", counted, asked));
}

/// Tells what each request takes of a program that is run for so many and leaves its counts in a file.
fn tell(name: &str, run: impl Fn(&Path, usize)) {
    let directory = tempfile::tempdir().unwrap();
    let [few, many] = RUNS.map(|asked| {
        let counted = directory.path().join(asked.to_string());
        run(&counted, asked);
        read(&counted)
    });
    let each = |column: usize| (many[column] - few[column]) / (RUNS[1] - RUNS[0]) as f64;
    let [instructions, first, first_of_data, second] = [0, 1, 2, 3].map(each);
    println!(
        "{name:<22}  {instructions:>12.0}   {first:>10.0}   {first_of_data:>10.0}   {second:>9.0}"
    );
}

/// What runs a program and leaves its counts in a file.
fn valgrind(counted: &Path) -> Command {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["-q", "--tool=cachegrind", "--cache-sim=yes"]).args(CACHES);
    valgrind.arg(format!("--cachegrind-out-file={}", counted.display()));
    valgrind
}

/// The sums at the end of a file: `Ir I1mr ILmr Dr D1mr DLmr Dw D1mw DLmw`.
fn read(file: &Path) -> Counts {
    let text = std::fs::read_to_string(file).expect("counts, from valgrind");
    let sums = text.lines().find_map(|line| line.strip_prefix("summary:")).unwrap();
    let sums: Vec<f64> = sums.split_whitespace().map(|sum| sum.parse().unwrap()).collect();
    [sums[0], sums[1], sums[4] + sums[7], sums[2] + sums[5] + sums[8]]
}
