//! Kill -9 at random moments: what was acknowledged is there, and nothing is there by half.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection};
use tenmint::clock::Clock;
use tenmint::model::api_key::ApiKey;
use tenmint::service::Service;
use tenmint::service::node::{Node, NodeConfig};
use tenmint::store::api_key_lists::{self, ApiKeyFilter};
use tenmint::store::audit::{self, AuditFilter};
use tenmint::store::page::Cursor;
use tenmint::store::{DatabaseUrl, Read, Store, orgs};

use crate::answer::ask;
use crate::cli::{Home, Serving, free_address};
use crate::server::{basic, management_request, token_request};

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

/// What is done to each key, in this order, and how the audit calls it.
const LIFE: [(&str, &str, &str); 4] = [
    ("POST", "", "api_key.create"),
    ("PATCH", "", "api_key.edit"),
    ("POST", "/rotate", "api_key.rotate"),
    ("POST", "/revoke", "api_key.revoke"),
];

/// The acknowledged changes of a key: so many of its life.
type Acknowledged = (String, usize);

#[tokio::test]
async fn every_acknowledged_change_survives_a_kill_and_none_is_there_by_half() {
    for home in Home::on_each_engine() {
        let init = home.init("https://auth.example.com");
        let admin = ["id", "api_key"].map(|field| init["api_key"][field].as_str().unwrap());
        let mut acknowledged = BTreeMap::new();
        let rounds = rounds(&home);
        for _ in 0..rounds {
            acknowledged.extend(change_keys_until_killed(&home, admin));
        }
        let url = home.database_url.as_deref().map(DatabaseUrl::parse);
        let url = url.map_or_else(
            || DatabaseUrl::in_directory(&home.path().join("data")),
            |url| url.unwrap(),
        );
        let keys_dir = home.path().join("keys");
        let service = Service::open(&url, &keys_dir, Clock::system()).await.unwrap();
        let node = Node::start(service, NodeConfig::in_directory(home.path())).await.unwrap();
        let store = Store::open(&url).await.unwrap();
        let mut read = store.read().await.unwrap();
        let stored = keys_in(&mut read).await;
        let told = audited_in(&mut read).await;
        for (id, changes) in &acknowledged {
            let key = stored.get(id).unwrap_or_else(|| panic!("{id} was acknowledged and is lost"));
            let seen =
                [true, key.name == "edited", key.rotated_at.is_some(), key.revoked_at.is_some()];
            assert_eq!(seen[..*changes], [true; 4][..*changes], "{changes} changes of {key:?}");
        }
        // a change that nobody had an answer for may be there, and then with its entry in the audit
        for (id, key) in stored.iter().filter(|(id, _)| id.as_str() != admin[0]) {
            let seen =
                [true, key.name == "edited", key.rotated_at.is_some(), key.revoked_at.is_some()];
            for ((.., action), seen) in LIFE.iter().zip(seen) {
                let is_told = told.contains(&(id.clone(), (*action).to_owned()));
                assert_eq!(is_told, seen, "{action} of {key:?}");
            }
        }
        assert!(acknowledged.len() > rounds / 4, "the kills came before any key was made");
        // a key without secret or owner would be no entry of the index; a rotated one has had two
        let index = node.mint.index();
        assert_eq!(index.len(), stored.len());
        assert!(index.secrets() >= stored.len(), "{} of {}", index.secrets(), stored.len());
        if home.database_url.is_none() {
            assert_eq!(faults_of(&home.path().join("data/tenmint.db")).await, ["ok"]);
        }
        let changes: usize = acknowledged.values().sum();
        println!(
            "{}: {rounds} rounds, {changes} changes of {} keys acknowledged, {} keys stored",
            engine(&home),
            acknowledged.len(),
            stored.len(),
        );
    }
}

async fn keys_in(read: &mut Read) -> BTreeMap<String, ApiKey> {
    let org = orgs::list(read).await.unwrap().remove(0).id;
    let (filter, mut after) = (ApiKeyFilter::all_of(org), Cursor::start());
    let mut keys = BTreeMap::new();
    loop {
        let now = Clock::system().now();
        let page = api_key_lists::list(read, &filter, &after, 200, now).await.unwrap();
        keys.extend(page.items.into_iter().map(|key| (key.id.to_string(), key)));
        match page.next {
            Some(next) => after = next,
            None => return keys,
        }
    }
}

/// Which object was changed how, as the audit tells it.
async fn audited_in(read: &mut Read) -> BTreeSet<(String, String)> {
    let org = orgs::list(read).await.unwrap().remove(0).id;
    let filter = AuditFilter { org: Some(org), ..AuditFilter::default() };
    let (mut told, mut before) = (BTreeSet::new(), None);
    loop {
        let (entries, next) = audit::list(read, &filter, before, 200).await.unwrap();
        told.extend(entries.into_iter().map(|entry| (entry.object, entry.action)));
        match next {
            Some(_) => before = next,
            None => return told,
        }
    }
}

/// Leads keys through their life while tokens are fetched, and kills the server at a random moment.
fn change_keys_until_killed(home: &Home, [id, api_key]: [&str; 2]) -> BTreeMap<String, usize> {
    let address = free_address();
    let serving = Serving::start(home, &["--listen", &address]);
    std::thread::scope(|scope| {
        let (tell, told) = channel();
        let address = address.as_str();
        scope.spawn(move || lead_lives(address, api_key, &tell));
        scope.spawn(|| while ask(address, &token_request(&basic(id, api_key))).is_some() {});
        let first = told.recv();
        // the first key is made: now any moment will do
        std::thread::sleep(some_time(150));
        drop(serving);
        first.into_iter().chain(told).collect()
    })
}

/// Tells of each change that was answered, until none is.
fn lead_lives(address: &str, api_key: &str, tell: &Sender<Acknowledged>) {
    let change = |method: &str, path: &str, body: Value| {
        let path = format!("/v1/keys{path}");
        let request = management_request(method, &path, api_key, &body.to_string());
        let answer = ask(address, &request)?;
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        Some(answer.json())
    };
    while let Some(made) = change("POST", "", json!({"name": "made", "scopes": ["chat"]})) {
        let id = made["id"].as_str().unwrap();
        tell.send((id.to_owned(), 1)).unwrap();
        for (done, (method, verb, _)) in LIFE.iter().enumerate().skip(1) {
            let ask = if verb.is_empty() { json!({"name": "edited"}) } else { json!({}) };
            if change(method, &format!("/{id}{verb}"), ask).is_none() {
                return;
            }
            tell.send((id.to_owned(), done + 1)).unwrap();
        }
    }
}

/// What SQLite finds wrong with a file, or `ok`.
pub async fn faults_of(file: &Path) -> Vec<String> {
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", file.display());
    let mut database = AnyConnection::connect(&url).await.unwrap();
    let broken = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut database).await.unwrap();
    assert!(broken.is_empty(), "rows that point to nothing: {}", broken.len());
    sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&mut database).await.unwrap()
}
