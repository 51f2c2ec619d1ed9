//! What happens to tokens while the ledger cannot be written.

use sqlx::AnyConnection;
use tenmint::model::ledger::LedgerMode;

use crate::ledger::{all, id_of, reader, run, tables, token_of};
use crate::server::{Engine, Server, Setup};

/// Makes every insert fail, as a full disk would.
async fn break_inserts(tables: &mut AnyConnection, engine: Engine) {
    if engine == Engine::Sqlite {
        run(
            tables,
            "CREATE TRIGGER full_disk BEFORE INSERT ON ledger_batches
            BEGIN SELECT RAISE(FAIL, 'the disk is full'); END",
        )
        .await;
        return;
    }
    run(
        tables,
        "CREATE FUNCTION full_disk() RETURNS trigger AS
        $$ BEGIN RAISE EXCEPTION 'the disk is full'; END $$ LANGUAGE plpgsql",
    )
    .await;
    run(
        tables,
        "CREATE TRIGGER full_disk BEFORE INSERT ON ledger_batches
        FOR EACH ROW EXECUTE FUNCTION full_disk()",
    )
    .await;
}

async fn mend_inserts(tables: &mut AnyConnection, engine: Engine) {
    if engine == Engine::Sqlite {
        run(tables, "DROP TRIGGER full_disk").await;
    } else {
        run(tables, "DROP TRIGGER full_disk ON ledger_batches").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_no_token_leaves_while_none_can_be_recorded_and_the_node_recovers_by_itself() {
    let server = Setup::on(Engine::Sqlite).start().await.unwrap();
    let key = server.api_key("chat").await;
    let before = id_of(&token_of(&server, &key).await);
    let mut tables = tables(&server).await;
    break_inserts(&mut tables, Engine::Sqlite).await;
    for _ in 0..3 {
        let refused = server.token(&key, "").await;
        assert_eq!(refused.status, 503, "{}", refused.body);
        assert!(refused.body.contains("temporarily_unavailable"));
        assert!(refused.header("retry-after").is_some());
    }
    assert_eq!(server.get("/readyz").await.status, 503);
    mend_inserts(&mut tables, Engine::Sqlite).await;
    let after = loop {
        let answer = server.token(&key, "").await;
        if answer.status == 200 {
            break id_of(&server.verify(&answer).await.unwrap());
        }
    };
    let recorded: Vec<_> = all(&server).await.iter().map(|fact| fact.token_id).collect();
    assert_eq!((recorded[0], recorded[recorded.len() - 1]), (before, after));
    // the batch that failed is there, as nobody knew whether it was
    assert_eq!(recorded.len(), 3);
    let reports = server.service.verify_ledger(&reader(&server).await, &[]).await.unwrap();
    assert!(reports.iter().all(|report| report.fault.is_none()), "{reports:?}");
}

async fn on_postgres() -> Option<Server> {
    Setup::on(Engine::Postgres).start().await
}

async fn recorded(server: &Server) -> Vec<tenmint::model::token_id::TokenId> {
    let mut ids: Vec<_> = all(server).await.iter().map(|fact| fact.token_id).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_tokens_leave_by_the_spool_and_are_recorded_once_it_is_back() {
    let Some(server) = on_postgres().await else { return };
    let key = server.api_key("chat").await;
    let mut ids = vec![id_of(&token_of(&server, &key).await)];
    let mut tables = tables(&server).await;
    break_inserts(&mut tables, Engine::Postgres).await;
    for _ in 0..3 {
        ids.push(id_of(&token_of(&server, &key).await));
    }
    let keeper = server.node.as_ref().unwrap().ledger_keeper().unwrap();
    assert!(keeper.replay().await.is_err());
    assert_eq!(recorded(&server).await.len(), 1);
    mend_inserts(&mut tables, Engine::Postgres).await;
    ids.push(id_of(&token_of(&server, &key).await));
    assert_eq!(recorded(&server).await.len(), 1, "what comes later waits behind it");
    assert!(keeper.replay().await.unwrap() > 0);
    ids.push(id_of(&token_of(&server, &key).await));
    ids.sort_unstable();
    assert_eq!(recorded(&server).await, ids);
    assert_eq!(keeper.replay().await.unwrap(), 0);
    let reports = server.service.verify_ledger(&reader(&server).await, &[]).await.unwrap();
    assert!(reports.iter().all(|report| report.fault.is_none()), "{reports:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_a_batch_that_takes_too_long_is_spooled_and_not_recorded_twice() {
    let Some(server) = on_postgres().await else { return };
    let key = server.api_key("chat").await;
    let mut tables = tables(&server).await;
    run(&mut tables, "BEGIN").await;
    run(&mut tables, "LOCK TABLE ledger_batches IN ACCESS EXCLUSIVE MODE").await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(id_of(&token_of(&server, &key).await));
    }
    run(&mut tables, "COMMIT").await;
    let keeper = server.node.as_ref().unwrap().ledger_keeper().unwrap();
    assert!(keeper.replay().await.unwrap() > 0);
    ids.sort_unstable();
    assert_eq!(recorded(&server).await, ids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_a_connection_that_ended_meanwhile_is_replaced_and_nothing_is_spooled() {
    let Some(server) = on_postgres().await else { return };
    let key = server.api_key("chat").await;
    let mut ids = vec![id_of(&token_of(&server, &key).await)];
    let mut tables = tables(&server).await;
    run(
        &mut tables,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    ids.push(id_of(&token_of(&server, &key).await));
    ids.sort_unstable();
    assert_eq!(recorded(&server).await, ids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_what_a_run_left_in_the_spool_is_recorded_by_the_next() {
    let Some(mut server) = on_postgres().await else { return };
    let key = server.api_key("chat").await;
    let mut tables = tables(&server).await;
    break_inserts(&mut tables, Engine::Postgres).await;
    let ids = [id_of(&token_of(&server, &key).await), id_of(&token_of(&server, &key).await)];
    server.stop().await;
    mend_inserts(&mut tables, Engine::Postgres).await;
    let keys_dir = server.directory.path().join("keys");
    let open =
        || tenmint::service::Service::open(&server.database, &keys_dir, server.clock.clone());
    let config = tenmint::service::node::NodeConfig::in_directory(server.directory.path());
    let node = tenmint::service::node::Node::start(open().await.unwrap(), config).await.unwrap();
    let mut found = Vec::new();
    for id in ids {
        found.extend(
            open().await.unwrap().read_ledger().await.unwrap().find_token(id).await.unwrap(),
        );
    }
    assert_eq!(found.iter().map(|fact| fact.token_id).collect::<Vec<_>>(), ids);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buffered_ledger_has_every_token_after_a_clean_stop() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let setup = Setup { ledger: LedgerMode::Buffered, ..Setup::on(engine) };
        let Some(mut server) = setup.start().await else { continue };
        let key = server.api_key("chat").await;
        for _ in 0..20 {
            assert_eq!(server.token(&key, "").await.status, 200);
        }
        server.stop().await;
        let mut tables = tables(&server).await;
        let facts: i64 =
            sqlx::query_scalar("SELECT CAST(SUM(facts) AS BIGINT) FROM ledger_batches")
                .fetch_one(&mut tables)
                .await
                .unwrap();
        assert_eq!(facts, 20);
    }
}
