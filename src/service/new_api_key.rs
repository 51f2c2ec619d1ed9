//! A new API key: from what was asked to what is stored, and whether the caller may make it.

use tenmint_verifier::{Action, ScopeSet};

use crate::error::{Error, Result};
use crate::model::access::Actor;
use crate::model::api_key::{ApiKey, ApiKeyType, CreateApiKey};
use crate::model::audit::SideChange;
use crate::model::bot::Bot;
use crate::model::id::{ApiKeyId, AudienceId, BotId, OrgId};
use crate::model::ip_rules::IpRules;
use crate::model::org::Org;
use crate::model::owner::OwnerId;
use crate::model::quota::Quota;
use crate::model::role::{RoleBinding, RolePlace, RoleRef};
use crate::model::scope_catalogue::{self, ScopeCatalogue};
use crate::model::space::Space;
use crate::model::time::Timestamp;
use crate::service::access::{
    Given, guarded, part, require_to_hold, require_to_make, require_to_reach,
};
use crate::service::api_key_edits::not_held;
use crate::service::api_keys::{shown_prefix, slug_of};
use crate::service::asks::{
    Wrong, parse_description, parse_expiry, parse_name, parse_quota, parse_scopes,
};
use crate::service::audiences::catalogues;
use crate::service::bots::visible_bot;
use crate::service::call::Call;
use crate::service::first_roles::FirstRoles;
use crate::service::owners::{OwnerScopes, read_owner_in};
use crate::service::side_changes::{bot_created, role_bound};
use crate::service::spaces::require_active;
use crate::service::{Service, random};
use crate::store::changes::Subject;
use crate::store::{Connection, Write};

/// An API key that was parsed and is not stored yet.
pub(crate) struct NewApiKey {
    pub(crate) api_key: ApiKey,
    pub(crate) space: Option<Space>,
    /// The bot that it brings along.
    pub(crate) own_bot: Option<OwnBot>,
}

/// A bot that is made together with its first key.
pub(crate) struct OwnBot {
    pub(crate) bot: Bot,
    pub(crate) roles: Vec<RoleBinding>,
    /// What its roles hold.
    pub(crate) role_scopes: Option<ScopeSet>,
}

impl OwnBot {
    /// All that it holds.
    pub(crate) fn scopes(&self) -> OwnerScopes {
        let administers =
            |bound: &RoleBinding| (bound.place, bound.role) == (RolePlace::Account, RoleRef::Admin);
        OwnerScopes {
            scopes: union(self.bot.grants.as_ref(), self.role_scopes.as_ref()),
            is_account_admin: self.roles.iter().any(administers),
        }
    }

    /// What the audit is told of it.
    pub(crate) fn is_made(&self) -> Vec<SideChange> {
        let roles = self.roles.iter().map(role_bound);
        std::iter::once(bot_created(&self.bot)).chain(roles).collect()
    }
}

/// The fields that need nothing from the database.
struct Fields {
    name: String,
    description: String,
    scopes: Option<ScopeSet>,
    ip_rules: IpRules,
    quota: Option<Quota>,
    expires_at: Option<Timestamp>,
}

impl Fields {
    fn parse(wrong: &mut Wrong, ask: &CreateApiKey, now: Timestamp) -> Option<Self> {
        let name = wrong.required("name", ask.name.as_ref(), parse_name);
        let description = ask.description.as_deref().unwrap_or_default();
        let description = wrong.checked("description", parse_description(description));
        let scopes = wrong.optional("scopes", ask.scopes.as_ref(), parse_scopes);
        let quota = wrong.optional("quota", ask.quota, parse_quota);
        let expires_at =
            wrong.optional("expires_at", ask.expires_at.as_ref(), |text| parse_expiry(text, now));
        if ask.audiences.as_ref().is_some_and(Vec::is_empty) {
            let cause = "an empty list is refused: leave it out for all of the organization";
            wrong.checked::<(), _>("audiences", Err(cause));
        }
        let list = |asked: &Option<Vec<String>>| asked.clone().unwrap_or_default();
        let ip_rules = IpRules::parse(&list(&ask.allow), &list(&ask.block));
        let ip_rules = ip_rules.map_err(|fields| wrong.extend(fields)).ok();
        let ((name, description), ip_rules) = name.zip(description).zip(ip_rules)?;
        Some(Self { name, description, scopes, ip_rules, quota, expires_at })
    }
}

impl NewApiKey {
    pub(crate) async fn parse(
        service: &Service,
        write: &mut Write<'_>,
        call: &Call,
        ask: CreateApiKey,
    ) -> Result<Self> {
        let (now, mut wrong) = (service.clock.now(), call.wrong());
        let fields = Fields::parse(&mut wrong, &ask, now);
        let named = ("audiences", ask.audiences.as_deref());
        let audiences = service.find_audiences(write, call.org, named).await;
        let audiences = wrong.looked_up("audiences", audiences)?;
        let space = space_of(service, write, call, &ask).await;
        let space = wrong.looked_up("space", space)?.flatten();
        let id = ApiKeyId::from_random(random()?);
        let key_type = ask.key_type.unwrap_or(match call.actor.credential.owner {
            OwnerId::User(_) => ApiKeyType::User,
            OwnerId::Bot(_) => ApiKeyType::Service,
        });
        let with = (key_type, fields.as_ref(), space.as_ref());
        let owner = owner_of(write, call, (&ask, &mut wrong), with, now).await;
        let owner = wrong.looked_up("bot", owner)?;
        let found = fields.zip(audiences).zip(owner);
        let ((fields, audiences), (owner, own_bot)) = wrong.finish(found)?;
        let org = service.org_of(write, call).await?;
        let label = slug_of(space.as_ref()).unwrap_or(&org.slug);
        let api_key = ApiKey {
            id,
            org: call.org,
            key_type,
            owner,
            space: space.as_ref().map(|space| space.id),
            name: fields.name,
            description: fields.description,
            prefix: Some(shown_prefix(&service.installation.api_key_prefix, label, &id)),
            scopes: fields.scopes,
            audiences,
            ip_rules: fields.ip_rules,
            quota: fields.quota,
            replaces: None,
            created_by: Some(call.actor.credential.owner),
            created_at: now,
            expires_at: fields.expires_at,
            revoked_at: None,
            rotated_at: None,
            old_secret_expires_at: None,
            deleted_at: None,
            lifetime: fields.expires_at.map(|end| end.since(now)),
            quota_counter: id,
        };
        Ok(Self { api_key, space, own_bot })
    }

    /// What the nodes have to read, the owner before the key.
    pub(crate) fn touched(&self) -> Vec<Subject> {
        let own_bot = self.own_bot.as_ref().map(|own| Subject::Bot(own.bot.id));
        own_bot.into_iter().chain([Subject::ApiKey(self.api_key.id)]).collect()
    }

    /// Whether the caller may make this key, whether its owner and its audiences know its scopes,
    /// and whether the caller holds what it gives.
    pub(crate) async fn check(
        &self,
        actor: &Actor,
        connection: &mut Connection,
        org: &Org,
    ) -> Result<()> {
        self.check_place(actor)?;
        let owners = if let Some(own) = &self.own_bot {
            own.scopes()
        } else {
            let owner = read_owner_in(connection, &self.api_key.owner, org.id).await?;
            require_to_reach(actor, owner.as_ref())?;
            OwnerScopes::of(owner.as_ref())
        };
        let catalogues = match &self.api_key.scopes {
            Some(_) => catalogues(connection, org.id, &self.api_key.audiences).await?,
            None => Vec::new(),
        };
        self.check_reach(actor, &owners, &catalogues)
    }

    /// The part of the check that needs nothing from the database, once it is known what the owner
    /// holds and what the audiences know.
    pub(crate) fn check_reach(
        &self,
        actor: &Actor,
        owners: &OwnerScopes,
        catalogues: &[Option<ScopeCatalogue>],
    ) -> Result<()> {
        if let Some(scopes) = &self.api_key.scopes {
            if let Some(scope) = owners.first_beyond(scopes) {
                return Err(not_held(scope));
            }
            scope_catalogue::check(scopes, catalogues)
                .map_err(|cause| Error::invalid("scopes", cause))?;
        }
        let effective = owners.effective(self.api_key.scopes.as_ref());
        require_to_hold(actor, given(&self.api_key, effective.as_ref()))
    }

    /// One's own key needs `write` on one's own; any other needs `admin` on all.
    fn check_place(&self, actor: &Actor) -> Result<()> {
        let slug = slug_of(self.space.as_ref());
        let id = self.api_key.id.to_string();
        let thing = part(self.api_key.org, slug, "keys", &id)?;
        if actor.may(&Action::Admin, &thing) {
            return Ok(());
        }
        if self.api_key.owner != actor.credential.owner {
            return require_to_make(actor, &Action::Admin, &thing);
        }
        let own = match slug {
            Some(slug) => ["space-management", slug.as_str(), "keys", "own", &id].to_vec(),
            None => ["org", "keys", "own", &id].to_vec(),
        };
        let own = guarded(self.api_key.org, own)?;
        require_to_make(actor, &Action::Write, &own)
    }
}

/// What a key would give away.
pub(crate) fn given<'g>(api_key: &'g ApiKey, effective: Option<&'g ScopeSet>) -> Given<'g> {
    Given {
        scopes: effective,
        audiences: &api_key.audiences,
        expires_at: api_key.expires_at,
        ip_rules: &api_key.ip_rules,
    }
}

pub(crate) fn union(a: Option<&ScopeSet>, b: Option<&ScopeSet>) -> Option<ScopeSet> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.union(b)),
        (a, b) => a.or(b).cloned(),
    }
}

/// Refuses a scope that no audience of the key knows.
pub(crate) async fn check_catalogues(
    connection: &mut Connection,
    org: OrgId,
    audiences: &[AudienceId],
    scopes: &ScopeSet,
) -> Result<()> {
    let catalogues = catalogues(connection, org, audiences).await?;
    scope_catalogue::check(scopes, &catalogues).map_err(|cause| Error::invalid("scopes", cause))
}

/// The space of a key: the one that is named, or else that of its bot. A bot that is not there is told
/// of where the owner is looked for.
async fn space_of(
    service: &Service,
    write: &mut Write<'_>,
    call: &Call,
    ask: &CreateApiKey,
) -> Result<Option<Space>> {
    let named = match &ask.space {
        Some(name) => Some(service.active_space(write, &call.actor, call.org, name).await?),
        None => None,
    };
    let bot = match &ask.bot {
        Some(bot) => visible_bot(write, &call.actor, call.org, bot).await.ok(),
        None => None,
    };
    within_home(named, bot.and_then(|(_, home)| home))
}

/// Holds a key to the space that its bot belongs to: what stops a space stops all that is in it.
///
/// # Errors
/// [`Error::Invalid`] for another space; [`Error::Conflict`] `space_suspended`.
pub(crate) fn within_home(named: Option<Space>, home: Option<Space>) -> Result<Option<Space>> {
    let Some(home) = home else { return Ok(named) };
    if named.is_some_and(|named| named.id != home.id) {
        let message = format!("the owner of the key belongs to the space `{}`", home.slug);
        return Err(Error::invalid("space", message));
    }
    require_active(home).map(Some)
}

/// Who shall own the key: the caller, a bot that is named, or a new one.
async fn owner_of(
    write: &mut Write<'_>,
    call: &Call,
    (ask, wrong): (&CreateApiKey, &mut Wrong),
    (key_type, fields, space): (ApiKeyType, Option<&Fields>, Option<&Space>),
    now: Timestamp,
) -> Result<(OwnerId, Option<OwnBot>)> {
    let roles = [&ask.space_role, &ask.org_role, &ask.account_role];
    let names_roles = roles.iter().any(|role| role.is_some());
    match (key_type, call.actor.credential.owner, &ask.bot) {
        (ApiKeyType::User, OwnerId::User(_), None) if !names_roles => {
            Ok((call.actor.credential.owner, None))
        }
        (ApiKeyType::User, OwnerId::Bot(_), _) => Err(Error::invalid(
            "key_type",
            "a bot makes service keys: a user key is made by the person it is for",
        )),
        (ApiKeyType::User, ..) => {
            Err(Error::invalid("key_type", "a user key has no bot and no roles of its own"))
        }
        (ApiKeyType::Service, _, Some(_)) if names_roles => Err(Error::invalid(
            "bot",
            "roles are given to a new bot: bind them to this one instead",
        )),
        (ApiKeyType::Service, _, Some(bot)) => {
            let (bot, _) = visible_bot(write, &call.actor, call.org, bot).await?;
            Ok((OwnerId::Bot(bot.id), None))
        }
        (ApiKeyType::Service, _, None) => {
            let own_bot = own_bot(write, call, (ask, wrong), (fields, space), now).await?;
            Ok((OwnerId::Bot(own_bot.bot.id), Some(own_bot)))
        }
    }
}

/// A bot for this key alone, with the roles that were asked for or the defaults of the contract.
/// Where fields of the key are wrong, it is made to see whether its roles are, and goes nowhere.
async fn own_bot(
    write: &mut Write<'_>,
    call: &Call,
    (ask, wrong): (&CreateApiKey, &mut Wrong),
    (fields, space): (Option<&Fields>, Option<&Space>),
    now: Timestamp,
) -> Result<OwnBot> {
    let bot = Bot {
        id: BotId::from_random(random()?),
        org: call.org,
        space: space.map(|space| space.id),
        name: fields.map(|fields| fields.name.clone()).unwrap_or_default(),
        grants: fields.and_then(|fields| fields.scopes.clone()),
        created_at: now,
        suspended_at: None,
        deleted_at: None,
    };
    let asked = FirstRoles {
        account: ask.account_role.as_deref(),
        organization: ask.org_role.as_deref(),
        // of a space that was not found, no role can be
        space: ask.space_role.as_deref().filter(|_| space.is_some() || ask.space.is_none()),
    };
    let (roles, role_scopes) = asked.bind(write, &call.actor, (&bot, space), wrong).await?;
    Ok(OwnBot { bot, roles, role_scopes })
}
