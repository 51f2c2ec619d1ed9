//! `tenmint recover`: a new administrator's key, on the database directly.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::cli::output::{Output, lost_secret, no_place};
use crate::error::Result;
use crate::model::secret::PlainSecret;
use crate::service::Service;

/// Arguments of `tenmint recover`.
#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    /// The organization of the key, where there are several
    #[arg(long, value_name = "SLUG")]
    organization: Option<String>,
}

pub(super) async fn run(
    service: &Service,
    args: &RecoverArgs,
    output: &Output,
) -> Result<ExitCode> {
    let sink = output.open_secret().map_err(|cause| no_place(&cause))?;
    let created = service.recover_administrator(args.organization.as_deref()).await?;
    let id = created.api_key.id;
    let text = created.text.map(PlainSecret::reveal).unwrap_or_default();
    let json = json!({"id": id, "api_key": text});
    let people = format!("api key id    {id}\napi key       {text}\n");
    let shown = output.secret(sink, &json, (&people, &text));
    shown.map_err(|cause| lost_secret(&id, &cause))?;
    Ok(ExitCode::SUCCESS)
}
