//! `GET /oauth/revocations`: what was revoked, for verifiers that check tokens by themselves.
//!
//! Public and signed. A verifier asks with `?since=` and `?wait=` and is answered when something
//! changes, or unchanged when its time is over. Who waits is woken over a fifth of a second, so that
//! ten thousand do not ask anew at the same moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header::{AGE, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, ETAG};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::http::App;
use crate::http::health::is_behind;
use crate::http::listener::{Limits, Patience};
use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::Form;
use crate::http::oauth::metadata::known_tags;
use crate::mint::{HeardFeed, SignedFeed};

/// The longest wait.
const MAX_WAIT_SECONDS: u64 = 60;
/// How often a wait looks whether this node still hears of its database: one that is cut off knows less than others,
/// and who waits there is sent off to ask another one.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The time over which those who wait are woken, in milliseconds.
const WAKING_MS: u64 = 200;

/// Those who wait for the feed to move.
#[derive(Debug)]
pub(in crate::http) struct Waiters {
    places: Semaphore,
    woken: AtomicU64,
}

impl Waiters {
    /// Three of four connections may wait, so that there is always a place for who wants a token. Who
    /// comes too late is answered at once, and asks again soon.
    pub(in crate::http) fn of(limits: Limits) -> Self {
        let places = limits.max_connections as usize * 3 / 4;
        Self { places: Semaphore::new(places.max(1)), woken: AtomicU64::new(0) }
    }
}

/// What a verifier asks.
struct FeedQuery {
    heard: HeardFeed,
    /// Whether it has heard anything, so that "nothing new" is an answer.
    has_heard: bool,
    wait: Duration,
}

pub(in crate::http) async fn show(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Response<Body> {
    let (mut head, _) = request.into_parts();
    let asked = match FeedQuery::read(&head, &app.mint.feed().etag()) {
        Ok(asked) => asked,
        Err(refused) => return refused.into_response(),
    };
    let patience = head.extensions.remove::<Patience>();
    // a head holds on to the buffer that it was read into, and there are ten thousand who wait
    drop(head);
    if !asked.wait.is_zero() && asked.has_heard {
        wait(&app, &asked, patience).await;
    }
    answer(&app, &asked)
}

impl FeedQuery {
    fn read(head: &Parts, current: &str) -> Result<Self, OAuthError> {
        let query = head.uri.query().unwrap_or_default();
        let mut query = Form::parse(query.as_bytes()).map_err(OAuthError::invalid_request)?;
        query.refuse_repeated().map_err(OAuthError::invalid_request)?;
        let mut number = |name, wrong| {
            let text = query.take(name);
            let number = text.map(|text| text.parse::<u64>()).transpose();
            number.map_err(|_| OAuthError::invalid_request(wrong))
        };
        let since = number("since", "since is the revision of a feed")?;
        let wait = number("wait", "wait is a number of seconds")?.unwrap_or(0);
        let has_any = known_tags(&head.headers).any(|tag| tag == "*");
        let (epoch, revision) = known(&head.headers, current).filter(|_| !has_any).unzip();
        // who has whatever there is hears nothing
        let revision = if has_any { Some(u64::MAX) } else { since.or(revision) };
        Ok(Self {
            has_heard: revision.is_some(),
            heard: HeardFeed { epoch, revision: revision.unwrap_or(0) },
            wait: Duration::from_secs(wait.min(MAX_WAIT_SECONDS)),
        })
    }
}

/// The epoch and revision of an `ETag` that a feed had: of several the one that knows most of the feed
/// with this tag.
fn known(headers: &HeaderMap, current: &str) -> Option<(String, u64)> {
    let epoch = parts(current).map(|(epoch, _)| epoch);
    let known = known_tags(headers).filter_map(parts);
    let most = known.max_by_key(|(of, revision)| (Some(*of) == epoch, *revision));
    most.map(|(epoch, revision)| (epoch.to_owned(), revision))
}

fn parts(etag: &str) -> Option<(&str, u64)> {
    let (epoch, revision) = etag.strip_prefix('"')?.strip_suffix('"')?.rsplit_once('.')?;
    Some((epoch, revision.parse().ok()?))
}

/// Until there is something new, the time is over, or the node stops.
async fn wait(app: &App, asked: &FeedQuery, patience: Option<Patience>) {
    let Ok(_place) = app.waiters.places.try_acquire() else { return };
    patience.iter().for_each(Patience::wait);
    let mut revisions = app.mint.feed().watch();
    let news = async {
        while !app.mint.feed().is_ahead_of(&asked.heard) {
            if revisions.changed().await.is_err() {
                return;
            }
        }
        let turn = app.waiters.woken.fetch_add(1, Ordering::Relaxed) % WAKING_MS;
        sleep(Duration::from_millis(turn)).await;
    };
    let stops = async {
        match patience {
            Some(mut patience) => patience.stopped().await,
            None => std::future::pending().await,
        }
    };
    let falls_behind = async {
        // not at once: while no node has its database, who asks is not to ask again and again
        sleep(LOOK_EVERY).await;
        while !is_behind(app, app.clock.now()) {
            sleep(LOOK_EVERY).await;
        }
    };
    let _ = timeout(asked.wait, async {
        tokio::select! {
            () = news => {}
            () = stops => {}
            () = falls_behind => {}
        }
    })
    .await;
}

fn answer(app: &App, asked: &FeedQuery) -> Response<Body> {
    let now = app.clock.now();
    let Some(age) = app.mint.index().age(now) else {
        return OAuthError::unavailable().into_response();
    };
    let feed = app.mint.feed();
    let mut response = if asked.has_heard && !feed.is_ahead_of(&asked.heard) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        tag(response.headers_mut(), &feed.etag());
        response
    } else {
        let Some(SignedFeed { text, etag }) = app.mint.signed_feed(&asked.heard, now) else {
            return OAuthError::unavailable().into_response();
        };
        let mut response = Response::new(Body::from(text));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwt"));
        tag(headers, &etag);
        response
    };
    let headers = response.headers_mut();
    // who has a copy asks whether it still holds, and a cache between holds nobody up
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(AGE, age.as_secs().into());
    if is_behind(app, now) {
        // behind a load balancer, the next connection comes to another node
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn tag(headers: &mut HeaderMap, etag: &str) {
    headers.extend(HeaderValue::from_str(etag).map(|etag| (ETAG, etag)));
}
