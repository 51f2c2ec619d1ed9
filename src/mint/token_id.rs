//! Ids of tokens: 48 bits of milliseconds, 24 of the process, 56 random, in Crockford base32.
//!
//! They sort by time, and the bits of the process lead to the records of the node that issued.

use std::cell::RefCell;
use std::sync::LazyLock;

use ring::rand::{SecureRandom, SystemRandom};

use crate::model::time::Timestamp;

/// Crockford's digits: no I, L, O, U.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Random bytes of one id.
const RANDOM: usize = 7;
/// Ids that one call to the system's random source serves: a call costs more than an id.
const IDS_PER_DRAW: usize = 64;

/// Tells this run of the program from every other.
static PROCESS: LazyLock<Option<[u8; 3]>> = LazyLock::new(|| {
    let mut bytes = [0; 3];
    SystemRandom::new().fill(&mut bytes).ok().map(|()| bytes)
});

thread_local! {
    static DRAWN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The next id, or nothing if the system has no random bytes.
pub(super) fn next(now: Timestamp) -> Option<String> {
    let process = (*PROCESS)?;
    let random = draw()?;
    let millis = u128::try_from(now.as_millis()).unwrap_or(0) & 0xFFFF_FFFF_FFFF;
    let value = process.iter().chain(&random).fold(millis, |value, b| value << 8 | u128::from(*b));
    // 26 digits of five bits hold 128 bits with two to spare at the top
    let digit = |place: u32| DIGITS.get((value >> (place * 5) & 31) as usize).copied();
    (0..26).rev().map(|place| digit(place).map(char::from)).collect()
}

fn draw() -> Option<[u8; RANDOM]> {
    DRAWN.with_borrow_mut(|drawn| {
        if drawn.is_empty() {
            drawn.resize(RANDOM * IDS_PER_DRAW, 0);
            if SystemRandom::new().fill(drawn).is_err() {
                drawn.clear();
            }
        }
        let rest = drawn.len().checked_sub(RANDOM)?;
        drawn.split_off(rest).try_into().ok()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_sort_by_time_and_never_repeat() {
        let early = next(Timestamp::from_millis(1_000)).unwrap();
        let late = next(Timestamp::from_millis(2_000)).unwrap();
        assert!(early < late);
        assert_eq!(early.len(), 26);
        let many: HashSet<_> =
            (0..1_000_000).map(|_| next(Timestamp::from_millis(1_000)).unwrap()).collect();
        assert_eq!(many.len(), 1_000_000);
    }
}
