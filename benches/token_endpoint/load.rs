//! The load: HTTP/1.1 keep-alive over 256 connections, as fast as it goes or at a pace.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::block_on;

const CONNECTIONS: usize = 256;

/// Writes down what a load is to send, in turn.
pub(crate) fn write_requests(file: &Path, requests: &[String]) {
    std::fs::write(file, serde_json::to_vec(requests).unwrap()).unwrap();
}

pub(crate) fn read_requests(file: impl AsRef<Path>) -> Vec<String> {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// So many requests over 256 connections, each waiting for its answer. They take turns with those of a file.
pub(crate) fn load(address: &str, file: &str, requests: usize) {
    let address: SocketAddr = address.parse().unwrap();
    let each = requests.div_ceil(CONNECTIONS);
    let requests: Arc<[String]> = read_requests(file).into();
    block_on(async move {
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let requests = Arc::clone(&requests);
                tokio::spawn(async move {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    for round in 0..each {
                        let turn = (round * CONNECTIONS + number) % requests.len();
                        exchange(&mut stream, &requests[turn]).await;
                    }
                })
            })
            .collect();
        // a load that sleeps has to be woken, and the kernel charges that to the server
        let awake = tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        for connection in connections {
            connection.await.unwrap();
        }
        awake.abort();
    });
}

/// The first request of a file, and the length of the body of its answer.
pub(crate) async fn exchange_once(address: SocketAddr, file: &Path) -> usize {
    let mut stream = TcpStream::connect(address).await.unwrap();
    exchange(&mut stream, &read_requests(file)[0]).await
}

/// One request, and the length of the body of its answer.
async fn exchange(stream: &mut TcpStream, request: &str) -> usize {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Answer::default();
    loop {
        answer.have += stream.read(answer.room()).await.unwrap();
        if let Some(length) = answer.body() {
            return length;
        }
    }
}

/// What has come of an answer.
struct Answer {
    bytes: [u8; 4096],
    have: usize,
}

impl Default for Answer {
    fn default() -> Self {
        Self { bytes: [0; 4096], have: 0 }
    }
}

impl Answer {
    /// Where the rest goes.
    fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.have..]
    }

    /// The length of its body, once all of it has come.
    fn body(&self) -> Option<usize> {
        let text = &self.bytes[..self.have];
        let head = text.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
        assert!(text.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(text));
        let name = b"content-length: ";
        let is_name = |bytes: &[u8]| bytes.eq_ignore_ascii_case(name);
        let at = text.windows(name.len()).position(is_name).unwrap() + name.len();
        let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit());
        let length = digits.fold(0, |number, byte| number * 10 + usize::from(byte - b'0'));
        (self.have == head + 4 + length).then_some(length)
    }
}

/// The same at a pace of so many a second: requests come evenly, and connections take turns, whether or not the
/// one before has its answer. Prints how many milliseconds each took from its turn on, in the order of turns.
///
/// Each connection is a thread that sleeps until its turn: the timers of tokio count whole milliseconds and would
/// send in bursts, and a load that never sleeps leaves a machine of two cores none for whatever else runs there.
pub(crate) fn pace(address: &str, file: &str, a_second: f64, requests: usize) {
    let request = &read_requests(file)[0];
    let each = requests.div_ceil(CONNECTIONS);
    let turns = turns(a_second);
    let send = |number: usize| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let time = |turn: Instant| {
            wait_for(turn);
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = Answer::default();
            while answer.body().is_none() {
                answer.have += stream.read(answer.room()).unwrap();
            }
            milliseconds_since(turn)
        };
        let turns = turns.clone().skip(number).step_by(CONNECTIONS).take(each);
        turns.map(time).collect::<Vec<_>>()
    };
    // printed when all have ended, since to print holds up those that have not
    let times: Vec<_> = std::thread::scope(|scope| {
        let send = &send;
        let threads: Vec<_> =
            (0..CONNECTIONS).map(|number| scope.spawn(move || send(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    print_times((0..each).flat_map(|round| times.iter().map(move |times| times[round])));
}

/// Asks for commits at a pace of so many a second, whether or not the one before is done, by a byte each, and
/// prints how many milliseconds each took from its turn on.
pub(crate) fn ask(address: &str, a_second: f64, commits: usize) {
    let mut stream = connected(address);
    stream.set_nodelay(true).unwrap();
    let mut asking = stream.try_clone().unwrap();
    let turns = turns(a_second).take(commits);
    let asked = turns.clone();
    let asking = std::thread::spawn(move || {
        for turn in asked {
            wait_for(turn);
            asking.write_all(&[0]).unwrap();
        }
    });
    let time = |turn| {
        stream.read_exact(&mut [0]).unwrap();
        milliseconds_since(turn)
    };
    let times: Vec<_> = turns.map(time).collect();
    asking.join().unwrap();
    print_times(times);
}

/// A connection to what is about to listen.
fn connected(address: &str) -> std::net::TcpStream {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        match std::net::TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(cause) => assert!(Instant::now() < give_up, "{address}: {cause}"),
        }
        std::thread::yield_now();
    }
}

/// Moments that are evenly apart, so many a second.
fn turns(a_second: f64) -> impl Iterator<Item = Instant> + Clone {
    let apart = Duration::from_secs_f64(1.0 / a_second);
    let first = Instant::now() + Duration::from_millis(100);
    (0..).map(move |number: u32| first + apart.mul_f64(f64::from(number)))
}

/// Sleeps until a turn, where that is yet to come.
fn wait_for(turn: Instant) {
    std::thread::sleep(turn.saturating_duration_since(Instant::now()));
}

fn milliseconds_since(turn: Instant) -> f64 {
    turn.elapsed().as_secs_f64() * 1e3
}

fn print_times(times: impl IntoIterator<Item = f64>) {
    for time in times {
        println!("{time:.4}");
    }
}
