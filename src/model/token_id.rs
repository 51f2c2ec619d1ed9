//! Ids of tokens (`jti`): 48 bits of milliseconds, 24 of the chain, 56 random, in Crockford base32.
//!
//! They sort by time, and the bits of the chain lead to the records of the node that issued.

use std::fmt;
use std::str::FromStr;

use crate::model::short_text::ShortText;
use crate::model::time::Timestamp;

/// Crockford's digits: no I, L, O, U.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Digits of an id: 26 of five bits hold 128 bits, with two to spare at the top.
const LENGTH: usize = 26;
/// Bits of the moment.
const MOMENT: u128 = 0xFFFF_FFFF_FFFF;
/// Bits of a chain.
const CHAIN: u32 = 0xFF_FFFF;

/// A chain of the ledger: one run of the program. It has 24 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(u32);

impl ChainId {
    /// A chain of random bytes.
    pub fn from_random([a, b, c]: [u8; 3]) -> Self {
        Self(u32::from_be_bytes([0, a, b, c]))
    }

    /// A chain by its number, the bits above 24 left out.
    pub const fn from_number(number: u32) -> Self {
        Self(number & CHAIN)
    }

    /// Its number.
    pub const fn as_number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

impl FromStr for ChainId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = Some(text).filter(|text| text.len() == 6);
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        number.map(Self).ok_or("a chain is six hexadecimal digits")
    }
}

/// The id of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(u128);

impl TokenId {
    /// Random bytes of an id.
    pub const RANDOM: usize = 7;

    /// The id of a token of this moment and chain. A moment before 1970 counts as 1970.
    pub fn new(at: Timestamp, chain: ChainId, random: [u8; Self::RANDOM]) -> Self {
        let moment = u128::try_from(at.as_millis()).unwrap_or(0) & MOMENT;
        let head = moment << 24 | u128::from(chain.0);
        Self(random.iter().fold(head, |id, byte| id << 8 | u128::from(*byte)))
    }

    /// When it was issued.
    pub fn at(self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.0 >> 80).unwrap_or(0))
    }

    /// The chain of the node that issued it.
    pub fn chain(self) -> ChainId {
        ChainId::from_number(u32::try_from(self.0 >> 56 & u128::from(CHAIN)).unwrap_or(0))
    }

    /// What tells it from others of its moment.
    pub fn random(self) -> [u8; Self::RANDOM] {
        let bytes = self.0.to_be_bytes();
        bytes.last_chunk().copied().unwrap_or_default()
    }

    /// The id as it is written.
    pub fn text(self) -> ShortText<LENGTH> {
        let (mut text, mut rest) = ([b'0'; LENGTH], self.0);
        // twelve digits are 60 bits: shifting a word is far cheaper than shifting all
        for digits in text.rchunks_mut(12) {
            let mut bits = u64::try_from(rest & ((1 << 60) - 1)).unwrap_or(0);
            rest >>= 60;
            for digit in digits.iter_mut().rev() {
                *digit = DIGITS.get((bits & 31) as usize).copied().unwrap_or(b'0');
                bits >>= 5;
            }
        }
        ShortText::of(text)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// A text that is no id of a token of tenmint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidTokenId;

impl fmt::Display for InvalidTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a `jti` of tenmint is 26 of the characters 0-9 and A-Z without I, L, O and U")
    }
}

impl std::error::Error for InvalidTokenId {}

impl FromStr for TokenId {
    type Err = InvalidTokenId;

    fn from_str(text: &str) -> Result<Self, InvalidTokenId> {
        // the first digit has three bits
        if text.len() != LENGTH || !matches!(text.as_bytes().first(), Some(b'0'..=b'7')) {
            return Err(InvalidTokenId);
        }
        text.bytes().try_fold(Self(0), |Self(id), byte| {
            let digit = DIGITS.iter().position(|digit| *digit == byte).ok_or(InvalidTokenId)?;
            Ok(Self(id << 5 | digit as u128))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_tells_what_it_was_made_of(
            millis in 0..1_i64 << 48,
            chain in 0..1_u32 << 24,
            random: [u8; 7],
        ) {
            let (at, chain) = (Timestamp::from_millis(millis), ChainId::from_number(chain));
            let id: TokenId = TokenId::new(at, chain, random).to_string().parse().unwrap();
            prop_assert_eq!((id.at(), id.chain(), id.random()), (at, chain, random));
            prop_assert_eq!(chain.to_string().parse(), Ok(chain));
        }
    }

    #[test]
    fn ids_sort_by_time_as_texts_too() {
        let id = |millis, chain, random| {
            let chain = ChainId::from_number(chain);
            TokenId::new(Timestamp::from_millis(millis), chain, [random; 7]).to_string()
        };
        assert!(id(1_000, 9, 255) < id(1_001, 0, 0));
        assert!(id(1_000, 1, 255) < id(1_000, 2, 0));
        assert_eq!(id(-5, 1, 1), id(0, 1, 1));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let id =
            TokenId::new(Timestamp::from_millis(1), ChainId::from_number(1), [1; 7]).to_string();
        for text in ["", "0", &id[1..], &format!("{id}0"), &id.replace('0', "o"), &"Z".repeat(26)] {
            assert!(text.parse::<TokenId>().is_err(), "{text}");
        }
        for text in ["", "00000", "0000001", "00000g"] {
            assert!(text.parse::<ChainId>().is_err(), "{text}");
        }
    }
}
