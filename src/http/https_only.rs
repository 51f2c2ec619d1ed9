//! An installation whose issuer is `https` takes no plain HTTP from other machines: a key that came
//! in the clear was read by whoever wanted to.
//!
//! Where a listener is plain, a trusted proxy in front of it ends TLS and says so, in the company of
//! the one header that is believed. Asked once for each request, in memory, without allocating.

use std::net::IpAddr;

use axum::body::Body;
use http::header::{FORWARDED, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response};

use crate::http::client_ip::{Peer, TrustedProxies};
use crate::http::forwarded::{address_of_element, parameter_of_element, rsplit_unquoted};
use crate::http::{error, forward_auth, oauth};
use crate::model::installation::Issuer;
use crate::model::ip_range::canonical;

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const PLAIN: &str = "this server is for https alone, and the request came over plain http: take \
                     the address of the issuer, or name the proxy in front of the server in \
                     trusted_proxies";
const NOT_FORWARDED: &str = "this server is for https alone, and the proxy in front of it does not \
                             say that the request came over https: ask it over https, and let it \
                             set X-Forwarded-Proto or, where forwarding_header is forwarded, proto";

/// The rule of a plain listener under an `https` issuer.
#[derive(Debug)]
pub(super) struct HttpsOnly {
    trusted_proxies: TrustedProxies,
}

impl HttpsOnly {
    /// The rule, where the issuer asks for it.
    pub(super) fn of(issuer: &Issuer, trusted_proxies: &TrustedProxies) -> Option<Self> {
        let is_https = issuer.as_str().starts_with("https://");
        is_https.then(|| Self { trusted_proxies: trusted_proxies.clone() })
    }

    /// The answer to a request that came over plain HTTP.
    pub(super) fn refusal<B>(&self, peer: Peer, request: &Request<B>) -> Option<Response<Body>> {
        let path = request.uri().path();
        // who looks after the machine asks it itself
        if matches!(path, "/healthz" | "/readyz") {
            return None;
        }
        let trouble = self.trouble(canonical(peer.0.ip()), path, request.headers())?;
        Some(if path.starts_with("/oauth/") {
            oauth::error::https_required(trouble)
        } else {
            error::https_required(trouble)
        })
    }

    fn trouble(&self, peer: IpAddr, path: &str, headers: &HeaderMap) -> Option<&'static str> {
        if !(peer.is_loopback() || self.trusted_proxies.trusts(peer)) {
            return Some(PLAIN);
        }
        // the headers of a gateway tell of a request to somebody else
        if forward_auth::is_asked_at(path) {
            return None;
        }
        if !self.trusted_proxies.trusts(peer) {
            // what stays on this machine is plain to nobody, and a proxy here that nobody named may still say
            // that it brings what did not
            return says_plain(headers).then_some(PLAIN);
        }
        let is_direct = peer.is_loopback() && !self.is_forwarded(headers);
        (!is_direct && !self.came_over_https(headers)).then_some(NOT_FORWARDED)
    }

    fn is_forwarded(&self, headers: &HeaderMap) -> bool {
        let header = self.trusted_proxies.header();
        let has_scheme = header != FORWARDED && headers.contains_key(X_FORWARDED_PROTO);
        has_scheme || headers.contains_key(header)
    }

    /// Whether trusted proxies say so of the caller.
    fn came_over_https(&self, headers: &HeaderMap) -> bool {
        if self.trusted_proxies.header() == FORWARDED {
            return self.scheme_is_https(headers);
        }
        last_word(headers).is_some_and(is_https)
    }

    /// The same of `Forwarded`: what the element says that names the caller, which is the last from
    /// the right that a trusted proxy wrote.
    fn scheme_is_https(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(FORWARDED).iter().rev().map(HeaderValue::as_bytes);
        let mut is_https = false;
        for element in lines.flat_map(|line| rsplit_unquoted(line, b',')) {
            let scheme = parameter_of_element(element, "proto");
            is_https = scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
            let sender = address_of_element(element).map(canonical);
            if !sender.is_some_and(|sender| self.trusted_proxies.trusts(sender)) {
                break;
            }
        }
        is_https
    }
}

/// The last word of `X-Forwarded-Proto`: that of the proxy that asks.
fn last_word(headers: &HeaderMap) -> Option<&[u8]> {
    let line = headers.get_all(X_FORWARDED_PROTO).iter().next_back()?;
    line.as_bytes().rsplit(|byte| *byte == b',').next()
}

fn is_https(scheme: &[u8]) -> bool {
    scheme.trim_ascii().eq_ignore_ascii_case(b"https")
}

/// Whether a proxy says that it was asked over something else than https, by either header.
fn says_plain(headers: &HeaderMap) -> bool {
    let line = headers.get_all(FORWARDED).iter().next_back();
    let element = line.and_then(|line| rsplit_unquoted(line.as_bytes(), b',').next());
    let scheme = element.and_then(|element| parameter_of_element(element, "proto"));
    last_word(headers).is_some_and(|word| !is_https(word))
        || scheme.is_some_and(|scheme| !scheme.eq_ignore_ascii_case("https"))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use http_body_util::BodyExt;

    use super::*;

    const LOOPBACKS: [&str; 3] = ["127.0.0.1", "::1", "::ffff:127.0.0.1"];
    const STRANGER: &str = "192.0.2.9";
    const PROXY: &str = "10.0.0.1";

    fn rule(proxies: &[&str], header: &str) -> HttpsOnly {
        let proxies: Vec<String> = proxies.iter().map(|&proxy| proxy.to_owned()).collect();
        let proxies = match proxies.as_slice() {
            [] => TrustedProxies::default(),
            proxies => TrustedProxies::parse(proxies, header).unwrap(),
        };
        HttpsOnly::of(&"https://auth.example.com".parse().unwrap(), &proxies).unwrap()
    }

    fn refusal(rule: &HttpsOnly, peer: &str, path: &str, lines: &[&str]) -> Option<Response<Body>> {
        let peer = Peer(SocketAddr::new(peer.parse().unwrap(), 4711));
        let mut request = Request::get(path);
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        rule.refusal(peer, &request.body(()).unwrap())
    }

    fn passes(rule: &HttpsOnly, peer: &str, lines: &[&str]) -> bool {
        refusal(rule, peer, "/oauth/token", lines).is_none()
    }

    #[test]
    fn an_http_issuer_refuses_nobody() {
        let issuer = "http://auth.example.com".parse().unwrap();
        assert!(HttpsOnly::of(&issuer, &TrustedProxies::default()).is_none());
    }

    #[test]
    fn another_machine_is_refused_whatever_it_claims_and_this_one_is_not() {
        let claims = ["X-Forwarded-Proto: https", "Forwarded: for=192.0.2.1;proto=https"];
        for rule in [rule(&[], ""), rule(&[PROXY], "x-forwarded-for"), rule(&[PROXY], "forwarded")]
        {
            for lines in [&[][..], &claims, &claims[..1], &claims[1..]] {
                assert!(!passes(&rule, STRANGER, lines), "{rule:?} {lines:?}");
                for loopback in LOOPBACKS {
                    assert!(passes(&rule, loopback, lines), "{rule:?} {lines:?}");
                }
            }
            for path in ["/healthz", "/readyz"] {
                assert!(refusal(&rule, STRANGER, path, &[]).is_none());
            }
        }
    }

    #[test]
    fn a_proxy_has_to_say_that_the_request_came_over_https() {
        let rule = rule(&[PROXY], "x-forwarded-for");
        let of = "X-Forwarded-For: 192.0.2.9";
        for lines in [
            &["X-Forwarded-Proto: https"][..],
            &[of, "X-Forwarded-Proto: HTTPS"],
            // what stands before the word of the proxy is a claim
            &[of, "X-Forwarded-Proto: http, https"],
            &[of, "X-Forwarded-Proto: http", "X-Forwarded-Proto: https"],
        ] {
            assert!(passes(&rule, PROXY, lines), "{lines:?}");
        }
        for lines in [
            &[][..],
            &[of],
            &[of, "X-Forwarded-Proto: http"],
            &[of, "X-Forwarded-Proto: https, http"],
            &[of, "X-Forwarded-Proto: https", "X-Forwarded-Proto: http"],
            &[of, "X-Forwarded-Proto: https,"],
            &[of, "X-Forwarded-Proto: \"https\""],
            &[of, "X-Forwarded-Proto: httpss"],
            &[of, "X-Forwarded-Proto: \u{e9}"],
            &[of, "X_Forwarded_Proto: https", "X-Forwarded-Scheme: https", "X-Forwarded-Ssl: on"],
            // the header that is not the configured one
            &["Forwarded: for=192.0.2.9;proto=https"],
        ] {
            assert!(!passes(&rule, PROXY, lines), "{lines:?}");
        }
    }

    #[test]
    fn of_forwarded_the_element_that_names_the_caller_counts() {
        let rule = rule(&[PROXY, "10.0.0.2"], "forwarded");
        for line in [
            "for=192.0.2.9;proto=https",
            "proto=\"https\";FOR=\"[2001:db8::7]:80\"",
            "for=unknown;Proto=HTTPS",
            "for=192.0.2.1;proto=http, for=192.0.2.9;proto=https",
            "x=\", for=192.0.2.9;proto=https",
            // two proxies, the plain way between them
            "for=192.0.2.9;proto=https, for=10.0.0.2;proto=http",
        ] {
            assert!(passes(&rule, PROXY, &[&["Forwarded: ", line].concat()]), "{line}");
        }
        for line in [
            "for=192.0.2.9",
            "for=192.0.2.9;proto=http",
            "for=192.0.2.1;proto=https, for=192.0.2.9;proto=http",
            "for=192.0.2.1;proto=https, for=unknown;proto=http",
            "for=192.0.2.1;proto=https, nonsense",
            "for=192.0.2.1;proto=https,",
            "for=192.0.2.9;proto=https;proto=http",
            "for=192.0.2.9;proto=https;x",
            "for=192.0.2.9;proto=http, for=10.0.0.2;proto=https",
        ] {
            assert!(!passes(&rule, PROXY, &[&["Forwarded: ", line].concat()]), "{line}");
        }
        assert!(!passes(&rule, PROXY, &["X-Forwarded-Proto: https"]));
    }

    #[test]
    fn a_proxy_on_this_machine_is_told_from_whoever_asks_there_itself() {
        for (header, of, secure) in [
            ("x-forwarded-for", "X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: https"),
            ("forwarded", "Forwarded: for=192.0.2.9", "Forwarded: for=192.0.2.9;proto=https"),
        ] {
            for loopback in LOOPBACKS {
                let rule = rule(&["127.0.0.1", "::1"], header);
                assert!(passes(&rule, loopback, &[]));
                assert!(passes(&rule, loopback, &[secure]));
                assert!(!passes(&rule, loopback, &[of]));
            }
        }
        let rule = rule(&["127.0.0.1"], "x-forwarded-for");
        assert!(!passes(&rule, "127.0.0.1", &["X-Forwarded-Proto: http"]));
    }

    #[test]
    fn a_proxy_on_this_machine_that_nobody_named_is_refused_where_it_says_that_it_was_asked_in_the_clear()
     {
        for rule in [rule(&[], ""), rule(&[PROXY], "forwarded")] {
            for loopback in LOOPBACKS {
                for plain in [
                    "X-Forwarded-Proto: http",
                    "X-Forwarded-Proto: https, http",
                    "Forwarded: for=192.0.2.9;proto=http",
                ] {
                    assert!(!passes(&rule, loopback, &[plain]), "{plain}");
                    let claims = ["X-Forwarded-Proto: https", "Forwarded: proto=https", plain];
                    assert!(!passes(&rule, loopback, &claims), "{plain}");
                }
                assert!(passes(&rule, loopback, &["X-Forwarded-For: 192.0.2.9"]));
            }
        }
    }

    #[test]
    fn what_a_gateway_tells_is_of_another_request_and_no_other_machine_may_ask_in_the_clear() {
        let rule = rule(&[PROXY, "127.0.0.1"], "x-forwarded-for");
        let told = ["X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: http"];
        for path in ["/forward-auth", "/forward-auth?policy=a", "/forward-auth/a/b"] {
            for peer in [PROXY, "127.0.0.1"] {
                assert!(refusal(&rule, peer, path, &told).is_none(), "{path}");
            }
            assert!(refusal(&rule, STRANGER, path, &told).is_some(), "{path}");
        }
        assert!(refusal(&rule, PROXY, "/forward-authority", &told).is_some());
    }

    #[tokio::test]
    async fn a_refusal_is_in_the_form_of_where_it_is_given_and_says_what_to_do() {
        let rule = rule(&[PROXY], "x-forwarded-for");
        for (path, status, member, code) in [
            ("/oauth/token", 400, "error", "invalid_request"),
            ("/oauth/revocations", 400, "error", "invalid_request"),
            ("/v1/keys", 403, "code", "https_required"),
            ("/.well-known/jwks.json", 403, "code", "https_required"),
            ("/healthz/", 403, "code", "https_required"),
        ] {
            for (peer, fix) in [(STRANGER, "trusted_proxies"), (PROXY, "X-Forwarded-Proto")] {
                let refused = refusal(&rule, peer, path, &[]).unwrap();
                assert_eq!(refused.status(), status, "{path}");
                let body = refused.into_body().collect().await.unwrap().to_bytes();
                let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(body[member], code, "{path}");
                assert!(body.to_string().contains(fix), "{path}: {body}");
            }
        }
    }
}
