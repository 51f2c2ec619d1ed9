//! A disk that takes no more: the system lets no file of the server grow, as one that is full would not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;

use crate::answer::Answer;
use crate::cli::{Home, Serving, free_address};
use crate::ledger::{self, hold_to_record};
use crate::server::{basic, token_request};

const ROUNDS: usize = 3;

#[tokio::test]
async fn a_full_disk_loses_and_doubles_no_record_and_the_node_recovers_by_itself() {
    let home = Home::new();
    let init = home.init("https://auth.example.com");
    let field = |name: &str| init["api_key"][name].as_str().unwrap().to_owned();
    let (id, text) = (field("id"), field("api_key"));
    let address = free_address();
    let serving = Serving::of(without_signal(&home.command(&["serve", "--listen", &address])));
    let token = || ask(&address, &token_request(&basic(&id, &text)));
    let create = || ask(&address, &create_request(&text));
    let (mut received, mut created) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        received.push(ledger::received(&token()));
        limit_files(&serving, Some(1));
        for _ in 0..3 {
            let refused = token();
            assert_eq!(refused.outcome(), "503 temporarily_unavailable", "round {round}");
            assert!(refused.header("retry-after").is_some());
        }
        let refused = create();
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
        assert_eq!(ask(&address, "GET /healthz HTTP/1.0\r\n\r\n").status, 200);
        assert_eq!(ask(&address, "GET /readyz HTTP/1.0\r\n\r\n").status, 503);
        limit_files(&serving, None);
        received.push(ledger::received(&until_it_succeeds(token)));
        assert_eq!(until_it_succeeds(create).status, 201);
        created += 1;
    }
    drop(serving);
    hold_to_record(&home, &received).await;
    assert_eq!(created, ROUNDS);
}

/// The same command, without the signal that the system ends a process by whose file may not grow: then
/// writing fails.
fn without_signal(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(command.get_program());
    shell.args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(command.get_current_dir().unwrap());
    shell
}

/// Up to where files of the server may be written.
fn limit_files(serving: &Serving, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Pid::from_child(&serving.child).into(), Resource::Fsize, limit).unwrap();
}

fn ask(address: &str, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Answer::parse(&answer)
}

/// A node tries again by itself, four times a second.
fn until_it_succeeds(request: impl Fn() -> Answer) -> Answer {
    loop {
        let answer = request();
        match answer.status {
            200 | 201 => return answer,
            503 => {}
            _ => panic!("{answer:?}"),
        }
    }
}

fn create_request(api_key: &str) -> String {
    let body = json!({"name": "app", "scopes": ["chat"]}).to_string();
    format!(
        "POST /v1/keys HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {api_key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
