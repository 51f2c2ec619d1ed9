//! `tenmint users`: persons as members of the organization.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::api::{Fields, Request};
use crate::cli::failure::Result;
use crate::cli::output::Column;
use crate::cli::session::{CreateArgs, ForceArgs, PageArgs, Session, WriteArgs};

/// Commands on users.
#[derive(Debug, Subcommand)]
pub(super) enum UsersCommand {
    /// List the members of the organization
    List(PageArgs),
    /// Show a member
    Show(UserArgs),
    /// Make a person a member of the organization
    Create(NewUserArgs),
    /// Change what the organization calls a person
    Edit(EditUserArgs),
    /// End a membership: the person's API keys here are revoked
    Delete(ForcedUserArgs),
    /// Suspend a membership: the person's API keys here get no token
    Suspend(WrittenUserArgs),
    /// Let a suspended membership go on
    Resume(WrittenUserArgs),
}

static COLUMNS: [Column; 6] = [
    Column::text("id").titled("ID"),
    Column::text("email").titled("EMAIL"),
    Column::text("name").titled("NAME"),
    Column::moment("suspended_at").titled("SUSPENDED").or("no"),
    Column::moment("created_at").titled("MEMBER_SINCE"),
    Column::text("organization"),
];

/// One user.
#[derive(Debug, Args)]
pub(super) struct UserArgs {
    /// Its id, as `usr_...`
    #[arg(value_name = "ID")]
    id: String,
}

/// One user, and what to do with it.
#[derive(Debug, Args)]
pub(super) struct WrittenUserArgs {
    #[command(flatten)]
    user: UserArgs,
    #[command(flatten)]
    write: WriteArgs,
}

/// One user, and something that cannot be undone.
#[derive(Debug, Args)]
pub(super) struct ForcedUserArgs {
    #[command(flatten)]
    user: UserArgs,
    #[command(flatten)]
    force: ForceArgs,
}

/// Arguments of `tenmint users create`.
#[derive(Debug, Args)]
pub(super) struct NewUserArgs {
    /// The address that tells persons apart; who is known already becomes a member
    #[arg(value_name = "EMAIL")]
    email: String,
    /// What to call the person here [default: the address]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// The role in the organization [default: member]
    #[arg(long, visible_alias = "org-role", value_name = "ROLE")]
    role: Option<String>,
    #[command(flatten)]
    create: CreateArgs,
}

/// Arguments of `tenmint users edit`.
#[derive(Debug, Args)]
pub(super) struct EditUserArgs {
    #[command(flatten)]
    user: UserArgs,
    /// What to call the person here
    #[arg(short, long, value_name = "NAME")]
    name: String,
    #[command(flatten)]
    write: WriteArgs,
}

pub(super) async fn run(command: UsersCommand, session: &Session<'_>) -> Result<ExitCode> {
    match command {
        UsersCommand::List(page) => session.list(Request::get(&["users"]), &COLUMNS, page).await,
        UsersCommand::Show(user) => {
            session.show(Request::get(&["users", &user.id]), &COLUMNS).await
        }
        UsersCommand::Create(args) => {
            let fields = Fields::default()
                .with("email", Some(args.email))
                .with("name", args.name)
                .with("role", args.role);
            let request = Request::post(&["users"]).body(fields);
            session.create(request, &COLUMNS, args.create).await
        }
        UsersCommand::Edit(args) => {
            let fields = Fields::default().with("name", Some(args.name));
            let request = Request::patch(&["users", &args.user.id]).body(fields);
            session.write(request, &COLUMNS, args.write).await
        }
        UsersCommand::Delete(args) => {
            let deed = format!("end the membership of `{}`", args.user.id);
            let request = Request::delete(&["users", &args.user.id]);
            session.write_forced(&deed, request, &COLUMNS, args.force).await
        }
        UsersCommand::Suspend(args) => set("suspend", args, session).await,
        UsersCommand::Resume(args) => set("resume", args, session).await,
    }
}

async fn set(what: &str, args: WrittenUserArgs, session: &Session<'_>) -> Result<ExitCode> {
    session.write(Request::post(&["users", &args.user.id, what]), &COLUMNS, args.write).await
}
