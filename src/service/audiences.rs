//! Audiences: the APIs that take tokens, with what each knows and asks of a token.

use tenmint_verifier::Action;

use crate::error::{Error, Result};
use crate::model::access::Actor;
use crate::model::audience::{
    Audience, AudienceUri, CreateAudience, EditAudience, MANAGEMENT_SLUG,
};
use crate::model::id::{AudienceId, OrgId, Slug};
use crate::model::installation::{Issuer, TokenLifetime};
use crate::model::raw_keys::RawKeys;
use crate::model::revocation::{RevokedSubject, RevokedTokens};
use crate::model::scope_catalogue::ScopeCatalogue;
use crate::model::time::Timestamp;
use crate::service::access::{
    part, require, require_on_installation, require_to_list, require_to_make,
};
use crate::service::asks::Wrong;
use crate::service::call::{Call, Changed, Done};
use crate::service::spaces::shown;
use crate::service::{Service, page_limit, random};
use crate::store::changes::Subject;
use crate::store::page::{Cursor, Page};
use crate::store::{Connection, audiences};

impl Service {
    /// Registers an audience.
    ///
    /// # Errors
    /// [`Error::Conflict`] `audience_taken`: a URI is one audience's for ever. `slug_taken`: of shared
    /// audiences no two have one slug, under which every organization finds them.
    pub async fn create_audience(
        &self,
        call: &Call,
        ask: CreateAudience,
    ) -> Result<Changed<Audience>> {
        let audience = self.parse_audience(call, ask)?;
        let thing = part(call.org, None, "audiences", &audience.id.to_string())?;
        require_to_make(&call.actor, &Action::Admin, &thing)?;
        if audience.shared_at.is_some() {
            require_on_installation(&call.actor, &Action::Admin, "audiences")?;
        }
        let mut write = self.store.begin().await?;
        if let Some(id) = self.repeated(&mut write, call).await? {
            let found = find_named(&mut write, call.org, &id).await?;
            return Ok(Changed::repeated(found.ok_or_else(|| no_such_audience(&id))?));
        }
        self.org_of(&mut write, call).await?;
        let shared = match audience.shared_at {
            Some(_) => audiences::find_shared_by_slug(&mut write, audience.slug.as_str()).await?,
            None => None,
        };
        audiences::insert(&mut write, &audience).await?;
        if shared.is_some() {
            let message = format!(
                "another audience that all organizations share has the slug `{}`: choose another",
                audience.slug
            );
            return Err(Error::Conflict("slug_taken", message));
        }
        let done = Done::new("audience.create", call.org, audience.id, audience.clone())
            .touches([Subject::Audience(audience.id)]);
        self.finish(write, call, done).await
    }

    /// An audience that takes tokens of the organization, by id, URI or slug.
    pub async fn get_audience(&self, actor: &Actor, org: OrgId, name: &str) -> Result<Audience> {
        visible_audience(&mut *self.store.read().await?, actor, org, name).await
    }

    /// A page of the audiences of an organization, with the shared ones.
    pub async fn list_audiences(
        &self,
        actor: &Actor,
        org: OrgId,
        (limit, after): (u32, Option<Cursor>),
    ) -> Result<Page<Audience>> {
        require_to_list(actor, org, "read:org/audiences/*")?;
        let mut read = self.store.read().await?;
        let after = after.unwrap_or_else(Cursor::start);
        let mut page = audiences::list(&mut read, &org, &after, page_limit(limit)).await?;
        page.items.retain(|audience| {
            let thing = part(org, None, "audiences", &audience.id.to_string());
            thing.is_ok_and(|thing| actor.may(&Action::Read, &thing))
        });
        Ok(page)
    }

    /// Changes an audience. Its URI and slug stay for ever.
    pub async fn edit_audience(
        &self,
        call: &Call,
        name: &str,
        ask: EditAudience,
    ) -> Result<Changed<Audience>> {
        let mut write = self.store.begin().await?;
        let before = visible_audience(&mut write, &call.actor, call.org, name).await?;
        if before.org == call.org {
            let thing = part(call.org, None, "audiences", &before.id.to_string())?;
            require_to_make(&call.actor, &Action::Admin, &thing)?;
        }
        if before.shared_at.is_some() {
            require_on_installation(&call.actor, &Action::Admin, "audiences")?;
        }
        let after = self.edited_audience(call.wrong(), &before, ask)?;
        audiences::update(&mut write, &after).await?;
        if after.raw_keys != before.raw_keys {
            // of no organization: where one has too much to tell, this must not be lost in it
            let subject = RevokedSubject::RawKeyPolicy(after.uri.clone());
            self.revoke_tokens(&mut write, (subject, RevokedTokens::Before), None).await?;
        }
        let done = Done::new("audience.edit", after.org, after.id, after.clone())
            .was(before)
            .touches([Subject::Audience(after.id)]);
        self.finish(write, call, done).await
    }

    fn parse_audience(&self, call: &Call, ask: CreateAudience) -> Result<Audience> {
        let mut wrong = call.wrong();
        let issuer = &self.installation.issuer;
        let uri = wrong.required("uri", ask.uri, |text| parse_uri(&text, issuer));
        let slug = match (ask.slug, &uri) {
            (Some(slug), _) => wrong.checked("slug", parse_slug(&slug)),
            (None, Some(uri)) => wrong.checked("slug", slug_of_uri(uri)),
            (None, None) => None,
        };
        let has_catalogue = ask.actions.is_some() || ask.paths.is_some();
        let (actions, paths) = (ask.actions.unwrap_or_default(), ask.paths.unwrap_or_default());
        let catalogue = has_catalogue.then(|| ScopeCatalogue::parse(actions, paths)).transpose();
        let catalogue = catalogue.unwrap_or_else(|fields| {
            wrong.extend(fields);
            None
        });
        let token_lifetime = wrong
            .optional("token_lifetime", ask.token_lifetime, |seconds| self.parse_lifetime(seconds));
        let now = self.clock.now();
        let raw_keys =
            wrong.optional("raw_keys", ask.raw_keys, |ask| RawKeys::parse(ask, None, now));
        let parsed = uri.zip(slug);
        let (uri, slug) = wrong.finish(parsed)?;
        Ok(Audience {
            id: AudienceId::from_random(random()?),
            org: call.org,
            slug,
            uri,
            catalogue,
            token_lifetime,
            token_type: ask.token_type.unwrap_or_default(),
            created_at: now,
            shared_at: ask.shared.unwrap_or(false).then_some(now),
            raw_keys: raw_keys.flatten(),
        })
    }

    fn edited_audience(
        &self,
        mut wrong: Wrong,
        before: &Audience,
        ask: EditAudience,
    ) -> Result<Audience> {
        let mut after = before.clone();
        if ask.actions.is_some() || ask.paths.is_some() {
            let kept = before.catalogue.clone();
            let (actions, paths) =
                kept.map_or((None, None), |kept| (Some(kept.actions), Some(kept.paths)));
            let actions = ask.actions.unwrap_or(actions);
            let paths = ask.paths.unwrap_or(paths);
            after.catalogue = match (actions, paths) {
                (None, None) => None,
                (actions, paths) => {
                    let lists = (actions.unwrap_or_default(), paths.unwrap_or_default());
                    let parsed = ScopeCatalogue::parse(lists.0, lists.1);
                    parsed.map_err(|fields| wrong.extend(fields)).ok()
                }
            };
        }
        match ask.token_lifetime {
            Some(None) => after.token_lifetime = None,
            Some(Some(seconds)) => {
                after.token_lifetime =
                    wrong.checked("token_lifetime", self.parse_lifetime(seconds));
            }
            None => {}
        }
        if let Some(token_type) = ask.token_type {
            after.token_type = token_type;
        }
        if let Some(raw_keys) = ask.raw_keys {
            let (before, now) = (before.raw_keys.as_ref(), self.clock.now());
            let parsed = RawKeys::parse(raw_keys.unwrap_or_default(), before, now);
            after.raw_keys = wrong.checked("raw_keys", parsed).flatten();
        }
        wrong.finish(Some(after))
    }

    fn parse_lifetime(&self, seconds: u32) -> std::result::Result<TokenLifetime, String> {
        let longest = self.installation.token_lifetime;
        TokenLifetime::from_seconds(i64::from(seconds))
            .filter(|lifetime| *lifetime <= longest)
            .ok_or_else(|| {
                format!("write 60 to {} seconds, as the installation has", longest.as_seconds())
            })
    }

    /// The ids of audiences that a field names, each by id, URI or slug.
    ///
    /// # Errors
    /// [`Error::Invalid`] with each that does not take tokens of the organization.
    pub(crate) async fn find_audiences(
        &self,
        connection: &mut Connection,
        org: OrgId,
        (field, names): (&'static str, Option<&[String]>),
    ) -> Result<Vec<AudienceId>> {
        let (mut ids, mut wrong) = (Vec::new(), Wrong::default());
        for name in names.unwrap_or_default() {
            let management = AudienceUri::management(&self.installation.issuer);
            let id = if name == MANAGEMENT_SLUG
                || name == management.as_str()
                || name.parse() == Ok(AudienceId::MANAGEMENT)
            {
                AudienceId::MANAGEMENT
            } else {
                let found = find_named(connection, org, name).await?;
                let unknown = || format!("there is no audience `{}`", shown(name));
                match wrong.checked(field, found.ok_or_else(unknown)) {
                    Some(audience) => audience.id,
                    None => continue,
                }
            };
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        wrong.finish(Some(ids))
    }
}

pub(crate) async fn visible_audience(
    connection: &mut Connection,
    actor: &Actor,
    org: OrgId,
    name: &str,
) -> Result<Audience> {
    let found = find_named(connection, org, name).await?;
    let audience = found.ok_or_else(|| no_such_audience(name))?;
    let thing = part(org, None, "audiences", &audience.id.to_string())?;
    require(actor, &Action::Read, &thing, || format!("audience `{}`", shown(name)))?;
    Ok(audience)
}

/// An audience that takes tokens of an organization, by id, URI or slug. A slug is that of its own one,
/// else that of a shared one.
pub(crate) async fn find_named(
    connection: &mut Connection,
    org: OrgId,
    name: &str,
) -> Result<Option<Audience>> {
    let found = if let Ok(id) = name.parse::<AudienceId>() {
        audiences::find(connection, &id).await?
    } else if name.contains(':') {
        audiences::find_by_uri(connection, name).await?
    } else {
        match audiences::find_by_slug(connection, &org, name).await? {
            Some(own) => Some(own),
            None => audiences::find_shared_by_slug(connection, name).await?,
        }
    };
    Ok(found.filter(|audience| audience.org == org || audience.shared_at.is_some()))
}

fn no_such_audience(name: &str) -> Error {
    Error::NotFound(format!("audience `{}`", shown(name)))
}

/// The catalogues that the scopes of a key are checked against: of its audiences, or of all that
/// the organization has. The audience of the management API has none to check.
pub(crate) async fn catalogues(
    connection: &mut Connection,
    org: OrgId,
    ids: &[AudienceId],
) -> Result<Vec<Option<ScopeCatalogue>>> {
    let mut found = Vec::new();
    for id in ids.iter().filter(|id| **id != AudienceId::MANAGEMENT) {
        let audience = audiences::find(connection, id).await?;
        found.extend(audience.map(|audience| audience.catalogue));
    }
    if ids.is_empty() {
        let all = i64::from(crate::service::api_keys::MAX_PAGE);
        let page = audiences::list(connection, &org, &Cursor::start(), all).await?;
        found.extend(page.items.into_iter().map(|audience| audience.catalogue));
        // more audiences than were looked at: one of them may know what these do not
        found.extend(page.next.map(|_| None));
    }
    Ok(found)
}

fn parse_uri(text: &str, issuer: &Issuer) -> std::result::Result<AudienceUri, String> {
    let uri: AudienceUri = text
        .parse()
        .map_err(|cause: crate::model::audience::InvalidAudienceUri| cause.to_string())?;
    check_not_ours(&uri, issuer)?;
    Ok(uri)
}

/// Refuses the issuer and what is below it: there tenmint's own tokens are used.
pub(crate) fn check_not_ours(
    uri: &AudienceUri,
    issuer: &Issuer,
) -> std::result::Result<(), &'static str> {
    if uri.is_within(issuer) {
        return Err("the issuer and what is below it are tenmint's own");
    }
    Ok(())
}

fn parse_slug(text: &str) -> std::result::Result<Slug, String> {
    if text == MANAGEMENT_SLUG {
        return Err(format!("`{MANAGEMENT_SLUG}` is the management API's"));
    }
    text.parse().map_err(|cause: crate::model::id::InvalidSlug| cause.to_string())
}

/// A slug made of what tells the URI apart: its host and path.
fn slug_of_uri(uri: &AudienceUri) -> std::result::Result<Slug, String> {
    let text = uri.as_str().split_once("://").map_or(uri.as_str(), |(_, rest)| rest);
    let plain: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(40)
        .collect();
    parse_slug(&plain)
}

/// A default audience for an organization that is bootstrapped.
pub(crate) fn default_audience(
    org: OrgId,
    slug: &Slug,
    uri: AudienceUri,
    now: Timestamp,
) -> Result<Audience> {
    Ok(Audience {
        id: AudienceId::from_random(random()?),
        org,
        slug: slug.clone(),
        uri,
        catalogue: None,
        token_lifetime: None,
        token_type: crate::model::audience::TokenType::default(),
        created_at: now,
        shared_at: None,
        raw_keys: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_made_of_the_host_and_path() {
        let uri: AudienceUri = "https://api.example.com/v1".parse().unwrap();
        assert_eq!(slug_of_uri(&uri).unwrap().as_str(), "api-example-com-v1");
        assert!(slug_of_uri(&"x://management".parse().unwrap()).is_err());
    }
}
