//! `tenmint bots`: service accounts, which own service keys.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::api::{Fields, Request};
use crate::cli::failure::Result;
use crate::cli::output::Column;
use crate::cli::session::{CreateArgs, ForceArgs, PageArgs, Session, WriteArgs};
use crate::cli::values::scopes;

/// Commands on bots.
#[derive(Debug, Subcommand)]
pub(super) enum BotsCommand {
    /// List bots, from new to old
    List(ListBotsArgs),
    /// Show a bot
    Show(BotArgs),
    /// Create a bot
    Create(NewBotArgs),
    /// Change a bot: its name, or what it holds beside its roles
    Edit(EditBotArgs),
    /// Delete a bot for ever: its API keys stop
    Delete(ForcedBotArgs),
    /// Suspend a bot: its API keys get no token
    Suspend(WrittenBotArgs),
    /// Let a suspended bot go on
    Resume(WrittenBotArgs),
}

static COLUMNS: [Column; 8] = [
    Column::text("id").titled("ID"),
    Column::text("name").titled("NAME"),
    Column::text("space").titled("SPACE"),
    Column::text("grants").titled("GRANTS"),
    Column::moment("suspended_at").titled("SUSPENDED").or("no"),
    Column::text("organization"),
    Column::moment("created_at"),
    Column::moment("deleted_at"),
];

/// Arguments of `tenmint bots list`.
#[derive(Debug, Args)]
pub(super) struct ListBotsArgs {
    /// Those of a space, by id or slug
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

/// One bot.
#[derive(Debug, Args)]
pub(super) struct BotArgs {
    /// Its id, as `bot_...`
    #[arg(value_name = "ID")]
    id: String,
}

/// One bot, and what to do with it.
#[derive(Debug, Args)]
pub(super) struct WrittenBotArgs {
    #[command(flatten)]
    bot: BotArgs,
    #[command(flatten)]
    write: WriteArgs,
}

/// One bot, and something that cannot be undone.
#[derive(Debug, Args)]
pub(super) struct ForcedBotArgs {
    #[command(flatten)]
    bot: BotArgs,
    #[command(flatten)]
    force: ForceArgs,
}

/// Arguments of `tenmint bots create`.
#[derive(Debug, Args)]
pub(super) struct NewBotArgs {
    /// What to call it
    #[arg(short, long, value_name = "NAME")]
    name: String,
    /// The space it belongs to, by id or slug
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// Scopes that it holds beside its roles
    #[arg(
        short = 's',
        long,
        visible_alias = "scopes",
        value_delimiter = ',',
        value_name = "SCOPES"
    )]
    grants: Option<Vec<String>>,
    /// Its role in the space [default: member]
    #[arg(long, value_name = "ROLE")]
    space_role: Option<String>,
    /// Its role in the organization [default: read-only]
    #[arg(long, value_name = "ROLE")]
    org_role: Option<String>,
    #[command(flatten)]
    create: CreateArgs,
}

/// Arguments of `tenmint bots edit`.
#[derive(Debug, Args)]
pub(super) struct EditBotArgs {
    #[command(flatten)]
    bot: BotArgs,
    /// What to call it
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// Scopes that it holds beside its roles
    #[arg(
        short = 's',
        long,
        visible_alias = "scopes",
        value_delimiter = ',',
        value_name = "SCOPES"
    )]
    grants: Option<Vec<String>>,
    #[command(flatten)]
    write: WriteArgs,
}

pub(super) async fn run(command: BotsCommand, session: &Session<'_>) -> Result<ExitCode> {
    match command {
        BotsCommand::List(args) => {
            let request = Request::get(&["bots"]).query("space", args.space);
            session.list(request, &COLUMNS, args.page).await
        }
        BotsCommand::Show(bot) => session.show(Request::get(&["bots", &bot.id]), &COLUMNS).await,
        BotsCommand::Create(args) => {
            let fields = Fields::default()
                .with("name", Some(args.name))
                .with("space", args.space)
                .with("grants", args.grants.map(scopes))
                .with("space_role", args.space_role)
                .with("org_role", args.org_role);
            let request = Request::post(&["bots"]).body(fields);
            session.create(request, &COLUMNS, args.create).await
        }
        BotsCommand::Edit(args) => {
            let fields =
                Fields::default().with("name", args.name).with("grants", args.grants.map(scopes));
            let request = Request::patch(&["bots", &args.bot.id]).body(fields);
            session.write(request, &COLUMNS, args.write).await
        }
        BotsCommand::Delete(args) => {
            let deed = format!("delete bot `{}`", args.bot.id);
            let request = Request::delete(&["bots", &args.bot.id]);
            session.write_forced(&deed, request, &COLUMNS, args.force).await
        }
        BotsCommand::Suspend(args) => set("suspend", args, session).await,
        BotsCommand::Resume(args) => set("resume", args, session).await,
    }
}

async fn set(what: &str, args: WrittenBotArgs, session: &Session<'_>) -> Result<ExitCode> {
    session.write(Request::post(&["bots", &args.bot.id, what]), &COLUMNS, args.write).await
}
