//! `tenmint signing-keys`: what signs tokens, on the database of a node directly.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::config::read_secret;
use crate::cli::failure::Result;
use crate::cli::output::{Column, Output, written};
use crate::model::signing_key::{RotateSigningKey, ShownSigningKey};
use crate::service::Service;
use crate::service::call::Changed;
use crate::service::signing_keys::Asker;

/// Commands on signing keys.
#[derive(Debug, Subcommand)]
pub(super) enum SigningKeysCommand {
    /// List the signing keys, the oldest first
    List,
    /// Let the next key sign, as soon as every verifier can hold it
    Rotate(RotateArgs),
    /// Withdraw a key that leaked: nothing that it signed holds any more
    Withdraw(WithdrawArgs),
    /// Take a private key that was made elsewhere as the next one
    Import(ImportArgs),
}

/// Arguments of `tenmint signing-keys rotate`.
#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// Change to another algorithm: ES256, RS256 or `EdDSA`
    #[arg(long, value_name = "NAME")]
    algorithm: Option<String>,
}

/// Arguments of `tenmint signing-keys withdraw`.
#[derive(Debug, Args)]
pub(super) struct WithdrawArgs {
    /// The key, as `list` names it
    #[arg(value_name = "KID")]
    kid: String,
}

/// Arguments of `tenmint signing-keys import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The private key: PKCS#8 in PEM, not encrypted
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Its name in tokens and in the JWKS; one is made up where none is given
    #[arg(long, value_name = "KID")]
    kid: Option<String>,
}

static COLUMNS: [Column; 9] = [
    Column::text("kid").titled("KID"),
    Column::text("algorithm").titled("ALGORITHM"),
    Column::text("state").titled("STATE"),
    Column::moment("published_at").titled("PUBLISHED"),
    Column::moment("due_at").titled("DUE"),
    Column::moment("signing_at").titled("SIGNING"),
    Column::moment("retiring_at"),
    Column::moment("retired_at"),
    Column::moment("withdrawn_at"),
];

const NOT_JOURNALED: &str = "note: this is in no journal of revocations (`revocation_journal`): until a node has seen \
                             it, a restore of an older backup brings the key back";

pub(super) async fn run(
    service: Service,
    journal: &Path,
    command: SigningKeysCommand,
    output: &Output,
) -> Result<ExitCode> {
    let operator = Asker::Operator;
    match command {
        SigningKeysCommand::List => show(&service.list_signing_keys(None).await?, output),
        SigningKeysCommand::Rotate(RotateArgs { algorithm }) => {
            let ask = RotateSigningKey { algorithm };
            show_changed(service.rotate_signing_key(operator, ask).await?, output)
        }
        SigningKeysCommand::Withdraw(args) => {
            let service = with_journal(service, journal, output);
            let changed = service.withdraw_signing_key(operator, &args.kid).await?;
            if !service.has_journaled() {
                output.note(NOT_JOURNALED);
            }
            show_changed(changed, output)
        }
        SigningKeysCommand::Import(args) => {
            let pem = read_secret(&args.file)?;
            let imported = service.import_signing_key(pem.as_bytes(), args.kid.as_deref());
            show_changed(imported.await?, output)
        }
    }
}

/// With the journal of the node on this machine, if there is one: a node begins it, as whoever runs the node. A key that
/// leaked is withdrawn all the same where it cannot be used.
fn with_journal(service: Service, journal: &Path, output: &Output) -> Service {
    if !journal.exists() {
        return service;
    }
    match service.clone().with_journal(journal) {
        Ok(service) => service,
        Err(cause) => {
            output.note(&cause.to_string());
            service
        }
    }
}

fn show_changed(changed: Changed<ShownSigningKey>, output: &Output) -> Result<ExitCode> {
    for warning in &changed.warnings {
        output.note(&format!("note: {warning}"));
    }
    show(&[changed.after], output)
}

fn show(keys: &[ShownSigningKey], output: &Output) -> Result<ExitCode> {
    let items: Vec<Value> = keys.iter().filter_map(|key| serde_json::to_value(key).ok()).collect();
    let mut rows = output.rows(&COLUMNS)?;
    written(rows.add(&items))?;
    written(rows.finish(None))?;
    Ok(ExitCode::SUCCESS)
}
