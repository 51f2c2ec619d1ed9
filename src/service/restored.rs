//! Ending again what a restore of an older backup has brought back.

use crate::error::Result;
use crate::mint::Restored;
use crate::model::revocation::{RevokedSubject, RevokedTokens};
use crate::model::signing_key::{Kid, SigningKeyState};
use crate::model::signing_key_schedule::{signing_key_of, standby_of};
use crate::model::time::Timestamp;
use crate::service::call::unasked_entry;
use crate::store::changes::Subject;
use crate::store::{Store, api_keys, audit, revocations, signing_keys};

/// Keys and secrets of one write, which others wait for.
const ENDED_AT_ONCE: usize = 100;

/// Ends it again, with an entry in the audit for each key and secret.
pub(crate) async fn end_restored(
    store: &Store,
    restored: &Restored,
    withdrawn: &[Kid],
    now: Timestamp,
) -> Result<()> {
    tracing::error!(
        api_keys = restored.api_keys.len(),
        secrets = restored.secrets.len(),
        "the database was restored: what has ended since is ended again"
    );
    for some in restored.api_keys.chunks(ENDED_AT_ONCE) {
        let mut write = store.begin().await?;
        for (id, org) in some {
            api_keys::update_revoked(&mut write, id, now).await?;
            let subject = (&RevokedSubject::ApiKey(*id), RevokedTokens::All);
            revocations::insert(&mut write, subject, Some(*org), now).await?;
            let what = ("api_key.revoke_again", id.to_string());
            let entry = unasked_entry(now, (what.0, &what.1), Some(*org), (None, None))?;
            audit::insert(&mut write, &entry).await?;
            write.touched(Subject::ApiKey(*id), now).await?;
        }
        write.commit().await?;
    }
    for some in restored.secrets.chunks(ENDED_AT_ONCE) {
        let mut write = store.begin().await?;
        for (digest, end, (id, org)) in some {
            api_keys::update_secret_end(&mut write, digest, *end).await?;
            if *end <= now {
                // the secret may have leaked: what it was used for since the restore holds no more
                let subject = (&RevokedSubject::ApiKey(*id), RevokedTokens::Before);
                revocations::insert(&mut write, subject, Some(*org), now).await?;
            }
            let what = ("api_key.replace_again", id.to_string());
            let entry = unasked_entry(now, (what.0, &what.1), Some(*org), (None, None))?;
            audit::insert(&mut write, &entry).await?;
            write.touched(Subject::ApiKey(*id), now).await?;
        }
        write.commit().await?;
    }
    withdraw_again(store, withdrawn, now).await
}

async fn withdraw_again(store: &Store, withdrawn: &[Kid], now: Timestamp) -> Result<()> {
    if withdrawn.is_empty() {
        return Ok(());
    }
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
