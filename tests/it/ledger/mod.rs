//! The ledger: every token is on record before anybody holds it, and what was recorded cannot be
//! changed or taken out unseen.

mod failures;
mod killed;
mod unwritable;
mod verifying;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sqlx::{AnyConnection, Connection};
use tenmint::model::ledger::{LedgerMode, RecordedFact, Subject};
use tenmint::model::token_id::TokenId;
use tenmint::service::Service;
use tenmint::service::ledger::LedgerConfig;
use tenmint::service::ledger::search::{LedgerReader, Search};
use tenmint::service::node::{Node, NodeConfig};
use tenmint::store::DatabaseUrl;
use tenmint::store::ledger::LedgerStore;
use tenmint_verifier::Token;
use tokio::time::{sleep, timeout};

use crate::cli::Home;
use crate::server::{Answer, Engine, Key, Server, Setup, on_both_engines};

/// What a node does by itself and does not do within this it does not do.
const PATIENCE: Duration = Duration::from_secs(20);

/// A token for a key, as it was answered.
async fn token_of(server: &Server, key: &Key) -> Token {
    let answer = server.token(key, "").await;
    server.verify(&answer).await.unwrap()
}

fn id_of(token: &Token) -> TokenId {
    token.claims().jti.parse().unwrap()
}

async fn reader(server: &Server) -> LedgerReader {
    server.service.read_ledger().await.unwrap()
}

/// Another run of a node in the same directory.
async fn next_run(server: &Server, keep: Option<Duration>) -> Node {
    next_run_in(server, LedgerMode::Durable, keep).await
}

/// The same, which records tokens so.
async fn next_run_in(server: &Server, mode: LedgerMode, keep: Option<Duration>) -> Node {
    let keys_dir = server.directory.path().join("keys");
    let service = Service::open(&server.database, &keys_dir, server.clock.clone()).await.unwrap();
    let config = NodeConfig::in_directory(server.directory.path());
    let ledger = LedgerConfig { mode, keep, ..config.ledger };
    Node::start(service, NodeConfig { ledger, ..config }).await.unwrap()
}

/// All that is on record, from old to new.
async fn all(server: &Server) -> Vec<RecordedFact> {
    all_in(&reader(server).await).await
}

async fn all_in(ledger: &LedgerReader) -> Vec<RecordedFact> {
    let mut all = Vec::new();
    let give = |facts| {
        all.extend(facts);
        true
    };
    ledger.export(&Search::default(), give).await.unwrap();
    all
}

/// The id of a token that was received, unverified.
pub fn received(answer: &Answer) -> TokenId {
    answer.claims()["jti"].as_str().unwrap().parse().unwrap()
}

/// Holds what is on record to what was received: none is lost, none is there twice, and the chains hold.
/// Says how many tokens and chains there are.
pub async fn hold_to_record(home: &Home, received: &[TokenId]) -> (usize, usize) {
    let service = home.service().await;
    let ledger = service.read_ledger().await.unwrap();
    let mut recorded = BTreeMap::<TokenId, u32>::new();
    for fact in all_in(&ledger).await {
        *recorded.entry(fact.token_id).or_default() += 1;
    }
    let lost = received.iter().filter(|id| !recorded.contains_key(id)).count();
    let twice = recorded.values().filter(|count| **count > 1).count();
    assert_eq!((lost, twice), (0, 0), "of {}", received.len());
    let reports = service.verify_ledger(&ledger, &[]).await.unwrap();
    assert!(reports.iter().all(|report| report.fault.is_none()), "{reports:?}");
    (recorded.len(), reports.len())
}

/// A connection to the tables of the ledger, for whoever tampers with them.
async fn tables(server: &Server) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let url = if server.database.is_remote() {
        server.postgres.clone().unwrap()
    } else {
        format!("sqlite://{}", server.directory.path().join("ledger.db").display())
    };
    AnyConnection::connect(&url).await.unwrap()
}

async fn run(tables: &mut AnyConnection, sql: &'static str) -> u64 {
    sqlx::query(sql).execute(tables).await.unwrap().rows_affected()
}

on_both_engines! {
    async fn a_token_is_on_record_when_it_is_answered(server: Server) {
        let key = server.api_key("read:projects/alpha/* chat").await;
        let token = token_of(&server, &key).await;
        let found = reader(&server).await.find_token(id_of(&token)).await.unwrap().unwrap();
        let claims = token.claims();
        assert_eq!((found.api_key, found.token_id), (key.id, id_of(&token)));
        assert_eq!(found.token_id.at(), server.clock.now());
        assert_eq!((found.scope.as_str(), found.lifetime), (claims.scope.as_str(), claims.exp - claims.iat));
        assert_eq!(found.address, Some([127, 0, 0, 1].into()));
        assert_eq!(found.audiences, server.org.default_audience.into_iter().collect::<Vec<_>>());
        let other = server.api_key("chat").await;
        let unknown = TokenId::new(server.clock.now(), found.token_id.chain(), [0; 7]);
        assert_eq!(reader(&server).await.find_token(unknown).await.unwrap(), None);
        drop(server.token(&other, "scope=write:x").await);
        assert_eq!(all(&server).await.len(), 1, "a refusal is no token");
    }

    async fn tokens_are_found_by_key_and_address_and_time_a_page_at_a_time(server: Server) {
        let (one, other) = (server.api_key("chat").await, server.api_key("chat").await);
        let start = server.clock.now();
        let mut ids = Vec::new();
        for round in 0..7 {
            server.wind(Duration::from_secs(1)).await;
            ids.push(id_of(&token_of(&server, &one).await));
            if round % 3 == 0 {
                token_of(&server, &other).await;
            }
        }
        let ledger = reader(&server).await;
        let by_key = Search { subjects: vec![Subject::ApiKey(one.id)], ..Search::default() };
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let page = ledger.find(&by_key, from, 2).await.unwrap();
            assert!(page.facts.len() <= 2);
            found.extend(page.facts.into_iter().map(|fact| fact.token_id));
            from = page.next.map(|next| next.to_string().parse().unwrap());
            if from.is_none() {
                break;
            }
        }
        found.reverse();
        assert_eq!(found, ids, "from new to old");
        let counted = async |search: Search| ledger.find(&search, None, 100).await.unwrap().facts.len();
        let here = Subject::Address([127, 0, 0, 1].into());
        let there = Subject::Address([192, 0, 2, 1].into());
        assert_eq!(counted(Search { subjects: vec![here], ..Search::default() }).await, 10);
        assert_eq!(counted(Search { subjects: vec![there], ..Search::default() }).await, 0);
        let both = vec![here, Subject::ApiKey(other.id)];
        assert_eq!(counted(Search { subjects: both, ..Search::default() }).await, 3);
        let (since, until) = (start + Duration::from_secs(2), ids[4].at());
        assert_eq!(counted(Search { since, until, ..by_key.clone() }).await, 3);
        assert_eq!(counted(Search { since: ids[6].at(), ..by_key }).await, 1);
    }

    async fn tokens_that_are_asked_for_together_are_recorded_together_and_each_once(server: Server) {
        let key = server.api_key("chat").await;
        let server = std::sync::Arc::new(server);
        let asking: Vec<_> = (0..64)
            .map(|_| {
                let (server, key) = (server.clone(), key.clone());
                tokio::spawn(async move { server.token(&key, "").await })
            })
            .collect();
        let mut ids = Vec::new();
        for answer in asking {
            ids.push(id_of(&server.verify(&answer.await.unwrap()).await.unwrap()));
        }
        let mut recorded: Vec<TokenId> = all(&server).await.iter().map(|fact| fact.token_id).collect();
        recorded.sort_unstable();
        ids.sort_unstable();
        assert_eq!(recorded, ids);
        let mut tables = tables(&server).await;
        let batches: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM ledger_batches")
            .fetch_one(&mut tables).await.unwrap();
        assert!((1..64).contains(&batches), "{batches} batches");
    }

    async fn a_token_is_found_by_its_id_in_the_batches_of_its_moment_and_no_other_is_read(server: Server) {
        let key = server.api_key("chat").await;
        let mut ids = Vec::new();
        for _ in 0..6 {
            server.wind(Duration::from_mins(1)).await;
            ids.push(id_of(&token_of(&server, &key).await));
        }
        let others = "UPDATE ledger_batches SET body = value WHERE number <> 4";
        assert_eq!(run(&mut tables(&server).await, others).await, 5);
        let ledger = reader(&server).await;
        assert!(ledger.find_token(ids[3]).await.unwrap().is_some());
        assert!(!matches!(ledger.find_token(ids[2]).await, Ok(Some(_))), "what is there was read");
    }

    async fn what_is_kept_of_a_token_is_neither_the_token_nor_the_key(server: Server) {
        let key = server.api_key("chat").await;
        let answer = server.token(&key, "").await;
        let recorded = format!("{:?}", all(&server).await);
        let secret = key.text.rsplit('_').next().unwrap();
        let signature = answer.token().rsplit('.').next().unwrap().to_owned();
        assert!(!recorded.contains(&secret[16..]) && !recorded.contains(&signature));
        let found = json_of(&answer);
        assert!(found["access_token"].is_string());
    }
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn a_ledger_that_is_off_records_nothing_and_holds_nobody_up() {
    let setup = Setup { ledger: LedgerMode::Off, ..Setup::on(Engine::Sqlite) };
    let server = setup.start().await.unwrap();
    let key = server.api_key("chat").await;
    assert_eq!(server.token(&key, "").await.status, 200);
    assert!(server.service.read_ledger().await.is_err(), "there is none");
    std::fs::write(server.directory.path().join("ledger.db"), "no database").unwrap();
    let next = next_run_in(&server, LedgerMode::Off, None).await;
    assert!(next.ledger_keeper().is_none(), "nor one that keeps a node from its start");
    next.stop().await;
}

#[tokio::test]
async fn on_sqlite_a_node_moves_the_log_of_its_ledger_into_the_file_by_itself() {
    let mut server = Setup::on(Engine::Sqlite).start().await.unwrap();
    server.node.as_mut().unwrap().keep_ledger();
    let key = server.api_key("chat").await;
    assert_eq!(server.token(&key, "").await.status, 200);
    let moved = timeout(PATIENCE, async {
        while batches_in_the_file_alone(&server).await == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(moved.await.is_ok(), "not within {PATIENCE:?}");
}

/// Batches that are in the file of an embedded ledger without its log.
async fn batches_in_the_file_alone(server: &Server) -> usize {
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(server.directory.path().join("ledger.db"), copy.path().join("ledger.db"))
        .unwrap();
    let ledger = LedgerStore::open_existing(&DatabaseUrl::in_directory(copy.path())).await;
    // a copy that is taken while the log is moved may be no database
    let Ok(Some(ledger)) = ledger else { return 0 };
    let Some(chain) = ledger.list_chains().await.unwrap_or_default().pop() else { return 0 };
    ledger.list_after(chain.id, 0, 1).await.unwrap_or_default().len()
}
