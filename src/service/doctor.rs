//! Looking at an installation: does what it needs hold, and what to do if not.

use std::path::Path;

use crate::clock::{Clock, system_time};
use crate::error::Result;
use crate::model::signing_key_schedule::signing_key_of;
use crate::service::Service;
use crate::service::follow::NOTABLE_CLOCK_OFFSET_MS;
use crate::service::master_key::Sealed;
use crate::service::signing_key_material::signer_of;
use crate::store::{DatabaseUrl, orgs, signing_keys};

/// One thing that was looked at.
#[derive(Debug)]
pub struct Finding {
    /// What.
    pub check: &'static str,
    /// What was found; an `Err` has to be mended, with what to do.
    pub result: std::result::Result<String, String>,
}

impl Finding {
    /// All is well.
    pub fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, result: Ok(found.into()) }
    }

    /// Something has to be mended.
    pub fn bad(check: &'static str, what_to_do: impl Into<String>) -> Self {
        Self { check, result: Err(what_to_do.into()) }
    }
}

/// Looks at the database, the master key, the signing keys and the clock. The service is given
/// back where it could be opened.
pub async fn examine(database: &DatabaseUrl, keys_dir: &Path) -> (Vec<Finding>, Option<Service>) {
    let service = match Service::open(database, keys_dir, Clock::system()).await {
        Ok(service) => service,
        Err(cause) => {
            let detail = std::error::Error::source(&cause).map(|source| format!(": {source}"));
            let text = format!("{cause}{}", detail.unwrap_or_default());
            return (vec![Finding::bad("installation", text)], None);
        }
    };
    let mut findings = vec![
        Finding::good("database", format!("{database} answers, its schema is up to date")),
        Finding::good("master key", "it opens what the database holds"),
    ];
    findings.push(flatten("organizations", service.examine_orgs().await));
    findings.push(flatten("signing keys", service.examine_signing_keys().await));
    findings.push(flatten("clock", service.examine_clock().await));
    (findings, Some(service))
}

fn flatten(check: &'static str, found: Result<Finding>) -> Finding {
    found.unwrap_or_else(|cause| Finding::bad(check, cause.to_string()))
}

impl Service {
    async fn examine_orgs(&self) -> Result<Finding> {
        let all = orgs::list(&mut *self.store.read().await?).await?;
        let waiting: Vec<&str> = all
            .iter()
            .filter(|org| org.bootstrapped_at.is_none())
            .map(|org| org.slug.as_str())
            .collect();
        if waiting.is_empty() {
            return Ok(Finding::good("organizations", format!("{} bootstrapped", all.len())));
        }
        let text = format!("not bootstrapped: {}", waiting.join(", "));
        Ok(Finding::bad("organizations", text))
    }

    async fn examine_signing_keys(&self) -> Result<Finding> {
        let all = signing_keys::list(&mut *self.store.read().await?).await?;
        signer_of(&all, &self.master_key)?;
        for key in all.iter().filter(|key| !key.sealed_private.is_empty()) {
            self.master_key.open(Sealed::SigningKey(&key.kid), &key.sealed_private)?;
        }
        Ok(match signing_key_of(&all) {
            Some(key) => {
                Finding::good("signing keys", format!("{} signs with {}", key.kid, key.algorithm))
            }
            None => Finding::bad("signing keys", "none signs: no token can be issued"),
        })
    }

    async fn examine_clock(&self) -> Result<Finding> {
        let off = system_time().as_millis() - self.store.now().await?.as_millis();
        if off.unsigned_abs() <= NOTABLE_CLOCK_OFFSET_MS {
            return Ok(Finding::good("clock", format!("{off} ms off the database's")));
        }
        let text = format!("{off} ms off the database's: let NTP set the clocks of both machines");
        Ok(Finding::bad("clock", text))
    }
}
