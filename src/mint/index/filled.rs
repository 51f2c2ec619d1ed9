//! An index beside the one that serves, until all is in it.

use crate::mint::index::{Change, State};
use crate::model::api_key::ApiKeySecret;
use crate::model::id::ApiKeyId;

/// An index that is being filled, aside from the one that serves.
#[derive(Debug)]
pub struct FilledIndex {
    pub(super) state: State,
    pub(super) is_doubted: bool,
}

impl FilledIndex {
    /// Puts one noun, in the order of [`Change::order`].
    pub fn put(&mut self, change: Change) {
        self.state.put(change);
    }

    /// Has nothing issued from it before it was compared with the database once more.
    pub fn doubt(&mut self) {
        self.is_doubted = true;
    }

    /// Puts secrets of an API key that is there already; of another, none.
    pub fn put_secrets(&mut self, api_key: &ApiKeyId, secrets: &[ApiKeySecret]) {
        if let Some(place) = self.state.api_keys.find(api_key) {
            self.state.put_secrets(place, secrets);
        }
    }
}
