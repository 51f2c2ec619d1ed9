//! The claims of an access token (RFC 9068), as they are issued and as they are verified.

use serde::de::MapAccess;
use serde::{Serialize, Serializer};

use crate::error::{InvalidToken, SyntaxError};
use crate::json::{self, Members, Strict};
use crate::net::{Net, RawNet};
use crate::quota::{Quota, RawQuota};
use crate::scope_set::ScopeSet;

/// The claims of a verified token, each under its registered name.
///
/// ```
/// # #[cfg(feature = "testing")] {
/// use tenmint_verifier::testing::TestIssuer;
/// let issuer = TestIssuer::new("https://api.example.com");
/// let token = issuer.token("org_0000000000000000", "read:projects/*").sign();
/// let claims = issuer.verifier().verify_held(&token).unwrap();
/// assert_eq!(claims.claims().org, "org_0000000000000000");
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Claims {
    /// The issuer: a bare origin.
    pub iss: String,
    /// The owner of the API key: `usr_...` or `bot_...`.
    pub sub: String,
    /// The URIs of the APIs the token is for.
    #[serde(serialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// The API key: `key_...`.
    pub client_id: String,
    /// What the token allows, in the organization of `org` alone: check it with
    /// [`Token::require`](crate::Token::require).
    pub scope: ScopeSet,
    /// The organization: `org_...`.
    pub org: String,
    /// When the token was issued, in seconds since 1970.
    pub iat: u64,
    /// When the token expires, in seconds since 1970.
    pub exp: u64,
    /// The id of the token; ids sort by time. Empty for an API key that was sent as it is.
    pub jti: String,
    /// The revision of the installation under which the token was issued.
    pub rev: u64,
    /// The space the key belongs to, if it belongs to one: `spc_...`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
    /// From where the key may be used, if not from everywhere. Verifying does not enforce it: ask
    /// [`Net::allows`] with the address of the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<Net>,
    /// The quota of the key, if it has one. Verifying counts nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

/// The claims that an issuer signs. What [`Claims`] reads, this writes, and leaves out what is none.
///
/// ```
/// use tenmint_verifier::{NewClaims, Quota};
/// let scope = "read:a/*".parse()?;
/// let claims = NewClaims {
///     iss: "https://auth.example.com",
///     sub: "bot_0000000000000000",
///     aud: &["https://api.example.com"],
///     client_id: "key_0000000000000000",
///     scope: &scope,
///     org: "org_0000000000000000",
///     iat: 1,
///     exp: 601,
///     jti: "0",
///     rev: 1,
///     space: None,
///     net: None,
///     quota: Quota::new(100, 60),
/// };
/// let text = serde_json::to_string(&claims).unwrap();
/// assert!(text.contains(r#""aud":"https://api.example.com""#));
/// assert!(text.ends_with(r#""rev":1,"quota":{"limit":100,"window":60}}"#));
/// # Ok::<(), tenmint_verifier::SyntaxError>(())
/// ```
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(missing_docs, reason = "each member is told at `Claims`")]
pub struct NewClaims<'a> {
    pub iss: &'a str,
    pub sub: &'a str,
    #[serde(serialize_with = "one_or_many")]
    pub aud: &'a [&'a str],
    pub client_id: &'a str,
    pub scope: &'a ScopeSet,
    pub org: &'a str,
    pub iat: u64,
    pub exp: u64,
    pub jti: &'a str,
    pub rev: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub space: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<&'a Net>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

/// A lone audience is a string and several are an array: RFC 7519, section 4.1.3.
fn one_or_many<T: Serialize, S: Serializer>(items: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    match items {
        [one] => one.serialize(serializer),
        many => many.serialize(serializer),
    }
}

/// The claims as they stand in the token, before anything is required of them.
#[derive(Default)]
pub(crate) struct RawClaims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Audiences>,
    client_id: Option<String>,
    scope: Option<String>,
    org: Option<String>,
    iat: Option<u64>,
    exp: Option<u64>,
    jti: Option<String>,
    rev: Option<u64>,
    space: Option<String>,
    net: Option<RawNet>,
    quota: Option<RawQuota>,
    pub(crate) nbf: Option<u64>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

impl RawClaims {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidToken> {
        json::parse(text).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => InvalidToken::BadClaims,
            _ => InvalidToken::Malformed,
        })
    }

    /// What an API key is worth that was sent as it is: all that a token of it would say, but no id.
    /// Nothing of what has one: that is a token, and taken for a key it would outlive its revocation.
    #[cfg(feature = "raw-keys")]
    pub(crate) fn require_of_raw_key(mut self) -> Result<Option<Claims>, InvalidToken> {
        if self.jti.replace("-".to_owned()).is_some() {
            return Ok(None);
        }
        // all that it holds may be more than a token has room for; the answer has a bound of its own
        let claims = self.require_with(ScopeSet::parse_any_length)?;
        Ok(Some(Claims { jti: String::new(), ..claims }))
    }

    /// Every claim of an access token, or none: RFC 9068, section 2.2. A claim that restricts may be
    /// absent, but one that is there and cannot be read is never passed over.
    pub(crate) fn require(self) -> Result<Claims, InvalidToken> {
        self.require_with(str::parse)
    }

    /// The same, with this reading of the scopes.
    fn require_with(
        self,
        parse: fn(&str) -> Result<ScopeSet, SyntaxError>,
    ) -> Result<Claims, InvalidToken> {
        let text = |claim: Option<String>| {
            claim.filter(|text| !text.is_empty()).ok_or(InvalidToken::BadClaims)
        };
        let aud = match self.aud.ok_or(InvalidToken::BadClaims)? {
            Audiences::One(audience) => vec![audience],
            Audiences::Many(audiences) => audiences,
        };
        let scope = parse(&text(self.scope)?).map_err(|_| InvalidToken::BadClaims)?;
        Ok(Claims {
            iss: text(self.iss)?,
            sub: text(self.sub)?,
            aud,
            client_id: text(self.client_id)?,
            scope,
            org: text(self.org)?,
            iat: self.iat.ok_or(InvalidToken::BadClaims)?,
            exp: self.exp.ok_or(InvalidToken::BadClaims)?,
            jti: text(self.jti)?,
            rev: self.rev.ok_or(InvalidToken::BadClaims)?,
            space: self.space.map(|space| text(Some(space))).transpose()?,
            net: self.net.map(RawNet::require).transpose()?,
            quota: self.quota.map(RawQuota::require).transpose()?,
        })
    }
}

impl<'de> Members<'de> for RawClaims {
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "iss" => self.iss = Some(map.next_value()?),
            "sub" => self.sub = Some(map.next_value()?),
            "aud" => self.aud = Some(map.next_value()?),
            "client_id" => self.client_id = Some(map.next_value()?),
            "scope" => self.scope = Some(map.next_value()?),
            "org" => self.org = Some(map.next_value()?),
            "iat" => self.iat = Some(map.next_value()?),
            "exp" => self.exp = Some(map.next_value()?),
            "jti" => self.jti = Some(map.next_value()?),
            "rev" => self.rev = Some(map.next_value()?),
            "space" => self.space = Some(map.next_value()?),
            "net" => self.net = Some(map.next_value::<Strict<_>>()?.0),
            "quota" => self.quota = Some(map.next_value::<Strict<_>>()?.0),
            "nbf" => self.nbf = Some(map.next_value()?),
            _ => json::skip(map)?,
        }
        Ok(())
    }
}
