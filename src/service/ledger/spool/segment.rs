//! One file of a spool.

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::model::ledger::Batch;
use crate::store::{create_private_directory, private_file};

/// Bytes of a batch at most: the most facts, all of them long.
const MAX_BATCH_BYTES: u64 = 512 << 20;
/// Batches and bytes that are read at once.
const READ_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: u64 = 8 << 20;
/// The ending of what could not be read.
const UNREAD: &str = "unread";

/// A file of batches, locked as long as its node runs.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    /// Bytes of whole batches.
    length: u64,
    /// Bytes of batches that the database has.
    done: u64,
    /// Batches that it does not have.
    batches: u64,
}

impl Segment {
    pub(super) fn create(path: PathBuf) -> Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("."));
        create_private_directory(directory).map_err(std::io::Error::other)?;
        let file = private_file().read(true).open(&path)?;
        file.lock().inspect_err(|_| drop(std::fs::remove_file(&path)))?;
        // a name that is lost in a crash is a file that is lost
        File::open(directory)?.sync_all()?;
        Ok(Self { path, file, length: 0, done: 0, batches: 0 })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn waiting(&self) -> u64 {
        self.length.saturating_sub(self.done)
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.length + bytes.len() as u64;
        // what an earlier try wrote by half is written over
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(bytes)?;
        self.file.set_len(end)?;
        self.file.sync_data()?;
        self.length = end;
        self.batches += 1;
        Ok(())
    }

    /// The next batches that the database does not have, and how many bytes they take. None of what waits
    /// where the next cannot be read.
    pub(super) fn next(&mut self) -> Result<(Vec<Batch>, u64)> {
        let (batches, end) = read_some(&mut self.file, self.done, self.length)?;
        Ok((batches, end - self.done))
    }

    pub(super) fn advance(&mut self, bytes: u64, batches: u64) {
        self.done += bytes;
        self.batches = self.batches.saturating_sub(batches);
    }

    /// Batches that the database does not have.
    pub(super) fn batches(&self) -> u64 {
        self.batches
    }

    /// Keeps what cannot be read in a file of its own.
    pub(super) fn set_rest_aside(&mut self) -> Result<()> {
        set_rest_aside(&mut self.file, (self.done, self.length), &self.path)
    }

    pub(super) fn delete(self) -> Result<()> {
        std::fs::remove_file(self.path)
    }

    #[cfg(test)]
    pub(super) fn pretend(&mut self, length: u64) {
        self.length = length;
    }
}

/// Some batches between two places of a file, up to one that cannot be read, and the place behind them. What
/// lies behind the second place may be on the disk and was not answered for: it is written again.
pub(super) fn read_some(file: &mut File, from: u64, to: u64) -> Result<(Vec<Batch>, u64)> {
    let (mut batches, mut at) = (Vec::new(), from);
    while batches.len() < READ_AT_ONCE && at - from < BYTES_AT_ONCE {
        let Some((batch, next)) = read_batch(file, at)?.filter(|(_, next)| *next <= to) else {
            break;
        };
        batches.push(batch);
        at = next;
    }
    Ok((batches, at))
}

/// Keeps what stands between two places of a file, behind the last batch that can be read. Most likely a crash tore
/// a write there, whose tokens never left; but it may be damage, with more batches behind it.
pub(super) fn set_rest_aside(file: &mut File, (from, to): (u64, u64), path: &Path) -> Result<()> {
    let bytes = to.saturating_sub(from);
    if bytes == 0 {
        return Ok(());
    }
    let aside = path.with_extension(UNREAD);
    file.seek(SeekFrom::Start(from))?;
    let mut kept = private_file().truncate(true).open(&aside)?;
    std::io::copy(&mut file.take(bytes), &mut kept)?;
    kept.sync_all()?;
    let path = aside.display();
    tracing::error!(bytes, %path, "the end of a spool cannot be read: it is kept in a file");
    Ok(())
}

/// The batch at a place of a file, and the place behind it.
fn read_batch(file: &mut File, at: u64) -> Result<Option<(Batch, u64)>> {
    file.seek(SeekFrom::Start(at))?;
    let mut head = [0; 8];
    if file.take(8).read(&mut head)? < head.len() {
        return Ok(None);
    }
    let [a, b, c, d, ..] = head;
    let length = u64::from(u32::from_be_bytes([a, b, c, d]));
    if length > MAX_BATCH_BYTES {
        return Ok(None);
    }
    let mut bytes = head.to_vec();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(Batch::from_spooled(&bytes).map(|(batch, read)| (batch, at + read as u64)))
}
