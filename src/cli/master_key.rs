//! `tenmint master-key`: another master key, on the database and the key directory of a node.

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::output::Output;
use crate::error::Result;
use crate::service::Service;

/// Commands on the master key.
#[derive(Debug, Subcommand)]
pub(super) enum MasterKeyCommand {
    /// Make the key that follows, as `master.key.next`, to be copied to every node
    New,
    /// Wrap what is secret in the database by `master.key.next`, and make that the master key here
    Rotate,
}

pub(super) async fn run(
    service: &Service,
    command: MasterKeyCommand,
    output: &Output,
) -> Result<ExitCode> {
    match command {
        MasterKeyCommand::New => {
            let path = service.prepare_master_key()?;
            let path = path.display();
            output.note(&format!(
                "{path}\ncopy it to the key directory of every node, then `rotate`"
            ));
        }
        MasterKeyCommand::Rotate => {
            service.rotate_master_key().await?;
            output.note(
                "done: on the other nodes, rename `master.key.next` to `master.key`. What was \
                 `master.key` opens backups of before: keep it apart, or delete it if it has leaked",
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}
