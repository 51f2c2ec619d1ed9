//! Cursors as callers hold them: sealed, since the row where a page ended may be one that the caller does
//! not see.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::error::{Error, Result};
use crate::service::{Service, random};
use crate::store::page::{Cursor, InvalidCursor};

/// What a cursor is sealed as.
const SEALED_AS: &[u8] = b"cursor";

/// A cursor that somebody sent: a nonce, the cipher text and its tag.
#[derive(Debug, Clone)]
pub struct SealedCursor(Vec<u8>);

impl FromStr for SealedCursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> std::result::Result<Self, InvalidCursor> {
        URL_SAFE_NO_PAD.decode(text).map(Self).map_err(|_| InvalidCursor)
    }
}

impl Service {
    /// A text for whoever asks for the next page. Any node of the installation opens it.
    pub fn seal_cursor(&self, cursor: &Cursor) -> Result<String> {
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut sealed = cursor.encode().into_bytes();
        self.cursor_key()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(SEALED_AS),
                &mut sealed,
            )
            .map_err(|_| Error::Broken("a cursor cannot be sealed".to_owned()))?;
        Ok(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// The place that a text names.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a text that no page gave.
    pub fn open_cursor(&self, sealed: &SealedCursor) -> Result<Cursor> {
        let key = self.cursor_key()?;
        let open = || {
            let (nonce, sealed) = sealed.0.split_first_chunk::<NONCE_LEN>()?;
            let mut bytes = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let text = key.open_in_place(nonce, Aad::from(SEALED_AS), &mut bytes).ok()?;
            std::str::from_utf8(text).ok()?.parse().ok()
        };
        open().ok_or_else(Cursor::invalid)
    }

    fn cursor_key(&self) -> Result<LessSafeKey> {
        let key = UnboundKey::new(&AES_256_GCM, &self.pepper.cursor_key());
        key.map(LessSafeKey::new).map_err(|_| Error::Broken("no key for cursors".to_owned()))
    }
}
