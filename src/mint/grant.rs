//! From an authenticated key to what its token will say: each step takes the proof of the one
//! before it.

use std::sync::Arc;

use tenmint_verifier::{NewClaims, ScopeSet};

use crate::mint::index::{
    ApiKeyEntry, AudienceEntry, AuthenticatedKey, BotEntry, Ending, OrgEntry, State,
};
use crate::mint::slab::Place;
use crate::mint::{Refused, TokenRequest};
use crate::model::installation::{Issuer, TokenLifetime};
use crate::model::time::Timestamp;

/// A key that may get a token now, from here.
#[derive(Debug)]
pub(super) struct AdmittedKey<'i> {
    key: AuthenticatedKey<'i>,
}

/// All that a token will say.
#[derive(Debug)]
pub(super) struct Grant {
    subject: String,
    org: String,
    client_id: String,
    audiences: Vec<Arc<str>>,
    pub(super) scope: ScopeSet,
    revision: u64,
    issued_at: u64,
    expires_at: u64,
}

impl<'i> AuthenticatedKey<'i> {
    /// Status, then owner: contract, section 5.
    pub(super) fn admit(self, now: Timestamp) -> Result<AdmittedKey<'i>, Refused> {
        let (api_key, bot) = self.parts()?;
        let org = self.state.org(api_key.org).ok_or(Refused::UnknownClient)?;
        if api_key.revoked.is_set() {
            return Err(Refused::Revoked);
        }
        if api_key.expires.has_come(now) || self.secret_ends.has_come(now) {
            return Err(Refused::Expired);
        }
        if bot.suspended.is_set() || org.suspended.is_set() {
            return Err(Refused::Suspended);
        }
        Ok(AdmittedKey { key: self })
    }

    fn parts(&self) -> Result<(&ApiKeyEntry, &BotEntry), Refused> {
        let api_key = self.state.api_key(self.api_key).ok_or(Refused::UnknownClient)?;
        let bot = self.state.bot(api_key.owner).ok_or(Refused::UnknownClient)?;
        Ok((api_key, bot))
    }
}

impl AdmittedKey<'_> {
    /// Audience, then scope. The lock on the index ends with this step.
    pub(super) fn grant(
        self,
        request: &TokenRequest,
        lifetime: TokenLifetime,
        now: Timestamp,
    ) -> Result<Grant, Refused> {
        let state = &*self.key.state;
        let (api_key, bot) = self.key.parts()?;
        let org = state.org(api_key.org).ok_or(Refused::UnknownClient)?;
        let audiences = Targets { state, api_key, org }.select(request)?;
        let scope = grant_scope(api_key, bot, request.scope.as_deref())?;
        let issued_at = now.as_seconds();
        let ends = [api_key.expires, self.key.secret_ends].map(Ending::as_seconds);
        let expires_at = ends.into_iter().fold(issued_at + lifetime.as_seconds(), u64::min);
        if expires_at <= issued_at {
            // less than a second is left, and a token counts in seconds
            return Err(Refused::Expired);
        }
        Ok(Grant {
            subject: bot.id.to_string(),
            org: org.id.to_string(),
            client_id: api_key.id.to_string(),
            audiences,
            scope,
            revision: u64::try_from(state.revision()).unwrap_or(0),
            issued_at,
            expires_at,
        })
    }
}

impl Grant {
    pub(super) fn lifetime(&self) -> u64 {
        self.expires_at - self.issued_at
    }

    /// Signs what the grant says: the claims exist as long as `sign` runs.
    pub(super) fn with_claims<T>(
        &self,
        issuer: &Issuer,
        token_id: &str,
        sign: impl FnOnce(&NewClaims<'_>) -> T,
    ) -> T {
        let audiences: Vec<&str> = self.audiences.iter().map(AsRef::as_ref).collect();
        sign(&NewClaims {
            iss: issuer.as_str(),
            sub: &self.subject,
            aud: &audiences,
            client_id: &self.client_id,
            scope: &self.scope,
            org: &self.org,
            iat: self.issued_at,
            exp: self.expires_at,
            jti: token_id,
            rev: self.revision,
            space: None,
            net: None,
            quota: None,
        })
    }
}

/// The audiences that a key may ask for.
struct Targets<'s> {
    state: &'s State,
    api_key: &'s ApiKeyEntry,
    org: &'s OrgEntry,
}

impl Targets<'_> {
    fn select(&self, request: &TokenRequest) -> Result<Vec<Arc<str>>, Refused> {
        let by_resource = self.resources(&request.resources)?;
        let by_alias = request.audience.as_deref().map(|name| self.named(name)).transpose()?;
        let places = match (by_resource.as_slice(), by_alias) {
            ([], None) => vec![self.default()?],
            ([], Some(place)) => vec![place],
            (_, None) => by_resource,
            ([one], Some(place)) if *one == place => by_resource,
            _ => return Err(Refused::TargetsDiffer),
        };
        places.into_iter().map(|place| self.entry(place).map(|entry| entry.uri.clone())).collect()
    }

    fn resources(&self, uris: &[String]) -> Result<Vec<Place>, Refused> {
        let mut places = Vec::with_capacity(uris.len());
        for uri in uris {
            let place = self.state.audience_by_uri(uri).ok_or(Refused::InvalidTarget)?;
            self.check(place)?;
            if !places.contains(&place) {
                places.push(place);
            }
        }
        Ok(places)
    }

    /// By URI, or by slug within the organization of the key.
    fn named(&self, name: &str) -> Result<Place, Refused> {
        let place = self
            .state
            .audience_by_uri(name)
            .or_else(|| self.state.audience_by_slug(self.org.id, name))
            .ok_or(Refused::InvalidTarget)?;
        self.check(place)?;
        Ok(place)
    }

    /// The first of the key, else the one of its organization.
    fn default(&self) -> Result<Place, Refused> {
        if let Some(first) = self.api_key.audiences.first() {
            return Ok(*first);
        }
        self.org
            .default_audience
            .as_ref()
            .and_then(|id| self.state.audience_by_id(id))
            .ok_or(Refused::NoTarget)
    }

    /// A key may ask for its audiences, or for all of its organization where it names none.
    fn check(&self, place: Place) -> Result<(), Refused> {
        let ours = self.entry(place)?.org == self.org.id;
        let named = &self.api_key.audiences;
        if ours && (named.is_empty() || named.contains(&place)) {
            Ok(())
        } else {
            Err(Refused::InvalidTarget)
        }
    }

    fn entry(&self, place: Place) -> Result<&AudienceEntry, Refused> {
        self.state.audience(place).ok_or(Refused::InvalidTarget)
    }
}

/// What is asked for, whole and in the client's own spelling; or all that the key still has.
fn grant_scope(
    api_key: &ApiKeyEntry,
    bot: &BotEntry,
    asked: Option<&str>,
) -> Result<ScopeSet, Refused> {
    let key_scopes = api_key.scopes.as_ref().unwrap_or(&bot.grants);
    // equal texts are one allocation, so most keys have nothing to intersect
    let owner_scopes = (!Arc::ptr_eq(key_scopes, &bot.grants)).then_some(&bot.grants);
    let Some(asked) = asked else { return effective_scope(key_scopes, owner_scopes) };
    let asked: ScopeSet = asked.parse().map_err(|_| Refused::MalformedScope)?;
    for held in [Some(key_scopes), owner_scopes].into_iter().flatten() {
        if let Some(place) = parse_stored(held)?.first_uncovered(&asked) {
            return Err(Refused::ScopeBeyondKey(place));
        }
    }
    Ok(asked)
}

/// The scopes of the key that its owner still has, covered ones dropped.
fn effective_scope(key: &Arc<str>, owner: Option<&Arc<str>>) -> Result<ScopeSet, Refused> {
    let own = parse_stored(key)?;
    let effective = match owner {
        Some(owner) => own.intersect(&parse_stored(owner)?).ok_or(Refused::NoScope)?,
        None => own.without_covered(),
    };
    // what an intersection made may be longer than a scope may be written
    if effective.as_str().parse::<ScopeSet>().is_err() {
        return Err(Refused::TooMuchScope);
    }
    Ok(effective)
}

/// Stored scopes parsed once already; should a row be bad all the same, the key has none.
fn parse_stored(text: &Arc<str>) -> Result<ScopeSet, Refused> {
    text.parse().map_err(|_| Refused::NoScope)
}
