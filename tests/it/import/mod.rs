//! Imports: keys that clients hold already go on working here, and nothing else comes in with them.

mod all_or_nothing;
mod http;
mod killed;
mod lines;
mod rights;

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use ring::digest;
use tenmint::error::Result;
use tenmint::mint::Mint;
use tenmint::model::api_key::ApiKey;
use tenmint::model::id::ApiKeyId;
use tenmint::model::import::{
    ImportApiKeys, ImportEnd, ImportFormat, ImportStatus, ImportSummary, ImportedLine,
};
use tenmint::service::Service;
use tenmint::service::api_keys::ListApiKeys;
use tenmint::service::call::Call;
use tenmint::service::node::{Node, NodeConfig};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::server::{Key, Server};

/// Lines that come and go at once.
const CSV: ImportApiKeys = ImportApiKeys { format: ImportFormat::Csv, atomic: false };
const JSON: ImportApiKeys = ImportApiKeys { format: ImportFormat::JsonLines, atomic: false };
/// The same, all or nothing.
const ATOMIC: ImportApiKeys = ImportApiKeys { format: ImportFormat::Csv, atomic: true };

/// The SHA-256 of a text, in hex.
pub(crate) fn sha256(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file of so many keys, whose texts are `start-0`, `start-1` and so on.
fn file_of(start: &str, keys: usize) -> String {
    let mut file = "name,digest,scopes\n".to_owned();
    for number in 0..keys {
        let text = format!("{start}-{number}");
        writeln!(file, "{text},{},chat", sha256(&text)).unwrap();
    }
    file
}

/// What came of an import.
pub(crate) struct Report {
    lines: Vec<ImportedLine>,
    pub(crate) summary: ImportSummary,
}

impl Report {
    /// Each line as `3 refused digest_in_use: name`, the words left out.
    fn told(&self) -> Vec<String> {
        let told = |line: &ImportedLine| {
            let status = match line.status {
                ImportStatus::Created => "created",
                ImportStatus::Accepted => "accepted",
                ImportStatus::Unchanged => "unchanged",
                ImportStatus::Refused => "refused",
            };
            let mut text = format!("{} {status}", line.line);
            if let Some(code) = &line.code {
                let fields: Vec<_> = line.errors.iter().map(|error| &*error.field).collect();
                text += &format!(" {code}: {}", fields.join(", "));
            }
            text
        };
        self.lines.iter().map(told).collect()
    }

    /// The words for what is wrong with a line.
    fn message(&self, line: u64) -> &str {
        let line = self.lines.iter().find(|told| told.line == line).unwrap();
        &line.errors[0].message
    }

    fn id(&self, line: u64) -> ApiKeyId {
        let line = self.lines.iter().find(|told| told.line == line).unwrap();
        line.id.unwrap_or_else(|| panic!("no id: {line:?}"))
    }

    /// Lines, created, accepted, unchanged and refused ones.
    fn counts(&self) -> [u64; 5] {
        let ImportSummary { lines, created, accepted, unchanged, refused, .. } = self.summary;
        assert_eq!(lines, created + accepted + unchanged + refused);
        [lines, created, accepted, unchanged, refused]
    }
}

/// An import whose file is still being sent.
pub(crate) struct Running {
    bytes: mpsc::Sender<Result<Bytes>>,
    report: mpsc::Receiver<ImportedLine>,
    importing: JoinHandle<Result<ImportSummary>>,
}

impl Running {
    pub(crate) fn begin(service: &Service, call: Call, ask: ImportApiKeys) -> Self {
        let (bytes, coming) = mpsc::channel(4);
        let (telling, report) = mpsc::channel(1_000);
        let service = service.clone();
        let importing =
            tokio::spawn(async move { service.import_api_keys(&call, ask, coming, telling).await });
        Self { bytes, report, importing }
    }

    pub(crate) async fn send(&self, text: &str) {
        self.bytes.send(Ok(Bytes::from(text.to_owned()))).await.unwrap();
    }

    /// The next so many lines of the report.
    pub(crate) async fn lines(&mut self, count: usize) -> Vec<ImportedLine> {
        let mut lines = Vec::new();
        while lines.len() < count {
            let line = timeout(Duration::from_secs(20), self.report.recv()).await;
            lines.push(line.expect("a line in time").expect("a line"));
        }
        lines
    }

    /// Ends the file, and waits for the end of the report.
    pub(crate) async fn end(mut self) -> Result<Report> {
        drop(self.bytes);
        let mut lines = Vec::new();
        while let Some(line) = self.report.recv().await {
            lines.push(line);
        }
        let summary = self.importing.await.unwrap()?;
        Ok(Report { lines, summary })
    }
}

/// Imports a file that comes in chunks of some size.
async fn import(
    service: &Service,
    call: &Call,
    ask: ImportApiKeys,
    file: impl AsRef<[u8]>,
) -> Result<Report> {
    let (bytes, coming) = mpsc::channel(4);
    let (telling, mut report) = mpsc::channel(16);
    let chunks: Vec<Bytes> = file.as_ref().chunks(1_000).map(Bytes::copy_from_slice).collect();
    let sending = async move {
        for chunk in chunks {
            // an import that has ended reads no further
            if bytes.send(Ok(chunk)).await.is_err() {
                break;
            }
        }
    };
    let mut lines = Vec::new();
    let reading = async {
        while let Some(line) = report.recv().await {
            lines.push(line);
        }
    };
    let importing = service.import_api_keys(call, ask, coming, telling);
    let (summary, (), ()) = tokio::join!(importing, sending, reading);
    Ok(Report { lines, summary: summary? })
}

/// Imports as the administrator.
async fn imported(server: &Server, ask: ImportApiKeys, file: &str) -> Report {
    import(&server.service, &server.call(), ask, file).await.unwrap()
}

/// The key of a line, as its client holds it.
fn key(report: &Report, line: u64, text: &str) -> Key {
    Key { id: report.id(line), text: text.to_owned() }
}

/// All API keys that the administrator is shown but those that a server starts with.
async fn listed(server: &Server) -> Vec<ApiKey> {
    let call = server.call();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let ask = ListApiKeys { limit: 200, after, ..ListApiKeys::default() };
        let page = server.service.list_api_keys(&call.actor, call.org, ask).await.unwrap();
        found.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    found.retain(|api_key| api_key.id != server.administrator.id);
    found
}

/// Another node on the same database, that follows when it is told to.
async fn other_node(server: &Server) -> Node {
    let keys_dir = server.directory.path().join("keys");
    let service = Service::open(&server.database, &keys_dir, server.clock.clone()).await.unwrap();
    Node::start(service, NodeConfig::in_directory(server.directory.path())).await.unwrap()
}

/// How many keys and secrets an index holds.
fn indexed(mint: &Mint) -> (usize, usize) {
    (mint.index().len(), mint.index().secrets())
}
