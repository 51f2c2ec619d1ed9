//! Cursors as callers hold them: sealed, since the row where a page ended may be one that the caller does
//! not see.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};

use crate::error::{Error, Result};
use crate::service::{Service, sealing};
use crate::store::page::{Cursor, InvalidCursor};

/// What a cursor is sealed as.
const SEALED_AS: &str = "cursor";

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
        let sealed = sealing::seal(&self.cursor_key()?, SEALED_AS, cursor.encode().as_bytes())?;
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// The place that a text names.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a text that no page gave.
    pub fn open_cursor(&self, sealed: &SealedCursor) -> Result<Cursor> {
        let opened = sealing::open(&self.cursor_key()?, SEALED_AS, &sealed.0);
        let text = opened.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok());
        text.and_then(|text| text.parse().ok()).ok_or_else(Cursor::invalid)
    }

    fn cursor_key(&self) -> Result<LessSafeKey> {
        let key = UnboundKey::new(&AES_256_GCM, self.pepper.cursor_key().as_ref());
        key.map(LessSafeKey::new).map_err(|_| Error::Broken("no key for cursors".to_owned()))
    }
}
