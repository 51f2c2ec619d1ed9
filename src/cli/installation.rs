//! `tenmint installation`: what stands above all organizations, for admins of the account.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::api::Request;
use crate::cli::failure::Result;
use crate::cli::output::Column;
use crate::cli::roles::BINDING_COLUMNS;
use crate::cli::session::{Session, WriteArgs};

/// Commands on the installation.
#[derive(Debug, Subcommand)]
pub(super) enum InstallationCommand {
    /// Show what the installation was set up with
    Show,
    /// List the admins of the account; `roles bind --account` makes one
    Admins,
    /// Suspend a person in every organization
    SuspendUser(PersonArgs),
    /// Let a suspended person go on
    ResumeUser(PersonArgs),
}

static COLUMNS: [Column; 4] = [
    Column::text("issuer").titled("ISSUER"),
    Column::text("algorithm").titled("ALGORITHM"),
    Column::number("token_lifetime").titled("LIFETIME"),
    Column::text("api_key_prefix").titled("PREFIX"),
];

static PERSON_COLUMNS: [Column; 1] = [Column::text("id").titled("ID")];

/// One person.
#[derive(Debug, Args)]
pub(super) struct PersonArgs {
    /// Its id, as `usr_...`
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    write: WriteArgs,
}

pub(super) async fn run(command: InstallationCommand, session: &Session<'_>) -> Result<ExitCode> {
    match command {
        InstallationCommand::Show => session.show(Request::get(&["installation"]), &COLUMNS).await,
        InstallationCommand::Admins => {
            let request = Request::get(&["installation", "admins"]);
            session.list_whole(request, &BINDING_COLUMNS).await
        }
        InstallationCommand::SuspendUser(args) => set("suspend", args, session).await,
        InstallationCommand::ResumeUser(args) => set("resume", args, session).await,
    }
}

async fn set(what: &str, args: PersonArgs, session: &Session<'_>) -> Result<ExitCode> {
    let request = Request::post(&["installation", "users", &args.id, what]);
    session.write(request, &PERSON_COLUMNS, args.write).await
}
