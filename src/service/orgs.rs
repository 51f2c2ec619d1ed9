//! Organizations: made by admins of the account, bootstrapped once, administered by their own.

use tenmint_verifier::Action;

use crate::error::{Error, Result};
use crate::model::access::Actor;
use crate::model::audience::AudienceUri;
use crate::model::id::{AudienceId, OrgId, Slug};
use crate::model::installation::Installation;
use crate::model::org::{BootstrapOrg, CreateOrg, EditOrg, Org};
use crate::model::revocation::{RevokedSubject, RevokedTokens};
use crate::model::role::RolePlace;
use crate::model::signing_key_schedule::signing_key_of;
use crate::service::access::{guarded, require, require_on_installation};
use crate::service::asks::parse_name;
use crate::service::audiences::{check_not_ours, default_audience};
use crate::service::call::{Call, Changed, Done};
use crate::service::roles::check_admins_left;
use crate::service::side_changes::audience_created;
use crate::service::signing_key_material::first_signing_keys;
use crate::service::spaces::shown;
use crate::service::{Service, page_limit, random};
use crate::store::changes::Subject;
use crate::store::page::{Cursor, Page};
use crate::store::{Connection, Write, audiences, orgs, signing_keys};

impl Service {
    /// Creates an organization. Its API keys are enabled by bootstrapping it.
    ///
    /// # Errors
    /// [`Error::Conflict`] `slug_taken`.
    pub async fn create_org(&self, call: &Call, ask: CreateOrg) -> Result<Changed<Org>> {
        require_on_installation(&call.actor, &Action::Admin, "organizations")?;
        let mut wrong = call.wrong();
        let slug: Option<Slug> = wrong.required("slug", ask.slug.as_ref(), |text| text.parse());
        let name = wrong.optional("name", ask.name.or(ask.slug), parse_name);
        let (slug, name) = wrong.finish(slug.zip(name))?;
        let mut write = self.store.begin().await?;
        if let Some(id) = self.repeated(&mut write, call).await? {
            let found = find_named(&mut write, &id).await?;
            return Ok(Changed::repeated(found.ok_or_else(|| no_such_org(&id))?));
        }
        let org = Org {
            id: OrgId::from_random(random()?),
            slug,
            name,
            default_audience: None,
            created_at: self.clock.now(),
            bootstrapped_at: None,
            suspended_at: None,
        };
        orgs::insert(&mut write, &org).await?;
        self.finish_org(write, call, "organization.create", (None, org)).await
    }

    /// Enables the API keys of an organization, once: with its default audience, and with signing
    /// keys if the installation has none yet.
    ///
    /// # Errors
    /// [`Error::Conflict`] `already_bootstrapped` or `audience_taken`.
    pub async fn bootstrap_org(
        &self,
        call: &Call,
        name: &str,
        ask: BootstrapOrg,
    ) -> Result<Changed<Org>> {
        require_on_installation(&call.actor, &Action::Admin, "organizations")?;
        let (algorithm, now) = (self.installation.algorithm, self.clock.now());
        let spare = first_signing_keys(algorithm, &self.master_key, now).await?;
        let mut write = self.store.begin().await?;
        let found = find_named(&mut write, name).await?;
        let before = found.ok_or_else(|| no_such_org(name))?;
        if before.bootstrapped_at.is_some() {
            let message = format!("the organization `{}` is bootstrapped already", before.slug);
            return Err(Error::Conflict("already_bootstrapped", message));
        }
        let uri = ask.audience.unwrap_or_else(|| format!("urn:tenmint:{}:api", before.slug));
        let mut wrong = call.wrong();
        let parsed = uri.parse::<AudienceUri>().map_err(|cause| cause.to_string());
        let parsed = parsed.and_then(|uri| {
            check_not_ours(&uri, &self.installation.issuer)?;
            Ok(uri)
        });
        let uri = wrong.checked("audience", parsed);
        let uri = wrong.finish(uri)?;
        let audience = default_audience(before.id, &before.slug, uri, now)?;
        audiences::insert(&mut write, &audience).await?;
        if signing_keys::list(&mut write).await?.is_empty() {
            for signing_key in &spare {
                signing_keys::insert(&mut write, signing_key).await?;
            }
            write.touched(Subject::SigningKeys, now).await?;
        }
        write.touched(Subject::Audience(audience.id), now).await?;
        let after = Org {
            default_audience: Some(audience.id),
            bootstrapped_at: Some(now),
            ..before.clone()
        };
        orgs::update(&mut write, &after).await?;
        let done = Done::new("organization.bootstrap", after.id, after.id, after)
            .was(before)
            .touches([Subject::Org(audience.org)])
            .also([audience_created(&audience)]);
        self.finish(write, call, done).await
    }

    /// Suspends an organization, or lets it go on: its API keys get no token meanwhile.
    pub async fn suspend_org(
        &self,
        call: &Call,
        name: &str,
        suspend: bool,
    ) -> Result<Changed<Org>> {
        require_on_installation(&call.actor, &Action::Admin, "organizations")?;
        let mut write = self.store.begin().await?;
        let found = find_named(&mut write, name).await?;
        let before = found.ok_or_else(|| no_such_org(name))?;
        let now = self.clock.now();
        let suspended_at = suspend.then(|| before.suspended_at.unwrap_or(now));
        let after = Org { suspended_at, ..before.clone() };
        orgs::update(&mut write, &after).await?;
        // whoever suspends must be able to let it go on again
        check_admins_left(&mut write, &[RolePlace::Account]).await?;
        if suspend {
            let subject = (RevokedSubject::Org(after.id), RevokedTokens::Before);
            self.revoke_tokens(&mut write, subject, after.id).await?;
        }
        let action = if suspend { "organization.suspend" } else { "organization.resume" };
        self.finish_org(write, call, action, (Some(before), after)).await
    }

    /// Changes an organization.
    pub async fn edit_org(&self, call: &Call, ask: EditOrg) -> Result<Changed<Org>> {
        let mut write = self.store.begin().await?;
        let before = self.org_of(&mut write, call).await?;
        let thing = guarded(before.id, ["org", "settings"])?;
        require(&call.actor, &Action::Admin, &thing, || what(before.slug.as_str()))?;
        let mut wrong = call.wrong();
        let name = wrong.optional("name", ask.name, parse_name);
        let mut after = Org { name: name.unwrap_or(before.name.clone()), ..before.clone() };
        if let Some(audience) = ask.default_audience {
            let named = [audience];
            let named = ("default_audience", Some(named.as_slice()));
            let found = self.find_audiences(&mut write, before.id, named).await;
            let found = wrong.looked_up("default_audience", found)?;
            let cause = "the management API is asked for by name, never by default";
            let api = wrong.optional("default_audience", found, |ids| {
                ids.into_iter().find(|id| *id != AudienceId::MANAGEMENT).ok_or(cause)
            });
            after.default_audience = api.or(after.default_audience);
        }
        let after = wrong.finish(Some(after))?;
        orgs::update(&mut write, &after).await?;
        self.finish_org(write, call, "organization.edit", (Some(before), after)).await
    }

    async fn finish_org(
        &self,
        write: Write<'_>,
        call: &Call,
        action: &'static str,
        (before, after): (Option<Org>, Org),
    ) -> Result<Changed<Org>> {
        let subject = Subject::Org(after.id);
        let mut done = Done::new(action, after.id, after.id, after).touches([subject]);
        done.before = before;
        self.finish(write, call, done).await
    }

    /// The organization of the caller, or another one that it reaches, by id or slug.
    ///
    /// # Errors
    /// [`Error::NotFound`] for one that it does not reach.
    pub async fn find_org(&self, actor: &Actor, name: &str) -> Result<Org> {
        let mut read = self.store.read().await?;
        let found = find_named(&mut read, name).await?;
        found.filter(|org| actor.reaches(org.id)).ok_or_else(|| no_such_org(name))
    }

    /// An organization as its members see it.
    pub async fn get_org(&self, actor: &Actor, org: OrgId) -> Result<Org> {
        let found = orgs::find(&mut *self.store.read().await?, &org).await?;
        let org = found.ok_or_else(|| no_such_org(&org.to_string()))?;
        let thing = guarded(org.id, ["org", "settings"])?;
        require(actor, &Action::Read, &thing, || what(org.slug.as_str()))?;
        Ok(org)
    }

    /// What the installation was set up with, for admins of the account.
    pub async fn get_installation(&self, actor: &Actor) -> Result<Installation> {
        require_on_installation(actor, &Action::Read, "settings")?;
        let all = signing_keys::list(&mut *self.store.read().await?).await?;
        // a rotation may have changed it since
        let algorithm =
            signing_key_of(&all).map_or(self.installation.algorithm, |key| key.algorithm);
        Ok(Installation { algorithm, ..self.installation.clone() })
    }

    /// Any organization, by id or slug, for admins of the account.
    pub async fn get_any_org(&self, actor: &Actor, name: &str) -> Result<Org> {
        require_on_installation(actor, &Action::Read, "organizations")?;
        let found = find_named(&mut *self.store.read().await?, name).await?;
        found.ok_or_else(|| no_such_org(name))
    }

    /// A page of all organizations, for admins of the account.
    pub async fn list_orgs(
        &self,
        actor: &Actor,
        (limit, after): (u32, Option<Cursor>),
    ) -> Result<Page<Org>> {
        require_on_installation(actor, &Action::Read, "organizations")?;
        let after = after.unwrap_or_else(Cursor::start);
        orgs::list_page(&mut *self.store.read().await?, &after, page_limit(limit)).await
    }

    /// The organization that a call is about.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the caller does not reach it.
    pub(crate) async fn org_of(&self, connection: &mut Connection, call: &Call) -> Result<Org> {
        let found = orgs::find(connection, &call.org).await?;
        found
            .filter(|org| call.actor.reaches(org.id))
            .ok_or_else(|| no_such_org(&call.org.to_string()))
    }
}

pub(crate) async fn find_named(connection: &mut Connection, name: &str) -> Result<Option<Org>> {
    match name.parse::<OrgId>() {
        Ok(id) => orgs::find(connection, &id).await,
        Err(_) => orgs::find_by_slug(connection, name).await,
    }
}

fn no_such_org(name: &str) -> Error {
    Error::NotFound(what(name))
}

fn what(name: &str) -> String {
    format!("organization `{}`", shown(name))
}
