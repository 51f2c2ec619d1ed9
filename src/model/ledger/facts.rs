//! How the facts of a batch are packed: what repeats is written once and then told by its number.
//!
//! A body is the chain of its ids (three bytes) and one fact behind the other: the moment as the
//! difference to the one before, the random part of the id, then API key, audiences, scope and
//! address, each `0`, a length and its bytes where it is new, or the number of an earlier one; the
//! lifetime. A new scope is `0`, how many parts it has, and these, each new or not: its actions and
//! the segments of its filters, most of which keys have in common. Numbers are LEB128.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::model::id::{ApiKeyId, AudienceId};
use crate::model::ledger::filter::{Filter, Hash};
use crate::model::ledger::{Batch, ChainValue, Fact, RecordedFact};
use crate::model::time::Timestamp;
use crate::model::token_id::{ChainId, TokenId};

/// Bytes of a scope at most: a token has room for far less. What is told by number can be long with little said.
const MAX_SCOPE: usize = 64 * 1024;

/// What was written in a batch already, of one kind.
type Written = HashMap<Box<[u8]>, u64>;

/// A batch that facts are put into.
#[derive(Debug)]
pub struct FactWriter {
    body: Vec<u8>,
    facts: u64,
    first_at: i64,
    last_at: i64,
    before: i64,
    api_keys: Written,
    audiences: Written,
    scopes: Written,
    scope_parts: Written,
    addresses: Written,
    subjects: Vec<Hash>,
}

impl FactWriter {
    /// How far the moments of a batch may be apart: a search that looks so far behind a moment
    /// finds it.
    pub const MAX_SPAN: Duration = Duration::from_secs(10);

    /// An empty batch of tokens whose ids say this chain.
    pub fn new(chain: ChainId) -> Self {
        let [_, chain @ ..] = chain.as_number().to_be_bytes();
        Self {
            body: chain.to_vec(),
            facts: 0,
            first_at: i64::MAX,
            last_at: i64::MIN,
            before: 0,
            api_keys: Written::new(),
            audiences: Written::new(),
            scopes: Written::new(),
            scope_parts: Written::new(),
            addresses: Written::new(),
            subjects: Vec::new(),
        }
    }

    /// How many facts it holds.
    pub fn len(&self) -> u64 {
        self.facts
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.facts == 0
    }

    /// The moment of the first one, whichever way a clock went.
    pub fn first_at(&self) -> Option<Timestamp> {
        (self.facts > 0).then(|| Timestamp::from_millis(self.first_at))
    }

    /// How far the moments would be apart with this one among them, whichever way a clock went.
    pub fn span_with(&self, at: Timestamp) -> Duration {
        let at = at.as_millis();
        let (first, last) = (self.first_at.min(at), self.last_at.max(at));
        Duration::from_millis(last.abs_diff(first))
    }

    /// Adds a fact.
    pub fn put(&mut self, fact: &Fact<'_>) {
        let at = fact.token_id.at().as_millis();
        put_number(&mut self.body, zigzag(at - self.before));
        self.body.extend_from_slice(&fact.token_id.random());
        let api_key = fact.api_key.characters().as_bytes();
        if put_text(&mut self.body, &mut self.api_keys, api_key) {
            self.subjects.push(Hash::of_api_key(&fact.api_key));
        }
        if let [audience] = fact.audiences {
            put_text(&mut self.body, &mut self.audiences, audience.characters().as_bytes());
        } else {
            let all: Vec<&str> = fact.audiences.iter().map(AudienceId::characters).collect();
            put_text(&mut self.body, &mut self.audiences, all.concat().as_bytes());
        }
        self.put_scope(fact.scope.as_bytes());
        self.put_address(fact.address);
        put_number(&mut self.body, fact.lifetime);
        self.before = at;
        self.first_at = self.first_at.min(at);
        self.last_at = self.last_at.max(at);
        self.facts += 1;
    }

    fn put_scope(&mut self, scope: &[u8]) {
        if !put_known(&mut self.body, &mut self.scopes, scope) {
            put_number(&mut self.body, parts_of(scope).count() as u64);
            for part in parts_of(scope) {
                put_text(&mut self.body, &mut self.scope_parts, part);
            }
        }
    }

    fn put_address(&mut self, address: Option<IpAddr>) {
        let is_new = match address.map(|address| address.to_canonical()) {
            None => put_text(&mut self.body, &mut self.addresses, b""),
            Some(IpAddr::V4(v4)) => put_text(&mut self.body, &mut self.addresses, &v4.octets()),
            Some(IpAddr::V6(v6)) => put_text(&mut self.body, &mut self.addresses, &v6.octets()),
        };
        if let Some(address) = address.filter(|_| is_new) {
            self.subjects.push(Hash::of_address(address));
        }
    }

    /// The batch, at its place and not yet sealed: its value is all zeros.
    pub fn into_batch(self, chain: ChainId, number: u64) -> Batch {
        Batch {
            chain,
            number,
            facts: self.facts,
            first_at: Timestamp::from_millis(self.first_at),
            last_at: Timestamp::from_millis(self.last_at),
            filter: Filter::of(&self.subjects),
            value: ChainValue::from_bytes([0; 32]),
            body: self.body,
        }
    }
}

/// Writes a text, or its number where it was written before. Says whether it is new.
fn put_text(body: &mut Vec<u8>, written: &mut Written, text: &[u8]) -> bool {
    let is_known = put_known(body, written, text);
    if !is_known {
        put_number(body, text.len() as u64);
        body.extend_from_slice(text);
    }
    !is_known
}

/// Writes the number of a text that was written before, or `0`, behind which it has to follow.
fn put_known(body: &mut Vec<u8>, written: &mut Written, text: &[u8]) -> bool {
    let number = written.get(text).copied();
    if number.is_none() {
        written.insert(text.into(), written.len() as u64 + 1);
    }
    put_number(body, number.unwrap_or(0));
    number.is_some()
}

/// The actions of a scope and the segments of its filters, each with what parts it from the next.
fn parts_of(scope: &[u8]) -> impl Iterator<Item = &[u8]> {
    scope.split_inclusive(|byte| matches!(byte, b':' | b'/' | b' '))
}

fn put_number(body: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return body.push(low & 0x7F);
        }
        body.push(low | 0x80);
    }
}

/// Small numbers stay small, whichever side of zero.
fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// A body that does not hold the facts it shall hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the facts of a batch cannot be read")
    }
}

impl std::error::Error for Malformed {}

/// The facts of a body.
pub(super) fn read(body: &[u8], facts: u64) -> Result<Vec<RecordedFact>, Malformed> {
    let ([a, b, c], rest) = body.split_first_chunk().ok_or(Malformed)?;
    let chain = ChainId::from_number(u32::from_be_bytes([0, *a, *b, *c]));
    let mut reader = Reader { rest, chain, before: 0, known: Known::default() };
    let mut read = Vec::new();
    for _ in 0..facts {
        read.push(reader.fact()?);
    }
    if reader.rest.is_empty() { Ok(read) } else { Err(Malformed) }
}

struct Reader<'b> {
    rest: &'b [u8],
    chain: ChainId,
    before: i64,
    known: Known<'b>,
}

/// What was read already, of each kind.
#[derive(Default)]
struct Known<'b> {
    api_keys: Vec<&'b [u8]>,
    audiences: Vec<&'b [u8]>,
    scopes: Vec<String>,
    scope_parts: Vec<&'b [u8]>,
    addresses: Vec<&'b [u8]>,
}

impl<'b> Reader<'b> {
    fn fact(&mut self) -> Result<RecordedFact, Malformed> {
        let at = self.before.checked_add(unzigzag(self.number()?)).ok_or(Malformed)?;
        self.before = at;
        let (random, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        let token_id = TokenId::new(Timestamp::from_millis(at), self.chain, *random);
        let api_key = self.text(|known| &mut known.api_keys)?;
        let audiences = self.text(|known| &mut known.audiences)?;
        let scope = self.scope()?;
        let address = self.text(|known| &mut known.addresses)?;
        Ok(RecordedFact {
            token_id,
            api_key: ApiKeyId::from_characters(api_key).ok_or(Malformed)?,
            audiences: read_audiences(audiences)?,
            scope,
            lifetime: self.number()?,
            address: read_address(address)?,
        })
    }

    fn scope(&mut self) -> Result<String, Malformed> {
        if let Some(place) = self.place()? {
            return self.known.scopes.get(place).cloned().ok_or(Malformed);
        }
        let mut scope = Vec::new();
        for _ in 0..self.number()? {
            scope.extend_from_slice(self.text(|known| &mut known.scope_parts)?);
            if scope.len() > MAX_SCOPE {
                return Err(Malformed);
            }
        }
        let scope = String::from_utf8(scope).map_err(|_| Malformed)?;
        self.known.scopes.push(scope.clone());
        Ok(scope)
    }

    fn text(
        &mut self,
        kind: impl for<'k> Fn(&'k mut Known<'b>) -> &'k mut Vec<&'b [u8]>,
    ) -> Result<&'b [u8], Malformed> {
        if let Some(place) = self.place()? {
            return kind(&mut self.known).get(place).copied().ok_or(Malformed);
        }
        let length = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        kind(&mut self.known).push(text);
        Ok(text)
    }

    /// Where among those of its kind something was read before; nothing where it follows.
    fn place(&mut self) -> Result<Option<usize>, Malformed> {
        let place = self.number()?.checked_sub(1).map(usize::try_from);
        place.transpose().map_err(|_| Malformed)
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(Malformed)?;
            self.rest = rest;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }
}

fn read_audiences(text: &[u8]) -> Result<Vec<AudienceId>, Malformed> {
    let (ids, []) = text.as_chunks::<16>() else { return Err(Malformed) };
    ids.iter().map(|id| AudienceId::from_characters(id).ok_or(Malformed)).collect()
}

fn read_address(octets: &[u8]) -> Result<Option<IpAddr>, Malformed> {
    if octets.is_empty() {
        return Ok(None);
    }
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| v6()).map(Some).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_fact() -> impl Strategy<Value = RecordedFact> {
        let address = prop_oneof![
            Just(None),
            (0..3_u8).prop_map(|last| Some(IpAddr::from([192, 0, 2, last]))),
            any::<[u8; 16]>().prop_map(|octets| Some(IpAddr::from(octets).to_canonical())),
        ];
        let audiences =
            prop::collection::vec((0..3_u8).prop_map(|n| AudienceId::from_random([n; 16])), 0..3);
        (
            0..1_i64 << 48,
            any::<[u8; 7]>(),
            0..4_u8,
            audiences,
            "[a-c:/ ]{0,20}",
            any::<u64>(),
            address,
        )
            .prop_map(|(millis, random, api_key, audiences, scope, lifetime, address)| {
                RecordedFact {
                    token_id: TokenId::new(
                        Timestamp::from_millis(millis),
                        ChainId::from_number(0x00AB_CDEF),
                        random,
                    ),
                    api_key: ApiKeyId::from_random([api_key; 16]),
                    audiences,
                    scope,
                    lifetime,
                    address,
                }
            })
    }

    fn batch_of(facts: &[RecordedFact]) -> Batch {
        let mut writer = FactWriter::new(ChainId::from_number(0x00AB_CDEF));
        for fact in facts {
            let RecordedFact { token_id, api_key, audiences, scope, lifetime, address } = fact;
            writer.put(&Fact {
                token_id: *token_id,
                api_key: *api_key,
                audiences,
                scope,
                lifetime: *lifetime,
                address: *address,
            });
        }
        writer.into_batch(ChainId::from_number(1), 1)
    }

    proptest! {
        #[test]
        fn facts_are_read_as_they_were_put(facts in prop::collection::vec(any_fact(), 1..40)) {
            let batch = batch_of(&facts);
            prop_assert_eq!(batch.facts(), Ok(facts.clone()));
            let moments = || facts.iter().map(|fact| fact.token_id.at());
            prop_assert_eq!((Some(batch.first_at), Some(batch.last_at)), (moments().min(), moments().max()));
            for fact in &facts {
                use crate::model::ledger::Subject;
                prop_assert!(batch.filter.may_hold(Subject::ApiKey(fact.api_key)));
                prop_assert!(fact.address.is_none_or(|address| batch.filter.may_hold(Subject::Address(address))));
            }
        }

        #[test]
        fn a_body_of_any_bytes_is_read_or_refused(body: Vec<u8>, facts in 0..5_u64) {
            let _ = read(&body, facts);
        }

        #[test]
        fn a_changed_count_is_refused(facts in prop::collection::vec(any_fact(), 1..4)) {
            let batch = batch_of(&facts);
            for count in [batch.facts - 1, batch.facts + 1, u64::MAX] {
                prop_assert_eq!(read(&batch.body, count), Err(Malformed));
            }
        }
    }

    #[test]
    fn the_span_of_a_batch_counts_what_came_before_its_first_fact_too() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        let mut writer = FactWriter::new(ChainId::from_number(1));
        assert_eq!(writer.span_with(at(50)), Duration::ZERO);
        for second in [100, 109] {
            writer.put(&Fact {
                token_id: TokenId::new(at(second), ChainId::from_number(1), [0; 7]),
                api_key: ApiKeyId::from_random([0; 16]),
                audiences: &[],
                scope: "",
                lifetime: 1,
                address: None,
            });
        }
        for (second, span) in [(104, 9), (91, 18), (120, 20)] {
            assert_eq!(writer.span_with(at(second)), Duration::from_secs(span), "{second}");
        }
    }

    /// Bytes of a row beside body and filter: six numbers and a seal, and its place in an index.
    const BYTES_OF_ROW: usize = 120;

    /// What a token takes where 32 are recorded together, each of a key of its own.
    fn bytes_a_token(scope_of: impl Fn(u8) -> String) -> usize {
        let facts: Vec<RecordedFact> = (0..32_u8)
            .map(|number| RecordedFact {
                token_id: TokenId::new(
                    Timestamp::from_millis(1_800_000_000_000 + i64::from(number)),
                    ChainId::from_number(0x00AB_CDEF),
                    [number; 7],
                ),
                api_key: ApiKeyId::from_random([number; 16]),
                audiences: vec![AudienceId::from_random([7; 16])],
                scope: scope_of(number),
                lifetime: 600,
                address: Some([192, 0, 2, number].into()),
            })
            .collect();
        let batch = batch_of(&facts);
        (batch.body.len() + batch.filter.as_bytes().len() + BYTES_OF_ROW) / 32
    }

    #[test]
    fn thirty_two_facts_of_as_many_keys_take_less_than_a_hundred_bytes_each() {
        let one = bytes_a_token(|number| format!("read:projects/p{number}/*"));
        let three = bytes_a_token(|number| {
            let tenant = format!("tenants/acme-{number}/projects");
            format!("read:{tenant}/* write:{tenant}/reports/* admin:{tenant}")
        });
        assert!(one < 60 && three < 75, "{one} bytes with one scope, {three} with three");
    }

    #[test]
    fn a_body_that_says_little_and_means_much_is_not_unpacked() {
        let mut body = vec![0; 3];
        // a moment and the random part of an id, an API key, no audience
        body.extend([0; 8]);
        body.extend([0, 16]);
        body.extend([b'a'; 16]);
        body.extend([0, 0]);
        let (parts, long) = (MAX_SCOPE as u64, [b'a'; 100]);
        put_number(&mut body, 0);
        put_number(&mut body, parts);
        let mut written = Written::new();
        for _ in 0..parts {
            put_text(&mut body, &mut written, &long);
        }
        // no address, no lifetime
        body.extend([0, 0, 0]);
        assert_eq!(read(&body, 1), Err(Malformed));
    }
}
