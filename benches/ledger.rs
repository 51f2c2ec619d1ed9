//! Searching the ledger: a day of 10,000,000 tokens, one API key of which got a handful.
//!
//! `cargo bench --bench ledger`; an argument sets the tokens.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench that fails says where, and prints what it measured"
)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::aims;
use tenmint::clock::Clock;
use tenmint::model::id::{ApiKeyId, AudienceId};
use tenmint::model::ledger::{Chain, Fact, FactWriter, Sealer, Subject};
use tenmint::model::secret::Pepper;
use tenmint::model::time::Timestamp;
use tenmint::model::token_id::{ChainId, TokenId};
use tenmint::service::Service;
use tenmint::service::init::{CreateInstallation, create_installation};
use tenmint::service::ledger::search::Search;
use tenmint::store::DatabaseUrl;
use tenmint::store::ledger::LedgerStore;

const TOKENS: u64 = 10_000_000;
const TOKENS_A_BATCH: u64 = 64;
const API_KEYS: u64 = 20_000;
/// One in so many tokens is of the key that is searched for.
const SPARSE: u64 = 2_000_000;
const DAY: Duration = Duration::from_hours(24);
const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const LOOK_UPS: u64 = 200;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let tokens = std::env::args().find_map(|text| text.parse().ok()).unwrap_or(TOKENS);
    let directory = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite:{}", directory.path().join("tenmint.db").display());
    measure("SQLite", &sqlite, directory.path(), tokens).await;
    if let Ok(cluster) = std::env::var("TENMINT_TEST_POSTGRES") {
        let name = format!("bench_ledger_{}", std::process::id());
        let psql = |sql: String| {
            let mut psql = std::process::Command::new("psql");
            let ran = psql.args([&format!("{cluster}/postgres"), "-qc", &sql]).status();
            assert!(ran.expect("psql").success());
        };
        psql(format!("CREATE DATABASE {name}"));
        let directory = tempfile::tempdir().unwrap();
        measure("PostgreSQL", &format!("{cluster}/{name}"), directory.path(), tokens).await;
        psql(format!("DROP DATABASE {name}"));
    }
}

async fn measure(engine: &str, url: &str, directory: &Path, tokens: u64) {
    let database = DatabaseUrl::parse(url).unwrap();
    let (keys_dir, clock) = (directory.join("keys"), Clock::system());
    let ask = CreateInstallation {
        issuer: "http://127.0.0.1".to_owned(),
        ..CreateInstallation::default()
    };
    create_installation(&database, &keys_dir, &clock, &ask).await.unwrap();
    let store = LedgerStore::open(&database).await.unwrap();
    let began = Instant::now();
    let ids = fill(&store, tokens).await;
    println!("{engine:>10}  {tokens} tokens, recorded in {:.0} s", began.elapsed().as_secs_f64());
    store.close().await;

    let service = Service::open(&database, &keys_dir, clock).await.unwrap();
    let ledger = service.read_ledger().await.unwrap();
    let until = START + DAY;
    let search = Search { subjects: vec![Subject::ApiKey(sparse_key())], since: START, until };
    for round in ["first", "again"] {
        let began = Instant::now();
        let page = ledger.find(&search, None, 15).await.unwrap();
        let took = began.elapsed().as_secs_f64();
        println!(
            "{engine:>10}  a sparse key over the day, {round}   {took:.3} s  {} found",
            page.facts.len()
        );
        if round == "first" && tokens >= 10_000_000 {
            aims::at_most("a first page of a sparse key, s", took, 2.0);
        }
    }
    let began = Instant::now();
    for id in &ids {
        assert!(ledger.find_token(*id).await.unwrap().is_some());
    }
    let each = began.elapsed().as_secs_f64() * 1e3 / ids.len() as f64;
    println!("{engine:>10}  one token by its id              {each:.2} ms");
    ledger.close().await;
}

fn api_key(number: u64) -> ApiKeyId {
    let bytes = [number.to_be_bytes(), number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()];
    ApiKeyId::from_random(bytes.concat().try_into().unwrap())
}

fn sparse_key() -> ApiKeyId {
    api_key(u64::MAX)
}

/// A day of tokens, and some of their ids.
async fn fill(store: &LedgerStore, tokens: u64) -> Vec<TokenId> {
    let id = ChainId::from_number(1);
    let chain = Chain { id, started_at: START, previous: None };
    assert!(store.insert_chain(&chain).await.unwrap());
    let mut sealer = Sealer::new(Pepper::new(&[7; 32]).ledger_key(), &chain);
    let (mut ids, mut facts) = (Vec::new(), FactWriter::new(id));
    for number in 0..tokens {
        let millis = u64::try_from(DAY.as_millis()).unwrap() * number / tokens;
        let random = number.to_be_bytes().first_chunk::<7>().copied().unwrap();
        let token_id = TokenId::new(START + Duration::from_millis(millis), id, random);
        let is_sparse = number % SPARSE == SPARSE / 2;
        let key = number.wrapping_mul(0x9E37_79B9) % API_KEYS;
        let [a, b, ..] = key.to_le_bytes();
        facts.put(&Fact {
            token_id,
            api_key: if is_sparse { sparse_key() } else { api_key(key) },
            audiences: &[AudienceId::MANAGEMENT],
            scope: &format!("read:projects/p{key}/* write:projects/p{key}/*"),
            lifetime: 600,
            address: Some([10, 0, a, b].into()),
        });
        if number % (tokens / LOOK_UPS).max(1) == 0 {
            ids.push(token_id);
        }
        if facts.len() == TOKENS_A_BATCH {
            let full = std::mem::replace(&mut facts, FactWriter::new(id));
            store.insert(&sealer.seal(full)).await.unwrap();
        }
    }
    if !facts.is_empty() {
        store.insert(&sealer.seal(facts)).await.unwrap();
    }
    ids
}
