//! A barrage of what is no good request, at the program itself: nothing of it is a fault of ours, and what it took
//! comes back.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use crate::answer::ask;
use crate::cli::Live;
use crate::server::{basic, token_request};

/// Rounds of all shots, by each of the attackers.
const ROUNDS: usize = 25;
const ATTACKERS: usize = 4;
/// Sockets that ask for nothing, or never finish.
const SILENT: usize = 300;
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(20);
/// Files that a node may have open beside what it had: three for each connection to its database.
const SOME_FILES: usize = 40;
/// What an allocator keeps for the next barrage.
const SOME_KIB: u64 = 150 * 1024;

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

/// What is sent, each on a connection of its own.
fn shots(administrator: &str) -> Vec<Vec<u8>> {
    let post = |path: &str, head: &str, body: &[u8]| {
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    };
    let form = |body: &[u8]| post("/oauth/token", FORM, body);
    let management =
        format!("Authorization: Bearer {administrator}\r\nContent-Type: application/json\r\n");
    let json = |body: &str| post("/v1/keys", &management, body.as_bytes());
    let get = |path: &str, head: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n").into_bytes()
    };
    let stranger = basic("key_0000000000000000", "tm_default_nobody");
    vec![
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        vec![0xff; 70_000],
        b"\r\n".repeat(20_000),
        get("/healthz", &"X-A: b\r\n".repeat(5_000)),
        get("/healthz", &format!("X-A: {}\r\n", "b".repeat(1 << 20))),
        get(&format!("/{}", "a".repeat(1 << 20)), ""),
        get("/v1/keys?cursor=%ff%00&limit=-1", &management),
        get("/oauth/revocations?after=99999999999999999999&wait=x", ""),
        form(b""),
        form(&b"a=b&".repeat(20_000)),
        form(&vec![b'%'; 8_000]),
        form(&vec![0; 1 << 20]),
        form(b"grant_type=client_credentials&scope=\xc3\x28&scope=%00"),
        form(format!("grant_type=client_credentials&scope={}", "a:b/".repeat(1_500)).as_bytes()),
        post("/oauth/token", &format!("{FORM}Authorization: {stranger}\r\n"), b"grant_type=client_credentials"),
        post("/oauth/token", &format!("{FORM}Authorization: Basic {}\r\n", "=".repeat(30_000)), b""),
        post("/oauth/token", &format!("{FORM}Content-Encoding: gzip\r\n"), &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0]),
        post("/oauth/introspect", &format!("{FORM}Authorization: Bearer {}\r\n", "a.".repeat(15_000)), b"token=x"),
        post("/oauth/uses", "Content-Type: application/json\r\n", b"[[[[["),
        json(&"[".repeat(60_000)),
        json(&format!("{{\"name\": \"{}\"}}", "\\u0000".repeat(8_000))),
        json(&format!("{{\"scopes\": [{}\"x\"]}}", "\"a:b\",".repeat(9_000))),
        json("{\"name\": \"a\", \"name\": \"b\"}"),
        b"POST /oauth/token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec(),
        b"POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
    ]
}

/// What is answered to bytes, after which nothing comes.
fn answer(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    // the other end may have heard enough, and its answer can be lost with what it did not read
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(cause) if cause.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("no end: {answer:?}")
        }
        _ => String::from_utf8_lossy(&answer).into_owned(),
    }
}

fn attack(address: &str, shots: &[Vec<u8>]) {
    for shot in (0..ROUNDS).flat_map(|_| shots) {
        let answer = answer(address, shot);
        for status in answer.split("HTTP/1.1 ").skip(1) {
            let sent = String::from_utf8_lossy(&shot[..shot.len().min(200)]);
            assert!(status.starts_with('4') || status.starts_with('2'), "{sent}\n{answer}");
        }
    }
}

fn attack_together(address: &str, shots: &[Vec<u8>]) {
    thread::scope(|scope| {
        for _ in 0..ATTACKERS {
            scope.spawn(|| attack(address, shots));
        }
    });
}

/// Sockets that hold a place and give nothing for it.
fn silent(address: &str) -> Vec<TcpStream> {
    let starts = ["", "P", "POST /oauth/token HTTP/1.1\r\nHost: x\r\nX-Slow: "];
    let open = |number: usize| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(starts[number % starts.len()].as_bytes()).unwrap();
        stream
    };
    (0..SILENT).map(open).collect()
}

fn open_files(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_barrage_of_bad_input_is_no_fault_of_ours_and_what_it_took_comes_back() {
    let live = Live::start();
    let (address, process) = (live.url.strip_prefix("http://").unwrap(), live.serving.child.id());
    let shots = shots(&live.administrator);
    let good = || {
        let request = token_request(&format!("Bearer {}", live.administrator));
        ask(address, &request).unwrap().status
    };
    assert_eq!(good(), 200);
    let before = (open_files(process), resident_kib(process));
    let silent = silent(address);
    attack_together(address, &shots);
    assert_eq!(good(), 200, "beside {SILENT} sockets that give nothing");
    drop(silent);
    let mut files = (0..10_000).map(|_| (good(), open_files(process)));
    let files = files.find(|(_, files)| *files <= before.0 + SOME_FILES);
    let memory = resident_kib(process);
    let (sent, shots) = (ATTACKERS * ROUNDS * shots.len(), shots.len());
    println!(
        "{sent} shots of {shots} kinds: files and KiB {before:?} before, {files:?} and {memory} after"
    );
    assert_eq!(files.expect("files stay open").0, 200);
    assert!(memory < before.1 + SOME_KIB, "{before:?}, {memory} KiB after");
    let log = live.serving.stop();
    assert!(!log.contains("panic") && !log.contains("trouble of our own"), "{log}");
}
