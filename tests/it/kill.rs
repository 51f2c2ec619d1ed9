//! Kill -9 at random moments: what was acknowledged is there, and nothing is there by half.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tenmint::clock::Clock;
use tenmint::service::Service;
use tenmint::service::api_keys::ListApiKeys;
use tenmint::store::DatabaseUrl;

use crate::cli::Home;

/// Rounds an engine; `tests/run --long` asks for more.
fn rounds() -> usize {
    std::env::var("TENMINT_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// Milliseconds below a bound, from the random source of the system.
fn some_time(below: u8) -> Duration {
    let mut byte = [0];
    SystemRandom::new().fill(&mut byte).unwrap();
    Duration::from_millis(u64::from(byte[0] % below))
}

#[tokio::test]
async fn every_acknowledged_key_survives_a_kill_and_none_is_there_by_half() {
    for home in Home::on_each_engine() {
        home.init("https://auth.example.com");
        let mut acknowledged = BTreeSet::new();
        for round in 0..rounds() {
            acknowledged.extend(create_keys_until_killed(&home, round));
        }
        let url = home.database_url.as_deref().map(DatabaseUrl::parse);
        let url = url.map_or_else(
            || DatabaseUrl::in_directory(&home.path().join("data")),
            |url| url.unwrap(),
        );
        let keys_dir = home.path().join("keys");
        let mut service = Service::open(&url, &keys_dir, Clock::system()).await.unwrap();
        let (mint, _) = service.start_mint(Duration::from_mins(5)).await.unwrap();
        let mut stored = BTreeSet::new();
        let mut after = None;
        loop {
            let page =
                service.list_api_keys(ListApiKeys { all: true, limit: 200, after }).await.unwrap();
            stored.extend(page.api_keys.iter().map(|key| key.id.to_string()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let lost: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "{lost:?}");
        assert!(acknowledged.len() > rounds() / 4, "the kills came before any key was made");
        // a key without secret or owner would be no entry of the index
        assert_eq!(mint.index().len(), stored.len());
        assert_eq!(mint.index().secrets(), stored.len());
    }
}

/// Runs one command after the other and kills the last one at a random moment. The ids that were
/// printed before count as acknowledged.
fn create_keys_until_killed(home: &Home, round: usize) -> Vec<String> {
    let name = format!("round-{round}");
    let script =
        "while :; do \"$0\" keys create -n \"$1\" --scopes chat -o json | grep '\"id\"'; done";
    let mut shell = std::process::Command::new("setsid");
    shell.args(["bash", "-c", script, env!("CARGO_BIN_EXE_tenmint"), &name]);
    if let Some(url) = &home.database_url {
        shell.env("TENMINT_DATABASE_URL", url);
    }
    let mut child = shell
        .current_dir(home.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (send, receive) = mpsc::channel();
    let reading = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            send.send(line).unwrap();
        }
    });
    let mut ids: Vec<String> = receive.recv().into_iter().collect();
    // the first key is made: now any moment will do, and the whole group dies at once
    let killer = std::process::Command::new("sh")
        .args(["-c", &format!("sleep 0.{:03}; kill -9 -{}", some_time(60).as_millis(), child.id())])
        .status();
    assert!(killer.unwrap().success());
    child.wait().unwrap();
    reading.join().unwrap();
    ids.extend(receive.try_iter());
    ids.iter().filter_map(|line| line.split('"').nth(3).map(str::to_owned)).collect()
}
