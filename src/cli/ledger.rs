//! `tenmint ledger`: the record of every token, on the database directly.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::failure::{Exit, Failure, Result};
use crate::cli::output::{Column, Output, written};
use crate::cli::session::PageArgs;
use crate::cli::values::{Moment, TimeArgs};
use crate::model::id::ApiKeyId;
use crate::model::ledger::{Head, RecordedFact, Subject};
use crate::model::token_id::TokenId;
use crate::service::Service;
use crate::service::ledger::last_chain::LastChain;
use crate::service::ledger::search::{LedgerReader, Search};
use crate::service::ledger::verify::ChainReport;

/// Commands on the ledger.
#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// Find tokens, from new to old
    Find(FindArgs),
    /// Walk every chain, and name the first batch that was changed or is missing
    Verify(VerifyArgs),
    /// Write all tokens, from old to new
    Export(ExportArgs),
}

/// Arguments of `tenmint ledger find`.
#[derive(Debug, Args)]
pub(super) struct FindArgs {
    /// The token of this `jti`
    #[arg(long, value_name = "ID", conflicts_with_all = ["api_key", "address", "since", "until"])]
    jti: Option<TokenId>,
    /// Tokens of this API key
    #[arg(long, value_name = "ID")]
    api_key: Option<ApiKeyId>,
    /// Tokens that were fetched from this address
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
    #[command(flatten)]
    time: TimeArgs,
    #[command(flatten)]
    page: PageArgs,
}

/// Arguments of `tenmint ledger verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// A head that must be there, as the log told it; may be repeated
    #[arg(long = "head", value_name = "CHAIN:NUMBER:VALUE")]
    heads: Vec<Head>,
}

/// Arguments of `tenmint ledger export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    time: TimeArgs,
}

static FACTS: [Column; 7] = [
    Column::moment("at").titled("AT"),
    Column::text("jti").titled("JTI"),
    Column::text("api_key").titled("API KEY"),
    Column::text("address").titled("ADDRESS"),
    Column::text("scope").titled("SCOPE"),
    Column::text("audiences"),
    Column::number("lifetime"),
];

static CHAINS: [Column; 9] = [
    Column::text("chain").titled("CHAIN"),
    Column::number("batches").titled("BATCHES"),
    Column::number("tokens").titled("TOKENS"),
    Column::number("dropped").titled("DROPPED"),
    Column::number("unseen").titled("UNSEEN"),
    Column::text("state").titled("STATE"),
    Column::moment("seen_at"),
    Column::text("head"),
    Column::text("fault"),
];

pub(super) async fn run(
    service: &Service,
    directory: &Path,
    command: LedgerCommand,
    output: &Output,
) -> Result<ExitCode> {
    let ledger = service.read_ledger().await?;
    let result = match command {
        LedgerCommand::Find(args) => find(&ledger, args, output).await,
        LedgerCommand::Verify(VerifyArgs { mut heads }) => {
            // what the node of this directory has seen
            heads.extend(LastChain::read(directory)?.and_then(|last| last.seen));
            verify(service, &ledger, &heads, output).await
        }
        LedgerCommand::Export(args) => export(&ledger, args.time, output).await,
    };
    ledger.close().await;
    result
}

fn search(TimeArgs { since, until }: &TimeArgs, subjects: Vec<Subject>) -> Search {
    let all = Search::default();
    let or = |told: &Option<Moment>, open| told.map_or(open, |Moment(at)| at);
    Search { subjects, since: or(since, all.since), until: or(until, all.until) }
}

async fn find(ledger: &LedgerReader, args: FindArgs, output: &Output) -> Result<ExitCode> {
    let mut rows = output.rows(&FACTS)?;
    if let Some(id) = args.jti {
        let missing = || Failure::new(Exit::NotFound, format!("no token {id} is on record"));
        let found = ledger.find_token(id).await?.ok_or_else(missing)?;
        written(rows.add(&[body(&found)]))?;
        written(rows.finish(None))?;
        return Ok(ExitCode::SUCCESS);
    }
    let api_key = args.api_key.map(Subject::ApiKey);
    let address = args.address.map(Subject::Address);
    let search = search(&args.time, api_key.into_iter().chain(address).collect());
    let limit = args.page.limit.or(output.default_limit()).unwrap_or(u64::MAX);
    let from = args.page.cursor.map(|cursor| cursor.parse()).transpose()?;
    let found = ledger.find(&search, from, usize::try_from(limit).unwrap_or(usize::MAX)).await?;
    let items: Vec<Value> = found.facts.iter().map(body).collect();
    written(rows.add(&items))?;
    let next = found.next.map(|next| next.to_string());
    written(rows.finish(next.as_deref()))?;
    output.end_of_list(items.len() as u64, next.as_deref());
    Ok(ExitCode::SUCCESS)
}

async fn export(ledger: &LedgerReader, time: TimeArgs, output: &Output) -> Result<ExitCode> {
    let mut rows = output.rows(&FACTS)?;
    let search = search(&time, Vec::new());
    let mut failed = Ok(());
    let give = |facts: Vec<RecordedFact>| {
        let items: Vec<Value> = facts.iter().map(body).collect();
        failed = written(rows.add(&items));
        failed.is_ok()
    };
    ledger.export(&search, give).await?;
    failed?;
    written(rows.finish(None))?;
    Ok(ExitCode::SUCCESS)
}

async fn verify(
    service: &Service,
    ledger: &LedgerReader,
    heads: &[Head],
    output: &Output,
) -> Result<ExitCode> {
    let reports = service.verify_ledger(ledger, heads).await?;
    let mut rows = output.rows(&CHAINS)?;
    let items: Vec<Value> = reports.iter().map(report_body).collect();
    written(rows.add(&items))?;
    written(rows.finish(None))?;
    for head in reports.iter().flat_map(|report| &report.unchecked) {
        output.note(&format!(
            "{head} has grown old and was dropped: nothing tells whether it was there"
        ));
    }
    let faults = reports.iter().filter_map(|report| Some((report.chain, report.fault.as_ref()?)));
    let faults: Vec<String> =
        faults.map(|(chain, fault)| format!("chain {chain}: {fault}")).collect();
    if faults.is_empty() {
        let tokens: u64 = reports.iter().map(|report| report.facts).sum();
        output.note(&format!("{tokens} tokens are on record as they were recorded"));
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(Exit::Failed, format!("the ledger was changed\n{}", faults.join("\n"))))
}

fn body(fact: &RecordedFact) -> Value {
    json!({
        "at": fact.token_id.at(),
        "jti": fact.token_id.to_string(),
        "api_key": fact.api_key,
        "address": fact.address,
        "scope": fact.scope,
        "audiences": fact.audiences,
        "lifetime": fact.lifetime,
    })
}

fn report_body(report: &ChainReport) -> Value {
    json!({
        "chain": report.chain.to_string(),
        "batches": report.batches,
        "tokens": report.facts,
        "dropped": report.dropped,
        "unseen": report.unseen,
        "state": if report.fault.is_none() { "ok" } else { "changed" },
        "seen_at": report.seen_at,
        "head": report.head.map(|head| head.to_string()),
        "fault": report.fault.as_ref().map(ToString::to_string),
    })
}
