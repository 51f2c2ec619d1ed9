//! A local issuer for the unit tests of an API: it mints any token, good or bad, without a server.
//!
//! Its key is made anew each time and known to no other verifier, so a build that turns this
//! feature on by mistake trusts nobody more. It panics where a test would have to.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Map, Value, json};

use crate::jwks::JwkSet;
use crate::rules::system_seconds;
use crate::verify::Verifier;

/// An issuer with one ES256 key, for tests.
///
/// ```
/// use tenmint_verifier::testing::TestIssuer;
///
/// let issuer = TestIssuer::new("https://api.example.com");
/// let token = issuer.token("org_0000000000000000", "read:projects/*").sign();
/// assert!(issuer.verifier().verify_held(&token).is_ok());
/// ```
#[derive(Debug)]
pub struct TestIssuer {
    issuer: String,
    audience: String,
    kid: String,
    key: EcdsaKeyPair,
}

impl TestIssuer {
    /// An issuer `https://issuer.test` of tokens for this audience.
    ///
    /// # Panics
    /// The machine has no randomness to give.
    ///
    /// ```
    /// # use tenmint_verifier::testing::TestIssuer;
    /// let issuer = TestIssuer::new("https://api.example.com");
    /// ```
    #[expect(clippy::expect_used, reason = "a test without randomness has nothing else to do")]
    pub fn new(audience: impl Into<String>) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("randomness");
        let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random)
            .expect("a key that was just made");
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref());
        let kid = URL_SAFE_NO_PAD.encode(digest);
        Self { issuer: "https://issuer.test".to_owned(), audience: audience.into(), kid, key }
    }

    /// The same issuer under another origin, such as that of a server in the test.
    ///
    /// ```
    /// # use tenmint_verifier::testing::TestIssuer;
    /// let issuer = TestIssuer::new("https://api.example.com").at("http://127.0.0.1:8080");
    /// ```
    #[must_use]
    pub fn at(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = issuer.into();
        self
    }

    /// The name of the key.
    ///
    /// ```
    /// # use tenmint_verifier::testing::TestIssuer;
    /// let issuer = TestIssuer::new("https://api.example.com");
    /// assert!(issuer.jwks().contains(issuer.kid()));
    /// ```
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The JWK Set document with the key.
    ///
    /// ```
    /// # use tenmint_verifier::{JwkSet, testing::TestIssuer};
    /// let issuer = TestIssuer::new("https://api.example.com");
    /// assert_eq!(JwkSet::parse(issuer.jwks().as_bytes()).unwrap().len(), 1);
    /// ```
    pub fn jwks(&self) -> String {
        // an uncompressed point is 0x04, then 32 bytes of x and 32 of y
        let (x, y) = self.key.public_key().as_ref().split_at(1).1.split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let kid = &self.kid;
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid,
            "x": x, "y": y}]})
        .to_string()
    }

    /// A verifier that holds the key.
    ///
    /// # Panics
    /// The issuer is no origin.
    ///
    /// ```
    /// # use tenmint_verifier::testing::TestIssuer;
    /// let issuer = TestIssuer::new("https://api.example.com");
    /// let text = issuer.token("org_0000000000000000", "chat").audience("another").sign();
    /// assert!(issuer.verifier().verify_held(&text).is_err());
    /// ```
    #[expect(clippy::expect_used, reason = "a test with a bad issuer or audience fails by it")]
    pub fn verifier(&self) -> Verifier {
        let keys = JwkSet::parse(self.jwks().as_bytes()).expect("a key set of one key");
        Verifier::builder(&self.issuer)
            .audience(&self.audience)
            .with_keys(keys)
            .expect("an issuer that is an origin")
    }

    /// A token for this organization with these scopes, valid for ten minutes from now.
    ///
    /// ```
    /// # use tenmint_verifier::testing::TestIssuer;
    /// let issuer = TestIssuer::new("https://api.example.com");
    /// let text = issuer.token("org_0000000000000000", "read:projects/* chat").sign();
    /// let token = issuer.verifier().verify_held(&text).unwrap();
    /// assert_eq!(token.claims().exp - token.claims().iat, 600);
    /// ```
    pub fn token(&self, org: &str, scope: &str) -> TestToken<'_> {
        let now = system_seconds();
        let token = TestToken { issuer: self, header: Map::new(), claims: Map::new() };
        token
            .header("typ", "at+jwt")
            .header("alg", "ES256")
            .header("kid", self.kid.as_str())
            .issuer(&self.issuer)
            .audience(&self.audience)
            .claim("sub", "bot_0000000000000000")
            .claim("client_id", "key_0000000000000000")
            .claim("scope", scope)
            .claim("org", org)
            .claim("iat", now)
            .claim("exp", now + 600)
            .claim("jti", "0000000000000000")
            .claim("rev", 1)
    }
}

/// A token in the making: good, until it is made otherwise.
///
/// ```
/// use tenmint_verifier::testing::TestIssuer;
///
/// let issuer = TestIssuer::new("https://api.example.com");
/// let text = issuer.token("org_0000000000000000", "chat").expired().sign();
/// let error = issuer.verifier().verify_held(&text).unwrap_err();
/// assert_eq!(error.to_string(), "the token has expired");
/// ```
#[derive(Debug, Clone)]
pub struct TestToken<'a> {
    issuer: &'a TestIssuer,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl TestToken<'_> {
    /// Sets a member of the header.
    ///
    /// ```
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// let text = issuer.token("org_0000000000000000", "chat").header("alg", "none").sign();
    /// assert!(issuer.verifier().verify_held(&text).is_err());
    /// ```
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Sets a claim.
    ///
    /// ```
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// let text = issuer.token("org_0000000000000000", "chat").claim("sub", "usr_1").sign();
    /// assert_eq!(issuer.verifier().verify_held(&text).unwrap().claims().sub, "usr_1");
    /// ```
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Leaves a claim out.
    ///
    /// ```
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// let text = issuer.token("org_0000000000000000", "chat").without_claim("sub").sign();
    /// assert!(issuer.verifier().verify_held(&text).is_err());
    /// ```
    #[must_use]
    pub fn without_claim(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Sets `iss`.
    ///
    /// ```
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// let text = issuer.token("org_0000000000000000", "chat").issuer("https://evil.test").sign();
    /// assert!(issuer.verifier().verify_held(&text).is_err());
    /// ```
    #[must_use]
    pub fn issuer(self, issuer: &str) -> Self {
        self.claim("iss", issuer)
    }

    /// Sets `aud`.
    ///
    /// ```
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// let text = issuer.token("org_0000000000000000", "chat").audience("another").sign();
    /// assert!(issuer.verifier().verify_held(&text).is_err());
    /// ```
    #[must_use]
    pub fn audience(self, audience: &str) -> Self {
        self.claim("aud", audience)
    }

    /// Sets `space`.
    ///
    /// ```
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// let text = issuer.token("org_0000000000000000", "chat").space("spc_0000000000000000").sign();
    /// let token = issuer.verifier().verify_held(&text).unwrap();
    /// assert_eq!(token.claims().space.as_deref(), Some("spc_0000000000000000"));
    /// ```
    #[must_use]
    pub fn space(self, space: &str) -> Self {
        self.claim("space", space)
    }

    /// Sets `net`: the ranges that are allowed and those that are blocked. An empty list is left
    /// out, as an issuer does.
    ///
    /// ```
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// let text = issuer.token("org_0000000000000000", "chat").net(&["10.0.0.0/8"], &[]).sign();
    /// let token = issuer.verifier().verify_held(&text).unwrap();
    /// assert!(!token.claims().net.as_ref().unwrap().allows("192.0.2.1".parse().unwrap()));
    /// ```
    #[must_use]
    pub fn net(self, allow: &[&str], block: &[&str]) -> Self {
        let lists = [("allow", allow), ("block", block)].into_iter();
        let some = lists.filter(|(_, list)| !list.is_empty());
        let net: Map<String, Value> =
            some.map(|(name, list)| (name.to_owned(), json!(list))).collect();
        self.claim("net", net)
    }

    /// Sets `quota`: so many requests within so many seconds.
    ///
    /// ```
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// let text = issuer.token("org_0000000000000000", "chat").quota(100, 60).sign();
    /// let token = issuer.verifier().verify_held(&text).unwrap();
    /// assert_eq!(token.claims().quota.unwrap().limit(), 100);
    /// ```
    #[must_use]
    pub fn quota(self, limit: u64, window: u64) -> Self {
        self.claim("quota", json!({"limit": limit, "window": window}))
    }

    /// Sets `exp`, counted from now.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// let lifetime = Duration::from_secs(60);
    /// let text = issuer.token("org_0000000000000000", "chat").expires_in(lifetime).sign();
    /// assert!(issuer.verifier().verify_held(&text).is_ok());
    /// ```
    #[must_use]
    pub fn expires_in(self, lifetime: Duration) -> Self {
        self.claim("exp", system_seconds().saturating_add(lifetime.as_secs()))
    }

    /// A token that was issued twenty minutes ago and has expired ten minutes ago.
    ///
    /// ```
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// let text = issuer.token("org_0000000000000000", "chat").expired().sign();
    /// assert!(issuer.verifier().verify_held(&text).is_err());
    /// ```
    #[must_use]
    pub fn expired(self) -> Self {
        let now = system_seconds();
        self.claim("iat", now.saturating_sub(1200)).claim("exp", now.saturating_sub(600))
    }

    /// Signs the token with the key of the issuer, whatever its header says.
    ///
    /// # Panics
    /// The machine has no randomness to give.
    ///
    /// ```
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// let text = issuer.token("org_0000000000000000", "chat").sign();
    /// assert_eq!(text.split('.').count(), 3);
    /// ```
    #[expect(clippy::expect_used, reason = "a test without randomness has nothing else to do")]
    pub fn sign(self) -> String {
        let encode =
            |part: Map<String, Value>| URL_SAFE_NO_PAD.encode(Value::from(part).to_string());
        let signed = format!("{}.{}", encode(self.header), encode(self.claims));
        let signature = self.issuer.key.sign(&SystemRandom::new(), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.expect("randomness")))
    }
}
