//! `tenmint signing-keys`: what signs tokens.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::cli::failure::Result;
use crate::cli::output::{Column, Output, written};
use crate::model::signing_key::SigningKey;
use crate::model::time::Timestamp;
use crate::service::Service;

/// Commands on signing keys.
#[derive(Debug, Subcommand)]
pub(super) enum SigningKeysCommand {
    /// List the signing keys, the oldest first
    List,
}

static COLUMNS: [Column; 7] = [
    Column::text("kid").titled("KID"),
    Column::text("algorithm").titled("ALGORITHM"),
    Column::text("state").titled("STATE"),
    Column::moment("published_at").titled("PUBLISHED"),
    Column::moment("signing_at").titled("SIGNING"),
    Column::moment("retiring_at"),
    Column::moment("retired_at"),
];

pub(super) async fn run(
    service: &Service,
    command: SigningKeysCommand,
    output: &Output,
) -> Result<ExitCode> {
    let SigningKeysCommand::List = command;
    let now = service.clock().now();
    let all = service.list_signing_keys().await?;
    let items: Vec<Value> = all.iter().map(|signing_key| body(signing_key, now)).collect();
    let mut rows = output.rows(&COLUMNS)?;
    written(rows.add(&items))?;
    written(rows.finish(None))?;
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
