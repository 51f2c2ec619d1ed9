//! Setting an installation up, once: the issuer, the pepper, the signing keys, the first
//! organization with its default audience, and an administrator's key.

use std::path::Path;

use tenmint_verifier::Algorithm;

use crate::clock::Clock;
use crate::error::{Error, InvalidField, Result};
use crate::model::api_key::CreatedApiKey;
use crate::model::audience::{Audience, AudienceUri};
use crate::model::id::{AudienceId, OrgId, Slug};
use crate::model::installation::{ApiKeyPrefix, Installation, Issuer, TokenLifetime};
use crate::model::org::Org;
use crate::model::secret::Pepper;
use crate::model::time::Timestamp;
use crate::service::api_keys::{NewApiKey, insert_api_key};
use crate::service::audiences::check_not_ours;
use crate::service::master_key::{MasterKey, Sealed};
use crate::service::random;
use crate::service::refresh::clock_offset;
use crate::service::signing_keys::first_signing_keys;
use crate::store::changes::Subject;
use crate::store::installation::StoredInstallation;
use crate::store::{DatabaseUrl, Store, audiences, installation, orgs, signing_keys};

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
    api_key: NewApiKey,
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
        let scopes = checked(&mut wrong, "scopes", ask.scopes.parse());
        if let (Some(issuer), Some(audience)) = (&issuer, &audience)
            && let Err(cause) = check_not_ours(audience, issuer)
        {
            wrong.push(InvalidField { field: "audience", message: cause.to_owned() });
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
                api_key: NewApiKey::administrator(&ask.api_key_name, scopes),
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
        let pepper: [u8; 32] = random()?;
        let stored = StoredInstallation {
            sealed_pepper: master_key.seal(Sealed::Pepper, &pepper)?,
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
        orgs::insert(&mut write, &org, now).await?;
        audiences::insert(&mut write, &audience, now).await?;
        let prefix = &stored.installation.api_key_prefix;
        let api_key =
            insert_api_key(&mut write, &org, self.api_key, (prefix, &Pepper::new(&pepper)), now)
                .await?;
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
    let audience =
        Audience { id: AudienceId::from_random(random()?), org: id, slug: slug.clone(), uri };
    let org = Org {
        id,
        slug,
        default_audience: Some(audience.id),
        bootstrapped_at: Some(now),
        suspended_at: None,
    };
    Ok((org, audience))
}

/// A parsed field, or a note of what is wrong with it.
pub(crate) fn checked<T, E: std::fmt::Display>(
    wrong: &mut Vec<InvalidField>,
    field: &'static str,
    parsed: std::result::Result<T, E>,
) -> Option<T> {
    parsed.map_err(|cause| wrong.push(InvalidField { field, message: cause.to_string() })).ok()
}
