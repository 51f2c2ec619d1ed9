//! `/forward-auth`: a gateway asks, the API is not there. Each answer is held to the promise that it
//! is 200, 401 or 403, with its reason, and shows no credential.

mod credentials;
mod failures;
mod gateways;
pub mod nginx;
mod policies;
mod raw_keys;
mod samples;

use serde_json::{Value, json};

use crate::api::{good, key};
use crate::server::{Answer, Key, Server};

/// A request that a gateway holds.
struct Held<'h> {
    method: &'h str,
    path: &'h str,
    /// `Authorization`, where there is one.
    authorization: Option<String>,
    /// The address of the end caller, where the gateway tells it.
    address: Option<&'h str>,
}

impl<'h> Held<'h> {
    fn get(path: &'h str, bearer: &str) -> Self {
        Self {
            method: "GET",
            path,
            authorization: Some(format!("Bearer {bearer}")),
            address: Some("192.0.2.1"),
        }
    }

    /// As nginx asks about it, under this policy.
    async fn asked(&self, server: &Server, gateway: &Key, policy: &str) -> Answer {
        let mut headers = vec![
            ("Tenmint-Gateway-Key", gateway.text.as_str()),
            ("X-Original-Method", self.method),
            ("X-Original-URI", self.path),
        ];
        headers.extend(self.authorization.as_ref().map(|value| ("Authorization", value.as_str())));
        headers.extend(self.address.map(|address| ("X-Forwarded-For", address)));
        ask(server, "GET", &format!("/forward-auth?policy={policy}"), &headers).await
    }
}

/// What is answered to a gateway, whatever it sends.
async fn ask(server: &Server, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    checked(server.send(method, target, headers, b"").await, headers)
}

/// What every answer to a gateway is like.
fn checked(answer: Answer, headers: &[(&str, &str)]) -> Answer {
    assert!(matches!(answer.status, 200 | 401 | 403), "{headers:?}: {answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
    assert_eq!(answer.header("tenmint-reason").is_some(), answer.status != 200, "{answer:?}");
    assert_eq!(answer.status == 401, is_challenged(&answer), "{answer:?}");
    let shown = format!("{answer:?}");
    for (name, value) in headers {
        let is_secret = matches!(*name, "Authorization" | "Tenmint-Gateway-Key");
        let secret = value.rsplit(' ').next().unwrap_or_default();
        assert!(!is_secret || secret.len() < 8 || !shown.contains(secret), "{shown}");
    }
    answer
}

/// A challenge that another credential would meet.
fn is_challenged(answer: &Answer) -> bool {
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    challenge.starts_with("Bearer realm=") && !challenge.contains("insufficient_scope")
}

/// `200`, or the status and the reason, as `401 token_expired`.
fn told(answer: &Answer) -> String {
    match answer.header("tenmint-reason") {
        Some(reason) => format!("{} {reason}", answer.status),
        None => answer.status.to_string(),
    }
}

/// The key of a gateway: it may ask about tokens and nothing else.
async fn gateway(server: &Server) -> Key {
    key(server, json!({"name": "gateway", "org_role": "verifier"})).await
}

/// A policy for the default audience with these rules.
async fn policy(server: &Server, name: &str, rules: Value) -> Value {
    let ask = json!({"name": name, "audience": "default", "rules": rules});
    good(server, "POST", "/v1/gateway-policies", ask).await
}

/// A gateway with a policy `api` about `/projects/{id}`, and what is below.
pub async fn guarded(server: &Server) -> Key {
    policy(server, "api", json!([{"path": "/projects/{id}"}, {"path": "/{*all}"}])).await;
    gateway(server).await
}
