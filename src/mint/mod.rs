//! The hot path: from an API key to a signed token, in memory and without waiting.
//!
//! [`Mint::issue`] is one function of steps that carry their proof: what signs takes a grant, only an
//! admitted key makes one, and only an authenticated key is admitted. The service fills the
//! index and the signing keys; the token route calls. Nothing here does I/O.

mod grant;
mod index;
mod key_pair;
mod rsa;
mod signer;
mod slab;
mod token_id;

use std::time::Duration;

use parking_lot::RwLock;

pub use index::{Change, FilledIndex, Index};
pub use key_pair::{GeneratedKeyPair, KeyPair, KeyPairError};
pub use signer::{PublicKeys, Signer, etag_of};

use crate::mint::grant::Grant;
use crate::model::installation::{Installation, Issuer};
use crate::model::secret::{Pepper, PlainSecret};
use crate::model::time::Timestamp;

/// What a client sends to the token endpoint, taken apart and not yet believed.
#[derive(Debug, Default)]
pub struct TokenRequest {
    /// The credential.
    pub client: ClientCredential,
    /// `scope`, as it was written.
    pub scope: Option<String>,
    /// Each `resource` (RFC 8707).
    pub resources: Vec<String>,
    /// `audience`, the common alias.
    pub audience: Option<String>,
}

/// An API key, and the id that it is claimed to have.
#[derive(Debug, Default)]
pub struct ClientCredential {
    /// The id, where one was given.
    pub client_id: Option<String>,
    /// The text of the key, in each reading that the way it was sent allows: form-decoded, and
    /// as it stands.
    pub texts: Vec<PlainSecret>,
}

/// A token that was issued.
#[derive(Debug)]
pub struct IssuedToken {
    /// The JWT.
    pub access_token: String,
    /// The seconds it lives.
    pub expires_in: u64,
    /// Its scopes, in the client's own spelling if it asked for some.
    pub scope: String,
}

/// Why there is no token. The route makes the answer of RFC 6749, section 5.2 of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No such key, or not with this id. Says no more: the secret has not matched.
    UnknownClient,
    /// The secret matched; the key was revoked.
    Revoked,
    /// The secret matched; the key, or the grace of this secret, is over.
    Expired,
    /// The secret matched; the owner or the organization is suspended.
    Suspended,
    /// An audience that is unknown or not the key's.
    InvalidTarget,
    /// `resource` and `audience` name different audiences.
    TargetsDiffer,
    /// No audience was asked for, and neither the key nor its organization names one.
    NoTarget,
    /// `scope` does not parse.
    MalformedScope,
    /// The scope at this place of `scope` is beyond the key.
    ScopeBeyondKey(usize),
    /// The key has no scope left that its owner still has.
    NoScope,
    /// All scopes of the key together are too much for one token.
    TooMuchScope,
    /// The service cannot tell at the moment: never the client's fault.
    Unavailable,
}

/// All that the token endpoint needs, in memory.
#[derive(Debug)]
pub struct Mint {
    installation: Installation,
    pepper: Pepper,
    serve_for: Duration,
    index: Index,
    signer: RwLock<Signer>,
}

/// Bytes of a token at most; many servers refuse headers above 8 KiB.
const MAX_TOKEN_BYTES: usize = 7 * 1024;

impl Mint {
    /// A mint without keys, which refuses until the service has filled it.
    pub fn new(installation: Installation, pepper: Pepper, serve_for: Duration) -> Self {
        Self {
            installation,
            pepper,
            serve_for,
            index: Index::default(),
            signer: RwLock::new(Signer::default()),
        }
    }

    /// The issuer of the tokens.
    pub fn issuer(&self) -> &Issuer {
        &self.installation.issuer
    }

    /// The installation that it issues for.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// The API keys in memory.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Signs with other keys from now on.
    pub fn replace_signer(&self, signer: Signer) {
        *self.signer.write() = signer;
    }

    /// The public keys as they are served.
    pub fn public_keys(&self) -> PublicKeys {
        self.signer.read().public_keys()
    }

    /// Whether tokens can be issued: the index is filled and was compared with the database within
    /// the time that the operator allows.
    pub fn is_ready(&self, now: Timestamp) -> bool {
        self.index.is_fresh(now, self.serve_for) && self.signer.read().can_sign()
    }

    /// Issues a token, or says why not. The order of the checks is the contract's (section 5).
    ///
    /// # Errors
    /// Each [`Refused`]. What the server itself lacks is said first, so that no trouble of ours
    /// looks like a wrong key.
    pub fn issue(&self, request: &TokenRequest, now: Timestamp) -> Result<IssuedToken, Refused> {
        if !self.is_ready(now) {
            return Err(Refused::Unavailable);
        }
        let grant = self.index.authenticate(&request.client, &self.pepper)?.admit(now)?.grant(
            request,
            self.installation.token_lifetime,
            now,
        )?;
        self.sign(&grant, now)
    }

    fn sign(&self, grant: &Grant, now: Timestamp) -> Result<IssuedToken, Refused> {
        let token_id = token_id::next(now).ok_or(Refused::Unavailable)?;
        // the lock is let go before the signature, which takes far longer than all the rest
        let signing_key = self.signer.read().current().ok_or(Refused::Unavailable)?;
        let access_token = grant
            .with_claims(self.issuer(), &token_id, |claims| signing_key.sign(claims))
            .ok_or(Refused::Unavailable)?;
        if access_token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::TooMuchScope);
        }
        Ok(IssuedToken {
            access_token,
            expires_in: grant.lifetime(),
            scope: grant.scope.to_string(),
        })
    }
}
