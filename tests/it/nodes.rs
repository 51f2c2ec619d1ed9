//! Two nodes on one database, and one node that is asked while it changes: an answer to a change is
//! the end of what it ended.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tenmint::clock::Clock;
use tenmint::mint::{Caller, ClientCredential, Mint, TokenRequest};
use tenmint::model::secret::PlainSecret;
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::cli::{Home, Serving, free_address};
use crate::server::{Answer, Key, Server, asked, basic, on_both_engines};

/// Rounds of a race; `tests/run --long` asks for more.
fn rounds() -> usize {
    std::env::var("TENMINT_RACE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

#[test]
fn an_edit_and_a_revocation_on_one_node_hold_on_the_other() {
    for home in Home::on_each_engine() {
        let addresses = [free_address(), free_address()];
        let init = home.init(&format!("http://{}", addresses[0]));
        let admin = init["api_key"]["api_key"].as_str().unwrap();
        let nodes = addresses.each_ref().map(|at| Serving::start(&home, &["--listen", at]));
        let [first, second] = addresses.each_ref().map(String::as_str);
        let engine = if home.database_url.is_some() { "PostgreSQL" } else { "SQLite" };
        for (here, there) in [(first, second), (second, first)] {
            let took = follow_a_life(here, there, admin);
            println!("{engine}: seen on the other node after {took:?}");
            let took = follow_a_withdrawal(here, there, admin);
            println!("{engine}: a signing key is gone from the other node after {took:?}");
        }
        for node in nodes {
            node.stop();
        }
    }
}

/// The times until another node knows that a key was made, narrowed and revoked.
fn follow_a_life(here: &str, there: &str, admin: &str) -> [Duration; 3] {
    let write = |method: &str, path: &str, body: Value| {
        let bearer = format!("Authorization: Bearer {admin}\r\nContent-Type: application/json\r\n");
        let answer = send(here, method, path, &bearer, &body.to_string());
        assert!(matches!(answer.status, 200 | 201), "{path}: {answer:?}");
        (answer.json(), Instant::now())
    };
    let (created, made) =
        write("POST", "/v1/keys", json!({"name": "app", "scopes": ["a:x", "b:x"]}));
    let (id, text) = (created["id"].as_str().unwrap(), created["api_key"].as_str().unwrap());
    let token_for = |scope: &str| {
        let head = format!(
            "Authorization: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n",
            basic(id, text)
        );
        let form = format!("grant_type=client_credentials&scope={scope}");
        send(there, "POST", "/oauth/token", &head, &form).outcome()
    };
    let known = until(made, || token_for("b:x") == "200");
    let path = format!("/v1/keys/{id}");
    let (_, edited) = write("PATCH", &path, json!({"scopes": ["a:x"]}));
    let narrowed = until(edited, || token_for("b:x") == "400 invalid_scope");
    assert_eq!(token_for("a:x"), "200");
    let (_, revoked) = write("POST", &format!("{path}/revoke"), json!({}));
    let dead = until(revoked, || token_for("a:x") == "401 invalid_client");
    [known, narrowed, dead]
}

/// The time until another node serves, signs and tells nothing any more of a signing key that leaked.
fn follow_a_withdrawal(here: &str, there: &str, admin: &str) -> Duration {
    let bearer = format!("Authorization: Bearer {admin}\r\nContent-Type: application/json\r\n");
    let keys = send(here, "GET", "/v1/installation/signing-keys", &bearer, "").json();
    let signs = |key: &&Value| key["state"] == "signing";
    let leaked = keys["items"].as_array().unwrap().iter().find(signs).unwrap()["kid"].clone();
    let leaked = leaked.as_str().unwrap();
    let path = format!("/v1/installation/signing-keys/{leaked}/withdraw");
    assert_eq!(send(here, "POST", &path, &bearer, "{}").status, 200);
    let withdrawn = Instant::now();
    let took = until(withdrawn, || {
        let jwks = send(there, "GET", "/.well-known/jwks.json", "", "");
        jwks.status == 200 && !jwks.body.contains(leaked)
    });
    let feed = send(there, "GET", "/oauth/revocations", "", "").body;
    let claims = URL_SAFE_NO_PAD.decode(feed.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert!(claims["kids"].as_array().unwrap().contains(&Value::from(leaked)), "{claims}");
    took
}

/// Looks again and again, and says how long it took.
fn until(since: Instant, holds: impl Fn() -> bool) -> Duration {
    assert!((0..10_000).any(|_| holds()), "the other node never learns of it");
    since.elapsed()
}

pub fn send(address: &str, method: &str, path: &str, head: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n{head}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Answer::parse(&answer)
}

on_both_engines! {
    async fn nothing_is_issued_under_the_old_rules_once_a_change_is_answered(server: Server) {
        for round in 0..rounds() {
            race(&server, round).await;
        }
    }
}

/// Two clients fetch tokens as fast as they can while their scope, secret, owner or key ends.
async fn race(server: &Server, round: usize) {
    let key = server.create(asked("a:x b:x")).await;
    let owner = server.shown(&key.id).await.owner;
    let clients = [Client::of(server, &key), Client::of(server, &key)].map(Client::start);
    // both are at work when the change comes
    while clients.iter().any(|(_, client)| client.issued.load(Ordering::Acquire) == 0) {
        tokio::task::yield_now().await;
    }
    let before = server.clock.now().as_seconds();
    let (method, path, body) = match round % 4 {
        0 => ("POST", format!("/v1/keys/{}/revoke", key.id), json!({})),
        1 => ("POST", format!("/v1/keys/{}/rotate", key.id), json!({})),
        2 => ("PATCH", format!("/v1/keys/{}", key.id), json!({"scopes": ["a:x"]})),
        _ => ("POST", format!("/v1/bots/{owner}/suspend"), json!({})),
    };
    let answer = change(server, (method, &path), &body).await;
    clients.iter().for_each(|(_, client)| client.answered.store(true, Ordering::Release));
    // what is issued from now on says so in its `iat`
    server.clock.wind(Duration::from_secs(2));
    let [first, second] = clients;
    let ended = [(first.0.await, first.1), (second.0.await, second.1)];
    // not before: a client that works on holds the end of the test up for ever
    assert_eq!(answer.status, 200, "{answer:?}");
    for (latest, client) in ended {
        let latest = latest.unwrap();
        assert!(latest <= before, "round {round}: a token of {latest}, after {before}");
        let late = client.late.load(Ordering::Acquire);
        assert_eq!(late, 0, "round {round}: a token after the answer to {method} {path}");
    }
}

/// Makes a change, and makes it again where a machine that stood still let the database seem out of reach:
/// that changed nothing.
async fn change(server: &Server, (method, path): (&str, &str), body: &Value) -> Answer {
    let mut answer = server.api(&server.administrator, method, path, body.clone()).await;
    for _ in 0..5 {
        if answer.status != 503 {
            break;
        }
        answer = server.api(&server.administrator, method, path, body.clone()).await;
    }
    answer
}

/// A client, as its thread and its watcher share it.
struct Client {
    mint: Arc<Mint>,
    clock: Clock,
    key: Key,
    issued: AtomicUsize,
    /// Whether the change was answered.
    answered: AtomicBool,
    /// Tokens that were asked for after the answer.
    late: AtomicUsize,
}

impl Client {
    fn of(server: &Server, key: &Key) -> Self {
        Self {
            mint: server.mint.clone(),
            clock: server.clock.clone(),
            key: key.clone(),
            issued: AtomicUsize::new(0),
            answered: AtomicBool::new(false),
            late: AtomicUsize::new(0),
        }
    }

    fn start(self) -> (JoinHandle<u64>, Arc<Self>) {
        let client = Arc::new(self);
        let working = client.clone();
        (spawn_blocking(move || working.fetch()), client)
    }

    /// Fetches until it was refused for a while after the answer. Gives the latest `iat`.
    fn fetch(&self) -> u64 {
        let (mut latest, mut refused) = (0, 0);
        while refused < 20 {
            let answered = self.answered.load(Ordering::Acquire);
            match self.token() {
                Some(issued_at) => {
                    latest = latest.max(issued_at);
                    self.issued.fetch_add(1, Ordering::Release);
                    self.late.fetch_add(usize::from(answered), Ordering::Release);
                    // a broken promise must end the race too
                    refused += usize::from(answered);
                }
                None => refused += usize::from(answered),
            }
        }
        latest
    }

    /// The `iat` of a token for the scope that the edit takes away.
    fn token(&self) -> Option<u64> {
        let text = PlainSecret::new(self.key.text.clone());
        let client = ClientCredential { client_id: None, texts: vec![text] };
        let scope = Some("b:x".to_owned());
        let request = TokenRequest { client, scope, ..TokenRequest::default() };
        let from = Caller { address: Some([127, 0, 0, 1].into()), user_agent: None };
        let unrecorded = self.mint.issue(&request, from, self.clock.now()).ok()?;
        let issued = Handle::current().block_on(unrecorded).unwrap();
        let claims = issued.access_token.split('.').nth(1).unwrap();
        let claims: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        claims["iat"].as_u64()
    }
}
