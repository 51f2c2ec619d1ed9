//! Gateway policies: what requests need that come to an API through a gateway.

use tenmint_verifier::Action;

use crate::error::{Error, Result};
use crate::model::access::{Actor, Guarded};
use crate::model::gateway_policy::{
    AskGatewayRule, CreateGatewayPolicy, EditGatewayPolicy, GatewayPolicy, GatewayRules,
};
use crate::model::id::{AudienceId, GatewayPolicyId, InvalidSlug, OrgId, Slug};
use crate::service::access::{part, require, require_to_list, require_to_make};
use crate::service::asks::Wrong;
use crate::service::audiences::find_named;
use crate::service::call::{Call, Changed, Done};
use crate::service::spaces::shown;
use crate::service::{Service, page_limit, random};
use crate::store::changes::Subject;
use crate::store::page::{Cursor, Page};
use crate::store::{Connection, Write, gateway_policies};

impl Service {
    /// Makes a policy.
    ///
    /// # Errors
    /// [`Error::Conflict`] `name_taken`.
    pub async fn create_gateway_policy(
        &self,
        call: &Call,
        ask: CreateGatewayPolicy,
    ) -> Result<Changed<GatewayPolicy>> {
        let mut wrong = call.wrong();
        let name = wrong.required("name", ask.name, |text| text.parse::<Slug>());
        let named = wrong.required("audience", ask.audience, Ok::<String, InvalidSlug>);
        let asked = wrong.required("rules", ask.rules, Ok::<_, InvalidSlug>);
        let rules = asked.and_then(|asked| parse_rules(asked, &mut wrong));
        let id = GatewayPolicyId::from_random(random()?);
        require_to_make(&call.actor, &Action::Admin, &guarded(call.org, id)?)?;
        let mut write = self.store.begin().await?;
        let audience = audience_of(&mut write, call.org, named, &mut wrong).await?;
        let ((name, audience), rules) = wrong.finish(name.zip(audience).zip(rules))?;
        if let Some(id) = self.repeated(&mut write, call).await? {
            let found = find(&mut write, call.org, &id).await?;
            return Ok(Changed::repeated(found));
        }
        self.org_of(&mut write, call).await?;
        let created_at = self.clock.now();
        let policy = GatewayPolicy { id, org: call.org, name, audience, rules, created_at };
        gateway_policies::insert(&mut write, &policy).await?;
        let done = Done::new("gateway_policy.create", call.org, id, policy)
            .touches([Subject::GatewayPolicy(id)]);
        self.finish(write, call, done).await
    }

    /// A policy of the organization, by id or name.
    pub async fn get_gateway_policy(
        &self,
        actor: &Actor,
        org: OrgId,
        name: &str,
    ) -> Result<GatewayPolicy> {
        let policy = find(&mut *self.store.read().await?, org, name).await?;
        require(actor, &Action::Read, &guarded(org, policy.id)?, || what(name))?;
        Ok(policy)
    }

    /// A page of the policies of the organization.
    pub async fn list_gateway_policies(
        &self,
        actor: &Actor,
        org: OrgId,
        (limit, after): (u32, Option<Cursor>),
    ) -> Result<Page<GatewayPolicy>> {
        require_to_list(actor, org, "read:org/gateway-policies/*")?;
        let mut read = self.store.read().await?;
        let after = after.unwrap_or_else(Cursor::start);
        let mut page = gateway_policies::list(&mut read, &org, &after, page_limit(limit)).await?;
        page.items.retain(|policy| {
            guarded(org, policy.id).is_ok_and(|thing| actor.may(&Action::Read, &thing))
        });
        Ok(page)
    }

    /// Changes a policy, at once for every gateway. Its name stays.
    pub async fn edit_gateway_policy(
        &self,
        call: &Call,
        name: &str,
        ask: EditGatewayPolicy,
    ) -> Result<Changed<GatewayPolicy>> {
        let (mut write, before) = self.gateway_policy_to_change(call, name).await?;
        let mut wrong = call.wrong();
        let rules = ask.rules.and_then(|asked| parse_rules(asked, &mut wrong));
        let audience = audience_of(&mut write, call.org, ask.audience, &mut wrong).await?;
        wrong.finish(Some(()))?;
        let mut after = before.clone();
        after.audience = audience.unwrap_or(after.audience);
        after.rules = rules.unwrap_or(after.rules);
        gateway_policies::update(&mut write, &after).await?;
        let done = Done::new("gateway_policy.edit", after.org, after.id, after.clone())
            .was(before)
            .touches([Subject::GatewayPolicy(after.id)]);
        self.finish(write, call, done).await
    }

    /// Deletes a policy: what its gateways ask is refused from now on.
    pub async fn delete_gateway_policy(
        &self,
        call: &Call,
        name: &str,
    ) -> Result<Changed<GatewayPolicy>> {
        let (mut write, policy) = self.gateway_policy_to_change(call, name).await?;
        gateway_policies::delete(&mut write, &policy.id).await?;
        let done = Done::new("gateway_policy.delete", policy.org, policy.id, policy.clone())
            .touches([Subject::GatewayPolicy(policy.id)])
            .was(policy)
            .ends();
        self.finish(write, call, done).await
    }

    async fn gateway_policy_to_change(
        &self,
        call: &Call,
        name: &str,
    ) -> Result<(Write<'_>, GatewayPolicy)> {
        let mut write = self.store.begin().await?;
        let policy = find(&mut write, call.org, name).await?;
        let thing = guarded(call.org, policy.id)?;
        require(&call.actor, &Action::Admin, &thing, || what(name))?;
        Ok((write, policy))
    }
}

fn guarded(org: OrgId, id: GatewayPolicyId) -> Result<Guarded> {
    part(org, None, "gateway-policies", &id.to_string())
}

fn what(name: &str) -> String {
    format!("gateway policy `{}`", shown(name))
}

fn parse_rules(asked: Vec<AskGatewayRule>, wrong: &mut Wrong) -> Option<GatewayRules> {
    GatewayRules::parse(asked).map_err(|fields| wrong.extend(fields)).ok()
}

/// A policy of the organization, by id or name.
pub(crate) async fn find(
    connection: &mut Connection,
    org: OrgId,
    name: &str,
) -> Result<GatewayPolicy> {
    let found = match name.parse::<GatewayPolicyId>() {
        Ok(id) => gateway_policies::find(connection, &id).await?,
        Err(_) => gateway_policies::find_by_name(connection, &org, name).await?,
    };
    found.filter(|policy| policy.org == org).ok_or_else(|| Error::NotFound(what(name)))
}

/// The API of a policy. It is the organization's own, shared or not: nobody lets requests through to
/// an API of somebody else.
async fn audience_of(
    connection: &mut Connection,
    org: OrgId,
    named: Option<String>,
    wrong: &mut Wrong,
) -> Result<Option<AudienceId>> {
    let Some(name) = named else { return Ok(None) };
    let found = find_named(connection, org, &name).await?.filter(|audience| audience.org == org);
    let unknown = || format!("the organization has no audience `{}`", shown(&name));
    Ok(wrong.checked("audience", found.map(|audience| audience.id).ok_or_else(unknown)))
}
