//! The layer that lets no request pass without a valid token.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::request::Parts;
use tower_layer::Layer;

use crate::axum::answer::Refusal;
use crate::axum::credential;
use crate::axum::guard::{Guard, Guarded, Warning};
use crate::error::{InvalidToken, VerifyError};
use crate::quota_count::CountedAt;
use crate::token::Token;
use crate::verify::Verifier;

/// A layer that lets no request pass without a valid token, and leaves the [`Token`] in the
/// extensions of the request. What the token allows is for [`RequireScope`](super::RequireScope) or
/// for the handler to ask.
///
/// Of a gRPC service (tonic takes tower layers) a refusal is told as a status of gRPC.
///
/// ```
/// # #[cfg(feature = "testing")] {
/// use axum::{Extension, Router, routing::get};
/// use tenmint_verifier::{Token, axum::RequireToken, testing::TestIssuer};
///
/// async fn whoami(Extension(token): Extension<Token>) -> String {
///     token.claims().sub.clone()
/// }
///
/// let verifier = TestIssuer::new("https://api.example.com").verifier();
/// let router: Router =
///     Router::new().route("/whoami", get(whoami)).layer(RequireToken::new(verifier));
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RequireToken {
    verifier: Verifier,
    organization: Option<Organization>,
    caller: Option<Caller>,
    counts: bool,
    refuses_raw_keys: bool,
}

/// Whose data a request touches, as the API knows it: in the extensions of a request, for
/// [`RequireScope`](super::RequireScope). [`RequireToken::organization`] puts it there where there is
/// but one; an API of many organizations puts it there by a layer of its own.
///
/// ```
/// use tenmint_verifier::axum::Organization;
/// assert_eq!(Organization::new("org_0000000000000000").id(), "org_0000000000000000");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization(Arc<str>);

impl Organization {
    /// The organization of this id.
    ///
    /// ```
    /// let of_all = tenmint_verifier::axum::Organization::new("org_0000000000000000");
    /// ```
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The id.
    ///
    /// ```
    /// # use tenmint_verifier::axum::Organization;
    /// assert_eq!(Organization::new("org_0000000000000000").id(), "org_0000000000000000");
    /// ```
    pub fn id(&self) -> &str {
        &self.0
    }
}

/// Tells the address of who calls.
#[derive(Clone)]
struct Caller(Arc<AddressOf>);

type AddressOf = dyn Fn(&Parts) -> Option<IpAddr> + Send + Sync;

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Caller")
    }
}

impl RequireToken {
    /// A layer that asks this verifier.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::{axum::RequireToken, testing::TestIssuer};
    /// let verifier = TestIssuer::new("https://api.example.com").verifier();
    /// let layer = RequireToken::new(verifier);
    /// # }
    /// ```
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier, organization: None, caller: None, counts: false, refuses_raw_keys: false }
    }

    /// All that is behind the layer belongs to this organization.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::{axum::RequireToken, testing::TestIssuer};
    /// # let verifier = TestIssuer::new("https://api.example.com").verifier();
    /// let layer = RequireToken::new(verifier).organization("org_0000000000000000");
    /// # }
    /// ```
    #[must_use]
    pub fn organization(mut self, id: impl Into<Arc<str>>) -> Self {
        self.organization = Some(Organization::new(id));
        self
    }

    /// Holds callers to the addresses that their tokens may be used from. Only the API knows how
    /// the address of a caller is told: by the socket, or by a header of a proxy that it trusts. A
    /// token with address rules is refused where the function gives none.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use std::net::SocketAddr;
    /// # use tenmint_verifier::{axum::RequireToken, testing::TestIssuer};
    /// # use axum::extract::ConnectInfo;
    /// # let verifier = TestIssuer::new("https://api.example.com").verifier();
    /// let layer = RequireToken::new(verifier).caller_address(|parts| {
    ///     parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn caller_address(
        mut self,
        address: impl Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.caller = Some(Caller(Arc::new(address)));
        self
    }

    /// Holds each key to its quota in this process: see [`Verifier::count`]. A request that
    /// [`RequireScope`](super::RequireScope) refuses is not counted; one that a handler refuses is.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::{axum::RequireToken, testing::TestIssuer};
    /// # let verifier = TestIssuer::new("https://api.example.com").verifier();
    /// let layer = RequireToken::new(verifier).enforce_quota();
    /// # }
    /// ```
    #[must_use]
    pub fn enforce_quota(mut self) -> Self {
        self.counts = true;
        self
    }

    /// Takes no raw API keys behind this layer, whatever the service says of the API as a whole.
    ///
    /// ```
    /// # #[cfg(feature = "testing")] {
    /// # use tenmint_verifier::{axum::RequireToken, testing::TestIssuer};
    /// # let verifier = TestIssuer::new("https://api.example.com").verifier();
    /// let layer = RequireToken::new(verifier).refuse_raw_keys();
    /// # }
    /// ```
    #[must_use]
    pub fn refuse_raw_keys(mut self) -> Self {
        self.refuses_raw_keys = true;
        self
    }

    async fn token(&self, parts: &Parts) -> Result<(Token, Option<CountedAt>), VerifyError> {
        let address = self.caller.as_ref().map(|Caller(address)| address(parts));
        let caller = address.flatten();
        let token = credential::verify(&self.verifier, &parts.headers, caller).await?;
        match address {
            Some(Some(address)) => token.require_address(address)?,
            Some(None) if token.claims().net.is_some() => {
                return Err(InvalidToken::WrongAddress.into());
            }
            _ => {}
        }
        if self.refuses_raw_keys {
            token.require_token()?;
        }
        let counted = if self.counts { self.verifier.count_call(&token)? } else { None };
        credential::count_use(&self.verifier, &token, &parts.headers, caller);
        Ok((token, counted))
    }
}

/// Who let a request in, for the layers that may refuse it all the same.
#[derive(Clone)]
pub(super) struct LetInBy {
    verifier: Verifier,
    /// The call as it was counted for the quota.
    counted: Option<CountedAt>,
}

impl LetInBy {
    /// Refuses a request that was let in: a refusal names the metadata of the API, and takes nothing of
    /// the quota.
    pub(super) fn refuse(parts: &mut Parts, error: VerifyError) -> Refusal {
        let Some(Self { verifier, counted }) = parts.extensions.remove::<Self>() else {
            return error.into();
        };
        if let (Some(counted), Some(token)) = (counted, parts.extensions.get::<Token>()) {
            verifier.take_back(token, counted);
        }
        Refusal::of(error, &verifier)
    }
}

impl Guard for RequireToken {
    async fn admit(&self, parts: &mut Parts) -> Result<Warning, Refusal> {
        let let_in = self.token(parts).await;
        let (token, counted) = let_in.map_err(|error| Refusal::of(error, &self.verifier))?;
        let warning = token.warned_by(token.raw_key_mode());
        parts.extensions.insert(token);
        parts.extensions.insert(LetInBy { verifier: self.verifier.clone(), counted });
        if let Some(organization) = &self.organization {
            parts.extensions.insert(organization.clone());
        }
        Ok(warning)
    }
}

impl<S> Layer<S> for RequireToken {
    type Service = Guarded<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded::new(inner, self.clone())
    }
}
