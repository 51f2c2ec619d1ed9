//! Any bytes as a file of keys to import, of which a first byte `c` says that it is CSV. Fed by the fuzzers
//! of `fuzz/`, and on a stable compiler by the test below.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a promise that does not hold ends the run"
)]

use crate::error::Error;
use crate::model::import::ImportFormat;
use crate::model::secret::Pepper;
use crate::service::import::line::ParsedLine;
use crate::service::import::lines::{Line, LineSplitter};
use crate::service::import::records::{Record, RecordReader};

/// Reads the file line by line: each is a key that keeps what is promised of one, or is refused with what is
/// wrong, by field.
pub fn check(data: &[u8]) {
    let format = match data.first() {
        Some(b'c') => ImportFormat::Csv,
        _ => ImportFormat::JsonLines,
    };
    let mut reader = RecordReader::new(format);
    for line in lines_of(data.get(1..).unwrap_or_default()) {
        match reader.read(&line) {
            Ok(Record::Nothing) => {}
            Ok(Record::Key(Ok(asked))) => match ParsedLine::parse(*asked, &Pepper::new(&[7; 32])) {
                Ok(Ok(parsed)) => check_line(&parsed),
                Ok(Err(bad)) => assert!(!bad.refusal.errors.is_empty()),
                Err(cause) => panic!("no line is our own trouble: {cause}"),
            },
            Ok(Record::Key(Err(cause))) => check_told(&cause),
            // a header that fits no import is the end of the file
            Err(cause) => return check_told(&cause),
        }
    }
}

fn lines_of(mut file: &[u8]) -> Vec<Line> {
    let (mut splitter, mut lines) = (LineSplitter::default(), Vec::new());
    while let Some(line) = splitter.next(&mut file) {
        lines.push(line);
    }
    lines.extend(splitter.finish());
    lines
}

fn check_line(line: &ParsedLine) {
    assert!((1..=256).contains(&line.name.chars().count()));
    assert!(!line.name.chars().any(char::is_control));
    assert!(line.description.chars().count() <= 1_000);
    assert!(line.scopes.as_ref().is_none_or(|scopes| (1..=64).contains(&scopes.iter().count())));
    assert!(line.names.audiences.as_ref().is_none_or(|audiences| !audiences.is_empty()));
    assert!(line.rows() <= 6);
}

fn check_told(cause: &Error) {
    let Error::Invalid(fields) = cause else { panic!("no line is our own trouble: {cause}") };
    assert!(!fields.is_empty() && fields.iter().all(|field| !field.message.is_empty()));
}

#[cfg(test)]
mod tests {
    #[test]
    fn imports_hold_against_their_oracle() {
        crate::replay::replay("imports", 10_000, super::check);
    }
}
