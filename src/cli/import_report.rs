//! What became of an import: people see the lines that were refused, tools get all of them.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::failure::{Exit, Failure, Result};
use crate::cli::output::{Column, Output, Rows, written};

static COLUMNS: [Column; 6] = [
    Column::number("line").titled("LINE"),
    Column::text("status").titled("STATUS"),
    Column::text("id"),
    Column::text("code").titled("CODE"),
    Column::text("reason").titled("REASON"),
    Column::text("warnings"),
];

/// The report of an import, as it comes.
pub(super) struct Report<'o> {
    output: &'o Output,
    rows: Box<dyn Rows>,
    /// The refused lines, for one document of all.
    refused: Vec<Value>,
    lines: u64,
    /// How many were refused.
    bad: u64,
    summary: Option<Value>,
}

impl<'o> Report<'o> {
    pub(super) fn new(output: &'o Output) -> Result<Self> {
        let rows = output.rows(&COLUMNS)?;
        Ok(Self { output, rows, refused: Vec::new(), lines: 0, bad: 0, summary: None })
    }

    /// Takes a line: what became of a line of the file, or, at last, of all of it.
    pub(super) fn add(&mut self, line: &Value) -> Result<()> {
        if line.get("line").is_none() {
            self.summary = Some(line.clone());
            return Ok(());
        }
        self.lines += 1;
        let is_refused = text(line, "status") == "refused";
        self.bad += u64::from(is_refused);
        if self.output.is_json() {
            self.refused.extend(is_refused.then(|| line.clone()));
        } else if is_refused || !self.output.is_table() {
            written(self.rows.add(&[flat(line)]))?;
        }
        Ok(())
    }

    /// How far it is.
    pub(super) fn words(&self) -> String {
        format!("{} lines, {} refused", self.lines, self.bad)
    }

    /// Shows it, and says whether all is well.
    pub(super) fn finish(self) -> Result<ExitCode> {
        let Some(summary) = self.summary else {
            let message = "the report breaks off; what was imported is not known";
            return Err(Failure::new(Exit::Unavailable, message)
                .hint("import the file again: a line that is there already changes nothing"));
        };
        if self.output.is_json() {
            self.output.thing(&json!({"refused": self.refused, "summary": summary}), &[])?;
        } else {
            written(self.rows.finish(None))?;
            self.output.note(&words_of(&summary));
        }
        let refused = number(&summary, "refused");
        Ok(match text(&summary, "status") {
            "failed" => Exit::of_code(text(&summary, "code")),
            _ if refused > 0 => Exit::Conflict,
            _ => Exit::Done,
        }
        .into())
    }
}

fn words_of(summary: &Value) -> String {
    let counts =
        ["created", "accepted", "unchanged", "refused"].map(|name| (name, number(summary, name)));
    let counts = counts.iter().filter(|(_, count)| *count > 0);
    let counts: Vec<String> = counts.map(|(name, count)| format!("{count} {name}")).collect();
    let counts = if counts.is_empty() { "no keys".to_owned() } else { counts.join(", ") };
    match text(summary, "status") {
        "abandoned" => format!("{counts}; nothing was stored, since lines were refused"),
        "failed" => {
            let why = ["detail", "code"].map(|name| text(summary, name));
            let why =
                why.into_iter().find(|why| !why.is_empty()).unwrap_or("the server has a fault");
            format!("{counts}; it broke off before the last line: {why}")
        }
        _ if summary.get("dry_run") == Some(&Value::Bool(true)) => {
            format!("{counts}; a dry run: nothing was stored")
        }
        _ => counts,
    }
}

/// A line with its reasons in one text.
fn flat(line: &Value) -> Value {
    let errors = line.get("errors").and_then(Value::as_array).into_iter().flatten();
    let reasons: Vec<String> = errors
        .map(|error| match text(error, "field") {
            "" => text(error, "message").to_owned(),
            field => format!("`{field}`: {}", text(error, "message")),
        })
        .collect();
    let mut flat = line.clone();
    if let Some(members) = flat.as_object_mut() {
        members.insert("reason".to_owned(), reasons.join("; ").into());
    }
    flat
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_there_is_to_say() {
        let summary = |status: &str, refused: u64, dry_run: bool| {
            let summary = json!({"status": status, "created": 2, "accepted": 0, "unchanged": 1,
                "refused": refused, "dry_run": dry_run});
            words_of(&summary)
        };
        assert_eq!(summary("done", 0, false), "2 created, 1 unchanged");
        assert_eq!(
            summary("done", 0, true),
            "2 created, 1 unchanged; a dry run: nothing was stored"
        );
        assert!(
            summary("abandoned", 3, false)
                .starts_with("2 created, 1 unchanged, 3 refused; nothing")
        );
        assert_eq!(words_of(&json!({"status": "done"})), "no keys");
        let failed = json!({"status": "failed", "created": 2, "code": "unavailable"});
        assert!(
            words_of(&failed)
                .ends_with("2 created; it broke off before the last line: unavailable")
        );
    }

    #[test]
    fn the_reasons_of_a_line_are_one_text() {
        let line = json!({"line": 3, "errors": [
            {"field": "name", "message": "too long"}, {"field": "", "message": "no UTF-8"}]});
        assert_eq!(flat(&line)["reason"], "`name`: too long; no UTF-8");
    }
}
