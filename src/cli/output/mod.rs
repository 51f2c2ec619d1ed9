//! What the program prints: results to stdout or a file, all else to stderr. The one room that
//! prints.

mod column;
mod csv;
mod format;
mod json;
#[cfg(feature = "parquet")]
mod parquet;
mod rows;
mod table;

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use serde_json::Value;

use crate::cli::failure::{Exit, Failure, Result};
use crate::error::Error;

pub(super) use column::Column;
pub(super) use format::{Form, Format};
pub(super) use rows::Rows;

use rows::Sink;

/// What a command gives, which says what forms it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    /// Words, for people or as JSON.
    Words,
    /// A new secret, which must not get lost in a form without it.
    Secret,
    /// Things with columns.
    Rows,
}

/// Where results and messages go.
#[derive(Debug)]
pub(super) struct Output {
    form: Form,
}

impl Output {
    pub(super) fn new(form: Form) -> Self {
        Self { form }
    }

    /// Refuses a form that a command does not have, before anything is done.
    pub(super) fn check(&self, gives: Gives) -> Result<()> {
        use Format::{Csv, Json, JsonLines, Parquet, Secret, Table};
        match (gives, self.form.format) {
            (Gives::Words | Gives::Rows, Secret) => Err(Failure::usage(
                "this makes no secret: `-o secret` is for what makes or renews an API key",
            )),
            (Gives::Secret, JsonLines | Csv | Parquet) => Err(Failure::usage(
                "the new secret would be lost in this form: take `-o table`, `-o json`, `-o secret` \
                 or a file that ends in .json",
            )),
            (Gives::Words, JsonLines | Csv | Parquet) => {
                Err(Failure::usage("this is no list: take `-o table` or `-o json`"))
            }
            (Gives::Words, Table | Json) if self.form.file.is_some() => {
                Err(Failure::usage("this goes to stdout alone: take `-o json > FILE`"))
            }
            (Gives::Rows, Parquet) => self.check_parquet(),
            _ => Ok(()),
        }
    }

    fn check_parquet(&self) -> Result<()> {
        if cfg!(not(feature = "parquet")) {
            return Err(Failure::usage("this build of tenmint writes no Parquet")
                .hint("build it with `cargo build --release --features parquet`, or take CSV"));
        }
        if self.form.file.is_none() && std::io::stdout().is_terminal() {
            return Err(Failure::usage("Parquet is nothing for a terminal")
                .hint("name a file, as `-o keys.parquet`"));
        }
        Ok(())
    }

    pub(super) fn is_table(&self) -> bool {
        self.form.format == Format::Table
    }

    pub(super) fn is_json(&self) -> bool {
        self.form.format == Format::Json
    }

    /// Where a list goes on, and that an empty one is empty, for people.
    pub(super) fn end_of_list(&self, seen: u64, next_cursor: Option<&str>) {
        match next_cursor {
            _ if self.is_json() => {}
            Some(cursor) => self.note(&format!("more: --cursor {cursor}")),
            None if seen == 0 => self.note("nothing to show"),
            None => {}
        }
    }

    /// How many things a list shows where nobody says: a page for people, all for tools.
    pub(super) fn default_limit(&self) -> Option<u64> {
        matches!(self.form.format, Format::Table | Format::Json).then_some(15)
    }

    /// A result, as text for people or as JSON for scripts.
    pub(super) fn result(&self, json: &Value, text: &str) {
        let json_text = || json::pretty(json);
        let text = if self.form.format == Format::Json { &json_text() } else { text };
        write_to(&mut std::io::stdout(), text);
    }

    /// Takes things with columns, and writes them in whatever form is wanted.
    pub(super) fn rows(&self, columns: &'static [Column]) -> Result<Box<dyn Rows>> {
        let opened = || -> std::io::Result<Box<dyn Rows>> {
            let sink = Sink::open(self.form.file.as_deref(), false)?;
            Ok(match self.form.format {
                Format::Table | Format::Secret => {
                    let is_terminal = std::io::stdout().is_terminal();
                    Box::new(table::TableRows::new(sink, columns, is_terminal))
                }
                Format::Json => Box::new(json::JsonRows::new(sink)),
                Format::JsonLines => Box::new(json::JsonLines(sink)),
                Format::Csv => Box::new(csv::CsvRows::new(sink, columns)?),
                #[cfg(feature = "parquet")]
                Format::Parquet => Box::new(parquet::ParquetRows::new(sink, columns)?),
                #[cfg(not(feature = "parquet"))]
                Format::Parquet => return Err(ErrorKind::Unsupported.into()),
            })
        };
        written(opened())
    }

    /// One thing: its fields for people, an object for scripts, a row for tools.
    pub(super) fn thing(&self, thing: &Value, columns: &'static [Column]) -> Result<()> {
        match self.form.format {
            Format::Table => self.text(&table::fields(thing, columns)),
            Format::Json => self.text(&json::pretty(thing)),
            _ => {
                let mut rows = self.rows(columns)?;
                written(rows.add(std::slice::from_ref(thing)))?;
                written(rows.finish(None))
            }
        }
    }

    fn text(&self, text: &str) -> Result<()> {
        let write = || {
            let mut sink = Sink::open(self.form.file.as_deref(), false)?;
            writeln!(sink, "{}", text.trim_end_matches('\n'))?;
            sink.finish()
        };
        written(write())
    }

    /// The place for a secret, made before the secret is: what cannot be written must not be asked
    /// for.
    pub(super) fn open_secret(&self) -> std::io::Result<SecretSink> {
        Sink::open(self.form.file.as_deref(), true).map(SecretSink)
    }

    /// A result with a secret that is shown this once.
    ///
    /// # Errors
    /// It could not be written, and is lost: the caller says how to get another.
    pub(super) fn secret(
        &self,
        SecretSink(mut sink): SecretSink,
        json: &Value,
        (text, secret): (&str, &str),
    ) -> std::io::Result<()> {
        let shown = match self.form.format {
            Format::Json => json::pretty(json),
            Format::Secret => secret.to_owned(),
            _ => text.to_owned(),
        };
        writeln!(sink, "{}", shown.trim_end_matches('\n'))?;
        sink.finish()?;
        if std::io::stderr().is_terminal() {
            self.note("the secret is shown this once: keep it where secrets are kept");
        }
        Ok(())
    }

    /// The fields of one thing, for people.
    #[expect(clippy::unused_self, reason = "all that is shown is made here")]
    pub(super) fn fields(&self, thing: &Value, columns: &[Column]) -> String {
        table::fields(thing, columns)
    }

    /// A word to the person at the terminal.
    #[expect(clippy::unused_self, reason = "results and notes go through the same door")]
    pub(super) fn note(&self, text: &str) {
        let lines: Vec<_> = text.lines().map(table::plain).collect();
        write_to(&mut std::io::stderr(), &lines.join("\n"));
    }

    /// A question, or a line that moves: no line ends behind it.
    #[expect(clippy::unused_self, reason = "results and notes go through the same door")]
    pub(super) fn prompt(&self, text: &str) {
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "\r{}\u{1b}[K", table::plain(text));
        let _ = stderr.flush();
    }

    /// Why a command failed.
    pub(super) fn failure(&self, failure: &Failure) -> ExitCode {
        if failure.exit != Exit::Done {
            self.note(&format!("error: {failure}"));
        }
        failure.exit.into()
    }
}

/// Where a secret will be written, and others cannot read.
pub(super) struct SecretSink(Sink);

/// Whether there is a person to ask.
pub(super) fn has_person() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// A result that could not be written. A reader that went away has enough, and is no error:
/// `tenmint keys list -o csv | head`.
pub(super) fn written<T>(result: std::io::Result<T>) -> Result<T> {
    result.map_err(|cause| match cause.kind() {
        ErrorKind::BrokenPipe => Failure::new(Exit::Done, ""),
        _ => Failure::new(Exit::Failed, format!("the result could not be written: {cause}")),
    })
}

/// Said before anything was done.
pub(super) fn no_place(cause: &std::io::Error) -> Error {
    Error::Setup(format!("the result could not be written, and nothing was done: {cause}"))
}

/// A key whose text nobody has seen is of no use.
pub(super) fn lost_secret(id: &dyn std::fmt::Display, cause: &std::io::Error) -> Error {
    Error::Setup(format!(
        "the API key `{id}` has a new text that could not be shown: {cause}\n\
         hint: `tenmint keys rotate {id}` gives it another one, `tenmint keys revoke {id}` ends it"
    ))
}

/// A reader that went away is no error: `tenmint keys list | head`.
fn write_to(stream: &mut dyn Write, text: &str) {
    let _ = writeln!(stream, "{}", text.trim_end_matches('\n'));
}
