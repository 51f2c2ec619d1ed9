//! A Bloom filter over the API keys and addresses of a batch: what it says is not there, is not
//! there, so that a search opens few batches.

use std::net::IpAddr;

use crate::model::id::ApiKeyId;
use crate::model::ledger::Subject;

/// Bits for each subject: one look in 140 at a batch that it is not in finds it possible.
const BITS_PER_SUBJECT: usize = 10;
/// Bits that each subject sets.
const PROBES: u64 = 7;

/// The filter of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter(Vec<u8>);

/// A subject on its way into a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hash(u64);

impl Filter {
    /// A filter that was stored.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, for storing.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn of(subjects: &[Hash]) -> Self {
        let bytes = (subjects.len() * BITS_PER_SUBJECT).div_ceil(8).max(8);
        let mut filter = Self(vec![0; bytes]);
        for subject in subjects {
            for (byte, bit) in filter.places(*subject) {
                if let Some(byte) = filter.0.get_mut(byte) {
                    *byte |= bit;
                }
            }
        }
        filter
    }

    /// Whether a batch may hold facts about a subject. `false` is certain.
    pub fn may_hold(&self, subject: Subject) -> bool {
        let hash = match subject {
            Subject::ApiKey(api_key) => Hash::of_api_key(&api_key),
            Subject::Address(address) => Hash::of_address(address),
        };
        let is_set =
            |(byte, bit): (usize, u8)| self.0.get(byte).is_some_and(|byte| byte & bit != 0);
        self.places(hash).all(is_set)
    }

    /// The byte and the bit of each probe: two halves of one hash make as many as are needed.
    fn places(&self, Hash(hash): Hash) -> impl Iterator<Item = (usize, u8)> + use<> {
        let bits = (self.0.len() as u64 * 8).max(1);
        let step = (hash >> 32) | 1;
        (0..PROBES).map(move |probe| {
            let bit = hash.wrapping_add(probe.wrapping_mul(step)) % bits;
            (usize::try_from(bit / 8).unwrap_or(usize::MAX), 1 << (bit % 8))
        })
    }
}

impl Hash {
    pub(super) fn of_api_key(api_key: &ApiKeyId) -> Self {
        Self::of(b'k', api_key.characters().as_bytes())
    }

    pub(super) fn of_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::of(b'4', &address.octets()),
            IpAddr::V6(address) => Self::of(b'6', &address.octets()),
        }
    }

    /// FNV-1a, mixed at the end so that all bits depend on all bytes. Filters are stored, so this
    /// never changes.
    fn of(kind: u8, bytes: &[u8]) -> Self {
        let start = 0xCBF2_9CE4_8422_2325_u64;
        let hash = std::iter::once(&kind)
            .chain(bytes)
            .fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3));
        let hash = (hash ^ hash >> 33).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        let hash = (hash ^ hash >> 33).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
        Self(hash ^ hash >> 33)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api_key(number: u32) -> ApiKeyId {
        ApiKeyId::from_random([number.to_be_bytes(); 4].concat().try_into().unwrap())
    }

    #[test]
    fn what_a_filter_was_made_of_is_found_and_little_else() {
        for count in [1, 2, 64, 5_000] {
            let hashes: Vec<Hash> = (0..count).map(|n| Hash::of_api_key(&api_key(n))).collect();
            let filter = Filter::of(&hashes);
            assert!((0..count).all(|n| filter.may_hold(Subject::ApiKey(api_key(n)))));
            let false_alarms = (100_000..200_000)
                .filter(|number| filter.may_hold(Subject::ApiKey(api_key(*number))))
                .count();
            assert!(false_alarms < 1_500, "{count}: {false_alarms}");
        }
    }

    #[test]
    fn a_filter_that_was_stored_by_an_earlier_version_is_still_read() {
        let filter = Filter::of(&[
            Hash::of_api_key(&"key_0123456789abcdef".parse().unwrap()),
            Hash::of_address([192, 0, 2, 1].into()),
        ]);
        let stored = [36, 89, 18, 0, 7, 0, 192, 0];
        assert_eq!(filter.as_bytes(), stored, "stored filters would miss what is there");
    }

    #[test]
    fn an_address_is_found_in_each_spelling() {
        let filter = Filter::of(&[Hash::of_address("::ffff:192.0.2.1".parse().unwrap())]);
        assert!(filter.may_hold(Subject::Address([192, 0, 2, 1].into())));
        assert!(!filter.may_hold(Subject::Address([192, 0, 2, 2].into())));
        assert!(!Filter::default().may_hold(Subject::Address([192, 0, 2, 2].into())));
    }
}
