//! Signing keys over time: no client and no verifier notices that they take turns, and one that leaked
//! is gone at once.

pub mod import;
mod nodes;
mod rotation;
mod withdrawal;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tenmint::store::{Store, signing_keys};
use tenmint_verifier::JwkSet;

use crate::api::good;
use crate::server::{Answer, Server};

const KEYS: &str = "/v1/installation/signing-keys";
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// The signing keys, as an admin of the account sees them.
async fn listed(server: &Server) -> Vec<Value> {
    good(server, "GET", KEYS, Value::Null).await["items"].as_array().unwrap().clone()
}

/// The kids of a state, the oldest first.
async fn kids(server: &Server, state: &str) -> Vec<String> {
    let all = listed(server).await;
    let of_state = all.iter().filter(|key| key["state"] == state);
    of_state.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// The only kid of a state.
async fn kid(server: &Server, state: &str) -> String {
    let mut found = kids(server, state).await;
    assert_eq!(found.len(), 1, "{state}: {found:?}");
    found.remove(0)
}

/// The kids of the JWKS, in its order.
async fn served(server: &Server) -> Vec<String> {
    let jwks = server.get("/.well-known/jwks.json").await.json();
    let keys = jwks["keys"].as_array().unwrap();
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// What the header of a JWT says.
fn header(token: &str) -> Value {
    let header = token.split('.').next().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}

/// Which key signed the token of an answer.
fn signed_by(answer: &Answer) -> String {
    header(&answer.token())["kid"].as_str().unwrap().to_owned()
}

/// Which key signs now.
async fn signs_now(server: &Server) -> String {
    signed_by(&server.token(&server.administrator, "").await)
}

/// As time passes: the index is compared with the database, and a node looks for steps that are due.
async fn pass(server: &Server, by: Duration) {
    server.wind(by).await;
    server.service.take_due_steps().await.unwrap();
}

async fn rotate(server: &Server) -> Value {
    good(server, "POST", &format!("{KEYS}/rotate"), json!({})).await
}

async fn withdraw(server: &Server, kid: &str) -> Value {
    good(server, "POST", &format!("{KEYS}/{kid}/withdraw"), Value::Null).await
}

/// Which keys have a private half in the database.
async fn with_private_half(server: &Server) -> Vec<String> {
    let store = Store::open(&server.database).await.unwrap();
    let all = signing_keys::list(&mut *store.read().await.unwrap()).await.unwrap();
    let held = all.iter().filter(|key| !key.sealed_private.is_empty());
    held.map(|key| key.kid.to_string()).collect()
}

async fn jwks(server: &Server) -> JwkSet {
    JwkSet::parse(server.get("/.well-known/jwks.json").await.body.as_bytes()).unwrap()
}
