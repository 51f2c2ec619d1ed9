//! What the API takes, told to clients that have never heard of it (RFC 9728).

use std::sync::Arc;

use ::axum::Router;
use ::axum::routing::get;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use serde_json::{Value, json};

use crate::error::BuildError;
use crate::scope::ScopeView;
use crate::scope_set::ScopeSet;
use crate::verify::Verifier;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The metadata of an API: which issuer it trusts, and how a token is brought. Once its
/// [`routes`](Self::routes) are made, every challenge of the extractor and the layers names where they
/// are. A handler that refuses by itself answers with [`Refusal::of`](super::Refusal::of) to do so too.
///
/// ```
/// # #[cfg(feature = "testing")] {
/// use axum::Router;
/// use tenmint_verifier::{axum::{ProtectedResource, RequireToken}, testing::TestIssuer};
///
/// # fn router() -> Result<Router, tenmint_verifier::BuildError> {
/// # let verifier = TestIssuer::new("https://api.example.com").verifier();
/// let metadata = ProtectedResource::new(&verifier)?.name("Projects").routes();
/// let router = Router::new().layer(RequireToken::new(verifier)).merge(metadata);
/// # Ok(router)
/// # }
/// # assert!(router().is_ok());
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ProtectedResource {
    verifier: Verifier,
    /// Where it is told, and the path of that.
    uri: Arc<str>,
    path: String,
    document: Value,
}

impl ProtectedResource {
    /// The metadata of the API that this verifier checks tokens for: of its first audience.
    ///
    /// # Errors
    /// The audience is no `https` or `http` URI, or has a query or a fragment, so that no place for
    /// the document follows from it.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// use tenmint_verifier::{axum::ProtectedResource, testing::TestIssuer};
    /// let metadata = ProtectedResource::new(&TestIssuer::new("https://api.example.com").verifier());
    /// assert!(metadata.is_ok());
    /// assert!(ProtectedResource::new(&TestIssuer::new("urn:an-api").verifier()).is_err());
    /// # }
    /// ```
    pub fn new(verifier: &Verifier) -> Result<Self, BuildError> {
        let rules = verifier.rules();
        let resource = rules.audiences.first().map_or("", String::as_str);
        let (origin, path) = split(resource).ok_or_else(|| {
            BuildError::new(format!(
                "the audience `{resource}` is no URI of an API: write it like `https://api.example.com`"
            ))
        })?;
        let path = format!("{WELL_KNOWN}{path}");
        let document = json!({
            "resource": resource,
            "authorization_servers": [rules.issuer],
            "bearer_methods_supported": ["header"],
        });
        Ok(Self {
            verifier: verifier.clone(),
            uri: format!("{origin}{path}").into(),
            path,
            document,
        })
    }

    /// The scopes that the API knows (`scopes_supported`).
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::{axum::ProtectedResource, testing::TestIssuer};
    /// # let verifier = TestIssuer::new("https://api.example.com").verifier();
    /// let scopes = "read:projects/* write:projects/*".parse()?;
    /// let metadata = ProtectedResource::new(&verifier).unwrap().scopes(&scopes);
    /// # }
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    #[must_use]
    pub fn scopes(self, scopes: &ScopeSet) -> Self {
        let scopes: Vec<&str> = scopes.iter().map(ScopeView::as_str).collect();
        self.with("scopes_supported", json!(scopes))
    }

    /// The name of the API for people (`resource_name`).
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::{axum::ProtectedResource, testing::TestIssuer};
    /// # let verifier = TestIssuer::new("https://api.example.com").verifier();
    /// let metadata = ProtectedResource::new(&verifier).unwrap().name("Projects");
    /// # }
    /// ```
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.with("resource_name", json!(name))
    }

    /// Where developers read on (`resource_documentation`).
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::{axum::ProtectedResource, testing::TestIssuer};
    /// # let verifier = TestIssuer::new("https://api.example.com").verifier();
    /// let metadata = ProtectedResource::new(&verifier).unwrap()
    ///     .documentation("https://docs.example.com/projects");
    /// # }
    /// ```
    #[must_use]
    pub fn documentation(self, uri: &str) -> Self {
        self.with("resource_documentation", json!(uri))
    }

    fn with(mut self, member: &str, value: Value) -> Self {
        if let Value::Object(members) = &mut self.document {
            members.insert(member.to_owned(), value);
        }
        self
    }

    /// The route of the document, to be merged into the router of the API outside of
    /// [`RequireToken`](super::RequireToken): who asks has no token yet.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::{axum::ProtectedResource, testing::TestIssuer};
    /// # let verifier = TestIssuer::new("https://api.example.com").verifier();
    /// let routes: axum::Router = ProtectedResource::new(&verifier).unwrap().routes();
    /// # }
    /// ```
    pub fn routes<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        self.verifier.tell_metadata_uri(self.uri);
        let document: Arc<str> = self.document.to_string().into();
        let tell = move || {
            let document = document.clone();
            async move { (HEADERS, document.to_string()) }
        };
        Router::new().route(&self.path, get(tell))
    }
}

/// Public, and the same for everybody.
const HEADERS: [(HeaderName, &str); 3] = [
    (CONTENT_TYPE, "application/json"),
    (CACHE_CONTROL, "public, max-age=3600"),
    (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
];

/// The origin and the path of a URI, the path without the slash that follows the host alone (RFC
/// 9728, section 3.1).
fn split(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"))?;
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !br#""\{}?#"#.contains(&byte);
    if !rest.bytes().all(is_plain) {
        return None;
    }
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let origin = uri.get(..uri.len() - path.len())?;
    (!host.is_empty()).then_some((origin, if path == "/" { "" } else { path }))
}
