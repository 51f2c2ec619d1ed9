//! Client authentication: exactly one API key, by exactly one way (RFC 6749, section 2.3).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use crate::http::oauth::error::OAuthError;
use crate::http::oauth::form::{FormIn, decode};
use crate::mint::ClientCredential;
use crate::model::secret::PlainSecret;

/// How the key was sent: it decides what the answer to a wrong one looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// `Authorization: Basic`, or nothing at all, which is answered as if.
    Basic,
    /// `Authorization: Bearer`.
    Bearer,
    /// In the body.
    Body,
}

/// Takes the one credential of a request.
///
/// # Errors
/// Two credentials or two ids; a header that cannot be read; none at all.
pub(super) fn take(
    headers: &HeaderMap,
    form: &mut FormIn<'_>,
) -> Result<(ClientCredential, Way), OAuthError> {
    let body_id = form.take("client_id");
    let body_secret = form.take("client_secret").map(PlainSecret::new);
    let mut authorizations = headers.get_all(AUTHORIZATION).iter();
    match (authorizations.next(), authorizations.next(), body_secret) {
        (Some(_), Some(_), _) => {
            Err(OAuthError::invalid_request("send one Authorization header, not several"))
        }
        (Some(_), None, Some(_)) => Err(OAuthError::invalid_request(
            "send the API key in the Authorization header or in the body, not in both",
        )),
        (Some(value), None, None) => {
            let (mut client, way) = value
                .to_str()
                .map_err(|_| OAuthError::unreadable_authorization(value))
                .and_then(read_authorization)?;
            merge_body_id(&mut client, body_id)?;
            Ok((client, way))
        }
        (None, _, Some(secret)) => {
            let client_id = body_id
                .ok_or(OAuthError::invalid_request("client_secret needs client_id beside it"))?;
            let client = ClientCredential { client_id: Some(client_id), texts: vec![secret] };
            Ok((client, Way::Body))
        }
        (None, _, None) => Err(OAuthError::no_credential()),
    }
}

/// An id in the body beside the header is fine if it is the same.
fn merge_body_id(client: &mut ClientCredential, body_id: Option<String>) -> Result<(), OAuthError> {
    match (&client.client_id, body_id) {
        (Some(id), Some(body_id)) if *id != body_id => Err(OAuthError::invalid_request(
            "the client_id of the body is not the one of the Authorization header",
        )),
        (None, Some(body_id)) => {
            client.client_id = Some(body_id);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn read_authorization(value: &str) -> Result<(ClientCredential, Way), OAuthError> {
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    let rest = rest.trim_start_matches(' ');
    if scheme.eq_ignore_ascii_case("basic") {
        let client = read_basic(rest).ok_or(OAuthError::invalid_client(Way::Basic))?;
        return Ok((client, Way::Basic));
    }
    if scheme.eq_ignore_ascii_case("bearer") {
        if rest.is_empty() {
            return Err(OAuthError::invalid_client(Way::Bearer));
        }
        let text = PlainSecret::new(rest.to_owned());
        return Ok((ClientCredential::bare(text), Way::Bearer));
    }
    Err(OAuthError::invalid_client(Way::Basic))
}

/// The credential of an `Authorization` header, and whether it came by Bearer.
pub(in crate::http) fn read_authorization_of(value: &str) -> Option<(ClientCredential, bool)> {
    let (client, way) = read_authorization(value).ok()?;
    Some((client, way == Way::Bearer))
}

/// Both halves are form-encoded (RFC 6749, section 2.3.1). Many clients send them as they are, so
/// a key that reads differently decoded is tried both ways.
fn read_basic(encoded: &str) -> Option<ClientCredential> {
    let mut decoded = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let (id, text) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    let (behind_id, id) =
        (id.len() + 1, decode(id).map_or_else(|_| id.to_owned(), Cow::into_owned));
    let read = match decode(text) {
        Ok(Cow::Owned(read)) => Some(PlainSecret::new(read)),
        Ok(Cow::Borrowed(_)) | Err(_) => None,
    };
    // where it was decoded it stays: it is overwritten with the rest of its bytes
    decoded.drain(..behind_id);
    let as_it_stands = PlainSecret::new(String::from_utf8(std::mem::take(&mut *decoded)).ok()?);
    let texts = read.into_iter().chain([as_it_stands]).collect();
    Some(ClientCredential { client_id: Some(id).filter(|id| !id.is_empty()), texts })
}
