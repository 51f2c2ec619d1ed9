//! What an index holds as living that has ended long ago: a database was restored.

use std::collections::{HashMap, HashSet};

use crate::mint::entries::Ending;
use crate::mint::index::{FilledIndex, Index, State};
use crate::model::api_key::IndexedApiKey;
use crate::model::id::{ApiKeyId, OrgId};
use crate::model::secret::SecretDigest;
use crate::model::time::Timestamp;

/// What a database brings back that has ended.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Keys that were revoked, and their organizations.
    pub api_keys: Vec<(ApiKeyId, OrgId)>,
    /// Secrets that were replaced.
    pub secrets: Vec<RestoredSecret>,
}

/// A secret that was replaced, and lives again.
#[derive(Debug, Clone, Copy)]
pub struct RestoredSecret {
    /// The digest that it is found by.
    pub digest: SecretDigest,
    /// Its last moment.
    pub end: Timestamp,
    /// The key that it is of, and the organization of that.
    pub api_key: (ApiKeyId, OrgId),
}

impl Restored {
    /// Whether it brings nothing back.
    pub fn is_empty(&self) -> bool {
        self.api_keys.is_empty() && self.secrets.is_empty()
    }
}

impl Index {
    /// Whether an API key is held here that goes on for longer than it now shall.
    pub fn outlives(&self, now: &IndexedApiKey) -> bool {
        let state = self.state.read();
        let before = state.api_keys.get(&now.id);
        before.is_some_and(|before| before.expires > Ending::of(now.expires_at))
    }
}

impl FilledIndex {
    /// Of keys and secrets that have ended, those that live here.
    pub fn restored(
        &self,
        api_keys: &HashSet<ApiKeyId>,
        secrets: &HashMap<SecretDigest, Timestamp>,
    ) -> Restored {
        let state = &self.state;
        Restored {
            api_keys: api_keys.iter().filter_map(|id| state.unrevoked(id)).collect(),
            secrets: secrets
                .iter()
                .filter_map(|(digest, end)| {
                    let api_key = state.outlives(digest, *end)?;
                    Some(RestoredSecret { digest: *digest, end: *end, api_key })
                })
                // with a key that was revoked all of it ends
                .filter(|RestoredSecret { api_key: (id, _), .. }| {
                    !api_keys.contains(id) || state.unrevoked(id).is_none()
                })
                .collect(),
        }
    }
}

impl State {
    fn unrevoked(&self, id: &ApiKeyId) -> Option<(ApiKeyId, OrgId)> {
        let entry = self.api_key(self.api_keys.find(id)?)?;
        (!entry.revoked.is_set()).then_some((*id, self.org(entry.org)?.id))
    }

    /// The key of a secret, if that lives for longer.
    fn outlives(&self, digest: &SecretDigest, end: Timestamp) -> Option<(ApiKeyId, OrgId)> {
        let secret = *self.secrets.get(digest)?;
        let entry = self.api_key(secret.api_key)?;
        let lives_on = self.end_of(secret).min(entry.expires) > Ending::of(Some(end));
        lives_on.then_some((entry.id, self.org(entry.org)?.id))
    }
}
