//! What ends for ever while a node follows its database: noted in the journal before it is applied, and ended
//! again where a restore has brought it back.

use std::collections::HashSet;

use crate::error::Result;
use crate::mint::{Change, FilledIndex, Index};
use crate::model::id::ApiKeyId;
use crate::model::journal::{Ended, end_of};
use crate::model::signing_key::{Kid, SigningKey};
use crate::service::follow::Follower;
use crate::service::journal::Known;
use crate::service::restored::BroughtBack;
use crate::store::Read;
use crate::store::changes::{self, Subject};

impl Follower {
    pub(super) async fn note_ended(&self, revision: i64, ended: Vec<Ended>) {
        if let Some(journal) = &self.journal {
            journal.note(revision, ended).await;
        }
    }

    pub(super) async fn note_seen(&self, revision: i64) {
        if let Some(journal) = &self.journal {
            journal.note_seen(revision).await;
        }
    }

    /// The API keys that changed of late, as far as the database tells: a node that was killed may not have come to
    /// noting what ended by it. The revision of the journal tells nothing of that, since other lines come before.
    pub(super) async fn changed_of_late(&self, read: &mut Read) -> Result<HashSet<ApiKeyId>> {
        if self.journal.is_none() {
            return Ok(HashSet::new());
        }
        let touched = changes::list_after(read, 0).await?;
        let api_keys = touched.into_iter().filter_map(|subject| match subject {
            Subject::ApiKey(id) => Some(id),
            _ => None,
        });
        Ok(api_keys.collect())
    }

    /// What the database holds as living and has ended, as the journal knows. Nothing is issued until it
    /// was ended again.
    pub(super) fn brought_back_by(&self, filled: &FilledIndex, known: &Known) -> BroughtBack {
        let keys = filled.restored(&known.api_keys, &known.secrets);
        let signing_keys = served_again(&self.signing_keys.lock(), |key| known.has_withdrawn(key));
        if !keys.is_empty() || !signing_keys.is_empty() {
            tracing::error!(
                api_keys = keys.api_keys.len(),
                secrets = keys.secrets.len(),
                signing_keys = signing_keys.len(),
                "the database was restored: what has ended since is ended again"
            );
        }
        BroughtBack { keys, signing_keys }
    }

    /// Of these signing keys, those that are served though they were withdrawn, as the journal knows: a restore
    /// or an import has brought them back. They are withdrawn again.
    pub(super) fn withdraw_brought_back(&self, all: &[SigningKey]) -> Vec<Kid> {
        let Some(journal) = &self.journal else { return Vec::new() };
        let withdrawn = served_again(all, |key| journal.has_withdrawn(key));
        self.brought_back.lock().signing_keys.extend(withdrawn.iter().cloned());
        withdrawn
    }

    /// Ends again what a restore has brought back, a part at a time: a look that takes too long is dropped, and the
    /// next one goes on where that stopped.
    pub(super) async fn end_again(&self) -> Result<()> {
        loop {
            let next = self.brought_back.lock().next();
            let Some(part) = next else { return Ok(()) };
            part.end(&self.store, self.clock.now()).await?;
            self.brought_back.lock().remove(&part);
        }
    }
}

/// Of these signing keys, those that are served though they were withdrawn.
fn served_again(all: &[SigningKey], was_withdrawn: impl Fn(&SigningKey) -> bool) -> Vec<Kid> {
    let served = all.iter().filter(|key| key.state().is_served() && was_withdrawn(key));
    served.map(|key| key.kid.clone()).collect()
}

/// What ends by these changes of what an index holds.
pub(super) fn ended_in(changes: &[Change], before: &Index) -> Vec<Ended> {
    let mut ended = Vec::new();
    for change in changes {
        if let Change::ApiKey(api_key) = change {
            ended.extend(Ended::of(api_key, end_of(api_key, before.outlives(api_key))));
        }
    }
    ended
}
