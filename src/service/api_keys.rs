//! API keys: create, list, get, revoke.

use std::time::Duration;

use tenmint_verifier::ScopeSet;

use crate::error::{Error, InvalidField, Result};
use crate::model::api_key::{ApiKey, ApiKeySecret, CreateApiKey, CreatedApiKey};
use crate::model::bot::Bot;
use crate::model::id::{ApiKeyId, AudienceId, BotId};
use crate::model::installation::ApiKeyPrefix;
use crate::model::org::Org;
use crate::model::secret::{Pepper, api_key_text};
use crate::model::time::Timestamp;
use crate::service::audiences::find_or_insert_audience;
use crate::service::init::checked;
use crate::service::{Service, random};
use crate::store::api_keys::ListedApiKey;
use crate::store::changes::Subject;
use crate::store::{Write, api_keys, bots};

pub use crate::store::api_keys::Cursor;

/// Characters that a name may have.
const MAX_NAME: usize = 256;
/// Characters that a description may have.
const MAX_DESCRIPTION: usize = 1000;
/// The last moment whose year has four digits, which is all that ISO 8601 has without agreement.
const LAST_EXPIRY: Timestamp = Timestamp::from_millis(253_402_300_799_999);
/// Keys on one page of a list at most.
const MAX_PAGE: u32 = 200;

/// Which keys a list shows, and from where on.
#[derive(Debug, Clone, Copy)]
pub struct ListApiKeys {
    /// Expired and revoked keys too.
    pub all: bool,
    /// Keys on the page.
    pub limit: u32,
    /// Behind this place.
    pub after: Option<Cursor>,
}

/// A page of keys. A page may be short: only a missing cursor ends the list.
#[derive(Debug)]
pub struct ApiKeyPage {
    /// The keys, from new to old.
    pub api_keys: Vec<ApiKey>,
    /// Where the next page starts.
    pub next: Option<Cursor>,
}

impl Service {
    /// Creates an API key with a bot of its own as owner, whose grants are the key's scopes.
    ///
    /// An audience that is a URI nobody has yet is registered for the organization.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every bad field; [`Error::Conflict`] `not_bootstrapped`, or
    /// `audience_taken` by another organization.
    pub async fn create_api_key(&self, org: &Org, ask: &CreateApiKey) -> Result<CreatedApiKey> {
        let now = self.clock.now();
        let mut new = NewApiKey::parse(ask, now)?;
        if org.bootstrapped_at.is_none() {
            let message = format!("the organization `{}` is not bootstrapped", org.slug);
            return Err(Error::Conflict("not_bootstrapped", message));
        }
        let mut write = self.store.begin().await?;
        for name in &ask.audiences {
            let issuer = &self.installation.issuer;
            let audience = find_or_insert_audience(&mut write, org, name, issuer, now).await?;
            if !new.audiences.contains(&audience) {
                new.audiences.push(audience);
            }
        }
        let text = (&self.installation.api_key_prefix, &self.pepper);
        let created = insert_api_key(&mut write, org, new, text, now).await?;
        write.commit().await?;
        self.catch_up().await;
        Ok(created)
    }

    /// An API key by its id.
    pub async fn get_api_key(&self, id: &ApiKeyId) -> Result<ApiKey> {
        let found = api_keys::find(&mut *self.store.read().await?, id).await?;
        found.ok_or_else(|| no_such_key(id))
    }

    /// A page of API keys, from new to old.
    pub async fn list_api_keys(&self, ask: ListApiKeys) -> Result<ApiKeyPage> {
        let limit = i64::from(ask.limit.clamp(1, MAX_PAGE));
        let mut read = self.store.read().await?;
        // one more than asked for tells whether there is a next page
        let mut listed = if ask.all {
            api_keys::list(&mut read, ask.after, limit + 1).await?
        } else {
            api_keys::list_active(&mut read, ask.after, limit + 1, self.clock.now()).await?
        };
        let has_more = i64::try_from(listed.len()).is_ok_and(|found| found > limit);
        listed.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next = listed.last().filter(|_| has_more).map(|last| last.cursor);
        let api_keys = listed.into_iter().map(|ListedApiKey { api_key, .. }| api_key).collect();
        Ok(ApiKeyPage { api_keys, next })
    }

    /// Revokes an API key for ever. Revoking it again changes nothing.
    pub async fn revoke_api_key(&self, id: &ApiKeyId) -> Result<ApiKey> {
        let now = self.clock.now();
        let mut write = self.store.begin().await?;
        let revoked = api_keys::update_revoked(&mut write, id, now).await?;
        let found = api_keys::find(&mut write, id).await?;
        let api_key = found.ok_or_else(|| no_such_key(id))?;
        if revoked {
            write.touched(Subject::ApiKey(*id), now).await?;
            write.commit().await?;
            self.catch_up().await;
        }
        Ok(api_key)
    }
}

fn no_such_key(id: &ApiKeyId) -> Error {
    Error::NotFound(format!("API key `{id}`"))
}

/// An API key that was parsed and has no secret yet.
#[derive(Debug)]
pub(crate) struct NewApiKey {
    name: String,
    description: String,
    scopes: ScopeSet,
    audiences: Vec<AudienceId>,
    expires_at: Option<Timestamp>,
}

impl NewApiKey {
    pub(crate) fn administrator(name: &str, scopes: ScopeSet) -> Self {
        Self {
            name: name.to_owned(),
            description: String::new(),
            scopes,
            audiences: Vec::new(),
            expires_at: None,
        }
    }

    fn parse(ask: &CreateApiKey, now: Timestamp) -> Result<Self> {
        let mut wrong: Vec<InvalidField> = Vec::new();
        let name = checked(&mut wrong, "name", parse_name(&ask.name));
        let description = checked(&mut wrong, "description", parse_description(&ask.description));
        let scopes = checked(&mut wrong, "scopes", ask.scopes.join(" ").parse::<ScopeSet>());
        let expires = ask.expires.as_deref().map(|text| parse_expiry(text, now)).transpose();
        let expires_at = checked(&mut wrong, "expires", expires);
        match (name, description, scopes, expires_at) {
            (Some(name), Some(description), Some(scopes), Some(expires_at)) => {
                Ok(Self { name, description, scopes, audiences: Vec::new(), expires_at })
            }
            _ => Err(Error::Invalid(wrong)),
        }
    }
}

/// Stores a key, its secret and its owner.
pub(crate) async fn insert_api_key(
    write: &mut Write<'_>,
    org: &Org,
    new: NewApiKey,
    (prefix, pepper): (&ApiKeyPrefix, &Pepper),
    now: Timestamp,
) -> Result<CreatedApiKey> {
    let owner = Bot {
        id: BotId::from_random(random()?),
        org: org.id,
        name: new.name.clone(),
        grants: new.scopes.clone(),
        suspended_at: None,
    };
    let api_key = ApiKey {
        id: ApiKeyId::from_random(random()?),
        org: org.id,
        owner: owner.id,
        name: new.name,
        description: new.description,
        scopes: Some(new.scopes),
        audiences: new.audiences,
        created_at: now,
        expires_at: new.expires_at,
        revoked_at: None,
    };
    let random = zeroize::Zeroizing::new(random::<32>()?);
    let text = api_key_text(prefix.as_str(), org.slug.as_str(), &api_key.id, &random);
    let secret = ApiKeySecret { digest: pepper.digest(text.as_bytes()), expires_at: None };

    bots::insert(write, &owner, now).await?;
    api_keys::insert(write, &api_key).await?;
    api_keys::insert_secret(write, &api_key.id, &secret, now).await?;
    // in this order, so that a node knows the owner before the key
    write.touched(Subject::Bot(owner.id), now).await?;
    write.touched(Subject::ApiKey(api_key.id), now).await?;
    Ok(CreatedApiKey { api_key, text })
}

fn parse_name(text: &str) -> std::result::Result<String, String> {
    let length = text.chars().count();
    if length == 0 || length > MAX_NAME || text.chars().any(char::is_control) {
        return Err(format!("a name has 1 to {MAX_NAME} characters, none of them a control"));
    }
    Ok(text.to_owned())
}

fn parse_description(text: &str) -> std::result::Result<String, String> {
    let is_control = |c: char| c.is_control() && c != '\n';
    if text.chars().count() > MAX_DESCRIPTION || text.chars().any(is_control) {
        return Err(format!("a description has at most {MAX_DESCRIPTION} characters, no controls"));
    }
    Ok(text.to_owned())
}

/// A moment, or a time from now: a number and `m`, `h` or `d`. It must lie ahead.
fn parse_expiry(text: &str, now: Timestamp) -> std::result::Result<Timestamp, String> {
    let from_now = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        let number: u32 = number.parse().ok()?;
        Some(now + Duration::from_secs(u64::from(number) * seconds))
    };
    let moment = match from_now() {
        Some(moment) => moment,
        None => text.parse().map_err(|cause| format!("{cause}; or a time from now like `90d`"))?,
    };
    if moment <= now {
        return Err("an expiry lies ahead".to_owned());
    }
    if moment > LAST_EXPIRY {
        return Err("an expiry lies before the year 10000: leave it out for never".to_owned());
    }
    Ok(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_moment_or_a_time_from_now_and_lies_ahead() {
        let now: Timestamp = "2027-01-01".parse().unwrap();
        let parsed = |text: &str| parse_expiry(text, now).map(|moment| moment.to_string());
        assert_eq!(parsed("90d").unwrap(), "2027-04-01T00:00:00Z");
        assert_eq!(parsed("15m").unwrap(), "2027-01-01T00:15:00Z");
        assert_eq!(parsed("2027-02-01").unwrap(), "2027-02-01T00:00:00Z");
        for text in
            ["", "d", "0d", "-1d", "4294967295d", "2026-01-01", "2027-01-01", "soon", "1\u{e9}"]
        {
            assert!(parsed(text).is_err(), "{text}");
        }
    }
}
