//! A node that is started while its database is away.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;

use crate::cli::{Home, Serving, free_address, stderr};
use crate::server::Answer;

/// What a node answers, once on a connection.
fn asked(address: &str, method: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Answer::parse(&answer)
}

/// Hands on every connection to a database that is elsewhere.
fn forward(from: &TcpListener, to: &str) {
    for near in from.incoming().flatten() {
        let Ok(far) = TcpStream::connect(to) else { continue };
        for (mut from, mut to) in [
            (near.try_clone().unwrap(), far.try_clone().unwrap()),
            (far.try_clone().unwrap(), near.try_clone().unwrap()),
        ] {
            thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
        }
    }
}

#[test]
fn a_node_that_is_started_without_its_database_waits_and_says_so() {
    let homes = Home::on_each_engine();
    let Some(home) = homes.iter().find(|home| home.database_url.is_some()) else { return };
    let address = free_address();
    home.init(&format!("http://{address}"));
    let url = home.database_url.as_ref().unwrap();
    let (before, place) = url.split_once('@').unwrap();
    let (database, name) = place.split_once('/').unwrap();
    let [away, observed] = [free_address(), free_address()];
    let mut command = home.command(&["serve", "--listen", &address, "--observe-listen", &observed]);
    command.env("TENMINT_DATABASE_URL", format!("{before}@{away}/{name}")).stdout(Stdio::null());
    let mut serving = Serving::waiting(command);
    assert_eq!(asked(&observed, "GET", "/healthz").status, 200, "a probe asks there");
    assert_eq!(asked(&observed, "GET", "/metrics").status, 503);
    let health = asked(&address, "GET", "/healthz");
    assert_eq!(health.status, 200);
    let ready = asked(&address, "GET", "/readyz");
    assert_eq!(
        (ready.status, ready.body.as_str()),
        (503, r#"{"status":"waiting_for_the_database"}"#)
    );
    let token = asked(&address, "POST", "/oauth/token");
    assert_eq!(token.outcome(), "503 temporarily_unavailable");
    assert_eq!(token.header("retry-after"), Some("2"));
    let call = asked(&address, "GET", "/v1/keys");
    assert_eq!((call.status, &call.json()["code"]), (503, &"unavailable".into()));
    let listener = TcpListener::bind(&away).unwrap();
    let database = database.to_owned();
    thread::spawn(move || forward(&listener, &database));
    serving.read_until("tenmint listens on");
    for address in [&address, &observed] {
        assert_eq!(asked(address, "GET", "/readyz").body, r#"{"status":"ready"}"#);
    }
    assert_eq!(asked(&observed, "GET", "/metrics").status, 200);
    let log = serving.stop();
    assert_eq!(log.matches("waiting for the database").count(), 1, "once a minute: {log}");
}

#[test]
fn a_node_that_waits_stops_when_it_is_asked_to() {
    let homes = Home::on_each_engine();
    let Some(home) = homes.iter().find(|home| home.database_url.is_some()) else { return };
    let address = free_address();
    home.init(&format!("http://{address}"));
    let away = free_address();
    let mut command = home.command(&["serve", "--listen", &address]);
    command.env("TENMINT_DATABASE_URL", format!("postgres://tenmint@{away}/nowhere"));
    let serving = Serving::waiting(command);
    serving.signal("HUP");
    assert_eq!(asked(&address, "GET", "/healthz").status, 200, "a reload ends no node");
    serving.stop();
}

#[test]
fn what_an_operator_has_to_mend_is_not_waited_for() {
    let home = Home::new();
    let output = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(!output.status.success() && stderr(&output).contains("hint:"), "{}", stderr(&output));
}
