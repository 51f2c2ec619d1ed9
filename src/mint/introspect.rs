//! What a token or an API key is worth at this moment (RFC 7662), told to whoever may ask.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use tenmint_verifier::{Claims, InvalidToken, RawKeyPolicy, Token, VerifyError};

use crate::mint::api_uses::NewUses;
use crate::mint::grant::Grant;
use crate::mint::served::ServedApi;
use crate::mint::user_agent::KeptCaller;
use crate::mint::{Caller, ClientCredential, Mint, Presented, Refused, TokenRequest, Used};
use crate::model::access::Credential;
use crate::model::id::OrgId;
use crate::model::installation::Issuer;
use crate::model::migration::Form;
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

/// What a text is that shall be worth nothing from now on.
#[derive(Debug)]
pub enum Revocable {
    /// A token that verifiers take, whoever it is for.
    Token(Box<Claims>),
    /// An API key of the caller's organization, dead or alive.
    ApiKey,
    /// What says that it is a token of this service, by a signing key of which this node has not heard:
    /// another node may have made one, and a look at the database tells.
    NotHeardOf,
    /// Nothing that the caller may know of, or a token that is dead already.
    Nothing,
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
    /// this as a request; [`Refused::NoTarget`] for an API key that the caller may know of, without an
    /// audience; [`Refused::InvalidTarget`] for an audience that the caller does not serve;
    /// [`Refused::Behind`] for a token of which this node cannot tell yet, and [`Refused::Unavailable`]
    /// for an API key of which it cannot.
    pub fn introspect(
        &self,
        request: &IntrospectionRequest,
        asker: &Credential,
        now: Timestamp,
    ) -> Result<Introspected, Refused> {
        let text = std::str::from_utf8(request.text.as_bytes()).unwrap_or_default();
        match (self.token_of(text, now)?, &request.audience) {
            (Ok(token), _) => Ok(self.introspect_token(token.claims(), request, asker)),
            // an API key that was imported may look like a token
            (Err(_), Some(audience)) => {
                self.introspect_api_key(text, (request, audience), asker, now)
            }
            (Err(wrong), None) if was_a_token(&wrong) => Ok(Introspected::Inactive),
            (Err(_), None) => self.introspect_without_audience(text, asker),
        }
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
        let api = self.index.served_by(asker, audience).ok_or(Refused::InvalidTarget)?;
        // who refuses all raw keys asks about none, so that nothing is heard of them
        if !api.raw_keys.denies_all() {
            self.usage.api_uses().heard(api.id, now);
        }
        Ok((api.raw_keys, revision.unwrap_or_default()))
    }

    /// What a text is that somebody would have revoked. What this node knows of the key of a token does
    /// not count: a verifier asks for the signature, and another node may have made the key. An API key of
    /// another organization reads like nothing at all.
    ///
    /// # Errors
    /// [`Refused::Unavailable`] where this node cannot tell.
    pub fn revocable(&self, text: &str, asker: &Credential) -> Result<Revocable, Refused> {
        let wrong = match self.unrevoked(text) {
            Ok(token) => return Ok(Revocable::Token(Box::new(token.claims().clone()))),
            Err(wrong) if was_a_token(&wrong) => return Ok(Revocable::Nothing),
            // an API key that was imported may look like a token
            Err(wrong) => wrong,
        };
        if self.org_of_api_key(text)? == Some(asker.org) {
            return Ok(Revocable::ApiKey);
        }
        let unknown_key = VerifyError::InvalidToken(InvalidToken::UnknownKey);
        let may_be_ours = wrong == unknown_key && names_issuer(text, self.issuer());
        Ok(if may_be_ours { Revocable::NotHeardOf } else { Revocable::Nothing })
    }

    /// Whose API key a text is, dead or alive; nobody's where it is none.
    ///
    /// # Errors
    /// [`Refused::Unavailable`] where this node cannot tell.
    fn org_of_api_key(&self, text: &str) -> Result<Option<OrgId>, Refused> {
        let client = ClientCredential::bare(PlainSecret::new(text.to_owned()));
        match self.index.authenticate(&client, &self.pepper) {
            Ok(key) => Ok(key.whose().map(|(_, org)| org)),
            Err(Refused::UnknownClient) => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    fn unrevoked(&self, text: &str) -> Result<Token, VerifyError> {
        let verifier = self.verifier.read().clone();
        let token = verifier.verify_for_any_audience(text)?;
        if self.feed.voids(token.claims()) {
            return Err(InvalidToken::Revoked.into());
        }
        Ok(token)
    }

    /// A token of this service that holds at this moment, whoever it is for, or what is wrong with
    /// it.
    ///
    /// # Errors
    /// [`Refused::Behind`] for one of a key that was made or goes on again as another node knows.
    pub(super) fn token_of(
        &self,
        text: &str,
        now: Timestamp,
    ) -> Result<Result<Token, VerifyError>, Refused> {
        let token = match self.unrevoked(text) {
            Ok(token) => token,
            Err(wrong) => return Ok(Err(wrong)),
        };
        // read first, so that what comes between the two looks like something that is not known yet
        let applied = self.index.revision().and_then(|revision| u64::try_from(revision).ok());
        let is_ahead = applied.is_none_or(|applied| token.claims().rev > applied);
        let client = self.index.find_client(&token.claims().client_id);
        match client.and_then(|client| client.check_status(now)) {
            Ok(()) => Ok(Ok(token)),
            // a key that has ended is remembered for longer than its tokens live
            Err(Refused::UnknownClient) => Err(Refused::Behind),
            Err(Refused::Unavailable) => Err(Refused::Unavailable),
            Err(Refused::Suspended) if is_ahead => Err(Refused::Behind),
            Err(Refused::Expired) => Ok(Err(InvalidToken::Expired.into())),
            Err(_) => Ok(Err(InvalidToken::Revoked.into())),
        }
    }

    fn introspect_token(
        &self,
        claims: &Claims,
        request: &IntrospectionRequest,
        asker: &Credential,
    ) -> Introspected {
        let serves = |name: &str| self.index.served_by(asker, name);
        let is_own = claims.org == asker.org.to_string();
        let is_told =
            is_own || claims.aud.iter().any(|uri| serves(uri).is_some_and(|api| api.takes_all));
        let is_for = |name: &String| {
            serves(name).is_some_and(|api| claims.aud.iter().any(|aud| **aud == *api.uri))
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

    /// Who may know of an API key learns that its API has to be named; to anybody else it reads like
    /// nothing at all.
    fn introspect_without_audience(
        &self,
        text: &str,
        asker: &Credential,
    ) -> Result<Introspected, Refused> {
        // looked up whatever the text is: how long that takes tells nothing
        let sees_all = self.index.serves_all(asker);
        match self.org_of_api_key(text)? {
            Some(org) if sees_all || org == asker.org => Err(Refused::NoTarget),
            _ => Ok(Introspected::Inactive),
        }
    }

    fn introspect_api_key(
        &self,
        text: &str,
        (request, audience): (&IntrospectionRequest, &str),
        asker: &Credential,
        now: Timestamp,
    ) -> Result<Introspected, Refused> {
        let api = self.index.served_by(asker, audience).ok_or(Refused::InvalidTarget)?;
        self.usage.api_uses().heard(api.id, now);
        let client = ClientCredential::bare(PlainSecret::new(text.to_owned()));
        let new = NewUses::seen(KeptCaller::nameless(request.client_ip), now);
        // an API that asks for itself is held to what it has switched off too
        if api.raw_keys.denies_all() {
            self.count_locked_out(&client, &api, &new, now);
            return Ok(Introspected::Inactive);
        }
        let grant = match self.grant_to_raw_key(&client, &api, &new, now) {
            Ok(grant) => grant,
            Err(refused) if refused.is_transient() => return Err(refused),
            Err(_) => return Ok(Introspected::Inactive),
        };
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

    /// What an API key that was sent to an API as it is would get in a token, if one had room for all of
    /// its scopes. Counted as a use of the key and of its quota.
    ///
    /// # Errors
    /// [`Refused::is_transient`] tells what may be otherwise in a moment from a key that is worth
    /// nothing there.
    pub(super) fn grant_to_raw_key(
        &self,
        client: &ClientCredential,
        api: &ServedApi,
        new: &NewUses<'_>,
        now: Timestamp,
    ) -> Result<Grant, Refused> {
        let from = new.from;
        let key = self.index.authenticate(client, &self.pepper)?;
        let holder = key.whose();
        let admitted = key.admit(from.caller(), now)?;
        // not even its quota is a stranger's to know, or to use up
        if !api.takes_all && admitted.org()? != api.org {
            return Err(Refused::UnknownClient);
        }
        let permit = admitted.permit(&self.quotas)?;
        let as_token =
            TokenRequest { audience: Some(api.uri.to_string()), ..TokenRequest::default() };
        let lifetime = self.installation.token_lifetime;
        let grant = admitted.grant_to_raw_key(&as_token, lifetime, now)?;
        if let Some(permit) = permit {
            permit.used();
        }
        if let Some((api_key, org)) = holder {
            let outcome = Outcome::Introspected;
            self.usage.count(&Used { api_key, org, outcome, from }, now);
        }
        self.count_uses(holder, &grant, (Form::Raw, new));
        Ok(grant)
    }
}

impl Refused {
    /// Whether it says nothing of what the key is worth.
    pub(super) fn is_transient(self) -> bool {
        matches!(self, Self::QuotaSpent(_) | Self::NeedsLease(_) | Self::Behind | Self::Unavailable)
    }
}

/// Whether a text was a token of ours beyond doubt, and is dead.
fn was_a_token(wrong: &VerifyError) -> bool {
    matches!(wrong, VerifyError::InvalidToken(InvalidToken::Expired | InvalidToken::Revoked))
}

/// Whether a text says that this issuer made it. That proves nothing.
fn names_issuer(text: &str, issuer: &Issuer) -> bool {
    let claims = text.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    claims.is_some_and(|claims| claims.get("iss") == Some(&Value::from(issuer.as_str())))
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
