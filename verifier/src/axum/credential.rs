//! What a caller sends: one token, or where the API takes them one raw API key.

use std::net::IpAddr;

use http::HeaderMap;

use crate::axum::bearer_token;
use crate::error::VerifyError;
use crate::token::Token;
use crate::verify::Verifier;

/// Verifies the one credential of a request.
#[cfg(not(feature = "raw-keys"))]
pub(super) async fn verify(
    verifier: &Verifier,
    headers: &HeaderMap,
    _caller: Option<IpAddr>,
) -> Result<Token, VerifyError> {
    verifier.verify(bearer_token(headers)?).await
}

/// Verifies the one credential of a request.
#[cfg(feature = "raw-keys")]
pub(super) async fn verify(
    verifier: &Verifier,
    headers: &HeaderMap,
    caller: Option<IpAddr>,
) -> Result<Token, VerifyError> {
    let sources = verifier.raw_key_verifier().map(|raw_keys| &raw_keys.sources);
    match sources.map(|sources| raw_key(sources, headers)).transpose()?.flatten() {
        Some(text) => verifier.verify_raw_key(text, caller).await,
        None => match bearer_token(headers)? {
            text if verifier.takes_for_raw_key(text) => verifier.verify_raw_key(text, caller).await,
            text => verifier.verify(text).await,
        },
    }
}

/// The raw key that comes under a header or scheme of its own. Beside another credential it is
/// refused, whichever of the two is right: nobody has to guess who calls.
#[cfg(feature = "raw-keys")]
fn raw_key<'r>(
    sources: &crate::raw_keys::Sources,
    headers: &'r HeaderMap,
) -> Result<Option<&'r str>, VerifyError> {
    let own = sources.headers.iter().flat_map(|name| headers.get_all(&**name));
    let mut found = own.map(|value| value.to_str()).chain(by_scheme(sources, headers).map(Ok));
    let Some(first) = found.next() else { return Ok(None) };
    let is_alone = found.next().is_none();
    let has_token = !matches!(bearer_token(headers), Err(VerifyError::NoToken));
    match first {
        Ok(text) if is_alone && !has_token => Ok(Some(text.trim_matches(' '))),
        _ => Err(VerifyError::InvalidRequest),
    }
}

#[cfg(feature = "raw-keys")]
fn by_scheme<'r>(
    sources: &crate::raw_keys::Sources,
    headers: &'r HeaderMap,
) -> impl Iterator<Item = &'r str> {
    let lines = headers.get_all(http::header::AUTHORIZATION).iter();
    lines.filter_map(|line| {
        let (scheme, text) = line.to_str().ok()?.split_once(' ')?;
        let is_taken = sources.schemes.iter().any(|taken| taken.eq_ignore_ascii_case(scheme));
        is_taken.then_some(text)
    })
}

/// Counts a call, where the API reports them.
#[cfg(not(feature = "raw-keys"))]
pub(super) fn count_use(_: &Verifier, _: &Token, _: &HeaderMap, _: Option<IpAddr>) {}

/// Counts a call, where the API reports them.
#[cfg(feature = "raw-keys")]
pub(super) fn count_use(
    verifier: &Verifier,
    token: &Token,
    headers: &HeaderMap,
    caller: Option<IpAddr>,
) {
    if verifier.counts_uses() {
        verifier.count_use(token, caller, user_agent(verifier, headers));
    }
}

/// What the client calls itself, unless its credential is in it.
#[cfg(feature = "raw-keys")]
fn user_agent<'r>(verifier: &Verifier, headers: &'r HeaderMap) -> Option<&'r str> {
    let text = headers.get(http::header::USER_AGENT)?.to_str().ok()?;
    let sources = verifier.raw_key_verifier().map(|raw_keys| &raw_keys.sources)?;
    let own = sources.headers.iter().flat_map(|name| headers.get_all(&**name));
    let all = own.chain(headers.get_all(http::header::AUTHORIZATION));
    let credentials = all.filter_map(|value| value.to_str().ok()?.split_ascii_whitespace().last());
    let shows_one = credentials.into_iter().any(|credential| text.contains(credential));
    (!shows_one).then_some(text)
}
