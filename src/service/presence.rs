//! That a node is there, and how far it has come: what the turns of signing keys wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::Result;
use crate::model::time::Timestamp;
use crate::service::follow::within;
use crate::service::node::LAST_WORD;
use crate::service::random;
use crate::store::{Store, nodes};

/// How often a node tells of itself, where it has no news.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How long a node is remembered that was not seen.
const FORGET_AFTER: Duration = Duration::from_hours(24);
/// What stands for news, in the place of the moment when something was told last.
const NEWS: i64 = 0;

/// A node, as the others see it.
#[derive(Debug)]
pub(crate) struct Presence {
    store: Arc<Store>,
    /// Of this run.
    id: String,
    /// When it told of itself last.
    told_at: AtomicI64,
    /// How long a node may serve after it was last seen.
    gone_after: Duration,
    /// How many nodes there were then, this one among them.
    nodes: AtomicU32,
}

impl Presence {
    pub(crate) fn new(store: Arc<Store>, gone_after: Duration) -> Result<Self> {
        let id = URL_SAFE_NO_PAD.encode(random::<9>()?);
        let (told_at, nodes) = (AtomicI64::new(NEWS), AtomicU32::new(1));
        Ok(Self { store, id, told_at, gone_after, nodes })
    }

    /// How many nodes there are, as far as the database has told.
    pub(crate) fn nodes(&self) -> u32 {
        self.nodes.load(Ordering::Relaxed).max(1)
    }

    /// Others wait for what this node has just taken in.
    pub(crate) fn has_news(&self) {
        self.told_at.store(NEWS, Ordering::Relaxed);
    }

    /// Tells of this node where it is time to. One that fails is told again by the next look.
    pub(crate) async fn keep_told(&self, applied: Option<i64>, now: Timestamp) {
        let told_at = Timestamp::from_millis(self.told_at.load(Ordering::Relaxed));
        // a clock that went back must not keep it silent
        let is_recent = told_at <= now && now < told_at + TELL_EVERY;
        if let Some(applied) = applied
            && !is_recent
            && let Err(cause) = self.tell(applied, now).await
        {
            tracing::debug!(%cause, "the database does not know that this node is there");
        }
    }

    /// Tells that this node serves under a revision.
    pub(crate) async fn tell(&self, applied: i64, now: Timestamp) -> Result<()> {
        let mut append = self.store.append().await?;
        nodes::upsert(&mut append, &self.id, applied, now).await?;
        nodes::prune(&mut append, now - FORGET_AFTER).await?;
        let nodes = nodes::count(&mut append, now - self.gone_after).await?;
        append.commit().await?;
        self.nodes.store(u32::try_from(nodes).unwrap_or(u32::MAX), Ordering::Relaxed);
        if applied > 0 {
            self.told_at.store(now.as_millis(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Tells that it serves no more.
    pub(crate) async fn leave(&self) {
        let left = async {
            let mut append = self.store.append().await?;
            nodes::delete(&mut append, &self.id).await?;
            append.commit().await
        };
        if let Err(cause) = within(LAST_WORD, left).await {
            tracing::debug!(%cause, "the database goes on to wait for this node for a while");
        }
    }
}
