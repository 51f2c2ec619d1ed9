//! The database: each statement is one that both engines take, and starting together is safe.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::Connection;
use tenmint::model::id::{ApiKeyId, AudienceId};
use tenmint::model::ledger::{Batch, Chain, Fact, FactWriter, Sealer};
use tenmint::model::secret::Pepper;
use tenmint::model::time::Timestamp;
use tenmint::model::token_id::{ChainId, TokenId};
use tenmint::store::ledger::{Inserted, LedgerStore};
use tenmint::store::{DatabaseUrl, Store, api_keys, changes};

use tenmint::service::Service;

use crate::server::{Key, asked, fresh_postgres, on_both_engines};

/// Bytes of the ledger's log on SQLite, above which it is begun anew, and what one batch may add.
const LOG_OF_LEDGER: u64 = 67_000_000;

/// Every string literal that is handed to `query` or `query_scalar`, or named as a statement.
fn statements() -> Vec<&'static str> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // the forks of engine.rs are one engine's each
        if path.file_name().is_some_and(|name| name == "engine.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for literal in text.split('"').skip(1).step_by(2) {
            let first = literal.split_whitespace().next().unwrap_or_default();
            if matches!(first, "SELECT" | "INSERT" | "UPDATE" | "DELETE" | "WITH") {
                found.push(&*String::leak(literal.to_owned()));
            }
        }
    }
    found
}

fn databases() -> Vec<(DatabaseUrl, Option<tempfile::TempDir>)> {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = DatabaseUrl::in_directory(directory.path());
    let postgres = fresh_postgres().map(|url| (DatabaseUrl::parse(&url).unwrap(), None));
    [Some((sqlite, Some(directory))), postgres].into_iter().flatten().collect()
}

#[tokio::test]
async fn postgresql_syncs_what_it_acknowledges_to_a_node_though_it_is_told_not_to() {
    let Some(url) = fresh_postgres() else { return };
    let url = DatabaseUrl::parse(&url).unwrap();
    let store = Store::open(&url).await.unwrap();
    let mut append = store.append().await.unwrap();
    let switch_off = "DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database());
    END $$";
    sqlx::query(switch_off).execute(&mut *append).await.unwrap();
    append.commit().await.unwrap();
    let store = Store::open(&url).await.unwrap();
    let mut append = store.append().await.unwrap();
    let setting = "SELECT current_setting('synchronous_commit')";
    let said: String = sqlx::query_scalar(setting).fetch_one(&mut *append).await.unwrap();
    assert_eq!(said, "on");
}

#[tokio::test]
async fn every_statement_is_one_that_both_engines_take() {
    let statements = statements();
    assert!(statements.len() > 20, "the search finds no statements any more");
    for (url, _directory) in databases() {
        let store = Store::open(&url).await.unwrap();
        let ledger = LedgerStore::open(&url).await.unwrap();
        for statement in &statements {
            let is_of_ledger = ["ledger_batches", "ledger_chains", "ledger_prunings", "_ledger_"]
                .into_iter()
                .any(|table| statement.contains(table));
            let prepared = if is_of_ledger {
                ledger.prepares(statement).await
            } else {
                store.prepares(statement).await
            };
            prepared.unwrap_or_else(|cause| {
                panic!("{url}: {statement}\n{:?}", std::error::Error::source(&cause))
            });
        }
    }
}

/// A batch of some pages, the next one of its chain.
fn batch(sealer: &mut Sealer, chain: &Chain) -> Batch {
    let mut facts = FactWriter::new(chain.id);
    for number in 0..15 {
        facts.put(&Fact {
            token_id: TokenId::new(chain.started_at, chain.id, [7; 7]),
            api_key: ApiKeyId::from_random([7; 16]),
            audiences: &[AudienceId::MANAGEMENT],
            scope: &format!("read:projects/{number:04000}"),
            lifetime: 600,
            address: None,
        });
    }
    sealer.seal(facts)
}

fn chain() -> Chain {
    let started_at = Timestamp::from_millis(1_800_000_000_000);
    Chain { id: ChainId::from_number(1), started_at, previous: None }
}

#[tokio::test]
async fn on_sqlite_the_log_of_the_ledger_is_moved_while_others_write_and_the_file_alone_has_all() {
    let [directory, copy] = [0; 2].map(|_| tempfile::tempdir().unwrap());
    let ledger = LedgerStore::open(&DatabaseUrl::in_directory(directory.path())).await.unwrap();
    let (chain, url) = (chain(), DatabaseUrl::in_directory(copy.path()));
    let mut sealer = Sealer::new(Pepper::new(&[7; 32]).ledger_key(), &chain);
    for number in 1..=3 {
        ledger.insert(&batch(&mut sealer, &chain)).await.unwrap();
        ledger.move_log().await.unwrap();
        std::fs::copy(directory.path().join("ledger.db"), copy.path().join("ledger.db")).unwrap();
        let copied = LedgerStore::open_existing(&url).await.unwrap().unwrap();
        assert!(copied.find(chain.id, number).await.unwrap().is_some(), "{number}");
        copied.close().await;
    }
}

#[tokio::test]
async fn sqlite_is_one_whose_log_can_be_moved_while_another_connection_begins_it_anew() {
    sqlx::any::install_default_drivers();
    let mut tables = sqlx::AnyConnection::connect("sqlite::memory:").await.unwrap();
    let version: String =
        sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut tables).await.unwrap();
    let parts: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
    assert!(parts >= vec![3, 51, 3], "{version} can lose what was moved (its WAL-reset bug)");
}

#[tokio::test]
async fn on_sqlite_the_log_of_the_ledger_is_begun_anew_and_does_not_grow_while_batches_come() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = LedgerStore::open(&DatabaseUrl::in_directory(directory.path())).await.unwrap();
    let chain = chain();
    let mut sealer = Sealer::new(Pepper::new(&[7; 32]).ledger_key(), &chain);
    for _ in 0..1_600 {
        let inserted = ledger.insert(&batch(&mut sealer, &chain)).await.unwrap();
        assert_eq!(inserted, Inserted::There);
    }
    let log = std::fs::metadata(directory.path().join("ledger.db-wal")).unwrap().len();
    assert!(log < LOG_OF_LEDGER, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_a_transaction_that_is_given_up_while_it_begins_is_not_left_open() {
    let Some(text) = fresh_postgres() else { return };
    let url = DatabaseUrl::parse(&text).unwrap();
    sqlx::any::install_default_drivers();
    let mut watching = sqlx::AnyConnection::connect(&text).await.unwrap();
    for number in 0..150 {
        let store = Store::open(&url).await.unwrap();
        // sooner or later after it was asked
        let a_while = async {
            for _ in 0..number * 5 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            begun = store.begin() => drop(begun),
            () = a_while => {}
        }
        // whoever had this connection next would write into what nobody commits
        let open = "SELECT COUNT(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND state = 'idle in transaction'";
        // sooner than PostgreSQL itself would end it
        let (began, mut left) = (Instant::now(), 1_i64);
        while left > 0 && began.elapsed() < Duration::from_secs(3) {
            left = sqlx::query_scalar(open).fetch_one(&mut watching).await.unwrap();
        }
        assert_eq!(left, 0, "given up after {number} turns");
        store.close().await;
    }
}

#[test]
fn no_statement_is_written_twice() {
    let mut statements = statements();
    statements.sort_unstable();
    let twice: Vec<_> = statements.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_processes_may_bring_the_schema_up_to_date_at_once() {
    for (url, _directory) in databases() {
        let opening: Vec<_> = (0..6)
            .map(|_| {
                let url = url.clone();
                tokio::spawn(async move {
                    Store::open(&url).await?;
                    LedgerStore::open(&url).await.map(drop)
                })
            })
            .collect();
        for opened in opening {
            opened.await.unwrap().unwrap();
        }
        let store = Store::open(&url).await.unwrap();
        assert_eq!(api_keys::count(&mut store.read().await.unwrap()).await.unwrap(), 0);
    }
}

/// Runs what a later version would.
async fn migrate_further(url: &DatabaseUrl, statements: &[&'static str]) {
    let store = Store::open(url).await.unwrap();
    let mut append = store.append().await.unwrap();
    let known =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 SELECT version + 1, 'of tomorrow', success, checksum, 0 FROM _sqlx_migrations
                 ORDER BY version DESC LIMIT 1";
    for statement in statements.iter().chain([&known]) {
        sqlx::query(*statement).execute(&mut *append).await.unwrap();
    }
    append.commit().await.unwrap();
    store.close().await;
}

on_both_engines! {
    async fn this_version_goes_on_and_starts_beside_the_next_one(server: Server) {
        let key = server.api_key("chat").await;
        let expand = [
            "ALTER TABLE api_keys ADD COLUMN of_tomorrow TEXT",
            "ALTER TABLE installation ADD COLUMN of_tomorrow BIGINT NOT NULL DEFAULT 1",
            "CREATE TABLE tomorrow (id BIGINT PRIMARY KEY)",
        ];
        migrate_further(&server.database, &expand).await;
        assert_eq!(server.token(&key, "").await.outcome(), "200");
        server.revoke(&key.id).await;
        let keys_dir = server.directory.path().join("keys");
        let started = Service::open_to_serve(&server.database, &keys_dir, server.clock.clone());
        let created = started.await.unwrap().create_api_key(&server.call(), asked("chat")).await;
        let new = Key::of(created.unwrap().after);
        server.follower.catch_up().await.unwrap();
        assert_eq!(server.token(&new, "").await.outcome(), "200");
        assert_eq!(server.token(&key, "").await.outcome(), "401 invalid_client");
    }

    async fn a_start_refuses_a_schema_of_which_it_knows_too_little(server: Server) {
        let contract = ["UPDATE installation SET min_binary = 1000000"];
        migrate_further(&server.database, &contract).await;
        let keys_dir = server.directory.path().join("keys");
        let refused = Store::open(&server.database).await.unwrap_err().to_string();
        assert!(refused.contains("a newer tenmint"), "{refused}");
        for refused in [
            Service::open(&server.database, &keys_dir, server.clock.clone()).await,
            Service::open_to_serve(&server.database, &keys_dir, server.clock.clone()).await,
        ] {
            assert!(refused.unwrap_err().to_string().contains("start the newer version"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_two_changes_have_one_revision_and_none_is_lost() {
    for (url, _directory) in databases() {
        let stores = [Store::open(&url).await.unwrap(), Store::open(&url).await.unwrap()];
        let stores = stores.map(std::sync::Arc::new);
        let writing: Vec<_> = (0..40)
            .map(|number| {
                let store = stores[number % 2].clone();
                tokio::spawn(async move { store.begin().await.unwrap().commit().await.unwrap() })
            })
            .collect();
        let mut revisions = Vec::new();
        for written in writing {
            revisions.push(written.await.unwrap());
        }
        revisions.sort_unstable();
        assert_eq!(revisions, (1..=40).collect::<Vec<i64>>());
        let progress = changes::progress(&mut stores[0].read().await.unwrap()).await.unwrap();
        assert_eq!(progress.revision, 40);
    }
}

#[tokio::test]
async fn a_change_that_is_dropped_did_not_happen() {
    for (url, _directory) in databases() {
        let store = Store::open(&url).await.unwrap();
        drop(store.begin().await.unwrap());
        let write = store.begin().await.unwrap();
        assert_eq!(write.revision(), 1);
    }
}

#[test]
fn the_password_of_a_database_is_never_printed() {
    for text in [
        "postgres://user:hunter2@db.example.com:5432/tenmint?sslmode=require",
        "postgres://user:hunter2@db.example.com/tenmint",
        "postgresql://db/tenmint?password=hunter2",
        "postgres://user:hunter%402@db/t",
        "postgres://db/t?user=u&password=a@hunter2",
        "postgres://user:hunter@hunter2@db/t",
    ] {
        let url = DatabaseUrl::parse(text).unwrap();
        assert!(!format!("{url} {url:?}").contains("hunter"), "{url}");
    }
}

#[test]
fn a_database_of_another_kind_is_refused() {
    for text in ["mysql://a/b", "", "tenmint.db", "sqlite:", "sqlite:a?mode=ro"] {
        assert!(DatabaseUrl::parse(text).is_err(), "{text}");
    }
}
