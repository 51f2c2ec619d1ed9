//! Kill -9 under load: every token that a client received is on record, once, and the chain holds.

use std::sync::mpsc::channel;
use std::time::Duration;

use sqlx::{AnyConnection, Connection};
use tenmint::model::token_id::TokenId;

use crate::cli::{Home, Serving, free_address};
use crate::kill::{engine, fetch_until_gone, hold_files_whole, rounds, some_time};
use crate::ledger::{hold_to_record, run};
use crate::server::basic;

/// Clients that ask at once.
const CLIENTS: usize = 8;

#[tokio::test]
async fn every_token_that_a_client_received_is_on_record_once_after_kills() {
    for home in Home::on_each_engine() {
        let init = home.init("https://auth.example.com");
        let field = |name: &str| init["api_key"][name].as_str().unwrap().to_owned();
        let authorization = basic(&field("id"), &field("api_key"));
        let mut received = Vec::new();
        let rounds = rounds(&home);
        for _ in 0..rounds {
            received.extend(fetch_until_killed(&home, &authorization, some_time(60)));
        }
        // a node that starts takes in what the last one left behind
        drop(Serving::start(&home, &["--listen", &free_address()]));
        let (recorded, chains) = hold_to_record(&home, &received).await;
        assert!(received.len() > rounds * CLIENTS / 2, "{} tokens", received.len());
        if home.database_url.is_none() {
            hold_files_whole(&home.path().join("data")).await;
        }
        println!(
            "{}: {rounds} rounds, {} tokens received, {recorded} on record, {chains} chains",
            engine(&home),
            received.len(),
        );
    }
}

/// Makes PostgreSQL refuse batches for 300 ms of each second.
const REFUSE_NOW_AND_THEN: [&str; 2] = [
    "CREATE FUNCTION now_and_then() RETURNS trigger AS $$ BEGIN
        IF CAST(EXTRACT(MILLISECONDS FROM clock_timestamp()) AS INTEGER) % 1000 < 300 THEN
            RAISE EXCEPTION 'not now';
        END IF;
        RETURN NEW;
    END $$ LANGUAGE plpgsql",
    "CREATE TRIGGER now_and_then BEFORE INSERT ON ledger_batches
        FOR EACH ROW EXECUTE FUNCTION now_and_then()",
];

#[tokio::test]
async fn every_token_is_on_record_once_after_kills_while_batches_go_to_the_spool_and_come_from_it()
{
    let Some(home) = Home::on_postgres() else { return };
    let init = home.init("https://auth.example.com");
    let field = |name: &str| init["api_key"][name].as_str().unwrap().to_owned();
    let authorization = basic(&field("id"), &field("api_key"));
    assert!(home.run(&["migrate"]).status.success());
    sqlx::any::install_default_drivers();
    let mut tables = AnyConnection::connect(home.database_url.as_ref().unwrap()).await.unwrap();
    for statement in REFUSE_NOW_AND_THEN {
        run(&mut tables, statement).await;
    }
    let mut received = Vec::new();
    let rounds = rounds(&home);
    for _ in 0..rounds {
        // the spool is looked after every second
        received.extend(fetch_until_killed(&home, &authorization, some_time(250) * 8));
    }
    run(&mut tables, "DROP TRIGGER now_and_then ON ledger_batches").await;
    drop(Serving::start(&home, &["--listen", &free_address()]));
    let (recorded, chains) = hold_to_record(&home, &received).await;
    println!(
        "PostgreSQL that refuses now and then: {rounds} rounds, {} tokens received, {recorded} on record, {chains} chains",
        received.len(),
    );
}

/// The ids of all tokens that were received before the server was killed, so long after the first ones.
fn fetch_until_killed(home: &Home, authorization: &str, after: Duration) -> Vec<TokenId> {
    let address = free_address();
    let serving = Serving::start(home, &["--listen", &address]);
    std::thread::scope(|scope| {
        let (tell, told) = channel();
        for _ in 0..CLIENTS {
            let (address, tell) = (address.as_str(), tell.clone());
            scope.spawn(move || fetch_until_gone(address, authorization, &tell));
        }
        drop(tell);
        let mut received: Vec<_> = told.iter().take(CLIENTS).collect();
        std::thread::sleep(after);
        drop(serving);
        received.extend(told);
        received
    })
}
