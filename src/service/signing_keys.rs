//! Signing keys: made, sealed, and brought into the mint.

use tenmint_verifier::Algorithm;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::mint::{KeyPair, Signer};
use crate::model::signing_key::{Kid, SigningKey, SigningKeyState};
use crate::model::time::Timestamp;
use crate::service::master_key::{MasterKey, Sealed};
use crate::service::{Service, random};
use crate::store::signing_keys;

impl Service {
    /// All signing keys, the oldest first.
    pub async fn list_signing_keys(&self) -> Result<Vec<SigningKey>> {
        signing_keys::list(&mut *self.store.read().await?).await
    }
}

/// The keys of a new installation: one that signs at once, since no verifier can hold an older
/// set, and one that is published, so that an emergency finds verifiers prepared.
pub(crate) async fn first_signing_keys(
    algorithm: Algorithm,
    master_key: &MasterKey,
    now: Timestamp,
) -> Result<[SigningKey; 2]> {
    let standby = new_signing_key(algorithm, master_key, now).await?;
    let mut first = new_signing_key(algorithm, master_key, now).await?;
    first.signing_at = Some(now);
    Ok([first, standby])
}

async fn new_signing_key(
    algorithm: Algorithm,
    master_key: &MasterKey,
    now: Timestamp,
) -> Result<SigningKey> {
    // an RSA key takes a second of arithmetic
    let made = tokio::task::spawn_blocking(move || KeyPair::generate(algorithm))
        .await
        .map_err(|cause| Error::Broken(cause.to_string()))?
        .map_err(|cause| Error::Broken(cause.to_string()))?;
    let kid = Kid::from_random(random()?);
    Ok(SigningKey {
        public_jwk: made.key_pair.public_jwk(kid.as_str()).to_string(),
        sealed_private: master_key.seal(Sealed::SigningKey(&kid), &made.private)?,
        kid,
        algorithm,
        published_at: now,
        signing_at: None,
        retiring_at: None,
        retired_at: None,
    })
}

/// The signer of these keys: the one that began to sign last signs, all that are not retired are
/// served, the signing one first.
pub(crate) fn signer_of(
    stored: &[SigningKey],
    master_key: &MasterKey,
    now: Timestamp,
) -> Result<Signer> {
    let signing = signing_key_of(stored, now);
    let others = stored.iter().filter(|signing_key| {
        signing_key.state(now) != SigningKeyState::Retired
            && signing.is_none_or(|signing| signing.kid != signing_key.kid)
    });
    let public: Vec<String> =
        signing.into_iter().chain(others).map(|key| key.public_jwk.clone()).collect();
    let current = signing
        .map(|signing_key| {
            let sealed = Sealed::SigningKey(&signing_key.kid);
            let private: Zeroizing<Vec<u8>> =
                master_key.open(sealed, &signing_key.sealed_private)?;
            let pair = KeyPair::parse(signing_key.algorithm, &private)
                .map_err(|cause| Error::bad_row("signing_keys", signing_key.kid.as_str(), cause))?;
            Ok::<_, Error>((&signing_key.kid, pair))
        })
        .transpose()?;
    Ok(Signer::new(current, &public))
}

/// Where no key has come to its moment, the next one signs before it: a clock that went back must
/// not leave an installation without a signer.
pub(crate) fn signing_key_of(stored: &[SigningKey], now: Timestamp) -> Option<&SigningKey> {
    let in_state = |state| stored.iter().filter(move |key| key.state(now) == state);
    in_state(SigningKeyState::Signing).max_by_key(|signing_key| signing_key.signing_at).or_else(
        || {
            in_state(SigningKeyState::Published)
                .filter(|signing_key| signing_key.signing_at.is_some())
                .min_by_key(|signing_key| signing_key.signing_at)
        },
    )
}
