//! From lines to asks: the one place that knows CSV and JSON lines apart.
//!
//! A record is one line, in both formats, so that one bad line spoils no other. What is wrong with
//! the header of a CSV file is wrong with all of it, and said at once.

use serde_json::{Map, Value};

use crate::error::{Error, InvalidField, Result};
use crate::model::ask::{self, Object, ReadAsk, holds_nul};
use crate::model::import::{COLUMNS, Column, ImportApiKey, ImportFormat, REQUIRED_COLUMNS};
use crate::service::import::lines::{Line, MAX_LINE_BYTES};
use crate::service::spaces::shown;

/// Reads the lines of one file.
#[derive(Debug)]
pub(crate) struct RecordReader {
    format: ImportFormat,
    /// The columns of a CSV file, once its header was read.
    columns: Option<Vec<(&'static str, Column)>>,
}

/// What a line is.
#[derive(Debug)]
pub(crate) enum Record {
    /// Nothing: an empty line, or the header.
    Nothing,
    /// A key, or what is wrong with the line.
    Key(Result<Box<ReadAsk<ImportApiKey>>>),
}

impl RecordReader {
    pub(crate) fn new(format: ImportFormat) -> Self {
        Self { format, columns: None }
    }

    /// Reads one line.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a header that fits no import.
    pub(crate) fn read(&mut self, line: &Line) -> Result<Record> {
        let text = text_of(line);
        if text.as_ref().is_ok_and(|text| text.trim().is_empty()) {
            return Ok(Record::Nothing);
        }
        if self.format == ImportFormat::Csv && self.columns.is_none() {
            self.columns = Some(columns_of(text?)?);
            return Ok(Record::Nothing);
        }
        let object = text.and_then(|text| match &self.columns {
            Some(columns) => object_of_row(columns, text),
            None => object_of_json(text),
        });
        Ok(Record::Key(object.and_then(ask_of)))
    }

    /// Whether the file had all that it needs to have.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a CSV file without a header.
    pub(crate) fn finish(&self) -> Result<()> {
        match self.format {
            ImportFormat::Csv if self.columns.is_none() => {
                Err(wrong("the file is empty: its first line names the columns"))
            }
            _ => Ok(()),
        }
    }
}

/// Something is wrong with a line as a whole.
fn wrong(message: impl std::fmt::Display) -> Error {
    Error::invalid("", message)
}

fn text_of(line: &Line) -> Result<&str> {
    let Some(bytes) = &line.bytes else {
        return Err(wrong(format!("a line has at most {MAX_LINE_BYTES} bytes")));
    };
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("the line is no UTF-8"))?;
    if text.contains('\0') {
        return Err(wrong("the line holds a NUL"));
    }
    Ok(text)
}

/// The columns that a header names.
fn columns_of(header: &str) -> Result<Vec<(&'static str, Column)>> {
    let names = cells_of(header)?;
    let mut columns = Vec::with_capacity(names.len());
    let mut bad = Vec::new();
    for name in &names {
        let name = name.trim();
        match COLUMNS.into_iter().find(|(known, _)| *known == name) {
            None => bad.push((shown(name), "there is no such column")),
            Some(column) if columns.contains(&column) => {
                bad.push((shown(name), "the column comes more than once"));
            }
            Some(column) => columns.push(column),
        }
    }
    let is_there = |name: &str| columns.iter().any(|(known, _)| *known == name);
    let missing = REQUIRED_COLUMNS.into_iter().filter(|name| !is_there(name));
    bad.extend(missing.map(|name| (name.to_owned(), "the column is missing")));
    if bad.is_empty() {
        return Ok(columns);
    }
    let field = |(field, message): (String, &str)| InvalidField {
        field: field.into(),
        message: message.to_owned(),
    };
    Err(Error::Invalid(bad.into_iter().map(field).collect()))
}

/// The cells of one row (RFC 4180), which is one line.
fn cells_of(row: &str) -> Result<Vec<String>> {
    if row.contains('\r') {
        return Err(wrong("a carriage return stands at the end of a line alone"));
    }
    // a quote that is left open would reach for the next lines
    if row.bytes().filter(|byte| *byte == b'"').count() % 2 != 0 {
        return Err(wrong(
            "a quote is left open: a cell ends on its line, and a quote within it is doubled",
        ));
    }
    if row.contains('"') {
        return quoted_cells_of(row);
    }
    // a reader builds tables that cost an eighth of a whole import, and a comma is a comma here
    Ok(row.split(',').map(str::to_owned).collect())
}

fn quoted_cells_of(row: &str) -> Result<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .buffer_capacity(row.len())
        .from_reader(row.as_bytes());
    let record = reader.records().next().transpose().map_err(wrong)?;
    Ok(record.iter().flat_map(csv::StringRecord::iter).map(str::to_owned).collect())
}

fn object_of_row(columns: &[(&'static str, Column)], row: &str) -> Result<Map<String, Value>> {
    let cells = cells_of(row)?;
    if cells.len() != columns.len() {
        let (found, named) = (cells.len(), columns.len());
        return Err(wrong(format!("the line has {found} cells, and the header names {named}")));
    }
    let filled = columns.iter().zip(cells).filter(|(_, cell)| !cell.is_empty());
    Ok(filled.map(|((name, column), cell)| ((*name).to_owned(), value_of(*column, cell))).collect())
}

fn value_of(column: Column, cell: String) -> Value {
    match column {
        Column::Text => Value::String(cell),
        Column::List => cell.split_ascii_whitespace().collect(),
        // what is no number stays a text, which the field does not take
        Column::Number => cell.trim().parse::<u64>().map_or(Value::String(cell), Value::from),
    }
}

fn object_of_json(line: &str) -> Result<Map<String, Value>> {
    match serde_json::from_str(line) {
        Ok(Object(object)) if object.values().any(holds_nul) => Err(wrong("the line holds a NUL")),
        Ok(Object(object)) => Ok(object),
        Err(_) => Err(wrong("the line is no JSON object, or names a field twice")),
    }
}

fn ask_of(object: Map<String, Value>) -> Result<Box<ReadAsk<ImportApiKey>>> {
    ask::read(Value::Object(object)).map(Box::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(number: u64, bytes: impl Into<Vec<u8>>) -> Line {
        Line { number, bytes: Some(bytes.into()) }
    }

    /// What each line of a file is: `-` for nothing, the ask, or what is wrong.
    fn read(format: ImportFormat, lines: &[&str]) -> Result<Vec<Result<ImportApiKey>>> {
        let mut reader = RecordReader::new(format);
        let mut found = Vec::new();
        for text in lines {
            if let Record::Key(key) = reader.read(&line(1, *text))? {
                found.push(key.and_then(|asked| asked.whole()));
            }
        }
        reader.finish()?;
        Ok(found)
    }

    fn csv(lines: &[&str]) -> Vec<Result<ImportApiKey>> {
        read(ImportFormat::Csv, lines).unwrap()
    }

    fn told<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn columns_are_found_by_name_and_lists_are_separated_by_spaces() {
        let read = csv(&[
            " scopes,digest, name,quota_limit",
            "",
            r#""read:a  write:b",DIGEST,"a ""quoted"", name",5"#,
            ",DIGEST,n\u{e9}w,",
        ]);
        let [first, second] = read.as_slice() else { panic!("{read:?}") };
        let first = first.as_ref().unwrap();
        assert_eq!(first.name.as_deref(), Some(r#"a "quoted", name"#));
        assert_eq!(first.scopes.as_deref(), Some(&["read:a".to_owned(), "write:b".to_owned()][..]));
        assert_eq!((first.quota_limit, first.description.as_ref()), (Some(5), None));
        let second = second.as_ref().unwrap();
        assert_eq!((second.name.as_deref(), &second.scopes), (Some("n\u{e9}w"), &None));
    }

    #[test]
    fn a_header_that_fits_no_import_is_told_at_once_and_whole() {
        let header = |text| told(read(ImportFormat::Csv, &[text, "x"]));
        assert_eq!(
            header("name,nmae,name"),
            "`nmae`: there is no such column\n`name`: the column comes more than once\n\
             `digest`: the column is missing"
        );
        assert!(header("\"name,digest").contains("a quote is left open"));
        assert!(told(read(ImportFormat::Csv, &[])).contains("the file is empty"));
        let binary = RecordReader::new(ImportFormat::Csv).read(&line(1, b"\xFF\xFEn\0"));
        assert_eq!(told(binary), "``: the line is no UTF-8");
    }

    #[test]
    fn a_bad_row_is_told_and_spoils_no_other() {
        let rows = [
            "name,digest,quota_limit",
            "a,D",
            "a,D,1,2",
            "a,\"D,1",
            "a,D,many",
            "a\0,D,1",
            "a\rb,D,1",
            "good,D,1",
        ];
        let told: Vec<String> = csv(&rows)
            .into_iter()
            .map(|row| row.map_or_else(|cause| cause.to_string(), |ask| ask.name.unwrap()))
            .collect();
        assert_eq!(
            told,
            [
                "``: the line has 2 cells, and the header names 3",
                "``: the line has 4 cells, and the header names 3",
                "``: a quote is left open: a cell ends on its line, and a quote within it is doubled",
                "`quota_limit`: the field takes a whole number from 0",
                "``: the line holds a NUL",
                "``: a carriage return stands at the end of a line alone",
                "good",
            ]
        );
    }

    #[test]
    fn a_line_of_json_is_an_object_of_known_fields_each_named_once() {
        let read = |text| read(ImportFormat::JsonLines, &[text]).unwrap().remove(0);
        let ask = read(r#"{"name": "a", "digest": "D", "scopes": ["x"], "owner": null}"#).unwrap();
        assert_eq!((ask.name.as_deref(), ask.owner), (Some("a"), None));
        for (text, cause) in [
            ("[]", "``: the line is no JSON object, or names a field twice"),
            ("{", "``: the line is no JSON object, or names a field twice"),
            (
                r#"{"name": "a", "name": "b"}"#,
                "``: the line is no JSON object, or names a field twice",
            ),
            (r#"{"name": "a\u0000"}"#, "``: the line holds a NUL"),
            (r#"{"scopes": ["\u0000"]}"#, "``: the line holds a NUL"),
            (
                r#"{"nmae": "a", "scopes": "x"}"#,
                "`scopes`: the field takes a list\n`nmae`: there is no such field",
            ),
        ] {
            assert_eq!(told(read(text)), cause, "{text}");
        }
        let mut reader = RecordReader::new(ImportFormat::JsonLines);
        let too_long = reader.read(&Line { number: 1, bytes: None }).unwrap();
        let Record::Key(Err(cause)) = too_long else { panic!("{too_long:?}") };
        assert_eq!(cause.to_string(), "``: a line has at most 16384 bytes");
        assert!(reader.finish().is_ok());
    }

    proptest! {
        #[test]
        fn no_line_panics_the_reader(
            header in "[ -~\u{e9}]{0,60}",
            lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..8),
            csv in any::<bool>(),
        ) {
            let format = if csv { ImportFormat::Csv } else { ImportFormat::JsonLines };
            for header in [header.as_str(), "name,digest,scopes,quota_limit"] {
                let mut reader = RecordReader::new(format);
                let _ = reader.read(&line(1, header));
                for bytes in &lines {
                    let _ = reader.read(&line(2, bytes.clone()));
                }
            }
        }

        #[test]
        fn a_row_without_quotes_has_the_cells_that_csv_finds(row in r"[a-z ,;.\t\u{e9}]{1,40}") {
            prop_assert_eq!(cells_of(&row).unwrap(), quoted_cells_of(&row).unwrap());
        }

        #[test]
        fn a_row_of_json_like_text_never_panics(text in r#"[\{\}\[\]":,\\u0a-fx \-+.]{0,120}"#) {
            let mut reader = RecordReader::new(ImportFormat::JsonLines);
            let _ = reader.read(&line(1, text.as_bytes()));
            let mut reader = RecordReader::new(ImportFormat::Csv);
            let _ = reader.read(&line(1, "name,digest"));
            let _ = reader.read(&line(2, text.as_bytes()));
        }
    }
}
