//! The OAuth endpoints, URL by URL.

mod bad_input;
pub(crate) mod behind;
mod discovery;
pub(crate) mod failures;
mod feed;
mod introspection;
mod order;
mod refused;
mod revoking;
mod sockets;
mod token;

use ring::digest::{SHA256, digest};
use serde_json::json;

use crate::server::{Answer, Key, Server, basic};

/// What an endpoint answers to a form, sent with an API key by Basic.
pub(crate) async fn post_form(server: &Server, path: &str, key: &Key, form: &str) -> Answer {
    let credential = basic(&key.id.to_string(), &key.text);
    let headers = [
        ("Authorization", credential.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    server.send("POST", path, &headers, form.as_bytes()).await
}

/// A key of another service, brought along by its digest.
pub(crate) async fn imported(server: &Server, text: &str) {
    let digest = digest(&SHA256, text.as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let line = json!({"name": "old", "digest": hex, "scopes": ["read:projects/alpha"]}).to_string();
    let bearer = format!("Bearer {}", server.administrator.text);
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/x-ndjson")];
    let answer = server.send("POST", "/v1/keys/import", &headers, line.as_bytes()).await;
    assert!(answer.body.contains("\"created\""), "{answer:?}");
}
