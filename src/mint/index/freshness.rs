//! How long ago the index was compared with the database: what it says holds no longer than that.

use std::time::Duration;

use crate::mint::index::Index;
use crate::model::time::Timestamp;

/// A poll that came just now may be this old: within this time no outage is seen at all.
const POLL_BOUND: Duration = Duration::from_secs(1);

impl Index {
    /// Whether the index was filled, and compared with the database within `serve_for`.
    pub fn is_fresh(&self, now: Timestamp, serve_for: Duration) -> bool {
        let compared_at = self.state.read().compared_at;
        let bound = serve_for.max(POLL_BOUND);
        compared_at.is_some_and(|compared_at| now.since(compared_at) <= bound)
    }

    /// How long ago the index was last compared with the database.
    pub fn age(&self, now: Timestamp) -> Option<Duration> {
        self.state.read().compared_at.map(|compared_at| now.since(compared_at))
    }

    /// Notes that the database was seen to be at the revision of the index.
    pub fn confirm(&self, now: Timestamp) {
        let mut state = self.state.write();
        if state.revision.is_some() {
            state.compared_at = Some(now);
        }
    }

    /// Moves the mark of the last comparison with a clock that is corrected.
    pub fn shift(&self, millis: i64) {
        let mut state = self.state.write();
        state.compared_at = state
            .compared_at
            .map(|moment| Timestamp::from_millis(moment.as_millis().saturating_add(millis)));
    }

    /// Makes the index count as not compared, so that nothing is issued until it was.
    pub fn doubt(&self) {
        self.state.write().compared_at = None;
    }
}
