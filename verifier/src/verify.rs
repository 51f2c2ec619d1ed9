//! The verification itself: from the text of a token to a [`Token`], strictly.
//!
//! Parsing is ours, the signature is ring's. The order is fixed: size, form, header, key,
//! signature, and only then what the claims say (RFC 8725).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::MapAccess;

use crate::claims::{Claims, RawClaims};
use crate::error::{BuildError, InvalidToken, VerifyError};
use crate::json::{self, Members, Text};
use crate::jwks::{Algorithm, JwkSet, PublicKey};
use crate::token::Token;

/// Bytes of a token at most: the issuer makes none over 7 KiB.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// How far the clocks of issuer and API may be apart.
const LEEWAY: Duration = Duration::from_secs(10);

/// Checks access tokens of one issuer for one API. Cheap to clone; share it between requests.
///
/// ```
/// use tenmint_verifier::{JwkSet, Verifier};
///
/// let keys = JwkSet::parse(br#"{"keys": []}"#).unwrap();
/// let verifier = Verifier::builder("https://auth.example.com")
///     .audience("https://api.example.com")
///     .with_keys(keys)?;
/// assert!(verifier.verify_held("not.a.token").is_err());
/// # Ok::<(), tenmint_verifier::BuildError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Verifier {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    rules: Rules,
    keys: Keys,
}

/// Where the keys come from.
#[derive(Debug)]
enum Keys {
    Given(JwkSet),
    #[cfg(feature = "remote")]
    Remote(crate::remote::RemoteKeys),
}

impl Verifier {
    /// Starts a verifier for the tokens of this issuer, a bare origin like
    /// `https://auth.example.com`.
    ///
    /// ```
    /// let builder = tenmint_verifier::Verifier::builder("https://auth.example.com");
    /// ```
    pub fn builder(issuer: impl Into<String>) -> VerifierBuilder {
        VerifierBuilder {
            rules: Rules {
                issuer: issuer.into(),
                audiences: Vec::new(),
                algorithms: Algorithm::ALL.to_vec(),
                leeway: LEEWAY.as_secs(),
                accepts_typ_jwt: false,
                clock: Clock(system_seconds),
            },
        }
    }

    /// Verifies a token with the keys that are held now. Never waits.
    ///
    /// # Errors
    /// [`VerifyError::InvalidToken`] with the reason, or [`VerifyError::KeysUnavailable`] where a
    /// remote issuer was never reached, or not for too long.
    ///
    /// ```
    /// # let keys = tenmint_verifier::JwkSet::parse(br#"{"keys": []}"#).unwrap();
    /// # let verifier = tenmint_verifier::Verifier::builder("https://auth.example.com")
    /// #     .audience("https://api.example.com").with_keys(keys).unwrap();
    /// let error = verifier.verify_held("a.b").unwrap_err();
    /// assert_eq!(error.to_string(), "the token is malformed");
    /// ```
    pub fn verify_held(&self, token: &str) -> Result<Token, VerifyError> {
        let rules = &self.inner.rules;
        match &self.inner.keys {
            Keys::Given(keys) => Ok(rules.verify(token, keys)?),
            #[cfg(feature = "remote")]
            Keys::Remote(remote) => Ok(rules.verify(token, &*remote.held()?)?),
        }
    }

    /// Verifies a token, and fetches the keys of the issuer anew where the token names one that is
    /// not held. A token of a known key never waits.
    ///
    /// # Errors
    /// Like [`Verifier::verify_held`].
    ///
    /// ```
    /// # let keys = tenmint_verifier::JwkSet::parse(br#"{"keys": []}"#).unwrap();
    /// # let verifier = tenmint_verifier::Verifier::builder("https://auth.example.com")
    /// #     .audience("https://api.example.com").with_keys(keys).unwrap();
    /// # async {
    /// let token = verifier.verify("eyJ...").await?;
    /// println!("{}", token.claims().sub);
    /// # Ok::<(), tenmint_verifier::VerifyError>(())
    /// # };
    /// ```
    #[cfg_attr(
        not(feature = "remote"),
        expect(clippy::unused_async, reason = "one signature with and without remote keys")
    )]
    pub async fn verify(&self, token: &str) -> Result<Token, VerifyError> {
        let verified = self.verify_held(token);
        #[cfg(feature = "remote")]
        if let Keys::Remote(remote) = &self.inner.keys
            && needs_keys(&verified)
            && remote.refetch().await
        {
            return self.verify_held(token);
        }
        verified
    }
}

#[cfg(feature = "remote")]
fn needs_keys(verified: &Result<Token, VerifyError>) -> bool {
    matches!(
        verified,
        Err(VerifyError::InvalidToken(InvalidToken::UnknownKey) | VerifyError::KeysUnavailable)
    )
}

/// The rules of a verifier, before it has keys.
///
/// ```
/// use std::time::Duration;
/// use tenmint_verifier::{Algorithm, JwkSet, Verifier};
///
/// let verifier = Verifier::builder("https://auth.example.com")
///     .audience("https://api.example.com")
///     .algorithms([Algorithm::Es256])
///     .leeway(Duration::from_secs(2))
///     .with_keys(JwkSet::parse(br#"{"keys": []}"#).unwrap());
/// assert!(verifier.is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct VerifierBuilder {
    rules: Rules,
}

impl VerifierBuilder {
    /// The URI of this API. Say it again for an API of several names; a token for one is enough.
    ///
    /// ```
    /// let builder = tenmint_verifier::Verifier::builder("https://auth.example.com")
    ///     .audience("https://api.example.com");
    /// ```
    #[must_use]
    pub fn audience(mut self, uri: impl Into<String>) -> Self {
        self.rules.audiences.push(uri.into());
        self
    }

    /// The algorithms that are allowed; all of [`Algorithm::ALL`] unless said.
    ///
    /// ```
    /// # use tenmint_verifier::{Algorithm, Verifier};
    /// let builder = Verifier::builder("https://auth.example.com").algorithms([Algorithm::Es256]);
    /// ```
    #[must_use]
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.rules.algorithms = algorithms.into_iter().collect();
        self
    }

    /// How far the clocks of issuer and API may be apart: 10 s unless said, whole seconds.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tenmint_verifier::Verifier;
    /// let builder = Verifier::builder("https://auth.example.com").leeway(Duration::ZERO);
    /// ```
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.rules.leeway = leeway.as_secs();
        self
    }

    /// Accepts the header `typ: JWT` beside `at+jwt`, for an audience that was switched to it.
    ///
    /// ```
    /// # use tenmint_verifier::Verifier;
    /// let builder = Verifier::builder("https://auth.example.com").accept_typ_jwt();
    /// ```
    #[must_use]
    pub fn accept_typ_jwt(mut self) -> Self {
        self.rules.accepts_typ_jwt = true;
        self
    }

    /// Reads the time, in seconds since 1970, from this function: for tests.
    ///
    /// ```
    /// # use tenmint_verifier::Verifier;
    /// let builder = Verifier::builder("https://auth.example.com").clock(|| 1_800_000_000);
    /// ```
    #[must_use]
    pub fn clock(mut self, seconds: fn() -> u64) -> Self {
        self.rules.clock = Clock(seconds);
        self
    }

    /// A verifier with these keys, which never change.
    ///
    /// # Errors
    /// No audience, no algorithm, or an issuer that is no origin.
    ///
    /// ```
    /// # use tenmint_verifier::{JwkSet, Verifier};
    /// # let keys = JwkSet::parse(br#"{"keys": []}"#).unwrap();
    /// let error = Verifier::builder("https://auth.example.com/").audience("a").with_keys(keys);
    /// assert!(error.is_err());
    /// ```
    pub fn with_keys(self, keys: JwkSet) -> Result<Verifier, BuildError> {
        self.rules.check()?;
        Ok(Verifier { inner: Arc::new(Inner { rules: self.rules, keys: Keys::Given(keys) }) })
    }
}

/// What a token must be.
#[derive(Debug, Clone)]
struct Rules {
    issuer: String,
    audiences: Vec<String>,
    algorithms: Vec<Algorithm>,
    leeway: u64,
    accepts_typ_jwt: bool,
    clock: Clock,
}

impl Rules {
    fn check(&self) -> Result<(), BuildError> {
        let authority =
            self.issuer.strip_prefix("https://").or_else(|| self.issuer.strip_prefix("http://"));
        if authority.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@'])) {
            return Err(BuildError::new(format!(
                "the issuer `{}` is no origin: write it like `https://auth.example.com`",
                self.issuer
            )));
        }
        if self.audiences.is_empty() {
            return Err(BuildError::new("a verifier needs an audience"));
        }
        if self.algorithms.is_empty() {
            return Err(BuildError::new("a verifier needs an algorithm"));
        }
        Ok(())
    }

    fn verify(&self, token: &str, keys: &JwkSet) -> Result<Token, InvalidToken> {
        let parts = Parts::split(token)?;
        let header = Header::parse(&parts.header)?;
        self.check_type(&header)?;
        let key = self.select_key(&header, keys)?;
        if !key.verifies(parts.signed.as_bytes(), &parts.signature) {
            return Err(InvalidToken::BadSignature);
        }
        let raw = RawClaims::parse(&parts.claims)?;
        let not_before = raw.nbf;
        let claims = raw.require()?;
        self.check_claims(&claims, not_before)?;
        Ok(Token::new(claims))
    }

    fn check_type(&self, header: &Header<'_>) -> Result<(), InvalidToken> {
        // media types are compared without case: RFC 2045, section 5.1
        let is = |name: &str| header.typ.0.eq_ignore_ascii_case(name);
        let ok = is("at+jwt") || is("application/at+jwt") || self.accepts_typ_jwt && is("JWT");
        if ok { Ok(()) } else { Err(InvalidToken::WrongType) }
    }

    /// The key that `kid` names, if its own algorithm is allowed and is the one that `alg` says.
    fn select_key<'k>(
        &self,
        header: &Header<'_>,
        keys: &'k JwkSet,
    ) -> Result<&'k PublicKey, InvalidToken> {
        if !self.algorithms.iter().any(|allowed| allowed.name() == header.alg.0) {
            return Err(InvalidToken::WrongAlgorithm);
        }
        let key = keys.find(&header.kid.0).ok_or(InvalidToken::UnknownKey)?;
        if key.algorithm().name() == header.alg.0 {
            Ok(key)
        } else {
            Err(InvalidToken::WrongAlgorithm)
        }
    }

    fn check_claims(&self, claims: &Claims, not_before: Option<u64>) -> Result<(), InvalidToken> {
        let now = (self.clock.0)();
        if claims.iss != self.issuer {
            return Err(InvalidToken::WrongIssuer);
        }
        if !claims.aud.iter().any(|audience| self.audiences.contains(audience)) {
            return Err(InvalidToken::WrongAudience);
        }
        if now >= claims.exp.saturating_add(self.leeway) {
            return Err(InvalidToken::Expired);
        }
        let starts = claims.iat.max(not_before.unwrap_or(0));
        if starts > now.saturating_add(self.leeway) {
            return Err(InvalidToken::NotYetValid);
        }
        Ok(())
    }
}

/// The three parts of a JWS in compact form (RFC 7515, section 7.1), decoded.
struct Parts<'t> {
    signed: &'t str,
    header: Vec<u8>,
    claims: Vec<u8>,
    signature: Vec<u8>,
}

impl<'t> Parts<'t> {
    fn split(token: &'t str) -> Result<Self, InvalidToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(InvalidToken::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(InvalidToken::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(InvalidToken::Malformed)?;
        // a second dot is no base64url, so a third part more is refused here; unused bits too
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| InvalidToken::Malformed);
        Ok(Self {
            signed,
            header: decode(header)?,
            claims: decode(claims)?,
            signature: decode(signature)?,
        })
    }
}

/// A header that asks for nothing but a plain signature by a known key.
struct Header<'h> {
    alg: Text<'h>,
    kid: Text<'h>,
    typ: Text<'h>,
}

impl<'h> Header<'h> {
    fn parse(bytes: &'h [u8]) -> Result<Self, InvalidToken> {
        let raw: RawHeader<'h> = json::parse(bytes).map_err(|_| InvalidToken::Malformed)?;
        if raw.asks_for_more {
            return Err(InvalidToken::HeaderRefused);
        }
        Ok(Self {
            alg: raw.alg.ok_or(InvalidToken::WrongAlgorithm)?,
            kid: raw.kid.ok_or(InvalidToken::UnknownKey)?,
            typ: raw.typ.ok_or(InvalidToken::WrongType)?,
        })
    }
}

#[derive(Default)]
struct RawHeader<'h> {
    alg: Option<Text<'h>>,
    kid: Option<Text<'h>>,
    typ: Option<Text<'h>>,
    asks_for_more: bool,
}

impl<'h> Members<'h> for RawHeader<'h> {
    fn member<A: MapAccess<'h>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "alg" => self.alg = Some(map.next_value()?),
            "kid" => self.kid = Some(map.next_value()?),
            "typ" => self.typ = Some(map.next_value()?),
            // extensions that must be understood, keys that the token brings along, and what
            // lies inside another wrapping: RFC 8725, sections 3.10 and 3.12
            "crit" | "b64" | "jwk" | "jku" | "x5u" | "x5c" | "x5t" | "x5t#S256" | "cty" | "zip"
            | "enc" => {
                self.asks_for_more = true;
                json::skip(map)?;
            }
            _ => json::skip(map)?,
        }
        Ok(())
    }
}

/// Seconds since 1970, from wherever the verifier was told.
#[derive(Clone, Copy)]
struct Clock(fn() -> u64);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock of the machine")]
fn system_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
