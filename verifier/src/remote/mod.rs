//! A running issuer: its keys and what it revoked, kept fresh in the background.
//!
//! One task fetches keys, another hears the revocation feed; everybody else reads what they found. A
//! token of a known key never waits, and nothing that callers send makes the tasks ask more often
//! than once per cool-down.

mod feed;
mod fetch;
mod freshness;
mod refresh;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::error::{BuildError, VerifyError};
use crate::jwks::JwkSet;
#[cfg(feature = "raw-keys")]
use crate::raw_keys::RawKeyVerifier;
pub(crate) use crate::remote::feed::FeedPolicy;
use crate::remote::feed::FeedReader;
#[cfg(feature = "raw-keys")]
pub(crate) use crate::remote::feed::Heard;
#[cfg(not(feature = "raw-keys"))]
use crate::remote::fetch::Endpoints;
use crate::remote::fetch::IssuerClient;
#[cfg(feature = "raw-keys")]
pub(crate) use crate::remote::fetch::{Endpoints, chain, connector};
use crate::remote::refresh::Refresh;
#[cfg(feature = "raw-keys")]
pub(crate) use crate::remote::refresh::jittered;
use crate::revocations::Revocations;
use crate::verify::{Verifier, VerifierBuilder};

/// How long keys serve after their freshness has ended, unless said otherwise.
pub(crate) const SERVE_STALE: Duration = Duration::from_hours(1);
/// One fetch for unknown keys in this time, for all callers together.
const COOL_DOWN: Duration = Duration::from_secs(30);

impl VerifierBuilder {
    /// How long the keys serve while the issuer is out of reach, beyond their freshness: 1 h unless
    /// said. Then every token is refused with [`VerifyError::KeysUnavailable`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tenmint_verifier::Verifier;
    /// let builder = Verifier::builder("https://auth.example.com")
    ///     .serve_stale(Duration::from_secs(6 * 3600));
    /// ```
    #[must_use]
    pub fn serve_stale(mut self, bound: Duration) -> Self {
        self.serve_stale = bound;
        self
    }

    /// A verifier with the keys of the running issuer. The first fetch begins at once, in a task of
    /// this tokio runtime that ends with the last clone of the verifier.
    ///
    /// The issuer need not be up: until its keys have come, tokens are refused with
    /// [`VerifyError::KeysUnavailable`].
    ///
    /// # Errors
    /// No audience, no algorithm, an issuer that is no origin, plain `http` elsewhere than on
    /// loopback, no root certificates on this machine, or no tokio runtime.
    ///
    /// ```
    /// # use tenmint_verifier::Verifier;
    /// # async {
    /// let verifier = Verifier::builder("https://auth.example.com")
    ///     .audience("https://api.example.com")
    ///     .remote()?;
    /// # Ok::<(), tenmint_verifier::BuildError>(())
    /// # };
    /// ```
    pub fn remote(self) -> Result<Verifier, BuildError> {
        self.check()?;
        let client = IssuerClient::new(&self.rules().issuer)?;
        let keys = Arc::new(RemoteKeys::start(client, self.serve_stale)?);
        let feed = FeedReader::start(self.rules().clone(), &keys, self.feed)?;
        self.with_remote(Remote { keys, feed })
    }
}

impl Verifier {
    /// Waits until there are keys and, from an issuer that has one, a first revocation feed. A verifier
    /// whose keys were given is ready at once.
    ///
    /// # Errors
    /// [`VerifyError::KeysUnavailable`] or [`VerifyError::RevocationsUnavailable`] after that time;
    /// [`Verifier::status`] says why.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # async fn start(verifier: tenmint_verifier::Verifier) {
    /// if verifier.ready(Duration::from_secs(5)).await.is_err() {
    ///     eprintln!("no keys yet: {:?}", verifier.fetch_error());
    /// }
    /// # }
    /// ```
    pub async fn ready(&self, patience: Duration) -> Result<(), VerifyError> {
        let Some(remote) = self.remote_issuer() else { return Ok(()) };
        #[cfg(feature = "raw-keys")]
        let began = Instant::now();
        remote.ready(patience).await?;
        #[cfg(feature = "raw-keys")]
        if let Some(raw_keys) = self.raw_key_verifier() {
            raw_keys.ready(patience.saturating_sub(began.elapsed())).await?;
        }
        Ok(())
    }

    /// Why the last fetch of keys failed, for the log of the API; nothing if it did not.
    ///
    /// ```
    /// # let keys = tenmint_verifier::JwkSet::parse(br#"{"keys": []}"#).unwrap();
    /// # let verifier = tenmint_verifier::Verifier::builder("https://auth.example.com")
    /// #     .audience("https://api.example.com").with_keys(keys).unwrap();
    /// assert_eq!(verifier.fetch_error(), None);
    /// ```
    pub fn fetch_error(&self) -> Option<String> {
        self.remote_issuer()?.keys.state.borrow().error.clone()
    }

    /// How well the issuer is heard, for the health of the API; nothing where the keys were given.
    ///
    /// ```
    /// # async fn watch(verifier: tenmint_verifier::Verifier) {
    /// if let Some(status) = verifier.status() {
    ///     println!("keys {:?} old, feed {:?} old", status.keys_age, status.feed_age);
    /// }
    /// # }
    /// ```
    pub fn status(&self) -> Option<Status> {
        let status = self.remote_issuer()?.status();
        #[cfg(feature = "raw-keys")]
        let raw_keys_error = self.raw_key_verifier().and_then(RawKeyVerifier::refusal);
        #[cfg(feature = "raw-keys")]
        let status = Status { raw_keys_error, ..status };
        Some(status)
    }
}

/// How well an issuer is heard.
///
/// ```
/// # fn tell(status: &tenmint_verifier::Status) {
/// if let Some(error) = &status.feed_error {
///     eprintln!("revocations are not heard: {error}");
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Since the keys were fetched or confirmed; nothing before the first time.
    pub keys_age: Option<Duration>,
    /// Why the last fetch of keys failed, if it did.
    pub keys_error: Option<String>,
    /// How old what was heard of revocations is, by the issuer's own database; nothing where none
    /// was heard.
    pub feed_age: Option<Duration>,
    /// Why the feed is not heard at the moment, if it is not. Of an issuer that hangs it is known after
    /// 35 s, or five more than a third of the bound on silence; `feed_age` tells it sooner.
    pub feed_error: Option<String>,
    /// Subjects whose tokens are void.
    pub revocations: usize,
    /// Why the issuer tells nothing about raw API keys, if it refuses the API's own key: fresh ones
    /// are answered 503 then, and those that are known go on for their time.
    pub raw_keys_error: Option<String>,
}

/// The reading side of the tasks.
#[derive(Debug)]
pub(crate) struct Remote {
    keys: Arc<RemoteKeys>,
    feed: FeedReader,
}

impl Remote {
    /// The keys, unless there are none or they are too old.
    pub(crate) fn keys(&self) -> Result<Arc<JwkSet>, VerifyError> {
        self.keys.held()
    }

    /// What was revoked, unless the API does not go on with what is so old.
    pub(crate) fn revocations(&self) -> Result<Arc<Revocations>, VerifyError> {
        self.feed.held()
    }

    /// How many fetches of keys have ended: a caller notes it before it looks for a key.
    pub(crate) fn fetches(&self) -> u64 {
        self.keys.fetches()
    }

    /// Waits for a fetch of keys that ends after the first `seen` ones, and says whether one did.
    pub(crate) async fn fetched_since(&self, seen: u64) -> bool {
        self.keys.fetched_since(seen).await
    }

    /// What the feed said, to wait for what it says next.
    #[cfg(feature = "raw-keys")]
    pub(crate) fn heard(&self) -> watch::Receiver<Heard> {
        self.feed.heard()
    }

    /// The reading side of the task that fetches keys.
    #[cfg(feature = "raw-keys")]
    pub(crate) fn key_source(&self) -> &Arc<RemoteKeys> {
        &self.keys
    }

    async fn ready(&self, patience: Duration) -> Result<(), VerifyError> {
        let began = Instant::now();
        self.keys.ready(patience).await?;
        self.feed.ready(patience.saturating_sub(began.elapsed())).await
    }

    fn status(&self) -> Status {
        let state = self.keys.state.borrow();
        let feed = self.feed.status();
        Status {
            keys_age: state.held.as_ref().map(|held| held.fetched_at.elapsed()),
            keys_error: state.error.clone(),
            feed_age: feed.age,
            feed_error: feed.error,
            revocations: feed.revocations,
            raw_keys_error: None,
        }
    }
}

/// The reading side of the task that fetches.
#[derive(Debug)]
pub(crate) struct RemoteKeys {
    state: watch::Receiver<State>,
    /// The task ends when this channel closes.
    asks: watch::Sender<Option<Ask>>,
}

/// What the task has found.
#[derive(Debug)]
pub(crate) struct State {
    held: Option<HeldKeys>,
    /// What else the issuer can be asked, once its metadata was read.
    endpoints: Option<Endpoints>,
    fetching: bool,
    /// How many fetches have ended, well or badly.
    fetches: u64,
    error: Option<String>,
}

#[derive(Debug)]
struct HeldKeys {
    keys: Arc<JwkSet>,
    fetched_at: Instant,
    /// Nothing for a bound beyond the end of the clock.
    usable_until: Option<Instant>,
}

/// A caller's wish for a fetch after the first `seen` ones.
#[derive(Debug, Clone, Copy)]
struct Ask {
    at: Instant,
    seen: u64,
}

impl RemoteKeys {
    fn start(client: IssuerClient, serve_stale: Duration) -> Result<Self, BuildError> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| BuildError::new("a remote verifier is built inside a tokio runtime"))?;
        let none_yet =
            State { held: None, endpoints: None, fetching: true, fetches: 0, error: None };
        let (finder, state) = watch::channel(none_yet);
        let (asks, asked) = watch::channel(None);
        runtime.spawn(Refresh::new(client, serve_stale, finder).run(asked));
        Ok(Self { state, asks })
    }

    /// The keys, unless there are none or they are too old.
    pub(crate) fn held(&self) -> Result<Arc<JwkSet>, VerifyError> {
        let state = self.state.borrow();
        let held = state.held.as_ref().ok_or(VerifyError::KeysUnavailable)?;
        match held.usable_until {
            Some(end) if end <= Instant::now() => Err(VerifyError::KeysUnavailable),
            _ => Ok(Arc::clone(&held.keys)),
        }
    }

    /// How many fetches have ended: a caller notes it before it looks for a key.
    pub(crate) fn fetches(&self) -> u64 {
        self.state.borrow().fetches
    }

    /// What else the issuer can be asked, once its metadata was read.
    #[cfg(feature = "raw-keys")]
    pub(crate) fn endpoints(&self) -> Option<Endpoints> {
        self.state.borrow().endpoints.clone()
    }

    /// All that was found, to wait for what comes next.
    #[cfg(feature = "raw-keys")]
    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Waits for a fetch that ends after the first `seen` ones, and says whether one did.
    ///
    /// It begins one itself where none is under way, at most once per cool-down.
    pub(crate) async fn fetched_since(&self, seen: u64) -> bool {
        let mut state = self.state.clone();
        if !self.ask(seen) && !state.borrow().fetching {
            return state.borrow().fetches != seen;
        }
        // an error says that the task is gone with its runtime
        state.wait_for(|state| state.fetches != seen).await.is_ok()
    }

    /// Whether a fetch was asked for, by this caller or by one that has seen no more than it.
    fn ask(&self, seen: u64) -> bool {
        let now = Instant::now();
        let is_asked = |ask: &Option<Ask>| ask.is_some_and(|ask| ask.seen == seen);
        let must_wait =
            |ask: &Option<Ask>| ask.is_some_and(|ask| now.duration_since(ask.at) < COOL_DOWN);
        let ask = *self.asks.borrow();
        if is_asked(&ask) || must_wait(&ask) {
            return is_asked(&ask);
        }
        self.asks.send_if_modified(|ask| {
            let first = !is_asked(ask) && !must_wait(ask) && self.fetches() == seen;
            if first {
                *ask = Some(Ask { at: now, seen });
            }
            first
        });
        is_asked(&self.asks.borrow())
    }

    async fn ready(&self, patience: Duration) -> Result<(), VerifyError> {
        let mut state = self.state.clone();
        let first = timeout(patience, state.wait_for(|state| state.held.is_some())).await;
        if matches!(first, Ok(Ok(_))) { Ok(()) } else { Err(VerifyError::KeysUnavailable) }
    }
}
