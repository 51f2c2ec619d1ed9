//! How long ago the index was compared with the database: what it says holds no longer than that.

use std::collections::HashMap;
use std::time::Duration;

use crate::mint::entries::ApiKeyEntry;
use crate::mint::index::{AuthenticatedKey, Index, State};
use crate::mint::{ClientCredential, Refused};
use crate::model::id::{ApiKeyId, OrgId};
use crate::model::owner::OwnerId;
use crate::model::secret::Pepper;
use crate::model::time::Timestamp;

/// What a stored change touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Doubted {
    /// What bears on all keys.
    Everything,
    /// Keys that are new, and nothing that was there.
    NewApiKeys,
    /// An organization, and all keys in it.
    Org(OrgId),
    /// An owner, and its keys.
    Owner(OwnerId),
    /// An API key.
    ApiKey(ApiKeyId),
}

/// What was touched by stored changes that are still to be applied.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// The revision of the last change of each.
    touched: HashMap<Doubted, i64>,
    /// Whether keys of an import are still to come, whatever the revision.
    imports: bool,
}

/// A poll that came just now may be this old: within this time no outage is seen at all.
const POLL_BOUND: Duration = Duration::from_secs(1);

impl Index {
    /// Whether the index was filled, and compared with the database within `serve_for`.
    pub fn is_fresh(&self, now: Timestamp, serve_for: Duration) -> bool {
        self.state.read().is_fresh(now, serve_for)
    }

    /// Finds the key of a credential, for whoever has asked whether the index is fresh.
    pub(in crate::mint) fn authenticate(
        &self,
        client: &ClientCredential,
        pepper: &Pepper,
    ) -> Result<AuthenticatedKey<'_>, Refused> {
        self.authenticate_where(client, pepper, |_| true)
    }

    /// The same for whoever has not: an index that is not fresh says nothing of any key, and is asked
    /// under the lock that the key is looked up under.
    ///
    /// # Errors
    /// [`Refused::Unavailable`] where it is not, whatever the key.
    pub(in crate::mint) fn authenticate_fresh(
        &self,
        client: &ClientCredential,
        pepper: &Pepper,
        (now, serve_for): (Timestamp, Duration),
    ) -> Result<AuthenticatedKey<'_>, Refused> {
        self.authenticate_where(client, pepper, |state| state.is_fresh(now, serve_for))
    }

    /// How long ago the index was last compared with the database.
    pub fn age(&self, now: Timestamp) -> Option<Duration> {
        self.state.read().compared_at.map(|compared_at| now.since(compared_at))
    }

    /// Notes that the database was seen to be at the revision of the index.
    pub fn confirm(&self, now: Timestamp) {
        let mut state = self.state.write();
        if let Some(revision) = state.revision {
            state.compared_with(revision, now);
        }
    }

    /// Moves the mark of the last comparison with a clock that is corrected.
    pub fn shift(&self, millis: i64) {
        let mut state = self.state.write();
        state.compared_at = state
            .compared_at
            .map(|moment| Timestamp::from_millis(moment.as_millis().saturating_add(millis)));
    }

    /// Makes the index count as not compared, so that nothing is issued until it was.
    pub fn doubt(&self) {
        self.state.write().compared_at = None;
    }

    /// Notes what a stored change touched that the index cannot be told of: nothing is said of it until
    /// the index is at the revision of the change.
    pub fn doubt_touched(&self, touched: impl IntoIterator<Item = Doubted>, revision: i64) {
        let mut state = self.state.write();
        // another look may have been past the change already
        if state.revision() < revision {
            for doubted in touched {
                let last = state.doubts.touched.entry(doubted).or_insert(revision);
                *last = revision.max(*last);
            }
        }
    }

    /// Notes whether keys of an import are still to come.
    pub fn doubt_imports(&self, are_to_come: bool) {
        self.state.write().doubts.imports = are_to_come;
    }

    /// The highest revision that was seen: the one that the index is of, or that of a change which it
    /// could not be told of. `None` before it was filled.
    pub fn seen_revision(&self) -> Option<i64> {
        let state = self.state.read();
        let doubted = state.doubts.touched.values().copied().max();
        state.revision.map(|revision| doubted.map_or(revision, |doubted| doubted.max(revision)))
    }
}

impl State {
    /// Notes a look at the database, which was at this revision.
    pub(super) fn compared_with(&mut self, revision: i64, now: Timestamp) {
        self.revision = Some(revision);
        self.compared_at = Some(now);
        self.doubts.touched.retain(|_, stored_at| *stored_at > revision);
    }

    fn is_fresh(&self, now: Timestamp, serve_for: Duration) -> bool {
        let compared_at = self.compared_at.filter(|_| !self.is_doubted(Doubted::Everything));
        let bound = serve_for.max(POLL_BOUND);
        compared_at.is_some_and(|compared_at| now.since(compared_at) <= bound)
    }

    /// Whether what is known of a key is known to be true.
    ///
    /// # Errors
    /// [`Refused::Unavailable`] where a change of it, or of what it belongs to, was not applied yet.
    pub(super) fn check_doubts(&self, api_key: &ApiKeyEntry) -> Result<(), Refused> {
        if self.doubts.touched.is_empty() {
            return Ok(());
        }
        let owner = self.owner(api_key.owner).map(|owner| Doubted::Owner(owner.id));
        let org = self.org(api_key.org).map(|org| Doubted::Org(org.id));
        let mut parts = [Some(Doubted::ApiKey(api_key.id)), owner, org].into_iter().flatten();
        if parts.any(|part| self.is_doubted(part)) { Err(Refused::Unavailable) } else { Ok(()) }
    }

    fn is_doubted(&self, part: Doubted) -> bool {
        !self.doubts.touched.is_empty() && self.doubts.touched.contains_key(&part)
    }

    /// What is said of a key that is not known: while a change is still to come, it may have made it.
    pub(super) fn unknown_client(&self) -> Refused {
        let is_sure = self.doubts.touched.is_empty() && !self.doubts.imports;
        if is_sure { Refused::UnknownClient } else { Refused::Unavailable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::audience::AudienceUri;
    use crate::model::installation::Issuer;
    use crate::model::secret::PlainSecret;

    #[test]
    fn a_doubt_lasts_until_the_last_change_of_what_it_is_about() {
        let issuer: Issuer = "https://auth.example.com".parse().unwrap();
        let (index, now) =
            (Index::new(AudienceUri::management(&issuer)), Timestamp::from_millis(0));
        let said = || index.find_client("key_0123456789abcdef").map(drop).unwrap_err();
        index.apply(Vec::new(), 4, now);
        for revision in [6, 5] {
            index.doubt_touched([Doubted::NewApiKeys], revision);
        }
        for (revision, refused) in [(5, Refused::Unavailable), (6, Refused::UnknownClient)] {
            assert_eq!(index.seen_revision(), Some(6));
            index.apply(Vec::new(), revision, now);
            assert_eq!(said(), refused, "{revision}");
        }
        index.doubt_touched([Doubted::NewApiKeys], 6);
        assert_eq!(said(), Refused::UnknownClient, "applied already");
    }
    #[test]
    fn an_index_that_is_not_fresh_says_nothing_of_any_key() {
        let issuer: Issuer = "https://auth.example.com".parse().unwrap();
        let (index, pepper) = (Index::new(AudienceUri::management(&issuer)), Pepper::new(&[7; 32]));
        let client = ClientCredential::bare(PlainSecret::new("tm_default_nobody".to_owned()));
        let said = |millis| {
            let look = (Timestamp::from_millis(millis), Duration::from_mins(1));
            index.authenticate_fresh(&client, &pepper, look).map(drop).unwrap_err()
        };
        assert_eq!(said(0), Refused::Unavailable);
        index.apply(Vec::new(), 1, Timestamp::from_millis(0));
        assert_eq!((said(60_000), said(60_001)), (Refused::UnknownClient, Refused::Unavailable));
    }
}
