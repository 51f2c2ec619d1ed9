//! Where the lines of an import come from: bytes in, batches of parsed lines out. It reads ahead by
//! one batch, while the one before is stored.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf, Bytes};
use ring::digest;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::error::Result;
use crate::model::import::ImportFormat;
use crate::model::secret::Pepper;
use crate::service::import::batch::Pending;
use crate::service::import::line::{BadLine, ParsedLine};
use crate::service::import::lines::{Line, LineSplitter};
use crate::service::import::records::{Record, RecordReader};

/// Lines wait no longer than this for a batch to fill.
const FILLS_WITHIN: Duration = Duration::from_secs(2);

/// The bytes of an import, as they come.
pub(super) struct Source {
    bytes: mpsc::Receiver<Result<Bytes>>,
    pepper: Pepper,
    splitter: LineSplitter,
    reader: RecordReader,
    /// What has come of the chunk that was read last.
    rest: Bytes,
    /// A line that did not fit into the last batch.
    left_over: Pending,
    has_ended: bool,
    hash: digest::Context,
}

impl Source {
    /// Bytes of this format. What the request asked besides goes into its hash first.
    pub(super) fn new(
        bytes: mpsc::Receiver<Result<Bytes>>,
        format: ImportFormat,
        pepper: Pepper,
        asked: &str,
    ) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(asked.as_bytes());
        Self {
            bytes,
            pepper,
            splitter: LineSplitter::default(),
            reader: RecordReader::new(format),
            rest: Bytes::new(),
            left_over: Pending::default(),
            has_ended: false,
            hash,
        }
    }

    /// The next batch: full, or what has come in a while, which may be nothing. `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Pending>> {
        let mut batch = std::mem::take(&mut self.left_over);
        let end = Instant::now() + FILLS_WITHIN;
        loop {
            while let Some(line) = self.next_line() {
                if self.take(&line, &mut batch)? {
                    return Ok(Some(batch));
                }
            }
            if self.has_ended {
                return Ok(if batch.is_empty() { None } else { Some(batch) });
            }
            match timeout_at(end, self.bytes.recv()).await {
                Err(_) => return Ok(Some(batch)),
                Ok(Some(chunk)) => {
                    self.rest = chunk?;
                    self.hash.update(&self.rest);
                }
                Ok(None) => {
                    self.has_ended = true;
                    let last = std::mem::take(&mut self.splitter).finish();
                    let is_full = last.map(|line| self.take(&line, &mut batch)).transpose()?;
                    self.reader.finish()?;
                    if is_full == Some(true) {
                        return Ok(Some(batch));
                    }
                }
            }
        }
    }

    fn next_line(&mut self) -> Option<Line> {
        let mut rest: &[u8] = &self.rest;
        let line = self.splitter.next(&mut rest);
        let taken = self.rest.len() - rest.len();
        self.rest.advance(taken);
        line
    }

    /// Adds a line to a batch, or keeps it for the next one where it is full, and says so.
    fn take(&mut self, line: &Line, batch: &mut Pending) -> Result<bool> {
        let Record::Key(asked) = self.reader.read(line)? else { return Ok(false) };
        let parsed = match asked {
            Ok(asked) => ParsedLine::parse(*asked, &self.pepper)?,
            Err(cause) => Err(Box::new(BadLine::of(cause)?)),
        };
        let is_full = !batch.has_room_for(&parsed);
        let place = if is_full { &mut self.left_over } else { batch };
        place.push(line.number, parsed);
        Ok(is_full)
    }

    /// What was asked, as far as it has come.
    pub(super) fn request_hash(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.hash.clone().finish())
    }
}
