//! How long a node takes to start with many API keys, and what they cost in memory.
//!
//! `cargo bench --bench start`; an argument sets the number of keys. Each key has an owner of its
//! own and three scopes that no other key has, which is the most that the index can be asked for.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench that fails says where, and prints what it measured"
)]

mod support;

use std::process::{Command, Stdio};
use std::time::Instant;

use support::many_keys::fill;
use support::{Pinned, aims, free_address, median, wait_for_answer};

const RUNS: usize = 5;

fn main() {
    let number = std::env::args().find_map(|argument| argument.parse().ok());
    let keys: u32 = number.unwrap_or(100_000);
    let (empty, full) = (measure(0), measure(keys));
    for (keys, Start { time, used, resident }) in [(0, &empty), (keys, &full)] {
        let memory = *resident as f64 / 1e6;
        println!(
            "{keys:>8} keys  ready in {time:.3} s ({used:.2} s of processor time), {memory:.1} MB"
        );
    }
    let a_key = (full.resident - empty.resident) as f64 / f64::from(keys);
    println!("memory a key   {a_key:.0} bytes");
    if keys >= 1_000_000 {
        aims::at_most("a start with many keys, s", full.time, 5.0);
        aims::at_most("memory with many keys, MB", full.resident as f64 / 1e6, 480.0);
    }
}

/// What a start takes.
struct Start {
    /// Seconds until the first answer.
    time: f64,
    /// Seconds of processor time.
    used: f64,
    /// Bytes in memory.
    resident: u64,
}

/// Starts a node with so many keys, several times.
fn measure(keys: u32) -> Start {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut init = Command::new(env!("CARGO_BIN_EXE_tenmint"));
    init.args(["init", "--issuer", "http://127.0.0.1"]).current_dir(directory.path());
    assert!(init.stdout(Stdio::null()).status().unwrap().success());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(fill(directory.path(), keys));

    let (mut times, mut used, mut resident) = (Vec::new(), Vec::new(), 0);
    for _ in 0..RUNS {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_tenmint"));
        serve.args(["serve", "--listen", &address]).current_dir(directory.path());
        let began = Instant::now();
        let running = Pinned::spawn("0,1", &serve);
        wait_for_answer(&address);
        times.push(began.elapsed().as_secs_f64());
        used.push(running.processor_time().as_secs_f64());
        resident = running.resident();
    }
    Start { time: median(times), used: median(used), resident }
}
