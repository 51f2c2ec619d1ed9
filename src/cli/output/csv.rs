//! CSV for spreadsheets and scripts. A spreadsheet computes what starts with `=` and its like, and a
//! name can come from a stranger; so no cell starts so.

use std::borrow::Cow;

use serde_json::Value;

use super::column::Column;
use super::rows::{Rows, Sink};

/// Rows of CSV under one line of names, separated by commas.
pub(super) struct CsvRows {
    writer: csv::Writer<Sink>,
    columns: &'static [Column],
}

impl CsvRows {
    pub(super) fn new(sink: Sink, columns: &'static [Column]) -> std::io::Result<Self> {
        let mut writer = csv::Writer::from_writer(sink);
        writer.write_record(columns.iter().map(Column::name))?;
        Ok(Self { writer, columns })
    }
}

impl Rows for CsvRows {
    fn add(&mut self, items: &[Value]) -> std::io::Result<()> {
        for item in items {
            let values = self.columns.iter().map(|column| column.value(item).unwrap_or_default());
            let cells: Vec<String> = values.map(|text| uncomputed(&text).into_owned()).collect();
            self.writer.write_record(cells)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _next_cursor: Option<&str>) -> std::io::Result<()> {
        self.writer.into_inner().map_err(csv::IntoInnerError::into_error)?.finish()
    }
}

/// An apostrophe before each sign that makes a formula. A spreadsheet that parts cells at `;` or a
/// tab, as those of half of Europe do, sees the start of a cell behind each of them.
fn uncomputed(text: &str) -> Cow<'_, str> {
    if !text.contains(computes) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 1);
    let mut at_start = true;
    for c in text.chars() {
        if at_start && computes(c) {
            safe.push('\'');
        }
        safe.push(c);
        at_start = matches!(c, ';' | '\t' | '\r' | '\n') || at_start && matches!(c, ' ' | '"');
    }
    Cow::Owned(safe)
}

/// What a formula starts with, in wide characters too (OWASP, CSV injection).
fn computes(c: char) -> bool {
    matches!(
        c,
        '=' | '+'
            | '-'
            | '@'
            | '\t'
            | '\r'
            | '\n'
            | '\u{ff1d}'
            | '\u{ff0b}'
            | '\u{ff0d}'
            | '\u{ff20}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for (text, safe) in [
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\u{ff1d}1", "'\u{ff1d}1"),
            (" =1", " '=1"),
            ("\t=1", "'\t'=1"),
            ("x;=1", "x;'=1"),
            ("x; \"=1", "x; \"'=1"),
            ("a\n=1", "a\n'=1"),
            ("a=b", "a=b"),
            ("ci-key", "ci-key"),
            ("read:a/* write:a/*", "read:a/* write:a/*"),
            ("2027-01-15T08:00:00Z", "2027-01-15T08:00:00Z"),
            ("", ""),
        ] {
            assert_eq!(uncomputed(text), safe, "{text:?}");
        }
    }
}
