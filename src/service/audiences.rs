//! Audiences: named when a key is made, until there is a use case of their own.

use crate::error::{Error, Result};
use crate::model::audience::{Audience, AudienceUri};
use crate::model::id::{AudienceId, Slug};
use crate::model::installation::Issuer;
use crate::model::org::Org;
use crate::model::time::Timestamp;
use crate::service::random;
use crate::store::changes::Subject;
use crate::store::{Write, audiences};

/// Refuses the issuer and what is below it: there tenmint's own tokens are used.
pub(crate) fn check_not_ours(
    uri: &AudienceUri,
    issuer: &Issuer,
) -> std::result::Result<(), &'static str> {
    if uri.is_within(issuer) {
        return Err("the issuer and what is below it are tenmint's own");
    }
    Ok(())
}

/// An audience of the organization by its slug or URI; a URI that nobody has is registered.
pub(crate) async fn find_or_insert_audience(
    write: &mut Write<'_>,
    org: &Org,
    name: &str,
    issuer: &Issuer,
    now: Timestamp,
) -> Result<AudienceId> {
    let all = audiences::list(write).await?;
    let known = all.iter().find(|audience| {
        audience.org == org.id && (audience.slug.as_str() == name || audience.uri.as_str() == name)
    });
    if let Some(known) = known {
        return Ok(known.id);
    }
    let uri: AudienceUri =
        name.parse().map_err(|cause| Error::invalid("audiences", format!("`{name}`: {cause}")))?;
    check_not_ours(&uri, issuer).map_err(|cause| Error::invalid("audiences", cause))?;
    let slugs: Vec<&str> = all
        .iter()
        .filter(|audience| audience.org == org.id)
        .map(|audience| audience.slug.as_str())
        .collect();
    let audience = Audience {
        id: AudienceId::from_random(random()?),
        org: org.id,
        slug: free_slug(&uri, &slugs)?,
        uri,
    };
    audiences::insert(write, &audience, now).await?;
    write.touched(Subject::Audience(audience.id), now).await?;
    Ok(audience.id)
}

/// A slug made of what tells the URI apart: its host and path.
fn free_slug(uri: &AudienceUri, taken: &[&str]) -> Result<Slug> {
    let text = uri.as_str().split_once("://").map_or(uri.as_str(), |(_, rest)| rest);
    let plain: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(32)
        .collect();
    let candidates = std::iter::once(plain.clone()).chain((2..).map(|n| format!("{plain}-{n}")));
    candidates
        .take(taken.len() + 1)
        .find(|slug| !taken.contains(&slug.as_str()))
        .unwrap_or(plain)
        .parse()
        .map_err(|cause| Error::invalid("audiences", cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_made_of_the_host_and_is_free() {
        let uri: AudienceUri = "https://API.example.com/v1".parse().unwrap();
        assert_eq!(free_slug(&uri, &[]).unwrap().as_str(), "api-example-com-v1");
        let second = free_slug(&uri, &["api-example-com-v1"]).unwrap();
        assert_eq!(second.as_str(), "api-example-com-v1-2");
    }
}
