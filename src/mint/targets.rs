//! The audiences of a token: which an API key may ask for, and what they ask of a token.

use std::sync::Arc;

use crate::mint::entries::{ApiKeyEntry, AudienceEntry, OrgEntry};
use crate::mint::few::Few;
use crate::mint::index::State;
use crate::mint::slab::Place;
use crate::mint::{Refused, TokenRequest};
use crate::model::audience::{MANAGEMENT_SLUG, TokenType};
use crate::model::id::AudienceId;
use crate::model::installation::TokenLifetime;

/// The audiences that a key may ask for.
pub(super) struct Targets<'s> {
    pub(super) state: &'s State,
    pub(super) api_key: &'s ApiKeyEntry,
    pub(super) org: &'s OrgEntry,
}

/// The audiences that a token will be for.
pub(super) struct Selected {
    pub(super) audience_ids: Few<AudienceId>,
    /// Their URIs, in the same order.
    pub(super) audiences: Few<Arc<str>>,
    /// The shortest lifetime that one of them asks for.
    pub(super) lifetime: Option<TokenLifetime>,
    pub(super) token_type: TokenType,
    /// Whether it is the management API, alone.
    pub(super) is_management: bool,
}

impl Targets<'_> {
    pub(super) fn select(&self, request: &TokenRequest) -> Result<Selected, Refused> {
        let by_resource = self.resources(&request.resources)?;
        let by_alias = request.audience.as_deref().map(|name| self.named(name)).transpose()?;
        let places = match (&*by_resource, by_alias) {
            ([], None) => Few::One(self.default()?),
            ([], Some(place)) => Few::One(place),
            (_, None) => by_resource,
            ([one], Some(place)) if *one == place => by_resource,
            _ => return Err(Refused::TargetsDiffer),
        };
        let entries = match &places {
            Few::One(place) => Few::One(self.entry(*place)?),
            Few::Many(places) => {
                Few::Many(places.iter().map(|place| self.entry(*place)).collect::<Result<_, _>>()?)
            }
        };
        selected(&entries)
    }

    fn resources(&self, uris: &[String]) -> Result<Few<Place>, Refused> {
        uris.iter().try_fold(Few::default(), |places: Few<Place>, uri| {
            let place = self.state.audience_by_uri(uri).ok_or(Refused::InvalidTarget)?;
            self.check(place)?;
            Ok(places.with(place))
        })
    }

    /// By URI, or by the slug that the organization of the key finds it under.
    fn named(&self, name: &str) -> Result<Place, Refused> {
        let place = self
            .state
            .audience_by_uri(name)
            .or_else(|| self.state.audience_by_slug(self.org.id, name))
            .or_else(|| self.state.management().filter(|_| name == MANAGEMENT_SLUG))
            .ok_or(Refused::InvalidTarget)?;
        self.check(place)?;
        Ok(place)
    }

    /// The first of the key, else the one of its organization. Never the management API's, which
    /// has to be asked for.
    fn default(&self) -> Result<Place, Refused> {
        if !self.api_key.audiences().is_empty() {
            let named = self.api_key.audiences().iter().copied();
            let is_api = |place: &Place| self.entry(*place).is_ok_and(|one| !one.is_management());
            return named.into_iter().find(is_api).ok_or(Refused::NoTarget);
        }
        self.org
            .default_audience
            .as_ref()
            .and_then(|id| self.state.audience_by_id(id))
            .ok_or(Refused::NoTarget)
    }

    /// A key may ask for its audiences, or for all of its organization where it names none.
    fn check(&self, place: Place) -> Result<(), Refused> {
        let takes_ours = self.entry(place)?.org.is_none_or(|org| org == self.org.id);
        let named = self.api_key.audiences();
        if takes_ours && (named.is_empty() || named.contains(&place)) {
            Ok(())
        } else {
            Err(Refused::InvalidTarget)
        }
    }

    fn entry(&self, place: Place) -> Result<&AudienceEntry, Refused> {
        self.state.audience(place).ok_or(Refused::InvalidTarget)
    }
}

/// What several audiences ask of one token. A token for the management API is for nothing else.
fn selected(entries: &Few<&AudienceEntry>) -> Result<Selected, Refused> {
    let is_management = entries.iter().any(|audience| audience.is_management());
    if is_management && entries.len() > 1 {
        return Err(Refused::InvalidTarget);
    }
    let all_take_jwt = entries.iter().all(|audience| audience.token_type == TokenType::Jwt);
    Ok(Selected {
        audience_ids: entries.map(|one| one.id),
        audiences: entries.map(|one| one.uri.clone()),
        lifetime: entries.iter().filter_map(|audience| audience.lifetime).min(),
        token_type: if all_take_jwt { TokenType::Jwt } else { TokenType::AccessToken },
        is_management,
    })
}
