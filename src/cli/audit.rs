//! `tenmint audit`: who did what to which object.

use std::process::ExitCode;

use clap::Args;

use crate::cli::api::Request;
use crate::cli::failure::Result;
use crate::cli::output::Column;
use crate::cli::session::{PageArgs, Session};
use crate::cli::values::TimeArgs;

static COLUMNS: [Column; 13] = [
    Column::moment("at").titled("AT"),
    Column::text("actor").titled("ACTOR"),
    Column::text("action").titled("ACTION"),
    Column::text("object").titled("OBJECT"),
    Column::text("outcome").titled("OUTCOME"),
    Column::text("address").titled("ADDRESS"),
    Column::text("id"),
    Column::text("organization"),
    Column::text("api_key"),
    Column::text("user_agent"),
    Column::text("request_id"),
    Column::text("before"),
    Column::text("after"),
];

/// Arguments of `tenmint audit`.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// What this user or bot did
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// What was done with this API key, by itself or by a token of it
    #[arg(long, value_name = "ID")]
    api_key: Option<String>,
    /// What was done to this object
    #[arg(long, value_name = "ID")]
    object: Option<String>,
    /// Actions that start so, as `api_key.`
    #[arg(long, value_name = "START")]
    action: Option<String>,
    /// `done`, or the code of a refusal
    #[arg(long, value_name = "CODE")]
    outcome: Option<String>,
    #[command(flatten)]
    time: TimeArgs,
    /// What was done to the installation itself; for admins of the account
    #[arg(long)]
    installation: bool,
    #[command(flatten)]
    page: PageArgs,
}

pub(super) async fn run(args: AuditArgs, session: &Session<'_>) -> Result<ExitCode> {
    let path: &[&str] = if args.installation { &["installation", "audit"] } else { &["audit"] };
    let request = Request::get(path)
        .query("actor", args.actor)
        .query("api_key", args.api_key)
        .query("object", args.object)
        .query("action", args.action)
        .query("outcome", args.outcome)
        .query("since", args.time.since)
        .query("until", args.time.until);
    session.list(request, &COLUMNS, args.page).await
}
