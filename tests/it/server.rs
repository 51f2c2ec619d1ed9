//! A real server on a free port, with a clock that is wound by hand, on either engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tempfile::TempDir;
use tenmint::clock::Clock;
use tenmint::http::{self, listener};
use tenmint::mint::Mint;
use tenmint::model::api_key::CreateApiKey;
use tenmint::model::id::ApiKeyId;
use tenmint::model::org::Org;
use tenmint::model::time::Timestamp;
use tenmint::service::Service;
use tenmint::service::init::{CreateInstallation, CreatedInstallation, create_installation};
use tenmint::service::refresh::Follower;
use tenmint::store::DatabaseUrl;
use tenmint_verifier::{JwkSet, Token, Verifier, VerifyError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Where each clock starts: 15 January 2027, 08:00.
pub const START: u64 = 1_800_000_000;
/// The default audience of each server.
pub const AUDIENCE: &str = "https://api.example.com";
/// An answer that does not come within this is a failure, not a wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// The database under a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// What a server shall be like.
#[derive(Debug, Clone)]
pub struct Setup {
    pub engine: Engine,
    pub installation: CreateInstallation,
    pub serve_for: Duration,
    pub limits: listener::Limits,
    /// Whether it looks for changes of others by itself.
    pub follows: bool,
}

impl Setup {
    pub fn on(engine: Engine) -> Self {
        Self {
            engine,
            installation: CreateInstallation {
                issuer: "http://127.0.0.1".to_owned(),
                audience: Some(AUDIENCE.to_owned()),
                ..CreateInstallation::default()
            },
            serve_for: Duration::from_mins(5),
            limits: listener::Limits::default(),
            follows: false,
        }
    }

    /// Starts the server; `None` where there is no PostgreSQL to test on.
    pub async fn start(self) -> Option<Server> {
        let directory = tempfile::tempdir().unwrap();
        let database = match self.engine {
            Engine::Sqlite => DatabaseUrl::in_directory(directory.path()),
            Engine::Postgres => DatabaseUrl::parse(&fresh_postgres()?).unwrap(),
        };
        let clock = Clock::wound(Timestamp::from_millis(i64::try_from(START).unwrap() * 1000));
        let keys_dir = directory.path().join("keys");
        let created =
            create_installation(&database, &keys_dir, &clock, &self.installation).await.unwrap();
        Some(Server::run(self, directory, database, clock, created).await)
    }
}

/// A new, empty database of the test cluster.
pub fn fresh_postgres() -> Option<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let Ok(cluster) = std::env::var("TENMINT_TEST_POSTGRES") else {
        assert!(std::env::var("CI").is_err(), "no PostgreSQL: set TENMINT_TEST_POSTGRES");
        return None;
    };
    let name = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let created = std::process::Command::new("psql")
        .args([format!("{cluster}/postgres").as_str(), "-qc", &format!("CREATE DATABASE {name}")])
        .status()
        .expect("psql");
    assert!(created.success(), "cannot create a database");
    Some(format!("{cluster}/{name}"))
}

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    pub clock: Clock,
    pub database: DatabaseUrl,
    pub service: Service,
    pub mint: Arc<Mint>,
    pub follower: Arc<Follower>,
    pub org: Org,
    pub administrator: Key,
    pub directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    tasks: Vec<JoinHandle<()>>,
}

/// An API key as an app holds it.
#[derive(Debug, Clone)]
pub struct Key {
    pub id: ApiKeyId,
    pub text: String,
}

impl Server {
    async fn run(
        setup: Setup,
        directory: TempDir,
        database: DatabaseUrl,
        clock: Clock,
        created: CreatedInstallation,
    ) -> Self {
        let keys_dir = directory.path().join("keys");
        let mut service = Service::open(&database, &keys_dir, clock.clone()).await.unwrap();
        let (mint, follower) = service.start_mint(setup.serve_for).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let routes = http::routes(mint.clone(), clock.clone(), &setup.limits);
        let serving = async move {
            let stopped = async { drop(stopped.await) };
            listener::serve(listener, routes, setup.limits, stopped).await;
        };
        let mut tasks = vec![tokio::spawn(serving)];
        if setup.follows {
            let follower = follower.clone();
            tasks.push(tokio::spawn(async move { follower.run().await }));
        }
        let administrator =
            Key { id: created.api_key.api_key.id, text: created.api_key.text.reveal() };
        Self {
            address,
            clock,
            database,
            service,
            mint,
            follower,
            org: created.org,
            administrator,
            directory,
            stop: Some(stop),
            tasks,
        }
    }

    /// Winds the clock, with the index compared afterwards as a poll would.
    pub async fn wind(&self, by: Duration) {
        self.clock.wind(by);
        self.follower.catch_up().await.unwrap();
    }

    /// An API key with these scopes, separated by spaces.
    pub async fn api_key(&self, scopes: &str) -> Key {
        self.create(CreateApiKey { scopes: list(scopes), ..CreateApiKey::default() }).await
    }

    /// An API key as asked; a name is made up where none is given.
    pub async fn create(&self, mut ask: CreateApiKey) -> Key {
        if ask.name.is_empty() {
            ask.name.push_str("test");
        }
        let created = self.service.create_api_key(&self.org, &ask).await.unwrap();
        Key { id: created.api_key.id, text: created.text.reveal() }
    }

    /// A token request with a form body, by Basic.
    pub async fn token(&self, key: &Key, form: &str) -> Answer {
        let basic = basic(&key.id.to_string(), &key.text);
        self.post(form, &[("Authorization", &basic)]).await
    }

    /// A `POST /oauth/token` with a form body; the grant type is added.
    pub async fn post(&self, form: &str, headers: &[(&str, &str)]) -> Answer {
        let form = format!("grant_type=client_credentials&{form}");
        self.post_exactly(&form, headers).await
    }

    /// A `POST /oauth/token` with exactly this form body.
    pub async fn post_exactly(&self, form: &str, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![("Content-Type", "application/x-www-form-urlencoded")];
        all.extend_from_slice(headers);
        self.send("POST", "/oauth/token", &all, form.as_bytes()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        request += "Connection: close\r\n\r\n";
        self.send_bytes(&[request.as_bytes(), body].concat()).await
    }

    /// Exactly these bytes on one connection, and what comes back until it closes.
    pub async fn send_bytes(&self, bytes: &[u8]) -> Answer {
        Answer::parse(&self.exchange(bytes).await)
    }

    /// The same, unparsed.
    pub async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // a server that has seen enough may close before it has read all
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "no answer within {PATIENCE:?}");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A verifier of the tokens for an audience, from the JWKS alone, at the start of the clock.
    pub async fn verifier(&self, audience: &str) -> Verifier {
        let jwks = self.get("/.well-known/jwks.json").await;
        let keys = JwkSet::parse(jwks.body.as_bytes()).unwrap();
        Verifier::builder(self.mint.issuer().as_str())
            .audience(audience)
            .clock(|| START)
            .with_keys(keys)
            .unwrap()
    }

    /// The token of an answer, verified for the default audience.
    pub async fn verify(&self, answer: &Answer) -> Result<Token, VerifyError> {
        self.verifier(AUDIENCE).await.verify_held(&answer.token())
    }

    /// Asks the server to stop, and waits until it has.
    pub async fn stop(&mut self) {
        drop(self.stop.take());
        let serving = self.tasks.remove(0);
        timeout(PATIENCE, serving).await.expect("stops in time").unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self { status: status.unwrap_or(0), headers, body: body.to_owned() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The status and the `error` member, as `401 invalid_client`; of a success the status alone.
    pub fn outcome(&self) -> String {
        match self.json().get("error").and_then(Value::as_str) {
            Some(error) => format!("{} {error}", self.status),
            None => self.status.to_string(),
        }
    }

    pub fn description(&self) -> String {
        self.json()["error_description"].as_str().unwrap_or_default().to_owned()
    }

    pub fn token(&self) -> String {
        let token = self.json()["access_token"].as_str().map(str::to_owned);
        token.unwrap_or_else(|| panic!("no token: {self:?}"))
    }

    /// The claims of the token, unverified.
    pub fn claims(&self) -> Value {
        let token = self.token();
        let claims = token.split('.').nth(1).unwrap();
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }
}

/// The value of an `Authorization: Basic` header.
pub fn basic(id: &str, text: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{text}")))
}

pub fn list(words: &str) -> Vec<String> {
    words.split(' ').map(str::to_owned).collect()
}

/// Each test once on SQLite and once on PostgreSQL.
macro_rules! on_both_engines {
    ($($(#[$attribute:meta])* async fn $name:ident($server:ident: Server) $body:block)*) => {
        $($(#[$attribute])* async fn $name($server: crate::server::Server) $body)*

        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let setup = crate::server::Setup::on(crate::server::Engine::Sqlite);
                super::$name(setup.start().await.expect("SQLite is always there")).await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let setup = crate::server::Setup::on(crate::server::Engine::Postgres);
                if let Some(server) = setup.start().await {
                    super::$name(server).await;
                }
            })*
        }
    };
}
pub(crate) use on_both_engines;
