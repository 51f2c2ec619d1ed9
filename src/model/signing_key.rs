//! Signing keys: published, then signing, then retiring, then retired.

use std::fmt;
use std::str::FromStr;

use tenmint_verifier::Algorithm;

use crate::model::id::base62;
use crate::model::time::{Timestamp, reached};

/// A signing key, as it is stored. Its private half is sealed by the master key.
#[derive(Debug, Clone)]
pub struct SigningKey {
    /// The name in tokens and in the JWKS; never used again.
    pub kid: Kid,
    /// Its one algorithm.
    pub algorithm: Algorithm,
    /// The public half, as the JWK that is served.
    pub public_jwk: String,
    /// The private half as PKCS#8, sealed.
    pub sealed_private: String,
    /// When it came into the JWKS.
    pub published_at: Timestamp,
    /// When it began to sign.
    pub signing_at: Option<Timestamp>,
    /// When it stopped signing.
    pub retiring_at: Option<Timestamp>,
    /// When it left the JWKS.
    pub retired_at: Option<Timestamp>,
}

impl SigningKey {
    /// The state, computed from the moments that have come.
    pub fn state(&self, now: Timestamp) -> SigningKeyState {
        if reached(self.retired_at, now) {
            SigningKeyState::Retired
        } else if reached(self.retiring_at, now) {
            SigningKeyState::Retiring
        } else if reached(self.signing_at, now) {
            SigningKeyState::Signing
        } else {
            SigningKeyState::Published
        }
    }
}

/// Where a signing key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningKeyState {
    /// In the JWKS, not yet used.
    Published,
    /// In the JWKS, and it signs.
    Signing,
    /// In the JWKS for the tokens it signed.
    Retiring,
    /// Gone.
    Retired,
}

impl SigningKeyState {
    /// The word for people and scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Signing => "signing",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
        }
    }
}

/// Characters of a `kid`: 95 bits, so none is ever used twice.
const KID_LENGTH: usize = 16;

/// The id of a signing key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kid(Box<str>);

impl Kid {
    /// A `kid` of these random bytes.
    pub fn from_random(random: [u8; 16]) -> Self {
        let mut characters = [b'0'; KID_LENGTH];
        base62(&random, &mut characters);
        Self(characters.iter().map(|byte| char::from(*byte)).collect::<String>().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no `kid` of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidKid;

impl fmt::Display for InvalidKid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a signing key's id is {KID_LENGTH} letters and digits")
    }
}

impl std::error::Error for InvalidKid {}

impl FromStr for Kid {
    type Err = InvalidKid;

    fn from_str(text: &str) -> Result<Self, InvalidKid> {
        if text.len() == KID_LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidKid)
        }
    }
}
