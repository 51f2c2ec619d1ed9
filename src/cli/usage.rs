//! `tenmint usage`: how many tokens there were, and how often none, by the hour or day.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::api::Request;
use crate::cli::failure::Result;
use crate::cli::output::{Column, written};
use crate::cli::session::Session;
use crate::cli::values::Moment;

static COLUMNS: [Column; 5] = [
    Column::moment("from").titled("FROM"),
    Column::number("issued").titled("ISSUED"),
    Column::number("introspected").titled("RAW"),
    Column::number("refused").titled("REFUSED"),
    Column::text("reasons").titled("REASONS"),
];

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Grain {
    Hour,
    Day,
}

impl Grain {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// Arguments of `tenmint usage`.
#[derive(Debug, Args)]
pub(super) struct UsageArgs {
    /// Of this API key [default: of all in the organization]
    #[arg(value_name = "KEY_ID")]
    api_key: Option<String>,
    /// By the hour, or by the day [default: hour]
    #[arg(long, value_enum, value_name = "GRAIN")]
    by: Option<Grain>,
    /// From this moment on, or from a time ago like `12h` [default: a day ago; 30 days, where days are told]
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// To before this moment [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
}

pub(super) async fn run(args: UsageArgs, session: &Session<'_>) -> Result<ExitCode> {
    let request = match &args.api_key {
        Some(id) => Request::get(&["keys", id, "usage"]),
        None => Request::get(&["usage"]),
    };
    let request = request
        .query("by", args.by.map(Grain::as_str))
        .query("since", args.since)
        .query("until", args.until);
    let report = session.send(&request).await?;
    if session.output.is_json() {
        session.output.thing(&report, &COLUMNS)?;
        return Ok(ExitCode::SUCCESS);
    }
    let items = report.get("items").and_then(Value::as_array).into_iter().flatten();
    let items: Vec<Value> = items.map(flat).collect();
    let mut rows = session.output.rows(&COLUMNS)?;
    written(rows.add(&items))?;
    written(rows.finish(None))?;
    session.output.note(&totals(&report));
    Ok(ExitCode::SUCCESS)
}

/// An hour or day with its refusals in one number and one text.
fn flat(item: &Value) -> Value {
    let (refused, reasons) = refusals(item);
    let of = |name: &str| item.get(name).cloned().unwrap_or_default();
    json!({"from": of("from"), "issued": of("issued"), "introspected": of("introspected"),
        "refused": refused, "reasons": reasons})
}

fn refusals(counts: &Value) -> (u64, String) {
    let by_reason = counts.get("refused").and_then(Value::as_object).into_iter().flatten();
    let by_reason: Vec<(&String, u64)> =
        by_reason.map(|(reason, count)| (reason, count.as_u64().unwrap_or_default())).collect();
    let reasons = by_reason.iter().map(|(reason, count)| format!("{reason}={count}"));
    (by_reason.iter().map(|(_, count)| count).sum(), reasons.collect::<Vec<_>>().join(" "))
}

fn totals(report: &Value) -> String {
    let totals = report.get("totals").unwrap_or(&Value::Null);
    let number = |name: &str| totals.get(name).and_then(Value::as_u64).unwrap_or_default();
    let raw = match number("introspected") {
        0 => String::new(),
        count => format!("{count} raw, "),
    };
    let (refused, _) = refusals(totals);
    let last = report.get("last_used").and_then(|last| last.get("used_at")).and_then(Value::as_str);
    let last = last.map(|at| format!(", the last use at {at}")).unwrap_or_default();
    format!("{} issued, {raw}{refused} refused{last}", number("issued"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_one_number_and_one_text() {
        let refused = json!({"expired": 3, "revoked": 4});
        let item = json!({"from": "t", "issued": 2, "introspected": 5, "refused": refused});
        let expected = json!({"from": "t", "issued": 2, "introspected": 5, "refused": 7,
            "reasons": "expired=3 revoked=4"});
        assert_eq!(flat(&item), expected);
        let report = json!({"totals": item, "last_used": {"used_at": "now"}});
        assert_eq!(totals(&report), "2 issued, 5 raw, 7 refused, the last use at now");
    }
}
