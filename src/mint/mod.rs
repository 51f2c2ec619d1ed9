//! The hot path: from an API key to a signed token, in memory and without waiting.
//!
//! [`Mint::issue`] is one function of steps that carry their proof: what signs takes a grant, only an
//! admitted key makes one, and only an authenticated key is admitted. The service fills the
//! index and the signing keys; the token route calls. Nothing here does I/O.

pub mod api_uses;
mod entries;
pub mod failures;
mod feed;
mod few;
pub mod forward_auth;
mod grant;
mod index;
pub mod introspect;
mod key_pair;
mod known;
mod lease_queue;
pub mod ledger;
mod permits;
pub mod quotas;
mod rsa;
mod served;
mod signer;
mod slab;
mod targets;
mod texts;
mod token_id;
mod unrecorded;
mod usage;
mod user_agent;

use std::time::Duration;

use parking_lot::RwLock;
use tenmint_verifier::{BuildError, JwkSet, Verifier};

pub use feed::{Feed, HeardFeed, SignedFeed};
pub use index::{Change, Doubted, FilledIndex, Index, Restored, RestoredSecret};
pub use key_pair::{GeneratedKeyPair, KeyPair, KeyPairError, Signature};
pub use signer::{PublicKeys, Signer, etag_of};
pub use unrecorded::{IssuedToken, Unrecorded};
pub use usage::{Caller, UsageCounters, Used};
pub use user_agent::{KeptCaller, UserAgents};

use crate::clock::Clock;
use crate::mint::api_uses::NewUses;
use crate::mint::grant::Grant;
use crate::mint::index::AuthenticatedKey;
use crate::mint::ledger::Ledger;
use crate::mint::quotas::{Permit, Quotas, RateLimit, Ticket};
use crate::mint::signer::CurrentKey;
use crate::model::access::Credential;
use crate::model::audience::AudienceUri;
use crate::model::id::{ApiKeyId, AudienceId, OrgId};
use crate::model::installation::{Installation, Issuer};
use crate::model::migration::{Form, UsesOf};
use crate::model::secret::{Pepper, PlainSecret};
use crate::model::time::Timestamp;
use crate::model::token_id::TokenId;
use crate::model::usage::Outcome;

/// What a client sends to the token endpoint, taken apart and not yet believed.
#[derive(Debug, Default)]
pub struct TokenRequest {
    /// The credential.
    pub client: ClientCredential,
    /// `scope`, as it was written.
    pub scope: Option<String>,
    /// Each `resource` (RFC 8707).
    pub resources: Vec<String>,
    /// `audience`, the common alias.
    pub audience: Option<String>,
}

/// An API key, and the id that it is claimed to have.
#[derive(Debug, Default)]
pub struct ClientCredential {
    /// The id, where one was given.
    pub client_id: Option<String>,
    /// The text of the key, in each reading that the way it was sent allows: form-decoded, and
    /// as it stands.
    pub texts: Vec<PlainSecret>,
}

impl ClientCredential {
    /// A key alone, under no id.
    pub fn bare(text: PlainSecret) -> Self {
        Self { client_id: None, texts: vec![text] }
    }
}

/// What is presented to the management API: an API key, or a token of this very service.
#[derive(Debug)]
pub enum Presented {
    /// An API key.
    ApiKey(ClientCredential),
    /// An access token.
    Token(String),
}

impl Presented {
    /// What came by Bearer may be a token; by any other way, it is an API key.
    pub fn of(client: ClientCredential, is_bearer: bool) -> Self {
        let bearer = client.texts.first().filter(|_| is_bearer);
        match bearer.and_then(|text| std::str::from_utf8(text.as_bytes()).ok()) {
            Some(text) if introspect::looks_like_a_token(text) => Self::Token(text.to_owned()),
            _ => Self::ApiKey(client),
        }
    }
}

/// Why there is no token. The route makes the answer of RFC 6749, section 5.2 of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No such key, or not with this id. Says no more: the secret has not matched.
    UnknownClient,
    /// The secret matched; the key was revoked.
    Revoked,
    /// The secret matched; the key is over.
    Expired,
    /// The secret matched; the key has another by now, and the grace of this one is over.
    Replaced,
    /// The secret matched; the owner, the space or the organization is suspended.
    Suspended,
    /// The key may not be used from this address.
    AddressNotAllowed,
    /// The quota of the key has nothing left.
    QuotaSpent(RateLimit),
    /// No permit of the quota is at hand: wait for the lease, and call again.
    NeedsLease(Ticket),
    /// An audience that is unknown or not the key's.
    InvalidTarget,
    /// A token for the management API, by a secret that was replaced and is in its grace.
    ManagementInGrace,
    /// `resource` and `audience` name different audiences.
    TargetsDiffer,
    /// No audience was asked for, and neither the key nor its organization names one.
    NoTarget,
    /// `scope` does not parse.
    MalformedScope,
    /// The scope at this place of `scope` is beyond the key.
    ScopeBeyondKey(usize),
    /// The key has no scope left that its owner still has.
    NoScope,
    /// All scopes of the key together are too much for one token.
    TooMuchScope,
    /// Another node knows more of the key of a token: follow the database, and call again.
    Behind,
    /// The service cannot tell at the moment: never the client's fault.
    Unavailable,
}

/// All that the token endpoint needs, in memory.
#[derive(Debug)]
pub struct Mint {
    installation: Installation,
    pepper: Pepper,
    serve_for: Duration,
    index: Index,
    feed: Feed,
    quotas: Quotas,
    signer: RwLock<Signer>,
    /// Checks tokens for the management API.
    verifier: RwLock<Verifier>,
    usage: UsageCounters,
    user_agents: UserAgents,
    ledger: Ledger,
}

/// How far the clocks of two nodes may be apart.
const MANAGEMENT_LEEWAY: Duration = Duration::from_secs(2);
/// Bytes of a token at most; many servers refuse headers above 8 KiB.
const MAX_TOKEN_BYTES: usize = 7 * 1024;

impl Mint {
    /// A mint without keys, which refuses until the service has filled it. The clock is for quotas
    /// and for the tokens that are presented to the management API. Nothing is recorded unless a
    /// ledger is given.
    ///
    /// # Errors
    /// The issuer is none, which an installation never has.
    pub fn new(
        installation: Installation,
        pepper: Pepper,
        serve_for: Duration,
        clock: Clock,
    ) -> Result<Self, BuildError> {
        let management = AudienceUri::management(&installation.issuer);
        let quotas = Quotas::new(clock.clone());
        let verifier = Verifier::builder(installation.issuer.as_str())
            .audience(management.as_str())
            // the clocks of nodes follow one database
            .leeway(MANAGEMENT_LEEWAY)
            // a call of the management API costs far more than a signature
            .cache(0)
            .clock(move || clock.now().as_seconds())
            .with_keys(JwkSet::default())?;
        let lifetime = Duration::from_secs(installation.token_lifetime.as_seconds());
        Ok(Self {
            usage: UsageCounters::default(),
            user_agents: UserAgents::new(&installation.api_key_prefix),
            feed: Feed::new(installation.issuer.clone(), lifetime, serve_for),
            installation,
            pepper,
            serve_for,
            index: Index::new(management),
            quotas,
            signer: RwLock::new(Signer::default()),
            verifier: RwLock::new(verifier),
            ledger: Ledger::off(),
        })
    }

    /// The same mint, with a ledger that a recorder serves.
    #[must_use]
    pub fn with_ledger(self, ledger: Ledger) -> Self {
        Self { ledger, ..self }
    }

    /// The issuer of the tokens.
    pub fn issuer(&self) -> &Issuer {
        &self.installation.issuer
    }

    /// The installation that it issues for.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// The API keys in memory.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// What was revoked.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// What a verifier has not heard of the feed; nothing where no key can sign it.
    pub fn signed_feed(&self, heard: &HeardFeed, now: Timestamp) -> Option<SignedFeed> {
        let signing_key = self.signer.read().current()?;
        self.feed.signed_after(heard, &signing_key, now)
    }

    /// What was counted, and not yet taken to the database.
    pub fn usage(&self) -> &UsageCounters {
        &self.usage
    }

    /// The quotas of the API keys.
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// The facts that wait to be recorded.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Signs with other keys from now on.
    pub fn replace_signer(&self, signer: Signer) {
        if let Ok(keys) = JwkSet::parse(&signer.public_keys().document) {
            let mut verifier = self.verifier.write();
            *verifier = verifier.with_keys(keys);
        }
        *self.signer.write() = signer;
    }

    /// What a caller of the management API holds.
    ///
    /// # Errors
    /// [`Refused`], with one reason for all that is wrong with a token.
    pub fn identify(
        &self,
        presented: &Presented,
        from: Caller<'_>,
        now: Timestamp,
    ) -> Result<Credential, Refused> {
        self.check_fresh(now)?;
        match presented {
            Presented::ApiKey(client) => {
                let key = self.index.authenticate(client, &self.pepper)?;
                let credential = key.admit(from, now)?.credential(None)?;
                self.note_use(credential.holder(), client, from, now);
                Ok(credential)
            }
            Presented::Token(text) => {
                let verifier = self.verifier.read().clone();
                let Ok(token) = verifier.verify_held(text) else {
                    // an API key that was imported may look like a token
                    let client = ClientCredential::bare(PlainSecret::new(text.clone()));
                    return self.identify(&Presented::ApiKey(client), from, now);
                };
                let claims = token.claims();
                if self.feed.voids(claims) {
                    return Err(Refused::Revoked);
                }
                let key = self.index.find_client(&claims.client_id)?;
                key.admit(from, now)?.credential(Some(&claims.scope))
            }
        }
    }

    fn check_fresh(&self, now: Timestamp) -> Result<(), Refused> {
        let is_fresh = self.index.is_fresh(now, self.serve_for);
        if is_fresh { Ok(()) } else { Err(Refused::Unavailable) }
    }

    /// What a caller that was identified still holds, in the middle of a call that goes on for
    /// long. Never more than it held before.
    ///
    /// # Errors
    /// [`Refused`] where it would not be identified any more, a rotation without grace included.
    pub fn identify_again(
        &self,
        before: &Credential,
        from: Caller<'_>,
        now: Timestamp,
    ) -> Result<Credential, Refused> {
        self.check_fresh(now)?;
        let ids = [before.api_key.to_string(), before.owner.to_string(), before.org.to_string()];
        if ids.iter().any(|id| self.feed.voids_of(id, before.revision)) {
            return Err(Refused::Revoked);
        }
        let key = self.index.find_client(&before.api_key.to_string())?;
        let still = key.admit(from, now)?.credential(before.scopes.as_ref())?;
        // without scopes it held nothing, and a narrowing by nothing is none
        let scopes = if before.scopes.is_some() { still.scopes } else { None };
        Ok(Credential { scopes, revision: before.revision, ..still })
    }

    /// The public keys as they are served.
    pub fn public_keys(&self) -> PublicKeys {
        self.signer.read().public_keys()
    }

    /// Whether tokens can be issued: the index is filled and was compared with the database within
    /// the time that the operator allows, there is a key that signs, and the ledger takes facts.
    pub fn is_ready(&self, now: Timestamp) -> bool {
        self.index.is_fresh(now, self.serve_for)
            && self.signer.read().can_sign()
            && self.ledger.is_open()
    }

    /// Issues a token, or says why not. The checks come in the order of docs/contract.md, "Refusal".
    /// Once the secret has matched, what comes of it is counted. The token is had when it is on record.
    ///
    /// # Errors
    /// Each [`Refused`]. What the server itself lacks is said first, so that no trouble of ours
    /// looks like a wrong key.
    pub fn issue<'m>(
        &'m self,
        request: &TokenRequest,
        from: Caller<'m>,
        now: Timestamp,
    ) -> Result<Unrecorded<'m, IssuedToken>, Refused> {
        // all of `is_ready`, and no lock for it that is not needed anyway
        let signing_key = self.signer.read().current().ok_or(Refused::Unavailable)?;
        if !self.ledger.is_open() {
            return Err(Refused::Unavailable);
        }
        let client = &request.client;
        let key = self.index.authenticate_fresh(client, &self.pepper, (now, self.serve_for))?;
        let whose = key.whose();
        let is_credential = |word: &str| {
            // under the lock that the key holds
            let digest = self.pepper.digest(word.as_bytes());
            whose.is_some_and(|(_, org)| key.state.has_key_of(org, &digest))
        };
        let from = self.user_agents.kept(from, |text| client.is_shown_in(text), is_credential);
        let used = |(api_key, org)| Used { api_key, org, outcome: Outcome::Issued, from };
        let used = whose.map(used);
        let issued = self.issue_to((key, &signing_key), request, from, now);
        if let (Some(used), Some(outcome)) =
            (used, issued.as_ref().err().copied().and_then(Refused::outcome))
        {
            self.usage.count(&Used { outcome, ..used }, now);
        }
        issued.map(|unrecorded| Unrecorded { used, ..unrecorded })
    }

    fn issue_to(
        &self,
        (key, signing_key): (AuthenticatedKey<'_>, &CurrentKey),
        request: &TokenRequest,
        from: KeptCaller<'_>,
        now: Timestamp,
    ) -> Result<Unrecorded<'_, IssuedToken>, Refused> {
        let admitted = key.admit(from.caller(), now)?;
        let permit = admitted.permit(&self.quotas)?;
        let holder = admitted.whose();
        let grant = admitted.grant(request, self.installation.token_lifetime, now)?;
        let (token_id, access_token) = self.sign(&grant, signing_key, now)?;
        let receipt = self.ledger.append(&grant.fact(token_id, from.caller().address))?;
        let new = NewUses::seen(from, now);
        self.count_uses(holder, &grant, (Form::Token, &new));
        let token = IssuedToken {
            access_token,
            expires_in: grant.lifetime(),
            scope: grant.scope,
            rate_limit: permit.as_ref().map(Permit::rate_limit),
        };
        Ok(Unrecorded { held: Some(token), receipt, permit, used: None, usage: &self.usage, now })
    }

    /// Counts how a key came to each API that a grant is for. The management API is no API of
    /// anybody's.
    fn count_uses(
        &self,
        holder: Option<(ApiKeyId, OrgId)>,
        grant: &Grant,
        (form, new): (Form, &NewUses<'_>),
    ) {
        let Some((api_key, org)) = holder else { return };
        for audience in grant.audience_ids().filter(|id| *id != AudienceId::MANAGEMENT) {
            self.usage.api_uses().count(UsesOf { api_key, audience, form }, org, new);
        }
    }

    /// No lock is held here: a signature takes far longer than all the rest.
    fn sign(
        &self,
        grant: &Grant,
        signing_key: &CurrentKey,
        now: Timestamp,
    ) -> Result<(TokenId, String), Refused> {
        let token_id = token_id::next(now, self.ledger.chain()).ok_or(Refused::Unavailable)?;
        let access_token = grant
            .with_claims(self.issuer(), &token_id.text(), |claims| {
                signing_key.sign(claims, grant.token_type)
            })
            .ok_or(Refused::Unavailable)?;
        if access_token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::TooMuchScope);
        }
        Ok((token_id, access_token))
    }
}
