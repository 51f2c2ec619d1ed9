//! A change whose commit is cut off from its answer is told as what it is: stored, not stored, or
//! unknown. On PostgreSQL, where a network lies between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;
use tenmint::clock::Clock;
use tenmint::error::Error;
use tenmint::model::api_key::CreateApiKey;
use tenmint::model::import::{ImportApiKeys, ImportEnd, ImportFormat, ImportSummary};
use tenmint::model::space::CreateSpace;
use tenmint::service::Service;
use tenmint::service::api_keys::ListApiKeys;
use tenmint::service::call::{Call, Idempotency};
use tenmint::service::init::create_installation;
use tenmint::store::DatabaseUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::import::{Running, sha256};
use crate::server::{Engine, Setup, asked, fresh_postgres, operator};

/// Everything passes.
const OPEN: u8 = 0;
/// The next commit reaches the database, and its answer nobody.
const LOSES_AN_ANSWER: u8 = 1;
/// The next commit reaches nobody.
const LOSES_A_COMMIT: u8 = 2;
/// The next commit reaches the database, its answer nobody, and nothing passes any more.
const DIES_AFTER_COMMIT: u8 = 3;
/// Nothing passes.
const DEAD: u8 = 4;

/// A way to the database that breaks off where it is told to.
async fn proxy(to: String) -> (u16, Arc<AtomicU8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, state) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU8::new(OPEN)));
    let shared = state.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            if shared.load(Ordering::SeqCst) != DEAD {
                let database = TcpStream::connect(&to).await.unwrap();
                tokio::spawn(carry(client, database, shared.clone()));
            }
        }
    });
    (port, state)
}

/// Carries both ways until a commit is to be cut off, or either side ends.
async fn carry(mut client: TcpStream, mut database: TcpStream, state: Arc<AtomicU8>) {
    let (mut asked, mut told) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let bytes = &asked[..length];
                let commits = bytes.windows(6).any(|six| six == b"COMMIT");
                match state.load(Ordering::SeqCst) {
                    DEAD => return,
                    LOSES_A_COMMIT if commits => {
                        state.store(OPEN, Ordering::SeqCst);
                        return;
                    }
                    before @ (LOSES_AN_ANSWER | DIES_AFTER_COMMIT) if commits => {
                        let after = if before == LOSES_AN_ANSWER { OPEN } else { DEAD };
                        state.store(after, Ordering::SeqCst);
                        database.write_all(bytes).await.unwrap();
                        // the database has done it once it answers, and nobody hears that
                        let _answer = database.read(&mut told).await;
                        return;
                    }
                    _ => database.write_all(bytes).await.unwrap(),
                }
            }
            read = database.read(&mut told) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&told[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// An installation, seen directly and by a way that breaks off.
struct Ways {
    near: Service,
    far: Service,
    state: Arc<AtomicU8>,
    call: Call,
    _directory: TempDir,
}

impl Ways {
    /// Nothing where there is no PostgreSQL to test on.
    async fn start() -> Option<Self> {
        let url = fresh_postgres()?;
        let (user, rest) = url.split_once('@').unwrap();
        let (address, name) = rest.split_once('/').unwrap();
        let (port, state) = proxy(address.to_owned()).await;
        let far = DatabaseUrl::parse(&format!("{user}@127.0.0.1:{port}/{name}")).unwrap();
        let near = DatabaseUrl::parse(&url).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (keys_dir, clock) = (directory.path().join("keys"), Clock::system());
        let ask = Setup::on(Engine::Postgres).installation;
        let created = create_installation(&near, &keys_dir, &clock, &ask).await.unwrap();
        let (actor, org) = (operator(created.org.id), created.org.id);
        Some(Self {
            near: Service::open(&near, &keys_dir, clock.clone()).await.unwrap(),
            far: Service::open(&far, &keys_dir, clock).await.unwrap(),
            state,
            call: Call { actor, org, dry_run: false, idempotency: None, misread: Vec::new() },
            _directory: directory,
        })
    }

    /// Makes a space from afar, where this happens to its commit.
    async fn create(&self, slug: &str, happens: u8) -> Result<(), Error> {
        self.state.store(happens, Ordering::SeqCst);
        let ask = CreateSpace { slug: Some(slug.to_owned()), name: None };
        self.far.create_space(&self.call, ask).await.map(drop)
    }

    /// Imports a key from afar, where this happens to the commit that stores it or makes it seen.
    async fn import(&self, name: &str, atomic: bool, happens: u8) -> Result<ImportSummary, Error> {
        let ask = ImportApiKeys { format: ImportFormat::Csv, atomic };
        let mut running = Running::begin(&self.far, self.call.clone(), ask);
        let file = format!("name,digest,scopes\n{name},{},chat\n", sha256(name));
        if atomic {
            running.send(&file).await;
            // it is staged: the next commit makes it seen
            running.lines(1).await;
        }
        self.state.store(happens, Ordering::SeqCst);
        if !atomic {
            running.send(&file).await;
        }
        Ok(running.end().await?.summary)
    }

    /// How many API keys have this name.
    async fn keys_named(&self, name: &str) -> usize {
        let ask = ListApiKeys { limit: 200, ..ListApiKeys::default() };
        let page = self.near.list_api_keys(&self.call.actor, self.call.org, ask).await.unwrap();
        page.items.iter().filter(|api_key| api_key.name == name).count()
    }

    async fn is_there(&self, slug: &str) -> bool {
        self.near.get_space(&self.call.actor, self.call.org, slug).await.is_ok()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_told_as_what_became_of_it_though_its_commit_was_cut_off() {
    let Some(ways) = Ways::start().await else { return };
    ways.create("stored", LOSES_AN_ANSWER).await.unwrap();
    assert!(ways.is_there("stored").await, "it was looked for and found");

    let lost = ways.create("lost", LOSES_A_COMMIT).await;
    assert!(matches!(lost, Err(Error::Unavailable(_))), "{lost:?}");
    assert!(!ways.is_there("lost").await);

    let unknown = ways.create("unknown", DIES_AFTER_COMMIT).await.unwrap_err();
    assert_eq!(unknown.code(), "outcome_unknown");
    assert!(unknown.to_string().contains("`spc_"), "the id is told: {unknown}");
    assert!(ways.is_there("unknown").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_of_a_change_whose_outcome_was_unknown_makes_nothing_twice() {
    let Some(mut ways) = Ways::start().await else { return };
    for (name, happens) in [("done", DIES_AFTER_COMMIT), ("not done", LOSES_A_COMMIT)] {
        ways.call.idempotency = Some(Idempotency {
            key: name.to_owned(),
            route: "POST /v1/keys".to_owned(),
            hash: name.to_owned(),
        });
        let ask = || CreateApiKey { name: Some(name.to_owned()), ..asked("chat") };
        ways.state.store(happens, Ordering::SeqCst);
        let cut_off = ways.far.create_api_key(&ways.call, ask()).await.unwrap_err();
        let done = usize::from(cut_off.code() == "outcome_unknown");
        assert_eq!(ways.keys_named(name).await, done, "{name}: {cut_off}");
        ways.state.store(OPEN, Ordering::SeqCst);
        let again = ways.far.create_api_key(&ways.call, ask()).await.unwrap().after;
        assert_eq!(again.text.is_none(), done == 1, "{name}: a text is shown once, by who made it");
        let third = ways.far.create_api_key(&ways.call, ask()).await.unwrap().after;
        assert_eq!((third.api_key.id, third.text.is_none()), (again.api_key.id, true), "{name}");
        assert_eq!(ways.keys_named(name).await, 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_whose_commit_was_cut_off_is_told_as_what_became_of_it() {
    let Some(ways) = Ways::start().await else { return };
    for (atomic, name) in [(false, "line by line"), (true, "all or nothing")] {
        let summary = ways.import(name, atomic, LOSES_AN_ANSWER).await.unwrap();
        assert_eq!((summary.status, summary.created), (ImportEnd::Done, 1), "{name}: {summary:?}");
        assert_eq!(ways.keys_named(name).await, 1);

        let lost = format!("{name} lost");
        let code = match ways.import(&lost, atomic, LOSES_A_COMMIT).await {
            // a line was reported before
            Ok(summary) => summary.code.unwrap_or_default().into_owned(),
            Err(cause) => cause.code().to_owned(),
        };
        assert_eq!(code, "unavailable");
        assert_eq!(ways.keys_named(&lost).await, 0);
    }
}
