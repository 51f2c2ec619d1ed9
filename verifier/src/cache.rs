//! Tokens that were verified before: a second sight costs no signature.
//!
//! An entry is found by a keyed hash and compared whole, so that no token ever stands for another. It
//! holds what was checked and under which keys and revocations: other keys make it a first sight
//! again, other revocations are looked at anew. What depends on the moment is checked each time by
//! whoever asks.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::claims::Claims;
use crate::jwks::JwkSet;
use crate::revocations::Revocations;

/// Parts with a lock each, so that cores seldom wait for one another.
const SHARDS: usize = 16;

/// Tokens that a verifier remembers unless it is told otherwise: 2 KB each, or so.
pub(crate) const CACHED_TOKENS: usize = 10_000;

/// Verified tokens.
pub(crate) struct TokenCache {
    hasher: RandomState,
    shards: Box<[Mutex<HashMap<u64, Entry>>]>,
    tokens: usize,
    /// Entries of a shard at most.
    most: usize,
}

/// A token that was verified.
#[derive(Clone)]
pub(crate) struct Verified {
    pub(crate) claims: Arc<Claims>,
    /// The key that signed it.
    pub(crate) kid: Arc<str>,
}

struct Entry {
    token: Box<str>,
    verified: Verified,
    // weak: a cached token must not keep every feed that was ever heard in memory
    keys: Weak<JwkSet>,
    revocations: Option<Weak<Revocations>>,
}

/// What a token is checked against. Two that are the same are the same allocation.
#[derive(Clone, Copy)]
pub(crate) struct Snapshot<'s> {
    pub(crate) keys: &'s Arc<JwkSet>,
    pub(crate) revocations: Option<&'s Arc<Revocations>>,
}

/// What is known of a token.
pub(crate) enum Known {
    /// Nothing that still holds.
    Nothing,
    /// It was verified under these keys and revocations.
    Verified(Arc<Claims>),
    /// It was verified under these keys, and other revocations.
    BeforeRevocations(Verified),
}

impl TokenCache {
    pub(crate) fn new(tokens: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { hasher: RandomState::new(), shards, tokens, most: tokens.div_ceil(SHARDS) }
    }

    /// An empty one of the same size.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.tokens)
    }

    pub(crate) fn find(&self, token: &str, now: Snapshot<'_>) -> Known {
        let hash = self.hash(token);
        let shard = self.shard(hash);
        let Some(entry) = shard.get(&hash).filter(|entry| *entry.token == *token) else {
            return Known::Nothing;
        };
        if !is_that(&entry.keys, now.keys) {
            return Known::Nothing;
        }
        let is_same = match (&entry.revocations, now.revocations) {
            (Some(then), Some(now)) => is_that(then, now),
            (None, None) => true,
            _ => false,
        };
        if is_same {
            return Known::Verified(Arc::clone(&entry.verified.claims));
        }
        Known::BeforeRevocations(entry.verified.clone())
    }

    /// Remembers a token, in place of some other one where there are too many.
    pub(crate) fn keep(&self, token: &str, verified: Verified, under: Snapshot<'_>) {
        if self.most == 0 {
            return;
        }
        let hash = self.hash(token);
        let mut shard = self.shard(hash);
        make_room(&mut shard, (&hash, self.most), |entry| entry.verified.claims.exp);
        let entry = Entry {
            token: token.into(),
            verified,
            keys: Arc::downgrade(under.keys),
            revocations: under.revocations.map(Arc::downgrade),
        };
        shard.insert(hash, entry);
    }

    pub(crate) fn forget(&self, token: &str) {
        let hash = self.hash(token);
        let mut shard = self.shard(hash);
        if shard.get(&hash).is_some_and(|entry| *entry.token == *token) {
            shard.remove(&hash);
        }
    }

    /// Of the signature, which no two tokens share; the rest is compared.
    fn hash(&self, token: &str) -> u64 {
        let signature = token.rsplit_once('.').map_or(token, |(_, signature)| signature);
        self.hasher.hash_one(signature)
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, HashMap<u64, Entry>> {
        let place = usize::try_from(hash >> 32).unwrap_or(0) % SHARDS;
        // a panic elsewhere leaves an entry or none, never half of one
        #[expect(clippy::indexing_slicing, reason = "there are so many shards, and none goes")]
        self.shards[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes room for one more in a full map, unless it stands there already: what ranks lowest of a few
/// goes, whichever they are. To look at all would cost more than it gains.
pub(crate) fn make_room<K: Copy + Eq + Hash, V>(
    entries: &mut HashMap<K, V>,
    (new, most): (&K, usize),
    rank: impl Fn(&V) -> u64,
) {
    if entries.len() < most || entries.contains_key(new) {
        return;
    }
    let lowest = entries.iter().take(8).min_by_key(|(_, entry)| rank(entry));
    let lowest = lowest.map(|(key, _)| *key);
    lowest.and_then(|lowest| entries.remove(&lowest));
}

/// Whether both are one allocation. A weak one keeps the place from being given to another.
pub(crate) fn is_that<T>(then: &Weak<T>, now: &Arc<T>) -> bool {
    std::ptr::eq(then.as_ptr(), Arc::as_ptr(now))
}

impl fmt::Debug for TokenCache {
    /// Never the tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenCache({} at most)", self.tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(exp: u64) -> Verified {
        let claims = crate::revocations::tests::claims(1, None);
        Verified { claims: Arc::new(Claims { exp, ..claims }), kid: "k".into() }
    }

    fn is_known(cache: &TokenCache, token: &str, now: Snapshot<'_>) -> bool {
        matches!(cache.find(token, now), Known::Verified(_))
    }

    #[test]
    fn a_token_is_known_whole_or_not_at_all() {
        let (cache, keys) = (TokenCache::new(100), Arc::default());
        let now = Snapshot { keys: &keys, revocations: None };
        cache.keep("head.claims.signature", verified(1), now);
        assert!(is_known(&cache, "head.claims.signature", now));
        for other in
            ["head.claimz.signature", "HEAD.claims.signature", "x.signature", "signature", ""]
        {
            assert!(!is_known(&cache, other, now), "{other}");
        }
        cache.forget("head.claimz.signature");
        assert!(is_known(&cache, "head.claims.signature", now));
        cache.forget("head.claims.signature");
        assert!(!is_known(&cache, "head.claims.signature", now));
    }

    #[test]
    fn other_keys_forget_and_other_revocations_ask_again() {
        let (cache, keys, other) = (TokenCache::new(100), Arc::default(), Arc::default());
        let (then, later) = (Arc::new(Revocations::default()), Arc::new(Revocations::default()));
        let now = Snapshot { keys: &keys, revocations: Some(&then) };
        cache.keep("a.b.c", verified(1), now);
        assert!(is_known(&cache, "a.b.c", now));
        let with_other_keys = Snapshot { keys: &other, ..now };
        assert!(matches!(cache.find("a.b.c", with_other_keys), Known::Nothing));
        let after = Snapshot { revocations: Some(&later), ..now };
        assert!(matches!(cache.find("a.b.c", after), Known::BeforeRevocations(_)));
        let unheard = Snapshot { revocations: None, ..now };
        assert!(matches!(cache.find("a.b.c", unheard), Known::BeforeRevocations(_)));
    }

    #[test]
    fn the_number_of_tokens_is_bounded() {
        let (cache, keys) = (TokenCache::new(SHARDS * 4), Arc::default());
        let now = Snapshot { keys: &keys, revocations: None };
        for number in 0..10_000 {
            cache.keep(&format!("a.b.{number}"), verified(number), now);
        }
        let held: usize = cache.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert_eq!(held, SHARDS * 4);
        assert!(is_known(&cache, "a.b.9999", now));
        let none = TokenCache::new(0);
        none.keep("a.b.c", verified(1), now);
        assert!(!is_known(&none, "a.b.c", now));
    }
}
