//! What a token is measured beside: a bare route, a raw signature, and a bare commit.

use std::process::Command;

use axum::routing::post;
use axum::{Form, Router};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde::Deserialize;
use sqlx::{Connection, Executor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::node::times_on;
use crate::support::{self, Pinned, free_address};

/// Microseconds of processor time a signature.
pub(crate) fn signature_time(signatures: usize) -> f64 {
    let myself = std::env::current_exe().unwrap();
    let signatures = signatures.to_string();
    let mut sign = Command::new("taskset");
    sign.args(["-c", "0"]).arg(myself).args(["sign", &signatures]);
    let output = sign.output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

pub(crate) fn sign(signatures: usize) {
    let signer = Signer::new();
    let before = support::own_processor_time();
    for _ in 0..signatures {
        signer.sign();
    }
    let used = support::own_processor_time().saturating_sub(before);
    println!("{}", used.as_secs_f64() * 1e6 / signatures as f64);
}

/// A key that signs as many bytes as a token has.
struct Signer {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Signer {
    fn new() -> Self {
        let (random, rule) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(rule, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(rule, document.as_ref(), &random).unwrap();
        Self { pair, random }
    }

    fn sign(&self) {
        std::hint::black_box(self.pair.sign(&self.random, &[b'x'; 480]).unwrap());
    }
}

#[derive(Deserialize)]
struct TokenForm {
    grant_type: String,
    scope: String,
}

/// What axum itself costs: the form parsed, an answer of the same size. One that `signs` makes a signature for each
/// request as well.
pub(crate) fn serve_bare(address: &str, size: usize, signs: bool) {
    let answer: &'static str = String::leak("x".repeat(size));
    let signer: Option<&'static Signer> = signs.then(|| &*Box::leak(Box::new(Signer::new())));
    let route = post(move |Form(form): Form<TokenForm>| async move {
        assert!(!form.grant_type.is_empty() && !form.scope.is_empty());
        if let Some(signer) = signer {
            signer.sign();
        }
        let headers = [("content-type", "application/json"), ("cache-control", "no-store")];
        (headers, answer)
    });
    let serving = async move {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        axum::serve(listener, Router::new().route("/oauth/token", route)).await.unwrap();
    };
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(serving);
}

/// Milliseconds of bare commits, at a pace of so many a second, for which the core of the load asks.
pub(crate) fn commits_at_a_pace(bytes: usize, a_second: f64, commits: usize) -> Vec<f64> {
    let (address, myself) = (free_address(), std::env::current_exe().unwrap());
    let serve = ["commits", &address, &bytes.to_string()];
    let _committing = Pinned::spawn("0", Command::new(myself).args(serve));
    times_on("1", &["ask", &address, &a_second.to_string(), &commits.to_string()])
}

/// Commits one row of so many bytes for each byte that comes, in a file of its own, and sends the byte back:
/// SQLite with a write-ahead log that is moved as seldom as the ledger's.
pub(crate) async fn serve_commits(address: &str, bytes: usize) {
    sqlx::any::install_default_drivers();
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}?mode=rwc", directory.path().join("bare.db").display());
    let mut tables = sqlx::AnyConnection::connect(&url).await.unwrap();
    for statement in [
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "PRAGMA wal_autocheckpoint = 16000",
        "CREATE TABLE batches (number INTEGER PRIMARY KEY, body BLOB)",
    ] {
        tables.execute(statement).await.unwrap();
    }
    let listener = TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.set_nodelay(true).unwrap();
    while let Ok(asked) = stream.read_u8().await {
        let insert = sqlx::query("INSERT INTO batches (body) VALUES ($1)").bind(vec![7_u8; bytes]);
        insert.execute(&mut tables).await.unwrap();
        stream.write_u8(asked).await.unwrap();
    }
}
