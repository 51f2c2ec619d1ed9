//! A person or a script with a server: what all commands do with the management API. List, show,
//! write, and ask before what cannot be undone.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::api::{Api, Request};
use crate::cli::failure::{Exit, Failure, Result};
use crate::cli::output::{Column, Output, Rows, has_person, lost_secret, written};
use crate::cli::server::ServerArgs;
use crate::model::secret::masked;

/// Things on a page that the server gives at once.
const PAGE: u64 = 200;

/// With which server, and how.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct SessionArgs {
    #[command(flatten)]
    pub(super) server: ServerArgs,
    /// The organization that is meant, by id or slug, instead of the key's own; for admins of the
    /// account [env: `TENMINT_ORGANIZATION`]
    #[arg(long, global = true, value_name = "ORG", help_heading = "Server")]
    organization: Option<String>,
    /// Say each request and its answer, without secrets
    #[arg(short, long, global = true, help_heading = "Server")]
    verbose: bool,
}

/// Which part of a list.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct PageArgs {
    /// At most so many [default: 15 in a table or as JSON, else all]
    #[arg(short, long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: Option<u64>,
    /// Where the list before ended
    #[arg(short, long, visible_alias = "after", value_name = "CURSOR")]
    pub(super) cursor: Option<String>,
}

/// How to change something.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct WriteArgs {
    /// Change nothing, and show what would change
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// How to make something, once.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct CreateArgs {
    /// Change nothing, and show what would change
    #[arg(long)]
    pub(super) dry_run: bool,
    /// A text of yours: the same command with the same text within 24 h does it once
    #[arg(long, value_name = "TEXT")]
    pub(super) idempotency_key: Option<String>,
}

/// How to do what cannot be undone.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct ForceArgs {
    /// Do not ask first
    #[arg(short, long)]
    pub(super) force: bool,
    /// Change nothing, and show what would change
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// What a dry run shows.
static CHANGES: [Column; 3] = [
    Column::text("field").titled("FIELD"),
    Column::text("before").titled("BEFORE"),
    Column::text("after").titled("AFTER"),
];

/// A server, and where results go.
#[derive(Debug)]
pub(super) struct Session<'o> {
    pub(super) api: Api,
    pub(super) output: &'o Output,
    verbose: bool,
}

impl<'o> Session<'o> {
    pub(super) fn new(args: SessionArgs, output: &'o Output) -> Result<Self> {
        let variable =
            || std::env::var("TENMINT_ORGANIZATION").ok().filter(|text| !text.is_empty());
        let organization = args.organization.or_else(variable);
        let api = Api::new(args.server.server()?, organization)?;
        Ok(Self { api, output, verbose: args.verbose })
    }

    /// Sends a request, and reads what it gives.
    pub(super) async fn send(&self, request: &Request) -> Result<Value> {
        self.say_request(request);
        let answered = self.api.send(request).await;
        match &answered {
            Ok((status, headers, _)) => self.say_answer(*status, headers),
            Err(failure) => self.say(|| format!("< refused, exit code {}", failure.exit.code())),
        }
        answered.map(|(_, _, value)| value)
    }

    pub(super) fn say_request(&self, request: &Request) {
        // who pastes a key in the place of an id has it in the path
        self.say(|| format!("> {} {}", request.method, masked(&self.api.url_of(request))));
    }

    pub(super) fn say_answer(&self, status: http::StatusCode, headers: &http::HeaderMap) {
        let id = headers.get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or("-");
        self.say(|| format!("< {status}, request {id}"));
    }

    fn say(&self, words: impl FnOnce() -> String) {
        if self.verbose {
            self.output.note(&words());
        }
    }

    /// Shows one thing.
    pub(super) async fn show(
        &self,
        request: Request,
        columns: &'static [Column],
    ) -> Result<ExitCode> {
        let thing = self.send(&request).await?;
        self.output.thing(&thing, columns)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Shows a list, page after page until there are as many as were asked for.
    pub(super) async fn list(
        &self,
        request: Request,
        columns: &'static [Column],
        page: PageArgs,
    ) -> Result<ExitCode> {
        let mut rows = self.output.rows(columns)?;
        let limit = page.limit.or(self.output.default_limit()).unwrap_or(u64::MAX);
        let (mut cursor, mut seen) = (page.cursor, 0);
        loop {
            let size = limit.saturating_sub(seen).min(PAGE);
            let request =
                request.clone().query("limit", Some(size)).query("cursor", cursor.clone());
            let answer = self.send(&request).await?;
            let items = items_of(&answer);
            written(rows.add(items))?;
            seen += items.len() as u64;
            let next = next_of(&answer);
            if next.is_some() && next == cursor {
                return Err(Failure::new(Exit::Failed, "the server gives the same page again"));
            }
            cursor = next;
            if cursor.is_none() || seen >= limit {
                break;
            }
        }
        self.finish_list(rows, seen, cursor.as_deref())
    }

    fn finish_list(&self, rows: Box<dyn Rows>, seen: u64, next: Option<&str>) -> Result<ExitCode> {
        written(rows.finish(next))?;
        self.output.end_of_list(seen, next);
        Ok(ExitCode::SUCCESS)
    }

    /// Shows a list that the server gives whole.
    pub(super) async fn list_whole(
        &self,
        request: Request,
        columns: &'static [Column],
    ) -> Result<ExitCode> {
        let answer = self.send(&request).await?;
        let mut rows = self.output.rows(columns)?;
        let items = items_of(&answer);
        written(rows.add(items))?;
        self.finish_list(rows, items.len() as u64, None)
    }

    /// Changes something, and shows it as it is now, or what would change.
    pub(super) async fn write(
        &self,
        request: Request,
        columns: &'static [Column],
        args: WriteArgs,
    ) -> Result<ExitCode> {
        let answer = self.send(&request.dry_run(args.dry_run)).await?;
        self.warn(&answer);
        if args.dry_run {
            self.show_changes(&answer)?;
        } else {
            self.output.thing(&answer, columns)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Makes something, once.
    pub(super) async fn create(
        &self,
        request: Request,
        columns: &'static [Column],
        args: CreateArgs,
    ) -> Result<ExitCode> {
        let write = WriteArgs { dry_run: args.dry_run };
        self.write(request.once(args.idempotency_key), columns, write).await
    }

    /// Does what cannot be undone, once somebody said yes.
    pub(super) async fn write_forced(
        &self,
        deed: &str,
        request: Request,
        columns: &'static [Column],
        args: ForceArgs,
    ) -> Result<ExitCode> {
        self.confirm(deed, args)?;
        self.write(request, columns, WriteArgs { dry_run: args.dry_run }).await
    }

    /// Makes an API key or renews its text, and shows the text this once.
    pub(super) async fn write_secret(
        &self,
        request: Request,
        columns: &'static [Column],
        args: CreateArgs,
    ) -> Result<ExitCode> {
        if args.dry_run {
            return self.create(request, columns, args).await;
        }
        let sink = written(self.output.open_secret())?;
        let api_key = self.send(&request.once(args.idempotency_key)).await?;
        self.warn(&api_key);
        let text = |name| api_key.get(name).and_then(Value::as_str).unwrap_or_default();
        let (id, secret) = (text("id"), text("api_key"));
        if secret.is_empty() {
            return Err(Failure::new(
                Exit::Conflict,
                format!("the text of `{id}` was shown before"),
            )
            .hint(&format!("`tenmint keys rotate {id}` gives it a new one")));
        }
        let fields = self.output.fields(&api_key, columns);
        let shown = self.output.secret(sink, &api_key, (&fields, secret));
        shown.map_err(|cause| lost_secret(&id, &cause))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Asks a person; a script has to say `--force`.
    pub(super) fn confirm(&self, deed: &str, args: ForceArgs) -> Result<()> {
        if args.force || args.dry_run {
            return Ok(());
        }
        if !has_person() {
            return Err(Failure::usage(format!("nobody is there to be asked whether to {deed}"))
                .hint("say `--force`, or look first with `--dry-run`"));
        }
        self.output.prompt(&format!("{deed}? It cannot be undone. [y/N] "));
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        if !answer.ends_with('\n') {
            self.output.note("");
        }
        match answer.trim() {
            "y" | "Y" | "yes" if read.is_ok() => Ok(()),
            _ => Err(Failure::new(Exit::Failed, "nothing was changed")),
        }
    }

    fn warn(&self, answer: &Value) {
        let warnings = answer.get("warnings").and_then(Value::as_array).into_iter().flatten();
        for warning in warnings.filter_map(Value::as_str) {
            self.output.note(&format!("warning: {warning}"));
        }
    }

    fn show_changes(&self, answer: &Value) -> Result<()> {
        let changes = answer.get("changes").and_then(Value::as_array);
        let changes = changes.map(Vec::as_slice).unwrap_or_default();
        self.output.note("a dry run: nothing was changed");
        if self.output.is_json() {
            return self.output.thing(answer, &CHANGES);
        }
        let mut rows = self.output.rows(&CHANGES)?;
        written(rows.add(changes))?;
        // what comes along is told in the same columns
        let also = answer.get("also").and_then(Value::as_array).into_iter().flatten();
        let also: Vec<Value> = also
            .map(|change| {
                let of = |member: &str| change.get(member).cloned().unwrap_or_default();
                let told = |member: &str| of(member).as_str().unwrap_or_default().to_owned();
                let field = format!("{} {}", told("action"), told("object"));
                json!({"field": field, "before": of("before"), "after": of("after")})
            })
            .collect();
        written(rows.add(&also))?;
        written(rows.finish(None))
    }
}

fn items_of(answer: &Value) -> &[Value] {
    answer.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn next_of(answer: &Value) -> Option<String> {
    answer.get("next_cursor").and_then(Value::as_str).map(str::to_owned)
}
