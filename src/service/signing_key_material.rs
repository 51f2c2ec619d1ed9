//! Signing keys: made, brought along, sealed, and brought into the mint.

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use tenmint_verifier::Algorithm;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::mint::{GeneratedKeyPair, KeyPair, Signer};
use crate::model::signing_key::{Kid, SigningKey};
use crate::model::signing_key_schedule::signing_key_of;
use crate::model::time::Timestamp;
use crate::service::master_key::{MasterKey, Sealed};
use crate::service::random;

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

/// A key that was just made.
pub(crate) async fn new_signing_key(
    algorithm: Algorithm,
    master_key: &MasterKey,
    now: Timestamp,
) -> Result<SigningKey> {
    // an RSA key takes a second of arithmetic
    let made = tokio::task::spawn_blocking(move || KeyPair::generate(algorithm))
        .await
        .map_err(|cause| Error::Broken(cause.to_string()))?
        .map_err(|cause| Error::Broken(cause.to_string()))?;
    sealed_key(Kid::from_random(random()?), &made, master_key, now)
}

/// A key that was made elsewhere, from the text of a PEM file.
///
/// # Errors
/// [`Error::Invalid`] where that holds no private key of an algorithm that tenmint signs with.
pub(crate) fn brought_signing_key(
    kid: Kid,
    pem: &[u8],
    master_key: &MasterKey,
    now: Timestamp,
) -> Result<SigningKey> {
    let unusable = || {
        Error::invalid(
            "private_key",
            "this is no private key in PEM of PKCS#8, not encrypted, for ES256 (P-256), RS256 (2048 \
             to 4096 bits) or EdDSA (Ed25519)\nhint: `openssl pkcs8 -topk8 -nodes -in FILE` writes \
             one from other forms",
        )
    };
    let document = PrivatePkcs8KeyDer::from_pem_slice(pem).map(Zeroizing::new);
    let document = document.map_err(|_| unusable())?;
    let private = Zeroizing::new(document.secret_pkcs8_der().to_vec());
    let key_pair = KeyPair::recognize(&private).map_err(|_| unusable())?;
    sealed_key(kid, &GeneratedKeyPair { private, key_pair }, master_key, now)
}

fn sealed_key(
    kid: Kid,
    made: &GeneratedKeyPair,
    master_key: &MasterKey,
    now: Timestamp,
) -> Result<SigningKey> {
    let halves = (
        made.key_pair.public_jwk(kid.as_str()).to_string(),
        master_key.seal(Sealed::SigningKey(&kid), &made.private)?,
    );
    Ok(SigningKey::published(kid, made.key_pair.algorithm(), halves, now))
}

/// The signer of these keys: the one that signs, and all that are in the JWKS, that one first.
pub(crate) fn signer_of(stored: &[SigningKey], master_key: &MasterKey) -> Result<Signer> {
    let signing = signing_key_of(stored);
    let others = stored.iter().filter(|signing_key| {
        signing_key.state().is_served()
            && signing.is_none_or(|signing| signing.kid != signing_key.kid)
    });
    let served: Vec<&SigningKey> = signing.into_iter().chain(others).collect();
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
    Ok(Signer::new(current, &served))
}
