//! `tenmint orgs`: organizations. Without a name it is one's own; others are for admins of the
//! account.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::api::{Fields, Request};
use crate::cli::failure::Result;
use crate::cli::output::Column;
use crate::cli::session::{CreateArgs, PageArgs, Session, WriteArgs};

/// Commands on organizations.
#[derive(Debug, Subcommand)]
pub(super) enum OrgsCommand {
    /// List all organizations of the installation
    List(PageArgs),
    /// Show an organization [default: one's own]
    Show(MaybeOrgArgs),
    /// Create an organization; `bootstrap` enables its API keys
    Create(NewOrgArgs),
    /// Change an organization [default: one's own]
    Edit(EditOrgArgs),
    /// Enable the API keys of an organization, once
    Bootstrap(BootstrapArgs),
    /// Suspend an organization: its API keys get no token
    Suspend(OrgArgs),
    /// Let a suspended organization go on
    Resume(OrgArgs),
}

static COLUMNS: [Column; 7] = [
    Column::text("id").titled("ID"),
    Column::text("slug").titled("SLUG"),
    Column::text("name").titled("NAME"),
    Column::moment("bootstrapped_at").titled("BOOTSTRAPPED").or("no"),
    Column::moment("suspended_at").titled("SUSPENDED").or("no"),
    Column::text("default_audience"),
    Column::moment("created_at"),
];

/// An organization, or one's own.
#[derive(Debug, Args)]
pub(super) struct MaybeOrgArgs {
    /// Its id or slug
    #[arg(value_name = "ORG")]
    org: Option<String>,
}

/// An organization, and what to do with it.
#[derive(Debug, Args)]
pub(super) struct OrgArgs {
    /// Its id or slug
    #[arg(value_name = "ORG")]
    org: String,
    #[command(flatten)]
    write: WriteArgs,
}

/// Arguments of `tenmint orgs create`.
#[derive(Debug, Args)]
pub(super) struct NewOrgArgs {
    /// Its slug for ever: 1 to 40 of a-z, 0-9 and `-`
    #[arg(value_name = "SLUG")]
    slug: String,
    /// What to call it [default: its slug]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    create: CreateArgs,
}

/// Arguments of `tenmint orgs edit`.
#[derive(Debug, Args)]
pub(super) struct EditOrgArgs {
    #[command(flatten)]
    org: MaybeOrgArgs,
    /// What to call it
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// The audience of tokens that name none, by slug, URI or id
    #[arg(long, visible_alias = "default-endpoint", value_name = "AUDIENCE")]
    default_audience: Option<String>,
    #[command(flatten)]
    write: WriteArgs,
}

/// Arguments of `tenmint orgs bootstrap`.
#[derive(Debug, Args)]
pub(super) struct BootstrapArgs {
    #[command(flatten)]
    org: OrgArgs,
    /// The URI of its default audience [default: one is made up]
    #[arg(long, value_name = "URI")]
    audience: Option<String>,
}

pub(super) async fn run(command: OrgsCommand, session: &Session<'_>) -> Result<ExitCode> {
    match command {
        OrgsCommand::List(page) => {
            session.list(Request::get(&["organizations"]), &COLUMNS, page).await
        }
        OrgsCommand::Show(args) => {
            let request = Request::get(&["organization"]).query("organization", args.org);
            session.show(request, &COLUMNS).await
        }
        OrgsCommand::Create(args) => {
            let fields = Fields::default().with("slug", Some(args.slug)).with("name", args.name);
            let request = Request::post(&["organizations"]).body(fields);
            session.create(request, &COLUMNS, args.create).await
        }
        OrgsCommand::Edit(args) => {
            let fields = Fields::default()
                .with("name", args.name)
                .with("default_audience", args.default_audience);
            let request = Request::patch(&["organization"]).body(fields);
            let request = request.query("organization", args.org.org);
            session.write(request, &COLUMNS, args.write).await
        }
        OrgsCommand::Bootstrap(args) => {
            let fields = Fields::default().with("audience", args.audience);
            let request = Request::post(&["organizations", &args.org.org, "bootstrap"]);
            session.write(request.body(fields), &COLUMNS, args.org.write).await
        }
        OrgsCommand::Suspend(args) => set("suspend", args, session).await,
        OrgsCommand::Resume(args) => set("resume", args, session).await,
    }
}

async fn set(what: &str, args: OrgArgs, session: &Session<'_>) -> Result<ExitCode> {
    let request = Request::post(&["organizations", &args.org, what]);
    session.write(request, &COLUMNS, args.write).await
}
