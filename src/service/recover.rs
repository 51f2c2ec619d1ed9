//! The way back in for an operator who holds the database and the master key, and lost the last
//! administrator's key.

use tenmint_verifier::ScopeSet;

use crate::error::{Error, Result};
use crate::model::api_key::CreatedApiKey;
use crate::model::org::Org;
use crate::service::Service;
use crate::service::call::unasked_entry;
use crate::service::follow::Stored;
use crate::service::init::NewAdministrator;
use crate::store::changes::Subject;
use crate::store::{audit, orgs};

impl Service {
    /// Makes a new administrator's key, on the database directly. What else is there stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown organization, [`Error::Invalid`] where there are several
    /// and none is named.
    pub async fn recover_administrator(&self, slug: Option<&str>) -> Result<CreatedApiKey> {
        let scopes = "*:*".parse::<ScopeSet>().map_err(|cause| Error::Broken(cause.to_string()))?;
        let now = self.clock.now();
        let mut write = self.store.begin().await?;
        let org = one_org(orgs::list(&mut write).await?, slug)?;
        let administrator = NewAdministrator {
            name: "administrator (recovered)".to_owned(),
            scopes,
            prefix: self.installation.api_key_prefix.clone(),
            pepper: self.pepper.clone(),
        };
        let created = administrator.insert(&mut write, &org, now).await?;
        let object = created.api_key.id.to_string();
        let after = serde_json::to_value(&created.api_key).ok();
        let what = ("administrator.recover", object.as_str());
        let entry = unasked_entry(now, what, Some(org.id), (None, after))?;
        audit::insert(&mut write, &entry).await?;
        let revision = write.commit().await?;
        let touched = [Subject::ApiKey(created.api_key.id)];
        self.catch_up_with(&Stored { revision, touched: &touched, org: Some(org.id) }).await;
        Ok(created)
    }
}

/// The organization of a slug, or the only one there is.
fn one_org(mut all: Vec<Org>, slug: Option<&str>) -> Result<Org> {
    if let Some(slug) = slug {
        all.retain(|org| org.slug.as_str() == slug);
    }
    match (all.len(), slug) {
        (1, _) => all.pop().ok_or_else(|| Error::NotFound("organization".to_owned())),
        (_, Some(slug)) => Err(Error::NotFound(format!("organization `{slug}`"))),
        (_, None) => Err(Error::invalid("organization", "there are several: name one by its slug")),
    }
}
