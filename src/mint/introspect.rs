//! What a token or an API key is worth at this moment (RFC 7662), told to whoever may ask.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value};
use tenmint_verifier::{Claims, RawKeyPolicy};

use crate::mint::api_uses::NewUses;
use crate::mint::index::Served;
use crate::mint::quotas::Permit;
use crate::mint::{Caller, ClientCredential, Mint, Presented, Refused, TokenRequest, Used};
use crate::model::access::Credential;
use crate::model::id::ApiKeyId;
use crate::model::migration::{Form, UsesOf};
use crate::model::secret::PlainSecret;
use crate::model::time::Timestamp;
use crate::model::usage::Outcome;

/// What is asked about.
#[derive(Debug)]
pub struct IntrospectionRequest {
    /// An access token or an API key.
    pub text: PlainSecret,
    /// For an API key: the API that it was sent to, by URI or slug.
    pub audience: Option<String>,
    /// From where it was sent there.
    pub client_ip: Option<IpAddr>,
}

/// Calls of one key to an API in one form, as a verifier of the API reports them. Moments are told by
/// how long ago they were, so that no clock but ours counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedUses {
    /// The key.
    pub client_id: ApiKeyId,
    /// In which form it came.
    pub form: Form,
    /// How often.
    pub calls: u64,
    /// Seconds since the first of them.
    pub first_ago: u64,
    /// Seconds since the last of them.
    pub last_ago: u64,
    /// From where the last came, where that is known.
    pub address: Option<IpAddr>,
    /// What the client called itself last.
    pub user_agent: Option<String>,
}

/// Calls that one report can tell of one key.
const MAX_CALLS: u64 = 1_000_000_000;
/// How far back a report can reach.
const MAX_AGO: u64 = 24 * 60 * 60;

/// So many seconds ago.
fn before(now: Timestamp, ago: u64) -> Timestamp {
    let millis = i64::try_from(ago.min(MAX_AGO) * 1_000).unwrap_or(0);
    Timestamp::from_millis(now.as_millis().saturating_sub(millis))
}

/// What is told of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Introspected {
    /// It is worth nothing, or not the caller's to know: both read the same.
    Inactive,
    /// What it says, or would say as a token.
    Active(Map<String, Value>),
}

impl Mint {
    /// Who asks about tokens, or revokes one: an API key of any audience, or a token for the
    /// management API.
    ///
    /// # Errors
    /// [`Refused`] where the credential is worth nothing.
    pub fn identify_for_tokens(
        &self,
        presented: &Presented,
        from: Caller<'_>,
        now: Timestamp,
    ) -> Result<Credential, Refused> {
        match presented {
            Presented::Token(_) => self.identify(presented, from, now),
            Presented::ApiKey(client) => {
                self.check_fresh(now)?;
                self.index.authenticate(client, &self.pepper)?.admit(from, now)?.holder()
            }
        }
    }

    /// What a token or an API key is worth to the API that it was sent to.
    ///
    /// # Errors
    /// [`Refused::NeedsLease`] and [`Refused::QuotaSpent`] for an API key with a quota, which counts
    /// this as a request; [`Refused::NoTarget`] for an API key without an audience;
    /// [`Refused::InvalidTarget`] for one that the caller does not serve.
    pub fn introspect(
        &self,
        request: &IntrospectionRequest,
        asker: &Credential,
        now: Timestamp,
    ) -> Result<Introspected, Refused> {
        let text = std::str::from_utf8(request.text.as_bytes()).unwrap_or_default();
        // an API key that was imported may look like a token
        if let Some(claims) = self.claims_of(text, now) {
            return Ok(self.introspect_token(&claims, request, asker));
        }
        if looks_like_a_token(text) && request.audience.is_none() {
            return Ok(Introspected::Inactive);
        }
        self.introspect_api_key(text, request, asker, now)
    }

    /// What the API of this name does with raw keys, and the revision that this is of at least: told
    /// to whoever answers for it.
    ///
    /// # Errors
    /// [`Refused::InvalidTarget`] for an API that the caller does not serve.
    pub fn raw_key_policy(
        &self,
        asker: &Credential,
        audience: &str,
        now: Timestamp,
    ) -> Result<(Arc<RawKeyPolicy>, u64), Refused> {
        // read first: a change that comes between the two is then asked for once more
        let revision = self.index.revision().and_then(|revision| u64::try_from(revision).ok());
        let Served { id, raw_keys, .. } =
            self.index.served_by(asker, audience).ok_or(Refused::InvalidTarget)?;
        self.usage.api_uses().heard(id, now);
        Ok((raw_keys.unwrap_or_default(), revision.unwrap_or_default()))
    }

    /// Counts what a verifier reports of the calls to its API. What is not its business, or of a key
    /// that is not there, is left out; nothing can be in the future.
    ///
    /// # Errors
    /// [`Refused::InvalidTarget`] for an API that the caller does not serve.
    pub fn count_reported(
        &self,
        asker: &Credential,
        (audience, reported): (&str, &[ReportedUses]),
        now: Timestamp,
    ) -> Result<(), Refused> {
        let served = self.index.served_by(asker, audience).ok_or(Refused::InvalidTarget)?;
        self.usage.api_uses().heard(served.id, now);
        for one in reported {
            let Some((api_key, org)) = self.index.holder_of(one.client_id) else { continue };
            if !served.is_for_all && org != asker.org {
                continue;
            }
            let from = Caller { address: one.address, user_agent: one.user_agent.as_deref() };
            let [first_at, last_at] = [one.first_ago, one.last_ago].map(|ago| before(now, ago));
            let calls = one.calls.min(MAX_CALLS);
            let new = NewUses { seen: 0, calls, first_at, last_at, from, secrets: &[] };
            let of = UsesOf { api_key, audience: served.id, form: one.form };
            self.usage.api_uses().count(of, org, &new);
        }
        Ok(())
    }

    /// The claims of a token of this service that holds at this moment, whoever it is for.
    pub fn claims_of(&self, text: &str, now: Timestamp) -> Option<Claims> {
        let verifier = self.verifier.read().clone();
        let token = verifier.verify_for_any_audience(text).ok()?;
        let claims = token.claims();
        if self.feed.voids(claims) {
            return None;
        }
        self.index.find_client(&claims.client_id).ok()?.check_status(now).ok()?;
        Some(claims.clone())
    }

    fn introspect_token(
        &self,
        claims: &Claims,
        request: &IntrospectionRequest,
        asker: &Credential,
    ) -> Introspected {
        let is_own = claims.org == asker.org.to_string();
        let is_told = is_own || claims.aud.iter().any(|uri| self.index.serves_all(asker, uri));
        let is_for = |name: &String| {
            self.index
                .served_by(asker, name)
                .is_some_and(|served| claims.aud.iter().any(|aud| **aud == *served.uri))
        };
        let is_allowed = match (&claims.net, request.client_ip) {
            (Some(net), Some(from)) => net.allows(from),
            _ => true,
        };
        if !is_told || !is_allowed || !request.audience.as_ref().is_none_or(is_for) {
            return Introspected::Inactive;
        }
        match serde_json::to_value(claims) {
            Ok(Value::Object(claims)) => Introspected::Active(active(claims)),
            _ => Introspected::Inactive,
        }
    }

    fn introspect_api_key(
        &self,
        text: &str,
        request: &IntrospectionRequest,
        asker: &Credential,
        now: Timestamp,
    ) -> Result<Introspected, Refused> {
        let audience = request.audience.as_deref().ok_or(Refused::NoTarget)?;
        let Served { id, uri, raw_keys, is_for_all } =
            self.index.served_by(asker, audience).ok_or(Refused::InvalidTarget)?;
        self.usage.api_uses().heard(id, now);
        // an API that asks for itself is held to what it has switched off too
        if raw_keys.is_some_and(|policy| policy.denies_all()) {
            return Ok(Introspected::Inactive);
        }
        let client = ClientCredential::bare(PlainSecret::new(text.to_owned()));
        let caller = Caller { address: request.client_ip, user_agent: None };
        let Ok(key) = self.index.authenticate(&client, &self.pepper) else {
            return Ok(Introspected::Inactive);
        };
        let holder = key.whose();
        let Ok(admitted) = key.admit(caller, now) else { return Ok(Introspected::Inactive) };
        // not even its quota is a stranger's to know, or to use up
        if !is_for_all && admitted.org()? != asker.org {
            return Ok(Introspected::Inactive);
        }
        let permit = admitted.permit(&self.quotas)?;
        let as_token = TokenRequest { audience: Some(uri.to_string()), ..TokenRequest::default() };
        let Ok(grant) = admitted.grant(&as_token, self.installation.token_lifetime, now) else {
            return Ok(Introspected::Inactive);
        };
        permit.map(Permit::used);
        if let Some((api_key, org)) = holder {
            let outcome = Outcome::Introspected;
            self.usage.count(&Used { api_key, org, outcome, from: caller, client: &client }, now);
        }
        let new = NewUses::seen(caller, &client.texts, now);
        self.count_uses(holder, &grant, (Form::Raw, &new));
        let claims = grant.with_claims(self.issuer(), "", |claims| serde_json::to_value(claims));
        Ok(match claims {
            Ok(Value::Object(mut claims)) => {
                // no token was issued, so it has no id
                claims.remove("jti");
                Introspected::Active(active(claims))
            }
            _ => Introspected::Inactive,
        })
    }
}

/// Whether a text is three parts of a JWS, whatever is in them.
pub fn looks_like_a_token(text: &str) -> bool {
    text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// The claims as an answer of RFC 7662, section 2.2.
fn active(mut claims: Map<String, Value>) -> Map<String, Value> {
    claims.insert("active".to_owned(), true.into());
    claims.insert("token_type".to_owned(), "Bearer".into());
    claims
}
