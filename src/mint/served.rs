//! The APIs that somebody answers for, and the policies under which gateways let requests through to
//! them.

use std::collections::HashMap;
use std::sync::Arc;

use tenmint_verifier::RawKeyPolicy;

use crate::mint::entries::AudienceEntry;
use crate::mint::index::{Index, State};
use crate::model::access::Credential;
use crate::model::gateway_policy::GatewayPolicy;
use crate::model::id::{AudienceId, GatewayPolicyId, OrgId};
use crate::model::org::Org;

/// An API, as it is for whoever answers for it.
#[derive(Debug, Clone)]
pub(super) struct ServedApi {
    pub(super) id: AudienceId,
    pub(super) uri: Arc<str>,
    /// Whose it is.
    pub(super) org: OrgId,
    /// Whether it takes what other organizations have too.
    pub(super) takes_all: bool,
    /// What it does with raw keys.
    pub(super) raw_keys: Arc<RawKeyPolicy>,
}

/// Who asks whether a request may pass.
#[derive(Debug, Clone, Copy)]
pub enum Gateway<'g> {
    /// Who has shown its credential.
    Known(&'g Credential),
    /// Who reached a private listener, and says for which organization it stands, by slug.
    Private(&'g str),
}

/// A policy, and the API behind the gateway.
#[derive(Debug, Clone)]
pub struct Guarding {
    pub(super) policy: Arc<GatewayPolicy>,
    pub(super) api: ServedApi,
}

/// The policies of all organizations, by what gateways call them.
#[derive(Debug, Default)]
pub(super) struct GatewayPolicies {
    orgs: HashMap<Box<str>, OrgId>,
    by_name: HashMap<OrgId, HashMap<Box<str>, Arc<GatewayPolicy>>>,
    named: HashMap<GatewayPolicyId, (OrgId, Box<str>)>,
}

impl Index {
    /// An API that the holder of a credential answers for, by URI or slug. `None` of an API of
    /// somebody else.
    pub(super) fn served_by(&self, holder: &Credential, name: &str) -> Option<ServedApi> {
        let state = self.state.read();
        let place =
            state.audience_by_uri(name).or_else(|| state.audience_by_slug(holder.org, name));
        let audience = state.audience(place?)?;
        served(audience, holder.org).filter(|_| may_serve(holder, &audience.id))
    }

    /// Whether the holder of a credential answers for an API that takes what all organizations have.
    pub(super) fn serves_all(&self, holder: &Credential) -> bool {
        let state = self.state.read();
        let own = state.audiences_by_slug.get(&holder.org).into_iter().flat_map(HashMap::values);
        own.filter_map(|place| state.audience(*place))
            .filter_map(|audience| served(audience, holder.org))
            .any(|api| api.takes_all && may_serve(holder, &api.id))
    }

    /// The policy of this name, if it is one of the gateway's organization and for an API that the
    /// gateway answers for.
    pub(super) fn guarding(&self, gateway: Gateway<'_>, name: &str) -> Option<Guarding> {
        let state = self.state.read();
        let org = match gateway {
            Gateway::Known(holder) => holder.org,
            Gateway::Private(slug) => state.live_org(slug)?,
        };
        let policy = state.gateway_policies.find(org, name)?;
        let audience = state.audience(state.audience_by_id(&policy.audience)?)?;
        let may_serve = match gateway {
            Gateway::Known(holder) => may_serve(holder, &audience.id),
            Gateway::Private(_) => true,
        };
        let api = served(audience, org).filter(|_| may_serve)?;
        Some(Guarding { policy: policy.clone(), api })
    }
}

/// Whether a credential is for this audience, whosever it is.
fn may_serve(holder: &Credential, id: &AudienceId) -> bool {
    holder.audiences.is_empty() || holder.audiences.contains(id)
}

/// An API, if it is this organization's.
fn served(audience: &AudienceEntry, org: OrgId) -> Option<ServedApi> {
    (audience.home == Some(org)).then(|| ServedApi {
        id: audience.id,
        uri: audience.uri.clone(),
        org,
        takes_all: audience.org.is_none(),
        raw_keys: audience.raw_keys.clone().unwrap_or_default(),
    })
}

impl State {
    fn live_org(&self, slug: &str) -> Option<OrgId> {
        let id = self.gateway_policies.orgs.get(slug)?;
        let org = self.org_by_id(id)?;
        (!org.suspended.is_set()).then_some(*id)
    }
}

impl GatewayPolicies {
    fn find(&self, org: OrgId, name: &str) -> Option<&Arc<GatewayPolicy>> {
        self.by_name.get(&org)?.get(name)
    }

    /// A slug of an organization stays for ever.
    pub(super) fn name_org(&mut self, org: &Org) {
        if !self.orgs.contains_key(org.slug.as_str()) {
            self.orgs.insert(org.slug.as_str().into(), org.id);
        }
    }

    pub(super) fn put(&mut self, policy: GatewayPolicy) {
        let (org, name): (_, Box<str>) = (policy.org, policy.name.as_str().into());
        self.named.insert(policy.id, (org, name.clone()));
        self.by_name.entry(org).or_default().insert(name, Arc::new(policy));
    }

    /// One that is not known may have come and gone since the last look.
    pub(super) fn remove(&mut self, id: &GatewayPolicyId) {
        let Some((org, name)) = self.named.remove(id) else { return };
        let of_org = self.by_name.entry(org).or_default();
        // the name may be another one's by now
        if of_org.get(&name).is_some_and(|policy| policy.id == *id) {
            of_org.remove(&name);
        }
    }
}
