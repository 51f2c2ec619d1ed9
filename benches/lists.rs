//! What a page of 50 costs among many API keys, by every filter that a list can lead with.
//!
//! `cargo bench --bench lists`; an argument sets the number of keys, 1,000,000 by default. On SQLite,
//! and on PostgreSQL where `TENMINT_TEST_POSTGRES` names a cluster. `--plans` prints how the
//! database reads.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a bench that fails says where, and prints what it measured"
)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::AnyConnection;
use sqlx::{Connection as _, Row as _};
use support::PostgresDatabase;
use tenmint::clock::Clock;
use tenmint::model::access::{Actor, Credential, Origin};
use tenmint::model::api_key::{ApiKeyStatus, ApiKeyType};
use tenmint::model::id::{ApiKeyId, BotId, OrgId};
use tenmint::model::owner::OwnerId;
use tenmint::service::Service;
use tenmint::service::api_keys::ListApiKeys;
use tenmint::service::init::{CreateInstallation, create_installation};
use tenmint::store::page::Cursor;
use tenmint::store::{DatabaseUrl, api_key_lists};

const PAGE: u32 = 50;
const RUNS: usize = 40;
/// Owners, and spaces: each has so many of the keys.
const OWNERS: u32 = 1_000;
const SPACES: u32 = 100;

#[tokio::main]
async fn main() {
    let number = std::env::args().find_map(|argument| argument.parse().ok());
    let keys: u32 = number.unwrap_or(1_000_000);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tenmint.db");
    measure("SQLite", &format!("sqlite:{}", file.display()), directory.path(), keys).await;
    if let Some(database) = PostgresDatabase::create("lists") {
        let other = tempfile::tempdir().unwrap();
        measure("PostgreSQL", &database.url(), other.path(), keys).await;
    }
}

async fn measure(engine: &str, url: &str, directory: &Path, keys: u32) {
    let ask = CreateInstallation {
        issuer: "http://127.0.0.1".to_owned(),
        ..CreateInstallation::default()
    };
    let keys_dir = directory.join("keys");
    let database = DatabaseUrl::parse(url).unwrap();
    let created = create_installation(&database, &keys_dir, &Clock::system(), &ask).await.unwrap();
    let org = created.org.id;
    let began = Instant::now();
    fill(url, &org.to_string(), keys).await;
    println!("{engine}: {keys} keys filled in {:.0} s", began.elapsed().as_secs_f64());
    let service = Service::open(&database, &keys_dir, Clock::system()).await.unwrap();
    for (name, ask) in lists() {
        let pages = cursors(&ask, keys);
        for (page, after) in pages {
            let mut times = Vec::with_capacity(RUNS);
            for _ in 0..RUNS {
                let ask = ListApiKeys { after: after.clone(), ..ask.clone() };
                let began = Instant::now();
                let found = service.list_api_keys(&operator(org), org, ask).await.unwrap();
                times.push(began.elapsed());
                assert!(found.items.len() <= PAGE as usize);
            }
            times.sort_unstable();
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            let (median, worst) = (ms(times[RUNS / 2]), ms(times[RUNS - 1]));
            println!(
                "{engine:>10}  {name:<24} {page:<6} median {median:6.2} ms  worst {worst:6.2} ms"
            );
        }
    }
    service.close().await;
}

/// Each filter that leads, alone and with one that only the rows can answer.
fn lists() -> Vec<(&'static str, ListApiKeys)> {
    let all = ListApiKeys { limit: PAGE, ..ListApiKeys::default() };
    let active = Some(ApiKeyStatus::Active);
    let owner = Some(OwnerId::Bot(id("bot_", 7).parse().unwrap()));
    let space = Some(id("spc_", 3));
    vec![
        ("all", all.clone()),
        ("active", ListApiKeys { status: active, ..all.clone() }),
        (
            "revoked (1 in 1,000)",
            ListApiKeys { status: Some(ApiKeyStatus::Revoked), ..all.clone() },
        ),
        ("owner", ListApiKeys { owner, ..all.clone() }),
        ("owner, active", ListApiKeys { owner, status: active, ..all.clone() }),
        ("space", ListApiKeys { space: space.clone(), status: active, ..all.clone() }),
        ("type", ListApiKeys { key_type: Some(ApiKeyType::User), status: active, ..all.clone() }),
        (
            "name prefix, many",
            ListApiKeys { name: Some("KEY 1".into()), status: active, ..all.clone() },
        ),
        ("name prefix, few", ListApiKeys { name: Some("key 12345".into()), ..all.clone() }),
        ("owner, type: none", ListApiKeys { owner, key_type: Some(ApiKeyType::User), ..all }),
    ]
}

/// The first page, one in the middle and one at the end.
fn cursors(ask: &ListApiKeys, keys: u32) -> Vec<(&'static str, Option<Cursor>)> {
    let at = |number: u32, rest: &str| {
        // a cursor of a list by name is within what was asked for
        let name = ask.name.as_ref().map(|prefix| prefix.to_lowercase() + rest);
        Some(Cursor { name, revision: i64::from(number), id: String::new() })
    };
    vec![("first", None), ("middle", at(keys / 2, "5")), ("last", at(60, "9999"))]
}

fn operator(org: OrgId) -> Actor {
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

fn id(prefix: &str, number: u32) -> String {
    format!("{prefix}{number:016}")
}

/// Numbers from 1, in the SQL of both engines.
async fn fill(url: &str, org: &str, keys: u32) {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await.unwrap();
    let number =
        "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < $1)";
    let padded = |prefix: &str, value: &str| {
        format!(
            "'{prefix}' || substr('0000000000000000' || CAST({value} AS TEXT), \
                 length(CAST({value} AS TEXT)) + 1, 16)"
        )
    };
    let statements = [
        (SPACES, format!(
            "{number} INSERT INTO spaces (id, organization_id, slug, name, created_at, created_revision)
             SELECT {}, '{org}', 's' || CAST(n AS TEXT), 'space', 1800000000000, n FROM numbers",
            padded("spc_", "n"))),
        (OWNERS, format!(
            "{number} INSERT INTO bots (id, organization_id, name, grants, created_at, created_revision)
             SELECT {}, '{org}', 'bot', 'read:a/*', 1800000000000, n FROM numbers",
            padded("bot_", "n"))),
        (keys, format!(
            "{number} INSERT INTO api_keys (id, organization_id, owner_id, name, description, scopes,
             audiences, expires_at, revoked_at, created_at, created_revision, key_type, space_id,
             name_lower, prefix)
             SELECT {id}, '{org}', {owner}, 'Key ' || CAST(n AS TEXT), '',
             'read:projects/alpha/* write:projects/alpha/*', '', NULL,
             CASE WHEN n % 1000 = 0 THEN 1800000000000 ELSE NULL END, 1800000000000, n,
             CASE WHEN n % 10 = 0 THEN 'user' ELSE 'service' END,
             CASE WHEN n % 2 = 0 THEN {space} ELSE NULL END,
             'key ' || CAST(n AS TEXT), 'tm_default_00000000' FROM numbers",
            id = padded("key_", "n"),
            owner = padded("bot_", &format!("(n % {OWNERS} + 1)")),
            space = padded("spc_", &format!("(n % {SPACES} + 1)")))),
    ];
    for (count, statement) in statements {
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(i64::from(count))
            .execute(&mut connection)
            .await
            .unwrap();
    }
    sqlx::query("ANALYZE").execute(&mut connection).await.unwrap();
    if std::env::args().any(|argument| argument == "--plans") {
        show_plans(&mut connection, org).await;
    }
    connection.close().await.unwrap();
}

/// How the database reads the first page of each statement.
async fn show_plans(connection: &mut AnyConnection, org: &str) {
    let is_sqlite = connection.backend_name() == "SQLite";
    let explain = if is_sqlite { "EXPLAIN QUERY PLAN" } else { "EXPLAIN" };
    for (name, statement) in api_key_lists::statements() {
        println!("plan, {name}:");
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{explain} {statement}")))
            .bind(org)
            .bind(i64::from(u32::MAX))
            .bind("")
            .bind(5_000_i64)
            .bind(id("bot_", 7))
            .bind(id("spc_", 3))
            .bind("service")
            .bind("key 1")
            .bind("key 2")
            .bind("active")
            .bind(1_800_000_000_000_i64)
            .bind(51_i64)
            .bind(0_i64)
            .fetch_all(&mut *connection)
            .await
            .unwrap();
        for row in rows {
            let line: String = row.get(if is_sqlite { 3 } else { 0 });
            println!("  {line}");
        }
    }
}
