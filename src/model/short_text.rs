//! Texts of a fixed length, made without an allocation.

use std::ops::Deref;

/// A text of so many bytes.
#[derive(Debug, Clone, Copy)]
pub struct ShortText<const LENGTH: usize>([u8; LENGTH]);

impl<const LENGTH: usize> ShortText<LENGTH> {
    /// The text of these bytes, which are of ASCII.
    pub(super) fn of(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }
}

impl<const LENGTH: usize> Deref for ShortText<LENGTH> {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}
