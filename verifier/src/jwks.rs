//! The public keys of an issuer (RFC 7517), parsed once.
//!
//! A key set in the field can hold keys that this crate does not know. They are skipped, so that
//! one odd key never stops the verification of tokens that other keys signed.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature;
use serde::de::MapAccess;

use crate::json::{self, Members, Text};

/// Keys that a set may have; more is no set of a token issuer.
const MAX_KEYS: usize = 100;

/// A signature algorithm that tokens may be signed with (RFC 7518, RFC 8037).
///
/// ```
/// use tenmint_verifier::Algorithm;
/// assert_eq!(Algorithm::Es256.name(), "ES256");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them.
    ///
    /// ```
    /// # use tenmint_verifier::Algorithm;
    /// assert!(Algorithm::ALL.contains(&Algorithm::EdDsa));
    /// ```
    pub const ALL: [Self; 3] = [Self::Es256, Self::Rs256, Self::EdDsa];

    /// The name in `alg`.
    ///
    /// ```
    /// # use tenmint_verifier::Algorithm;
    /// assert_eq!(Algorithm::EdDsa.name(), "EdDSA");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The keys of an issuer that can check an access token.
///
/// ```
/// use tenmint_verifier::JwkSet;
/// let set = JwkSet::parse(br#"{"keys": [{"kty": "AKP", "alg": "ML-DSA-44"}]}"#).unwrap();
/// assert_eq!((set.len(), set.skipped()), (0, 1));
/// ```
#[derive(Debug, Clone, Default)]
pub struct JwkSet {
    keys: Vec<PublicKey>,
    skipped: usize,
}

impl JwkSet {
    /// Parses a JWK Set document. Keys of no use here are skipped and counted.
    ///
    /// # Errors
    /// The document is no JWK Set, or holds more than 100 keys.
    ///
    /// ```
    /// use tenmint_verifier::JwkSet;
    /// assert!(JwkSet::parse(b"[]").is_err());
    /// ```
    pub fn parse(document: &[u8]) -> Result<Self, JwkSetError> {
        let text = std::str::from_utf8(document).map_err(|_| JwkSetError)?;
        let raw: RawSet<'_> = json::parse(text).map_err(|_| JwkSetError)?;
        let jwks = raw.keys.ok_or(JwkSetError)?;
        if jwks.len() > MAX_KEYS {
            return Err(JwkSetError);
        }
        let mut set = Self::default();
        for jwk in jwks {
            match json::parse::<RawJwk<'_>>(jwk.get()).ok().and_then(RawJwk::usable) {
                // of two keys with one `kid` the first counts, whatever order a fetch has them in
                Some(key) if set.find(&key.kid).is_none() => set.keys.push(key),
                _ => set.skipped += 1,
            }
        }
        Ok(set)
    }

    /// How many keys can be used.
    ///
    /// ```
    /// # let set = tenmint_verifier::JwkSet::parse(br#"{"keys": []}"#).unwrap();
    /// assert_eq!(set.len(), 0);
    /// ```
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key can be used.
    ///
    /// ```
    /// # let set = tenmint_verifier::JwkSet::parse(br#"{"keys": []}"#).unwrap();
    /// assert!(set.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys were skipped: of another kind or use, weak, or malformed.
    ///
    /// ```
    /// # let set = tenmint_verifier::JwkSet::parse(br#"{"keys": [{"kty": "oct", "k": "AA"}]}"#).unwrap();
    /// assert_eq!(set.skipped(), 1);
    /// ```
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    pub(crate) fn find(&self, kid: &str) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.kid == kid)
    }
}

/// A document that is no JWK Set.
///
/// ```
/// let error = tenmint_verifier::JwkSet::parse(b"{}").unwrap_err();
/// assert_eq!(error.to_string(), "the document is no JWK Set");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JwkSetError;

impl fmt::Display for JwkSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the document is no JWK Set")
    }
}

impl std::error::Error for JwkSetError {}

/// One key, its numbers decoded and checked.
#[derive(Clone)]
pub(crate) struct PublicKey {
    kid: String,
    material: Material,
}

#[derive(Clone)]
enum Material {
    /// The uncompressed point.
    P256([u8; 65]),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// The one algorithm of this key.
    pub(crate) fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::P256(_) => Algorithm::Es256,
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Whether `signature` is this key's over `message`, in the fixed-length form of RFC 7518.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.material {
            Material::P256(point) => {
                signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signature)
            }
            Material::Rsa { n, e } => signature::RsaPublicKeyComponents { n, e }.verify(
                &signature::RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
            Material::Ed25519(point) => {
                signature::UnparsedPublicKey::new(&signature::ED25519, point)
                    .verify(message, signature)
            }
        };
        verified.is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.algorithm(), self.kid)
    }
}

#[derive(Default)]
struct RawSet<'de> {
    keys: Option<Vec<&'de serde_json::value::RawValue>>,
}

impl<'de> Members<'de> for RawSet<'de> {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "keys" => self.keys = Some(map.next_value()?),
            _ => json::skip(map)?,
        }
        Ok(())
    }
}

/// A key as it stands in the set (RFC 7517 section 4, RFC 7518 section 6, RFC 8037).
#[derive(Default)]
struct RawJwk<'de> {
    kty: Option<Text<'de>>,
    kid: Option<Text<'de>>,
    alg: Option<Text<'de>>,
    usage: Option<Text<'de>>,
    key_ops: Option<Vec<Text<'de>>>,
    crv: Option<Text<'de>>,
    x: Option<Text<'de>>,
    y: Option<Text<'de>>,
    n: Option<Text<'de>>,
    e: Option<Text<'de>>,
    is_private: bool,
}

impl<'de> Members<'de> for RawJwk<'de> {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "kty" => self.kty = Some(map.next_value()?),
            "kid" => self.kid = Some(map.next_value()?),
            "alg" => self.alg = Some(map.next_value()?),
            "use" => self.usage = Some(map.next_value()?),
            "key_ops" => self.key_ops = Some(map.next_value()?),
            "crv" => self.crv = Some(map.next_value()?),
            "x" => self.x = Some(map.next_value()?),
            "y" => self.y = Some(map.next_value()?),
            "n" => self.n = Some(map.next_value()?),
            "e" => self.e = Some(map.next_value()?),
            "d" | "k" => {
                self.is_private = true;
                json::skip(map)?;
            }
            _ => json::skip(map)?,
        }
        Ok(())
    }
}

impl RawJwk<'_> {
    fn usable(self) -> Option<PublicKey> {
        let is = |member: &Option<Text<'_>>, text: &str| {
            member.as_ref().is_none_or(|member| member.0 == text)
        };
        let verifies = self
            .key_ops
            .as_ref()
            .is_none_or(|operations| operations.iter().any(|operation| operation.0 == "verify"));
        // a private or symmetric key in a public set is nobody's secret any more
        if self.is_private || !verifies || !is(&self.usage, "sig") {
            return None;
        }
        let material = match (self.kty.as_ref()?.0.as_ref(), self.crv.as_ref()) {
            ("EC", Some(Text(crv))) if crv == "P-256" => self.p256()?,
            ("OKP", Some(Text(crv))) if crv == "Ed25519" => self.ed25519()?,
            ("RSA", _) => self.rsa()?,
            _ => return None,
        };
        let key = PublicKey { kid: self.kid?.0.into_owned(), material };
        let named = is(&self.alg, key.algorithm().name())
            || key.algorithm() == Algorithm::EdDsa && is(&self.alg, "Ed25519");
        (named && !key.kid.is_empty()).then_some(key)
    }

    fn p256(&self) -> Option<Material> {
        let mut point = [4; 65];
        let (x, y) = point.get_mut(1..)?.split_at_mut(32);
        x.copy_from_slice(&number::<32>(self.x.as_ref())?);
        y.copy_from_slice(&number::<32>(self.y.as_ref())?);
        Some(Material::P256(point))
    }

    fn ed25519(&self) -> Option<Material> {
        number(self.x.as_ref()).map(Material::Ed25519)
    }

    fn rsa(&self) -> Option<Material> {
        let n = decoded(self.n.as_ref())?;
        let e = decoded(self.e.as_ref())?;
        let strong = (256..=1024).contains(&n.len())
            && n.first() != Some(&0)
            && is_odd_above_one(&e)
            && !has_roca_fingerprint(&n);
        strong.then_some(Material::Rsa { n, e })
    }
}

fn decoded(member: Option<&Text<'_>>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(member?.0.as_bytes()).ok()
}

fn number<const BYTES: usize>(member: Option<&Text<'_>>) -> Option<[u8; BYTES]> {
    decoded(member)?.try_into().ok()
}

/// An exponent of 1 makes every message its own signature.
fn is_odd_above_one(e: &[u8]) -> bool {
    e != [1]
        && e.first().is_some_and(|byte| *byte != 0)
        && e.last().is_some_and(|byte| byte % 2 == 1)
}

/// Whether a modulus was made by the broken generator of CVE-2017-15361 ("ROCA").
///
/// Its primes are powers of 65537 modulo many small primes, and so is their product. A sound
/// modulus passes this test by chance once in 2^27.
fn has_roca_fingerprint(n: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
        97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.iter().all(|prime| {
        let rest = n.iter().fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let mut power = 1;
        (0..*prime).any(|_| {
            power = power * 65537 % prime;
            power == rest
        })
    })
}

#[cfg(test)]
mod vectors;
