//! Kill -9 at random moments: what was acknowledged is there, and nothing is there by half.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tenmint::clock::Clock;
use tenmint::service::Service;
use tenmint::service::node::{Node, NodeConfig};
use tenmint::store::api_key_lists::{self, ApiKeyFilter};
use tenmint::store::page::Cursor;
use tenmint::store::{DatabaseUrl, Store, orgs};

use crate::cli::{Home, Serving, free_address};

/// Rounds on the engine of a home; `tests/run --long` asks for more, and for fewer of them on
/// PostgreSQL, which goes on when a node is killed.
pub fn rounds(home: &Home) -> usize {
    let said = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let on_postgres = home.database_url.as_ref().and_then(|_| said("TENMINT_KILL_ROUNDS_POSTGRES"));
    on_postgres.or_else(|| said("TENMINT_KILL_ROUNDS")).unwrap_or(20)
}

/// The name of the engine of a home, for a count that is printed.
pub fn engine(home: &Home) -> &'static str {
    if home.database_url.is_some() { "PostgreSQL" } else { "SQLite" }
}

/// Milliseconds below a bound, from the random source of the system.
pub fn some_time(below: u8) -> Duration {
    let mut byte = [0];
    SystemRandom::new().fill(&mut byte).unwrap();
    Duration::from_millis(u64::from(byte[0] % below))
}

#[tokio::test]
async fn every_acknowledged_key_survives_a_kill_and_none_is_there_by_half() {
    for home in Home::on_each_engine() {
        let init = home.init("https://auth.example.com");
        let api_key = init["api_key"]["api_key"].as_str().unwrap();
        let mut acknowledged = BTreeSet::new();
        let rounds = rounds(&home);
        for round in 0..rounds {
            acknowledged.extend(create_keys_until_killed(&home, api_key, round));
        }
        let url = home.database_url.as_deref().map(DatabaseUrl::parse);
        let url = url.map_or_else(
            || DatabaseUrl::in_directory(&home.path().join("data")),
            |url| url.unwrap(),
        );
        let keys_dir = home.path().join("keys");
        let service = Service::open(&url, &keys_dir, Clock::system()).await.unwrap();
        let node = Node::start(service, NodeConfig::in_directory(home.path())).await.unwrap();
        let mint = node.mint.clone();
        let store = Store::open(&url).await.unwrap();
        let mut read = store.read().await.unwrap();
        let org = orgs::list(&mut read).await.unwrap().remove(0).id;
        let mut stored = BTreeSet::new();
        let (filter, mut after) = (ApiKeyFilter::all_of(org), Cursor::start());
        loop {
            let now = Clock::system().now();
            let page = api_key_lists::list(&mut read, &filter, &after, 200, now).await.unwrap();
            stored.extend(page.items.iter().map(|key| key.id.to_string()));
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        let lost: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(lost.is_empty(), "{lost:?}");
        assert!(acknowledged.len() > rounds / 4, "the kills came before any key was made");
        // a key without secret or owner would be no entry of the index
        assert_eq!(mint.index().len(), stored.len());
        assert_eq!(mint.index().secrets(), stored.len());
        println!(
            "{}: {rounds} rounds, {} keys acknowledged, {} stored",
            engine(&home),
            acknowledged.len(),
            stored.len(),
        );
    }
}

/// Makes one key after the other through the API, and kills the server at a random moment. The ids
/// that were printed before count as acknowledged.
fn create_keys_until_killed(home: &Home, api_key: &str, round: usize) -> Vec<String> {
    let address = free_address();
    let serving = Serving::start(home, &["--listen", &address]);
    let script = "while \"$0\" keys create -n \"$1\" --scopes chat -o json; do :; done";
    let mut shell = std::process::Command::new("bash");
    shell
        .args(["-c", script, env!("CARGO_BIN_EXE_tenmint"), &format!("round-{round}")])
        .env("TENMINT_URL", format!("http://{address}"))
        .env("TENMINT_API_KEY", api_key)
        .current_dir(home.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = shell.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (send, receive) = mpsc::channel();
    let reading = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok).filter(|line| line.contains("\"id\"")) {
            send.send(line).unwrap();
        }
    });
    let mut ids: Vec<String> = receive.recv().into_iter().collect();
    // the first key is made: now any moment will do
    std::thread::sleep(some_time(60));
    drop(serving);
    child.wait().unwrap();
    reading.join().unwrap();
    ids.extend(receive.try_iter());
    ids.iter().filter_map(|line| line.split('"').nth(3).map(str::to_owned)).collect()
}
