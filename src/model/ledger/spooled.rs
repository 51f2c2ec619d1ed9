//! A batch in a file, on its way to a database that is out of reach: a length, a checksum, and the
//! batch. What was written by half when the machine stopped is known by that.

use crate::model::ledger::{Batch, ChainValue, Filter};
use crate::model::time::Timestamp;
use crate::model::token_id::ChainId;

/// Bytes before a batch: its length and its CRC-32.
const HEAD: usize = 8;

impl Batch {
    /// The bytes of this batch in a file.
    pub fn to_spooled(&self) -> Vec<u8> {
        let mut batch = self.chain.as_number().to_be_bytes().to_vec();
        for number in [self.number, self.facts] {
            batch.extend_from_slice(&number.to_be_bytes());
        }
        for moment in [self.first_at, self.last_at] {
            batch.extend_from_slice(&moment.as_millis().to_be_bytes());
        }
        batch.extend_from_slice(self.value.as_bytes());
        let filter = self.filter.as_bytes();
        batch.extend_from_slice(&(filter.len() as u64).to_be_bytes());
        batch.extend_from_slice(filter);
        batch.extend_from_slice(&self.body);
        let length = u32::try_from(batch.len()).unwrap_or(u32::MAX).to_be_bytes();
        [length.as_slice(), &crc32fast::hash(&batch).to_be_bytes(), &batch].concat()
    }

    /// The batch at the start of these bytes and how many are its; nothing where it is not whole.
    pub fn from_spooled(bytes: &[u8]) -> Option<(Self, usize)> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (checksum, rest) = rest.split_first_chunk()?;
        let batch = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        if crc32fast::hash(batch) != u32::from_be_bytes(*checksum) {
            return None;
        }
        Some((parse(batch)?, HEAD + batch.len()))
    }
}

fn parse(bytes: &[u8]) -> Option<Batch> {
    let (chain, rest) = bytes.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (facts, rest) = rest.split_first_chunk()?;
    let (first_at, rest) = rest.split_first_chunk()?;
    let (last_at, rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
    let (filter, body) = rest.split_at_checked(length)?;
    let moment = |bytes: &[u8; 8]| Timestamp::from_millis(i64::from_be_bytes(*bytes));
    Some(Batch {
        chain: ChainId::from_number(u32::from_be_bytes(*chain)),
        number: u64::from_be_bytes(*number),
        facts: u64::from_be_bytes(*facts),
        first_at: moment(first_at),
        last_at: moment(last_at),
        value: ChainValue::from_bytes(*value),
        filter: Filter::from_bytes(filter.to_vec()),
        body: body.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(body: &[u8]) -> Batch {
        Batch {
            chain: ChainId::from_number(7),
            number: 3,
            facts: 2,
            first_at: Timestamp::from_millis(1),
            last_at: Timestamp::from_millis(2),
            filter: Filter::from_bytes(vec![9, 8]),
            value: ChainValue::from_bytes([5; 32]),
            body: body.to_vec(),
        }
    }

    #[test]
    fn batches_are_read_one_behind_the_other_as_they_were_written() {
        let (first, second) = (batch(b"one"), batch(b""));
        let bytes = [first.to_spooled(), second.to_spooled()].concat();
        let (read, length) = Batch::from_spooled(&bytes).unwrap();
        assert_eq!(read, first);
        assert_eq!(Batch::from_spooled(&bytes[length..]), Some((second, bytes.len() - length)));
    }

    #[test]
    fn a_batch_that_was_written_by_half_or_changed_is_none() {
        let bytes = batch(b"body").to_spooled();
        for end in 0..bytes.len() {
            assert!(Batch::from_spooled(&bytes[..end]).is_none(), "{end}");
            let mut changed = bytes.clone();
            changed[end] ^= 1;
            assert!(Batch::from_spooled(&changed).is_none(), "{end}");
        }
    }
}
