//! API keys that are sent to an API as they are, beside tokens: a real server, a verifier that
//! follows it, and an API with the layers of the verifier crate.

mod decisions;
mod policy;
mod recognised;
mod reports;

use std::net::IpAddr;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::routing::get;
use axum::{Extension, Router};
use http::Request;
use serde_json::{Value, json};
use tenmint_verifier::axum::{RequireScope, RequireToken};
use tenmint_verifier::{RawKeys, Token, Verifier};
use tokio::time::{sleep, timeout};
use tower_service::Service as _;

use crate::api::key;
use crate::server::{AUDIENCE, Answer, Engine, Server, Setup};

/// What does not come about within this is a failure, not a wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// An API that takes tokens and raw keys. Who calls says its address in a header.
struct Api {
    verifier: Verifier,
    router: Router,
}

/// What the handler sees of its caller.
async fn whoami(Extension(token): Extension<Token>) -> String {
    let claims = token.claims();
    json!({"org": claims.org, "sub": claims.sub, "client_id": claims.client_id,
        "scope": claims.scope, "aud": claims.aud})
    .to_string()
}

impl Api {
    async fn of(server: &Server) -> Self {
        Self::taking(server, |raw_keys| raw_keys.header("X-Api-Key")).await
    }

    async fn taking(server: &Server, set_up: impl FnOnce(RawKeys) -> RawKeys) -> Self {
        let own = key(server, json!({"name": "api", "org_role": "verifier"})).await;
        Self::with_key(server, &own.text, set_up)
    }

    fn with_key(server: &Server, own_key: &str, set_up: impl FnOnce(RawKeys) -> RawKeys) -> Self {
        let clock = server.clock.clone();
        let verifier = Verifier::builder(server.mint.issuer().as_str())
            .audience(AUDIENCE)
            .clock(move || clock.now().as_seconds())
            .raw_keys(set_up(RawKeys::asked_with(own_key)))
            .remote()
            .unwrap();
        let caller = |parts: &http::request::Parts| {
            parts.headers.get("x-caller")?.to_str().ok()?.parse::<IpAddr>().ok()
        };
        let layer = RequireToken::new(verifier.clone()).organization(server.org.id.to_string());
        let scope = RequireScope::by_method("projects/{id}").unwrap();
        let router = Router::new()
            .route("/projects/{id}", get(whoami).put(whoami).layer(scope))
            .route("/whoami", get(whoami))
            .layer(layer.caller_address(caller));
        Self { verifier, router }
    }

    async fn ready(self) -> Self {
        self.verifier.ready(PATIENCE).await.unwrap();
        self
    }

    /// The answer to a request with these headers, from 127.0.0.1 unless they say otherwise.
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "x-caller") {
            request = request.header("x-caller", "127.0.0.1");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let (parts, body) = self.router.clone().call(request).await.unwrap().into_parts();
        let headers = parts
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()));
        let body = to_bytes(body, 4096).await.unwrap();
        Answer {
            status: parts.status.as_u16(),
            headers: headers.collect(),
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    async fn bearer(&self, method: &str, path: &str, text: &str) -> Answer {
        self.send(method, path, &[("authorization", &format!("Bearer {text}"))]).await
    }
}

/// A server that a verifier finds at its issuer.
async fn reachable(engine: Engine) -> Option<Server> {
    Setup { is_reachable: true, ..Setup::on(engine) }.start().await
}

/// Asks again until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asked = timeout(PATIENCE, async {
        while !is_so().await {
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(asked.await.is_ok(), "{what}: not within {PATIENCE:?}");
}

/// What was decided, without the words for people.
fn decision(answer: &Answer) -> String {
    let challenge = answer.header("www-authenticate").unwrap_or_default();
    let challenge: Vec<&str> = challenge
        .split(", ")
        .filter(|parameter| !parameter.starts_with("error_description="))
        .collect();
    let mut body: Value = serde_json::from_str(&answer.body).unwrap();
    body.as_object_mut().unwrap().remove("error_description");
    format!("{} [{}] {body}", answer.status, challenge.join(", "))
}

/// Each test once on SQLite and once on PostgreSQL, with a server that a verifier can find.
macro_rules! on_reachable_servers {
    ($(async fn $name:ident($server:ident: Server) $body:block)*) => {
        $(async fn $name($server: crate::server::Server) $body)*

        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let server = crate::raw_keys::reachable(crate::server::Engine::Sqlite).await;
                super::$name(server.expect("SQLite is always there")).await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(server) = crate::raw_keys::reachable(crate::server::Engine::Postgres).await {
                    super::$name(server).await;
                }
            })*
        }
    };
}
pub(crate) use on_reachable_servers;
