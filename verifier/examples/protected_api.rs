//! An API that guards projects with tenmint tokens.
//!
//! ```text
//! ISSUER=http://127.0.0.1:8080 AUDIENCE=https://api.example.com ORG=org_0000000000000000 \
//!     LISTEN=127.0.0.1:3000 cargo run --example protected_api --features remote,axum
//! ```
//!
//! Reading a project needs `read` on its path, changing it `write`; `GET /whoami` needs only a
//! valid token. The issuer need not be up: until its keys come, every answer is a 503.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tenmint_verifier::{Action, Claims, Resource, SyntaxError, Token, Verifier, VerifyError};
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
    let verifier = Verifier::builder(env("ISSUER")?).audience(env("AUDIENCE")?).remote()?;
    let listener = TcpListener::bind(env("LISTEN")?).await?;
    announce(&format!("listening on http://{}", listener.local_addr()?));
    tokio::spawn(report_keys(verifier.clone()));
    let app = App { verifier, org: env("ORG")?.into() };
    axum::serve(listener, router(app)).with_graceful_shutdown(interrupted()).await?;
    Ok(())
}

fn router(app: App) -> Router {
    let project = get(read).put(write).delete(write);
    Router::new()
        .route("/projects/{id}", project.clone())
        .route("/projects/{id}/{*rest}", project)
        .route("/whoami", get(whoami))
        .with_state(app)
}

async fn read(app: State<App>, token: Token, path: ProjectPath) -> Result<Json<Value>, Refused> {
    access(&app, &token, &Action::Read, &path)
}

async fn write(app: State<App>, token: Token, path: ProjectPath) -> Result<Json<Value>, Refused> {
    access(&app, &token, &Action::Write, &path)
}

async fn whoami(token: Token) -> Json<Claims> {
    Json(token.claims().clone())
}

/// The parameters of a route, decoded by the router.
type ProjectPath = Path<Vec<(String, String)>>;

fn access(
    app: &App,
    token: &Token,
    action: &Action,
    path: &ProjectPath,
) -> Result<Json<Value>, Refused> {
    let resource = resource(path)?;
    token.require(&app.org, action, &resource)?;
    Ok(Json(json!({"org": *app.org, "action": action.as_str(), "resource": resource.as_str()})))
}

/// The resource is built from decoded segments. Were it cut out of the URL, then `%2F`, `..` and
/// `//` could mean one thing to the router and another to the filter of a token.
fn resource(path: &ProjectPath) -> Result<Resource, SyntaxError> {
    let segments = path.iter().flat_map(|(name, value)| match name.as_str() {
        "rest" => value.split('/').collect(),
        _ => vec![value.as_str()],
    });
    Resource::new(std::iter::once("projects").chain(segments))
}

/// Why a request is refused: by its token, or because its path names nothing.
enum Refused {
    Token(VerifyError),
    Path(SyntaxError),
}

impl From<VerifyError> for Refused {
    fn from(error: VerifyError) -> Self {
        Self::Token(error)
    }
}

impl From<SyntaxError> for Refused {
    fn from(error: SyntaxError) -> Self {
        Self::Path(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Token(error) => error.into_response(),
            Self::Path(error) => {
                (StatusCode::BAD_REQUEST, Json(json!({"error": error.to_string()}))).into_response()
            }
        }
    }
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
