//! What happens to tokens while the ledger cannot be written.

use std::path::{Path, PathBuf};

use serde_json::json;
use sqlx::AnyConnection;
use tenmint::model::api_key::CreateApiKey;
use tenmint::model::ledger::LedgerMode;

use crate::ledger::{all, id_of, next_run, next_run_in, reader, run, tables, token_of};
use crate::server::{Engine, Server, Setup, asked};

/// Makes every insert fail, as a full disk would.
pub async fn break_inserts(tables: &mut AnyConnection, engine: Engine) {
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

pub async fn mend_inserts(tables: &mut AnyConnection, engine: Engine) {
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
    let quota = serde_json::from_value(json!({"limit": 1})).unwrap();
    let once = server.create(CreateApiKey { quota: Some(quota), ..asked("chat") }).await;
    let before = id_of(&token_of(&server, &key).await);
    let mut tables = tables(&server).await;
    break_inserts(&mut tables, Engine::Sqlite).await;
    // the first try finds out, and the next ones are refused before anything is signed
    assert_eq!(server.token(&once, "").await.status, 503);
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
    assert_eq!(
        server.token(&once, "").await.status,
        200,
        "a refusal of ours took none of its quota"
    );
    // the batch that failed is there, as nobody knew whether it was
    assert_eq!(recorded.len(), 3);
    let reports = server.service.verify_ledger(&reader(&server).await, &[]).await.unwrap();
    assert!(reports.iter().all(|report| report.fault.is_none()), "{reports:?}");
}

async fn on_postgres() -> Option<Server> {
    Setup::on(Engine::Postgres).start().await
}

/// What a node that issues tokens says of itself.
async fn readiness(server: &Server) -> String {
    let answer = server.get("/readyz").await;
    assert_eq!(answer.status, 200);
    answer.json()["status"].as_str().unwrap().to_owned()
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
    assert_eq!(readiness(&server).await, "ready");
    break_inserts(&mut tables, Engine::Postgres).await;
    for _ in 0..3 {
        ids.push(id_of(&token_of(&server, &key).await));
    }
    assert_eq!(readiness(&server).await, "degraded");
    let keeper = server.node.as_ref().unwrap().ledger_keeper().unwrap();
    keeper.checkpoint().await.unwrap();
    let reports = server.service.verify_ledger(&reader(&server).await, &[]).await.unwrap();
    assert!(reports.iter().all(|report| report.fault.is_none()), "nothing is cut off: {reports:?}");
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
    assert_eq!(readiness(&server).await, "ready");
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
    // also by one that records nothing itself
    for mode in [LedgerMode::Durable, LedgerMode::Off] {
        let Some(mut server) = on_postgres().await else { return };
        let key = server.api_key("chat").await;
        let mut tables = tables(&server).await;
        break_inserts(&mut tables, Engine::Postgres).await;
        let ids = [id_of(&token_of(&server, &key).await), id_of(&token_of(&server, &key).await)];
        server.stop().await;
        mend_inserts(&mut tables, Engine::Postgres).await;
        let node = next_run_in(&server, mode, None).await;
        let ledger = node.service.read_ledger().await.unwrap();
        let mut found = Vec::new();
        for id in ids {
            found.extend(ledger.find_token(id).await.unwrap());
        }
        assert_eq!(found.iter().map(|fact| fact.token_id).collect::<Vec<_>>(), ids);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_what_a_run_leaves_after_the_next_has_begun_is_recorded_too() {
    let Some(mut server) = on_postgres().await else { return };
    let key = server.api_key("chat").await;
    let mut tables = tables(&server).await;
    break_inserts(&mut tables, Engine::Postgres).await;
    let id = id_of(&token_of(&server, &key).await);
    // it finds the spool of a node that runs, and leaves that alone
    let node = next_run(&server, None).await;
    server.stop().await;
    mend_inserts(&mut tables, Engine::Postgres).await;
    node.ledger_keeper().unwrap().replay_left_behind().await.unwrap();
    let ledger = node.service.read_ledger().await.unwrap();
    assert_eq!(ledger.find_token(id).await.unwrap().map(|fact| fact.token_id), Some(id));
    node.stop().await;
}

/// Another batch, in the place behind the last one of its chain.
async fn usurp_the_next_place(tables: &mut AnyConnection) {
    let usurped = run(
        tables,
        "INSERT INTO ledger_batches (chain, number, facts, first_at, last_at, value, filter, body)
         SELECT chain, number + 1, facts, first_at, last_at, value, filter, body FROM ledger_batches",
    )
    .await;
    assert_eq!(usurped, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_a_spooled_batch_whose_place_another_has_is_recorded_in_a_chain_of_its_own() {
    let Some(server) = on_postgres().await else { return };
    let key = server.api_key("chat").await;
    let first = id_of(&token_of(&server, &key).await);
    let mut tables = tables(&server).await;
    break_inserts(&mut tables, Engine::Postgres).await;
    let spooled = [id_of(&token_of(&server, &key).await), id_of(&token_of(&server, &key).await)];
    mend_inserts(&mut tables, Engine::Postgres).await;
    usurp_the_next_place(&mut tables).await;
    let keeper = server.node.as_ref().unwrap().ledger_keeper().unwrap();
    assert!(keeper.replay().await.unwrap() > 0);
    assert_eq!(keeper.replay().await.unwrap(), 0);
    // the first twice: its batch is what has the place now
    let mut expected = vec![first, first];
    expected.extend(spooled);
    expected.sort_unstable();
    assert_eq!(recorded(&server).await, expected);
    let ledger = reader(&server).await;
    for id in spooled {
        assert_eq!(ledger.find_token(id).await.unwrap().map(|fact| fact.token_id), Some(id));
    }
    let reports = server.service.verify_ledger(&ledger, &[]).await.unwrap();
    let faults: Vec<_> = reports.iter().filter_map(|report| report.fault.as_ref()).collect();
    assert_eq!(faults.len(), 1, "the place that was taken is named, and no other: {reports:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgresql_what_cannot_be_read_of_a_spool_is_kept_in_a_file() {
    let Some(mut server) = on_postgres().await else { return };
    let key = server.api_key("chat").await;
    let mut tables = tables(&server).await;
    break_inserts(&mut tables, Engine::Postgres).await;
    let whole = id_of(&token_of(&server, &key).await);
    let spool = the_file_in(&server.directory.path().join("ledger-spool"));
    let end_of_first = std::fs::metadata(&spool).unwrap().len();
    let damaged = id_of(&token_of(&server, &key).await);
    server.stop().await;
    let mut bytes = std::fs::read(&spool).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&spool, &bytes).unwrap();
    mend_inserts(&mut tables, Engine::Postgres).await;
    let node = next_run(&server, None).await;
    let ledger = node.service.read_ledger().await.unwrap();
    assert!(ledger.find_token(whole).await.unwrap().is_some());
    assert!(ledger.find_token(damaged).await.unwrap().is_none());
    let kept = the_file_in(&server.directory.path().join("ledger-spool"));
    assert_eq!(kept.extension().unwrap(), "unread");
    assert_eq!(std::fs::read(kept).unwrap(), bytes[usize::try_from(end_of_first).unwrap()..]);
    node.stop().await;
}

fn the_file_in(directory: &Path) -> PathBuf {
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0).unwrap().path()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buffered_ledger_keeps_what_has_left_while_none_can_be_recorded() {
    let setup = Setup { ledger: LedgerMode::Buffered, ..Setup::on(Engine::Sqlite) };
    let mut server = setup.start().await.unwrap();
    let key = server.api_key("chat").await;
    let mut tables = tables(&server).await;
    // while the file is locked, one token is in the hand of the recorder, and the next waits
    run(&mut tables, "BEGIN EXCLUSIVE").await;
    break_inserts(&mut tables, Engine::Sqlite).await;
    let mut ids = vec![id_of(&token_of(&server, &key).await)];
    let ledger = server.node.as_ref().unwrap().mint.clone();
    while ledger.ledger().waiting() > 0 {
        tokio::task::yield_now().await;
    }
    ids.push(id_of(&token_of(&server, &key).await));
    run(&mut tables, "COMMIT").await;
    while ledger.ledger().is_open() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        server.token(&key, "").await.status,
        503,
        "what cannot be recorded does not pile up"
    );
    mend_inserts(&mut tables, Engine::Sqlite).await;
    while !ledger.ledger().is_open() {
        tokio::task::yield_now().await;
    }
    server.stop().await;
    ids.sort_unstable();
    assert_eq!(recorded(&server).await, ids);
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
