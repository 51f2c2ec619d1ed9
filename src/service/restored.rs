//! Ending again what a restore of an older backup has brought back.

use crate::error::Result;
use crate::mint::{Restored, RestoredSecret};
use crate::model::id::{ApiKeyId, OrgId};
use crate::model::revocation::{RevokedSubject, RevokedTokens};
use crate::model::signing_key::{Kid, SigningKeyState};
use crate::model::signing_key_schedule::{signing_key_of, standby_of};
use crate::model::time::Timestamp;
use crate::service::call::unasked_entry;
use crate::store::changes::Subject;
use crate::store::{Store, Write, api_keys, audit, revocations, signing_keys};

/// Keys and secrets of one write, which others wait for.
const ENDED_AT_ONCE: usize = 100;

/// What a restore has brought back and is still to be ended again.
#[derive(Debug, Default)]
pub(crate) struct BroughtBack {
    pub(crate) keys: Restored,
    pub(crate) signing_keys: Vec<Kid>,
}

/// What one write ends of it.
#[derive(Debug)]
pub(crate) enum Part {
    ApiKeys(Vec<(ApiKeyId, OrgId)>),
    Secrets(Vec<RestoredSecret>),
    SigningKeys(Vec<Kid>),
}

impl BroughtBack {
    /// Whether it is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.signing_keys.is_empty()
    }

    /// What is to be ended next.
    pub(crate) fn next(&self) -> Option<Part> {
        fn some<T: Clone>(left: &[T]) -> Option<Vec<T>> {
            let some: Vec<T> = left.iter().take(ENDED_AT_ONCE).cloned().collect();
            (!some.is_empty()).then_some(some)
        }
        let signing_keys = || some(&self.signing_keys).map(Part::SigningKeys);
        let secrets = || some(&self.keys.secrets).map(Part::Secrets);
        some(&self.keys.api_keys).map(Part::ApiKeys).or_else(secrets).or_else(signing_keys)
    }

    /// Takes away what was ended.
    pub(crate) fn remove(&mut self, ended: &Part) {
        match ended {
            Part::ApiKeys(ended) => drop(self.keys.api_keys.drain(..ended.len())),
            Part::Secrets(ended) => drop(self.keys.secrets.drain(..ended.len())),
            Part::SigningKeys(ended) => drop(self.signing_keys.drain(..ended.len())),
        }
    }
}

impl Part {
    /// Ends it again, with an entry in the audit for each that had not ended meanwhile.
    pub(crate) async fn end(&self, store: &Store, now: Timestamp) -> Result<()> {
        match self {
            Self::ApiKeys(api_keys) => revoke_again(store, api_keys, now).await,
            Self::Secrets(secrets) => replace_again(store, secrets, now).await,
            Self::SigningKeys(kids) => withdraw_again(store, kids, now).await,
        }
    }
}

async fn revoke_again(store: &Store, api_keys: &[(ApiKeyId, OrgId)], now: Timestamp) -> Result<()> {
    let mut write = store.begin().await?;
    for (id, org) in api_keys {
        if !api_keys::update_revoked(&mut write, id, now).await? {
            continue;
        }
        let subject = (&RevokedSubject::ApiKey(*id), RevokedTokens::All);
        revocations::insert(&mut write, subject, Some(*org), now).await?;
        tell(&mut write, "api_key.revoke_again", (id, org), now).await?;
    }
    write.commit().await?;
    Ok(())
}

async fn replace_again(store: &Store, secrets: &[RestoredSecret], now: Timestamp) -> Result<()> {
    let mut write = store.begin().await?;
    for RestoredSecret { digest, end, api_key: (id, org) } in secrets {
        if !api_keys::update_secret_end(&mut write, digest, *end).await? {
            continue;
        }
        if *end <= now {
            // the secret may have leaked: what it was used for since the restore holds no more
            let subject = (&RevokedSubject::ApiKey(*id), RevokedTokens::Before);
            revocations::insert(&mut write, subject, Some(*org), now).await?;
        }
        tell(&mut write, "api_key.replace_again", (id, org), now).await?;
    }
    write.commit().await?;
    Ok(())
}

/// In the audit, and to the nodes that follow.
async fn tell(
    write: &mut Write<'_>,
    action: &'static str,
    (id, org): (&ApiKeyId, &OrgId),
    now: Timestamp,
) -> Result<()> {
    let entry = unasked_entry(now, (action, &id.to_string()), Some(*org), (None, None))?;
    audit::insert(write, &entry).await?;
    write.touched(Subject::ApiKey(*id), now).await
}

async fn withdraw_again(store: &Store, withdrawn: &[Kid], now: Timestamp) -> Result<()> {
    let mut write = store.begin().await?;
    for key in signing_keys::list(&mut write).await? {
        if key.state() == SigningKeyState::Withdrawn || !withdrawn.contains(&key.kid) {
            continue;
        }
        signing_keys::withdraw(&mut write, &key.kid, now).await?;
        let what = ("signing_key.withdraw_again", key.kid.as_str());
        audit::insert(&mut write, &unasked_entry(now, what, None, (None, None))?).await?;
    }
    let all = signing_keys::list(&mut write).await?;
    // where none stands by, a node makes one within its next look
    if let (None, Some(standby)) = (signing_key_of(&all), standby_of(&all)) {
        signing_keys::promote(&mut write, &standby.kid, now).await?;
        let what = ("signing_key.sign", standby.kid.as_str());
        audit::insert(&mut write, &unasked_entry(now, what, None, (None, None))?).await?;
    }
    write.touched(Subject::SigningKeys, now).await?;
    write.commit().await?;
    Ok(())
}
