//! What can be wrong: with a text ([`SyntaxError`]), with a token ([`VerifyError`]), with the
//! set-up of a verifier ([`BuildError`]).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::filter::ResourceFilter;
use crate::quota::Quota;
use crate::raw_key_policy::RawKeyPolicy;
use crate::resource::Resource;
use crate::scope::{Action, Scope};

/// A text that is no canonical scope, filter, resource or address range. Its message names the fix.
///
/// ```
/// use tenmint_verifier::ResourceFilter;
/// let error = "projects/%2f".parse::<ResourceFilter>().unwrap_err();
/// assert_eq!(error.to_string(), "`%2f` is not canonical: write `%2F`");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    message: Cow<'static, str>,
}

impl SyntaxError {
    pub(crate) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SyntaxError {}

/// The start of a caller's text, short enough for a message.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

/// A verifier that cannot be built as asked.
///
/// ```
/// use tenmint_verifier::{JwkSet, Verifier};
/// let keys = JwkSet::parse(br#"{"keys":[]}"#).unwrap();
/// let error = Verifier::builder("https://auth.example.com").with_keys(keys).unwrap_err();
/// assert_eq!(error.to_string(), "a verifier needs an audience");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    message: Cow<'static, str>,
}

impl BuildError {
    pub(crate) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BuildError {}

/// Why a request is refused. Each variant is one kind of answer (RFC 6750, section 3).
///
/// ```
/// use tenmint_verifier::{InvalidToken, VerifyError};
/// let error = VerifyError::InvalidToken(InvalidToken::Expired);
/// assert_eq!(error.to_string(), "the token has expired");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyError {
    /// No token came: 401 without an error code.
    NoToken,
    /// The credentials are not one Bearer token in one header: 400 `invalid_request`.
    InvalidRequest,
    /// The token does not hold: 401 `invalid_token`.
    InvalidToken(InvalidToken),
    /// The path of the request names no resource: 400 `invalid_request`, with what is wrong.
    InvalidResource(SyntaxError),
    /// The token holds and does not reach this far: 403 `insufficient_scope`, naming this scope.
    InsufficientScope(Scope),
    /// The API key has used up its quota, here or at the issuer: 429, with the seconds until a call can
    /// pass.
    QuotaSpent {
        /// The quota.
        quota: Quota,
        /// At least 1.
        retry_after: u64,
    },
    /// The API guards a route without saying whose it is, or with a parameter that the route does not
    /// have: 500, until its author has put that right.
    Misconfigured(&'static str),
    /// No keys to check with, because the issuer is out of reach: 503, never 401.
    KeysUnavailable,
    /// What was revoked was not heard for longer than the API allows: 503, never 401.
    RevocationsUnavailable,
    /// An API key came where the API wants a token: 401, with what the policy tells its people.
    TokenRequired(Arc<RawKeyPolicy>),
    /// Nobody asks the issuer about one more API key now, because too many came that it does not
    /// know, or because it wants to be asked later: 429, never 401.
    TryLater {
        /// Seconds, at least 1.
        retry_after: u64,
    },
    /// The issuer cannot be asked about an API key, or refuses to tell this API: 503, never 401.
    IssuerUnavailable,
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken => f.write_str("no token came with the request"),
            Self::InvalidRequest => f.write_str("send one token, in one Authorization header"),
            Self::InvalidToken(reason) => reason.fmt(f),
            Self::InvalidResource(error) => error.fmt(f),
            Self::QuotaSpent { quota, .. } => {
                let (limit, window) = (quota.limit(), quota.window());
                write!(f, "the key is held to {limit} requests within {window} s")
            }
            Self::Misconfigured(what) => write!(f, "the API is not set up to decide this: {what}"),
            Self::InsufficientScope(scope) => write!(f, "the request needs the scope `{scope}`"),
            Self::KeysUnavailable => f.write_str("the keys of the issuer are out of reach"),
            Self::RevocationsUnavailable => {
                f.write_str("what the issuer revoked was not heard for too long")
            }
            Self::TokenRequired(_) => {
                f.write_str("API keys are not taken here: exchange it for a token")
            }
            Self::TryLater { retry_after } => {
                write!(f, "too many API keys have to be asked about: try again in {retry_after} s")
            }
            Self::IssuerUnavailable => f.write_str("the issuer is out of reach"),
        }
    }
}

impl std::error::Error for VerifyError {}

impl VerifyError {
    /// The refusal that names the scope which would allow this.
    ///
    /// ```
    /// use tenmint_verifier::{Action, Resource, VerifyError};
    /// let alpha = Resource::new(["projects", "alpha"])?;
    /// let refused = VerifyError::insufficient_scope(&Action::Read, &alpha);
    /// assert_eq!(refused.to_string(), "the request needs the scope `read:projects/alpha`");
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn insufficient_scope(action: &Action, resource: &Resource) -> Self {
        // a resource that is too long to be written as a filter is named by its kind alone
        let filter = resource.to_filter().unwrap_or_else(|_| ResourceFilter::all());
        Self::InsufficientScope(Scope::new(action, &filter))
    }

    /// A word for each kind of refusal, for metrics and logs: it does not change.
    ///
    /// ```
    /// use tenmint_verifier::{InvalidToken, VerifyError};
    /// assert_eq!(VerifyError::InvalidToken(InvalidToken::Expired).kind(), "expired");
    /// ```
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidToken(reason) => reason.kind(),
            Self::InvalidResource(_) => "invalid_resource",
            Self::InsufficientScope(_) => "insufficient_scope",
            Self::QuotaSpent { .. } => "quota_spent",
            Self::Misconfigured(_) => "misconfigured",
            Self::KeysUnavailable => "keys_unavailable",
            Self::RevocationsUnavailable => "revocations_unavailable",
            Self::TokenRequired(_) => "token_required",
            Self::TryLater { .. } => "try_later",
            Self::IssuerUnavailable => "issuer_unavailable",
        }
    }
}

/// Why a token does not hold: for the log of the API and the `error_description`.
///
/// ```
/// use tenmint_verifier::InvalidToken;
/// assert_eq!(InvalidToken::BadSignature.to_string(), "the signature does not verify");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidToken {
    /// More bytes than a token of this issuer can have.
    TooLarge,
    /// Not three canonical base64url parts of strict JSON.
    Malformed,
    /// A header that asks for something else than a plain signed access token.
    HeaderRefused,
    /// `typ` is not `at+jwt`.
    WrongType,
    /// `kid` names no key of the issuer.
    UnknownKey,
    /// `alg` is not the algorithm of the key.
    WrongAlgorithm,
    /// The signature does not verify.
    BadSignature,
    /// A claim is missing, of the wrong type, or no claim of an access token.
    BadClaims,
    /// `iss` is another issuer.
    WrongIssuer,
    /// `aud` is another API.
    WrongAudience,
    /// `exp` has passed.
    Expired,
    /// `iat` or `nbf` lies ahead.
    NotYetValid,
    /// Its API key, owner, space or organization lost it, or it was revoked by itself.
    Revoked,
    /// The key that signed it was withdrawn.
    WithdrawnKey,
    /// It may not be used from the address of the caller.
    WrongAddress,
    /// An API key that was sent as it is, and is worth nothing here.
    UnknownApiKey,
}

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the token is too large",
            Self::Malformed => "the token is malformed",
            Self::HeaderRefused => "the header of the token is refused",
            Self::WrongType => "the token is no access token of type at+jwt",
            Self::UnknownKey => "the token names a key that the issuer does not have",
            Self::WrongAlgorithm => "the token names another algorithm than its key",
            Self::BadSignature => "the signature does not verify",
            Self::BadClaims => "a claim is missing or malformed",
            Self::WrongIssuer => "the token is from another issuer",
            Self::WrongAudience => "the token is for another audience",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::Revoked => "the token was revoked",
            Self::WithdrawnKey => "the key that signed the token was withdrawn",
            Self::WrongAddress => "the token may not be used from this address",
            Self::UnknownApiKey => "the API key is unknown or does not hold here",
        })
    }
}

impl std::error::Error for InvalidToken {}

impl InvalidToken {
    /// A word for each reason, for metrics and logs: it does not change.
    ///
    /// ```
    /// assert_eq!(tenmint_verifier::InvalidToken::BadSignature.kind(), "bad_signature");
    /// ```
    pub fn kind(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::HeaderRefused => "header_refused",
            Self::WrongType => "wrong_type",
            Self::UnknownKey => "unknown_key",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::BadSignature => "bad_signature",
            Self::BadClaims => "bad_claims",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Revoked => "revoked",
            Self::WithdrawnKey => "withdrawn_key",
            Self::WrongAddress => "wrong_address",
            Self::UnknownApiKey => "unknown_api_key",
        }
    }
}

#[cfg(feature = "raw-keys")]
impl InvalidToken {
    /// Whether it was found with a token of the issuer beyond doubt: its signature held, or its key was
    /// one that was withdrawn.
    pub(crate) fn is_of_a_token_of_the_issuer(self) -> bool {
        matches!(
            self,
            Self::WrongAudience
                | Self::Expired
                | Self::NotYetValid
                | Self::Revoked
                | Self::WithdrawnKey
        )
    }
}

impl From<InvalidToken> for VerifyError {
    fn from(reason: InvalidToken) -> Self {
        Self::InvalidToken(reason)
    }
}
