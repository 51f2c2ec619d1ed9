//! Single tokens: revoked by whoever they were issued to, or by who administers the tokens of the
//! organization (RFC 7009).

use std::time::Duration;

use serde_json::json;
use tenmint_verifier::{Action, Claims};

use crate::error::{Error, Result};
use crate::mint::Refused;
use crate::mint::quotas::Quotas;
use crate::model::access::Actor;
use crate::model::id::{ApiKeyId, OrgId};
use crate::model::revocation::{RevokedSubject, RevokedTokens};
use crate::service::Service;
use crate::service::access::guarded;
use crate::service::call::{Call, Done};
use crate::service::follow::within;
use crate::service::quotas::with_lease;
use crate::store::changes::Subject;

/// How long a question about a token waits for a look at the database.
const PATIENCE: Duration = Duration::from_secs(2);

impl Service {
    /// Asks the mint about a credential, with the lease that this may take, and once more after a look
    /// at the database where another node knows more of it. No other question waits for one.
    ///
    /// # Errors
    /// What the mint says; [`Refused::Behind`] where it cannot tell after the look either, or the
    /// database cannot be read.
    pub async fn with_what_others_know<T>(
        &self,
        quotas: &Quotas,
        mut ask: impl FnMut() -> std::result::Result<T, Refused>,
    ) -> std::result::Result<T, Refused> {
        match with_lease(quotas, &mut ask).await {
            Err(Refused::Behind) => {}
            told => return told,
        }
        self.hear_of_others().await?;
        with_lease(quotas, ask).await
    }

    /// Takes a look at the database, for a question that another node may know more of.
    ///
    /// # Errors
    /// [`Refused::Behind`] where it cannot be read.
    pub async fn hear_of_others(&self) -> std::result::Result<(), Refused> {
        within(PATIENCE, self.follow()).await.map_err(|cause| {
            tracing::debug!(%cause, "a token of a key of which this node has not heard");
            Refused::Behind
        })
    }

    /// Revokes a token that verifiers take. One of another organization is passed over, as if
    /// it were none.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a token of another key, without `admin:org/tokens/*`.
    pub async fn revoke_token(&self, actor: &Actor, claims: &Claims) -> Result<()> {
        let broken =
            |what: &str| Error::Broken(format!("a token of ours with a `{what}` of no use"));
        let org: OrgId = claims.org.parse().map_err(|_| broken("org"))?;
        let api_key: ApiKeyId = claims.client_id.parse().map_err(|_| broken("client_id"))?;
        if org != actor.credential.org {
            return Ok(());
        }
        let thing = guarded(org, ["org", "tokens", &claims.jti])?;
        if api_key != actor.credential.api_key && !actor.may(&Action::Admin, &thing) {
            let message = "the token was issued to another API key, and this needs the scope \
                           `admin:org/tokens/*`";
            return Err(Error::Forbidden(message.to_owned()));
        }
        let mut write = self.store.begin().await?;
        let subject = RevokedSubject::Token(claims.jti.clone(), api_key);
        self.revoke_tokens(&mut write, (subject, RevokedTokens::All), org).await?;
        let call = Call {
            actor: actor.clone(),
            org,
            dry_run: false,
            idempotency: None,
            misread: Vec::new(),
        };
        let after = json!({"api_key": claims.client_id, "space": claims.space});
        // nodes hear of it by the feed; where this one cannot read it back, it says nothing of the key's tokens
        let done =
            Done::new("token.revoke", org, &claims.jti, after).touches([Subject::ApiKey(api_key)]);
        self.finish(write, &call, done).await.map(drop)
    }
}
