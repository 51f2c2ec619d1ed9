//! `tenmint backup`: a copy of the embedded database, while a node serves.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::output::Output;
use crate::error::Result;
use crate::service::Service;

/// Arguments of `tenmint backup`.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// A directory for the copy, which has none yet
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(super) async fn run(service: &Service, args: &BackupArgs, output: &Output) -> Result<ExitCode> {
    for file in service.back_up(&args.directory).await? {
        output.note(&format!("{}", file.display()));
    }
    output.note("the master key and the journal of revocations are not in it: keep them apart");
    Ok(ExitCode::SUCCESS)
}
