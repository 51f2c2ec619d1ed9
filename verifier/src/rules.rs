//! What a token must be: from its text to its [`Claims`], strictly.
//!
//! Parsing is ours, the signature is ring's. The order is fixed: size, form, header, key,
//! signature, and only then what the claims say (RFC 8725).

use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::MapAccess;

use crate::cache::{Snapshot, Verified};
use crate::claims::{Claims, RawClaims};
use crate::error::{BuildError, InvalidToken};
use crate::json::{self, Members, Text};
use crate::jwks::{Algorithm, JwkSet, PublicKey};
#[cfg(feature = "remote")]
use crate::revocations::RevocationFeed;
use crate::revocations::Revocations;

/// Bytes of a token at most: the issuer makes none over 7 KiB.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Bytes of a feed at most.
#[cfg(feature = "remote")]
pub(crate) const MAX_FEED_BYTES: usize = 16 * 1024 * 1024;

/// What a verifier knows of the issuer at this moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held<'k> {
    pub(crate) keys: &'k JwkSet,
    /// Nothing where no feed was heard.
    pub(crate) revocations: Option<&'k Revocations>,
}

impl<'k> From<Snapshot<'k>> for Held<'k> {
    fn from(now: Snapshot<'k>) -> Self {
        Self { keys: now.keys, revocations: now.revocations.map(|held| &**held) }
    }
}

/// What a token must be.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) issuer: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) leeway: u64,
    pub(crate) accepts_typ_jwt: bool,
    pub(crate) clock: Clock,
}

impl Rules {
    pub(crate) fn check(&self) -> Result<(), BuildError> {
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

    /// The claims of a valid token.
    pub(crate) fn verify(&self, token: &str, held: Held<'_>) -> Result<Verified, InvalidToken> {
        // media types are compared without case: RFC 2045, section 5.1
        let is_token = |typ: &str| {
            let is = |name: &str| typ.eq_ignore_ascii_case(name);
            is("at+jwt") || is("application/at+jwt") || self.accepts_typ_jwt && is("JWT")
        };
        let Opened { text, kid } = self.open(token, MAX_TOKEN_BYTES, is_token, held)?;
        let raw = RawClaims::parse(&text)?;
        let not_before = raw.nbf;
        let claims = raw.require()?;
        self.check_claims(&claims, not_before)?;
        if held.revocations.is_some_and(|revocations| revocations.voids(&claims)) {
            return Err(InvalidToken::Revoked);
        }
        Ok(Verified { claims: Arc::new(claims), kid: kid.into() })
    }

    /// What has to hold of a token that was verified before, at this moment.
    pub(crate) fn check_again(&self, claims: &Claims) -> Result<(), InvalidToken> {
        if self.has_expired(claims, self.clock.now()) { Err(InvalidToken::Expired) } else { Ok(()) }
    }

    fn has_expired(&self, claims: &Claims, now: u64) -> bool {
        now >= claims.exp.saturating_add(self.leeway)
    }

    /// What a feed of the issuer says. Its age is no matter here: an old one changes nothing.
    #[cfg(feature = "remote")]
    pub(crate) fn read_feed(
        &self,
        text: &str,
        held: Held<'_>,
    ) -> Result<RevocationFeed, InvalidToken> {
        let is_feed = |typ: &str| typ == RevocationFeed::TYPE;
        let Opened { text, .. } = self.open(text, MAX_FEED_BYTES, is_feed, held)?;
        let feed = RevocationFeed::parse(&text).ok_or(InvalidToken::BadClaims)?;
        if feed.iss == self.issuer { Ok(feed) } else { Err(InvalidToken::WrongIssuer) }
    }

    /// What a key of the issuer signed, under the type that is asked for.
    fn open(
        &self,
        text: &str,
        most_bytes: usize,
        is_type: impl Fn(&str) -> bool,
        held: Held<'_>,
    ) -> Result<Opened, InvalidToken> {
        if text.len() > most_bytes {
            return Err(InvalidToken::TooLarge);
        }
        let parts = Parts::split(text)?;
        let header = Header::parse(&parts.header)?;
        if !is_type(&header.typ.0) {
            return Err(InvalidToken::WrongType);
        }
        let key = self.select_key(&header, held)?;
        if !key.verifies(parts.signed.as_bytes(), &parts.signature) {
            return Err(InvalidToken::BadSignature);
        }
        let kid = header.kid.0.into_owned();
        Ok(Opened { text: parts.claims, kid })
    }

    /// The key that `kid` names, if its own algorithm is allowed and is the one that `alg` says.
    fn select_key<'k>(
        &self,
        header: &Header<'_>,
        Held { keys, revocations }: Held<'k>,
    ) -> Result<&'k PublicKey, InvalidToken> {
        if !self.algorithms.iter().any(|allowed| allowed.name() == header.alg.0) {
            return Err(InvalidToken::WrongAlgorithm);
        }
        let key = keys.find(&header.kid.0).ok_or(InvalidToken::UnknownKey)?;
        // an issuer names it in the feed long before every copy of its keys is renewed
        if revocations.is_some_and(|revocations| revocations.is_withdrawn(&header.kid.0)) {
            return Err(InvalidToken::WithdrawnKey);
        }
        if key.algorithm().name() == header.alg.0 {
            Ok(key)
        } else {
            Err(InvalidToken::WrongAlgorithm)
        }
    }

    pub(crate) fn check_claims(
        &self,
        claims: &Claims,
        not_before: Option<u64>,
    ) -> Result<(), InvalidToken> {
        let now = self.clock.now();
        if claims.iss != self.issuer {
            return Err(InvalidToken::WrongIssuer);
        }
        // a verifier of none is never built: only an issuer looks at its tokens without one
        let is_ours = |audience: &String| self.audiences.contains(audience);
        if !self.audiences.is_empty() && !claims.aud.iter().any(is_ours) {
            return Err(InvalidToken::WrongAudience);
        }
        if self.has_expired(claims, now) {
            return Err(InvalidToken::Expired);
        }
        let starts = claims.iat.max(not_before.unwrap_or(0));
        if starts > now.saturating_add(self.leeway) {
            return Err(InvalidToken::NotYetValid);
        }
        Ok(())
    }
}

/// What was signed, and by which key.
struct Opened {
    text: String,
    kid: String,
}

/// The three parts of a JWS in compact form (RFC 7515, section 7.1), decoded.
struct Parts<'t> {
    signed: &'t str,
    header: String,
    claims: String,
    signature: Vec<u8>,
}

impl<'t> Parts<'t> {
    fn split(token: &'t str) -> Result<Self, InvalidToken> {
        let (signed, signature) = token.rsplit_once('.').ok_or(InvalidToken::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(InvalidToken::Malformed)?;
        // a second dot is no base64url, so a third part more is refused here; unused bits too
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| InvalidToken::Malformed);
        let text = |part| String::from_utf8(decode(part)?).map_err(|_| InvalidToken::Malformed);
        Ok(Self {
            signed,
            header: text(header)?,
            claims: text(claims)?,
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
    fn parse(text: &'h str) -> Result<Self, InvalidToken> {
        let raw: RawHeader<'h> = json::parse(text).map_err(|_| InvalidToken::Malformed)?;
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
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    pub(crate) fn system() -> Self {
        Self::new(system_seconds)
    }

    pub(crate) fn new(seconds: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(seconds))
    }

    pub(crate) fn now(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock of the machine")]
pub(crate) fn system_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
