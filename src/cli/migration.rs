//! `tenmint migration`: from raw API keys to tokens, audience by audience, in steps that can be taken
//! back.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::api::{Fields, Request};
use crate::cli::audiences::COLUMNS;
use crate::cli::failure::Result;
use crate::cli::session::{Session, WriteArgs};
use crate::cli::values::OrNone;

/// Commands on the way from raw keys to tokens.
#[derive(Debug, Subcommand)]
pub(super) enum MigrationCommand {
    /// Take raw API keys, and tell in each answer that they will not be taken for long
    Warn(StepArgs),
    /// Refuse raw API keys: their holders have to fetch tokens
    RequireTokens(StepArgs),
    /// Take raw API keys again, as if nothing had been said
    AllowRaw(BackArgs),
}

/// Which requests, and what is told.
#[derive(Debug, Args)]
pub(super) struct StepArgs {
    /// The API: id or slug of its audience
    #[arg(value_name = "AUDIENCE")]
    audience: String,
    /// Only what this selects, as `write:*` or `read:projects/*`
    #[arg(long, value_name = "SCOPE", default_value = EVERYTHING)]
    scope: String,
    /// Only so many percent of the requests, by chance: a canary
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
    share: u8,
    /// When raw keys will not be taken any more, or `none`: told to callers, in `Sunset`
    #[arg(long, value_name = "MOMENT")]
    sunset: Option<OrNone<String>>,
    /// Where the people of the callers read what to do, or `none`: told in `Link`
    #[arg(long, value_name = "URI")]
    link: Option<OrNone<String>>,
    #[command(flatten)]
    write: WriteArgs,
}

/// Which requests.
#[derive(Debug, Args)]
pub(super) struct BackArgs {
    /// The API: id or slug of its audience
    #[arg(value_name = "AUDIENCE")]
    audience: String,
    /// Only the rules that were given for this scope [default: all rules]
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,
    #[command(flatten)]
    write: WriteArgs,
}

/// The scope of the whole API.
const EVERYTHING: &str = "*:*";

pub(super) async fn run(command: MigrationCommand, session: &Session<'_>) -> Result<ExitCode> {
    match command {
        MigrationCommand::Warn(args) => step("warn", args, session).await,
        MigrationCommand::RequireTokens(args) => step("deny", args, session).await,
        MigrationCommand::AllowRaw(args) => back(args, session).await,
    }
}

async fn step(mode: &str, args: StepArgs, session: &Session<'_>) -> Result<ExitCode> {
    let before = raw_keys_of(&args.audience, session).await?;
    let mut rules = rules_of(&before);
    // a step for all requests takes the place of what was said of them; a canary stands beside it
    rules.retain(|rule| {
        rule.get("scope") != Some(&json!(args.scope))
            || args.share < 100 && rule.get("mode") != Some(&json!(mode))
    });
    rules.push(json!({"scope": args.scope, "mode": mode, "share": args.share}));
    let mut raw_keys = with_rules(&before, rules);
    for (name, said) in [("sunset_at", args.sunset), ("link", args.link)] {
        if let Some(said) = said {
            raw_keys = raw_keys.with(name, Some(Value::from(said)));
        }
    }
    write(&args.audience, Some(raw_keys), args.write, session).await
}

async fn back(args: BackArgs, session: &Session<'_>) -> Result<ExitCode> {
    let Some(scope) = args.scope else {
        return write(&args.audience, None, args.write, session).await;
    };
    let before = raw_keys_of(&args.audience, session).await?;
    let mut rules = rules_of(&before);
    rules.retain(|rule| rule.get("scope") != Some(&json!(scope)));
    let raw_keys = with_rules(&before, rules);
    write(&args.audience, Some(raw_keys), args.write, session).await
}

async fn raw_keys_of(audience: &str, session: &Session<'_>) -> Result<Value> {
    let audience = session.send(&Request::get(&["audiences", audience])).await?;
    Ok(audience.get("raw_keys").cloned().unwrap_or_default())
}

fn rules_of(raw_keys: &Value) -> Vec<Value> {
    raw_keys.get("rules").and_then(Value::as_array).cloned().unwrap_or_default()
}

/// These rules, and what callers were told before.
fn with_rules(before: &Value, rules: Vec<Value>) -> Fields {
    let told = |name| before.get(name);
    let rules = Fields::default().with("rules", Some(rules));
    rules.with("sunset_at", told("sunset_at")).with("link", told("link"))
}

async fn write(
    audience: &str,
    raw_keys: Option<Fields>,
    args: WriteArgs,
    session: &Session<'_>,
) -> Result<ExitCode> {
    let request = Request::patch(&["audiences", audience]);
    let request = request.body(Fields::default().with("raw_keys", Some(raw_keys)));
    session.write(request, &COLUMNS, args).await
}
