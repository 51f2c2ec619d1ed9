//! The layer that holds a route to a scope, in one line.

use std::sync::Arc;

use ::axum::extract::RawPathParams;
use ::axum::extract::rejection::RawPathParamsRejection;
use axum_core::extract::FromRequestParts;
use http::request::Parts;
use tower_layer::Layer;

use crate::axum::answer::Refusal;
use crate::axum::guard::{Guard, Guarded, Warning};
use crate::axum::require_token::{LetInBy, Organization};
use crate::error::{SyntaxError, VerifyError};
use crate::resource::Resource;
use crate::scope::Action;
use crate::template::ResourceTemplate;
use crate::token::Token;

/// A layer for a route: lets no request pass whose token lacks a scope on the resource that the
/// parameters of the path name. [`RequireToken`](super::RequireToken) stands around it, and says
/// whose the resource is.
///
/// The parameters are those that axum has decoded, so that no spelling of a path (`%2F`, `..`, `//`)
/// means one thing to the router and another to the scope. What was allowed is left in the
/// extensions of the request as [`Allowed`].
///
/// ```
/// # #[cfg(feature = "testing")] {
/// use axum::{Router, extract::Path, routing::get};
/// use tenmint_verifier::axum::{RequireScope, RequireToken};
/// use tenmint_verifier::{Action, testing::TestIssuer};
///
/// # async fn show(id: Path<String>) {}
/// # async fn change(id: Path<String>) {}
/// # fn router() -> Result<Router, tenmint_verifier::SyntaxError> {
/// # let verifier = TestIssuer::new("https://api.example.com").verifier();
/// let router = Router::new()
///     .route("/projects/{id}", get(show).layer(RequireScope::new(Action::Read, "projects/{id}")?))
///     .route("/things/{id}", get(show).put(change).layer(RequireScope::by_method("things/{id}")?))
///     .layer(RequireToken::new(verifier).organization("org_0000000000000000"));
/// # Ok(router)
/// # }
/// # assert!(router().is_ok());
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RequireScope {
    needed: Arc<Needed>,
}

#[derive(Debug, Clone)]
struct Needed {
    /// Nothing where the method decides.
    action: Option<Action>,
    resource: ResourceTemplate,
    /// The parameter that names the organization; nothing where the extensions do.
    organization: Option<Box<str>>,
}

/// What a request was allowed to do, in its extensions: for the handler and for the log.
///
/// ```
/// use axum::Extension;
/// use tenmint_verifier::axum::Allowed;
///
/// async fn show(Extension(allowed): Extension<Allowed>) -> String {
///     format!("{} {} of {}", allowed.action, allowed.resource, allowed.organization.id())
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allowed {
    /// Whose resource it is.
    pub organization: Organization,
    /// What is done to it.
    pub action: Action,
    /// The resource of the template.
    pub resource: Resource,
}

impl RequireScope {
    /// A layer that needs this action on the resource of this template.
    ///
    /// # Errors
    /// The text is no [`ResourceTemplate`].
    ///
    /// ```
    /// use tenmint_verifier::{Action, axum::RequireScope};
    /// let layer = RequireScope::new(Action::Read, "projects/{id}/logs")?;
    /// assert!(RequireScope::new(Action::Read, "/projects").is_err());
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn new(action: Action, resource: &str) -> Result<Self, SyntaxError> {
        Self::needing(Some(action), resource)
    }

    /// A layer that needs `read` for the safe methods (GET, HEAD, OPTIONS, TRACE; RFC 9110, section
    /// 9.2.1) and `write` for all others.
    ///
    /// # Errors
    /// The text is no [`ResourceTemplate`].
    ///
    /// ```
    /// use tenmint_verifier::axum::RequireScope;
    /// let layer = RequireScope::by_method("projects/{id}")?;
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn by_method(resource: &str) -> Result<Self, SyntaxError> {
        Self::needing(None, resource)
    }

    fn needing(action: Option<Action>, resource: &str) -> Result<Self, SyntaxError> {
        let needed = Needed { action, resource: resource.parse()?, organization: None };
        Ok(Self { needed: Arc::new(needed) })
    }

    /// Takes the organization from this parameter of the path, for an API that serves many: the same
    /// one that the handler looks the data up by.
    ///
    /// ```
    /// use tenmint_verifier::{Action, axum::RequireScope};
    /// // for the route /orgs/{org}/projects/{id}
    /// let layer = RequireScope::new(Action::Read, "projects/{id}")?.organization_in("org");
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    #[must_use]
    pub fn organization_in(self, parameter: &str) -> Self {
        let needed = Needed { organization: Some(parameter.into()), ..(*self.needed).clone() };
        Self { needed: Arc::new(needed) }
    }
}

impl Needed {
    async fn check(&self, parts: &mut Parts) -> Result<Allowed, VerifyError> {
        let parameters = match RawPathParams::from_request_parts(parts, &()).await {
            Ok(parameters) => Some(parameters),
            // a route without any
            Err(RawPathParamsRejection::MissingPathParams(_)) => None,
            Err(_) => {
                let error = SyntaxError::new("a parameter of the path is no UTF-8");
                return Err(VerifyError::InvalidResource(error));
            }
        };
        let parameter = |wanted: &str| {
            let mut all = parameters.iter().flatten();
            all.find(|(name, _)| *name == wanted).map(|(_, value)| value)
        };
        if self.resource.parameters().any(|name| parameter(name).is_none()) {
            let message = "the route lacks a parameter of the resource";
            return Err(VerifyError::Misconfigured(message));
        }
        let organization = match &self.organization {
            Some(name) => parameter(name).map(Organization::new),
            None => parts.extensions.get::<Organization>().cloned(),
        };
        let organization = organization.ok_or(VerifyError::Misconfigured(
            "nothing says whose the resource is (RequireToken::organization)",
        ))?;
        let token = parts.extensions.get::<Token>().ok_or(VerifyError::Misconfigured(
            "RequireScope stands without RequireToken around it",
        ))?;
        let resource = self.resource.fill(parameter).map_err(VerifyError::InvalidResource)?;
        let by_method = || Action::for_method(parts.method.as_str());
        let action = self.action.clone().unwrap_or_else(by_method);
        token.require(organization.id(), &action, &resource)?;
        Ok(Allowed { organization, action, resource })
    }
}

impl Guard for RequireScope {
    async fn admit(&self, parts: &mut Parts) -> Result<Warning, Refusal> {
        let allowed = match self.needed.check(parts).await {
            Ok(allowed) => allowed,
            Err(error) => return Err(LetInBy::refuse(parts, error)),
        };
        let warning = parts.extensions.get::<Token>().and_then(|token| {
            token.warned_by(token.raw_key_mode_for(&allowed.action, &allowed.resource))
        });
        parts.extensions.insert(allowed);
        Ok(warning)
    }
}

impl<S> Layer<S> for RequireScope {
    type Service = Guarded<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded::new(inner, self.clone())
    }
}
