//! Kill -9 at random moments: what was acknowledged is there, and nothing is there by half.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use sqlx::{AnyConnection, Connection};
use tenmint::clock::Clock;
use tenmint::mint::{Caller, ClientCredential, TokenRequest};
use tenmint::model::api_key::ApiKey;
use tenmint::model::secret::PlainSecret;
use tenmint::model::token_id::TokenId;
use tenmint::service::Service;
use tenmint::service::node::{Node, NodeConfig};
use tenmint::store::api_key_lists::{self, ApiKeyFilter};
use tenmint::store::audit::{self, AuditFilter};
use tenmint::store::page::Cursor;
use tenmint::store::{DatabaseUrl, Read, Store, orgs};

use crate::answer::ask;
use crate::cli::{Home, Serving, free_address};
use crate::ledger::{self, hold_to_record};
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

/// Fetches one token after another until the server is gone, and tells of each that was received.
pub fn fetch_until_gone(address: &str, authorization: &str, tell: &Sender<TokenId>) {
    let request = token_request(authorization);
    while let Some(answer) = ask(address, &request).filter(|answer| answer.status == 200) {
        tell.send(ledger::received(&answer)).unwrap();
    }
}

/// What is done to each key, in this order, and how the audit calls it. A refresh goes on with the key that
/// replaces it.
const LIFE: [(&str, &str, &str); 6] = [
    ("POST", "", "api_key.create"),
    ("PATCH", "", "api_key.edit"),
    ("POST", "/rotate", "api_key.rotate"),
    ("POST", "/refresh", "api_key.refresh"),
    ("POST", "/revoke", "api_key.revoke"),
    ("DELETE", "", "api_key.delete"),
];

/// A change of a key that was answered.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    id: String,
    /// As the audit calls it.
    action: &'static str,
    /// The text that the key had then.
    text: String,
}

impl Change {
    /// Whether the text is good yet, as the key is stored.
    fn text_is_good(&self, key: &ApiKey) -> bool {
        let is_of_before = matches!(self.action, "api_key.create" | "api_key.edit");
        key.revoked_at.is_none() && !(is_of_before && key.rotated_at.is_some())
    }
}

/// What can have been done to a key, and whether it shows.
fn shown_by(key: &ApiKey) -> Vec<(&'static str, bool)> {
    let is_revoked = ("api_key.revoke", key.revoked_at.is_some());
    if key.replaces.is_some() {
        let is_deleted = ("api_key.delete", key.deleted_at.is_some());
        return vec![("api_key.refresh", true), is_revoked, is_deleted];
    }
    let is_edited = ("api_key.edit", key.name == "edited");
    let is_rotated = ("api_key.rotate", key.rotated_at.is_some());
    vec![("api_key.create", true), is_edited, is_rotated, is_revoked]
}

#[tokio::test]
async fn every_acknowledged_change_and_token_survives_a_kill_and_none_is_there_by_half() {
    for home in Home::on_each_engine() {
        let init = home.init("https://auth.example.com");
        let admin = ["id", "api_key"].map(|field| init["api_key"][field].as_str().unwrap());
        let (mut acknowledged, mut received) = (BTreeSet::new(), Vec::new());
        let rounds = rounds(&home);
        for _ in 0..rounds {
            let (changes, tokens) = change_keys_until_killed(&home, admin);
            acknowledged.extend(changes);
            received.extend(tokens);
        }
        let url = home.database_url.as_deref().map(DatabaseUrl::parse);
        let url = url.map_or_else(
            || DatabaseUrl::in_directory(&home.path().join("data")),
            |url| url.unwrap(),
        );
        let keys_dir = home.path().join("keys");
        let service = Service::open(&url, &keys_dir, Clock::system()).await.unwrap();
        let node = Node::start(service, NodeConfig::in_directory(home.path())).await.unwrap();
        let (recorded, _) = hold_to_record(&home, &received).await;
        let store = Store::open(&url).await.unwrap();
        let mut read = store.read().await.unwrap();
        let stored = keys_in(&mut read).await;
        let told = audited_in(&mut read).await;
        for acknowledged in &acknowledged {
            let Change { id, action, text } = acknowledged;
            let key = stored.get(id).unwrap_or_else(|| panic!("{id} was acknowledged and is lost"));
            assert!(shown_by(key).contains(&(action, true)), "{action} of {key:?}");
            let is_good = acknowledged.text_is_good(key);
            assert_eq!(gets_a_token(&node, text), is_good, "{action} of {key:?}");
        }
        // a change that nobody had an answer for may be there, and then with its entry in the audit
        for (id, key) in stored.iter().filter(|(id, _)| id.as_str() != admin[0]) {
            for (change, is_shown) in shown_by(key) {
                let is_told = told.contains(&(id.clone(), change.to_owned()));
                assert_eq!(is_told, is_shown, "{change} of {key:?}");
            }
        }
        // a refresh ends one key and makes another: both or none
        let replaced: BTreeSet<_> = stored.values().filter_map(|key| key.replaces).collect();
        for key in stored.values().filter(|key| key.replaces.is_none()) {
            assert_eq!(key.revoked_at.is_some(), replaced.contains(&key.id), "{key:?}");
        }
        assert!(acknowledged.len() > rounds / 4, "the kills came before any key was made");
        // a key without secret or owner would be no entry of the index; a rotated one has had two
        let index = node.mint.index();
        assert_eq!(index.len(), stored.len());
        assert!(index.secrets() >= stored.len(), "{} of {}", index.secrets(), stored.len());
        if home.database_url.is_none() {
            hold_files_whole(&home.path().join("data")).await;
        }
        println!(
            "{}: {rounds} rounds, {} changes acknowledged, {} keys stored, {} tokens received, {recorded} on record",
            engine(&home),
            acknowledged.len(),
            stored.len(),
            received.len(),
        );
    }
}

#[test]
fn a_kill_amid_withdrawals_of_signing_keys_leaves_one_that_signs_and_brings_none_back() {
    for home in Home::on_each_engine() {
        let address = free_address();
        let init = home.init(&format!("http://{address}"));
        let admin = ["id", "api_key"].map(|field| init["api_key"][field].as_str().unwrap());
        let (mut withdrawn, rounds) = (BTreeSet::new(), rounds(&home));
        for _ in 0..=rounds {
            let node = Serving::start(&home, &["--listen", &address]);
            signs_with_one_that_holds(&address, admin, &withdrawn);
            std::thread::scope(|scope| {
                let (tell, told) = channel();
                let address = address.as_str();
                scope.spawn(move || withdraw_until_gone(address, admin[1], &tell));
                let first = told.recv();
                // one is withdrawn: now any moment will do
                std::thread::sleep(some_time(60));
                drop(node);
                withdrawn.extend(first.into_iter().chain(told));
            });
        }
        println!("{}: {rounds} rounds, {} keys withdrawn", engine(&home), withdrawn.len());
    }
}

/// One key signs, what it signs verifiers can check, and nothing is served that was withdrawn.
fn signs_with_one_that_holds(
    address: &str,
    [id, api_key]: [&str; 2],
    withdrawn: &BTreeSet<String>,
) {
    let signing = signing_keys_in(address, api_key, "signing").unwrap();
    let [signing] = signing.as_slice() else { panic!("{signing:?} sign") };
    let token = ask(address, &token_request(&basic(id, api_key))).unwrap().token();
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header["kid"], signing.as_str());
    let jwks = ask(address, "GET /.well-known/jwks.json HTTP/1.0\r\n\r\n").unwrap().body;
    assert!(jwks.contains(signing.as_str()));
    assert!(withdrawn.iter().all(|kid| !jwks.contains(kid)), "{jwks}");
}

/// Withdraws the key that signs, again and again. Tells of each for which that was answered.
fn withdraw_until_gone(address: &str, api_key: &str, tell: &Sender<String>) {
    while let Some(signing) = signing_keys_in(address, api_key, "signing") {
        let path = format!("/v1/installation/signing-keys/{}/withdraw", signing[0]);
        let Some(answer) = ask(address, &management_request("POST", &path, api_key, "{}")) else {
            return;
        };
        assert_eq!(answer.status, 200, "{answer:?}");
        tell.send(signing[0].clone()).unwrap();
    }
}

/// The keys in a state; nothing where the server is gone.
fn signing_keys_in(address: &str, api_key: &str, state: &str) -> Option<Vec<String>> {
    let list = management_request("GET", "/v1/installation/signing-keys", api_key, "");
    let listed = ask(address, &list)?.json();
    let all = listed["items"].as_array().unwrap().iter().filter(|key| key["state"] == state);
    Some(all.map(|key| key["kid"].as_str().unwrap().to_owned()).collect())
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
fn change_keys_until_killed(
    home: &Home,
    [id, api_key]: [&str; 2],
) -> (BTreeSet<Change>, Vec<TokenId>) {
    let address = free_address();
    let serving = Serving::start(home, &["--listen", &address]);
    std::thread::scope(|scope| {
        let ((tell, told), (tell_token, tokens)) = (channel(), channel());
        let address = address.as_str();
        scope.spawn(move || lead_lives(address, api_key, &tell));
        scope.spawn(move || fetch_until_gone(address, &basic(id, api_key), &tell_token));
        let first = told.recv();
        // the first key is made: now any moment will do
        std::thread::sleep(some_time(150));
        drop(serving);
        (first.into_iter().chain(told).collect(), tokens.into_iter().collect())
    })
}

fn gets_a_token(node: &Node, text: &str) -> bool {
    let client = ClientCredential::bare(PlainSecret::new(text.to_owned()));
    let request = TokenRequest { client, ..TokenRequest::default() };
    node.mint.issue(&request, Caller::default(), node.service.clock().now()).is_ok()
}

/// Tells of each change that was answered, until none is.
fn lead_lives(address: &str, api_key: &str, tell: &Sender<Change>) {
    while lead_life(address, api_key, tell).is_some() {}
}

/// Leads one key through its life; nothing where the server is gone.
fn lead_life(address: &str, api_key: &str, tell: &Sender<Change>) -> Option<()> {
    let (mut id, mut text) = (String::new(), String::new());
    let tell = |id: &str, action, text: &str| {
        tell.send(Change { id: id.to_owned(), action, text: text.to_owned() }).unwrap();
    };
    for (method, verb, change) in LIFE {
        let body = match change {
            "api_key.create" => json!({"name": "made", "scopes": ["chat"]}).to_string(),
            "api_key.edit" => json!({"name": "edited"}).to_string(),
            "api_key.delete" => String::new(),
            _ => json!({}).to_string(),
        };
        let place = if id.is_empty() { String::new() } else { format!("/{id}") };
        let path = format!("/v1/keys{place}{verb}");
        let answer = ask(address, &management_request(method, &path, api_key, &body))?;
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        if change == "api_key.refresh" {
            tell(&id, "api_key.revoke", &text);
        }
        let answer = answer.json();
        answer["id"].as_str().unwrap().clone_into(&mut id);
        if let Some(new) = answer["api_key"].as_str() {
            new.clone_into(&mut text);
        }
        tell(&id, change, &text);
    }
    Some(())
}

/// Holds the files of a directory to be whole: the database, and the ledger.
pub async fn hold_files_whole(directory: &Path) {
    for file in ["tenmint.db", "ledger.db"] {
        assert_eq!(faults_of(&directory.join(file)).await, ["ok"], "{file}");
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
