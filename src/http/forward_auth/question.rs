//! What a gateway tells of the request that it holds: method, path, address, credential. Told twice
//! and differently, it is not told at all: one of the two may be the end caller's.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{AUTHORIZATION, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use tenmint_verifier::VerifyError;
use tenmint_verifier::axum::bearer_token;

use crate::http::client_ip::last_hop;
use crate::http::forward_auth::PATH;
use crate::http::forward_auth::answer::Reason;
use crate::http::oauth::client_auth::read_authorization_of;
use crate::http::oauth::form::Form;
use crate::mint::{ClientCredential, Presented};
use crate::model::gateway_policy::is_method;
use crate::model::secret::PlainSecret;

/// What nginx is configured to send, and what Traefik sends.
const URIS: [HeaderName; 2] =
    [HeaderName::from_static("x-original-uri"), HeaderName::from_static("x-forwarded-uri")];
const METHODS: [HeaderName; 2] =
    [HeaderName::from_static("x-original-method"), HeaderName::from_static("x-forwarded-method")];
/// The one header that an address is read from: its last hop.
const ADDRESS: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Under which policy a gateway asks, and the request where the gateway keeps it as it is.
#[derive(Debug)]
pub(super) struct GatewayQuestion<'h> {
    /// The slug of the organization; empty where the key of the gateway tells it.
    pub(super) org: Cow<'h, str>,
    pub(super) policy: Cow<'h, str>,
    /// The method and the rest of the target, behind the policy in the path.
    kept: Option<(&'h str, &'h str)>,
}

/// The request that a gateway holds.
#[derive(Debug)]
pub(super) struct ForwardedRequest<'h> {
    pub(super) method: &'h str,
    /// The path as it was sent, with what follows it.
    pub(super) target: &'h str,
    pub(super) address: Option<IpAddr>,
}

impl<'h> GatewayQuestion<'h> {
    /// `?policy=NAME`, with `&org=SLUG` on a private listener; or `/NAME/original/path`, with
    /// `/SLUG` before it there.
    pub(super) fn read(head: &'h Parts, is_private: bool) -> Result<Self, Reason> {
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        let behind = target.strip_prefix(PATH).unwrap_or_default();
        let behind =
            behind.strip_prefix('/').filter(|rest| !matches!(rest.get(..1), None | Some("?")));
        match behind {
            None => Self::of_query(head.uri.query().unwrap_or_default(), is_private),
            Some(behind) => Self::of_path(behind, head.method.as_str(), is_private),
        }
    }

    /// The query is the gateway's.
    fn of_query(query: &str, is_private: bool) -> Result<Self, Reason> {
        let unknown = |_| Reason::UnknownPolicy;
        let mut form = Form::parse(query.as_bytes()).map_err(unknown)?;
        form.refuse_repeated().map_err(unknown)?;
        let policy = form.take("policy").ok_or(Reason::UnknownPolicy)?.into();
        let org = form.take("org").filter(|_| is_private).unwrap_or_default().into();
        Ok(Self { org, policy, kept: None })
    }

    /// The query is the end caller's, and says nothing here.
    fn of_path(behind: &'h str, method: &'h str, is_private: bool) -> Result<Self, Reason> {
        let (org, behind) = match (is_private, first_segment(behind)) {
            (false, _) => ("", behind),
            (true, (org, rest)) => (org, rest.strip_prefix('/').ok_or(Reason::UnknownPolicy)?),
        };
        let (policy, target) = first_segment(behind);
        let kept = target.starts_with('/').then_some((method, target));
        Ok(Self { org: org.into(), policy: policy.into(), kept })
    }

    /// The request, out of all that tells of it.
    pub(super) fn told(&self, headers: &'h HeaderMap) -> Result<ForwardedRequest<'h>, Reason> {
        let kept = |part: fn((&'h str, &'h str)) -> &'h str| self.kept.map(part).map(str::as_bytes);
        let method = the_one(kept(|(method, _)| method), headers, &METHODS)?;
        let target = the_one(kept(|(_, target)| target), headers, &URIS)?;
        let method = std::str::from_utf8(method).ok().filter(|method| is_method(method));
        Ok(ForwardedRequest {
            method: method.ok_or(Reason::RequestNotTold)?,
            target: std::str::from_utf8(target).map_err(|_| Reason::PathNotCanonical)?,
            address: address(headers)?,
        })
    }
}

/// What stands before the first `/` or `?`, and the rest.
fn first_segment(target: &str) -> (&str, &str) {
    target.split_at(target.find(['/', '?']).unwrap_or(target.len()))
}

/// What is told in one place at least, and in all the same.
fn the_one<'h>(
    kept: Option<&'h [u8]>,
    headers: &'h HeaderMap,
    names: &[HeaderName],
) -> Result<&'h [u8], Reason> {
    let mut told = kept;
    for name in names {
        let line = the_only(headers, name)?;
        if told.is_some() && line.is_some() && told != line {
            return Err(Reason::RequestNotTold);
        }
        told = told.or(line);
    }
    told.ok_or(Reason::RequestNotTold)
}

/// The value of a header that may come once.
fn the_only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h [u8]>, Reason> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (line, None) => Ok(line.map(HeaderValue::as_bytes)),
        (_, Some(_)) => Err(Reason::RequestNotTold),
    }
}

/// The address of the end caller: what the gateway itself wrote, behind all that others did. A hop
/// that is no address is one that no address rule admits.
fn address(headers: &HeaderMap) -> Result<Option<IpAddr>, Reason> {
    Ok(the_only(headers, &ADDRESS)?.and_then(last_hop))
}

/// The one credential of the end caller: a token or an API key by Bearer, or an API key by Basic.
///
/// # Errors
/// Like [`bearer_token`].
pub(super) fn presented(headers: &HeaderMap) -> Result<Presented, VerifyError> {
    match bearer_token(headers) {
        Ok(text) => {
            let client = ClientCredential::bare(PlainSecret::new(text.to_owned()));
            Ok(Presented::of(client, true))
        }
        Err(VerifyError::NoToken) => basic(headers).ok_or(VerifyError::NoToken),
        Err(wrong) => Err(wrong),
    }
}

fn basic(headers: &HeaderMap) -> Option<Presented> {
    let line = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (client, is_bearer) = read_authorization_of(line)?;
    Some(Presented::of(client, is_bearer)).filter(|_| !is_bearer)
}
