//! What a data directory knows of the last chain that was begun there: its id, and where it was seen to end. Whoever
//! can write to the database alone cannot change this, so a ledger whose end was cut off is found out by it.

use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};
use crate::model::ledger::Head;
use crate::model::token_id::ChainId;

const FILE: &str = "ledger.chain";

/// The last chain of a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastChain {
    /// The chain.
    pub chain: ChainId,
    /// Where it was last seen to end in the database; before that, where the one before it did.
    pub seen: Option<Head>,
}

impl LastChain {
    /// What a directory knows; nothing where none was begun there.
    ///
    /// # Errors
    /// [`Error::Setup`] where the file is there and cannot be read.
    pub fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(cause) => {
                let path = path.display();
                Err(Error::Setup(format!("the file `{path}` cannot be read: {cause}")))
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let chain = lines.next()?.trim().parse().ok()?;
        Some(Self { chain, seen: lines.next().and_then(|line| line.parse().ok()) })
    }

    /// Notes where the chain of a node has come to, unless another run has begun one there since.
    pub(super) fn note_end(directory: &Path, seen: Head) -> Result<()> {
        let is_last = Self::read(directory)?.is_some_and(|last| last.chain == seen.chain);
        let noted = Self { chain: seen.chain, seen: Some(seen) };
        if is_last { noted.write(directory) } else { Ok(()) }
    }

    /// Written beside its place and moved there, so that it is whole whatever happens.
    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(FILE);
        let fresh = path.with_extension(format!("chain.{}", self.chain));
        let written = || {
            let mut file = std::fs::File::create(&fresh)?;
            writeln!(file, "{}", self.chain)?;
            if let Some(head) = self.seen {
                writeln!(file, "{head}")?;
            }
            file.sync_all()?;
            std::fs::rename(&fresh, &path)?;
            std::fs::File::open(directory)?.sync_all()
        };
        written().map_err(|cause| {
            Error::Setup(format!("the file `{}` cannot be written: {cause}", path.display()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ledger::ChainValue;

    #[test]
    fn what_is_written_is_read_and_what_is_not_there_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(LastChain::read(directory.path()).unwrap(), None);
        let chain = ChainId::from_number(7);
        let head = Head { chain, number: 12, value: ChainValue::from_bytes([3; 32]) };
        for seen in [None, Some(head)] {
            let last = LastChain { chain, seen };
            last.write(directory.path()).unwrap();
            assert_eq!(LastChain::read(directory.path()).unwrap(), Some(last));
        }
    }

    #[test]
    fn a_run_that_ends_takes_nothing_from_the_one_that_has_begun() {
        let directory = tempfile::tempdir().unwrap();
        let next = LastChain { chain: ChainId::from_number(8), seen: None };
        next.write(directory.path()).unwrap();
        let chain = ChainId::from_number(7);
        let head = Head { chain, number: 12, value: ChainValue::from_bytes([3; 32]) };
        LastChain::note_end(directory.path(), head).unwrap();
        assert_eq!(LastChain::read(directory.path()).unwrap(), Some(next));
        let head = Head { chain: next.chain, ..head };
        LastChain::note_end(directory.path(), head).unwrap();
        assert_eq!(LastChain::read(directory.path()).unwrap().unwrap().seen, Some(head));
    }
}
