//! A verified token, and the question an API asks it: may it do this?

use std::net::IpAddr;
use std::sync::Arc;

use crate::claims::Claims;
use crate::error::{InvalidToken, VerifyError};
use crate::filter::ResourceFilter;
use crate::raw_key_policy::{Draw, RawKeyMode, RawKeyPolicy};
use crate::resource::Resource;
use crate::scope::Action;
use crate::scope_set::without_covered;

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
    raw_key: Option<RawKey>,
}

/// What is asked beside the claims where an API key was sent as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RawKey {
    policy: Arc<RawKeyPolicy>,
    draw: Draw,
}

impl Token {
    pub(crate) fn new(claims: Arc<Claims>) -> Self {
        Self { claims, raw_key: None }
    }

    #[cfg(feature = "raw-keys")]
    pub(crate) fn of_raw_key(claims: Arc<Claims>, policy: Arc<RawKeyPolicy>, draw: Draw) -> Self {
        Self { claims, raw_key: Some(RawKey { policy, draw }) }
    }

    /// Whether an API key was sent as it is, and no token.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// # let text = issuer.token("org_0000000000000000", "chat").sign();
    /// assert!(!issuer.verifier().verify_held(&text).unwrap().is_raw_key());
    /// # }
    /// ```
    pub fn is_raw_key(&self) -> bool {
        self.raw_key.is_some()
    }

    /// What the API does with raw keys; nothing of a token.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// # let text = issuer.token("org_0000000000000000", "chat").sign();
    /// assert!(issuer.verifier().verify_held(&text).unwrap().raw_key_policy().is_none());
    /// # }
    /// ```
    pub fn raw_key_policy(&self) -> Option<&Arc<RawKeyPolicy>> {
        self.raw_key.as_ref().map(|raw_key| &raw_key.policy)
    }

    /// What the API does with this credential, whatever it asks for; [`RawKeyMode::Allow`] of a token.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::{RawKeyMode, testing::TestIssuer};
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// # let text = issuer.token("org_0000000000000000", "chat").sign();
    /// let token = issuer.verifier().verify_held(&text).unwrap();
    /// assert_eq!(token.raw_key_mode(), RawKeyMode::Allow);
    /// # }
    /// ```
    pub fn raw_key_mode(&self) -> RawKeyMode {
        self.mode(|raw_key| raw_key.policy.mode_for_all(raw_key.draw))
    }

    /// The same, where it asks for this.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::{Action, RawKeyMode, Resource, testing::TestIssuer};
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// # let text = issuer.token("org_0000000000000000", "chat").sign();
    /// # let alpha = Resource::new(["projects", "alpha"]).unwrap();
    /// let token = issuer.verifier().verify_held(&text).unwrap();
    /// assert_eq!(token.raw_key_mode_for(&Action::Read, &alpha), RawKeyMode::Allow);
    /// # }
    /// ```
    pub fn raw_key_mode_for(&self, action: &Action, resource: &Resource) -> RawKeyMode {
        self.mode(|raw_key| raw_key.policy.mode_for(action, resource, raw_key.draw))
    }

    /// The policy that the answer has to tell of, where this is what is done with the credential.
    #[cfg(feature = "axum")]
    pub(crate) fn warned_by(&self, mode: RawKeyMode) -> Option<Arc<RawKeyPolicy>> {
        self.raw_key_policy().filter(|_| mode == RawKeyMode::Warn).cloned()
    }

    fn mode(&self, of: impl Fn(&RawKey) -> RawKeyMode) -> RawKeyMode {
        self.raw_key.as_ref().map(of).unwrap_or_default()
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
        self.require(org, action, resource).is_ok()
    }

    /// Like [`Token::allows`], with the answer for the caller.
    ///
    /// # Errors
    /// [`VerifyError::InsufficientScope`] with the scope that is missing. A token of another
    /// organization gets the same answer as one that lacks the scope.
    /// [`VerifyError::TokenRequired`] for a raw key where the API wants a token.
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
        if self.claims.org == org && self.claims.scope.matches(action, resource) {
            return self.check_mode(self.raw_key_mode_for(action, resource));
        }
        Err(VerifyError::insufficient_scope(action, resource))
    }

    fn check_mode(&self, mode: RawKeyMode) -> Result<(), VerifyError> {
        match &self.raw_key {
            Some(raw_key) if mode == RawKeyMode::Deny => {
                Err(VerifyError::TokenRequired(Arc::clone(&raw_key.policy)))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a raw key, for a route that takes tokens alone, whatever the service says.
    ///
    /// # Errors
    /// [`VerifyError::TokenRequired`].
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// # let text = issuer.token("org_0000000000000000", "chat").sign();
    /// assert!(issuer.verifier().verify_held(&text).unwrap().require_token().is_ok());
    /// # }
    /// ```
    pub fn require_token(&self) -> Result<(), VerifyError> {
        self.check_mode(RawKeyMode::Deny)
    }

    /// What of a list the token may see: the filters to push into the query, none of which covers
    /// another. Nothing where it may see none of it, as in another organization, and nothing of a
    /// raw key where the API wants a token for all of the list.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::{Action, testing::TestIssuer};
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// let scope = "read:projects/alpha read:projects/b/* write:projects/*";
    /// let text = issuer.token("org_0000000000000000", scope).sign();
    /// let token = issuer.verifier().verify_held(&text).unwrap();
    ///
    /// let projects = "projects/?".parse().unwrap();
    /// let seen = token.visible_under("org_0000000000000000", &Action::Read, &projects);
    /// assert_eq!(seen, ["projects/alpha".parse().unwrap()]);
    /// # }
    /// ```
    pub fn visible_under(
        &self,
        org: &str,
        action: &Action,
        list: &ResourceFilter,
    ) -> Vec<ResourceFilter> {
        let mode = self.mode(|raw_key| raw_key.policy.mode_for_list(action, list, raw_key.draw));
        if self.claims.org != org || mode == RawKeyMode::Deny {
            return Vec::new();
        }
        let held = self.claims.scope.allowing(action.as_str());
        let seen =
            held.filter_map(|scope| scope.filter().parse::<ResourceFilter>().ok()?.intersect(list));
        without_covered(seen, ResourceFilter::covers)
    }

    /// Holds the caller to the addresses that the token may be used from, if it names some. The
    /// address is that of the client, which behind a proxy is not that of the socket.
    ///
    /// # Errors
    /// [`InvalidToken::WrongAddress`].
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::testing::TestIssuer;
    /// # let issuer = TestIssuer::new("https://api.example.com");
    /// let text = issuer.token("org_0000000000000000", "chat").net(&["10.0.0.0/8"], &[]).sign();
    /// let token = issuer.verifier().verify_held(&text).unwrap();
    /// assert!(token.require_address("10.1.2.3".parse().unwrap()).is_ok());
    /// assert!(token.require_address("192.0.2.1".parse().unwrap()).is_err());
    /// # }
    /// ```
    pub fn require_address(&self, caller: IpAddr) -> Result<(), VerifyError> {
        match &self.claims.net {
            Some(net) if !net.allows(caller) => Err(InvalidToken::WrongAddress.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocations::tests::claims;

    fn seen(scope: &str, list: &str) -> Vec<String> {
        let token =
            Token::new(Arc::new(Claims { scope: scope.parse().unwrap(), ..claims(1, None) }));
        let seen = token.visible_under("org_o", &Action::Read, &list.parse().unwrap());
        seen.iter().map(|filter| filter.as_str().to_owned()).collect()
    }

    #[test]
    fn a_list_is_narrowed_to_what_the_token_may_see_of_it() {
        assert_eq!(seen("read:*", "projects/?"), ["projects/?"]);
        assert_eq!(seen("*:projects/a/*", "projects/*"), ["projects/a/*"]);
        assert_eq!(
            seen("read:projects/a read:projects/b", "projects/?"),
            ["projects/a", "projects/b"]
        );
        assert_eq!(seen("read:projects/a read:projects/*", "projects/?"), ["projects/?"]);
        assert_eq!(seen("read:*/logs", "projects/*"), ["projects/logs"]);
        assert!(seen("write:projects/*", "projects/?").is_empty());
        assert!(seen("read:projects/a/b", "projects/?").is_empty());
        let token = Token::new(Arc::new(claims(1, None)));
        assert!(
            token
                .visible_under("org_x", &"chat".parse().unwrap(), &ResourceFilter::all())
                .is_empty()
        );
        assert_eq!(
            token.visible_under("org_o", &"chat".parse().unwrap(), &ResourceFilter::all()).len(),
            1
        );
    }
}
