//! A real server on a free port, with a clock that is wound by hand, on either engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tenmint::clock::Clock;
use tenmint::error::Error;
use tenmint::http::client_ip::TrustedProxies;
use tenmint::http::tls::Tls;
use tenmint::http::{self, listener};
use tenmint::mint::failures::Failures;
use tenmint::mint::{Caller, ClientCredential, Mint, Presented};
use tenmint::model::access::{Actor, Credential, Origin};
use tenmint::model::api_key::{ApiKey, CreateApiKey, CreatedApiKey};
use tenmint::model::audience::CreateAudience;
use tenmint::model::id::{ApiKeyId, BotId, OrgId};
use tenmint::model::ledger::LedgerMode;
use tenmint::model::org::{BootstrapOrg, CreateOrg, Org};
use tenmint::model::owner::OwnerId;
use tenmint::model::secret::PlainSecret;
use tenmint::model::time::Timestamp;
use tenmint::service::Service;
use tenmint::service::call::Call;
use tenmint::service::follow::Follower;
use tenmint::service::init::{CreateInstallation, CreatedInstallation, create_installation};
use tenmint::service::ledger::LedgerConfig;
use tenmint::service::node::{Node, NodeConfig};
use tenmint::store::{DatabaseUrl, Store};
use tenmint_verifier::{JwkSet, Token, Verifier, VerifyError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use crate::answer::{Answer, basic, management_request, token_request};

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
    pub ledger: LedgerMode,
    pub limits: listener::Limits,
    pub trusted_proxies: TrustedProxies,
    pub tls: Option<Arc<Tls>>,
    pub failures: Arc<Failures>,
    /// Whether it looks for changes of others by itself.
    pub follows: bool,
    /// Whether its issuer is the address it listens on, for who looks for it there.
    pub is_reachable: bool,
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
            ledger: LedgerMode::Durable,
            limits: listener::Limits::default(),
            trusted_proxies: TrustedProxies::default(),
            tls: None,
            failures: Arc::default(),
            follows: false,
            is_reachable: false,
        }
    }

    fn node(&self, directory: &TempDir) -> NodeConfig {
        let defaults = NodeConfig::in_directory(directory.path());
        let ledger = LedgerConfig {
            mode: self.ledger,
            // a machine that is slow fails no test of another thing
            spool_after: PATIENCE,
            ..defaults.ledger.clone()
        };
        NodeConfig { serve_for: self.serve_for, ledger, ..defaults }
    }

    /// Starts the server; `None` where there is no PostgreSQL to test on.
    pub async fn start(mut self) -> Option<Server> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if self.is_reachable {
            self.installation.issuer = format!("http://{}", listener.local_addr().unwrap());
        }
        let directory = tempfile::tempdir().unwrap();
        let postgres = match self.engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(fresh_postgres()?),
        };
        let database = postgres.as_deref().map_or_else(
            || DatabaseUrl::in_directory(directory.path()),
            |url| DatabaseUrl::parse(url).unwrap(),
        );
        let clock = Clock::wound(Timestamp::from_millis(i64::try_from(START).unwrap() * 1000));
        let keys_dir = directory.path().join("keys");
        let created =
            create_installation(&database, &keys_dir, &clock, &self.installation).await.unwrap();
        let mut server = Server::run(self, (directory, database, clock), listener, created).await;
        server.postgres = postgres;
        Some(server)
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
    /// The URL of its database, where that is PostgreSQL.
    pub postgres: Option<String>,
    pub service: Service,
    pub mint: Arc<Mint>,
    pub follower: Arc<Follower>,
    pub org: Org,
    pub administrator: Key,
    pub directory: TempDir,
    pub node: Option<Node>,
    pub http: http::HttpConfig,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

/// An API key as an app holds it.
#[derive(Debug, Clone)]
pub struct Key {
    pub id: ApiKeyId,
    pub text: String,
}

impl Key {
    pub fn of(created: CreatedApiKey) -> Self {
        let text = created.text.expect("a new key shows its text").reveal();
        Self { id: created.api_key.id, text }
    }
}

/// Somebody who may do everything, for tests beside a server.
pub fn operator(org: OrgId) -> Actor {
    let credential = Credential {
        api_key: ApiKeyId::from_random([0; 16]),
        owner: OwnerId::Bot(BotId::from_random([0; 16])),
        org,
        scopes: Some("*:*".parse().unwrap()),
        audiences: Vec::new(),
        expires_at: None,
        ip_rules: None,
        is_account_admin: true,
        revision: 0,
    };
    Actor { credential, origin: Origin::default() }
}

/// An ask for an API key with these scopes, separated by spaces.
pub fn asked(scopes: &str) -> CreateApiKey {
    CreateApiKey {
        name: Some("test".to_owned()),
        scopes: Some(list(scopes)),
        ..CreateApiKey::default()
    }
}

impl Server {
    async fn run(
        setup: Setup,
        (directory, database, clock): (TempDir, DatabaseUrl, Clock),
        listener: TcpListener,
        created: CreatedInstallation,
    ) -> Self {
        let keys_dir = directory.path().join("keys");
        let service = Service::open(&database, &keys_dir, clock.clone()).await.unwrap();
        let mut node = Node::start(service, setup.node(&directory)).await.unwrap();
        // a machine that is slow fails no test of another thing
        node.mint.quotas().set_patience(PATIENCE);
        node.lease();
        if setup.follows {
            node.follow();
        }
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let config = http::HttpConfig {
            limits: setup.limits,
            trusted_proxies: setup.trusted_proxies,
            tls: setup.tls,
            failures: setup.failures,
            ..http::HttpConfig::default()
        };
        let face = http::public_face(&node, config.clone());
        let serving = async move {
            let stopped = async { drop(stopped.await) };
            listener::serve(listener, face, stopped).await;
        };
        Self {
            address,
            clock,
            database,
            postgres: None,
            service: node.service.clone(),
            mint: node.mint.clone(),
            follower: node.follower.clone(),
            node: Some(node),
            http: config,
            org: created.org,
            administrator: Key::of(created.api_key),
            directory,
            stop: Some(stop),
            serving: Some(tokio::spawn(serving)),
        }
    }

    /// Winds the clock, with the index compared afterwards as a poll would.
    pub async fn wind(&self, by: Duration) {
        self.clock.wind(by);
        self.follower.catch_up().await.unwrap();
    }

    /// Makes reading and writing what is in a table fail, or lets it go on.
    pub async fn rename_table(&self, from: &str, to: &str) {
        self.run_sql(format!("ALTER TABLE {from} RENAME TO {to}")).await;
    }

    /// Does something to the database that no node is told of.
    pub async fn run_sql(&self, statement: String) {
        let store = Store::open(&self.database).await.unwrap();
        let mut append = store.append().await.unwrap();
        let statement: &'static str = String::leak(statement);
        sqlx::query(statement).execute(&mut *append).await.unwrap();
        append.commit().await.unwrap();
        store.close().await;
    }

    /// A call of the administrator.
    pub fn call(&self) -> Call {
        self.call_of(&self.administrator)
    }

    /// A call of whoever holds this key.
    pub fn call_of(&self, key: &Key) -> Call {
        let client =
            ClientCredential { client_id: None, texts: vec![PlainSecret::new(key.text.clone())] };
        let presented = Presented::ApiKey(client);
        let caller = Caller { address: Some([127, 0, 0, 1].into()), user_agent: None };
        let credential = self.mint.identify(&presented, caller, self.clock.now()).unwrap();
        let org = credential.org;
        let actor = Actor { credential, origin: Origin::default() };
        Call { actor, org, dry_run: false, idempotency: None, misread: Vec::new() }
    }

    /// An API key with these scopes, separated by spaces.
    pub async fn api_key(&self, scopes: &str) -> Key {
        self.create(asked(scopes)).await
    }

    /// An API key as asked; a name is made up where none is given, and audiences are registered.
    pub async fn create(&self, mut ask: CreateApiKey) -> Key {
        ask.name.get_or_insert_with(|| "test".to_owned());
        for uri in ask.audiences.iter().flatten().filter(|name| name.contains("://")) {
            self.register(uri).await;
        }
        let created = self.service.create_api_key(&self.call(), ask).await.unwrap();
        Key::of(created.after)
    }

    /// Another organization, bootstrapped, and a key of it that may do everything there.
    pub async fn second_org(&self, slug: &str) -> (OrgId, Key) {
        let ask = CreateOrg { slug: Some(slug.to_owned()), ..CreateOrg::default() };
        let org = self.service.create_org(&self.call(), ask).await.unwrap().after.id;
        let bootstrap = BootstrapOrg::default();
        self.service.bootstrap_org(&self.call(), slug, bootstrap).await.unwrap();
        let call = Call { org, ..self.call() };
        let ask = CreateApiKey { org_role: Some("admin".to_owned()), ..asked("*:*") };
        (org, Key::of(self.service.create_api_key(&call, ask).await.unwrap().after))
    }

    /// An audience of the organization, once.
    pub async fn register(&self, uri: &str) {
        let ask = CreateAudience { uri: Some(uri.to_owned()), ..CreateAudience::default() };
        match self.service.create_audience(&self.call(), ask).await {
            Ok(_) | Err(Error::Conflict("audience_taken", _)) => {}
            Err(cause) => panic!("{cause}"),
        }
    }

    /// An API key as the administrator sees it.
    pub async fn shown(&self, id: &ApiKeyId) -> ApiKey {
        self.service.get_api_key(&self.call().actor, self.org.id, id).await.unwrap()
    }

    /// Revokes an API key.
    pub async fn revoke(&self, id: &ApiKeyId) -> ApiKey {
        self.service.revoke_api_key(&self.call(), id).await.unwrap().after
    }

    /// A management call with a credential by Bearer; a JSON body unless it is `null`.
    pub async fn api(&self, key: &Key, method: &str, path: &str, body: Value) -> Answer {
        self.api_with(&key.text, method, path, body, &[]).await
    }

    /// The same with whatever is presented, and with more headers.
    #[expect(clippy::too_many_arguments, reason = "a request has so many parts")]
    pub async fn api_with(
        &self,
        presented: &str,
        method: &str,
        path: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        let bearer = format!("Bearer {presented}");
        let mut all = vec![("Authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        if body.is_null() {
            return self.send(method, path, &all, b"").await;
        }
        all.push(("Content-Type", "application/json"));
        self.send(method, path, &all, body.to_string().as_bytes()).await
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
        self.send_bytes(&self.request(method, path, headers, body)).await
    }

    /// The bytes of a request after which the connection closes.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || !matches!(method, "GET" | "HEAD" | "OPTIONS") {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        request += "Connection: close\r\n\r\n";
        [request.as_bytes(), body].concat()
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
        let clock = self.clock.clone();
        Verifier::builder(self.mint.issuer().as_str())
            .audience(audience)
            .clock(move || clock.now().as_seconds())
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
        if let Some(serving) = self.serving.take() {
            timeout(PATIENCE, serving).await.expect("stops in time").unwrap();
        }
        if let Some(node) = self.node.take() {
            node.stop().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
    }
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
