//! A verified token, and the question an API asks it: may it do this?

use std::sync::Arc;

use crate::claims::Claims;
use crate::error::VerifyError;
use crate::filter::ResourceFilter;
use crate::resource::Resource;
use crate::scope::{Action, Scope};

/// A token that was verified. Only a [`Verifier`](crate::Verifier) makes one.
///
/// Holding it proves who is calling, not that the call is allowed: ask [`Token::require`].
///
/// ```
/// # #[cfg(feature = "testing")] {
/// use tenmint_verifier::{Action, Resource, testing::TestIssuer};
///
/// let issuer = TestIssuer::new("https://api.example.com");
/// let text = issuer.token("org_0000000000000000", "read:projects/alpha/*").sign();
/// let token = issuer.verifier().verify_held(&text).unwrap();
///
/// let logs = Resource::new(["projects", "alpha", "logs"]).unwrap();
/// assert!(token.require("org_0000000000000000", &Action::Read, &logs).is_ok());
/// assert!(token.require("org_0000000000000000", &Action::Write, &logs).is_err());
/// assert!(token.require("org_1111111111111111", &Action::Read, &logs).is_err());
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    // shared, because a layer and its handler both hold the token of a request
    claims: Arc<Claims>,
}

impl Token {
    pub(crate) fn new(claims: Claims) -> Self {
        Self { claims: Arc::new(claims) }
    }

    /// The claims.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// # let text = issuer.token("org_0000000000000000", "chat").sign();
    /// let token = issuer.verifier().verify_held(&text).unwrap();
    /// assert_eq!(token.claims().scope.as_str(), "chat");
    /// # }
    /// ```
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Whether the token allows this action on this resource of this organization.
    ///
    /// The organization is the one whose data is about to be touched, as the API knows it; never
    /// the one that the token itself names.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::{Action, Resource, testing::TestIssuer};
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// # let text = issuer.token("org_0000000000000000", "read:*").sign();
    /// let token = issuer.verifier().verify_held(&text).unwrap();
    /// let project = Resource::new(["projects", "alpha"]).unwrap();
    /// assert!(token.allows("org_0000000000000000", &Action::Read, &project));
    /// # }
    /// ```
    pub fn allows(&self, org: &str, action: &Action, resource: &Resource) -> bool {
        self.claims.org == org && self.claims.scope.matches(action, resource)
    }

    /// Like [`Token::allows`], with the answer for the caller.
    ///
    /// # Errors
    /// [`VerifyError::InsufficientScope`] with the scope that is missing. A token of another
    /// organization gets the same answer as one that lacks the scope.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::{Action, Resource, testing::TestIssuer};
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// # let text = issuer.token("org_0000000000000000", "read:*").sign();
    /// let token = issuer.verifier().verify_held(&text).unwrap();
    /// let project = Resource::new(["projects", "alpha"]).unwrap();
    /// let refused = token.require("org_0000000000000000", &Action::Write, &project).unwrap_err();
    /// assert_eq!(refused.to_string(), "the request needs the scope `write:projects/alpha`");
    /// # }
    /// ```
    pub fn require(
        &self,
        org: &str,
        action: &Action,
        resource: &Resource,
    ) -> Result<(), VerifyError> {
        if self.allows(org, action, resource) {
            return Ok(());
        }
        // a resource that is too long to be written as a filter is named by its kind alone
        let filter = resource.to_filter().unwrap_or_else(|_| ResourceFilter::all());
        Err(VerifyError::InsufficientScope(Scope::new(action, &filter)))
    }
}
