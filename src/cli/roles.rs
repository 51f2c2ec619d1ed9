//! `tenmint roles`: named bundles of scopes, and who has which where.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::api::{Fields, Request};
use crate::cli::failure::Result;
use crate::cli::output::Column;
use crate::cli::session::{CreateArgs, ForceArgs, PageArgs, Session, WriteArgs};
use crate::cli::values::scopes;

/// Commands on roles.
#[derive(Debug, Subcommand)]
pub(super) enum RolesCommand {
    /// List the roles that the organization defined, beside the built-in ones
    List(PageArgs),
    /// Show a role
    Show(RoleArgs),
    /// Define a role
    Create(NewRoleArgs),
    /// Change a role, at once for everybody that has it
    Edit(EditRoleArgs),
    /// Delete a role that nobody has
    Delete(ForcedRoleArgs),
    /// List the roles that a user or bot has
    Of(OwnerArgs),
    /// Give a user or bot a role, in place of the one it had there
    Bind(BindArgs),
    /// Take the role of a user or bot away
    Unbind(UnbindArgs),
}

static COLUMNS: [Column; 6] = [
    Column::text("id").titled("ID"),
    Column::text("name").titled("NAME"),
    Column::text("level").titled("LEVEL"),
    Column::text("scopes").titled("SCOPES"),
    Column::text("organization"),
    Column::moment("created_at"),
];

/// Who has which role where.
pub(super) static BINDING_COLUMNS: [Column; 5] = [
    Column::text("owner").titled("OWNER"),
    Column::text("role").titled("ROLE"),
    Column::text("level").titled("LEVEL"),
    Column::text("space").titled("SPACE"),
    Column::text("organization"),
];

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Level {
    Organization,
    Space,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::Space => "space",
        }
    }
}

/// One role.
#[derive(Debug, Args)]
pub(super) struct RoleArgs {
    /// Its id, as `rol_...`
    #[arg(value_name = "ID")]
    id: String,
}

/// One role, and something that cannot be undone.
#[derive(Debug, Args)]
pub(super) struct ForcedRoleArgs {
    #[command(flatten)]
    role: RoleArgs,
    #[command(flatten)]
    force: ForceArgs,
}

/// Arguments of `tenmint roles create`.
#[derive(Debug, Args)]
pub(super) struct NewRoleArgs {
    /// What to call it
    #[arg(short, long, value_name = "NAME")]
    name: String,
    /// Where it can be given
    #[arg(long, value_enum, value_name = "LEVEL")]
    level: Level,
    /// What it holds; in a role of a space, `{space}` stands for the slug
    #[arg(short, long, required = true, value_delimiter = ',', value_name = "SCOPES")]
    scopes: Vec<String>,
    #[command(flatten)]
    create: CreateArgs,
}

/// Arguments of `tenmint roles edit`.
#[derive(Debug, Args)]
pub(super) struct EditRoleArgs {
    #[command(flatten)]
    role: RoleArgs,
    /// What to call it
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// What it holds
    #[arg(short, long, value_delimiter = ',', value_name = "SCOPES")]
    scopes: Option<Vec<String>>,
    #[command(flatten)]
    write: WriteArgs,
}

/// A user or bot.
#[derive(Debug, Args)]
pub(super) struct OwnerArgs {
    /// Its id, as `usr_...` or `bot_...`
    #[arg(value_name = "OWNER")]
    owner: String,
}

/// Where a role is given.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// In a space, by id or slug [default: in the organization]
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// In the account, which reaches every organization; for admins of the account
    #[arg(long, conflicts_with = "space")]
    account: bool,
}

/// Arguments of `tenmint roles bind`.
#[derive(Debug, Args)]
pub(super) struct BindArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    /// `read-only`, `member`, `admin`, `verifier`, or the id or name of a defined role
    #[arg(value_name = "ROLE")]
    role: String,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    write: WriteArgs,
}

/// Arguments of `tenmint roles unbind`.
#[derive(Debug, Args)]
pub(super) struct UnbindArgs {
    #[command(flatten)]
    owner: OwnerArgs,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    write: WriteArgs,
}

pub(super) async fn run(command: RolesCommand, session: &Session<'_>) -> Result<ExitCode> {
    match command {
        RolesCommand::List(page) => session.list(Request::get(&["roles"]), &COLUMNS, page).await,
        RolesCommand::Show(role) => {
            session.show(Request::get(&["roles", &role.id]), &COLUMNS).await
        }
        RolesCommand::Create(args) => {
            let fields = Fields::default()
                .with("name", Some(args.name))
                .with("level", Some(args.level.as_str()))
                .with("scopes", Some(scopes(args.scopes)));
            let request = Request::post(&["roles"]).body(fields);
            session.create(request, &COLUMNS, args.create).await
        }
        RolesCommand::Edit(args) => {
            let fields =
                Fields::default().with("name", args.name).with("scopes", args.scopes.map(scopes));
            let request = Request::patch(&["roles", &args.role.id]).body(fields);
            session.write(request, &COLUMNS, args.write).await
        }
        RolesCommand::Delete(args) => {
            let deed = format!("delete role `{}`", args.role.id);
            let request = Request::delete(&["roles", &args.role.id]);
            session.write_forced(&deed, request, &COLUMNS, args.force).await
        }
        RolesCommand::Of(args) => {
            let request = Request::get(&["owners", &args.owner, "roles"]);
            session.list_whole(request, &BINDING_COLUMNS).await
        }
        RolesCommand::Bind(args) => {
            let fields = Fields::default().with("role", Some(args.role));
            let request = Request::put(&args.place.path(&args.owner)).body(fields);
            session.write(request, &BINDING_COLUMNS, args.write).await
        }
        RolesCommand::Unbind(args) => {
            let request = Request::delete(&args.place.path(&args.owner));
            session.write(request, &BINDING_COLUMNS, args.write).await
        }
    }
}

impl PlaceArgs {
    fn path<'a>(&'a self, owner: &'a OwnerArgs) -> Vec<&'a str> {
        match &self.space {
            Some(space) => vec!["spaces", space, "members", &owner.owner],
            None if self.account => vec!["installation", "admins", &owner.owner],
            None => vec!["owners", &owner.owner, "role"],
        }
    }
}
