//! What an index holds as living that has ended long ago: a database was restored.

use std::collections::{HashMap, HashSet};

use crate::mint::entries::Ending;
use crate::mint::index::{Index, State};
use crate::model::id::{ApiKeyId, OrgId};
use crate::model::secret::SecretDigest;
use crate::model::time::Timestamp;

/// What a database brings back that has ended.
#[derive(Debug, Default)]
pub struct Restored {
    /// Keys that were revoked, and their organizations.
    pub api_keys: Vec<(ApiKeyId, OrgId)>,
    /// Secrets that were replaced, their last moments, and their keys.
    pub secrets: Vec<(SecretDigest, Timestamp, ApiKeyId)>,
}

impl Index {
    /// Of keys and secrets that have ended, those that live here.
    pub fn restored(
        &self,
        api_keys: &HashSet<ApiKeyId>,
        secrets: &HashMap<SecretDigest, Timestamp>,
    ) -> Restored {
        let state = self.state.read();
        Restored {
            api_keys: api_keys.iter().filter_map(|id| state.unrevoked(id)).collect(),
            secrets: secrets
                .iter()
                .filter_map(|(digest, end)| Some((*digest, *end, state.outlives(digest, *end)?)))
                .collect(),
        }
    }
}

impl State {
    fn unrevoked(&self, id: &ApiKeyId) -> Option<(ApiKeyId, OrgId)> {
        let entry = self.api_key(self.api_key_by_id(id)?)?;
        (!entry.revoked.is_set()).then_some((*id, self.org(entry.org)?.id))
    }

    /// The key of a secret, if that lives for longer.
    fn outlives(&self, digest: &SecretDigest, end: Timestamp) -> Option<ApiKeyId> {
        let (api_key, ends) = self.secret(digest)?;
        let entry = self.api_key(api_key)?;
        (ends > Ending::of(Some(end))).then_some(entry.id)
    }
}
