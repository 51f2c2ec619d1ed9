//! `tenmint keys`: API keys, on the database directly.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tenmint_verifier::ScopeView;

use crate::cli::output::Output;
use crate::error::{Error, Result};
use crate::model::api_key::{ApiKey, CreateApiKey};
use crate::model::id::ApiKeyId;
use crate::model::time::Timestamp;
use crate::service::Service;
use crate::service::api_keys::{Cursor, ListApiKeys};

/// Commands on API keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Create an API key; its text is shown this once
    Create(CreateArgs),
    /// List API keys, from new to old
    List(ListArgs),
    /// Show an API key
    Show(KeyArgs),
    /// Revoke an API key, for ever
    Revoke(KeyArgs),
}

/// Arguments of `tenmint keys create`.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// What to call it
    #[arg(short, long, value_name = "NAME")]
    name: String,
    /// What it may do, as `read:projects/alpha/*,write:projects/alpha/*`
    #[arg(long, required = true, value_delimiter = ',', value_name = "SCOPES")]
    scopes: Vec<String>,
    /// The slug or URI of an API it may get tokens for; repeat it for several
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// When it expires: `2027-01-31T12:00:00Z`, or a time from now like `90d`
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// What it is for
    #[arg(long, default_value = "", value_name = "TEXT")]
    description: String,
    /// The organization, where there are several
    #[arg(long, value_name = "SLUG")]
    organization: Option<String>,
}

/// Arguments of `tenmint keys list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Expired and revoked keys too
    #[arg(long)]
    all: bool,
    /// Keys on a page, at most 200
    #[arg(short, long, default_value_t = 15, value_name = "NUMBER")]
    limit: u32,
    /// Where the page before ended
    #[arg(short, long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// One API key.
#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    /// Its id
    #[arg(value_name = "ID")]
    id: ApiKeyId,
}

pub(super) async fn run(
    service: &Service,
    command: KeysCommand,
    output: &Output,
) -> Result<ExitCode> {
    match command {
        KeysCommand::Create(args) => create(service, args, output).await?,
        KeysCommand::List(args) => list(service, &args, output).await?,
        KeysCommand::Show(args) => {
            show(service, &service.get_api_key(&args.id).await?, output);
        }
        KeysCommand::Revoke(args) => {
            let revoked = service.revoke_api_key(&args.id).await?;
            show(service, &revoked, output);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(service: &Service, args: CreateArgs, output: &Output) -> Result<()> {
    let org = service.get_org(args.organization.as_deref()).await?;
    let ask = CreateApiKey {
        name: args.name,
        description: args.description,
        scopes: args.scopes,
        audiences: args.audience,
        expires: args.expires,
    };
    let created = service.create_api_key(&org, &ask).await?;
    let text = created.text.reveal();
    let mut json = body(&created.api_key, service.clock().now());
    if let Some(members) = json.as_object_mut() {
        members.insert("api_key".into(), Value::from(text.as_str()));
    }
    let people = format!("id       {}\napi key  {text}\n", created.api_key.id);
    output.secret(&json, &people, &text).map_err(|cause| lost_secret(&created.api_key.id, &cause))
}

async fn list(service: &Service, args: &ListArgs, output: &Output) -> Result<()> {
    let after = args.cursor.as_deref().map(parse_cursor).transpose()?;
    let ask = ListApiKeys { all: args.all, limit: args.limit, after };
    let page = service.list_api_keys(ask).await?;
    let now = service.clock().now();
    let next = page.next.map(|cursor| print_cursor(&cursor));
    let json = json!({
        "items": page.api_keys.iter().map(|api_key| body(api_key, now)).collect::<Vec<_>>(),
        "next_cursor": next,
    });
    let rows: Vec<Vec<String>> = page.api_keys.iter().map(|api_key| row(api_key, now)).collect();
    output.list(&json, &["ID", "NAME", "SCOPES", "STATUS", "EXPIRES"], &rows);
    if let Some(next) = next.filter(|_| !output.is_json()) {
        output.note(&format!("more: --cursor {next}"));
    }
    Ok(())
}

fn show(service: &Service, api_key: &ApiKey, output: &Output) {
    let now = service.clock().now();
    let json = body(api_key, now);
    let lines = json.as_object().into_iter().flatten().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{name:<13} {value}\n")
    });
    output.result(&json, &lines.collect::<String>());
}

fn body(api_key: &ApiKey, now: Timestamp) -> Value {
    json!({
        "id": api_key.id,
        "name": api_key.name,
        "description": api_key.description,
        "organization": api_key.org,
        "owner": api_key.owner,
        "scopes": scopes_of(api_key),
        "audiences": api_key.audiences,
        "status": api_key.status(now),
        "created_at": api_key.created_at,
        "expires_at": api_key.expires_at,
        "revoked_at": api_key.revoked_at,
    })
}

/// A key whose text nobody has seen is of no use, and better revoked.
pub(super) fn lost_secret(id: &ApiKeyId, cause: &std::io::Error) -> Error {
    Error::Setup(format!(
        "the API key `{id}` was created and could not be shown: {cause}\n\
         hint: `tenmint keys revoke {id}`, and create another"
    ))
}

fn scopes_of(api_key: &ApiKey) -> Option<Vec<&str>> {
    let scopes = api_key.scopes.as_ref()?;
    Some(scopes.iter().map(ScopeView::as_str).collect())
}

fn row(api_key: &ApiKey, now: Timestamp) -> Vec<String> {
    vec![
        api_key.id.to_string(),
        api_key.name.clone(),
        scopes_of(api_key).map_or_else(|| "all of the owner".to_owned(), |s| s.join(",")),
        api_key.status(now).as_str().to_owned(),
        api_key.expires_at.map_or_else(|| "never".to_owned(), |at| at.to_string()),
    ]
}

fn print_cursor(cursor: &Cursor) -> String {
    format!("{}.{}", cursor.created_revision, cursor.id.characters())
}

fn parse_cursor(text: &str) -> Result<Cursor> {
    let parsed = text.split_once('.').and_then(|(revision, characters)| {
        let id = format!("key_{characters}").parse().ok()?;
        Some(Cursor { created_revision: revision.parse().ok()?, id })
    });
    parsed.ok_or_else(|| Error::invalid("cursor", "take the cursor that the page before gave"))
}
