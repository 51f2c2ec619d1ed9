//! What goes wrong: exit codes, words, and servers that are none.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Output;
use std::thread::JoinHandle;

use super::{Home, Live, stderr};

/// Answers so many requests with the same bytes, and gives what was asked.
fn responder(answer: &str, requests: usize) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = answer.to_owned();
    let answering = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for stream in listener.incoming().take(requests) {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head += &line;
                if line.trim().is_empty() {
                    break;
                }
            }
            reader.take(length).read_to_string(&mut head).unwrap();
            asked.push(head);
            stream.write_all(answer.as_bytes()).unwrap();
        }
        asked
    });
    (url, answering)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
}

fn ask(url: &str, arguments: &[&str]) -> Output {
    let home = Home::new();
    let mut command = home.command(arguments);
    command.env("TENMINT_URL", url).env("TENMINT_API_KEY", "tm_secret").output().unwrap()
}

fn failed(url: &str, arguments: &[&str], code: i32, says: &str) {
    let output = ask(url, arguments);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(says), "{says}: {said}");
    assert!(!said.contains("tm_secret"), "{said}");
}

#[test]
fn a_bad_argument_names_the_field_and_the_fix_and_exits_2() {
    let live = Live::start();
    for (arguments, says) in [
        (&["-n", "x", "--scopes", "read"][..], "`read` needs a filter: write `read:*`"),
        (&["-n", "", "--scopes", "chat"], "`name`"),
        (&["-n", "x", "--scopes", "read:/a,chat"], "does not start with `/`"),
        (&["-n", "x", "--scopes", ""], "`scopes`"),
        (&["-n", "x", "--scopes", "chat", "--expires", "yesterday"], "`expires_at`"),
        (&["-n", "x", "--scopes", "chat", "--expires-at", "2020-01-01"], "`expires_at`"),
        (&["-n", "x", "--scopes", "chat", "--description", "a\u{1b}[31m"], "no controls"),
        (&["-n", "x", "--scopes", "chat", "--endpoint", "nonsense"], "`audiences`"),
        (&["-n", "x", "--scopes", "chat", "--rpm", "0"], "`quota"),
        (&["-n", "x", "--scopes", "chat", "--allow", "10.0.0.1/8"], "`allow`"),
        (&["-n", "x", "--scopes", "chat", "--window", "5"], "--rpm"),
        (&["-n", "x", "--scopes", "chat", "--key-type", "robot"], "user, service"),
    ] {
        let (code, said) = live.refusal(&[&["keys", "create"], arguments].concat());
        assert_eq!(code, 2, "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    let (_, both) = live.refusal(&["keys", "create", "-n", "", "-s", "read"]);
    assert!(both.contains("`name`") && both.contains("`scopes`"), "all at once");
    assert_eq!(live.refusal(&["keys", "show", "key_0000000000000000"]).0, 3);
    assert_eq!(live.refusal(&["keys", "show", "org_0000000000000000"]).0, 3);
    assert_eq!(live.refusal(&["keys", "create", "-n", "x", "--organization", "no"]).0, 3);
    assert_eq!(live.refusal(&["spaces", "show", "no"]).0, 3);
}

#[test]
fn a_redirect_is_not_followed_and_carries_no_key() {
    let (elsewhere, _never) = responder("", 0);
    let redirect =
        answer("307 Temporary Redirect", &format!("Location: {elsewhere}/v1/keys\r\n"), "");
    let (url, asked) = responder(&redirect, 1);
    failed(&url, &["keys"], 1, &format!("redirects to {elsewhere}/v1/keys"));
    assert!(asked.join().unwrap()[0].contains("Bearer tm_secret"));
}

#[test]
fn what_answers_and_is_no_tenmint_is_told() {
    for (status, body, code, says) in [
        ("200 OK", "<html>", 1, "is not tenmint"),
        ("502 Bad Gateway", "<html>", 5, "answers `502 Bad Gateway`"),
        ("404 Not Found", "", 3, "answers `404 Not Found`"),
        ("200 OK", "{\"items\": [", 1, "is not tenmint"),
    ] {
        let (url, _) = responder(&answer(status, "", body), 1);
        failed(&url, &["keys"], code, says);
    }
}

#[test]
fn whatever_answers_instead_of_a_token_endpoint_is_told_by_its_status() {
    for (status, code, says) in [
        ("502 Bad Gateway", 5, "answers `502 Bad Gateway`"),
        ("503 Service Unavailable", 5, "answers `503 Service Unavailable`"),
        ("504 Gateway Timeout", 5, "answers `504 Gateway Timeout`"),
        ("404 Not Found", 3, "answers `404 Not Found`"),
        ("200 OK", 1, "is no token endpoint"),
        ("307 Temporary Redirect", 1, "answers `307 Temporary Redirect`"),
    ] {
        for body in ["<html>", ""] {
            let (url, _) = responder(&answer(status, "Content-Type: text/html\r\n", body), 1);
            failed(&url, &["token"], code, says);
        }
    }
}

#[test]
fn a_server_that_is_busy_or_away_exits_5() {
    let busy = r#"{"code": "unavailable", "detail": "the database is out of reach"}"#;
    let (url, _) = responder(&answer("503 Service Unavailable", "Retry-After: 2\r\n", busy), 1);
    failed(&url, &["keys"], 5, "out of reach (`unavailable`)\nhint: try again in 2 s");
    failed("http://127.0.0.1:9", &["keys"], 5, "does not answer: Connection refused");
    let (url, _) = responder("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", 1);
    failed(&url, &["keys"], 5, "does not answer");
    let (url, _) = responder("", 1);
    failed(&url, &["spaces", "create", "x"], 5, "whether it was done is not known");
}

#[test]
fn nothing_that_a_server_says_steers_the_terminal() {
    let evil = r#"{"items": [{"id": "key_1", "name": "\u001b]0;x\u0007\u009b31m\u202e"}], "next_cursor": null}"#;
    for form in ["table", "json", "jsonl"] {
        let (url, _) = responder(&answer("200 OK", "", evil), 1);
        let output = ask(&url, &["keys", "-o", form]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{form}: {text:?}");
    }
    let evil = r#"{"code": "x", "detail": "\u001b[2J"}"#;
    let (url, _) = responder(&answer("400 Bad Request", "", evil), 1);
    let said = stderr(&ask(&url, &["keys"]));
    assert!(said.contains("\\u{1b}[2J"), "{said:?}");
}

#[test]
fn a_server_that_gives_the_same_page_for_ever_is_left() {
    let page = r#"{"items": [{"id": "key_1"}], "next_cursor": "again"}"#;
    let (url, _) = responder(&answer("200 OK", "", page), 2);
    failed(&url, &["keys", "-o", "csv"], 1, "the same page again");
}

#[test]
fn a_url_or_a_key_that_is_none_is_refused_before_anything_is_sent() {
    for url in ["auth.example.com", "ftp://x", "http://me:hunter2@x", "http://x?y"] {
        failed(url, &["keys"], 2, "is no URL of a server");
    }
    let home = Home::new();
    let mut command = home.command(&["keys"]);
    let command = command.env("TENMINT_URL", "http://127.0.0.1:9").env("TENMINT_API_KEY", "a\nb");
    assert_eq!(command.output().unwrap().status.code(), Some(2));
}
