//! Sealing small texts with AES-256-GCM: a random nonce, the cipher text and its tag, and what it is as
//! associated data, so that no sealed text stands in for another.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::service::random;

/// Seals bytes.
pub(super) fn seal(key: &LessSafeKey, sealed_as: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let nonce: [u8; NONCE_LEN] = random()?;
    // with room for the tag: a vector that grows leaves what it held behind
    let mut sealed = Vec::with_capacity(bytes.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(bytes);
    let unique = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(unique, Aad::from(sealed_as), &mut sealed)
        .map_err(|_| Error::Broken("a text cannot be sealed".to_owned()))?;
    Ok([nonce.as_slice(), &sealed].concat())
}

/// Opens what was sealed; nothing where it was by another key, as something else, or was changed.
pub(super) fn open(
    key: &LessSafeKey,
    sealed_as: &str,
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, cipher_text) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut bytes = Zeroizing::new(cipher_text.to_vec());
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length = key.open_in_place(nonce, Aad::from(sealed_as), &mut bytes).ok()?.len();
    bytes.truncate(length);
    Some(bytes)
}
