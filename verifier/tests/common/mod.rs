//! A forge: it signs whatever text it is given, the way an attacker would who has the key.
#![allow(clippy::needless_pass_by_value, reason = "what is signed reads best where it is made")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so"
)]
#![allow(dead_code, reason = "each test uses its own part")]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair,
};
use serde_json::{Map, Value, json};
use tenmint_verifier::{InvalidToken, JwkSet, Token, Verifier, VerifierBuilder, VerifyError};

pub(crate) const ISSUER: &str = "https://auth.example.com";
pub(crate) const AUDIENCE: &str = "https://api.example.com";
pub(crate) const ORG: &str = "org_0000000000000000";
/// The moment at which the verifier of the forge stands.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) struct Forge {
    document: Vec<u8>,
    es256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

impl Forge {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap().as_ref().to_vec();
        let es256 = EcdsaKeyPair::from_pkcs8(algorithm, &document, &random).unwrap();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let ed25519 = Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap();
        Self { document, es256, ed25519 }
    }

    /// The uncompressed point of the ES256 key.
    pub(crate) fn point(&self) -> &[u8] {
        self.es256.public_key().as_ref()
    }

    pub(crate) fn es256_jwk(&self) -> Value {
        let (x, y) = self.point()[1..].split_at(32);
        json!({"kty": "EC", "crv": "P-256", "kid": "es", "x": encode(x), "y": encode(y)})
    }

    pub(crate) fn jwks(&self) -> Value {
        let x = encode(self.ed25519.public_key());
        let ed25519 = json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": x});
        json!({"keys": [self.es256_jwk(), ed25519]})
    }

    pub(crate) fn verifier(&self) -> Verifier {
        verifier_of(&self.jwks())
    }

    /// Signs these texts with the ES256 key.
    pub(crate) fn sign(&self, header: impl ToString, claims: impl ToString) -> String {
        self.sign_bytes(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    pub(crate) fn sign_bytes(&self, header: &[u8], claims: &[u8]) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.es256.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", encode(signature))
    }

    /// The same, with the signature in the form of X.509.
    pub(crate) fn sign_der(&self, header: impl ToString, claims: impl ToString) -> String {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, &self.document, &random).unwrap();
        let signed = join(&header.to_string(), &claims.to_string());
        let signature = key.sign(&random, signed.as_bytes()).unwrap();
        format!("{signed}.{}", encode(signature))
    }

    pub(crate) fn sign_ed25519(&self, header: impl ToString, claims: impl ToString) -> String {
        let signed = join(&header.to_string(), &claims.to_string());
        let signature = self.ed25519.sign(signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    /// What becomes of a token with these claims and a good header.
    pub(crate) fn try_claims(&self, claims: impl ToString) -> Result<Token, VerifyError> {
        self.verifier().verify_held(&self.sign(header(), claims))
    }

    /// What becomes of a token with this header and good claims.
    pub(crate) fn try_header(&self, header: impl ToString) -> Result<Token, VerifyError> {
        self.verifier().verify_held(&self.sign(header, claims()))
    }
}

/// A verifier with the keys of this set.
pub(crate) fn verifier_of(jwks: &Value) -> Verifier {
    builder().with_keys(JwkSet::parse(jwks.to_string().as_bytes()).unwrap()).unwrap()
}

pub(crate) fn builder() -> VerifierBuilder {
    Verifier::builder(ISSUER).audience(AUDIENCE).clock(|| NOW)
}

pub(crate) fn header() -> Value {
    json!({"typ": "at+jwt", "alg": "ES256", "kid": "es"})
}

pub(crate) fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "bot_0000000000000000", "aud": AUDIENCE,
        "client_id": "key_0000000000000000", "scope": "read:projects/alpha/*", "org": ORG,
        "iat": NOW, "exp": NOW + 600, "jti": "0000000000000000", "rev": 1,
    })
}

/// The same object with one member set, or taken away by `None`.
pub(crate) fn with(object: Value, name: &str, value: impl Into<Option<Value>>) -> Value {
    let mut object: Map<String, Value> = serde_json::from_value(object).unwrap();
    match value.into() {
        Some(value) => object.insert(name.to_owned(), value),
        None => object.remove(name),
    };
    object.into()
}

pub(crate) fn join(header: &str, claims: &str) -> String {
    format!("{}.{}", encode(header), encode(claims))
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn refused(reason: InvalidToken) -> Result<Token, VerifyError> {
    Err(VerifyError::InvalidToken(reason))
}
