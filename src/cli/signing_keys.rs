//! `tenmint signing-keys`: what signs tokens.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::output::Output;
use crate::error::Result;
use crate::model::signing_key::SigningKey;
use crate::model::time::Timestamp;
use crate::service::Service;

/// Commands on signing keys.
#[derive(Debug, Subcommand)]
pub(super) enum SigningKeysCommand {
    /// List the signing keys, the oldest first
    List,
}

pub(super) async fn run(
    service: &Service,
    command: SigningKeysCommand,
    output: &Output,
) -> Result<ExitCode> {
    let SigningKeysCommand::List = command;
    let now = service.clock().now();
    let all = service.list_signing_keys().await?;
    let json: Value = all.iter().map(|signing_key| body(signing_key, now)).collect();
    let rows: Vec<Vec<String>> = all.iter().map(|signing_key| row(signing_key, now)).collect();
    let headings = ["KID", "ALGORITHM", "STATE", "PUBLISHED", "SIGNING"];
    output.list(&json!({ "items": json }), &headings, &rows);
    Ok(ExitCode::SUCCESS)
}

fn body(signing_key: &SigningKey, now: Timestamp) -> Value {
    json!({
        "kid": signing_key.kid.as_str(),
        "algorithm": signing_key.algorithm.name(),
        "state": signing_key.state(now).as_str(),
        "published_at": signing_key.published_at,
        "signing_at": signing_key.signing_at,
        "retiring_at": signing_key.retiring_at,
        "retired_at": signing_key.retired_at,
    })
}

fn row(signing_key: &SigningKey, now: Timestamp) -> Vec<String> {
    vec![
        signing_key.kid.to_string(),
        signing_key.algorithm.to_string(),
        signing_key.state(now).as_str().to_owned(),
        signing_key.published_at.to_string(),
        signing_key.signing_at.map_or_else(|| "-".to_owned(), |at| at.to_string()),
    ]
}
