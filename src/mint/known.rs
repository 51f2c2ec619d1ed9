//! What the management API wants beside who calls: to note that an API key was used there, and to know
//! whose a credential is that it refused.

use crate::mint::index::AuthenticatedKey;
use crate::mint::{Caller, ClientCredential, Mint, Presented};
use crate::model::access::Holder;
use crate::model::secret::PlainSecret;
use crate::model::time::Timestamp;

impl Mint {
    /// Whose a credential is that is refused: its secret matches, or its signature. Nobody's where
    /// neither does, so that what somebody makes up is told of no key.
    pub fn holder_of(&self, presented: &Presented) -> Option<Holder> {
        let client = match presented {
            Presented::ApiKey(client) => client,
            Presented::Token(text) => {
                let verifier = self.verifier.read().clone();
                if let Ok(token) = verifier.verify_for_any_audience(text) {
                    return self.index.find_client(&token.claims().client_id).ok()?.held_by();
                }
                // an API key that was imported may look like a token
                &ClientCredential::bare(PlainSecret::new(text.clone()))
            }
        };
        self.index.authenticate(client, &self.pepper).ok()?.held_by()
    }

    /// Notes the use of an API key as it is, in memory like every other.
    pub(super) fn note_use(
        &self,
        holder: Holder,
        client: &ClientCredential,
        from: Caller<'_>,
        now: Timestamp,
    ) {
        let from = self.kept(from, holder.org, |text| client.is_shown_in(text));
        self.usage.note_use(holder, from, now);
    }
}

impl AuthenticatedKey<'_> {
    /// Whose it is, dead or alive.
    fn held_by(&self) -> Option<Holder> {
        let api_key = self.state.api_key(self.api_key)?;
        let owner = self.state.owner(api_key.owner)?.id;
        Some(Holder { api_key: api_key.id, owner, org: self.state.org(api_key.org)?.id })
    }
}
