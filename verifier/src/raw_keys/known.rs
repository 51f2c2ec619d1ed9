//! Keys that the issuer was asked about. Their texts are not kept, only their SHA-256.
//!
//! An entry lives as long as a token that was issued at the same moment, is void by the same feed, and
//! is renewed at half its time: a key that is in use goes on for that long while the issuer is
//! out of reach.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use tokio::time::Instant;

use crate::cache::{is_that, make_room};
use crate::claims::Claims;
use crate::revocations::Revocations;

/// How long a key is taken for worthless without asking again: a client that sends one a hundred
/// times a second is answered, and one whose key has just been made waits no longer than this.
const INACTIVE_FOR: Duration = Duration::from_secs(5);
/// From one try to renew an entry to the next.
const RENEWED_EVERY: Duration = Duration::from_secs(5);

/// The SHA-256 of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeyDigest([u8; 32]);

impl KeyDigest {
    pub(super) fn of(text: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }
}

/// Keys and what they are worth.
pub(super) struct KnownKeys {
    entries: Mutex<HashMap<KeyDigest, Entry>>,
    most: usize,
}

enum Entry {
    Active(Active),
    /// For this caller: to another address the key may be worth something.
    Inactive {
        caller: Option<IpAddr>,
        until: Instant,
    },
}

struct Active {
    claims: Arc<Claims>,
    // weak: a key that is remembered must not keep every feed that was ever heard in memory
    revocations: Weak<Revocations>,
    renew_at: Instant,
}

/// What is known of a key.
pub(super) enum Known {
    Nothing,
    Inactive,
    Active {
        claims: Arc<Claims>,
        /// Whether the caller is the one to ask again.
        is_to_be_renewed: bool,
    },
}

impl KnownKeys {
    pub(super) fn new(most: usize) -> Self {
        Self { entries: Mutex::default(), most }
    }

    pub(super) fn find(
        &self,
        digest: KeyDigest,
        caller: Option<IpAddr>,
        revocations: &Arc<Revocations>,
    ) -> Known {
        let mut entries = self.entries();
        let now = Instant::now();
        let active = match entries.get_mut(&digest) {
            None => return Known::Nothing,
            Some(Entry::Inactive { caller: other, until }) => {
                let holds = *until > now && *other == caller;
                return if holds { Known::Inactive } else { Known::Nothing };
            }
            Some(Entry::Active(active)) => active,
        };
        if !is_that(&active.revocations, revocations) {
            if revocations.voids(&active.claims) {
                entries.remove(&digest);
                return Known::Nothing;
            }
            active.revocations = Arc::downgrade(revocations);
        }
        let is_to_be_renewed = active.renew_at <= now;
        if is_to_be_renewed {
            active.renew_at = now + RENEWED_EVERY;
        }
        Known::Active { claims: Arc::clone(&active.claims), is_to_be_renewed }
    }

    /// Remembers a key of these claims, as they held under these revocations at this second.
    pub(super) fn keep(
        &self,
        digest: KeyDigest,
        claims: Arc<Claims>,
        revocations: &Arc<Revocations>,
        now: u64,
    ) {
        let life = Duration::from_secs(claims.exp.saturating_sub(now));
        let renew_at = Instant::now() + life / 2;
        let revocations = Arc::downgrade(revocations);
        self.insert(digest, Entry::Active(Active { claims, revocations, renew_at }));
    }

    pub(super) fn keep_inactive(&self, digest: KeyDigest, caller: Option<IpAddr>) {
        let until = Instant::now() + INACTIVE_FOR;
        self.insert(digest, Entry::Inactive { caller, until });
    }

    pub(super) fn forget(&self, digest: KeyDigest) {
        self.entries().remove(&digest);
    }

    fn insert(&self, digest: KeyDigest, entry: Entry) {
        if self.most == 0 {
            return;
        }
        let mut entries = self.entries();
        make_room(&mut entries, (&digest, self.most), |entry| match entry {
            Entry::Inactive { .. } => 0,
            Entry::Active(active) => active.claims.exp,
        });
        entries.insert(digest, entry);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<KeyDigest, Entry>> {
        // a panic elsewhere leaves an entry or none, never half of one
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KnownKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KnownKeys({} at most)", self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocations::tests::claims;
    use crate::revocations::{Revocation, RevokedSubject};

    fn is_active(keys: &KnownKeys, text: &str, revocations: &Arc<Revocations>) -> bool {
        let known = keys.find(KeyDigest::of(text), None, revocations);
        matches!(known, Known::Active { .. })
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_forgotten_when_the_feed_voids_it() {
        let (keys, heard) = (KnownKeys::new(10), Arc::new(Revocations::default()));
        keys.keep(KeyDigest::of("a"), Arc::new(claims(1, None)), &heard, 0);
        assert!(is_active(&keys, "a", &heard) && !is_active(&keys, "b", &heard));
        let mut later = Revocations::default();
        assert!(is_active(&keys, "a", &Arc::new(later.clone())));
        let subject = RevokedSubject::of("key_c");
        later.void(Revocation { subject, below: Some(2), until: 9 });
        assert!(!is_active(&keys, "a", &Arc::new(later)));
        assert!(!is_active(&keys, "a", &heard), "and stays forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_worthless_key_is_asked_about_again_after_a_while_and_from_another_address() {
        let (keys, heard) = (KnownKeys::new(10), Arc::default());
        let (digest, here) = (KeyDigest::of("a"), Some("10.0.0.1".parse().unwrap()));
        keys.keep_inactive(digest, here);
        assert!(matches!(keys.find(digest, here, &heard), Known::Inactive));
        assert!(matches!(keys.find(digest, None, &heard), Known::Nothing));
        tokio::time::advance(INACTIVE_FOR).await;
        assert!(matches!(keys.find(digest, here, &heard), Known::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn one_caller_is_told_to_ask_again_at_half_the_time() {
        let (keys, heard, digest) = (KnownKeys::new(10), Arc::default(), KeyDigest::of("a"));
        let claims = Claims { exp: 600, ..claims(1, None) };
        keys.keep(digest, Arc::new(claims), &heard, 0);
        let told = || match keys.find(digest, None, &heard) {
            Known::Active { is_to_be_renewed, .. } => is_to_be_renewed,
            _ => panic!("the key is known"),
        };
        assert!(!told());
        tokio::time::advance(Duration::from_mins(5)).await;
        assert_eq!([told(), told()], [true, false]);
        tokio::time::advance(RENEWED_EVERY).await;
        assert_eq!([told(), told()], [true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_keys_is_bounded_and_worthless_ones_go_first() {
        let (keys, heard) = (KnownKeys::new(8), Arc::default());
        for number in 0..4 {
            keys.keep(KeyDigest::of(&format!("{number}")), Arc::new(claims(1, None)), &heard, 0);
        }
        for number in 0..10_000 {
            keys.keep_inactive(KeyDigest::of(&format!("bad {number}")), None);
        }
        assert_eq!(keys.entries().len(), 8);
        assert!((0..4).all(|number| is_active(&keys, &format!("{number}"), &heard)));
    }
}
