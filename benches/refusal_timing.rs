//! Does the time of a refusal tell an unknown key from a wrong secret? (`cargo bench --bench
//! refusal_timing`; an argument sets the samples of a class.)
//!
//! Three kinds of wrong credential take turns on one connection. For each pair the difference of
//! the means is divided by its standard error: below 5, the times tell nothing.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench that fails says where, and prints what it measured"
)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use support::{Pinned, free_address, median, wait_for_answer};

const CLASSES: [&str; 3] = ["unknown key", "wrong secret", "malformed"];

fn main() {
    let number = std::env::args().find_map(|argument| argument.parse().ok());
    let samples: usize = number.unwrap_or(20_000);
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut init = Command::new(env!("CARGO_BIN_EXE_tenmint"));
    init.args(["init", "--issuer", "http://127.0.0.1", "-o", "json"]);
    let output = init.current_dir(directory.path()).output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let (id, text) =
        (json["api_key"]["id"].as_str().unwrap(), json["api_key"]["api_key"].as_str().unwrap());
    // one address sends them all
    std::fs::write(directory.path().join("tenmint.toml"), "failures_per_minute = 0").unwrap();
    let mut serve = Command::new(env!("CARGO_BIN_EXE_tenmint"));
    serve.args(["serve", "--listen", &address]).current_dir(directory.path());
    let server = Pinned::spawn("0", serve.env("TENMINT_LOG", "warn"));
    wait_for_answer(&address);

    let other = format!("{}{}", &text[..text.len() - 4], "0000");
    let requests = [
        request("key_0000000000000000", &other),
        request(id, &other),
        request(id, &"x".repeat(text.len())),
    ];
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut times: [Vec<f64>; 3] = Default::default();
    for turn in 0..samples * 3 {
        // each class follows each other one equally often
        let class = (turn + turn / 3) % 3;
        times[class].push(time_of(&mut stream, &requests[class]));
    }
    println!("{samples} samples a class, us");
    for (class, times) in CLASSES.iter().zip(&times) {
        println!("{class:<14} median {:.2}", median(times.clone()));
    }
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let z = z(&times[a], &times[b]);
        println!("z {} / {}: {z:.1}", CLASSES[a], CLASSES[b]);
        assert!(z < 5.0, "{} and {} can be told apart", CLASSES[a], CLASSES[b]);
    }
    drop(server);
}

/// The same length for every class, so that only what the server does can differ.
fn request(id: &str, text: &str) -> String {
    let body = "grant_type=client_credentials";
    format!(
        "POST /oauth/token HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        STANDARD.encode(format!("{id}:{text}")),
        body.len()
    )
}

fn time_of(stream: &mut TcpStream, request: &str) -> f64 {
    let mut answer = [0; 4096];
    let began = Instant::now();
    stream.write_all(request.as_bytes()).unwrap();
    let read = stream.read(&mut answer).unwrap();
    let took = began.elapsed().as_secs_f64() * 1e6;
    assert!(answer[..read].starts_with(b"HTTP/1.1 401"));
    took
}

/// Without the slowest twentieth of each, which is the machine's noise.
fn z(a: &[f64], b: &[f64]) -> f64 {
    let moments = |times: &[f64]| {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.truncate(sorted.len() * 19 / 20);
        let count = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / count;
        let variance = sorted.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / count;
        (mean, variance / count)
    };
    let ((mean_a, error_a), (mean_b, error_b)) = (moments(a), moments(b));
    (mean_a - mean_b).abs() / (error_a + error_b).sqrt()
}
