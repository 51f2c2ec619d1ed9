//! The tables of a database are brought up to date by whoever may do that, whenever it is killed meanwhile, and
//! left alone by whoever may not.

use std::time::{Duration, Instant};

use sqlx::{AnyConnection, Connection};

use crate::cli::{Home, Serving, free_address, stderr};
use crate::kill::{engine, faults_of, rounds};
use crate::server::{basic, token_request};

const ISSUER: &str = "https://auth.example.com";

/// A statement on the database of a home.
async fn execute(home: &Home, statement: &str) -> sqlx::Result<()> {
    let mut tables = connect(home).await?;
    sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut tables).await?;
    tables.close().await
}

async fn connect(home: &Home) -> sqlx::Result<AnyConnection> {
    sqlx::any::install_default_drivers();
    let embedded = || format!("sqlite://{}", home.path().join("data/tenmint.db").display());
    AnyConnection::connect(&home.database_url.clone().unwrap_or_else(embedded)).await
}

/// Migrations that the database of a home has; none where there are no tables yet.
async fn migrations(home: &Home) -> i64 {
    let Ok(mut tables) = connect(home).await else { return 0 };
    let count = "SELECT COUNT(*) FROM _sqlx_migrations";
    sqlx::query_scalar(count).fetch_one(&mut tables).await.unwrap_or(0)
}

fn migrate(home: &Home) {
    let output = home.run(&["migrate"]);
    assert!(output.status.success(), "{}", stderr(&output));
}

/// Sets a home up and serves in it: its administrator gets a token.
fn comes_to_work(home: &Home) {
    let init = home.init(ISSUER);
    let [id, text] = ["id", "api_key"].map(|field| init["api_key"][field].as_str().unwrap());
    let address = free_address();
    let node = Serving::start(home, &["--listen", &address]);
    let answer = crate::answer::ask(&address, &token_request(&basic(id, text))).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    node.stop();
}

/// What a node says that does not start.
fn refusal_to_serve(home: &Home) -> String {
    let output = home.run(&["serve", "--listen", &free_address()]);
    assert!(!output.status.success());
    stderr(&output)
}

#[tokio::test]
async fn a_kill_while_tables_are_brought_up_to_date_leaves_what_the_next_start_goes_on_with() {
    for home in Home::on_each_engine() {
        let began = Instant::now();
        migrate(&home);
        let (takes, all) = (began.elapsed(), migrations(&home).await);
        let mut half_way = 0;
        let rounds = u32::try_from(rounds(&home)).unwrap();
        for round in 0..rounds {
            let home = home.another();
            kill_after(&home, takes * round / rounds);
            half_way += usize::from((1..all).contains(&migrations(&home).await));
            // from wherever it was
            comes_to_work(&home);
            assert_eq!(migrations(&home).await, all);
            if home.database_url.is_none() {
                assert_eq!(faults_of(&home.path().join("data/tenmint.db")).await, ["ok"]);
            }
        }
        assert!(half_way > 0 || rounds < 20, "none of {rounds} kills came between two migrations");
        println!("{}: {rounds} kills, {half_way} of them between two migrations", engine(&home));
    }
}

fn kill_after(home: &Home, time: Duration) {
    let mut migrating = home.command(&["migrate"]).spawn().unwrap();
    std::thread::sleep(time);
    migrating.kill().unwrap();
    migrating.wait().unwrap();
}

#[tokio::test]
async fn a_node_that_is_told_to_leave_tables_alone_does_not_start_on_older_ones() {
    for home in Home::on_each_engine() {
        std::fs::write(home.path().join("tenmint.toml"), "migrate = false").unwrap();
        home.init(ISSUER);
        // the ledger has no tables yet
        let said = refusal_to_serve(&home);
        assert!(
            said.contains("is older than this program") && said.contains("`tenmint migrate`"),
            "{said}"
        );
        migrate(&home);
        Serving::start(&home, &["--listen", &free_address()]).stop();
        let newest = "DELETE FROM _sqlx_migrations
                      WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)";
        execute(&home, newest).await.unwrap();
        let said = refusal_to_serve(&home);
        assert!(said.contains("is older than this program"), "{said}");
    }
}

#[tokio::test]
async fn on_postgresql_a_role_that_may_change_no_table_sets_up_and_serves_on_tables_that_are_there()
{
    let Some(mut home) = Home::on_postgres() else { return };
    let owner = home.database_url.clone().unwrap();
    let (before, place) = owner.split_once('@').unwrap();
    let role = format!("serves_{}", place.rsplit('/').next().unwrap());
    migrate(&home);
    for statement in [
        format!("CREATE ROLE {role} LOGIN"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"),
    ] {
        execute(&home, &statement).await.unwrap();
    }
    let scheme = before.split_once("//").unwrap().0;
    home.database_url = Some(format!("{scheme}//{role}@{place}"));
    execute(&home, "CREATE TABLE of_nobody (id BIGINT)").await.unwrap_err();
    comes_to_work(&home);
    let by_role = home.database_url.replace(owner.clone()).unwrap();
    execute(&home, "DELETE FROM _sqlx_migrations WHERE version > 1").await.unwrap();
    home.database_url = Some(by_role.clone());
    let said = refusal_to_serve(&home);
    assert!(said.contains("as somebody who may change tables"), "{said}");
    home.database_url = Some(owner);
    execute(&home, &format!("REVOKE SELECT ON _sqlx_migrations FROM {role}")).await.unwrap();
    home.database_url = Some(by_role);
    let said = refusal_to_serve(&home);
    assert!(said.contains("the database may not be read"), "{said}");
}
