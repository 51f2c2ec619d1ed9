//! `tenmint spaces`: projects of an organization, and who has a role in them.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::api::{Fields, Request};
use crate::cli::failure::Result;
use crate::cli::output::Column;
use crate::cli::roles::BINDING_COLUMNS;
use crate::cli::session::{CreateArgs, ForceArgs, PageArgs, Session, WriteArgs};

/// Commands on spaces.
#[derive(Debug, Subcommand)]
pub(super) enum SpacesCommand {
    /// List spaces, from new to old
    List(PageArgs),
    /// Show a space
    Show(SpaceArgs),
    /// Create a space
    Create(NewSpaceArgs),
    /// Change what a space is called
    Edit(EditSpaceArgs),
    /// Delete a space for ever: its API keys stop, and its slug is never used again
    Delete(ForcedSpaceArgs),
    /// Suspend a space: its API keys get no token
    Suspend(WrittenSpaceArgs),
    /// Let a suspended space go on
    Resume(WrittenSpaceArgs),
    /// List the users and bots that have a role in a space
    Members(MembersArgs),
}

static COLUMNS: [Column; 7] = [
    Column::text("id").titled("ID"),
    Column::text("slug").titled("SLUG"),
    Column::text("name").titled("NAME"),
    Column::moment("suspended_at").titled("SUSPENDED").or("no"),
    Column::moment("created_at").titled("CREATED"),
    Column::text("organization"),
    Column::moment("deleted_at"),
];

/// One space.
#[derive(Debug, Args)]
pub(super) struct SpaceArgs {
    /// Its id or slug
    #[arg(value_name = "SPACE")]
    space: String,
}

/// One space, and what to do with it.
#[derive(Debug, Args)]
pub(super) struct WrittenSpaceArgs {
    #[command(flatten)]
    space: SpaceArgs,
    #[command(flatten)]
    write: WriteArgs,
}

/// One space, and something that cannot be undone.
#[derive(Debug, Args)]
pub(super) struct ForcedSpaceArgs {
    #[command(flatten)]
    space: SpaceArgs,
    #[command(flatten)]
    force: ForceArgs,
}

/// Arguments of `tenmint spaces create`.
#[derive(Debug, Args)]
pub(super) struct NewSpaceArgs {
    /// Its slug for ever, which stands in paths: 1 to 40 of a-z, 0-9 and `-`
    #[arg(value_name = "SLUG")]
    slug: String,
    /// What to call it [default: its slug]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    create: CreateArgs,
}

/// Arguments of `tenmint spaces edit`.
#[derive(Debug, Args)]
pub(super) struct EditSpaceArgs {
    #[command(flatten)]
    space: SpaceArgs,
    /// What to call it
    #[arg(short, long, value_name = "NAME")]
    name: String,
    #[command(flatten)]
    write: WriteArgs,
}

/// Arguments of `tenmint spaces members`.
#[derive(Debug, Args)]
pub(super) struct MembersArgs {
    #[command(flatten)]
    space: SpaceArgs,
    #[command(flatten)]
    page: PageArgs,
}

pub(super) async fn run(command: SpacesCommand, session: &Session<'_>) -> Result<ExitCode> {
    match command {
        SpacesCommand::List(page) => session.list(Request::get(&["spaces"]), &COLUMNS, page).await,
        SpacesCommand::Show(args) => {
            session.show(Request::get(&["spaces", &args.space]), &COLUMNS).await
        }
        SpacesCommand::Create(args) => {
            let fields = Fields::default().with("slug", Some(args.slug)).with("name", args.name);
            let request = Request::post(&["spaces"]).body(fields);
            session.create(request, &COLUMNS, args.create).await
        }
        SpacesCommand::Edit(args) => {
            let fields = Fields::default().with("name", Some(args.name));
            let request = Request::patch(&["spaces", &args.space.space]).body(fields);
            session.write(request, &COLUMNS, args.write).await
        }
        SpacesCommand::Delete(args) => {
            let deed = format!("delete space `{}`", args.space.space);
            let request = Request::delete(&["spaces", &args.space.space]);
            session.write_forced(&deed, request, &COLUMNS, args.force).await
        }
        SpacesCommand::Suspend(args) => set("suspend", args, session).await,
        SpacesCommand::Resume(args) => set("resume", args, session).await,
        SpacesCommand::Members(args) => {
            let request = Request::get(&["spaces", &args.space.space, "members"]);
            session.list(request, &BINDING_COLUMNS, args.page).await
        }
    }
}

async fn set(what: &str, args: WrittenSpaceArgs, session: &Session<'_>) -> Result<ExitCode> {
    let request = Request::post(&["spaces", &args.space.space, what]);
    session.write(request, &COLUMNS, args.write).await
}
