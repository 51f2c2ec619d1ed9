//! Key pairs: made once, parsed once, and then signed with.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use serde_json::{Value, json};
use tenmint_verifier::Algorithm;
use zeroize::Zeroizing;

use crate::mint::rsa;

/// A key pair that is ready to sign.
pub enum KeyPair {
    /// ECDSA on P-256.
    Es256(Box<EcdsaKeyPair>),
    /// RSA with 2048 bits.
    Rs256(Box<RsaKeyPair>),
    /// Ed25519.
    EdDsa(Box<Ed25519KeyPair>),
}

/// A key pair that was just made, in the form in which it is sealed and stored: PKCS#8, or PKCS#1
/// for RSA that was made here.
pub struct GeneratedKeyPair {
    /// The private half.
    pub private: Zeroizing<Vec<u8>>,
    /// The parsed pair.
    pub key_pair: KeyPair,
}

/// A private key that is not one of its algorithm.
#[derive(Debug, Clone, Copy)]
pub struct KeyPairError;

impl fmt::Display for KeyPairError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the private signing key cannot be made or read")
    }
}

impl std::error::Error for KeyPairError {}

impl KeyPair {
    /// Makes a key pair. RSA takes a second or so.
    pub fn generate(algorithm: Algorithm) -> Result<GeneratedKeyPair, KeyPairError> {
        let random = SystemRandom::new();
        let private = match algorithm {
            Algorithm::Rs256 => rsa::generate()?,
            Algorithm::EdDsa => {
                let document = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| KeyPairError)?;
                Zeroizing::new(document.as_ref().to_vec())
            }
            _ => {
                let rule = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let document =
                    EcdsaKeyPair::generate_pkcs8(rule, &random).map_err(|_| KeyPairError)?;
                Zeroizing::new(document.as_ref().to_vec())
            }
        };
        Ok(GeneratedKeyPair { key_pair: Self::parse(algorithm, &private)?, private })
    }

    /// Reads a private key of whichever algorithm, as PKCS#8.
    pub fn recognize(private: &[u8]) -> Result<Self, KeyPairError> {
        let mut read = Algorithm::ALL.into_iter().map(|algorithm| Self::parse(algorithm, private));
        read.find_map(Result::ok).ok_or(KeyPairError)
    }

    /// Reads a private key back.
    pub fn parse(algorithm: Algorithm, private: &[u8]) -> Result<Self, KeyPairError> {
        Ok(match algorithm {
            Algorithm::Rs256 => {
                let pair =
                    RsaKeyPair::from_der(private).or_else(|_| RsaKeyPair::from_pkcs8(private));
                Self::Rs256(Box::new(pair.map_err(|_| KeyPairError)?))
            }
            // other programs leave the public half out, which is made from the private one
            Algorithm::EdDsa => Self::EdDsa(Box::new(
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(private).map_err(|_| KeyPairError)?,
            )),
            _ => {
                let rule = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair = EcdsaKeyPair::from_pkcs8(rule, private, &SystemRandom::new());
                Self::Es256(Box::new(pair.map_err(|_| KeyPairError)?))
            }
        })
    }

    /// The one algorithm of this pair.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Es256(_) => Algorithm::Es256,
            Self::Rs256(_) => Algorithm::Rs256,
            Self::EdDsa(_) => Algorithm::EdDsa,
        }
    }

    /// The public half as a JWK (RFC 7517), with all that a strict reader asks for.
    pub fn public_jwk(&self, kid: &str) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match self {
            Self::Es256(pair) => {
                // an uncompressed point: 4, x, y
                let point = pair.public_key().as_ref();
                let (x, y) = point.split_at(33.min(point.len()));
                json!({"kty": "EC", "crv": "P-256",
                    "x": encode(x.get(1..).unwrap_or_default()), "y": encode(y)})
            }
            Self::Rs256(pair) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "n": encode(&public.n), "e": encode(&public.e)})
            }
            Self::EdDsa(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())})
            }
        };
        if let Some(members) = jwk.as_object_mut() {
            members.insert("kid".into(), kid.into());
            members.insert("alg".into(), self.algorithm().name().into());
            members.insert("use".into(), "sig".into());
        }
        jwk
    }

    /// A signature in the form of RFC 7518, section 3; nothing if the system has no random bytes.
    pub fn sign(&self, message: &[u8]) -> Option<Signature> {
        let random = SystemRandom::new();
        match self {
            Self::Es256(pair) => pair.sign(&random, message).ok().map(Signature::Short),
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).ok()?;
                Some(Signature::Long(signature))
            }
            Self::EdDsa(pair) => Some(Signature::Short(pair.sign(message))),
        }
    }
}

/// The bytes of a signature, short ones without an allocation.
pub enum Signature {
    /// Of a curve.
    Short(ring::signature::Signature),
    /// Of RSA.
    Long(Vec<u8>),
}

impl AsRef<[u8]> for Signature {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Short(signature) => signature.as_ref(),
            Self::Long(signature) => signature,
        }
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.algorithm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_algorithm_makes_a_pair_that_is_read_back_and_signs() {
        for algorithm in Algorithm::ALL {
            let made = KeyPair::generate(algorithm).unwrap();
            let read = KeyPair::parse(algorithm, &made.private).unwrap();
            assert_eq!(read.public_jwk("k"), made.key_pair.public_jwk("k"), "{algorithm}");
            assert!(read.sign(b"message").is_some());
        }
    }

    #[test]
    fn a_key_of_another_algorithm_is_refused() {
        let made = KeyPair::generate(Algorithm::Es256).unwrap();
        assert!(KeyPair::parse(Algorithm::EdDsa, &made.private).is_err());
    }
}
