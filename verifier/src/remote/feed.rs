//! Hearing what was revoked: a long poll of the issuer's feed, in a task of its own.
//!
//! The issuer answers when something changes, so that a revocation is heard within a moment, and at
//! least twice a minute, or more often where silence is bounded, so that it is noticed. A feed counts
//! if a key of the issuer signed it.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AGE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::error::{BuildError, InvalidToken, VerifyError};
use crate::observe::{self, IssuerDocument};
use crate::remote::RemoteKeys;
use crate::remote::fetch::{chain, connector};
use crate::remote::refresh::jittered;
use crate::revocations::{RevocationFeed, Revocations};
use crate::rules::{Held, MAX_FEED_BYTES, Rules};
use crate::verify::VerifierBuilder;

/// How long the issuer may hold a request until something changes: at most, and where silence is bounded
/// a third of the bound, at least a second.
const WAIT: Duration = Duration::from_secs(30);
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// A question that is under way is no silence before this: its second, another one until the next
/// question, the age of the answer in whole seconds, and two for the way.
const GRAIN: Duration = Duration::from_secs(5);
/// How much longer an answer may take than that.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first retry after a failure; each one after it takes twice as long, up to the last. Shorter
/// than for keys: a revocation has to be heard within two seconds.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);
/// From one request to the next at least.
const BETWEEN: Duration = Duration::from_millis(100);
/// The same, where nothing had changed.
const BETWEEN_UNCHANGED: Duration = Duration::from_secs(1);

/// What the API wants of the feed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FeedPolicy {
    /// How long to go on without hearing it; nothing for as long as the keys serve.
    serve_unheard: Option<Duration>,
    is_left_out: bool,
}

impl FeedPolicy {
    /// How long the issuer may hold a request, in whole seconds.
    fn wait(self) -> Duration {
        let third = self.serve_unheard.map_or(WAIT, |bound| bound / 3);
        Duration::from_secs(third.clamp(SHORTEST_WAIT, WAIT).as_secs())
    }

    /// Whether what was heard is older than the API goes on with.
    fn is_silence(self, heard: &Heard) -> bool {
        let Some(bound) = self.serve_unheard else { return false };
        let Some(age) = heard.at.map(|at| at.elapsed()) else { return true };
        age > bound && (heard.error.is_some() || age > GRAIN)
    }
}

impl VerifierBuilder {
    /// How long tokens are accepted while what the issuer revokes cannot be heard; then every token
    /// is refused with [`VerifyError::RevocationsUnavailable`]. As long as the keys serve unless said,
    /// since a revoked token dies by itself within its lifetime.
    ///
    /// The time counts from the issuer's own last look at its database. An issuer without a feed is
    /// never heard, so that with this bound its tokens are refused.
    ///
    /// The issuer is asked as often as the bound needs: every 30 s, or thrice within a shorter bound, but
    /// not more often than once a second. So below five seconds the bound holds from the moment at which
    /// a question has failed, zero included; an issuer that neither answers nor refuses is given five
    /// seconds.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tenmint_verifier::Verifier;
    /// let strict = Verifier::builder("https://auth.example.com")
    ///     .serve_unheard(Duration::from_secs(60));
    /// ```
    #[must_use]
    pub fn serve_unheard(mut self, bound: Duration) -> Self {
        self.feed.serve_unheard = Some(bound);
        self
    }

    /// Does not follow the revocation feed: a revoked token is accepted until it expires.
    ///
    /// ```
    /// # use tenmint_verifier::Verifier;
    /// let builder = Verifier::builder("https://auth.example.com").without_revocations();
    /// ```
    #[must_use]
    pub fn without_revocations(mut self) -> Self {
        self.feed.is_left_out = true;
        self
    }
}

/// The reading side.
#[derive(Debug)]
pub(super) struct FeedReader {
    policy: FeedPolicy,
    state: watch::Receiver<Heard>,
    task: Option<AbortHandle>,
}

impl Drop for FeedReader {
    fn drop(&mut self) {
        // it may be in the middle of a long wait
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What the task has heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) revocations: Arc<Revocations>,
    /// The moment that what was heard is of.
    at: Option<Instant>,
    /// Whether the issuer was found to have no feed.
    is_missing: bool,
    error: Option<String>,
}

pub(super) struct FeedStatus {
    pub(super) age: Option<Duration>,
    pub(super) error: Option<String>,
    pub(super) revocations: usize,
}

impl FeedReader {
    pub(super) fn start(
        rules: Rules,
        keys: &Arc<RemoteKeys>,
        policy: FeedPolicy,
    ) -> Result<Self, BuildError> {
        let (heard, state) = watch::channel(Heard::default());
        if policy.is_left_out {
            heard.send_modify(|state| state.is_missing = true);
            return Ok(Self { policy, state, task: None });
        }
        let http = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(1)
            .build(connector(&rules.issuer)?);
        let keys = Arc::downgrade(keys);
        let (wait, asked_at) = (policy.wait(), Instant::now());
        let (etag, made) = (None, None);
        let listener = Listener { rules, keys, http, wait, etag, made, asked_at, heard };
        let task = tokio::spawn(listener.run()).abort_handle();
        Ok(Self { policy, state, task: Some(task) })
    }

    pub(super) fn held(&self) -> Result<Arc<Revocations>, VerifyError> {
        let state = self.state.borrow();
        if self.policy.is_silence(&state) {
            return Err(VerifyError::RevocationsUnavailable);
        }
        Ok(Arc::clone(&state.revocations))
    }

    pub(super) async fn ready(&self, patience: Duration) -> Result<(), VerifyError> {
        let mut state = self.state.clone();
        let heard = state.wait_for(|state| state.at.is_some() || state.is_missing);
        match timeout(patience, heard).await {
            Ok(Ok(_)) => Ok(()),
            // the task of one that is left out is gone, and has said so
            _ if self.policy.is_left_out => Ok(()),
            _ => Err(VerifyError::RevocationsUnavailable),
        }
    }

    /// What was heard, to wait for what is heard next. The channel closes where the feed is left out.
    #[cfg(feature = "raw-keys")]
    pub(super) fn heard(&self) -> watch::Receiver<Heard> {
        self.state.clone()
    }

    pub(super) fn status(&self) -> FeedStatus {
        let state = self.state.borrow();
        FeedStatus {
            age: state.at.map(|at| at.elapsed()),
            error: state.error.clone(),
            revocations: state.revocations.len(),
        }
    }
}

/// The task that hears, and the only one to write the state.
struct Listener {
    rules: Rules,
    /// Weak, because the task must not outlive the last verifier.
    keys: Weak<RemoteKeys>,
    http: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    /// How long the issuer may hold a request.
    wait: Duration,
    /// Of the last answer: it names the epoch too.
    etag: Option<HeaderValue>,
    /// When the issuer made the last feed, in its seconds since 1970, and when that was here.
    made: Option<(u64, Instant)>,
    asked_at: Instant,
    heard: watch::Sender<Heard>,
}

/// Why nothing was heard, for the log of the API.
#[derive(Debug)]
struct Unheard(String);

impl fmt::Display for Unheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Unheard {
    fn of(error: &(dyn Error + 'static)) -> Self {
        Self(chain(error))
    }
}

/// What the issuer answered.
struct Answer {
    /// Nothing where nothing has changed.
    text: Option<String>,
    etag: Option<HeaderValue>,
    age: Duration,
}

impl Listener {
    /// Runs until it is aborted, or its runtime ends.
    async fn run(mut self) {
        let mut failures = 0;
        while let Some(uri) = self.find_feed().await {
            // an issuer that answers at once, whatever it is asked, is not asked for ever
            sleep_until(self.asked_at + BETWEEN).await;
            self.asked_at = Instant::now();
            let heard = self.hear(&uri).await;
            observe::asked(IssuerDocument::Revocations, heard.as_ref().err());
            match heard {
                Ok(is_new) => {
                    failures = 0;
                    if !is_new {
                        // an issuer with too many who wait answers at once: seldom enough then
                        sleep_until(self.asked_at + BETWEEN_UNCHANGED).await;
                    }
                }
                Err(unheard) => {
                    // what was missed may be anything: the next answer has to say all
                    self.etag = None;
                    self.heard.send_modify(|state| state.error = Some(unheard.to_string()));
                    let doubled = FIRST_RETRY.saturating_mul(1 << failures.min(8_u32));
                    failures += 1;
                    sleep(jittered(doubled.min(LAST_RETRY))).await;
                }
            }
        }
    }

    /// Where the feed is, once the metadata of the issuer was read. An issuer that has none may
    /// have one after its next upgrade.
    async fn find_feed(&self) -> Option<String> {
        let mut state = self.keys.upgrade()?.state.clone();
        loop {
            let (is_known, uri) = {
                let state = state.borrow_and_update();
                let found = state.endpoints.as_ref();
                (state.held.is_some(), found.and_then(|found| found.feed.clone()))
            };
            if let Some(uri) = uri {
                return Some(uri);
            }
            if is_known {
                self.heard.send_modify(|state| state.is_missing = true);
            }
            state.changed().await.ok()?;
        }
    }

    /// Asks once, and takes what is said. Says whether that was anything.
    async fn hear(&mut self, uri: &str) -> Result<bool, Unheard> {
        let held = Arc::clone(&self.heard.borrow().revocations);
        let uri = match &self.etag {
            Some(_) => format!("{uri}?since={}&wait={}", held.revision(), self.wait.as_secs()),
            None => uri.to_owned(),
        };
        let answer = self.ask(&uri).await?;
        let mut held = (*held).clone();
        if let Some(text) = &answer.text {
            let feed = self.read(text).await?;
            held.apply(&feed).map_err(|gap| Unheard::of(&gap))?;
            self.made = Some((feed.iat, Instant::now()));
        }
        held.forget(self.now().saturating_sub(self.rules.leeway));
        self.etag = answer.etag;
        let at = Instant::now().checked_sub(answer.age);
        self.heard.send_modify(|state| {
            if answer.text.is_some() || state.revocations.len() != held.len() {
                state.revocations = Arc::new(held);
            }
            // an answer of a node that is cut off must not make what is held look older
            state.at = state.at.max(at);
            state.error = None;
            state.is_missing = false;
        });
        Ok(answer.text.is_some())
    }

    /// The time by which entries are forgotten, in seconds since 1970: not before the issuer's, as far as
    /// it was heard. The issuer says an entry once, so that a clock that leaps ahead and comes back must
    /// not lose it.
    fn now(&self) -> u64 {
        let here = self.rules.clock.now();
        let at_issuer =
            |(iat, heard): (u64, Instant)| iat.saturating_add(heard.elapsed().as_secs());
        self.made.map_or(here, |made| here.min(at_issuer(made)))
    }

    /// The feed in a text. A key that is not held is fetched first.
    async fn read(&self, text: &str) -> Result<RevocationFeed, Unheard> {
        let keys = self.keys.upgrade().ok_or_else(|| Unheard("the verifier is gone".to_owned()))?;
        let held = Arc::clone(&self.heard.borrow().revocations);
        let read = || {
            let keys = keys.held().map_err(|error| Unheard::of(&error))?;
            let held = Held { keys: &keys, revocations: Some(&held) };
            Ok(self.rules.read_feed(text, held))
        };
        let seen = keys.fetches();
        match read()? {
            Err(InvalidToken::UnknownKey) if keys.fetched_since(seen).await => read()?,
            read => read,
        }
        .map_err(|error| Unheard(format!("the feed is refused: {error}")))
    }

    async fn ask(&self, uri: &str) -> Result<Answer, Unheard> {
        let patience = self.wait + PATIENCE;
        match timeout(patience, self.exchange(uri)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Unheard(format!("{uri}: {}", chain(&*error)))),
            Err(_) => Err(Unheard(format!("{uri}: no answer within {patience:?}"))),
        }
    }

    async fn exchange(&self, uri: &str) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let mut request = Request::get(uri);
        if let Some(etag) = &self.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let (parts, body) = self.http.request(request.body(Empty::new())?).await?.into_parts();
        let text = match parts.status {
            StatusCode::NOT_MODIFIED if self.etag.is_some() => None,
            StatusCode::OK => {
                let body = Limited::new(body, MAX_FEED_BYTES).collect().await?.to_bytes();
                Some(String::from_utf8(body.into())?)
            }
            // a redirect is no answer
            status => return Err(format!("answered {}", status.as_u16()).into()),
        };
        let etag = parts.headers.get(ETAG).cloned().or_else(|| self.etag.clone());
        Ok(Answer { text, etag, age: age_of(&parts.headers) })
    }
}

/// How long ago the issuer looked at its database: RFC 9111, section 5.1.
fn age_of(headers: &HeaderMap) -> Duration {
    let age = headers.get(AGE).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Duration::from_secs(age.unwrap_or(0))
}
