//! `tenmint migrate`: the schema, for whoever may change tables.

use std::process::ExitCode;

use clap::Args;

use crate::cli::config::Config;
use crate::cli::output::Output;
use crate::error::Result;
use crate::service::schema::bring_up_to_date;

/// Arguments of `tenmint migrate`.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {}

pub(super) async fn run(config: &Config, output: &Output) -> Result<ExitCode> {
    bring_up_to_date(&config.database).await?;
    output.note(&format!("the schema of {} is up to date", config.database));
    Ok(ExitCode::SUCCESS)
}
