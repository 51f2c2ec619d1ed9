//! An API that guards projects with tenmint tokens.
//!
//! ```text
//! ISSUER=http://127.0.0.1:8080 AUDIENCE=https://api.example.com ORG=org_0000000000000000 \
//!     LISTEN=127.0.0.1:3000 cargo run --example protected_api --features raw-keys,axum
//! ```
//!
//! With `OWN_API_KEY`, a key whose bot has the role `verifier`, it takes API keys beside tokens, in
//! `Authorization` or `X-Api-Key`, as the service says for the audience. Reading a project needs `read` on its path, changing it `write`; `GET /whoami` needs only a
//! valid token. The issuer need not be up: until its keys come, every answer is a 503.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRef};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use tenmint_verifier::axum::{Allowed, ProtectedResource, RequireScope, RequireToken};
use tenmint_verifier::{Claims, RawKeys, Token, Verifier};
use tokio::net::TcpListener;

#[derive(Clone)]
struct App {
    verifier: Verifier,
    /// Whose projects these are. It is known here, and never taken from the token.
    org: Arc<str>,
}

impl FromRef<App> for Verifier {
    fn from_ref(app: &App) -> Self {
        app.verifier.clone()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut verifier = Verifier::builder(env("ISSUER")?).audience(env("AUDIENCE")?);
    if let Ok(own_key) = env("OWN_API_KEY") {
        verifier =
            verifier.raw_keys(RawKeys::asked_with(own_key).header("X-Api-Key").reporting_uses());
    }
    let verifier = verifier.remote()?;
    let listener = TcpListener::bind(env("LISTEN")?).await?;
    announce(&format!("listening on http://{}", listener.local_addr()?));
    tokio::spawn(report_keys(verifier.clone()));
    let app = App { verifier, org: env("ORG")?.into() };
    let router = router(app)?.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, router).with_graceful_shutdown(interrupted()).await?;
    Ok(())
}

fn router(app: App) -> Result<Router, Box<dyn Error>> {
    let projects = || get(told).put(told).delete(told);
    // the resource is made of what axum decoded: cut out of the URL, `%2F`, `..` and `//` could mean
    // one thing to the router and another to the filter of a token
    let project = RequireScope::by_method("projects/{id}")?;
    let below = RequireScope::by_method("projects/{id}/{*rest}")?;
    let guard = RequireToken::new(app.verifier.clone())
        .organization(app.org.clone())
        // no proxy stands before this program, so that the socket tells who calls
        .caller_address(|parts| {
            let socket = parts.extensions.get::<ConnectInfo<SocketAddr>>();
            socket.map(|socket| socket.0.ip())
        });
    // an audience that is no URI of the web has no place for them
    let metadata = ProtectedResource::new(&app.verifier)
        .map(|metadata| metadata.name("Projects").routes())
        .unwrap_or_default();
    let router = Router::new()
        .route("/projects/{id}", projects().layer(project))
        .route("/projects/{id}/{*rest}", projects().layer(below))
        .layer(guard)
        .route("/whoami", get(whoami))
        .merge(metadata)
        .with_state(app);
    Ok(router)
}

/// Tells what was allowed; an API would do it.
async fn told(Extension(allowed): Extension<Allowed>) -> Json<Value> {
    Json(json!({
        "org": allowed.organization.id(),
        "action": allowed.action.as_str(),
        "resource": allowed.resource.as_str(),
    }))
}

async fn whoami(token: Token) -> Json<Claims> {
    Json(token.claims().clone())
}

/// The one message of this program that an operator needs: why there are no keys.
#[expect(clippy::print_stderr, reason = "a program that says what is wrong with its set-up")]
async fn report_keys(verifier: Verifier) {
    if verifier.ready(Duration::from_secs(5)).await.is_err() {
        let reason = verifier.fetch_error().unwrap_or_default();
        eprintln!("no keys of the issuer yet, still trying: {reason}");
    }
}

#[expect(clippy::print_stdout, reason = "whoever starts this program waits for the line")]
fn announce(line: &str) {
    println!("{line}");
}

fn env(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("set the environment variable `{name}`"))
}

async fn interrupted() {
    // without a handler for the signal there is nothing to wait for but the end
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(all(test, feature = "testing"))]
#[path = "../tests/axum/protected_api.rs"]
mod tests;
