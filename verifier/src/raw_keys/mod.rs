//! API keys that are sent to the API as they are: recognised, asked about once, and remembered by
//! the rules of the revocation feed. They come out as the same [`Token`] that a token does, so that
//! no handler changes on the way from raw keys to tokens.
//!
//! A key that is known never waits and costs the issuer nothing. Keys that the issuer does not know
//! are asked about so seldom that a flood of them hurts nobody.

mod issuer;
mod known;
mod limit;
mod policy;
mod shape;
mod uses;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::claims::Claims;
use crate::error::{BuildError, InvalidToken, VerifyError};
use crate::net::Net;
use crate::observe;
use crate::raw_key_policy::{Draw, RawKeyMode, RawKeyPolicy};
use crate::raw_keys::issuer::{Introspected, Issuer};
use crate::raw_keys::known::{KeyDigest, Known, KnownKeys};
use crate::raw_keys::limit::Limit;
use crate::raw_keys::policy::PolicyReader;
use crate::raw_keys::shape::Shape;
use crate::raw_keys::uses::UseReporter;
use crate::remote::Remote;
use crate::revocations::Revocations;
use crate::rules::Rules;
use crate::token::Token;
use crate::verify::{Verifier, VerifierBuilder};

/// Bytes of an API key at most; ours have some 120, and those of others are seldom longer.
const MAX_KEY_BYTES: usize = 2 * 1024;
/// Keys that are remembered unless said otherwise: 1 KB each, or so.
const CACHED_KEYS: usize = 10_000;

/// How an API takes raw keys: where they come in, and with which key of its own it asks about them.
///
/// A key is recognised by the form that tenmint gives it, by how it begins, or by the header or
/// scheme that it comes under. What is recognised by its form is checked for typos before anybody is
/// asked.
///
/// ```
/// use tenmint_verifier::{RawKeys, Verifier};
///
/// # fn build(own_key: String) -> Result<Verifier, tenmint_verifier::BuildError> {
/// let verifier = Verifier::builder("https://auth.example.com")
///     .audience("https://api.example.com")
///     // a key whose bot has the role `verifier`
///     .raw_keys(RawKeys::asked_with(own_key).header("x-api-key").starting_with("sk_live_"))
///     .remote()?;
/// # Ok(verifier)
/// # }
/// ```
#[derive(Clone)]
pub struct RawKeys {
    own_key: Arc<str>,
    sources: Sources,
    cached: usize,
    reports: bool,
}

/// Where raw keys come in, beside those of our form in `Authorization`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    /// In lower case.
    pub(crate) headers: Vec<Box<str>>,
    pub(crate) schemes: Vec<Box<str>>,
    starts: Vec<Box<str>>,
}

impl RawKeys {
    /// Asks about raw keys with this API key of the API: one whose bot may `introspect:org/tokens/*`,
    /// as the role `verifier` says.
    ///
    /// ```
    /// let raw_keys = tenmint_verifier::RawKeys::asked_with("tm_...");
    /// ```
    pub fn asked_with(own_key: impl Into<Arc<str>>) -> Self {
        let sources = Sources::default();
        Self { own_key: own_key.into(), sources, cached: CACHED_KEYS, reports: false }
    }

    /// Takes what comes in this header as a raw key. Say it again for another one.
    ///
    /// ```
    /// let raw_keys = tenmint_verifier::RawKeys::asked_with("tm_...").header("X-Api-Key");
    /// ```
    #[must_use]
    pub fn header(mut self, name: &str) -> Self {
        self.sources.headers.push(name.to_ascii_lowercase().into());
        self
    }

    /// Takes what comes in `Authorization` under this scheme as a raw key, as in
    /// `Authorization: ApiKey sk_live_...`.
    ///
    /// ```
    /// let raw_keys = tenmint_verifier::RawKeys::asked_with("tm_...").scheme("ApiKey");
    /// ```
    #[must_use]
    pub fn scheme(mut self, name: &str) -> Self {
        self.sources.schemes.push(name.into());
        self
    }

    /// Takes a Bearer text that begins like this as a raw key: for keys that another service made.
    ///
    /// ```
    /// let raw_keys = tenmint_verifier::RawKeys::asked_with("tm_...").starting_with("sk_live_");
    /// ```
    #[must_use]
    pub fn starting_with(mut self, start: &str) -> Self {
        self.sources.starts.push(start.into());
        self
    }

    /// Tells the service twice a minute how often each key came, raw and by token, from where and with
    /// which client: what `tenmint migration status` shows. At most 10,000 keys are counted from one
    /// report to the next, and what cannot be told is lost. Without this the service knows of tokens that
    /// it issued, and of questions about raw keys.
    ///
    /// ```
    /// let raw_keys = tenmint_verifier::RawKeys::asked_with("tm_...").reporting_uses();
    /// ```
    #[must_use]
    pub fn reporting_uses(mut self) -> Self {
        self.reports = true;
        self
    }

    /// How many keys to remember: 10,000 unless said, about 1 KB each.
    ///
    /// ```
    /// let raw_keys = tenmint_verifier::RawKeys::asked_with("tm_...").cache(1_000);
    /// ```
    #[must_use]
    pub fn cache(mut self, keys: usize) -> Self {
        self.cached = keys;
        self
    }
}

impl fmt::Debug for RawKeys {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawKeys({:?})", self.sources)
    }
}

impl Sources {
    fn are_known_by(&self, text: &str) -> bool {
        self.starts.iter().any(|start| text.starts_with(&**start))
    }
}

impl VerifierBuilder {
    /// Takes raw API keys beside tokens, as the service says for this API: see [`RawKeyPolicy`].
    ///
    /// ```
    /// use tenmint_verifier::{RawKeys, Verifier};
    /// let builder = Verifier::builder("https://auth.example.com")
    ///     .raw_keys(RawKeys::asked_with("tm_...").header("x-api-key"));
    /// ```
    #[must_use]
    pub fn raw_keys(mut self, raw_keys: RawKeys) -> Self {
        self.raw_keys = Some(raw_keys);
        self
    }
}

impl Verifier {
    /// Verifies an API key that was sent as it is, from this address. A key that is known never waits;
    /// the issuer is asked about another one, for two seconds at most.
    ///
    /// A token of the issuer in the place of a key is verified as the token that it is, since a client
    /// on its way to tokens may put its first one where the key was. It is never taken for a key.
    ///
    /// # Errors
    /// [`InvalidToken::UnknownApiKey`]; [`VerifyError::TokenRequired`] where the API takes none;
    /// [`VerifyError::QuotaSpent`] where the key has used up its quota at the issuer;
    /// [`VerifyError::TryLater`] where too many unknown keys come;
    /// [`VerifyError::IssuerUnavailable`], [`VerifyError::RevocationsUnavailable`]; of a token, like
    /// [`Verifier::verify`].
    ///
    /// ```
    /// # async fn show(verifier: tenmint_verifier::Verifier, caller: std::net::IpAddr) {
    /// match verifier.verify_raw_key("tm_default_...", Some(caller)).await {
    ///     Ok(token) => println!("{} calls", token.claims().sub),
    ///     Err(refused) => println!("{refused}"),
    /// }
    /// # }
    /// ```
    pub async fn verify_raw_key(
        &self,
        text: &str,
        caller: Option<IpAddr>,
    ) -> Result<Token, VerifyError> {
        let verdict = match (self.raw_key_verifier(), self.remote_issuer()) {
            (Some(raw_keys), Some(remote)) => match self.judge_as_token(text).await {
                Some(verdict) => verdict,
                None => raw_keys.verify(text, caller, remote).await,
            },
            _ => Err(InvalidToken::UnknownApiKey.into()),
        };
        observe::verified(&verdict);
        verdict
    }

    /// What becomes of a token of the issuer that came in the place of a key; nothing of any other
    /// text, since keys of another service may have the form of a token.
    async fn judge_as_token(&self, text: &str) -> Option<Result<Token, VerifyError>> {
        if text.bytes().filter(|byte| *byte == b'.').count() != 2 {
            return None;
        }
        let verdict = self.judge_in_time(text).await;
        let is_of_issuer = match &verdict {
            Ok(_) => true,
            Err(VerifyError::InvalidToken(reason)) => reason.is_of_a_token_of_the_issuer(),
            Err(_) => false,
        };
        is_of_issuer.then_some(verdict)
    }

    /// Whether a Bearer text is a raw key: by its form, or by how it begins. `false` of every text
    /// where the API takes no raw keys.
    ///
    /// ```
    /// # fn show(verifier: &tenmint_verifier::Verifier) {
    /// assert!(!verifier.takes_for_raw_key("eyJ.eyJ.c2ln"));
    /// # }
    /// ```
    pub fn takes_for_raw_key(&self, text: &str) -> bool {
        self.raw_key_verifier().is_some_and(|raw_keys| {
            raw_keys.sources.are_known_by(text) || Shape::of(text) != Shape::Foreign
        })
    }

    /// What the service said last of raw keys at this API; nothing before the first time.
    ///
    /// ```
    /// # fn show(verifier: &tenmint_verifier::Verifier) {
    /// if let Some(policy) = verifier.raw_key_policy() {
    ///     println!("{} rules", policy.rules.len());
    /// }
    /// # }
    /// ```
    pub fn raw_key_policy(&self) -> Option<Arc<RawKeyPolicy>> {
        self.raw_key_verifier()?.policy.held()
    }
}

/// Verifies raw keys.
#[derive(Debug)]
pub(crate) struct RawKeyVerifier {
    pub(crate) sources: Sources,
    policy: PolicyReader,
    introspector: Arc<Introspector>,
    uses: Option<UseReporter>,
}

/// Asks the issuer about keys, in the background too, and knows what it said.
#[derive(Debug)]
struct Introspector {
    rules: Rules,
    issuer: Issuer,
    known: KnownKeys,
    limit: Limit,
}

impl RawKeyVerifier {
    pub(crate) fn start(
        raw_keys: RawKeys,
        rules: &Rules,
        remote: &Remote,
    ) -> Result<Self, BuildError> {
        let RawKeys { own_key, sources, cached, reports } = raw_keys;
        let issuer = Issuer::new(rules, &own_key, remote.key_source())?;
        let policy = PolicyReader::start(issuer.clone(), remote.heard());
        let uses = reports.then(|| UseReporter::start(issuer.clone(), &rules.audiences));
        let (known, limit) = (KnownKeys::new(cached), Limit::default());
        let introspector = Introspector { rules: rules.clone(), issuer, known, limit };
        Ok(Self { sources, policy, introspector: Arc::new(introspector), uses })
    }

    /// Why the issuer tells nothing, if it refuses the API's own key.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.introspector.issuer.refusal()
    }

    /// Waits until the policy was heard once.
    pub(crate) async fn ready(&self, patience: Duration) -> Result<(), VerifyError> {
        self.policy.get(patience).await.map(drop)
    }

    async fn verify(
        &self,
        text: &str,
        caller: Option<IpAddr>,
        remote: &Remote,
    ) -> Result<Token, VerifyError> {
        let is_mistyped = Shape::of(text) == Shape::Mistyped && !self.sources.are_known_by(text);
        if text.is_empty() || text.len() > MAX_KEY_BYTES || is_mistyped {
            return Err(InvalidToken::UnknownApiKey.into());
        }
        let policy = self.policy.get(issuer::PATIENCE).await?;
        let draw = Draw::new();
        if policy.mode_for_all(draw) == RawKeyMode::Deny {
            return Err(VerifyError::TokenRequired(policy));
        }
        let claims = self.introspector.claims_of(text, caller, remote).await?;
        Ok(Token::of_raw_key(claims, policy, draw))
    }
}

impl Introspector {
    async fn claims_of(
        self: &Arc<Self>,
        text: &str,
        caller: Option<IpAddr>,
        remote: &Remote,
    ) -> Result<Arc<Claims>, VerifyError> {
        let digest = KeyDigest::of(text);
        if let Some(verdict) = self.find((digest, text), caller, remote) {
            return verdict;
        }
        let permit = self.limit.admit(caller).await?;
        // whoever was asked before us may have asked about the same key
        if let Some(verdict) = self.find((digest, text), caller, remote) {
            permit.does_not_count();
            return verdict;
        }
        let introspected = self.issuer.introspect(text, caller).await;
        if !matches!(introspected, Ok(Introspected::Inactive)) {
            permit.does_not_count();
        }
        self.keep(introspected?, (digest, caller), &remote.revocations()?)
    }

    /// What is known of a key; nothing where the issuer has to be asked.
    fn find(
        self: &Arc<Self>,
        (digest, text): (KeyDigest, &str),
        caller: Option<IpAddr>,
        remote: &Remote,
    ) -> Option<Result<Arc<Claims>, VerifyError>> {
        let revocations = match remote.revocations() {
            Ok(revocations) => revocations,
            Err(unheard) => return Some(Err(unheard)),
        };
        let (claims, is_to_be_renewed) = match self.known.find(digest, caller, &revocations) {
            Known::Nothing => return None,
            Known::Inactive => return Some(Err(InvalidToken::UnknownApiKey.into())),
            Known::Active { claims, is_to_be_renewed } => (claims, is_to_be_renewed),
        };
        if self.rules.check_again(&claims).is_err() {
            self.known.forget(digest);
            return None;
        }
        // the issuer let the key pass from the address that it was asked about, and from no other
        let is_allowed = |net: &Net| caller.is_some_and(|caller| net.allows(caller));
        if claims.net.as_ref().is_some_and(|net| !is_allowed(net)) {
            return Some(Err(InvalidToken::WrongAddress.into()));
        }
        if is_to_be_renewed {
            self.renew(text, (digest, caller), revocations);
        }
        Some(Ok(claims))
    }

    /// Asks again, well before what is known ends, and holds nobody up by it.
    fn renew(
        self: &Arc<Self>,
        text: &str,
        key: (KeyDigest, Option<IpAddr>),
        revocations: Arc<Revocations>,
    ) {
        let (introspector, text) = (Arc::clone(self), text.to_owned());
        tokio::spawn(async move {
            // an issuer that is out of reach, or a quota that is spent, changes nothing yet
            if let Ok(introspected) = introspector.issuer.introspect(&text, key.1).await {
                let _verdict = introspector.keep(introspected, key, &revocations);
            }
        });
    }

    fn keep(
        &self,
        introspected: Introspected,
        (digest, caller): (KeyDigest, Option<IpAddr>),
        revocations: &Arc<Revocations>,
    ) -> Result<Arc<Claims>, VerifyError> {
        let Introspected::Active(claims) = introspected else {
            self.known.keep_inactive(digest, caller);
            return Err(InvalidToken::UnknownApiKey.into());
        };
        self.rules.check_claims(&claims, None)?;
        // the node that answered has not heard yet of what the feed says
        if revocations.voids(&claims) {
            return Err(VerifyError::IssuerUnavailable);
        }
        let claims = Arc::new(*claims);
        self.known.keep(digest, Arc::clone(&claims), revocations, self.rules.clock.now());
        Ok(claims)
    }
}
