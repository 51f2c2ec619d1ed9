//! What the program prints: results to stdout, all else to stderr. The one file that prints.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::Value;

use crate::error::Error;

/// The form of a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Table,
    /// For scripts
    Json,
    /// The new secret alone, where a command makes one: `KEY=$(tenmint keys create ... -o secret)`
    Secret,
}

/// Where results and messages go.
#[derive(Debug)]
pub(super) struct Output {
    format: Format,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// A result, as text for people or as JSON for scripts.
    pub(super) fn result(&self, json: &Value, text: &str) {
        if self.is_json() {
            write_to(&mut std::io::stdout(), &format!("{json:#}"));
        } else {
            write_to(&mut std::io::stdout(), text);
        }
    }

    /// A result with a secret that is shown this once.
    ///
    /// # Errors
    /// It could not be written, and is lost: the caller says what to revoke.
    pub(super) fn secret(&self, json: &Value, text: &str, secret: &str) -> std::io::Result<()> {
        let shown = match self.format {
            Format::Table => text.to_owned(),
            Format::Json => format!("{json:#}"),
            Format::Secret => secret.to_owned(),
        };
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{}", shown.trim_end_matches('\n'))?;
        stdout.flush()?;
        if std::io::stderr().is_terminal() {
            self.note("the secret is shown this once: keep it where secrets are kept");
        }
        Ok(())
    }

    /// A list: JSON for scripts, a table for people.
    pub(super) fn list(&self, json: &Value, headings: &[&str], rows: &[Vec<String>]) {
        if self.is_json() || !rows.is_empty() {
            self.result(json, &table(headings, rows));
        } else {
            self.note("nothing to show");
        }
    }

    /// A word to the person at the terminal.
    #[expect(clippy::unused_self, reason = "results and notes go through the same door")]
    pub(super) fn note(&self, text: &str) {
        write_to(&mut std::io::stderr(), text);
    }

    /// Why a command failed: 2 for what was asked, 3 for what is not there, 4 for what does not fit,
    /// 5 for the database, 1 for the rest.
    pub(super) fn failure(&self, cause: &Error) -> ExitCode {
        self.note(&format!("error: {cause}"));
        if let Some(source) = std::error::Error::source(cause) {
            self.note(&format!("cause: {source}"));
        }
        ExitCode::from(match cause {
            Error::Invalid(_) => 2,
            Error::NotFound(_) => 3,
            Error::Conflict(..) => 4,
            Error::Unavailable(_) => 5,
            Error::Setup(_) | Error::Broken(_) => 1,
        })
    }
}

/// A reader that went away is no error: `tenmint keys list | head`.
fn write_to(stream: &mut dyn Write, text: &str) {
    let _ = writeln!(stream, "{}", text.trim_end_matches('\n'));
}

fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(at, heading)| {
            let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            cells.fold(heading.len(), usize::max)
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> =
            cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut headings.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}
