//! Any bytes as a request for a token: one line for `Authorization`, the rest as the form. Fed by the
//! fuzzers of `fuzz/`, and on a stable compiler by the test below.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a promise that does not hold ends the run"
)]

use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use crate::http::oauth::client_auth::{Way, take};
use crate::http::oauth::form::Form;
use crate::mint::ClientCredential;

/// Reads both, and holds what was read to what a strict client would have sent for the same.
pub fn check(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (header, body) = data.split_at(at);
    let body = body.get(1..).unwrap_or_default();
    check_form(body);
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_bytes(header).ok().filter(|value| !value.is_empty());
    headers.extend(value.map(|value| (AUTHORIZATION, value)));
    let Ok(mut form) = Form::parse(body) else { return };
    match take(&headers, &mut form) {
        Ok((client, way)) => {
            assert_eq!(way == Way::Body, headers.is_empty(), "one way, that of the key");
            check_client(&client);
        }
        Err(refused) => assert!(refused.into_response().status().is_client_error()),
    }
}

fn check_form(body: &[u8]) {
    let Ok(form) = Form::parse(body) else { return };
    let is_repeated = form.refuse_repeated().is_err();
    let parameters = form.into_parameters();
    assert!(parameters.len() <= 100 && parameters.iter().all(|(_, value)| !value.is_empty()));
    let single = || parameters.iter().map(|(name, _)| name).filter(|name| *name != "resource");
    let mut names: Vec<_> = single().collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(is_repeated, names.len() != single().count());
    let written = parameters.iter().map(|(name, value)| [escaped(name), escaped(value)].join("="));
    let written = written.collect::<Vec<_>>().join("&");
    assert_eq!(Form::parse(written.as_bytes()).unwrap().into_parameters(), parameters);
}

/// The same credential by Basic, form-encoded byte by byte, reads the same.
fn check_client(client: &ClientCredential) {
    assert!((1..=2).contains(&client.texts.len()));
    let id = client.client_id.as_deref().unwrap_or_default();
    let text = client.texts.first().unwrap();
    let both =
        format!("{}:{}", escaped(id), escaped(std::str::from_utf8(text.as_bytes()).unwrap()));
    let value = format!("Basic {}", STANDARD.encode(both));
    let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::try_from(value).unwrap())]);
    let (again, way) = take(&headers, &mut Form::parse(b"").unwrap()).unwrap();
    assert_eq!(way, Way::Basic);
    assert_eq!(again.client_id, client.client_id);
    assert_eq!(again.texts.first().unwrap().as_bytes(), text.as_bytes());
}

fn escaped(text: &str) -> String {
    let digit = |number: u8| char::from_digit(number.into(), 16);
    text.bytes()
        .flat_map(|byte| [Some('%'), digit(byte >> 4), digit(byte & 15)])
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn requests_hold_against_their_oracle() {
        crate::replay::replay("requests", 10_000, super::check);
    }
}
