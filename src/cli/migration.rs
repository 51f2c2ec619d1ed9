//! `tenmint migration`: from raw API keys to tokens, audience by audience, in steps that can be taken
//! back.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::api::{Fields, Request};
use crate::cli::audiences::COLUMNS;
use crate::cli::failure::Result;
use crate::cli::output::{Column, written};
use crate::cli::session::{PageArgs, Session, WriteArgs};
use crate::cli::values::OrNone;

/// Commands on the way from raw keys to tokens.
#[derive(Debug, Subcommand)]
pub(super) enum MigrationCommand {
    /// Show how far APIs are, or how each API key came to one of them
    Status(StatusArgs),
    /// Take raw API keys, and tell in each answer that they will not be taken for long
    Warn(StepArgs),
    /// Refuse raw API keys: their holders have to fetch tokens
    RequireTokens(StepArgs),
    /// Take raw API keys again, as if nothing had been said
    AllowRaw(BackArgs),
}

/// Of what the way is shown.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The keys that came to this API: id or slug of its audience [default: all APIs]
    #[arg(value_name = "AUDIENCE")]
    audience: Option<String>,
    /// The APIs that this API key came to
    #[arg(long, value_name = "KEY_ID", conflicts_with_all = ["audience", "locked_out", "scope"])]
    api_key: Option<String>,
    /// Days that count: a key that did not come raw in them is not expected to [default: 30]
    #[arg(long, value_name = "DAYS")]
    days: Option<u16>,
    /// Only keys that requiring tokens now would lock out, the last that came first
    #[arg(long, requires = "audience")]
    locked_out: bool,
    /// Only keys that may do something of this scope, as `write:*`
    #[arg(long, value_name = "SCOPE", requires = "audience")]
    scope: Option<String>,
    #[command(flatten)]
    page: PageArgs,
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
/// Keys of a page that is looked at before tokens are required.
const LOOKED_FOR: usize = 200;
/// Pages that are looked at, so that a switch is quick.
const MOST_PAGES: usize = 10;

static API_COLUMNS: [Column; 11] = [
    Column::text("slug").titled("AUDIENCE"),
    Column::number("raw").titled("RAW"),
    Column::number("by_token").titled("BY_TOKEN"),
    Column::moment("last_raw_at").titled("LAST_RAW").or("never"),
    Column::moment("watched_since").titled("WATCHED_SINCE").or("never"),
    Column::text("safe_to_require_tokens").titled("SAFE").yes_if("true"),
    Column::text("reason").titled("REASON"),
    Column::text("audience"),
    Column::text("uri"),
    Column::text("raw_keys"),
    Column::moment("heard_at"),
];

static KEY_COLUMNS: [Column; 17] = [
    Column::text("id").titled("ID"),
    Column::text("name").titled("NAME"),
    Column::moment("raw.first_at").titled("FIRST_RAW").or("never"),
    Column::moment("raw.last_at").titled("LAST_RAW").or("never"),
    Column::number("raw.calls").titled("RAW_CALLS"),
    Column::text("raw.address").titled("FROM"),
    Column::text("raw.user_agent").titled("CLIENT"),
    Column::moment("token.first_at").titled("FIRST_TOKEN").or("never"),
    Column::moment("token.last_at").titled("LAST_TOKEN").or("never"),
    Column::number("token.calls").titled("TOKEN_CALLS"),
    Column::text("safe_to_require_tokens").titled("SAFE").yes_if("true"),
    Column::text("reason").titled("REASON"),
    Column::text("prefix"),
    Column::text("owner"),
    Column::text("audience"),
    Column::text("raw"),
    Column::text("token"),
];

static OF_KEY_COLUMNS: [Column; 12] = [
    Column::text("audience").titled("AUDIENCE"),
    Column::moment("raw.first_at").titled("FIRST_RAW").or("never"),
    Column::moment("raw.last_at").titled("LAST_RAW").or("never"),
    Column::number("raw.calls").titled("RAW_CALLS"),
    Column::text("raw.address").titled("FROM"),
    Column::moment("token.first_at").titled("FIRST_TOKEN").or("never"),
    Column::moment("token.last_at").titled("LAST_TOKEN").or("never"),
    Column::number("token.calls").titled("TOKEN_CALLS"),
    Column::text("safe_to_require_tokens").titled("SAFE").yes_if("true"),
    Column::text("reason").titled("REASON"),
    Column::text("raw"),
    Column::text("token"),
];

pub(super) async fn run(command: MigrationCommand, session: &Session<'_>) -> Result<ExitCode> {
    match command {
        MigrationCommand::Status(args) => status(args, session).await,
        MigrationCommand::Warn(args) => step("warn", args, session).await,
        MigrationCommand::RequireTokens(args) => {
            say_who_is_locked_out(&args, session).await?;
            step("deny", args, session).await
        }
        MigrationCommand::AllowRaw(args) => back(args, session).await,
    }
}

async fn status(args: StatusArgs, session: &Session<'_>) -> Result<ExitCode> {
    let StatusArgs { audience, api_key, days, locked_out, scope, page } = args;
    if let Some(id) = api_key {
        return status_of_key(&id, days, session).await;
    }
    let Some(audience) = audience else {
        let request = Request::get(&["migration"]).query("days", days);
        return session.list(request, &API_COLUMNS, page).await;
    };
    let request = keys_of(&audience).query("days", days).query("scope", scope);
    let request = request.query("locked_out", locked_out.then_some(true));
    session.list(request, &KEY_COLUMNS, page).await
}

async fn status_of_key(id: &str, days: Option<u16>, session: &Session<'_>) -> Result<ExitCode> {
    let request = Request::get(&["keys", id, "migration"]).query("days", days);
    let apis = session.send(&request).await?;
    let items = apis.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut rows = session.output.rows(&OF_KEY_COLUMNS)?;
    written(rows.add(&items))?;
    written(rows.finish(None))?;
    session.output.end_of_list(u64::try_from(items.len()).unwrap_or(u64::MAX), None);
    Ok(ExitCode::SUCCESS)
}

fn keys_of(audience: &str) -> Request {
    Request::get(&["audiences", audience, "migration"])
}

/// Tells before a switch how many keys it is known to lock out. It can be taken back within two seconds,
/// so nobody is asked.
async fn say_who_is_locked_out(args: &StepArgs, session: &Session<'_>) -> Result<()> {
    let scope = (args.scope != EVERYTHING).then_some(&args.scope);
    let (mut found, mut cursor, mut looked) = (0, None, 0);
    while looked == 0 || looked < MOST_PAGES && cursor.is_some() {
        let request = keys_of(&args.audience).query("locked_out", Some(true)).query("scope", scope);
        let request = request.query("limit", Some(LOOKED_FOR)).query("cursor", cursor.take());
        let page = session.send(&request).await?;
        found += page.get("items").and_then(Value::as_array).map_or(0, Vec::len);
        cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
        looked += 1;
    }
    let of_scope = scope.map(|scope| format!(" with `{scope}`")).unwrap_or_default();
    let flag = scope.map(|scope| format!(" --scope '{scope}'")).unwrap_or_default();
    let more = if cursor.is_some() { " or more" } else { "" };
    session.output.note(&match found {
        0 if cursor.is_none() => format!(
            "no API key{of_scope} came raw to it within 30 days, as far as is known: `tenmint migration \
             status` says whether it was watched for that long"
        ),
        _ => format!(
            "{found}{more} of the API keys{of_scope} came raw to it within 30 days: \
             `tenmint migration status {} --locked-out{flag}` names them",
            args.audience
        ),
    });
    Ok(())
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
