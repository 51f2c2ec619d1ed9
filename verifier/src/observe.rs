//! What an operator sees of a verifier: counters through the facade `metrics`, and spans and events
//! through `tracing`, each with its feature alone. Neither is ever given the text of a token.

use crate::error::VerifyError;
use crate::token::Token;

/// What is asked of the issuer.
#[cfg(feature = "remote")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IssuerDocument {
    Keys,
    Revocations,
}

#[cfg(feature = "remote")]
impl IssuerDocument {
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Revocations => "revocations",
        }
    }
}

/// A token was verified, or refused.
#[cfg_attr(
    not(any(feature = "metrics", feature = "tracing")),
    expect(unused_variables, clippy::missing_const_for_fn, reason = "nobody listens")
)]
pub(crate) fn verified(verdict: &Result<Token, VerifyError>) {
    #[cfg(feature = "metrics")]
    match verdict {
        // a label that stands in the code takes no allocation
        Ok(_) => metrics::counter!("tenmint_verifications_total", "outcome" => "valid"),
        Err(refused) => {
            metrics::counter!("tenmint_verifications_total", "outcome" => refused.kind())
        }
    }
    .increment(1);
    #[cfg(feature = "tracing")]
    match verdict {
        Ok(token) => {
            let claims = token.claims();
            let (org, client_id, jti) = (&*claims.org, &*claims.client_id, &*claims.jti);
            tracing::debug!(org, client_id, jti, "a token was verified");
        }
        Err(refused) => {
            tracing::debug!(outcome = refused.kind(), "a token was refused: {refused}");
        }
    }
}

/// The issuer was asked, and answered or did not.
#[cfg(feature = "remote")]
#[cfg_attr(
    not(any(feature = "metrics", feature = "tracing")),
    expect(unused_variables, clippy::missing_const_for_fn, reason = "nobody listens")
)]
pub(crate) fn asked<E: std::fmt::Display>(what: IssuerDocument, error: Option<&E>) {
    #[cfg(feature = "metrics")]
    {
        let outcome = if error.is_none() { "answered" } else { "failed" };
        metrics::counter!("tenmint_issuer_requests_total", "for" => what.name(), "outcome" => outcome)
            .increment(1);
        if error.is_none() {
            let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            metrics::gauge!("tenmint_issuer_heard_timestamp_seconds", "for" => what.name())
                .set(now.as_secs_f64());
        }
    }
    #[cfg(feature = "tracing")]
    if let Some(error) = error {
        tracing::warn!(what = what.name(), "the issuer cannot be heard: {error}");
    }
}

/// The issuer was asked for a request, and did not answer as it should.
#[cfg(feature = "raw-keys")]
#[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "nobody listens"))]
pub(crate) fn unanswered(what: &str, trouble: &dyn std::fmt::Display) {
    #[cfg(feature = "tracing")]
    tracing::warn!("{what}: {trouble}");
}
