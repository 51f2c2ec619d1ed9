//! When to fetch: ahead of the end of freshness, again after a failure, and when a caller asks.

use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::observe::{self, IssuerDocument};
use crate::remote::fetch::{Fetched, IssuerClient};
use crate::remote::{Ask, HeldKeys, State};

/// The first retry after a failure; each one after it takes twice as long, up to the last.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// The task that fetches, and the only one to write the state.
pub(super) struct Refresh {
    client: IssuerClient,
    serve_stale: Duration,
    state: watch::Sender<State>,
}

impl Refresh {
    pub(super) fn new(
        client: IssuerClient,
        serve_stale: Duration,
        state: watch::Sender<State>,
    ) -> Self {
        Self { client, serve_stale, state }
    }

    /// Runs until the last verifier has gone, and `asked` with it.
    pub(super) async fn run(mut self, mut asked: watch::Receiver<Option<Ask>>) {
        let mut failures = 0;
        loop {
            let answer = self.client.fetch().await;
            observe::asked(IssuerDocument::Keys, answer.as_ref().err());
            let pause = match answer {
                Ok(fetched) => {
                    failures = 0;
                    self.keep(fetched)
                }
                Err(error) => {
                    failures += 1;
                    self.fail(error.to_string(), failures)
                }
            };
            // what was asked before the last fetch ended is answered by it
            let fetches = self.state.borrow().fetches;
            let ask = asked.wait_for(|ask| ask.is_some_and(|ask| ask.seen == fetches));
            if let Ok(Err(_gone)) = timeout(pause, ask).await {
                return;
            }
            self.state.send_modify(|state| state.fetching = true);
        }
    }

    /// Holds what came, and says when to look again.
    fn keep(&self, fetched: Fetched) -> Duration {
        let Fetched { keys, fresh_for, endpoints } = fetched;
        let fetched_at = Instant::now();
        let usable_until = fetched_at.checked_add(fresh_for.saturating_add(self.serve_stale));
        self.state.send_modify(|state| {
            match (keys, &mut state.held) {
                (Some(keys), held) => {
                    *held = Some(HeldKeys { keys: Arc::new(keys), fetched_at, usable_until });
                }
                (None, Some(held)) => {
                    held.fetched_at = fetched_at;
                    held.usable_until = usable_until;
                }
                (None, None) => {}
            }
            state.endpoints = Some(endpoints);
            state.error = None;
            state.fetching = false;
            state.fetches += 1;
        });
        // ahead of the end, so that a slow answer finds the keys still fresh
        jittered(fresh_for * 4 / 5)
    }

    /// The keys that are held stay: an issuer that is out of reach has not withdrawn them.
    fn fail(&self, error: String, failures: u32) -> Duration {
        self.state.send_modify(|state| {
            state.error = Some(error);
            state.fetching = false;
            state.fetches += 1;
        });
        let doubled = FIRST_RETRY.saturating_mul(1 << (failures - 1).min(8));
        jittered(doubled.min(LAST_RETRY))
    }
}

/// A little less than that, by chance, so that many verifiers do not come all at once.
pub(crate) fn jittered(pause: Duration) -> Duration {
    let mut byte = [0];
    // without randomness there is no jitter, and nothing worse
    let chance = SystemRandom::new().fill(&mut byte).map_or(0, |()| u32::from(byte[0]));
    pause.saturating_sub(pause / 5 * chance / 256)
}
