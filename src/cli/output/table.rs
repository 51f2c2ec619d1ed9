//! Tables for people, and the fields of one thing. Nothing that was typed elsewhere steers the
//! terminal: controls are shown, never sent.

use std::borrow::Cow;
use std::io::Write;

use serde_json::Value;

use super::column::{Column, text_of};
use super::rows::{Rows, Sink};

/// Characters of a cell at most, on a terminal. A pipe gets all of them.
const MAX_CELL: usize = 60;

/// A table, which needs all its rows before it knows how wide it is.
pub(super) struct TableRows {
    sink: Sink,
    columns: Vec<&'static Column>,
    rows: Vec<Vec<String>>,
    is_terminal: bool,
}

impl TableRows {
    pub(super) fn new(sink: Sink, columns: &'static [Column], is_terminal: bool) -> Self {
        let columns = columns.iter().filter(|column| column.heading.is_some()).collect();
        Self { sink, columns, rows: Vec::new(), is_terminal }
    }

    fn cell(&self, column: &Column, item: &Value) -> String {
        let cell = plain(&column.cell(item)).into_owned();
        if self.is_terminal { shortened(cell) } else { cell }
    }
}

impl Rows for TableRows {
    fn add(&mut self, items: &[Value]) -> std::io::Result<()> {
        for item in items {
            let row = self.columns.iter().map(|column| self.cell(column, item)).collect();
            self.rows.push(row);
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, _next_cursor: Option<&str>) -> std::io::Result<()> {
        if !self.rows.is_empty() {
            let headings: Vec<&str> =
                self.columns.iter().filter_map(|column| column.heading).collect();
            self.sink.write_all(table(&headings, &self.rows).as_bytes())?;
        }
        self.sink.finish()
    }
}

fn shortened(cell: String) -> String {
    if cell.chars().nth(MAX_CELL).is_none() {
        return cell;
    }
    cell.chars().take(MAX_CELL - 1).chain(['\u{2026}']).collect()
}

/// Text as it may go to a terminal.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| if steers(c) { c.escape_unicode().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(shown).collect())
}

/// Controls, and what turns the direction of writing round.
fn steers(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
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

/// The fields of one thing, a line each: those that have a column first, in that order.
pub(super) fn fields(thing: &Value, columns: &[Column]) -> String {
    let Value::Object(members) = thing else { return text_of(thing).unwrap_or_default() };
    let width = members.keys().map(|name| name.chars().count()).max().unwrap_or_default();
    let place = |name: &str| columns.iter().position(|column| column.member() == name);
    let mut ordered: Vec<(&String, &Value)> = members.iter().collect();
    ordered.sort_by_key(|(name, _)| place(name).unwrap_or(usize::MAX));
    let line = |(name, value): (&String, &Value)| {
        let value = text_of(value).filter(|text| !text.is_empty());
        let absent = columns.iter().find_map(|column| column.absent_for(name)).unwrap_or("-");
        format!("{:width$}  {}\n", plain(name), plain(value.as_deref().unwrap_or(absent)))
    };
    ordered.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows =
            [vec!["1".to_owned(), "a longer cell".to_owned()], vec!["22".into(), "x".into()]];
        let text = table(&["N", "NAME"], &rows);
        assert_eq!(text, "N   NAME\n1   a longer cell\n22  x\n");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\r\u{9b}\u{202e}"), "a\\u{1b}[31mb\\u{d}\\u{9b}\\u{202e}");
        assert_eq!(plain("caf\u{e9} \u{1f600}"), "caf\u{e9} \u{1f600}");
        let thing = json!({"name": "x\ny", "n": 1, "none": null, "list": ["a", "b"]});
        let shown = fields(&thing, &[Column::text("name"), Column::text("none.deeper")]);
        assert_eq!(shown, "name  x\\u{a}y\nnone  -\nlist  a b\nn     1\n");
    }

    #[test]
    fn a_long_cell_is_cut_for_a_terminal() {
        let long = "\u{e9}".repeat(61);
        assert_eq!(shortened(long).chars().count(), 60);
        assert_eq!(shortened("\u{e9}".repeat(60)), "\u{e9}".repeat(60));
    }
}
