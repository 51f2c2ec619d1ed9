//! The verifier that an API holds: rules, and where its keys come from.

use std::sync::Arc;
#[cfg(feature = "axum")]
use std::sync::OnceLock;
use std::time::Duration;

#[cfg(all(feature = "remote", feature = "tracing"))]
use tracing::Instrument;

use crate::cache::{CACHED_TOKENS, Known, Snapshot, TokenCache, Verified};
use crate::error::{BuildError, InvalidToken, VerifyError};
use crate::jwks::{Algorithm, JwkSet};
use crate::observe;
use crate::quota_count::QuotaCounters;
#[cfg(feature = "raw-keys")]
use crate::raw_keys::{RawKeyVerifier, RawKeys};
#[cfg(feature = "remote")]
use crate::remote::{FeedPolicy, Remote, SERVE_STALE};
use crate::rules::{Clock, Rules};
use crate::token::Token;

/// How far the clocks of issuer and API may be apart.
const LEEWAY: Duration = Duration::from_secs(5);

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
    cache: TokenCache,
    quotas: Arc<QuotaCounters>,
    #[cfg(feature = "raw-keys")]
    raw_keys: Option<RawKeyVerifier>,
    /// Where the API tells what it takes, once it does.
    #[cfg(feature = "axum")]
    metadata_uri: OnceLock<Arc<str>>,
}

impl Inner {
    /// What a check finds with all that is known of the issuer at this moment.
    fn at_this_moment<T>(
        &self,
        check: impl FnOnce(Snapshot<'_>) -> Result<T, VerifyError>,
    ) -> Result<T, VerifyError> {
        match &self.keys {
            Keys::Given(keys) => check(Snapshot { keys, revocations: None }),
            #[cfg(feature = "remote")]
            Keys::Remote(remote) => {
                let (keys, revocations) = (remote.keys()?, remote.revocations()?);
                check(Snapshot { keys: &keys, revocations: Some(&revocations) })
            }
        }
    }
}

/// What the feed says of a token that was verified before it moved.
fn check_revocations(verified: &Verified, now: Snapshot<'_>) -> Result<(), InvalidToken> {
    match now.revocations {
        Some(held) if held.is_withdrawn(&verified.kid) => Err(InvalidToken::WithdrawnKey),
        Some(held) if held.voids(&verified.claims) => Err(InvalidToken::Revoked),
        _ => Ok(()),
    }
}

/// Where the keys come from.
#[derive(Debug)]
enum Keys {
    Given(Arc<JwkSet>),
    #[cfg(feature = "remote")]
    Remote(Remote),
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
                clock: Clock::system(),
            },
            cached: CACHED_TOKENS,
            #[cfg(feature = "remote")]
            serve_stale: SERVE_STALE,
            #[cfg(feature = "remote")]
            feed: FeedPolicy::default(),
            #[cfg(feature = "raw-keys")]
            raw_keys: None,
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
        let verdict = self.judge(token);
        observe::verified(&verdict);
        verdict
    }

    fn judge(&self, token: &str) -> Result<Token, VerifyError> {
        self.inner.at_this_moment(|now| self.verify_once(token, now))
    }

    /// Verifies a token, unless it is known to hold. What depends on the moment is checked each time.
    fn verify_once(&self, token: &str, now: Snapshot<'_>) -> Result<Token, VerifyError> {
        let Inner { rules, cache, .. } = &*self.inner;
        let claims = match cache.find(token, now) {
            Known::Verified(claims) => claims,
            Known::BeforeRevocations(verified) => {
                if let Err(refused) = check_revocations(&verified, now) {
                    cache.forget(token);
                    return Err(refused.into());
                }
                cache.keep(token, verified.clone(), now);
                verified.claims
            }
            Known::Nothing => {
                let verified = rules.verify(token, now.into())?;
                cache.keep(token, verified.clone(), now);
                return Ok(Token::new(verified.claims));
            }
        };
        if let Err(refused) = rules.check_again(&claims) {
            cache.forget(token);
            return Err(refused.into());
        }
        Ok(Token::new(claims))
    }

    /// Verifies a token whoever it is for: for an issuer that looks at its own tokens. An API never
    /// calls this, since it would accept what was issued for another one (RFC 8725, section 3.9).
    ///
    /// # Errors
    /// Like [`Verifier::verify_held`].
    ///
    /// ```
    /// # let keys = tenmint_verifier::JwkSet::parse(br#"{"keys": []}"#).unwrap();
    /// # let verifier = tenmint_verifier::Verifier::builder("https://auth.example.com")
    /// #     .audience("https://api.example.com").with_keys(keys).unwrap();
    /// assert!(verifier.verify_for_any_audience("a.b.c").is_err());
    /// ```
    pub fn verify_for_any_audience(&self, token: &str) -> Result<Token, VerifyError> {
        // other rules than those that the cache holds tokens by; an audience may have been switched to
        // `typ: JWT`
        let rules = self.inner.rules.clone();
        let rules = Rules { audiences: Vec::new(), accepts_typ_jwt: true, ..rules };
        self.inner.at_this_moment(|now| Ok(Token::new(rules.verify(token, now.into())?.claims)))
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
        #[cfg(feature = "remote")]
        let verdict = self.judge_in_time(token).await;
        #[cfg(not(feature = "remote"))]
        let verdict = self.judge(token);
        observe::verified(&verdict);
        verdict
    }

    #[cfg(feature = "remote")]
    pub(crate) async fn judge_in_time(&self, token: &str) -> Result<Token, VerifyError> {
        let Some(remote) = self.remote_issuer() else { return self.judge(token) };
        // noted before the look at the keys, so that no fetch can end between the two unseen
        let seen = remote.fetches();
        let verdict = self.judge(token);
        if !worth_waiting(&verdict, seen) {
            return verdict;
        }
        let waited = remote.fetched_since(seen);
        #[cfg(feature = "tracing")]
        let waited = waited.instrument(tracing::debug_span!("wait_for_issuer_keys"));
        if waited.await { self.judge(token) } else { verdict }
    }

    /// A verifier of the same rules with these keys instead, for who is told when keys change. It
    /// cannot fail, since the rules have been checked, and copies no more than they are.
    ///
    /// ```
    /// # use tenmint_verifier::{JwkSet, Verifier};
    /// # let keys = JwkSet::parse(br#"{"keys": []}"#).unwrap();
    /// # let verifier = Verifier::builder("https://auth.example.com")
    /// #     .audience("https://api.example.com").with_keys(keys).unwrap();
    /// let rotated = JwkSet::parse(br#"{"keys": []}"#)?;
    /// let verifier = verifier.with_keys(rotated);
    /// # Ok::<(), tenmint_verifier::JwkSetError>(())
    /// ```
    #[must_use]
    pub fn with_keys(&self, keys: JwkSet) -> Self {
        let Inner { rules, cache, quotas, .. } = &*self.inner;
        let inner = Inner {
            rules: rules.clone(),
            keys: Keys::Given(Arc::new(keys)),
            cache: cache.anew(),
            quotas: quotas.clone(),
            #[cfg(feature = "raw-keys")]
            raw_keys: None,
            #[cfg(feature = "axum")]
            metadata_uri: self.inner.metadata_uri.clone(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn quotas(&self) -> &QuotaCounters {
        &self.inner.quotas
    }

    #[cfg(feature = "axum")]
    pub(crate) fn rules(&self) -> &Rules {
        &self.inner.rules
    }

    /// Where the API tells what it takes; nothing while it does not.
    #[cfg(feature = "axum")]
    pub(crate) fn metadata_uri(&self) -> Option<&Arc<str>> {
        self.inner.metadata_uri.get()
    }

    /// Names this place in every challenge from now on. The first one stays.
    #[cfg(feature = "axum")]
    pub(crate) fn tell_metadata_uri(&self, uri: Arc<str>) {
        let _told_before = self.inner.metadata_uri.set(uri);
    }

    #[cfg(feature = "raw-keys")]
    pub(crate) fn raw_key_verifier(&self) -> Option<&RawKeyVerifier> {
        self.inner.raw_keys.as_ref()
    }

    #[cfg(feature = "remote")]
    pub(crate) fn remote_issuer(&self) -> Option<&Remote> {
        match &self.inner.keys {
            Keys::Remote(remote) => Some(remote),
            Keys::Given(_) => None,
        }
    }
}

/// A token of an unknown key waits for the next fetch, any other only for the very first: an issuer
/// that is out of reach for long must not hold up every request besides.
#[cfg(feature = "remote")]
fn worth_waiting(verified: &Result<Token, VerifyError>, seen: u64) -> bool {
    match verified {
        Err(VerifyError::InvalidToken(InvalidToken::UnknownKey)) => true,
        Err(VerifyError::KeysUnavailable) => seen == 0,
        _ => false,
    }
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
    cached: usize,
    #[cfg(feature = "remote")]
    pub(crate) serve_stale: Duration,
    #[cfg(feature = "remote")]
    pub(crate) feed: FeedPolicy,
    #[cfg(feature = "raw-keys")]
    pub(crate) raw_keys: Option<RawKeys>,
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

    /// How far the clocks of issuer and API may be apart: 5 s unless said, whole seconds.
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

    /// How many verified tokens to remember, so that a second sight costs no signature: 10,000 unless
    /// said, about 2 KB each; 0 for none. A remembered token is still refused once it has expired, was
    /// revoked, or its key is gone.
    ///
    /// ```
    /// # use tenmint_verifier::Verifier;
    /// let builder = Verifier::builder("https://auth.example.com").cache(1_000);
    /// ```
    #[must_use]
    pub fn cache(mut self, tokens: usize) -> Self {
        self.cached = tokens;
        self
    }

    /// Reads the time, in seconds since 1970, from this function: for tests, and for who has a
    /// better clock than that of the machine. It is asked once a token and must not wait.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use tenmint_verifier::Verifier;
    ///
    /// let seconds = Arc::new(AtomicU64::new(1_800_000_000));
    /// let wound = seconds.clone();
    /// let builder = Verifier::builder("https://auth.example.com")
    ///     .clock(move || wound.load(Ordering::Relaxed));
    /// ```
    #[must_use]
    pub fn clock(mut self, seconds: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.rules.clock = Clock::new(seconds);
        self
    }

    /// A verifier with these keys, which never change.
    ///
    /// # Errors
    /// No audience, no algorithm, an issuer that is no origin, or a wish for raw keys, which only a
    /// running issuer knows.
    ///
    /// ```
    /// # use tenmint_verifier::{JwkSet, Verifier};
    /// # let keys = JwkSet::parse(br#"{"keys": []}"#).unwrap();
    /// let error = Verifier::builder("https://auth.example.com/").audience("a").with_keys(keys);
    /// assert!(error.is_err());
    /// ```
    pub fn with_keys(self, keys: JwkSet) -> Result<Verifier, BuildError> {
        self.rules.check()?;
        #[cfg(feature = "raw-keys")]
        if self.raw_keys.is_some() {
            return Err(BuildError::new("raw keys need a running issuer: build with `remote`"));
        }
        Ok(self.with_source(Keys::Given(Arc::new(keys))))
    }

    #[cfg(feature = "remote")]
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        self.rules.check()
    }

    #[cfg(feature = "remote")]
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    #[cfg(feature = "remote")]
    #[cfg_attr(
        not(feature = "raw-keys"),
        expect(unused_mut, clippy::unnecessary_wraps, reason = "raw keys alone can fail")
    )]
    pub(crate) fn with_remote(mut self, remote: Remote) -> Result<Verifier, BuildError> {
        #[cfg(feature = "raw-keys")]
        let raw_keys = self.raw_keys.take();
        #[cfg(feature = "raw-keys")]
        let raw_keys = raw_keys
            .map(|raw_keys| RawKeyVerifier::start(raw_keys, &self.rules, &remote))
            .transpose()?;
        let mut inner = self.into_inner(Keys::Remote(remote));
        #[cfg(feature = "raw-keys")]
        {
            inner.raw_keys = raw_keys;
        }
        Ok(Verifier { inner: Arc::new(inner) })
    }

    fn with_source(self, keys: Keys) -> Verifier {
        Verifier { inner: Arc::new(self.into_inner(keys)) }
    }

    fn into_inner(self, keys: Keys) -> Inner {
        Inner {
            rules: self.rules,
            keys,
            cache: TokenCache::new(self.cached),
            quotas: Arc::default(),
            #[cfg(feature = "raw-keys")]
            raw_keys: None,
            #[cfg(feature = "axum")]
            metadata_uri: OnceLock::new(),
        }
    }
}
