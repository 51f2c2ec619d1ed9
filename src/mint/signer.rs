//! Signing keys in memory: one that signs, and the public halves of all that are served.

use std::fmt;
use std::sync::Arc;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::{Engine, encoded_len};
use bytes::Bytes;
use ring::digest;
use serde::Serialize;
use tenmint_verifier::{Algorithm, NewClaims, RevocationFeed};

use crate::mint::key_pair::KeyPair;
use crate::model::audience::TokenType;
use crate::model::signing_key::{Kid, SigningKey};

/// Bytes of claims that most tokens have at most; others grow.
const USUAL_PAYLOAD: usize = 768;

/// The signing keys of this moment.
#[derive(Debug, Clone, Default)]
pub struct Signer {
    current: Option<Arc<CurrentKey>>,
    public_keys: PublicKeys,
}

/// The JWKS document and its `ETag`.
#[derive(Debug, Clone, Default)]
pub struct PublicKeys {
    /// The document.
    pub document: Bytes,
    /// A quoted hash of it.
    pub etag: String,
    /// The algorithms of its keys, the one that signs first.
    pub algorithms: Vec<Algorithm>,
}

/// The key that signs, with all of its tokens' header made once.
pub(super) struct CurrentKey {
    kid: Kid,
    key_pair: KeyPair,
    /// The headers in base64url, with the dot behind each: of `at+jwt`, of `JWT`, and of a feed.
    headers: [String; 3],
}

/// The strong `ETag` of a document: a quoted hash.
pub fn etag_of(document: &str) -> String {
    let hash = digest::digest(&digest::SHA256, document.as_bytes());
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(hash.as_ref().get(..12).unwrap_or_default()))
}

impl Signer {
    /// Signs with this key from now on, if there is one, and serves these: the signing one first,
    /// because some clients look no further.
    pub fn new(current: Option<(&Kid, KeyPair)>, served: &[&SigningKey]) -> Self {
        let jwks: Vec<&str> = served.iter().map(|key| key.public_jwk.as_str()).collect();
        let document = format!(r#"{{"keys":[{}]}}"#, jwks.join(","));
        let mut algorithms: Vec<Algorithm> = Vec::new();
        for key in served {
            if !algorithms.contains(&key.algorithm) {
                algorithms.push(key.algorithm);
            }
        }
        let (etag, document) = (etag_of(&document), document.into());
        Self {
            current: current.map(|(kid, key_pair)| Arc::new(CurrentKey::new(kid, key_pair))),
            public_keys: PublicKeys { document, etag, algorithms },
        }
    }

    pub(super) fn can_sign(&self) -> bool {
        self.current.is_some()
    }

    pub(super) fn current(&self) -> Option<Arc<CurrentKey>> {
        self.current.clone()
    }

    pub(super) fn public_keys(&self) -> PublicKeys {
        self.public_keys.clone()
    }
}

impl CurrentKey {
    fn new(kid: &Kid, key_pair: KeyPair) -> Self {
        let algorithm = key_pair.algorithm();
        let header = |typ: &str| {
            let header = format!(r#"{{"typ":"{typ}","alg":"{algorithm}","kid":"{kid}"}}"#);
            URL_SAFE_NO_PAD.encode(header) + "."
        };
        let [access_token, jwt] = [TokenType::AccessToken, TokenType::Jwt].map(TokenType::as_str);
        let headers = [access_token, jwt, RevocationFeed::TYPE].map(header);
        Self { kid: kid.clone(), key_pair, headers }
    }

    pub(super) fn kid(&self) -> &str {
        self.kid.as_str()
    }

    /// The token of these claims: a JWS in compact form (RFC 7515, section 7.1).
    pub(super) fn sign(&self, claims: &NewClaims<'_>, token_type: TokenType) -> Option<String> {
        let [access_token, jwt, _] = &self.headers;
        self.signed(if token_type == TokenType::Jwt { jwt } else { access_token }, claims)
    }

    /// The JWT of a revocation feed.
    pub(super) fn sign_feed(&self, feed: &RevocationFeed) -> Option<String> {
        let [_, _, header] = &self.headers;
        self.signed(header, feed)
    }

    fn signed(&self, header: &str, claims: &impl Serialize) -> Option<String> {
        let mut payload = Vec::with_capacity(USUAL_PAYLOAD);
        serde_json::to_writer(&mut payload, claims).ok()?;
        let mut token = Vec::with_capacity(header.len() + payload.len() * 4 / 3 + 350);
        token.extend_from_slice(header.as_bytes());
        append(&mut token, &payload)?;
        let signature = self.key_pair.sign(&token)?;
        token.push(b'.');
        append(&mut token, signature.as_ref())?;
        String::from_utf8(token).ok()
    }
}

/// Appends bytes in base64url, in one piece: the encoder of strings works through a buffer of its own.
fn append(token: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    let start = token.len();
    token.resize(start + encoded_len(bytes.len(), false)?, 0);
    URL_SAFE_NO_PAD.encode_slice(bytes, token.get_mut(start..)?).ok().map(drop)
}

impl fmt::Debug for CurrentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CurrentKey({:?})", self.key_pair)
    }
}
