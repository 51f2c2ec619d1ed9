//! What the service says of raw keys at this API. The revocation feed tells when that has changed, so
//! that a switch is heard as soon as a revocation. What was heard last holds while the issuer is
//! silent.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::error::VerifyError;
use crate::raw_key_policy::RawKeyPolicy;
use crate::raw_keys::issuer::Issuer;
use crate::remote::{Heard, jittered};

/// From one question to the next, where the feed says nothing.
const EVERY: Duration = Duration::from_secs(30);
/// The same at least, whatever the feed says.
const BETWEEN: Duration = Duration::from_millis(200);
/// The same, before the first answer.
const EVERY_AT_FIRST: Duration = Duration::from_millis(500);

/// What was told last; of a failure only that the API itself is refused, and until it is not.
type Told = Option<Result<Arc<RawKeyPolicy>, VerifyError>>;

/// The reading side.
#[derive(Debug)]
pub(super) struct PolicyReader {
    told: watch::Receiver<Told>,
    task: AbortHandle,
}

impl Drop for PolicyReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PolicyReader {
    pub(super) fn start(issuer: Issuer, feed: watch::Receiver<Heard>) -> Self {
        let (tell, told) = watch::channel(None);
        let task = tokio::spawn(listen(issuer, feed, tell)).abort_handle();
        Self { told, task }
    }

    /// What was told last; nothing before the first time.
    pub(super) fn held(&self) -> Option<Arc<RawKeyPolicy>> {
        self.told.borrow().as_ref()?.as_ref().ok().cloned()
    }

    /// The same, after a wait for the first time: an API that just started must not let pass what it
    /// has not been told to.
    pub(super) async fn get(&self, patience: Duration) -> Result<Arc<RawKeyPolicy>, VerifyError> {
        if let Some(held) = self.held() {
            return Ok(held);
        }
        let mut told = self.told.clone();
        let first = timeout(patience, told.wait_for(Option::is_some)).await;
        let first = first.ok().and_then(|first| first.ok().and_then(|told| told.clone()));
        first.unwrap_or(Err(VerifyError::IssuerUnavailable))
    }
}

/// Runs until it is aborted, or the verifier is gone.
async fn listen(issuer: Issuer, mut feed: watch::Receiver<Heard>, tell: watch::Sender<Told>) {
    let mut rev = 0;
    while issuer.is_wanted() {
        match issuer.policy().await {
            Ok(told) => {
                rev = told.rev;
                let policy = Arc::new(told.policy);
                tell.send_if_modified(|held| replace(held, Ok(policy)));
            }
            Err(refused) if issuer.refusal().is_some() => {
                // what was heard before holds on
                let is_first = !matches!(*tell.borrow(), Some(Ok(_)));
                tell.send_if_modified(|held| is_first && replace(held, Err(refused)));
            }
            Err(_) => {}
        }
        if !matches!(*tell.borrow(), Some(Ok(_))) {
            // the metadata may be on its way, and tells where to ask
            let _either = timeout(EVERY_AT_FIRST, issuer.metadata_changed()).await;
            continue;
        }
        sleep(BETWEEN).await;
        let is_outdated = |heard: &Heard| issuer.is_outdated(rev, &heard.revocations);
        let pause = jittered(EVERY);
        let moved = timeout(pause, feed.wait_for(is_outdated)).await;
        let is_left_out = matches!(moved, Ok(Err(_)));
        // what was borrowed of the channel must not be held over a wait
        drop(moved);
        if is_left_out {
            sleep(pause).await;
        }
    }
}

/// Holds what was told, and says whether it is new.
fn replace(held: &mut Told, told: Result<Arc<RawKeyPolicy>, VerifyError>) -> bool {
    let is_new = held.as_ref() != Some(&told);
    if is_new {
        *held = Some(told);
    }
    is_new
}
