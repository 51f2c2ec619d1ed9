//! Whether a request that a gateway asks about may pass: decided as a verifier in the API behind it
//! would, by what this node knows.

use std::net::IpAddr;
use std::sync::Arc;

use tenmint_verifier::{
    Claims, Draw, InvalidToken, NewClaims, RawKeyMode, RawKeyPolicy, Token, VerifyError,
};

pub use crate::mint::served::{Gateway, Guarding};

use crate::mint::api_uses::NewUses;
use crate::mint::user_agent::KeptCaller;
use crate::mint::{Caller, ClientCredential, Mint, Presented, Refused};
use crate::model::gateway_policy::{Needed, Unruled};
use crate::model::secret::PlainSecret;
use crate::model::time::Timestamp;

/// What became of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It passes, as this caller.
    Passes(Box<Passed>),
    /// It does not; the caller is told why.
    Stopped(VerifyError),
}

/// Who a request is of.
#[derive(Debug, PartialEq, Eq)]
pub struct Passed {
    /// The API key.
    pub client_id: String,
    /// Its owner.
    pub subject: String,
    /// Its organization.
    pub org: String,
    /// Its space.
    pub space: Option<String>,
    /// What it holds.
    pub scope: String,
    /// The id of the token; none of a raw key.
    pub token_id: Option<String>,
    /// The API that was asked for.
    pub audience: Arc<str>,
    /// What the API does with raw keys, of a raw key.
    pub raw_key: Option<(RawKeyMode, Arc<RawKeyPolicy>)>,
}

impl Guarding {
    /// What a request needs under the policy.
    ///
    /// # Errors
    /// [`Unruled`].
    pub fn needed(&self, method: &str, target: &str) -> Result<Needed, Unruled> {
        self.policy.rules.needed(method, target)
    }
}

impl Mint {
    /// The policy under which a gateway asks. `None` of a policy that is not there as of one that is
    /// none of the gateway's business.
    ///
    /// # Errors
    /// [`Refused::Unavailable`] where this node knows too little of the present.
    pub fn guarding(
        &self,
        gateway: Gateway<'_>,
        name: &str,
        now: Timestamp,
    ) -> Result<Option<Guarding>, Refused> {
        self.check_fresh(now)?;
        Ok(self.index.guarding(gateway, name))
    }

    /// Whether a request with this credential may pass.
    ///
    /// # Errors
    /// [`Refused::NeedsLease`] and [`Refused::QuotaSpent`] for an API key with a quota, which counts
    /// this as a request; [`Refused::Behind`] for a token of which this node cannot tell yet.
    pub fn decide(
        &self,
        (guarding, needed): (&Guarding, &Needed),
        presented: &Presented,
        from: Caller<'_>,
        now: Timestamp,
    ) -> Result<Verdict, Refused> {
        let asked = RequestUnderPolicy { guarding, needed };
        let from = self.kept(from, guarding.api.org, |text| presented.is_shown_in(text));
        self.usage.api_uses().heard(guarding.api.id, now);
        let text = match presented {
            Presented::Token(text) => text,
            Presented::ApiKey(client) => return self.decide_on_raw_key(asked, client, from, now),
        };
        let wrong = match self.token_of(text, now)? {
            Ok(token) => {
                if asked.is_for_api(token.claims()) {
                    let new = NewUses::call(from, now);
                    self.count_call(&token.claims().client_id, guarding.api.id, &new);
                }
                return Ok(asked.decide_on_token(&token, from.caller().address));
            }
            Err(wrong) => wrong,
        };
        // an API key that was imported may look like a token
        let client = ClientCredential::bare(PlainSecret::new(text.clone()));
        match self.index.authenticate(&client, &self.pepper).map(drop) {
            Err(Refused::Unavailable) => return Err(Refused::Unavailable),
            Err(_) => return Ok(Verdict::Stopped(wrong)),
            Ok(()) => {}
        }
        self.decide_on_raw_key(asked, &client, from, now)
    }

    /// In the order of a verifier: the mode of the whole API, what the key is worth, and then what it
    /// is worth for this.
    fn decide_on_raw_key(
        &self,
        asked: RequestUnderPolicy<'_>,
        client: &ClientCredential,
        from: KeptCaller<'_>,
        now: Timestamp,
    ) -> Result<Verdict, Refused> {
        let api = &asked.guarding.api;
        let draw = Draw::new();
        let new = NewUses::call(from, now);
        if api.raw_keys.mode_for_all(draw) == RawKeyMode::Deny {
            self.count_locked_out(client, api, &new, now);
            return Ok(Verdict::Stopped(VerifyError::TokenRequired(api.raw_keys.clone())));
        }
        let grant = match self.grant_to_raw_key(client, api, &new, now) {
            Ok(grant) => grant,
            Err(refused) if refused.is_transient() => return Err(refused),
            Err(Refused::AddressNotAllowed) => {
                return Ok(Verdict::Stopped(InvalidToken::WrongAddress.into()));
            }
            Err(_) => return Ok(Verdict::Stopped(InvalidToken::UnknownApiKey.into())),
        };
        let decide = |claims: &NewClaims<'_>| asked.decide_on_claims_of_raw_key(claims, draw);
        Ok(grant.with_claims(self.issuer(), "", decide))
    }
}

/// What is asked of an API, under which policy.
#[derive(Clone, Copy)]
struct RequestUnderPolicy<'a> {
    guarding: &'a Guarding,
    needed: &'a Needed,
}

impl RequestUnderPolicy<'_> {
    /// Whether a token came to where it may come at all: what is somebody else's is no use of it here.
    fn is_for_api(self, claims: &Claims) -> bool {
        let api = &self.guarding.api;
        claims.aud.iter().any(|audience| **audience == *api.uri)
            && (api.takes_all || claims.org == api.org.to_string())
    }

    fn decide_on_token(self, token: &Token, from: Option<IpAddr>) -> Verdict {
        if let Err(wrong) = self.check_token(token, from) {
            return Verdict::Stopped(wrong);
        }
        let claims = token.claims();
        Verdict::Passes(Box::new(Passed {
            client_id: claims.client_id.clone(),
            subject: claims.sub.clone(),
            org: claims.org.clone(),
            space: claims.space.clone(),
            scope: claims.scope.to_string(),
            token_id: Some(claims.jti.clone()),
            audience: self.guarding.api.uri.clone(),
            raw_key: None,
        }))
    }

    /// What a verifier asks of a token whose signature holds, in its order.
    fn check_token(self, token: &Token, from: Option<IpAddr>) -> Result<(), VerifyError> {
        let (api, claims) = (&self.guarding.api, token.claims());
        if !claims.aud.iter().any(|audience| **audience == *api.uri) {
            return Err(InvalidToken::WrongAudience.into());
        }
        match from {
            Some(from) => token.require_address(from)?,
            None if claims.net.is_some() => return Err(InvalidToken::WrongAddress.into()),
            None => {}
        }
        // an API of all organizations lets each to its own; whose a thing is, it knows alone
        let org = if api.takes_all { claims.org.clone() } else { api.org.to_string() };
        token.require(&org, &self.needed.action, &self.needed.resource)
    }

    fn decide_on_claims_of_raw_key(self, claims: &NewClaims<'_>, draw: Draw) -> Verdict {
        let (api, Needed { action, resource }) = (&self.guarding.api, self.needed);
        if !claims.scope.matches(action, resource) {
            return Verdict::Stopped(VerifyError::insufficient_scope(action, resource));
        }
        let mode = api.raw_keys.mode_for(action, resource, draw);
        if mode == RawKeyMode::Deny {
            return Verdict::Stopped(VerifyError::TokenRequired(api.raw_keys.clone()));
        }
        Verdict::Passes(Box::new(Passed {
            client_id: claims.client_id.to_owned(),
            subject: claims.sub.to_owned(),
            org: claims.org.to_owned(),
            space: claims.space.map(str::to_owned),
            scope: claims.scope.to_string(),
            token_id: None,
            audience: api.uri.clone(),
            raw_key: Some((mode, api.raw_keys.clone())),
        }))
    }
}
