//! Verify tenmint access tokens where they are used: locally, without a call to the issuer.
//!
//! This crate owns the token contract: what claims a token has ([`Claims`]), what a scope covers
//! ([`Scope`], [`ScopeSet`], [`ResourceFilter`]), and what makes a token valid ([`Verifier`]). The
//! tenmint server depends on it, so the two cannot disagree. Without features it does no I/O.
//!
//! ```
//! use tenmint_verifier::{Action, JwkSet, Resource, Verifier};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let document = br#"{"keys": []}"#;
//! let verifier = Verifier::builder("https://auth.example.com")
//!     .audience("https://api.example.com")
//!     .with_keys(JwkSet::parse(document)?)?;
//!
//! # let text = "";
//! if let Ok(token) = verifier.verify_held(text) {
//!     let logs = Resource::new(["projects", "alpha", "logs"])?;
//!     token.require("org_0000000000000000", &Action::Read, &logs)?;
//! }
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "axum")]
pub mod axum;
mod cache;
mod claims;
mod error;
mod filter;
mod json;
mod jwks;
mod net;
mod observe;
mod quota;
mod quota_count;
mod raw_key_policy;
#[cfg(feature = "raw-keys")]
mod raw_keys;
#[cfg(feature = "remote")]
mod remote;
mod resource;
mod revocations;
mod rules;
mod scope;
mod scope_set;
mod scope_tree;
mod syntax;
mod template;
#[cfg(feature = "testing")]
pub mod testing;
mod token;
mod verify;

pub use claims::{Claims, NewClaims};
pub use error::{BuildError, InvalidToken, SyntaxError, VerifyError};
pub use filter::ResourceFilter;
pub use jwks::{Algorithm, JwkSet, JwkSetError};
pub use net::{IpRange, Net};
pub use quota::Quota;
pub use raw_key_policy::{Draw, RawKeyMode, RawKeyPolicy, RawKeyRule, Share, ToldRawKeyPolicy};
#[cfg(feature = "raw-keys")]
pub use raw_keys::RawKeys;
#[cfg(feature = "remote")]
pub use remote::Status;
pub use resource::Resource;
pub use revocations::{FeedGap, Revocation, RevocationFeed, Revocations, RevokedSubject};
pub use scope::{Action, ActionName, Scope, ScopeView};
pub use scope_set::ScopeSet;
pub use template::ResourceTemplate;
pub use token::Token;
pub use verify::{Verifier, VerifierBuilder};

/// The examples of the README, run as tests.
#[cfg(all(doctest, feature = "axum", feature = "raw-keys", feature = "testing"))]
#[doc = include_str!("../README.md")]
struct Readme;
