//! The nodes that are measured, each with an installation of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::block_on;
use crate::load::{exchange_once, read_requests, write_requests};
use crate::support::many_keys::fill;
use crate::support::{Pinned, PostgresDatabase, call, free_address, wait_for_answer};

const SCOPE: &str = "read:projects/alpha/*";

/// What a node is like.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) ledger: Option<&'static str>,
    /// Keys that it has beside those that ask.
    pub(crate) keys: u32,
    /// Keys that ask in turn, where it is not one alone.
    pub(crate) askers: Option<u32>,
    pub(crate) cores: Option<&'static str>,
    pub(crate) postgres: Option<PostgresDatabase>,
    /// A program that it is run by.
    pub(crate) through: Option<Command>,
}

/// A node that serves.
pub(crate) struct Node {
    // stopped before what it uses goes
    service: Pinned,
    directory: tempfile::TempDir,
    pub(crate) address: String,
    /// The file of what is asked of it.
    pub(crate) requests: PathBuf,
    _postgres: Option<PostgresDatabase>,
}

impl Node {
    pub(crate) fn start(setup: Setup) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let database = setup.postgres.as_ref().map(PostgresDatabase::url);
        let database = database.map(|url| format!("database_url = \"{url}\"\n"));
        let ledger = setup.ledger.unwrap_or("durable");
        let config = format!("{}[ledger]\nmode = \"{ledger}\"\n", database.unwrap_or_default());
        std::fs::write(directory.path().join("tenmint.toml"), config).unwrap();
        let tenmint = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tenmint"));
            command.args(arguments).current_dir(directory.path());
            command
        };
        let issuer = format!("http://{address}");
        let output = tenmint(&["init", "--issuer", &issuer, "-o", "json"]).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let field = |name: &str| json["api_key"][name].as_str().unwrap();
        let admin = (field("id"), field("api_key"));
        if setup.keys > 0 {
            block_on(fill(directory.path(), setup.keys));
        }
        let mut serve = tenmint(&["serve", "--listen", &address]);
        serve.env("TENMINT_LOG", "warn");
        let cores = setup.cores.unwrap_or("0");
        let service = Pinned::spawn_through(setup.through, cores, &serve);
        wait_for_answer(&address);
        let requests = directory.path().join("requests.json");
        let asked = match setup.askers {
            Some(askers) => (0..askers).map(|_| request_of_another(&address, admin.1)).collect(),
            None => vec![request("/oauth/token", admin, SCOPE)],
        };
        write_requests(&requests, &asked);
        Self { service, directory, address, requests, _postgres: setup.postgres }
    }

    pub(crate) fn size_of_answer(&self) -> usize {
        let (address, requests) = (self.address.parse().unwrap(), self.requests.as_path());
        std::thread::scope(|scope| {
            scope.spawn(move || block_on(exchange_once(address, requests))).join().unwrap()
        })
    }

    /// The file of what the first keys alone ask of it.
    pub(crate) fn requests_of_first(&self, keys: usize) -> PathBuf {
        let file = self.directory.path().join(format!("requests_of_{keys}.json"));
        write_requests(&file, &read_requests(&self.requests)[..keys]);
        file
    }

    /// Under the load of a file.
    pub(crate) fn under_load(&self, file: &Path, requests: usize) -> (f64, f64) {
        under_load(&self.service, &self.address, file, requests)
    }

    /// Milliseconds of each request, at a pace of so many a second.
    pub(crate) fn at_a_pace(&self, a_second: f64, requests: usize) -> Vec<f64> {
        let (pace, count) = (a_second.to_string(), requests.to_string());
        times_on("1", &["pace", &self.address, self.requests.to_str().unwrap(), &pace, &count])
    }

    /// Ends it as an operator does.
    pub(crate) fn stop(self) {
        self.service.stop();
    }

    pub(crate) fn resident(&self) -> u64 {
        self.service.resident()
    }

    /// Bytes of a file of its data directory.
    pub(crate) fn size_of(&self, file: &str) -> u64 {
        std::fs::metadata(self.directory.path().join("data").join(file)).unwrap().len()
    }

    /// Facts a batch of its ledger, where that is a file.
    pub(crate) fn facts_a_batch(&self) -> Option<f64> {
        let file = self.directory.path().join("data/ledger.db");
        let (batches, facts) = file.exists().then(|| block_on(count_facts(&file)))?;
        Some(facts as f64 / batches as f64)
    }

    /// Batches and facts of the ledger, and the bytes that it takes.
    pub(crate) fn ledger(&self) -> (i64, i64, u64) {
        let file = self.directory.path().join("data/ledger.db");
        let (batches, facts) = block_on(count_facts(&file));
        (batches, facts, self.size_of("ledger.db"))
    }
}

/// Batches and facts, once all is in the file.
async fn count_facts(ledger: &Path) -> (i64, i64) {
    use sqlx::Connection;

    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}", ledger.display());
    let mut tables = sqlx::AnyConnection::connect(&url).await.unwrap();
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut tables).await.unwrap();
    let sums = "SELECT COUNT(*), CAST(SUM(facts) AS BIGINT) FROM ledger_batches";
    sqlx::query_as(sums).fetch_one(&mut tables).await.unwrap()
}

/// A request for a token.
pub(crate) fn request(path: &str, (id, text): (&str, &str), scope: &str) -> String {
    let body = format!("grant_type=client_credentials&scope={scope}");
    format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        STANDARD.encode(format!("{id}:{text}")),
        body.len()
    )
}

/// A request of a key that is made for it.
fn request_of_another(address: &str, admin: &str) -> String {
    let ask = json!({"name": "asker", "scopes": [SCOPE]});
    let made = call(address, admin, "/v1/keys", &ask);
    let field = |name: &str| made[name].as_str().unwrap();
    request("/oauth/token", (field("id"), field("api_key")), SCOPE)
}

/// The milliseconds that this program prints when it does something on a core.
pub(crate) fn times_on(core: &str, arguments: &[&str]) -> Vec<f64> {
    let mut myself = Command::new("taskset");
    myself.args(["-c", core]).arg(std::env::current_exe().unwrap()).args(arguments);
    let output = myself.output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Microseconds of processor time a request, and requests a second.
pub(crate) fn under_load(
    server: &Pinned,
    address: &str,
    file: &Path,
    requests: usize,
) -> (f64, f64) {
    let before = server.processor_time();
    let began = Instant::now();
    let myself = std::env::current_exe().unwrap();
    let arguments = ["load", address, file.to_str().unwrap(), &requests.to_string()];
    let mut load = Pinned::spawn("1", Command::new(myself).args(arguments));
    assert!(load.child.wait().unwrap().success());
    let used = server.processor_time().saturating_sub(before);
    (used.as_secs_f64() * 1e6 / requests as f64, requests as f64 / began.elapsed().as_secs_f64())
}
