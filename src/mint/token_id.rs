//! Ids of tokens are drawn here: the random part of each.

use std::cell::RefCell;

use ring::rand::{SecureRandom, SystemRandom};

use crate::model::time::Timestamp;
use crate::model::token_id::{ChainId, TokenId};

/// Ids that one call to the system's random source serves: a call costs more than an id.
const IDS_PER_DRAW: usize = 64;

thread_local! {
    static DRAWN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The next id, or nothing if the system has no random bytes.
pub(super) fn next(now: Timestamp, chain: ChainId) -> Option<TokenId> {
    Some(TokenId::new(now, chain, draw()?))
}

fn draw() -> Option<[u8; TokenId::RANDOM]> {
    DRAWN.with_borrow_mut(|drawn| {
        if drawn.is_empty() {
            drawn.resize(TokenId::RANDOM * IDS_PER_DRAW, 0);
            if SystemRandom::new().fill(drawn).is_err() {
                drawn.clear();
            }
        }
        let random = *drawn.last_chunk()?;
        drawn.truncate(drawn.len() - TokenId::RANDOM);
        Some(random)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_never_repeat() {
        let next = || next(Timestamp::from_millis(1_000), ChainId::from_number(1)).unwrap();
        let many: HashSet<_> = (0..1_000_000).map(|_| next()).collect();
        assert_eq!(many.len(), 1_000_000);
    }
}
