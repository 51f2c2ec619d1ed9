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
    /// Where it was seen to end in the database, if it has a batch.
    pub head: Option<Head>,
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
        Some(Self { chain, head: lines.next().and_then(|line| line.parse().ok()) })
    }

    /// Written beside its place and moved there, so that it is whole whatever happens.
    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(FILE);
        let fresh = path.with_extension(format!("chain.{}", std::process::id()));
        let written = || {
            let mut file = std::fs::File::create(&fresh)?;
            writeln!(file, "{}", self.chain)?;
            if let Some(head) = self.head {
                writeln!(file, "{head}")?;
            }
            file.sync_all()?;
            std::fs::rename(&fresh, &path)
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
        for head in [None, Some(head)] {
            let last = LastChain { chain, head };
            last.write(directory.path()).unwrap();
            assert_eq!(LastChain::read(directory.path()).unwrap(), Some(last));
        }
    }
}
