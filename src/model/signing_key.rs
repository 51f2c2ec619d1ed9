//! Signing keys: published, then signing, then retiring, then retired; or withdrawn at any time.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tenmint_verifier::Algorithm;

use crate::model::ask::asks;
use crate::model::id::base62;
use crate::model::time::Timestamp;

/// A signing key, as it is stored. Its private half is sealed by the master key.
#[derive(Debug, Clone)]
pub struct SigningKey {
    /// The name in tokens and in the JWKS; never used again.
    pub kid: Kid,
    /// Its one algorithm.
    pub algorithm: Algorithm,
    /// The public half, as the JWK that is served.
    pub public_jwk: String,
    /// The private half as PKCS#8, sealed; empty once it signs no more.
    pub sealed_private: String,
    /// When it came into the JWKS.
    pub published_at: Timestamp,
    /// The revision of that.
    pub published_revision: i64,
    /// When a rotation to it was asked for.
    pub wanted_at: Option<Timestamp>,
    /// When it began to sign.
    pub signing_at: Option<Timestamp>,
    /// When it stopped signing.
    pub retiring_at: Option<Timestamp>,
    /// When it left the JWKS.
    pub retired_at: Option<Timestamp>,
    /// When it was withdrawn: nothing that it signed holds.
    pub withdrawn_at: Option<Timestamp>,
    /// The revision of that.
    pub withdrawn_revision: Option<i64>,
}

impl SigningKey {
    /// What tells its public half from all others, whatever it is called: a hash of the JWK without its `kid`.
    pub fn fingerprint(&self) -> String {
        let mut jwk: Value = serde_json::from_str(&self.public_jwk).unwrap_or_default();
        if let Some(members) = jwk.as_object_mut() {
            members.remove("kid");
        }
        let hash = digest::digest(&digest::SHA256, jwk.to_string().as_bytes());
        URL_SAFE_NO_PAD.encode(hash)
    }

    /// A new key, of this public half and this sealed private one.
    pub fn published(
        kid: Kid,
        algorithm: Algorithm,
        (public_jwk, sealed_private): (String, String),
        now: Timestamp,
    ) -> Self {
        Self {
            kid,
            algorithm,
            public_jwk,
            sealed_private,
            published_at: now,
            // known when it is stored
            published_revision: 0,
            wanted_at: None,
            signing_at: None,
            retiring_at: None,
            retired_at: None,
            withdrawn_at: None,
            withdrawn_revision: None,
        }
    }

    /// The state: the last step that was taken. Each is taken by somebody, and none by the clock, so
    /// that a clock that goes back undoes none.
    pub fn state(&self) -> SigningKeyState {
        match (self.withdrawn_at, self.retired_at, self.retiring_at, self.signing_at) {
            (Some(_), ..) => SigningKeyState::Withdrawn,
            (_, Some(_), ..) => SigningKeyState::Retired,
            (_, _, Some(_), _) => SigningKeyState::Retiring,
            (_, _, _, Some(_)) => SigningKeyState::Signing,
            _ => SigningKeyState::Published,
        }
    }
}

/// Where a signing key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SigningKeyState {
    /// In the JWKS, not yet used.
    Published,
    /// In the JWKS, and it signs.
    Signing,
    /// In the JWKS for the tokens it signed.
    Retiring,
    /// Gone from the JWKS, when no token of it lived any more.
    Retired,
    /// Gone at once: nothing that it signed holds.
    Withdrawn,
}

impl SigningKeyState {
    /// The word for people and scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Signing => "signing",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Whether a key of this state is in the JWKS.
    pub fn is_served(self) -> bool {
        matches!(self, Self::Published | Self::Signing | Self::Retiring)
    }
}

/// A signing key as it is shown: nothing of its private half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ShownSigningKey {
    /// The name in tokens and in the JWKS.
    pub kid: String,
    /// Its one algorithm.
    pub algorithm: &'static str,
    /// Where it is in its life.
    pub state: SigningKeyState,
    /// When it came into the JWKS.
    pub published_at: Timestamp,
    /// Of a published one: the moment before which it does not sign; `null` where no rotation to it
    /// is planned.
    pub due_at: Option<Timestamp>,
    /// When it began to sign.
    pub signing_at: Option<Timestamp>,
    /// When it stopped signing.
    pub retiring_at: Option<Timestamp>,
    /// When it left the JWKS.
    pub retired_at: Option<Timestamp>,
    /// When it was withdrawn.
    pub withdrawn_at: Option<Timestamp>,
}

impl ShownSigningKey {
    /// A key, and when it is due.
    pub fn of(key: &SigningKey, due_at: Option<Timestamp>) -> Self {
        Self {
            kid: key.kid.to_string(),
            algorithm: key.algorithm.name(),
            state: key.state(),
            published_at: key.published_at,
            due_at,
            signing_at: key.signing_at,
            retiring_at: key.retiring_at,
            retired_at: key.retired_at,
            withdrawn_at: key.withdrawn_at,
        }
    }
}

asks! {
    /// A rotation, as somebody asks for it.
    pub struct RotateSigningKey {
        /// Another algorithm, to which the installation changes; as it is where it is left out.
        pub algorithm: String,
    }
}

/// Characters of a `kid` that is made here: 95 bits, so none is ever used twice.
const KID_LENGTH: usize = 16;
/// Characters of one that is brought along, at most.
const MAX_KID_LENGTH: usize = 128;

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
        write!(
            f,
            "a signing key's id is 1 to {MAX_KID_LENGTH} letters, digits, `-`, `_`, `.` or `~`"
        )
    }
}

impl std::error::Error for InvalidKid {}

impl FromStr for Kid {
    type Err = InvalidKid;

    fn from_str(text: &str) -> Result<Self, InvalidKid> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        if (1..=MAX_KID_LENGTH).contains(&text.len()) && text.bytes().all(is_plain) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidKid)
        }
    }
}
