//! Setting an installation up, once: the issuer, the pepper, the signing keys, the first
//! organization with its default audience, and an administrator's key.

use std::path::Path;

use tenmint_verifier::{Algorithm, ScopeSet};

use crate::clock::Clock;
use crate::error::{Error, InvalidField, Result};
use crate::model::api_key::{ApiKey, ApiKeySecret, ApiKeyType, CreatedApiKey};
use crate::model::audience::{Audience, AudienceUri};
use crate::model::bot::Bot;
use crate::model::id::{ApiKeyId, BotId, OrgId, Slug};
use crate::model::installation::{ApiKeyPrefix, Installation, Issuer, TokenLifetime};
use crate::model::ip_rules::IpRules;
use crate::model::org::Org;
use crate::model::owner::OwnerId;
use crate::model::role::{RoleBinding, RolePlace, RoleRef};
use crate::model::secret::{Pepper, api_key_text};
use crate::model::time::Timestamp;
use crate::service::api_keys::shown_prefix;
use crate::service::audiences::{check_not_ours, default_audience};
use crate::service::follow::clock_offset;
use crate::service::master_key::{MasterKey, Sealed};
use crate::service::random;
use crate::service::signing_key_material::first_signing_keys;
use crate::store::changes::Subject;
use crate::store::installation::StoredInstallation;
use crate::store::{
    DatabaseUrl, Store, Write, api_keys, audiences, bots, installation, orgs, roles, signing_keys,
};

/// What a new installation shall be, nothing parsed yet.
#[derive(Debug, Clone)]
pub struct CreateInstallation {
    /// The issuer.
    pub issuer: String,
    /// The slug of the first organization.
    pub organization: String,
    /// The URI of its default audience; one is made up where none is named.
    pub audience: Option<String>,
    /// `ES256`, `RS256` or `EdDSA`.
    pub algorithm: String,
    /// What the text of an API key starts with.
    pub api_key_prefix: String,
    /// The seconds a token lives.
    pub token_lifetime: i64,
    /// The name of the administrator's key.
    pub api_key_name: String,
    /// Its scopes.
    pub scopes: String,
}

impl Default for CreateInstallation {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            organization: "default".to_owned(),
            audience: None,
            algorithm: Algorithm::Es256.name().to_owned(),
            api_key_prefix: ApiKeyPrefix::default().as_str().to_owned(),
            token_lifetime: 600,
            api_key_name: "administrator".to_owned(),
            scopes: "*:*".to_owned(),
        }
    }
}

/// An installation that was just made.
#[derive(Debug)]
pub struct CreatedInstallation {
    /// What it was set up with.
    pub installation: Installation,
    /// Its first organization, bootstrapped.
    pub org: Org,
    /// The default audience of that.
    pub audience: Audience,
    /// An administrator's key.
    pub api_key: CreatedApiKey,
}

/// Sets an installation up in a database, all of it or nothing, and bootstraps its first
/// organization. Makes the master key if the directory has none.
///
/// # Errors
/// [`Error::Conflict`] `already_initialized`; [`Error::Invalid`] with every bad field.
pub async fn create_installation(
    database: &DatabaseUrl,
    keys_dir: &Path,
    clock: &Clock,
    ask: &CreateInstallation,
) -> Result<CreatedInstallation> {
    let new = NewInstallation::parse(ask)?;
    let store = Store::open(database).await?;
    clock.correct(clock_offset(clock, &store).await?.unwrap_or(0));
    if installation::find(&mut *store.read().await?).await?.is_some() {
        return Err(already_initialized(database));
    }
    let master_key = MasterKey::load_or_create(keys_dir)?;
    let created = new.store(&store, &master_key, clock).await;
    store.close().await;
    created?.ok_or_else(|| already_initialized(database))
}

fn already_initialized(database: &DatabaseUrl) -> Error {
    Error::Conflict(
        "already_initialized",
        format!("the database {database} holds an installation already"),
    )
}

struct NewInstallation {
    installation: Installation,
    slug: Slug,
    audience: AudienceUri,
    api_key_name: String,
    scopes: ScopeSet,
}

impl NewInstallation {
    fn parse(ask: &CreateInstallation) -> Result<Self> {
        let mut wrong = Vec::new();
        let issuer = checked(&mut wrong, "issuer", ask.issuer.parse::<Issuer>());
        let slug = checked(&mut wrong, "organization", ask.organization.parse::<Slug>());
        let uri = match &ask.audience {
            Some(uri) => uri.clone(),
            None => format!("urn:tenmint:{}:api", ask.organization),
        };
        let audience = checked(&mut wrong, "audience", uri.parse::<AudienceUri>());
        let prefix = checked(&mut wrong, "api_key_prefix", ask.api_key_prefix.parse());
        let algorithm = Algorithm::ALL.into_iter().find(|known| known.name() == ask.algorithm);
        let algorithm =
            checked(&mut wrong, "algorithm", algorithm.ok_or("write ES256, RS256 or EdDSA"));
        let lifetime = TokenLifetime::from_seconds(ask.token_lifetime);
        let lifetime =
            checked(&mut wrong, "token_lifetime", lifetime.ok_or("write 60 to 3600 seconds"));
        let scopes = checked(&mut wrong, "scopes", ask.scopes.parse::<ScopeSet>());
        if let (Some(issuer), Some(audience)) = (&issuer, &audience)
            && let Err(cause) = check_not_ours(audience, issuer)
        {
            wrong.push(InvalidField { field: "audience".into(), message: cause.to_owned() });
        }
        match (issuer, slug, audience, prefix, algorithm, lifetime, scopes) {
            (
                Some(issuer),
                Some(slug),
                Some(audience),
                Some(api_key_prefix),
                Some(algorithm),
                Some(token_lifetime),
                Some(scopes),
            ) if wrong.is_empty() => Ok(Self {
                installation: Installation { issuer, api_key_prefix, algorithm, token_lifetime },
                slug,
                audience,
                api_key_name: ask.api_key_name.clone(),
                scopes,
            }),
            _ => Err(Error::Invalid(wrong)),
        }
    }

    /// Nothing where another process was faster.
    async fn store(
        self,
        store: &Store,
        master_key: &MasterKey,
        clock: &Clock,
    ) -> Result<Option<CreatedInstallation>> {
        let pepper = zeroize::Zeroizing::new(random::<32>()?);
        let stored = StoredInstallation {
            sealed_pepper: master_key.seal(Sealed::Pepper, pepper.as_slice())?,
            installation: self.installation,
        };
        let now = clock.now();
        let first_keys = first_signing_keys(stored.installation.algorithm, master_key, now).await?;

        let mut write = store.begin().await?;
        if !installation::insert(&mut write, &stored, now).await? {
            return Ok(None);
        }
        for signing_key in &first_keys {
            signing_keys::insert(&mut write, signing_key).await?;
        }
        let (org, audience) = first_org(self.slug, self.audience, now)?;
        orgs::insert(&mut write, &org).await?;
        audiences::insert(&mut write, &audience).await?;
        let administrator = NewAdministrator {
            name: self.api_key_name,
            scopes: self.scopes,
            prefix: stored.installation.api_key_prefix.clone(),
            pepper: Pepper::new(&pepper),
        };
        let api_key = administrator.insert(&mut write, &org, now).await?;
        for subject in [
            Subject::Installation,
            Subject::SigningKeys,
            Subject::Org(org.id),
            Subject::Audience(audience.id),
        ] {
            write.touched(subject, now).await?;
        }
        write.commit().await?;
        let installation = stored.installation;
        Ok(Some(CreatedInstallation { installation, org, audience, api_key }))
    }
}

/// An organization that is bootstrapped, and its default audience.
fn first_org(slug: Slug, uri: AudienceUri, now: Timestamp) -> Result<(Org, Audience)> {
    let id = OrgId::from_random(random()?);
    let audience = default_audience(id, &slug, uri, now)?;
    let org = Org {
        id,
        name: slug.to_string(),
        slug,
        default_audience: Some(audience.id),
        created_at: now,
        bootstrapped_at: Some(now),
        suspended_at: None,
    };
    Ok((org, audience))
}

/// A key that administers the installation, and the bot that owns it: there is nobody yet who could
/// have given it that.
pub(crate) struct NewAdministrator {
    pub(crate) name: String,
    pub(crate) scopes: ScopeSet,
    pub(crate) prefix: ApiKeyPrefix,
    pub(crate) pepper: Pepper,
}

impl NewAdministrator {
    /// Stores the bot as admin of the account and of the organization, the key and its secret.
    pub(crate) async fn insert(
        self,
        write: &mut Write<'_>,
        org: &Org,
        now: Timestamp,
    ) -> Result<CreatedApiKey> {
        let bot = Bot {
            id: BotId::from_random(random()?),
            org: org.id,
            space: None,
            name: self.name.clone(),
            grants: Some(self.scopes.clone()),
            created_at: now,
            suspended_at: None,
            deleted_at: None,
        };
        let owner = OwnerId::Bot(bot.id);
        bots::insert(write, &bot).await?;
        for place in [RolePlace::Account, RolePlace::Organization { organization: org.id }] {
            roles::bind(write, &RoleBinding { owner, place, role: RoleRef::Admin }).await?;
        }
        let id = ApiKeyId::from_random(random()?);
        let random = zeroize::Zeroizing::new(random::<32>()?);
        let text = api_key_text(self.prefix.as_str(), org.slug.as_str(), &id, &random);
        let secret = ApiKeySecret { digest: self.pepper.digest(text.as_bytes()), expires_at: None };
        let api_key = self.api_key(org, (id, owner), now);
        api_keys::insert(write, &api_key).await?;
        api_keys::insert_secret(write, &id, &secret, now).await?;
        // in this order, so that a node knows the owner before the key
        write.touched(Subject::Bot(bot.id), now).await?;
        write.touched(Subject::ApiKey(id), now).await?;
        Ok(CreatedApiKey { api_key, text: Some(text) })
    }

    fn api_key(self, org: &Org, (id, owner): (ApiKeyId, OwnerId), now: Timestamp) -> ApiKey {
        ApiKey {
            id,
            org: org.id,
            key_type: ApiKeyType::Service,
            owner,
            space: None,
            name: self.name,
            description: String::new(),
            prefix: Some(shown_prefix(&self.prefix, &org.slug, &id)),
            scopes: Some(self.scopes),
            audiences: Vec::new(),
            ip_rules: IpRules::default(),
            quota: None,
            replaces: None,
            created_by: None,
            created_at: now,
            expires_at: None,
            revoked_at: None,
            rotated_at: None,
            old_secret_expires_at: None,
            deleted_at: None,
            lifetime: None,
            quota_counter: id,
        }
    }
}

/// A parsed field, or a note of what is wrong with it.
pub(crate) fn checked<T, E: std::fmt::Display>(
    wrong: &mut Vec<InvalidField>,
    field: &'static str,
    parsed: std::result::Result<T, E>,
) -> Option<T> {
    parsed
        .map_err(|cause| {
            wrong.push(InvalidField { field: field.into(), message: cause.to_string() });
        })
        .ok()
}
