//! What becomes of a line: a new key, one that is here already, or a refusal with its reason.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tenmint_verifier::{Action, ScopeView};

use crate::error::{Error, InvalidField, Result};
use crate::model::access::Actor;
use crate::model::api_key::{ApiKey, ApiKeyType};
use crate::model::bot::Bot;
use crate::model::id::{ApiKeyId, BotNoun, ImportId};
use crate::model::import::Refusal;
use crate::model::owner::OwnerId;
use crate::model::role::RoleBinding;
use crate::model::secret::SecretDigest;
use crate::model::space::Space;
use crate::model::time::{Timestamp, reached};
use crate::service::access::{guarded_key, part, require_to_make};
use crate::service::api_keys::slug_of;
use crate::service::asks::both;
use crate::service::import::known::{Asking, Known, KnownAudiences, KnownOwner, Stop};
use crate::service::import::line::{BadLine, Names, ParsedLine};
use crate::service::new_api_key::{NewApiKey, OwnBot, within_home};
use crate::service::owners::OwnerScopes;
use crate::store::imports::KnownApiKey;
use crate::store::spaces;

/// What becomes of a line.
pub(super) enum Verdict {
    /// A key that is not here yet.
    New(Box<Candidate>),
    /// The same key was imported before; it has this id, unless nothing is stored.
    Unchanged(Option<ApiKeyId>),
    /// The line is not good.
    Refused(Refusal),
}

/// What a line names, looked up.
struct Named {
    space: Option<Space>,
    audiences: Arc<KnownAudiences>,
    owner: Option<Arc<KnownOwner>>,
}

/// A key as a line would have it.
pub(super) struct Candidate {
    pub(super) new: NewApiKey,
    pub(super) digest: SecretDigest,
    /// What its owner holds.
    owners: OwnerScopes,
    audiences: Arc<KnownAudiences>,
}

/// All that lines are judged by.
pub(super) struct Judge<'j> {
    pub(super) asking: Asking<'j>,
    pub(super) known: &'j mut Known,
    pub(super) import: ImportId,
    pub(super) now: Timestamp,
    /// The keys that the digests of these lines belong to.
    pub(super) stored: HashMap<SecretDigest, KnownApiKey>,
    /// Where nothing is stored: what lines before brought.
    pub(super) seen: Option<&'j mut SeenDigests>,
}

impl Judge<'_> {
    /// Judges one line; a new key gets this id. The order of the lines counts: a digest is known
    /// from its first line on.
    pub(super) async fn judge(&mut self, line: &ParsedLine, id: ApiKeyId) -> Result<Verdict> {
        match self.try_judge(line, id).await {
            Ok(verdict) => Ok(verdict),
            Err(Stop::Refused(refusal)) => Ok(Verdict::Refused(refusal)),
            Err(Stop::Failed(cause)) => Err(cause),
        }
    }

    /// All that is wrong with a line that is bad already: what it names may be as well.
    pub(super) async fn refuse(&mut self, bad: &BadLine) -> Result<Refusal> {
        let mut refusal = bad.refusal.clone();
        if let Err(more) = self.look_up(&bad.names, true).await? {
            refusal.and(more);
        }
        Ok(refusal)
    }

    async fn try_judge(
        &mut self,
        line: &ParsedLine,
        id: ApiKeyId,
    ) -> std::result::Result<Verdict, Stop> {
        let candidate = self.candidate(line, id).await?;
        if let Some(stored) = self.stored.get(&line.digest) {
            let stored = stored.clone();
            return Ok(self.compare(&candidate.new.api_key, stored).await?);
        }
        if let Some(verdict) = self.seen.as_ref().and_then(|seen| seen.compare(&candidate)) {
            return Ok(verdict);
        }
        let journal = self.asking.service.journal.as_ref();
        if journal.is_some_and(|journal| journal.has_ended(&line.digest, self.now)) {
            // the database is of before, and does not know
            let message = "the key of this digest has ended, for ever".to_owned();
            return Ok(Verdict::Refused(in_use(None, vec![("digest", message)])));
        }
        let actor = &self.asking.call.actor;
        check_place(actor, &candidate.new)?;
        both(candidate.check_reach(actor), check_ahead(&line.names, self.now))?;
        self.note(&candidate);
        Ok(Verdict::New(Box::new(candidate)))
    }

    /// Knows a new key from now on.
    fn note(&mut self, candidate: &Candidate) {
        if let Some(seen) = &mut self.seen {
            seen.add(candidate);
            return;
        }
        let api_key = candidate.new.api_key.clone();
        let known = KnownApiKey { api_key, staged_by: Some(self.import) };
        self.stored.insert(candidate.digest, known);
    }

    /// A line beside the key that its digest belongs to.
    async fn compare(&mut self, asked: &ApiKey, stored: KnownApiKey) -> Result<Verdict> {
        let KnownApiKey { api_key, staged_by } = stored;
        let is_own = api_key.org == self.asking.call.org;
        let is_seen = match staged_by {
            Some(import) => import == self.import,
            None => is_own && self.may_see(&api_key).await?,
        };
        // whoever may not see the key does not learn where its digest is in use
        if !is_own || !is_seen {
            let message = "this digest is in use already".to_owned();
            return Ok(Verdict::Refused(in_use(None, vec![("digest", message)])));
        }
        let differing = differing_fields(asked, &api_key);
        let errors: Vec<(&'static str, String)> = if api_key.revoked_at.is_some() {
            vec![("digest", "the key of this digest is revoked, for ever".to_owned())]
        } else {
            let message = "the key of this digest has another".to_owned();
            differing.into_iter().map(|field| (field, message.clone())).collect()
        };
        if errors.is_empty() {
            return Ok(Verdict::Unchanged(Some(api_key.id)));
        }
        Ok(Verdict::Refused(in_use(Some(api_key.id), errors)))
    }

    async fn may_see(&mut self, api_key: &ApiKey) -> Result<bool> {
        let space = match &api_key.space {
            Some(id) => spaces::find(self.asking.connection, id).await?,
            None => None,
        };
        let actor = &self.asking.call.actor;
        Ok(actor.may(&Action::Read, &guarded_key(actor, api_key, slug_of(space.as_ref()))?))
    }

    /// The key of a line, with all that the line names looked up.
    async fn candidate(
        &mut self,
        line: &ParsedLine,
        id: ApiKeyId,
    ) -> std::result::Result<Candidate, Stop> {
        let is_new = !self.stored.contains_key(&line.digest);
        let found = self.look_up(&line.names, is_new).await.map_err(Stop::Failed)?;
        let Named { space, audiences, owner } = found.map_err(Stop::Refused)?;
        let (owner, owners, own_bot) = if let Some(owner) = owner {
            (owner.id, owner.scopes.clone(), None)
        } else {
            let own_bot = self.own_bot(line, id, space.as_ref()).await?;
            (OwnerId::Bot(own_bot.bot.id), own_bot.scopes(), Some(own_bot))
        };
        let api_key = self.api_key(line, (id, owner), (space.as_ref(), &audiences));
        let new = NewApiKey { api_key, space, own_bot };
        Ok(Candidate { new, digest: line.digest, owners, audiences })
    }

    /// What a line names, or all that is wrong with it; that it has expired is wrong with a new key
    /// alone, and is told here where something else is too.
    async fn look_up(
        &mut self,
        names: &Names,
        is_new: bool,
    ) -> Result<std::result::Result<Named, Refusal>> {
        let mut refusals = Vec::new();
        let space = match &names.space {
            Some(name) => noted(&mut refusals, self.known.space(&mut self.asking, name).await)?,
            None => None,
        };
        let audiences = self.known.audiences(&mut self.asking, names.audiences.as_ref()).await;
        let audiences = noted(&mut refusals, audiences)?;
        let owner = match &names.owner {
            Some(name) => noted(&mut refusals, self.known.owner(&mut self.asking, name).await)?,
            None => None,
        };
        let (asked, home) =
            (space.as_deref().cloned(), owner.as_ref().and_then(|it| it.space.clone()));
        let space = within_home(asked, home).map_err(|cause| Stop::of(cause, "space"));
        let space = noted(&mut refusals, space)?.flatten();
        if owner.is_some() || names.owner.is_none() {
            let type_fits = check_key_type(names.key_type, owner.as_ref().map(|owner| owner.id));
            noted(&mut refusals, type_fits.map_err(Stop::from))?;
        }
        match (audiences, refusals.is_empty()) {
            (Some(audiences), true) => return Ok(Ok(Named { space, audiences, owner })),
            _ if is_new => {
                noted(&mut refusals, check_ahead(names, self.now).map_err(Stop::from))?;
            }
            _ => {}
        }
        Ok(Err(merged(refusals)))
    }

    fn api_key(
        &self,
        line: &ParsedLine,
        (id, owner): (ApiKeyId, OwnerId),
        (space, audiences): (Option<&Space>, &KnownAudiences),
    ) -> ApiKey {
        ApiKey {
            id,
            org: self.asking.call.org,
            key_type: key_type_of(owner),
            owner,
            space: space.map(|space| space.id),
            name: line.name.clone(),
            description: line.description.clone(),
            // nobody here has seen its text
            prefix: None,
            scopes: line.scopes.clone(),
            audiences: audiences.ids.clone(),
            ip_rules: line.ip_rules.clone(),
            quota: line.quota,
            replaces: None,
            created_by: Some(self.asking.call.actor.credential.owner),
            created_at: self.now,
            expires_at: line.names.expires_at,
            revoked_at: None,
            rotated_at: None,
            old_secret_expires_at: None,
            deleted_at: None,
            lifetime: line.names.expires_at.map(|end| end.since(self.now)),
            quota_counter: id,
        }
    }

    /// A bot for this key alone, with the scopes of the key as grants. It has the characters of the
    /// key in its id, so that a repeated import knows it as the key's own.
    async fn own_bot(
        &mut self,
        line: &ParsedLine,
        id: ApiKeyId,
        space: Option<&Space>,
    ) -> std::result::Result<OwnBot, Stop> {
        let roles = self.known.own_roles(&mut self.asking, space).await?;
        let bot = Bot {
            id: id.with_noun(),
            org: self.asking.call.org,
            space: space.map(|space| space.id),
            name: line.name.clone(),
            grants: line.scopes.clone(),
            created_at: self.now,
            suspended_at: None,
            deleted_at: None,
        };
        let owner = OwnerId::Bot(bot.id);
        let bound = roles.bound.iter();
        let bindings = bound.map(|(place, role)| RoleBinding { owner, place: *place, role: *role });
        Ok(OwnBot { bot, roles: bindings.collect(), role_scopes: roles.scopes.clone() })
    }
}

/// A key that somebody brings is like one of somebody else: it needs `admin`.
fn check_place(actor: &Actor, new: &NewApiKey) -> Result<()> {
    let id = new.api_key.id.to_string();
    let thing = part(new.api_key.org, slug_of(new.space.as_ref()), "keys", &id)?;
    require_to_make(actor, &Action::Admin, &thing)
}

/// The type that the owner makes it.
fn key_type_of(owner: OwnerId) -> ApiKeyType {
    match owner {
        OwnerId::User(_) => ApiKeyType::User,
        OwnerId::Bot(_) => ApiKeyType::Service,
    }
}

/// Refuses another type than the owner makes it; without an owner it gets a bot of its own.
fn check_key_type(asked: Option<ApiKeyType>, owner: Option<OwnerId>) -> Result<()> {
    let key_type = owner.map_or(ApiKeyType::Service, key_type_of);
    if asked.is_none_or(|asked| asked == key_type) {
        return Ok(());
    }
    let message = "a `user` key names the person that owns it, a `service` key a bot or nobody";
    Err(Error::invalid("key_type", message))
}

fn check_ahead(names: &Names, now: Timestamp) -> Result<()> {
    if reached(names.expires_at, now) {
        return Err(Error::invalid("expires_at", "an expiry lies ahead"));
    }
    Ok(())
}

/// What was found, or a note of why the line is refused.
fn noted<T>(refusals: &mut Vec<Refusal>, found: std::result::Result<T, Stop>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Stop::Refused(refusal)) => {
            refusals.push(refusal);
            Ok(None)
        }
        Err(Stop::Failed(cause)) => Err(cause),
    }
}

/// All reasons in one refusal.
fn merged(refusals: Vec<Refusal>) -> Refusal {
    let merged = refusals.into_iter().reduce(|mut all, more| {
        all.and(more);
        all
    });
    merged.unwrap_or(Refusal { code: "invalid_request", errors: Vec::new(), id: None })
}

fn in_use(id: Option<ApiKeyId>, errors: Vec<(&'static str, String)>) -> Refusal {
    let wrong =
        |(field, message): (&'static str, String)| InvalidField { field: field.into(), message };
    Refusal { code: "digest_in_use", errors: errors.into_iter().map(wrong).collect(), id }
}

impl Candidate {
    fn check_reach(&self, actor: &Actor) -> Result<()> {
        self.new.check_reach(actor, &self.owners, &self.audiences.catalogues)
    }

    /// What a repeated line has to say again.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (_, value) in fields_of(&self.new.api_key) {
            value.hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// The fields of a key that a line can say, each in one spelling.
fn fields_of(api_key: &ApiKey) -> [(&'static str, String); 11] {
    let scopes = api_key.scopes.as_ref().map(|scopes| {
        let mut scopes: Vec<&str> = scopes.iter().map(ScopeView::as_str).collect();
        scopes.sort_unstable();
        scopes.join(" ")
    });
    let is_own = api_key.owner == OwnerId::Bot(api_key.id.with_noun::<BotNoun>());
    let owner = if is_own { String::new() } else { api_key.owner.to_string() };
    let audiences = api_key.audiences.iter().map(ToString::to_string).collect::<Vec<_>>();
    [
        ("name", api_key.name.clone()),
        ("description", api_key.description.clone()),
        ("key_type", api_key.key_type.as_str().to_owned()),
        ("space", api_key.space.map(|id| id.to_string()).unwrap_or_default()),
        ("owner", owner),
        ("scopes", scopes.unwrap_or_default()),
        ("audiences", audiences.join(" ")),
        ("allow", api_key.ip_rules.allow_text()),
        ("block", api_key.ip_rules.block_text()),
        ("quota_limit", api_key.quota.map(|quota| quota.to_string()).unwrap_or_default()),
        ("expires_at", api_key.expires_at.map(|end| end.to_string()).unwrap_or_default()),
    ]
}

/// The fields in which a line differs from the key that was imported before.
fn differing_fields(asked: &ApiKey, stored: &ApiKey) -> Vec<&'static str> {
    let both = fields_of(asked).into_iter().zip(fields_of(stored));
    both.filter(|(asked, stored)| asked.1 != stored.1).map(|(asked, _)| asked.0).collect()
}

/// Digests that are remembered where nothing is stored; later repetitions within one file are not
/// seen then.
const REMEMBERED: usize = 1_000_000;

/// What lines before brought, where nothing is stored that would tell.
#[derive(Debug, Default)]
pub(super) struct SeenDigests(HashMap<[u8; 8], u64>);

impl SeenDigests {
    /// The start of a digest: nobody outside can choose it, because it is keyed.
    fn key(candidate: &Candidate) -> [u8; 8] {
        let mut start = [0; 8];
        start.iter_mut().zip(candidate.digest.as_bytes()).for_each(|(to, from)| *to = *from);
        start
    }

    fn compare(&self, candidate: &Candidate) -> Option<Verdict> {
        let fingerprint = self.0.get(&Self::key(candidate))?;
        if *fingerprint == candidate.fingerprint() {
            return Some(Verdict::Unchanged(None));
        }
        let message = "a line before has this digest, and other fields".to_owned();
        Some(Verdict::Refused(in_use(None, vec![("digest", message)])))
    }

    fn add(&mut self, candidate: &Candidate) {
        if self.0.len() < REMEMBERED {
            self.0.insert(Self::key(candidate), candidate.fingerprint());
        }
    }
}
