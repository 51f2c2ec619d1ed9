//! `tenmint audiences`: the APIs that take tokens.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use crate::cli::api::{Fields, Request};
use crate::cli::failure::Result;
use crate::cli::output::Column;
use crate::cli::session::{CreateArgs, PageArgs, Session, WriteArgs};
use crate::cli::values::OrNone;

/// Commands on audiences.
#[derive(Debug, Subcommand)]
pub(super) enum AudiencesCommand {
    /// List the audiences of the organization, and the shared ones
    List(PageArgs),
    /// Show an audience
    Show(AudienceArgs),
    /// Register an audience: its URI is its own for ever
    Create(NewAudienceArgs),
    /// Change the catalogue of an audience, or what its tokens are like
    Edit(EditAudienceArgs),
}

pub(super) static COLUMNS: [Column; 13] = [
    Column::text("id").titled("ID"),
    Column::text("slug").titled("SLUG"),
    Column::text("uri").titled("URI"),
    Column::number("token_lifetime").titled("LIFETIME").or("default"),
    Column::text("token_type").titled("TYPE"),
    Column::moment("shared_at").titled("SHARED").or("no"),
    Column::text("raw_keys.rules"),
    Column::moment("raw_keys.sunset_at"),
    Column::text("raw_keys.link"),
    Column::text("catalogue.actions"),
    Column::text("catalogue.paths"),
    Column::text("organization"),
    Column::moment("created_at"),
];

/// One audience.
#[derive(Debug, Args)]
pub(super) struct AudienceArgs {
    /// Its id or slug
    #[arg(value_name = "AUDIENCE")]
    audience: String,
}

/// The `typ` in the header of tokens.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TokenType {
    #[value(name = "at+jwt")]
    AccessToken,
    #[value(name = "JWT")]
    Jwt,
}

impl TokenType {
    fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "at+jwt",
            Self::Jwt => "JWT",
        }
    }
}

/// The scopes that an audience knows, and what its tokens are like.
#[derive(Debug, Args)]
struct CatalogueArgs {
    /// The actions it knows beside `read`, `write` and `admin`, as `chat,models`
    #[arg(long, value_delimiter = ',', value_name = "ACTIONS")]
    actions: Option<Vec<String>>,
    /// The shapes of its paths, as `projects/{id}/logs`
    #[arg(long, value_delimiter = ',', value_name = "PATHS")]
    paths: Option<Vec<String>>,
    /// The type that its tokens name in their header
    #[arg(long, value_enum, value_name = "TYPE")]
    token_type: Option<TokenType>,
    /// The seconds that a token for it lives, or `none`: as everywhere
    #[arg(long, value_name = "SECONDS")]
    token_lifetime: Option<OrNone<u32>>,
}

/// Arguments of `tenmint audiences create`.
#[derive(Debug, Args)]
pub(super) struct NewAudienceArgs {
    /// The `aud` of its tokens: an absolute URI, as `https://api.example.com`
    #[arg(value_name = "URI")]
    uri: String,
    /// What to call it [default: made of the URI]
    #[arg(long, value_name = "SLUG")]
    slug: Option<String>,
    /// It takes tokens of all organizations; for admins of the account
    #[arg(long)]
    shared: bool,
    #[command(flatten)]
    catalogue: CatalogueArgs,
    #[command(flatten)]
    create: CreateArgs,
}

/// Arguments of `tenmint audiences edit`.
#[derive(Debug, Args)]
pub(super) struct EditAudienceArgs {
    #[command(flatten)]
    audience: AudienceArgs,
    /// It knows all scopes
    #[arg(long, conflicts_with_all = ["actions", "paths"])]
    no_catalogue: bool,
    #[command(flatten)]
    catalogue: CatalogueArgs,
    #[command(flatten)]
    write: WriteArgs,
}

pub(super) async fn run(command: AudiencesCommand, session: &Session<'_>) -> Result<ExitCode> {
    match command {
        AudiencesCommand::List(page) => {
            session.list(Request::get(&["audiences"]), &COLUMNS, page).await
        }
        AudiencesCommand::Show(args) => {
            session.show(Request::get(&["audiences", &args.audience]), &COLUMNS).await
        }
        AudiencesCommand::Create(args) => {
            let fields = Fields::default()
                .with("uri", Some(args.uri))
                .with("slug", args.slug)
                .with("shared", args.shared.then_some(true));
            let request = Request::post(&["audiences"]).body(args.catalogue.add_to(fields));
            session.create(request, &COLUMNS, args.create).await
        }
        AudiencesCommand::Edit(args) => {
            let none = args.no_catalogue.then_some(Value::Null);
            let fields = Fields::default().with("actions", none.clone()).with("paths", none);
            let request = Request::patch(&["audiences", &args.audience.audience]);
            let request = request.body(args.catalogue.add_to(fields));
            session.write(request, &COLUMNS, args.write).await
        }
    }
}

impl CatalogueArgs {
    fn add_to(self, fields: Fields) -> Fields {
        fields
            .with("actions", self.actions)
            .with("paths", self.paths)
            .with("token_type", self.token_type.map(TokenType::as_str))
            .with("token_lifetime", self.token_lifetime.map(Value::from))
    }
}
