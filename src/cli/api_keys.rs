//! `tenmint keys`: API keys.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::cli::api::{Fields, Request};
use crate::cli::failure::{Failure, Result};
use crate::cli::import::{self, ImportArgs};
use crate::cli::output::{Column, Gives};
use crate::cli::session::{CreateArgs, ForceArgs, PageArgs, Session, WriteArgs};
use crate::cli::values::{OrNone, list_or_null, scopes};

/// Commands on API keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// List API keys, from new to old
    List(ListArgs),
    /// Show an API key
    Show(KeyArgs),
    /// Create an API key; its text is shown this once
    Create(NewKeyArgs),
    /// Create an API key of a bot, which outlives the person who made it
    #[command(visible_alias = "create-service-key")]
    CreateService(NewKeyArgs),
    /// Change an API key; what is not named stays
    Edit(EditKeyArgs),
    /// Give an API key a new secret; the old one dies at once or after a grace period
    Rotate(RotateArgs),
    /// Replace an API key by a new one; the old one dies at once or after a grace period
    Refresh(RefreshArgs),
    /// Revoke an API key, for ever
    Revoke(ForcedKeyArgs),
    /// Revoke an API key and take it out of the lists
    Delete(ForcedKeyArgs),
    /// Set from where an API key may be used
    IpFilter(IpFilterArgs),
    /// Set how many tokens an API key may fetch in a time
    Quota(QuotaKeyArgs),
    /// Import API keys from CSV or JSON lines, as SHA-256 digests of their texts
    Import(ImportArgs),
}

/// What an API key shows in a table, and all that it has in a file.
pub(super) static COLUMNS: [Column; 24] = [
    Column::text("id").titled("ID"),
    Column::text("name").titled("NAME"),
    Column::text("prefix").titled("PREFIX").or("imported"),
    Column::text("scopes").titled("SCOPES").or("all"),
    Column::text("status").titled("ACTIVE").yes_if("active"),
    Column::moment("last_use.used_at").titled("LAST_USED").or("never"),
    Column::moment("expires_at").titled("EXPIRES").or("never"),
    Column::text("key_type"),
    Column::text("owner"),
    Column::text("organization"),
    Column::text("space"),
    Column::text("description"),
    Column::text("audiences"),
    Column::text("allow"),
    Column::text("block"),
    Column::number("quota.limit"),
    Column::number("quota.window"),
    Column::text("replaces"),
    Column::text("created_by"),
    Column::moment("created_at"),
    Column::moment("revoked_at"),
    Column::moment("deleted_at"),
    Column::text("last_use.address"),
    Column::text("last_use.user_agent"),
];

/// Arguments of `tenmint keys list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Those in this state [default: active]
    #[arg(short, long, value_enum, value_name = "STATUS")]
    status: Option<Status>,
    /// Expired, revoked and deleted ones too
    #[arg(long, conflicts_with = "status")]
    all: bool,
    /// Those whose name starts so, whatever the case, in the order of the names
    #[arg(short, long, value_name = "START")]
    name: Option<String>,
    /// Those of persons, or those of bots
    #[arg(long, value_enum, value_name = "TYPE")]
    key_type: Option<KeyType>,
    /// Those of a space, by id or slug
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// Those of a user or bot
    #[arg(long, value_name = "ID")]
    owner: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Status {
    Active,
    Expired,
    Revoked,
    All,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::All => "all",
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KeyType {
    User,
    Service,
}

impl KeyType {
    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
        }
    }
}

/// One API key.
#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    /// Its id, as `key_...`
    #[arg(value_name = "ID")]
    id: String,
}

/// One API key, and something that cannot be undone.
#[derive(Debug, Args)]
pub(super) struct ForcedKeyArgs {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    force: ForceArgs,
}

/// Arguments of `tenmint keys create`.
#[derive(Debug, Args)]
pub(super) struct NewKeyArgs {
    /// What to call it
    #[arg(short, long, value_name = "NAME")]
    name: String,
    /// What it may do, as `read:projects/alpha/*,write:projects/alpha/*` [default: all that its
    /// owner may]
    #[arg(short, long, value_delimiter = ',', value_name = "SCOPES")]
    scopes: Option<Vec<String>>,
    /// The APIs it gets tokens for, by slug, URI or id [default: all of the organization]
    #[arg(long, visible_alias = "endpoint", value_delimiter = ',', value_name = "AUDIENCES")]
    audience: Option<Vec<String>>,
    /// When it expires: `2027-01-31T12:00:00Z`, or a time from now like `90d` [default: never]
    #[arg(long, visible_alias = "expires-at", value_name = "TIME")]
    expires: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The space it belongs to, by id or slug
    #[arg(long, value_name = "SPACE")]
    space: Option<String>,
    /// Of a person, oneself, or of a bot [default: what the caller is]
    #[arg(long, value_enum, value_name = "TYPE")]
    key_type: Option<KeyType>,
    /// The bot that owns it [default: a new one]
    #[arg(long, value_name = "ID")]
    bot: Option<String>,
    /// The role of its new bot in the space [default: member]
    #[arg(long, value_name = "ROLE")]
    space_role: Option<String>,
    /// The role of its new bot in the organization [default: read-only]
    #[arg(long, value_name = "ROLE")]
    org_role: Option<String>,
    /// The role of its new bot in the account [default: member]
    #[arg(long, value_name = "ROLE")]
    account_role: Option<String>,
    #[command(flatten)]
    addresses: AddressArgs,
    #[command(flatten)]
    quota: QuotaArgs,
    #[command(flatten)]
    create: CreateArgs,
}

/// From where an API key may be used.
#[derive(Debug, Default, Args)]
struct AddressArgs {
    /// Addresses and CIDRs it may be used from, as `192.0.2.0/24,2001:db8::1`, or `none`: from
    /// everywhere
    #[arg(long, value_delimiter = ',', value_name = "ADDRESSES")]
    allow: Option<Vec<String>>,
    /// Addresses and CIDRs it may not be used from, which stand above those allowed, or `none`
    #[arg(long, value_delimiter = ',', value_name = "ADDRESSES")]
    block: Option<Vec<String>>,
}

/// How many tokens an API key may fetch in a time.
#[derive(Debug, Default, Args)]
struct QuotaArgs {
    /// So many tokens in any minute, or in any window of another length, or `none`: any number
    #[arg(long, value_name = "NUMBER")]
    rpm: Option<OrNone<u64>>,
    /// The seconds of the window, where it is no minute
    #[arg(long, requires = "rpm", value_name = "SECONDS")]
    window: Option<u64>,
}

/// Arguments of `tenmint keys edit`.
#[derive(Debug, Args)]
pub(super) struct EditKeyArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// What to call it
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// What it may do
    #[arg(short, long, value_delimiter = ',', value_name = "SCOPES")]
    scopes: Option<Vec<String>>,
    /// It may do all that its owner may
    #[arg(long, conflicts_with = "scopes")]
    all_scopes: bool,
    /// The APIs it gets tokens for, by slug, URI or id
    #[arg(long, visible_alias = "endpoint", value_delimiter = ',', value_name = "AUDIENCES")]
    audience: Option<Vec<String>>,
    /// It gets tokens for all APIs of the organization
    #[arg(long, visible_alias = "all-endpoints", conflicts_with = "audience")]
    all_audiences: bool,
    /// When it expires: earlier than now set, never later
    #[arg(long, visible_alias = "expires-at", value_name = "TIME")]
    expires: Option<String>,
    #[command(flatten)]
    addresses: AddressArgs,
    #[command(flatten)]
    quota: QuotaArgs,
    #[command(flatten)]
    write: WriteArgs,
}

/// Arguments of `tenmint keys rotate`.
#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// How long the old secret goes on, at most 86400 [default: 0]
    #[arg(long, value_name = "SECONDS")]
    grace_period_seconds: Option<u32>,
    /// Also within the grace period of the last rotation: the oldest secret dies at once
    #[arg(long)]
    during_grace: bool,
    /// Do not ask first
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    create: CreateArgs,
}

/// Arguments of `tenmint keys refresh`.
#[derive(Debug, Args)]
pub(super) struct RefreshArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// How long the old key goes on, at most 86400 [default: 0]
    #[arg(long, value_name = "SECONDS")]
    grace_period_seconds: Option<u32>,
    /// When the new key expires: a moment, a time from now, or `never`; has to be said where the old
    /// one expires
    #[arg(long, visible_alias = "expires-at", value_name = "TIME")]
    expires: Option<String>,
    /// Taken like that of the other actions: a refresh never asks
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    create: CreateArgs,
}

/// Arguments of `tenmint keys ip-filter`.
#[derive(Debug, Args)]
pub(super) struct IpFilterArgs {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    addresses: AddressArgs,
    #[command(flatten)]
    write: WriteArgs,
}

/// Arguments of `tenmint keys quota`.
#[derive(Debug, Args)]
pub(super) struct QuotaKeyArgs {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    quota: QuotaArgs,
    #[command(flatten)]
    write: WriteArgs,
}

impl KeysCommand {
    /// What it gives. A dry run makes no secret.
    pub(super) fn gives(&self) -> Gives {
        match self {
            Self::Create(NewKeyArgs { create, .. })
            | Self::CreateService(NewKeyArgs { create, .. })
            | Self::Rotate(RotateArgs { create, .. })
            | Self::Refresh(RefreshArgs { create, .. })
                if !create.dry_run =>
            {
                Gives::Secret
            }
            _ => Gives::Rows,
        }
    }
}

pub(super) async fn run(command: KeysCommand, session: &Session<'_>) -> Result<ExitCode> {
    match command {
        KeysCommand::List(args) => list(args, session).await,
        KeysCommand::Show(key) => session.show(Request::get(&["keys", &key.id]), &COLUMNS).await,
        KeysCommand::Create(args) => create(args, session).await,
        KeysCommand::CreateService(NewKeyArgs { key_type: Some(KeyType::User), .. }) => Err(
            Failure::usage("`create-service` makes service keys: a user key is made by `create`"),
        ),
        KeysCommand::CreateService(args) => {
            create(NewKeyArgs { key_type: Some(KeyType::Service), ..args }, session).await
        }
        KeysCommand::Edit(args) => edit(args, session).await,
        KeysCommand::Rotate(args) => rotate(args, session).await,
        KeysCommand::Refresh(args) => refresh(args, session).await,
        KeysCommand::Revoke(args) => {
            let request = Request::post(&["keys", &args.key.id, "revoke"]);
            end("revoke", &args, request, session).await
        }
        KeysCommand::Delete(args) => {
            end("delete", &args, Request::delete(&["keys", &args.key.id]), session).await
        }
        KeysCommand::IpFilter(args) => {
            let fields = args.addresses.add_to(Fields::default());
            change(&args.key, fields, args.write, session).await
        }
        KeysCommand::Quota(args) => {
            let fields = args.quota.add_to(Fields::default());
            change(&args.key, fields, args.write, session).await
        }
        KeysCommand::Import(args) => import::run(args, session).await,
    }
}

async fn list(args: ListArgs, session: &Session<'_>) -> Result<ExitCode> {
    let status = if args.all { Some(Status::All) } else { args.status };
    let request = Request::get(&["keys"])
        .query("status", status.map(Status::as_str))
        .query("name", args.name)
        .query("key_type", args.key_type.map(KeyType::as_str))
        .query("space", args.space)
        .query("owner", args.owner);
    session.list(request, &COLUMNS, args.page).await
}

async fn create(args: NewKeyArgs, session: &Session<'_>) -> Result<ExitCode> {
    let fields = Fields::default()
        .with("name", Some(args.name))
        .with("description", args.description)
        .with("key_type", args.key_type.map(KeyType::as_str))
        .with("space", args.space)
        .with("scopes", args.scopes.map(scopes))
        .with("audiences", args.audience)
        .with("expires_at", args.expires)
        .with("bot", args.bot)
        .with("space_role", args.space_role)
        .with("org_role", args.org_role)
        .with("account_role", args.account_role);
    let fields = args.quota.add_to(args.addresses.add_to(fields));
    session.write_secret(Request::post(&["keys"]).body(fields), &COLUMNS, args.create).await
}

async fn edit(args: EditKeyArgs, session: &Session<'_>) -> Result<ExitCode> {
    let all = |all: bool| all.then_some(Value::Null);
    let fields = Fields::default()
        .with("name", args.name)
        .with("description", args.description)
        .with("scopes", args.scopes.map(scopes))
        .with("scopes", all(args.all_scopes))
        .with("audiences", args.audience)
        .with("audiences", all(args.all_audiences))
        .with("expires_at", args.expires);
    let fields = args.quota.add_to(args.addresses.add_to(fields));
    change(&args.key, fields, args.write, session).await
}

/// Changes what was named of a key.
async fn change(
    key: &KeyArgs,
    fields: Fields,
    write: WriteArgs,
    session: &Session<'_>,
) -> Result<ExitCode> {
    if fields.is_empty() {
        return Err(Failure::usage("say what to change").hint("`--help` lists what can be"));
    }
    session.write(Request::patch(&["keys", &key.id]).body(fields), &COLUMNS, write).await
}

async fn rotate(args: RotateArgs, session: &Session<'_>) -> Result<ExitCode> {
    let id = &args.key.id;
    let force = ForceArgs { force: args.force, dry_run: args.create.dry_run };
    session.confirm(&format!("give API key `{id}` a new secret"), force)?;
    let fields = Fields::default()
        .with("grace_period_seconds", args.grace_period_seconds)
        .with("force", args.during_grace.then_some(true));
    let request = Request::post(&["keys", id, "rotate"]).body(fields);
    session.write_secret(request, &COLUMNS, args.create).await
}

async fn refresh(args: RefreshArgs, session: &Session<'_>) -> Result<ExitCode> {
    let fields = Fields::default()
        .with("grace_period_seconds", args.grace_period_seconds)
        .with("expires_at", args.expires);
    let request = Request::post(&["keys", &args.key.id, "refresh"]).body(fields);
    session.write_secret(request, &COLUMNS, args.create).await
}

async fn end(
    deed: &str,
    args: &ForcedKeyArgs,
    request: Request,
    session: &Session<'_>,
) -> Result<ExitCode> {
    let deed = format!("{deed} API key `{}`", args.key.id);
    session.write_forced(&deed, request, &COLUMNS, args.force).await
}

impl AddressArgs {
    fn add_to(self, fields: Fields) -> Fields {
        fields
            .with("allow", self.allow.map(list_or_null))
            .with("block", self.block.map(list_or_null))
    }
}

impl QuotaArgs {
    fn add_to(self, fields: Fields) -> Fields {
        let quota = self.rpm.map(|rpm| match rpm {
            OrNone::Value(limit) => json!({"limit": limit, "window": self.window}),
            OrNone::None => Value::Null,
        });
        fields.with("quota", quota)
    }
}
