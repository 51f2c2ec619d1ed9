//! What an import of many API keys costs: line by line, the same file again, and all or nothing.
//!
//! `cargo bench --bench import`; an argument sets the number of keys, 100,000 by default. On SQLite,
//! and on PostgreSQL where `TENMINT_TEST_POSTGRES` names a cluster. The node that imports serves,
//! so that each key works when its line is reported; another one follows at the end.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::format_collect,
    clippy::print_stdout,
    reason = "a bench that fails says where, and prints what it measured"
)]

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use support::PostgresDatabase;
use tenmint::clock::Clock;
use tenmint::mint::{Caller, ClientCredential, Presented};
use tenmint::model::access::{Actor, Origin};
use tenmint::model::import::{ImportApiKeys, ImportFormat, ImportSummary};
use tenmint::model::secret::PlainSecret;
use tenmint::service::Service;
use tenmint::service::call::Call;
use tenmint::service::init::{CreateInstallation, CreatedInstallation, create_installation};
use tenmint::service::node::{Node, NodeConfig};
use tenmint::store::DatabaseUrl;
use tokio::sync::mpsc;

#[tokio::main]
async fn main() {
    let number = std::env::args().find_map(|argument| argument.parse().ok());
    let keys: u32 = number.unwrap_or(100_000);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tenmint.db");
    measure("SQLite", &format!("sqlite:{}", file.display()), directory.path(), keys).await;
    if let Some(database) = PostgresDatabase::create("import") {
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
    let open = async || {
        let service = Service::open(&database, &keys_dir, Clock::system()).await.unwrap();
        Node::start(service, NodeConfig::in_directory(directory)).await.unwrap()
    };
    let (node, other) = (open().await, open().await);
    let call = call_of(&node, created);
    let lines = ImportApiKeys { format: ImportFormat::Csv, atomic: false };
    let atomic = ImportApiKeys { atomic: true, ..lines };
    let (one, two) = (file_of("one", keys), file_of("two", keys));
    for (what, ask, file) in [
        ("line by line", lines, &one),
        ("the same again", lines, &one),
        ("all or nothing", atomic, &two),
        ("the same again", atomic, &two),
    ] {
        let began = Instant::now();
        let summary = import(&node.service, &call, ask, file).await;
        let took = began.elapsed().as_secs_f64();
        let (created, unchanged) = (summary.created, summary.unchanged);
        println!("{engine:>10}  {what:<16} {took:6.1} s  created {created}, unchanged {unchanged}");
        assert_eq!((created + unchanged, summary.refused), (u64::from(keys), 0));
    }
    let failing = file_of("three", keys) + "bad,x,chat,\n";
    let began = Instant::now();
    let summary = import(&node.service, &call, atomic, &failing).await;
    let took = began.elapsed().as_secs_f64();
    println!("{engine:>10}  nothing, in the end {took:6.1} s  refused {}", summary.refused);
    assert_eq!((summary.created, summary.refused), (0, 1));
    let began = Instant::now();
    other.follower.catch_up().await.unwrap();
    other.follower.catch_up_with_imports().await.unwrap();
    let took = began.elapsed().as_secs_f64();
    println!("{engine:>10}  another node follows {took:6.1} s  holds {}", other.mint.index().len());
    assert_eq!(other.mint.index().len(), node.mint.index().len());
    println!("{engine:>10}  memory at most {} MB", peak_memory_kb() / 1024);
    node.stop().await;
    other.stop().await;
}

fn call_of(node: &Node, created: CreatedInstallation) -> Call {
    let text = PlainSecret::new(created.api_key.text.unwrap().reveal());
    let presented = Presented::ApiKey(ClientCredential { client_id: None, texts: vec![text] });
    let caller = Caller { address: None, user_agent: None };
    let credential = node.mint.identify(&presented, caller, node.service.clock().now()).unwrap();
    let org = credential.org;
    let actor = Actor { credential, origin: Origin::default() };
    Call { actor, org, dry_run: false, idempotency: None, misread: Vec::new() }
}

/// Keys of three scopes each, of a thousand kinds.
fn file_of(start: &str, keys: u32) -> String {
    let mut file = "name,digest,scopes,description\n".to_owned();
    for number in 0..keys {
        let digest = digest(&SHA256, format!("{start}-{number}").as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let team = number % 1_000;
        writeln!(
            file,
            "{start}-{number},{hex},read:teams/{team}/* write:teams/{team}/notes/* chat,old key"
        )
        .unwrap();
    }
    file
}

async fn import(service: &Service, call: &Call, ask: ImportApiKeys, file: &str) -> ImportSummary {
    let (bytes, coming) = mpsc::channel(4);
    let (telling, mut report) = mpsc::channel(1_000);
    let chunks: Vec<Bytes> =
        file.as_bytes().chunks(64 * 1024).map(Bytes::copy_from_slice).collect();
    let sending = async move {
        for chunk in chunks {
            bytes.send(Ok(chunk)).await.unwrap();
        }
    };
    let reading = async { while report.recv().await.is_some() {} };
    let importing = service.import_api_keys(call, ask, coming, telling);
    let (summary, (), ()) = tokio::join!(importing, sending, reading);
    summary.unwrap()
}

fn peak_memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
