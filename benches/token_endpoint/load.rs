//! The load: HTTP/1.1 keep-alive over 256 connections, as fast as it goes or at a pace.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::block_on;

const CONNECTIONS: usize = 256;

/// So many requests over 256 connections, each waiting for its answer.
pub(crate) fn load(address: &str, request: &str, requests: usize) {
    let address: SocketAddr = address.parse().unwrap();
    let each = requests.div_ceil(CONNECTIONS);
    block_on(async move {
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let request = request.to_owned();
                tokio::spawn(async move {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    for _ in 0..each {
                        exchange(&mut stream, &request).await;
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

pub(crate) async fn exchange_once(address: SocketAddr, request: &str) -> usize {
    exchange(&mut TcpStream::connect(address).await.unwrap(), request).await
}

/// One request, and the length of the body of its answer.
async fn exchange(stream: &mut TcpStream, request: &str) -> usize {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0_u8; 4096];
    let mut have = 0;
    loop {
        have += stream.read(&mut answer[have..]).await.unwrap();
        let text = &answer[..have];
        let Some(head) = text.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        assert!(text.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(text));
        let name = b"content-length: ";
        let is_name = |bytes: &[u8]| bytes.eq_ignore_ascii_case(name);
        let at = text.windows(name.len()).position(is_name).unwrap() + name.len();
        let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit());
        let length = digits.fold(0, |number, byte| number * 10 + usize::from(byte - b'0'));
        if have == head + 4 + length {
            return length;
        }
    }
}

/// The same at a pace of so many a second: requests come evenly, and connections take turns, whether or not the
/// one before has its answer. Prints how many milliseconds each took from its turn on.
pub(crate) fn pace(address: &str, request: &str, a_second: f64, requests: usize) {
    let address: SocketAddr = address.parse().unwrap();
    let apart = Duration::from_secs_f64(1.0 / a_second);
    let each = requests.div_ceil(CONNECTIONS);
    block_on(async move {
        let began = Instant::now() + Duration::from_millis(100);
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let request = request.to_owned();
                tokio::spawn(async move {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    let mut times = Vec::with_capacity(each);
                    for round in 0..each {
                        let turn = began + apart.mul_f64((round * CONNECTIONS + number) as f64);
                        // the timers of tokio count whole milliseconds, and would send in bursts
                        while Instant::now() < turn {
                            tokio::task::yield_now().await;
                        }
                        exchange(&mut stream, &request).await;
                        times.push(turn.elapsed().as_secs_f64() * 1e3);
                    }
                    times
                })
            })
            .collect();
        // printed when all have ended, since to print holds up those that have not
        let mut all = Vec::with_capacity(requests);
        for connection in connections {
            all.extend(connection.await.unwrap());
        }
        for time in all {
            println!("{time:.4}");
        }
    });
}
