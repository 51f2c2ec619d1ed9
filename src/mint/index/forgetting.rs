//! What an index may forget: keys that have been dead for so long that nobody is told of their death, and
//! texts that nothing has any more.
//!
//! To look through a million keys takes far longer than a request may wait. So the look lets requests go on,
//! and holds up writes alone; what it found is taken out in a moment.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLockUpgradableReadGuard;

use crate::mint::entries::{ApiKeyEntry, Ending, RolesPlace};
use crate::mint::index::{FilledIndex, Index, State};
use crate::model::id::ApiKeyId;
use crate::model::ip_rules::IpRules;
use crate::model::secret::SecretDigest;
use crate::model::time::Timestamp;

/// How long a dead key is told apart from one that never was.
const REMEMBERED: Duration = Duration::from_hours(30 * 24);

impl Index {
    /// Forgets keys that have been dead for longer than their death is told.
    pub fn forget_long_dead(&self, now: Timestamp) {
        let state = self.state.upgradable_read();
        let unneeded = state.unneeded(now);
        // no write comes between the two
        RwLockUpgradableReadGuard::upgrade(state).forget(unneeded);
    }
}

impl FilledIndex {
    /// Forgets keys that have been dead for longer than their death is told.
    pub fn forget_long_dead(&mut self, now: Timestamp) {
        let unneeded = self.state.unneeded(now);
        self.state.forget(unneeded);
    }
}

struct Unneeded {
    secrets: Vec<SecretDigest>,
    api_keys: Vec<ApiKeyId>,
    scope_texts: Vec<Arc<str>>,
    role_texts: Vec<RolesPlace>,
    ip_rules: Vec<Arc<IpRules>>,
}

impl State {
    fn unneeded(&self, now: Timestamp) -> Unneeded {
        let long_ago = now - REMEMBERED;
        let has_long_ended = |ending: Ending| ending.has_come(long_ago);
        let is_dead =
            |key: &ApiKeyEntry| has_long_ended(key.revoked) || has_long_ended(key.expires);
        let unused_rules = self.ip_rules.iter().filter(|rules| Arc::strong_count(rules) == 1);
        Unneeded {
            secrets: self.secrets.keys_where(|secret| {
                has_long_ended(self.end_of(*secret))
                    || self.api_key(secret.api_key).is_some_and(is_dead)
            }),
            api_keys: self.api_keys.keys_where(is_dead),
            scope_texts: self.scope_texts.unused(),
            role_texts: self.role_texts.unused(self.owners.iter().map(|owner| owner.roles)),
            ip_rules: unused_rules.cloned().collect(),
        }
    }

    /// The secrets first: they point to their keys, whose places are used again.
    fn forget(&mut self, unneeded: Unneeded) {
        let Unneeded { secrets, api_keys, scope_texts, role_texts, ip_rules } = unneeded;
        for digest in &secrets {
            self.secrets.remove(digest);
            self.secret_ends.remove(digest);
        }
        for id in &api_keys {
            self.api_keys.remove(id);
        }
        for text in &scope_texts {
            self.scope_texts.forget(text);
        }
        for place in role_texts {
            self.role_texts.forget(place);
        }
        for rules in &ip_rules {
            self.ip_rules.remove(rules);
        }
    }
}
