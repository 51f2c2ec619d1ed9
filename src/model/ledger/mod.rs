//! The ledger: every token that was issued, as a fact in a batch of a chain.
//!
//! Facts that wait together are one [`Batch`]: one row, sealed by a keyed hash over itself and the
//! batch before it, so that none can be changed or taken out unseen. The mint seals, the service
//! records, and whoever searches or verifies reads batches back.

mod facts;
mod filter;
mod spooled;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ring::hmac;

pub use facts::{FactWriter, Malformed};
pub use filter::Filter;

use crate::model::id::{ApiKeyId, AudienceId};
use crate::model::time::Timestamp;
use crate::model::token_id::{ChainId, TokenId};

/// How surely a token is on record when it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LedgerMode {
    /// Its fact is durable before the answer leaves.
    #[default]
    Durable,
    /// Its fact is recorded soon after; one that a crash comes before is lost.
    Buffered,
    /// Nothing is recorded.
    Off,
}

impl FromStr for LedgerMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "durable" => Ok(Self::Durable),
            "buffered" => Ok(Self::Buffered),
            "off" => Ok(Self::Off),
            _ => Err("write `durable`, `buffered` or `off`"),
        }
    }
}

/// That a token was issued.
#[derive(Debug, Clone, Copy)]
pub struct Fact<'a> {
    /// Its `jti`, and with it when.
    pub token_id: TokenId,
    /// To which API key.
    pub api_key: ApiKeyId,
    /// For which audiences.
    pub audiences: &'a [AudienceId],
    /// With which `scope`.
    pub scope: &'a str,
    /// The seconds it lives.
    pub lifetime: u64,
    /// The address it was fetched from, where that is known.
    pub address: Option<IpAddr>,
}

/// A fact as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedFact {
    /// Its `jti`, and with it when.
    pub token_id: TokenId,
    /// To which API key.
    pub api_key: ApiKeyId,
    /// For which audiences.
    pub audiences: Vec<AudienceId>,
    /// With which `scope`.
    pub scope: String,
    /// The seconds it lives.
    pub lifetime: u64,
    /// The address it was fetched from, where that is known.
    pub address: Option<IpAddr>,
}

/// What a search looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Tokens of this API key.
    ApiKey(ApiKeyId),
    /// Tokens that were fetched from this address.
    Address(IpAddr),
}

impl Subject {
    /// Whether a fact is about it.
    pub fn is_of(self, fact: &RecordedFact) -> bool {
        match self {
            Self::ApiKey(api_key) => fact.api_key == api_key,
            Self::Address(address) => fact.address == Some(address.to_canonical()),
        }
    }
}

/// The value of a batch: the keyed hash over it and the value of the batch before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChainValue([u8; 32]);

impl ChainValue {
    /// A value that was stored.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for storing.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ChainValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ChainValue {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "the value of a batch is 64 hexadecimal digits";
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong);
        }
        for (place, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(place * 2..place * 2 + 2).ok_or(wrong)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong)?;
        }
        Ok(Self(bytes))
    }
}

/// A batch of a chain by its number and value: where a chain ended at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The chain.
    pub chain: ChainId,
    /// The number of the batch, from 1.
    pub number: u64,
    /// Its value.
    pub value: ChainValue,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chain, number, value } = self;
        write!(f, "{chain}:{number}:{value}")
    }
}

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            "a head is written `CHAIN:NUMBER:VALUE`, as the log and `ledger verify` show it";
        let (chain, rest) = text.split_once(':').ok_or(wrong)?;
        let (number, value) = rest.split_once(':').ok_or(wrong)?;
        let number = number.parse().map_err(|_| wrong)?;
        Ok(Self { chain: chain.parse()?, number, value: value.parse()? })
    }
}

/// A chain, as it was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Its id.
    pub id: ChainId,
    /// When it began.
    pub started_at: Timestamp,
    /// Where the chain before it in the same data directory had ended, if there was one.
    pub previous: Option<Head>,
}

/// Facts that are recorded together. What is sealed is not changed any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The chain.
    pub chain: ChainId,
    /// Its place there, from 1.
    pub number: u64,
    /// How many facts it holds.
    pub facts: u64,
    /// The moment of the first.
    pub first_at: Timestamp,
    /// The moment of the last.
    pub last_at: Timestamp,
    /// Which API keys and addresses are not in it.
    pub filter: Filter,
    /// The keyed hash over all of this and the value before.
    pub value: ChainValue,
    /// The facts, packed.
    pub body: Vec<u8>,
}

impl Batch {
    /// The facts, in the order in which they were issued.
    ///
    /// # Errors
    /// [`Malformed`] where the body was changed.
    pub fn facts(&self) -> Result<Vec<RecordedFact>, Malformed> {
        facts::read(&self.body, self.facts)
    }

    /// Where the chain ends with this batch.
    pub fn head(&self) -> Head {
        Head { chain: self.chain, number: self.number, value: self.value }
    }
}

/// What seals the batches of one chain, one after the other.
#[derive(Debug)]
pub struct Sealer {
    key: LedgerKey,
    chain: ChainId,
    number: u64,
    value: ChainValue,
}

impl Sealer {
    /// A sealer for a chain that has no batch yet.
    pub fn new(key: LedgerKey, chain: &Chain) -> Self {
        Self { chain: chain.id, number: 0, value: key.beginning_of(chain), key }
    }

    /// The next batch.
    pub fn seal(&mut self, facts: FactWriter) -> Batch {
        let mut batch = facts.into_batch(self.chain, self.number);
        self.add(&mut batch);
        batch
    }

    /// Makes the last batch the first one of another chain, whose batches are sealed from now on.
    pub fn begin_anew(&mut self, batch: &mut Batch, chain: &Chain) {
        *self = Self::new(self.key.clone(), chain);
        self.add(batch);
    }

    /// Gives a batch the place behind the last one, and its seal.
    fn add(&mut self, batch: &mut Batch) {
        self.number += 1;
        (batch.chain, batch.number) = (self.chain, self.number);
        self.value = self.key.value_of(self.value, batch);
        batch.value = self.value;
    }

    /// Where the chain ends, if it has a batch.
    pub fn head(&self) -> Option<Head> {
        let Self { chain, number, value, .. } = *self;
        (number > 0).then_some(Head { chain, number, value })
    }
}

/// That batches were dropped because they had grown old: all of a chain up to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruning {
    /// The last batch that was dropped.
    pub head: Head,
    /// How many facts were dropped, since the chain began.
    pub facts: u64,
    /// When the last of them were.
    pub pruned_at: Timestamp,
}

/// What seals the ledger: derived from the pepper, so that it outlives the master key.
#[derive(Clone)]
pub struct LedgerKey(hmac::Key);

impl LedgerKey {
    /// A key of these bytes.
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// The value that the first batch of a chain is sealed over.
    pub fn beginning_of(&self, chain: &Chain) -> ChainValue {
        let mut all = hmac::Context::with_key(&self.0);
        all.update(b"beginning");
        all.update(&chain.id.as_number().to_be_bytes());
        all.update(&chain.started_at.as_millis().to_be_bytes());
        if let Some(previous) = &chain.previous {
            add_head(&mut all, previous);
        }
        value_of(all)
    }

    /// The value of a batch that follows one of this value.
    pub fn value_of(&self, previous: ChainValue, batch: &Batch) -> ChainValue {
        let mut all = hmac::Context::with_key(&self.0);
        all.update(b"batch");
        all.update(&previous.0);
        all.update(&batch.chain.as_number().to_be_bytes());
        for number in [batch.number, batch.facts, batch.filter.as_bytes().len() as u64] {
            all.update(&number.to_be_bytes());
        }
        for moment in [batch.first_at, batch.last_at] {
            all.update(&moment.as_millis().to_be_bytes());
        }
        all.update(batch.filter.as_bytes());
        all.update(&batch.body);
        value_of(all)
    }

    /// The value of a record that batches were dropped.
    pub fn value_of_pruning(&self, pruning: &Pruning) -> ChainValue {
        let mut all = hmac::Context::with_key(&self.0);
        all.update(b"pruning");
        add_head(&mut all, &pruning.head);
        all.update(&pruning.facts.to_be_bytes());
        all.update(&pruning.pruned_at.as_millis().to_be_bytes());
        value_of(all)
    }
}

fn add_head(all: &mut hmac::Context, head: &Head) {
    all.update(&head.chain.as_number().to_be_bytes());
    all.update(&head.number.to_be_bytes());
    all.update(&head.value.0);
}

fn value_of(all: hmac::Context) -> ChainValue {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(all.sign().as_ref());
    ChainValue(bytes)
}

impl fmt::Debug for LedgerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LedgerKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let token_id = TokenId::new(Timestamp::from_millis(5), ChainId::from_number(7), [3; 7]);
        let mut facts = FactWriter::new(ChainId::from_number(7));
        facts.put(&Fact {
            token_id,
            api_key: ApiKeyId::from_random([1; 16]),
            audiences: &[AudienceId::MANAGEMENT],
            scope: "read:a",
            lifetime: 600,
            address: Some([192, 0, 2, 1].into()),
        });
        facts.into_batch(ChainId::from_number(7), 1)
    }

    #[test]
    fn whatever_is_changed_about_a_batch_changes_its_value() {
        let key = LedgerKey::new(&[1; 32]);
        let previous = ChainValue::from_bytes([0; 32]);
        let value = key.value_of(previous, &batch());
        let moment = Timestamp::from_millis(6);
        let changed: [fn(&mut Batch); 6] = [
            |batch| batch.chain = ChainId::from_number(8),
            |batch| batch.number = 2,
            |batch| batch.facts = 2,
            |batch| batch.filter = Filter::from_bytes(vec![0]),
            |batch| batch.body.push(0),
            |batch| batch.body[3] ^= 1,
        ];
        for change in changed {
            let mut batch = batch();
            change(&mut batch);
            assert_ne!(key.value_of(previous, &batch), value);
        }
        for batch in [Batch { first_at: moment, ..batch() }, Batch { last_at: moment, ..batch() }] {
            assert_ne!(key.value_of(previous, &batch), value);
        }
        assert_ne!(key.value_of(value, &batch()), value);
        assert_ne!(LedgerKey::new(&[2; 32]).value_of(previous, &batch()), value);
    }

    #[test]
    fn a_head_prints_and_parses_back() {
        let head = batch().head();
        assert_eq!(head.to_string().parse(), Ok(head));
        for text in ["", "000001", "000001:1", "000001:x:00", "1:1:00", &format!("{head}0")] {
            assert!(text.parse::<Head>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_chain_begins_with_where_the_one_before_it_ended() {
        let key = LedgerKey::new(&[1; 32]);
        let chain = Chain {
            id: ChainId::from_number(1),
            started_at: Timestamp::from_millis(1),
            previous: Some(batch().head()),
        };
        let values = [
            chain,
            Chain { previous: None, ..chain },
            Chain { id: ChainId::from_number(2), ..chain },
            Chain { started_at: Timestamp::from_millis(2), ..chain },
        ]
        .map(|chain| *key.beginning_of(&chain).as_bytes());
        let distinct: std::collections::HashSet<_> = values.into_iter().collect();
        assert_eq!(distinct.len(), 4);
    }
}
